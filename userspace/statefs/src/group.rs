//! Group headers and records, as drawn in RFC-0001, section 4.

use crate::checksum::salted;
use crate::format::{field, put, u32_at, u64_at};
use crate::limits::{COUNTER_END, KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Bytes of a group header.
pub(crate) const HEADER: usize = 88;
/// Bytes of a record header.
pub(crate) const RECORD: usize = 32;
const CRC_AT: usize = 80;

/// Rounds up to a multiple of 8.
pub(crate) const fn pad8(bytes: usize) -> usize {
    (bytes + 7) & !7
}

/// Which of a group's three headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Head,
    CommitA,
    CommitB,
}

impl Role {
    fn magic(self) -> &'static [u8; 4] {
        match self {
            Role::Head => b"SFGH",
            Role::CommitA => b"SFGA",
            Role::CommitB => b"SFGB",
        }
    }
}

/// What a group is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupKind {
    /// Records of clients, of a checkpoint, or both.
    Data = 1,
    /// Proof that the group before was acknowledged.
    Seal = 2,
    /// Start of an incarnation.
    Open = 3,
}

/// A group's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub kind: GroupKind,
    /// Salt of the segment; on the medium, xor the store's salt.
    pub salt: u64,
    pub epoch: u64,
    pub previous_epoch: u64,
    pub incarnation: u64,
    pub first_version: u64,
    pub superblock: u64,
    pub previous_crc: u32,
    pub body: u32,
    pub table: u32,
    pub records: u32,
    pub units: u32,
    pub table_crc: u32,
}

impl GroupHeader {
    /// The header as it goes to the device.
    pub fn encode(&self, role: Role, store_salt: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        put(&mut bytes, 0, role.magic());
        put(&mut bytes, 4, &(self.kind as u32).to_le_bytes());
        put(&mut bytes, 8, &(self.salt ^ store_salt).to_le_bytes());
        put(&mut bytes, 16, &self.epoch.to_le_bytes());
        put(&mut bytes, 24, &self.previous_epoch.to_le_bytes());
        put(&mut bytes, 32, &self.incarnation.to_le_bytes());
        put(&mut bytes, 40, &self.first_version.to_le_bytes());
        put(&mut bytes, 48, &self.superblock.to_le_bytes());
        put(&mut bytes, 56, &self.previous_crc.to_le_bytes());
        put(&mut bytes, 60, &self.body.to_le_bytes());
        put(&mut bytes, 64, &self.table.to_le_bytes());
        put(&mut bytes, 68, &self.records.to_le_bytes());
        put(&mut bytes, 72, &self.units.to_le_bytes());
        put(&mut bytes, 76, &self.table_crc.to_le_bytes());
        let crc = salted(self.salt, &bytes[..CRC_AT]);
        put(&mut bytes, CRC_AT, &crc.to_le_bytes());
        bytes
    }

    /// The header in these bytes, if they hold a valid one of this role in a segment of any salt.
    pub fn decode(bytes: &[u8], role: Role, store_salt: u64, unit: usize) -> Option<GroupHeader> {
        let bytes = bytes.get(..HEADER)?;
        let salt = u64_at(bytes, 8) ^ store_salt;
        if bytes.get(..4)? != role.magic() || salted(salt, bytes.get(..CRC_AT)?) != u32_at(bytes, CRC_AT) {
            return None;
        }
        let kind = match u32_at(bytes, 4) {
            1 => GroupKind::Data,
            2 => GroupKind::Seal,
            3 => GroupKind::Open,
            _ => return None,
        };
        let header = GroupHeader {
            kind,
            salt,
            epoch: u64_at(bytes, 16),
            previous_epoch: u64_at(bytes, 24),
            incarnation: u64_at(bytes, 32),
            first_version: u64_at(bytes, 40),
            superblock: u64_at(bytes, 48),
            previous_crc: u32_at(bytes, 56),
            body: u32_at(bytes, 60),
            table: u32_at(bytes, 64),
            records: u32_at(bytes, 68),
            units: u32_at(bytes, 72),
            table_crc: u32_at(bytes, 76),
        };
        let lengths_agree =
            layout(header.body as usize, header.table as usize, unit).units == header.units as usize;
        let counters = [header.epoch, header.incarnation, header.first_version, header.superblock];
        let in_bounds = counters.iter().all(|counter| *counter < COUNTER_END);
        (lengths_agree && in_bounds && header.previous_epoch < header.epoch).then_some(header)
    }

