//! Opening: from the bytes on a device to the index in memory (RFC-0001, section 7).

use crate::apply::{Place, apply};
use crate::damage::{Damage, DamageLog};
use crate::device::{BlockDevice, DeviceError};
use crate::error::Error;
use crate::format::{Geometry, SegmentHead, Superblock};
use crate::group::GroupKind;
use crate::index::{Index, Operations, State};
use crate::limits::VERSION_SKIP;
use crate::quota::{Difference, Quota, Usage};
use crate::scan::{FoundGroup, SegmentReader, log_heads, segment_head, segment_heads};
use crate::segments::{SegmentState, Segments};
use crate::store::Options;
use alloc::vec;
use alloc::vec::Vec;

/// The end of the log, as the next group continues it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogEnd {
    pub epoch: u64,
    pub crc: u32,
    pub incarnation: u64,
    /// Epoch that the next group may have at the least.
    pub next_epoch: u64,
    pub next_version: u64,
    pub next_segment_generation: u64,
}

/// A store as it was found.
pub(crate) struct Loaded {
    pub superblock: Superblock,
    pub index: Index,
    pub operations: Operations,
    pub usage: Usage,
    pub segments: Segments,
    pub end: LogEnd,
    /// The segment in which the log can go on, and the first unit behind everything found in it.
    pub append: Option<(SegmentHead, u32)>,
    pub damage: DamageLog,
    /// Damage that an operator has to accept before anything is written.
    pub must_accept: bool,
    /// Groups may be missing: absence is not certain.
    pub hole: bool,
    /// Nothing was dropped, nothing unreadable: whoever opens the device next finds the same, be anything written
    /// by then or not.
    pub settled: bool,
    /// What the newest group was for.
    pub newest_kind: GroupKind,
    pub groups: u64,
    pub bytes: u64,
}

/// Reads the superblocks: the newest valid one, and the damage to the other.
pub(crate) fn read_superblock(
    device: &mut dyn BlockDevice,
    damage: &mut DamageLog,
) -> Result<Superblock, Error> {
    let mut worst = Error::Foreign;
    let mut unit = 4096usize;
    while unit <= 65_536 {
        let mut newest: Option<Superblock> = None;
        let mut failed = None;
        for slot in 0..2u8 {
            let mut bytes = vec![0; unit];
            let read = device.read(u64::from(slot) * unit as u64, &mut bytes);
            let found = if read.is_ok() { Superblock::decode(&bytes) } else { Err(Error::SuperblockLost) };
            match found {
                Ok(found)
                    if found.geometry.unit_bytes() == unit && found.generation % 2 == u64::from(slot) =>
                {
                    newest =
                        Some(newest.filter(|other| other.generation > found.generation).unwrap_or(found));
                }
                Ok(_) => {}
                Err(error @ Error::NewerFormat { .. }) => return Err(error),
                Err(error) => {
                    failed = Some(slot);
                    if error == Error::SuperblockLost && device.length() >= 2 * unit as u64 {
                        worst = error;
                    }
                }
            }
        }
        if let Some(newest) = newest {
            if let Some(slot) = failed {
                damage.report(Damage::SuperblockDamaged { slot });
            }
            return Ok(newest);
        }
        unit *= 2;
    }
    Err(worst)
}

/// Checks a superblock against the device it was found on.
pub(crate) fn check_device(device: &dyn BlockDevice, geometry: &Geometry) -> Result<(), Error> {
    if device.length() < geometry.device_bytes() {
        return Err(Error::Truncated);
    }
    if device.physical_block() > geometry.unit { Err(Error::UnitTooSmall) } else { Ok(()) }
}

/// A device as an opening reads it: when it goes away, what could not be read must not be taken for damaged.
struct Watched<'d> {
    device: &'d mut dyn BlockDevice,
    gone: bool,
}

impl BlockDevice for Watched<'_> {
    fn physical_block(&self) -> u32 {
        self.device.physical_block()
    }

    fn length(&self) -> u64 {
        self.device.length()
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        if self.gone {
            return Err(DeviceError::Gone);
        }
        let outcome = self.device.read(offset, buffer);
        self.gone = outcome == Err(DeviceError::Gone);
        outcome
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.device.write(offset, data)
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.device.flush()
    }
}

/// Replays a device. Bounded: one group is in memory at a time, and each unit is read twice at the most.
pub(crate) fn load(device: &mut dyn BlockDevice, options: &Options) -> Result<Loaded, Error> {
    let mut device = Watched { device, gone: false };
    let loaded = read_log(&mut device, options);
    if device.gone { Err(Error::Device(DeviceError::Gone)) } else { loaded }
}

