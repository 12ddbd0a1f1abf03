//! Finding groups in a segment, damaged ones included (RFC-0001, 7.3).

use crate::checksum::salted;
use crate::damage::{Damage, DamageLog};
use crate::device::{BlockDevice, SECTOR};
use crate::format::{Geometry, SegmentHead, Superblock};
use crate::group::{GroupHeader, HEADER, RecordHeader, Records, Role, layout, pad8};
use crate::sorted::Sorted;
use alloc::vec::Vec;

/// A group as it was found.
#[derive(Debug)]
pub(crate) struct FoundGroup {
    pub header: GroupHeader,
    pub segment: u32,
    /// First unit in the segment.
    pub start: u32,
    /// The commit record, if a copy of it is left.
    pub table: Option<Vec<u8>>,
    /// The table is there and every payload verifies.
    pub whole: bool,
    /// Header and both commit records are there.
    pub all_copies: bool,
}

impl FoundGroup {
    /// First unit behind the group.
    pub fn end(&self) -> u32 {
        self.start + self.header.units
    }

    /// The records, as far as they are known.
    pub fn records(&self) -> Records<'_> {
        Records::new(self.table.as_deref().unwrap_or(&[]))
    }
}

/// Bytes that one read brings while a log is read: few enough that they stay in the processor's cache and that the
/// memory for them costs an opening nothing.
const WINDOW_BYTES: usize = 64 * 1024;

/// One segment after the other, through a window of memory, with what reads could not bring as zeros.
pub(crate) struct SegmentReader<'d> {
    device: &'d mut dyn BlockDevice,
    /// Units of the segment from `first` on.
    window: Vec<u8>,
    first: u32,
    /// Units of the window that are zeros because they could not be read: no payload in them verifies, be it of
    /// zeros.
    unreadable: Vec<bool>,
    /// Whether every read brought what was asked for.
    pub all_readable: bool,
    geometry: Geometry,
    segment: u32,
    salt: u64,
    store_salt: u64,
}

