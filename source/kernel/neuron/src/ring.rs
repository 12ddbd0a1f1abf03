//! The kernel's own voice: one bounded ring of records, and who reads it.
//!
//! Whoever holds `SystemControl` with the right `LOG` reads records by sequence; old ones stay until
//! they are overwritten. While no process reads, new records are printed through the firmware.

use crate::memory::Id;
use crate::object::Notification;
use crate::voice::Line;
use core::fmt::Write;
use nexus_abi::limits::RING_TEXT_MAX;
use nexus_abi::records::{RingLevel, RingRecord};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of the ring.
pub const RING_BYTES: usize = 32 * 1024;
const HEAD: usize = size_of::<RingRecord>();

/// The ring. Records stand one after the other, each padded to 8 bytes; a record never wraps.
pub struct Ring {
    bytes: &'static mut [u8; RING_BYTES],
    /// Where the oldest record begins, and its sequence.
    oldest: usize,
    /// Where the next record goes.
    next: usize,
    /// Where the last record before the wrap ends; `RING_BYTES` while nothing has wrapped.
    wrap: usize,
    /// Records in the ring.
    count: u64,
    /// The sequence of the next record; the first is 1.
    sequence: u64,
    /// The last record that was read by whomever, and where it ends.
    cursor: (u64, usize),
    /// The number of the process that last bound its doorbell, while it lives: it is the reader. Others may read too,
    /// and nothing depends on them.
    pub reader: Option<u64>,
    /// The last sequence that was printed before there was a reader, or read by it, for who prints when it dies.
    pub read_to: u64,
    /// Who is told of new records, and by which bits.
    pub doorbell: Option<(Id<Notification>, u64)>,
}

/// Why a read yields nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadError {
    /// No record is newer.
    Nothing,
    /// The next record does not fit.
    TooSmall,
}

impl Ring {
    /// An empty ring over this storage.
    pub const fn new(bytes: &'static mut [u8; RING_BYTES]) -> Self {
        Ring {
            bytes,
            oldest: 0,
            next: 0,
            wrap: RING_BYTES,
            count: 0,
            sequence: 1,
            cursor: (0, 0),
            reader: None,
            read_to: 0,
            doorbell: None,
        }
    }

    /// Appends a record; the oldest make room. Text beyond its limit is cut at a character.
    pub fn append(&mut self, ticks: u64, service_id: u64, level: RingLevel, text: &str) {
        let mut length = text.len().min(RING_TEXT_MAX);
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        let size = (HEAD + length).next_multiple_of(8);
        self.make_room(size);
        let head = RingRecord {
            sequence: self.sequence,
            ticks,
            service_id,
            level: level as u32,
            text_bytes: length as u32,
        };
        let place = &mut self.bytes[self.next..self.next + size];
        place.fill(0);
        place[..HEAD].copy_from_slice(head.as_bytes());
        place[HEAD..HEAD + length].copy_from_slice(&text.as_bytes()[..length]);
        self.next += size;
        self.sequence += 1;
        self.count += 1;
    }

    /// Copies records newer than `after` into `to`, as many as fit; yields bytes and the last sequence.
    pub fn read(&mut self, after: u64, to: &mut [u8]) -> Result<(usize, u64), ReadError> {
        let mut written = 0;
        let mut last = after;
        let mut end = self.cursor.1;
        for (place, head, size) in self.newer(after) {
            let Some(target) = to.get_mut(written..written + size) else { break };
            target.copy_from_slice(&self.bytes[place..place + size]);
            written += size;
            (last, end) = (head.sequence, place + size);
        }
        if written > 0 {
            self.cursor = (last, end);
        }
        match (written, self.sequence - 1 > after) {
            (0, true) => Err(ReadError::TooSmall),
            (0, false) => Err(ReadError::Nothing),
            _ => Ok((written, last)),
        }
    }

    /// The text of the first record newer than `after`; yields its sequence and its writer.
    pub fn text_after(&mut self, after: u64, line: &mut Line) -> Option<(u64, u64)> {
        let (place, head, size) = self.newer(after).next()?;
        self.cursor = (head.sequence, place + size);
        let text = &self.bytes[place + HEAD..place + HEAD + head.text_bytes as usize];
        // Records hold what came as text, cut at a character; a line takes as much as fits.
        let _ = line.write_str(core::str::from_utf8(text).unwrap_or(""));
        Some((head.sequence, head.service_id))
    }

    /// Every record newer than `after`, oldest first: its place, its head and its size. Who goes on where the
    /// last reading ended passes over nothing.
    fn newer(&self, after: u64) -> impl Iterator<Item = (usize, RingRecord, usize)> + '_ {
        let is_next = after == self.cursor.0 && after + 1 >= self.sequence - self.count;
        let (mut next, left) = match is_next {
            true => (self.cursor.1, self.newest() - after),
            false => (self.oldest, self.count),
        };
        let every = (0..left).map(move |_| {
            let place = if next == self.wrap { 0 } else { next };
            let (head, size) = self.record(place);
            next = place + size;
            (place, head, size)
        });
        every.filter(move |(_, head, _)| head.sequence > after)
    }

    /// The sequence of the newest record.
    pub fn newest(&self) -> u64 {
        self.sequence - 1
    }

    fn record(&self, place: usize) -> (RingRecord, usize) {
        match RingRecord::read_from_bytes(&self.bytes[place..place + HEAD]) {
            Ok(head) => (head, (HEAD + head.text_bytes as usize).next_multiple_of(8)),
            Err(_) => unreachable!("a slice of the head's size is a head"),
        }
    }

    fn make_room(&mut self, size: usize) {
        if self.next + size > RING_BYTES {
            // What is left at the end stays empty; records that begin behind `next` go first.
            while self.count > 0 && self.oldest >= self.next {
                self.drop_oldest();
            }
            self.wrap = self.next;
            self.next = 0;
            if self.count == 0 {
                self.oldest = 0;
            }
        }
        while self.count > 0 && self.oldest >= self.next && self.oldest < self.next + size {
            self.drop_oldest();
        }
        if self.count == 0 {
            self.oldest = self.next;
            if self.next == 0 {
                self.wrap = RING_BYTES;
            }
        }
    }

    fn drop_oldest(&mut self) {
        let (_, size) = self.record(self.oldest);
        self.oldest += size;
        self.count -= 1;
        if self.oldest == self.wrap {
            self.oldest = 0;
            self.wrap = RING_BYTES;
        }
    }
}