fn read_log(device: &mut dyn BlockDevice, options: &Options) -> Result<Loaded, Error> {
    let mut damage = DamageLog::default();
    let superblock = read_superblock(device, &mut damage)?;
    check_device(device, &superblock.geometry)?;
    let (heads, all_heads_good) = segment_heads(device, &superblock, &mut damage);
    let mut replay = Replay::new(&superblock, damage, keep_tombstones(options));
    replay.proven = heads.iter().map(|head| head.frontier).fold(superblock.frontier, u64::max);
    let log = log_heads(&heads, &superblock);
    if log.len() as u32 > superblock.geometry.replay_bound() {
        replay.damage.report(Damage::ReplayOverBound { segments: log.len() as u32 });
    }
    let mut reader = SegmentReader::new(device, &superblock);
    for head in &log {
        reader.enter(head);
        replay.bytes += superblock.geometry.segment_bytes() as u64;
        let mut unit = 1;
        while let Some(group) = reader.next_group(unit) {
            unit = group.end();
            replay.offer(group);
        }
        replay.end_of(head, unit, reader.is_unreadable(unit));
    }
    let all_readable = reader.all_readable;
    replay.finish(superblock.frontier);
    replay.settled = all_heads_good && all_readable && replay.damage.count() == 0;
    let append = replay.append_position(device, &superblock, &log);
    Ok(replay.into_loaded(superblock, &heads, append, options))
}

#[cfg(feature = "mutants")]
fn keep_tombstones(options: &Options) -> bool {
    options.mutant != crate::store::Mutant::TombstoneDroppedEarly
}

#[cfg(not(feature = "mutants"))]
fn keep_tombstones(_: &Options) -> bool {
    true
}

/// The state of a replay: what was applied, and the one group whose fate the next one decides.
pub(crate) struct Replay {
    index: Index,
    operations: Operations,
    damage: DamageLog,
    undecided: Option<FoundGroup>,
    /// Where the next group would begin, there was one that left no header.
    lost_behind: bool,
    proven: u64,
    newest_epoch: u64,
    newest_crc: u32,
    incarnation: u64,
    next_version: u64,
    superblock: u64,
    superblock_named: u64,
    hole: bool,
    settled: bool,
    newest_kind: GroupKind,
    /// Segments whose groups were applied.
    applied_in: Vec<u32>,
    /// Where the last group found ends, and in which segment.
    found_end: Option<(u32, u32)>,
    groups: u64,
    bytes: u64,
    unit: u32,
    keep_tombstones: bool,
}

impl Replay {
    fn new(superblock: &Superblock, damage: DamageLog, keep_tombstones: bool) -> Replay {
        Replay {
            index: Index::default(),
            operations: Operations::default(),
            damage,
            undecided: None,
            lost_behind: false,
            proven: superblock.frontier,
            newest_epoch: superblock.base_epoch,
            newest_crc: superblock.base_crc,
            incarnation: superblock.incarnation,
            next_version: superblock.next_version,
            superblock: superblock.generation,
            superblock_named: superblock.generation,
            hole: false,
            settled: false,
            newest_kind: GroupKind::Open,
            applied_in: Vec::new(),
            found_end: None,
            groups: 0,
            bytes: 0,
            unit: superblock.geometry.unit,
            keep_tombstones,
        }
    }

    /// Takes the next group found, which decides the fate of the one before.
    fn offer(&mut self, group: FoundGroup) {
        let extends = self.found_end.filter(|(segment, _)| *segment == group.segment);
        self.found_end = Some((group.segment, extends.map_or(0, |(_, end)| end).max(group.end())));
        let newest_found = self.undecided.as_ref().map_or(self.newest_epoch, |before| before.header.epoch);
        if group.header.incarnation < self.incarnation || group.header.epoch <= newest_found {
            return;
        }
        self.incarnation = group.header.incarnation;
        self.proven = self.proven.max(group.header.previous_epoch);
        self.superblock_named = self.superblock_named.max(group.header.superblock);
        self.next_version =
            self.next_version.max(group.header.first_version.saturating_add(u64::from(group.header.records)));
        if let Some(before) = self.undecided.take()
            && group.header.previous_epoch >= before.header.epoch
        {
            self.acknowledge(before);
        }
        self.undecided = Some(group);
        self.lost_behind = false;
    }

    /// Takes the end of a segment: whether it tells of a group behind the newest found, whose headers are lost. A
    /// segment is taken for a group, and a unit that cannot be read may have held one.
    fn end_of(&mut self, head: &SegmentHead, unit: u32, unreadable: bool) {
        let (newest, segment) = match &self.undecided {
            Some(group) => (group.header.epoch, Some(group.segment)),
            None => (self.newest_epoch, None),
        };
        let taken = unit == 1 && head.frontier >= newest && head.incarnation >= self.incarnation;
        self.lost_behind |= taken || (unreadable && segment == Some(head.segment));
    }

    /// Applies a group that was acknowledged.
    fn acknowledge(&mut self, group: FoundGroup) {
        let header = group.header;
        if header.previous_epoch != self.newest_epoch || header.previous_crc != self.newest_crc {
            self.lose(header.previous_epoch);
        }
        if !group.all_copies {
            self.damage.report(Damage::CommitCopyLost { epoch: header.epoch });
        }
        if group.table.is_none() {
            self.lose(header.epoch);
        } else if !group.whole {
            self.damage.report(Damage::GroupCorrupt { epoch: header.epoch, keys: header.records });
        }
        let place = Place {
            segment: group.segment,
            group_offset: group.start.saturating_mul(self.unit),
            whole: group.whole,
        };
        for record in group.records() {
            apply(&mut self.index, &mut self.operations, record, place);
            if !self.keep_tombstones {
                self.index.drop_deleted();
            }
        }
        self.newest_epoch = header.epoch;
        self.newest_crc = header.crc();
        self.newest_kind = header.kind;
        self.groups += 1;
        if self.applied_in.last() != Some(&group.segment) {
            self.applied_in.push(group.segment);
        }
    }