impl<'d> SegmentReader<'d> {
    /// A reader of the segments of this store.
    pub fn new(device: &'d mut dyn BlockDevice, store: &Superblock) -> SegmentReader<'d> {
        SegmentReader {
            device,
            window: Vec::new(),
            first: 0,
            unreadable: Vec::new(),
            all_readable: true,
            geometry: store.geometry,
            segment: 0,
            salt: 0,
            store_salt: store.salt,
        }
    }

    /// Turns to a segment.
    pub fn enter(&mut self, head: &SegmentHead) {
        (self.segment, self.salt) = (head.segment, head.salt);
        self.window.clear();
    }

    /// Brings so many units into the window, and what follows them as far as one read goes; none beyond the last
    /// that a group can use.
    fn bring(&mut self, first: u32, units: u32) -> Option<()> {
        let unit = self.geometry.unit_bytes();
        let last = self.geometry.segment_units - 1;
        let end = first.checked_add(units).filter(|end| *end <= last)?;
        if first >= self.first && end as usize <= self.first as usize + self.window.len() / unit {
            return Some(());
        }
        let units = units.max((WINDOW_BYTES / unit) as u32).min(last - first) as usize;
        self.first = first;
        self.window.resize(units * unit, 0);
        self.unreadable.clear();
        self.unreadable.resize(units, false);
        let offset = self.geometry.segment_offset(self.segment) + u64::from(first) * unit as u64;
        if self.device.read(offset, &mut self.window).is_ok() {
            return Some(());
        }
        // What is unreadable as a whole is read unit by unit.
        for (at, (part, unreadable)) in self.window.chunks_mut(unit).zip(&mut self.unreadable).enumerate() {
            if self.device.read(offset + (at * unit) as u64, part).is_err() {
                part.fill(0);
                *unreadable = true;
                self.all_readable = false;
            }
        }
        Some(())
    }

    /// Units of the segment, brought into the window before.
    fn held(&self, first: u32, units: u32) -> Option<&[u8]> {
        let unit = self.geometry.unit_bytes();
        let from = first.checked_sub(self.first)? as usize * unit;
        self.window.get(from..)?.get(..units as usize * unit)
    }

    /// Whether this unit cannot be read.
    pub fn is_unreadable(&mut self, unit: u32) -> bool {
        let at = self.bring(unit, 1).map(|()| unit - self.first);
        at.is_some_and(|at| self.unreadable.get(at as usize) == Some(&true))
    }

    /// The next group at or after a unit.
    pub fn next_group(&mut self, from: u32) -> Option<FoundGroup> {
        (from..self.geometry.segment_units - 1).find_map(|unit| self.group_at(unit, from))
    }

    fn header_at(&mut self, unit: u32, role: Role) -> Option<GroupHeader> {
        self.bring(unit, 1)?;
        let header =
            GroupHeader::decode(self.held(unit, 1)?, role, self.store_salt, self.geometry.unit_bytes())?;
        (header.salt == self.salt).then_some(header)
    }

    /// The group whose first unit this is, or whose commit record B starts here, its header being lost.
    fn group_at(&mut self, unit: u32, from: u32) -> Option<FoundGroup> {
        let whole = self.header_at(unit, Role::Head).and_then(|header| self.load(header, unit));
        whole.or_else(|| {
            let header = self.header_at(unit, Role::CommitB)?;
            let bytes = self.geometry.unit_bytes();
            let before = layout(header.body as usize, header.table as usize, bytes).commit_b / bytes;
            let start = unit.checked_sub(before as u32).filter(|start| *start >= from)?;
            self.load(header, start)
        })
    }

    fn load(&mut self, header: GroupHeader, start: u32) -> Option<FoundGroup> {
        self.bring(start, header.units)?;
        let group = self.held(start, header.units)?;
        let unit = self.geometry.unit_bytes();
        let places = layout(header.body as usize, header.table as usize, unit);
        let copy = |role, at: usize| {
            let found = GroupHeader::decode(group.get(at..)?, role, self.store_salt, unit)?;
            let table = group.get(at + HEADER..)?.get(..header.table as usize)?;
            (found == header && salted(header.salt, table) == header.table_crc).then_some(table)
        };
        let head = GroupHeader::decode(group, Role::Head, self.store_salt, unit);
        let head_is_there = head.is_some_and(|head| head.salt == self.salt);
        let (a, b) = (copy(Role::CommitA, places.commit_a), copy(Role::CommitB, places.commit_b));
        let all_copies = head_is_there && a.is_some() && b.is_some();
        let copied = a.or(b).map(<[u8]>::to_vec);
        let table = copied.or_else(|| self.table_from_body(&header, group));
        let whole = table.as_ref().is_some_and(|table| self.payloads_verify(&header, start, table));
        Some(FoundGroup { header, segment: self.segment, start, table, whole, all_copies })
    }

    /// The table, put together from the records in the body; only if that gives exactly the one written.
    fn table_from_body(&self, header: &GroupHeader, group: &[u8]) -> Option<Vec<u8>> {
        let mut rest = group.get(HEADER..)?.get(..header.body as usize)?;
        let mut table = Vec::new();
        for _ in 0..header.records {
            let (record, _) = RecordHeader::decode(rest, header.salt)?;
            table.extend_from_slice(rest.get(..record.head_bytes())?);
            rest = rest.get(record.head_bytes() + pad8(record.value_length as usize)..)?;
        }
        (salted(header.salt, &table) == header.table_crc).then_some(table)
    }

    fn payloads_verify(&self, header: &GroupHeader, start: u32, table: &[u8]) -> bool {
        let mut count = 0;
        for (record, _) in Records::new(table) {
            count += 1;
            if record.kind.has_payload() && !self.payload_verifies(&record, start, header.units) {
                return false;
            }
        }
        count == header.records
    }

    fn payload_verifies(&self, record: &RecordHeader, start: u32, units: u32) -> bool {
        let unit = self.geometry.unit_bytes();
        let from = record.offset as usize;
        let to = from.saturating_add(record.value_length as usize);
        let before = start.saturating_sub(self.first) as usize;
        let readable = from == to
            || self
                .unreadable
                .get(before + from / unit..before + to.div_ceil(unit))
                .is_some_and(|units| !units.contains(&true));
        let payload = self.held(start, units).and_then(|group| group.get(from..to)).filter(|_| readable);
        payload.is_some_and(|payload| salted(self.store_salt ^ record.version, payload) == record.payload_crc)
    }
}

/// Reads the heads of all segments; where both copies are lost, what the groups in it tell. Also whether the first
/// copy of each was good.
pub(crate) fn segment_heads(
    device: &mut dyn BlockDevice,
    store: &Superblock,
    damage: &mut DamageLog,
) -> (Vec<SegmentHead>, bool) {
    let mut heads = Vec::with_capacity(store.geometry.segments as usize);
    let mut all_good = true;
    for segment in 0..store.geometry.segments {
        let first = segment_head(device, store, segment, 0);
        all_good &= first.is_some();
        let head = first.or_else(|| segment_head(device, store, segment, 1));
        let head = head.or_else(|| recover_head(device, store, segment));
        if first.is_none() && head.is_none_or(|head| head.generation >= store.replay_start) {
            damage.report(Damage::SegmentHeadDamaged { segment });
        }
        heads.extend(head);
    }
    (heads, all_good)
}

/// The heads of the segments to replay, in the order of the log.
pub(crate) fn log_heads(heads: &[SegmentHead], store: &Superblock) -> Vec<SegmentHead> {
    let mut log = Sorted::default();
    for head in heads.iter().filter(|head| head.generation >= store.replay_start) {
        log.insert::<LogOrder>((head.frontier, head.incarnation, head.generation, head.segment), *head);
    }
    log.iter().map(|(_, head)| *head).collect()
}

/// Frontier, incarnation, generation, segment.
type LogOrder = (u64, u64, u64, u32);

/// Reads one copy of a segment's head.
pub(crate) fn segment_head(
    device: &mut dyn BlockDevice,
    store: &Superblock,
    segment: u32,
    copy: u32,
) -> Option<SegmentHead> {
    let mut sector = [0; SECTOR];
    let last = (store.geometry.segment_bytes() - store.geometry.unit_bytes()) as u64;
    let offset = store.geometry.segment_offset(segment) + u64::from(copy) * last;
    device.read(offset, &mut sector).ok()?;
    SegmentHead::decode(&sector, segment, store)
}

/// What the group headers in a segment tell of its lost heads, if they belong to the log. Groups of an earlier
/// life of the segment have another salt.
fn recover_head(device: &mut dyn BlockDevice, store: &Superblock, segment: u32) -> Option<SegmentHead> {
    let unit = store.geometry.unit_bytes();
    let mut sector = [0; SECTOR];
    let mut found = Vec::new();
    for at in 1..store.geometry.segment_units - 1 {
        let offset = store.geometry.segment_offset(segment) + u64::from(at) * unit as u64;
        if device.read(offset, &mut sector).is_ok() {
            let header = |role| GroupHeader::decode(&sector, role, store.salt, unit);
            found.extend(header(Role::Head).or_else(|| header(Role::CommitB)));
        }
    }
    let newest =
        *found.iter().max_by_key(|header| header.epoch).filter(|header| header.epoch > store.base_epoch)?;
    let oldest =
        found.iter().filter(|header| header.salt == newest.salt).min_by_key(|header| header.epoch)?;
    Some(SegmentHead {
        segment,
        generation: store.replay_start,
        salt: newest.salt,
        incarnation: oldest.incarnation,
        frontier: oldest.previous_epoch,
    })
}
