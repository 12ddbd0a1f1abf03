//! The group under construction: values are copied once, into the buffer that goes to the device.

use crate::checksum::salted;
use crate::group::{GroupHeader, HEADER, RECORD, RecordHeader, RecordKind, Role, layout, pad8};
use crate::sorted::Sorted;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// A record of the group, and where its key and its place in the body are.
#[derive(Debug)]
struct PendingRecord {
    header: RecordHeader,
    key: core::ops::Range<usize>,
    /// Where header and key stand in the buffer, for records with a payload.
    slot: Option<usize>,
}

/// What the group does to a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PendingKey {
    pub version: u64,
    /// Bytes of the new value; `None` when deleted.
    pub length: Option<usize>,
}

/// The group under construction.
#[derive(Debug)]
pub(crate) struct Pending {
    buffer: Vec<u8>,
    table: Vec<u8>,
    table_bytes: usize,
    keys: Vec<u8>,
    records: Vec<PendingRecord>,
    store_salt: u64,
    pub overlay: Sorted<Box<[u8]>, PendingKey>,
    pub operations: Sorted<(u64, u64), u64>,
    pub outcomes: Vec<Result<u64, crate::error::Error>>,
    /// Bytes of keys and values that clients asked to store.
    pub client_bytes: u64,
}

impl Pending {
    pub fn new(capacity: usize, store_salt: u64) -> Pending {
        let mut buffer = Vec::with_capacity(capacity);
        buffer.resize(HEADER, 0);
        Pending {
            buffer,
            table: Vec::new(),
            table_bytes: 0,
            keys: Vec::new(),
            records: Vec::new(),
            store_salt,
            overlay: Sorted::default(),
            operations: Sorted::default(),
            outcomes: Vec::new(),
            client_bytes: 0,
        }
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of body and table so far.
    pub fn weight(&self) -> usize {
        self.buffer.len() + self.table_bytes
    }

    /// Units that the group would take with `body` and `table` bytes more.
    pub fn units_with(&self, body: usize, table: usize, unit: usize) -> usize {
        layout(self.buffer.len() - HEADER + body, self.table_bytes + table, unit).units
    }

    /// Adds a record; its payload, if it has one, is copied into the body and its CRC taken there.
    pub fn push(&mut self, mut header: RecordHeader, key: &[u8], payload: &[u8]) {
        let slot = header.kind.has_payload().then_some(self.buffer.len());
        if slot.is_some() {
            self.buffer.resize(self.buffer.len() + RECORD, 0);
            self.buffer.extend_from_slice(key);
            self.pad();
            let start = self.buffer.len();
            header.offset = start as u32;
            self.buffer.extend_from_slice(payload);
            header.payload_crc = salted(self.store_salt ^ header.version, &self.buffer[start..]);
            self.pad();
        }
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        self.table_bytes += header.head_bytes();
        self.records.push(PendingRecord { header, key: start..self.keys.len(), slot });
    }

    fn pad(&mut self) {
        self.buffer.resize(pad8(self.buffer.len()), 0);
    }

    /// Completes the bytes of the group; `header` brings what is not known here.
    pub fn finish(&mut self, header: &mut GroupHeader, unit: usize) -> &[u8] {
        self.table.clear();
        for record in &self.records {
            let key = &self.keys[record.key.clone()];
            let encoded = record.header.encode(header.salt, key);
            if let Some(slot) = record.slot {
                self.buffer[slot..slot + RECORD].copy_from_slice(&encoded);
            }
            self.table.extend_from_slice(&encoded);
            self.table.extend_from_slice(key);
            self.table.resize(pad8(self.table.len()), 0);
        }
        header.body = (self.buffer.len() - HEADER) as u32;
        header.table = self.table.len() as u32;
        header.records = self.records.len() as u32;
        header.table_crc = salted(header.salt, &self.table);
        let places = layout(self.buffer.len() - HEADER, self.table.len(), unit);
        header.units = places.units as u32;
        self.buffer[..HEADER].copy_from_slice(&header.encode(Role::Head, self.store_salt));
        for (role, end) in [(Role::CommitA, places.commit_b), (Role::CommitB, places.units * unit)] {
            self.buffer.extend_from_slice(&header.encode(role, self.store_salt));
            self.buffer.extend_from_slice(&self.table);
            self.buffer.resize(end, 0);
        }
        &self.buffer
    }

    /// The records with their keys, in order.
    pub fn records(&self) -> impl Iterator<Item = (RecordHeader, &[u8])> {
        self.records.iter().map(|record| (record.header, &self.keys[record.key.clone()]))
    }

    /// Starts an empty group in the same memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.resize(HEADER, 0);
        self.table_bytes = 0;
        self.keys.clear();
        self.records.clear();
        self.overlay.clear();
        self.operations.clear();
        self.client_bytes = 0;
    }
}

/// Body and table bytes that a record takes.
pub(crate) fn record_bytes(kind: RecordKind, key: usize, value: usize) -> (usize, usize) {
    let head = RECORD + pad8(key);
    let body = if kind.has_payload() { head + pad8(value) } else { 0 };
    (body, head)
}

/// Units of a group with nothing but this body and table.
pub(crate) fn units_alone(body: usize, table: usize, unit: usize) -> usize {
    layout(body, table, unit).units
}

/// A buffer for whole sectors around a value.
pub(crate) fn sector_buffer() -> Vec<u8> {
    vec![0; crate::limits::VALUE_BYTES_MAX + 2 * crate::device::SECTOR]
}