    /// Acknowledged groups are missing: nothing known so far is certain.
    fn lose(&mut self, missing: u64) {
        self.damage.report(Damage::Hole { after: self.newest_epoch, missing });
        self.index.mark_uncertain();
        self.hole = true;
    }

    /// Decides the last group, and whether something proven never came.
    fn finish(&mut self, frontier: u64) {
        if let Some(last) = self.undecided.take() {
            if last.header.epoch <= self.proven || last.whole {
                self.acknowledge(last);
            } else {
                self.drop_tail(last.header.epoch, last.header.units);
            }
        }
        if self.newest_epoch < self.proven {
            self.lose(self.proven);
            if frontier > self.newest_epoch {
                self.damage.report(Damage::LostDurable { frontier, newest: self.newest_epoch });
            }
        } else if self.lost_behind {
            self.drop_tail(self.newest_epoch + 1, 1);
        }
        if self.superblock_named > self.superblock {
            self.damage.report(Damage::SuperblockLost { generation: self.superblock_named });
        }
        if !self.hole {
            self.index.drop_deleted();
        }
    }

    fn drop_tail(&mut self, epoch: u64, units: u32) {
        let bytes = u64::from(units) * u64::from(self.unit);
        self.damage.report(Damage::TailDropped { epoch, bytes });
    }

    /// Where the log can go on: behind everything found in the segment of the newest group, if both heads
    /// of that segment are good.
    fn append_position(
        &self,
        device: &mut dyn BlockDevice,
        superblock: &Superblock,
        log: &[SegmentHead],
    ) -> Option<(SegmentHead, u32)> {
        let segment = *self.applied_in.last()?;
        let head = *log.iter().rev().find(|head| head.segment == segment)?;
        let (found_in, end) = self.found_end?;
        let both = (0..2).all(|copy| segment_head(device, superblock, segment, copy) == Some(head));
        (both && found_in == segment).then_some((head, end))
    }

    fn into_loaded(
        self,
        superblock: Superblock,
        heads: &[SegmentHead],
        append: Option<(SegmentHead, u32)>,
        options: &Options,
    ) -> Loaded {
        // A head that was recovered, or lost for good, may have had a higher generation than any that is left.
        let unsure = u64::from(superblock.geometry.segments) - heads.len() as u64 + 2;
        let newest_head = heads.iter().map(|head| head.generation.saturating_add(unsure)).max().unwrap_or(0);
        let lost = self.proven.saturating_sub(self.newest_epoch).min(1 << 32);
        let end = LogEnd {
            epoch: self.newest_epoch,
            crc: self.newest_crc,
            incarnation: self.incarnation.saturating_add(1),
            next_epoch: self.newest_epoch.max(self.proven).saturating_add(2),
            next_version: self
                .next_version
                .saturating_add(VERSION_SKIP.saturating_mul(lost.saturating_add(1))),
            next_segment_generation: superblock.next_segment_generation.max(newest_head),
        };
        let (segments, usage) = self.occupied(&superblock, heads, &options.quotas);
        Loaded {
            must_accept: self.hole || self.superblock_named > self.superblock,
            hole: self.hole,
            superblock,
            index: self.index,
            operations: self.operations,
            usage,
            segments,
            end,
            append,
            damage: self.damage,
            settled: self.settled,
            newest_kind: self.newest_kind,
            groups: self.groups,
            bytes: self.bytes,
        }
    }

    /// The state of each segment, from the free map, the log and the live values; and what the keys use.
    fn occupied(
        &self,
        superblock: &Superblock,
        heads: &[SegmentHead],
        quotas: &[Quota],
    ) -> (Segments, Usage) {
        let mut segments = Segments::new(superblock.geometry.segments);
        for head in heads {
            if let Some(info) = segments.get_mut(head.segment) {
                info.generation = head.generation;
            }
        }
        let mut usage = Usage::new(quotas);
        for (key, entry) in self.index.iter() {
            segments.add_live(entry.live_bytes(key));
            let new = (entry.state != State::Deleted).then_some(entry.length as usize);
            usage.apply(quotas, Difference { key, old: None, new });
        }
        for (segment, was_free) in superblock.free.iter().enumerate() {
            let in_log = self.applied_in.contains(&(segment as u32));
            if let Some(info) = segments.get_mut(segment as u32) {
                info.state = match (in_log || info.live > 0, *was_free) {
                    (true, _) => SegmentState::Used,
                    (false, true) => SegmentState::Free,
                    (false, false) => SegmentState::Freed(superblock.generation),
                };
            }
        }
        (segments, usage)
    }
}
