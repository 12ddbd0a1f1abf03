//! A share as bytes: what stands in the store at one key.
//!
//! ```text
//! offset 0   "nxlog" and the version, 1; two zeroes
//! offset 8   CRC-32C of everything behind it, little-endian
//! offset 12  in postcard: whose share it is, the boot that wrote it, the last number that was given when it was
//!            written, how many records made room, how many follow; then the records, oldest first
//! ```
//! The index tells which places have a segment: behind the same head, a bit for each place, in 16 bytes, little-endian. It is
//! written together with the first segment of a place.
//!
//! Whatever is not exactly this is refused whole, and a record in a share that it is not of makes all of it foreign.

use crate::shares::{PLACES_MAX, SHARE_RECORDS_MAX, Share};
use crate::text::is_field;
use crate::{FIELDS_BYTES_MAX, LEVEL_MAX, MESSAGE_BYTES_MAX, Owner, Record, SCOPE_BYTES_MAX};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// What every key begins with; the place follows in two digits.
pub const SEGMENT_PREFIX: &str = "/state/log/";
/// The key of the index.
pub const INDEX_KEY: &str = "/state/log/index";
/// Bytes of the index.
pub const INDEX_BYTES: usize = HEAD_BYTES + size_of::<u128>();
/// Bytes of a record in a segment beside its texts, at the most.
const RECORD_OVERHEAD: usize = 64;
/// Bytes of a segment.
pub const SEGMENT_BYTES_MAX: usize =
    64 + SHARE_RECORDS_MAX * (SCOPE_BYTES_MAX + MESSAGE_BYTES_MAX + FIELDS_BYTES_MAX + RECORD_OVERHEAD);

const MARK: [u8; 5] = *b"nxlog";
const VERSION: u8 = 1;
/// Bytes before what the checksum is of.
const HEAD_BYTES: usize = 12;
/// A bit for each place.
pub const ALL_PLACES: u128 = (1 << PLACES_MAX) - 1;
const CHECKSUM: crc::Crc<u32, crc::NoTable> = crc::Crc::<u32, crc::NoTable>::new(&crc::CRC_32_ISCSI);

/// Why bytes are no segment of this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentError {
    /// They do not begin as one.
    Foreign,
    /// They were written by a newer system.
    NewerVersion,
    /// They are damaged.
    Checksum,
    /// They are of no share and its records, or more than a share has.
    Malformed,
    /// The share is not of this place, or has records that are not its own.
    OtherShare,
}

impl fmt::Display for SegmentError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            SegmentError::Foreign => "it is no segment of the journal",
            SegmentError::NewerVersion => "it was written by a newer system",
            SegmentError::Checksum => "it is damaged",
            SegmentError::Malformed => "it holds no records",
            SegmentError::OtherShare => "it is of another place",
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    owner: Owner,
    boot: u64,
    end: u64,
    made_room: u64,
    records: u8,
}

/// A share that was in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Whose it is.
    pub owner: Owner,
    /// The number of the boot that wrote it.
    pub boot: u64,
    /// The last number that any record had been given by then.
    pub end: u64,
    /// Records of it that had made room by then.
    pub made_room: u64,
    /// Its records, oldest first.
    pub records: Vec<Record>,
}

/// The key of a place.
pub fn key(place: usize) -> String {
    format!("{SEGMENT_PREFIX}{place:02}")
}

/// The head, with room for the checksum.
const HEAD: [u8; HEAD_BYTES] = [MARK[0], MARK[1], MARK[2], MARK[3], MARK[4], VERSION, 0, 0, 0, 0, 0, 0];