    /// The CRC by which the next group names this one: the same for all three headers.
    pub fn crc(&self) -> u32 {
        salted(self.salt, &self.encode(Role::Head, 0)[4..CRC_AT])
    }
}

/// Where the parts of a group lie, in bytes from its start.
pub(crate) struct Layout {
    pub commit_a: usize,
    pub commit_b: usize,
    pub units: usize,
}

/// Lays out a group.
pub(crate) fn layout(body: usize, table: usize, unit: usize) -> Layout {
    let commit_a = HEADER.saturating_add(body);
    let commit = HEADER.saturating_add(table);
    let first_units = commit_a.saturating_add(commit).div_ceil(unit);
    let commit_b = first_units.saturating_mul(unit);
    Layout { commit_a, commit_b, units: first_units.saturating_add(commit.div_ceil(unit)) }
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// A new value, in this group.
    Put = 1,
    /// The key is absent.
    Delete = 2,
    /// The value lies elsewhere (checkpoint).
    Entry = 3,
    /// The same value at a new place, in this group (compaction).
    Moved = 4,
    /// An operation that was answered.
    Operation = 5,
}

impl RecordKind {
    /// Whether the payload follows the record in the body.
    pub fn has_payload(self) -> bool {
        matches!(self, RecordKind::Put | RecordKind::Moved)
    }
}

/// A record's header; the key stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub kind: RecordKind,
    pub corrupt: bool,
    pub key_length: u16,
    pub value_length: u32,
    pub version: u64,
    pub payload_crc: u32,
    pub segment: u32,
    pub offset: u32,
}

impl RecordHeader {
    /// The header as it goes to the device; its CRC covers the key as well.
    pub fn encode(&self, salt: u64, key: &[u8]) -> [u8; RECORD] {
        let mut covered = [0; RECORD + KEY_BYTES_MAX];
        covered[0] = self.kind as u8;
        covered[1] = u8::from(self.corrupt);
        put(&mut covered, 2, &self.key_length.to_le_bytes());
        put(&mut covered, 4, &self.value_length.to_le_bytes());
        put(&mut covered, 8, &self.version.to_le_bytes());
        put(&mut covered, 16, &self.payload_crc.to_le_bytes());
        put(&mut covered, 20, &self.segment.to_le_bytes());
        put(&mut covered, 24, &self.offset.to_le_bytes());
        put(&mut covered, 28, key);
        let crc = salted(salt, &covered[..28 + key.len()]);
        let mut bytes: [u8; RECORD] = field(&covered, 0);
        put(&mut bytes, 28, &crc.to_le_bytes());
        bytes
    }

    /// Bytes of header, key and padding.
    pub fn head_bytes(&self) -> usize {
        RECORD + pad8(usize::from(self.key_length))
    }

    /// The record at the start of these bytes, with its key, if its own CRC agrees.
    pub fn decode(bytes: &[u8], salt: u64) -> Option<(RecordHeader, &[u8])> {
        let (header, key) = RecordHeader::of_table(bytes)?;
        (header.encode(salt, key) == field(bytes, 0)).then_some((header, key))
    }

    /// The record at the start of these bytes of a table whose CRC agreed, with its key.
    fn of_table(bytes: &[u8]) -> Option<(RecordHeader, &[u8])> {
        let kind = match bytes.first()? {
            1 => RecordKind::Put,
            2 => RecordKind::Delete,
            3 => RecordKind::Entry,
            4 => RecordKind::Moved,
            5 => RecordKind::Operation,
            _ => return None,
        };
        let header = RecordHeader {
            kind,
            corrupt: field::<1>(bytes, 1) == [1],
            key_length: u16::from_le_bytes(field(bytes, 2)),
            value_length: u32_at(bytes, 4),
            version: u64_at(bytes, 8),
            payload_crc: u32_at(bytes, 16),
            segment: u32_at(bytes, 20),
            offset: u32_at(bytes, 24),
        };
        let key = bytes.get(RECORD..)?.get(..usize::from(header.key_length))?;
        let in_bounds = key.len() <= KEY_BYTES_MAX
            && header.value_length as usize <= VALUE_BYTES_MAX
            && header.version < COUNTER_END;
        in_bounds.then_some((header, key))
    }
}

/// The records of a table whose CRC agreed, in order; ends early at the first that is out of bounds.
pub(crate) struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Records in these bytes.
    pub fn new(table: &'a [u8]) -> Records<'a> {
        Records { rest: table }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (RecordHeader, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, key) = RecordHeader::of_table(self.rest)?;
        self.rest = self.rest.get(header.head_bytes()..).unwrap_or(&[]);
        Some((header, key))
    }
}