/// The bytes, which begin with a head, with their checksum.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = CHECKSUM.checksum(bytes.get(HEAD_BYTES..).unwrap_or(&[]));
    if let Some(room) = bytes.get_mut(8..HEAD_BYTES) {
        room.copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

/// What stands behind the head of undamaged bytes.
fn opened(bytes: &[u8]) -> Result<&[u8], SegmentError> {
    let (head, body) = bytes.split_at_checked(HEAD_BYTES).ok_or(SegmentError::Foreign)?;
    match head {
        [mark @ .., version, 0, 0, _, _, _, _] if *mark == MARK => match *version {
            VERSION => {}
            0 => return Err(SegmentError::Foreign),
            _ => return Err(SegmentError::NewerVersion),
        },
        _ => return Err(SegmentError::Foreign),
    }
    match head.get(8..) == Some(&CHECKSUM.checksum(body).to_le_bytes()) {
        true => Ok(body),
        false => Err(SegmentError::Checksum),
    }
}

/// The index of these places as bytes.
pub(crate) fn encode_index(places: u128) -> Vec<u8> {
    sealed([&HEAD[..], &places.to_le_bytes()].concat())
}

/// The places that have a segment, a bit each, by the index.
pub fn decode_index(bytes: &[u8]) -> Result<u128, SegmentError> {
    let places = opened(bytes)?.try_into().map_err(|_| SegmentError::Malformed)?;
    let places = u128::from_le_bytes(places);
    if places & !ALL_PLACES == 0 { Ok(places) } else { Err(SegmentError::Malformed) }
}

/// A share as bytes, written in this boot after so many numbers were given.
pub(crate) fn encode(share: &Share, boot: u64, end: u64) -> Vec<u8> {
    let (owner, made_room, records) = (share.owner, share.made_room, share.records.len() as u8);
    let mut bytes = Vec::with_capacity(SEGMENT_BYTES_MAX);
    bytes.extend_from_slice(&HEAD);
    // Writing to memory cannot fail; should it, the checksum is of less than a segment, which is refused.
    let put = |bytes: Vec<u8>, record: &Record| postcard::to_extend(record, bytes).unwrap_or_default();
    bytes = postcard::to_extend(&Head { owner, boot, end, made_room, records }, bytes).unwrap_or_default();
    sealed(share.records.iter().fold(bytes, put))
}

/// The share that the bytes at this place are.
pub fn decode(place: usize, bytes: &[u8]) -> Result<Segment, SegmentError> {
    let body = opened(bytes)?;
    let (head, mut rest): (Head, _) = postcard::take_from_bytes(body).map_err(|_| SegmentError::Malformed)?;
    if place >= PLACES_MAX || !head.owner.may_lie_at(place) {
        return Err(SegmentError::OtherShare);
    }
    if usize::from(head.records) > head.owner.records_max() {
        return Err(SegmentError::Malformed);
    }
    // One by one: memory is taken for as many as a share has, whatever the bytes say.
    let mut records = Vec::with_capacity(head.records.into());
    let mut last = 0;
    for _ in 0..head.records {
        let (record, behind): (Record, _) =
            postcard::take_from_bytes(rest).map_err(|_| SegmentError::Malformed)?;
        if !is_sound(&record) || record.id <= last || record.id > head.end || record.boot > head.boot {
            return Err(SegmentError::Malformed);
        }
        if !head.owner.holds(&record) {
            return Err(SegmentError::OtherShare);
        }
        (last, rest) = (record.id, behind);
        records.push(record);
    }
    if !rest.is_empty() {
        return Err(SegmentError::Malformed);
    }
    Ok(Segment { owner: head.owner, boot: head.boot, end: head.end, made_room: head.made_room, records })
}

/// Whether it is as the journal keeps records.
fn is_sound(record: &Record) -> bool {
    let is_text =
        |text: &str, bytes_max: usize| text.len() <= bytes_max && !text.chars().any(char::is_control);
    record.level <= LEVEL_MAX
        && is_text(&record.scope, SCOPE_BYTES_MAX)
        && is_text(&record.message, MESSAGE_BYTES_MAX)
        && record.fields.len() <= FIELDS_BYTES_MAX
        && record.fields.split_terminator('\n').all(|line| is_field(line) && is_text(line, FIELDS_BYTES_MAX))
}
