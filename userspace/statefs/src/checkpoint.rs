//! Checkpoints with compaction: a walk over all keys, a share at a time beside ordinary groups, which writes
//! where each value lies and moves those that lie in nearly empty segments; then a new superblock.

use crate::checksum::salted;
use crate::damage::Damage;
use crate::device::{BlockDevice, DeviceError};
use crate::error::Error;
use crate::format::Superblock;
use crate::group::{GroupKind, RecordHeader, RecordKind};
use crate::index::{Entry, State};
use crate::pending::record_bytes;
use crate::segments::SegmentState;
use crate::sorted::Sorted;
#[cfg(feature = "mutants")]
use crate::store::Mutant;
use crate::store::{Mode, Store};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Bound;

/// Bytes that a checkpoint adds to a client's group at the least.
const SHARE_MIN: usize = 16 * 1024;

/// Segments of log that are worth a checkpoint, be there ever so few keys.
const LOG_SEGMENTS_MIN: u64 = 2;

/// How many times what a checkpoint writes for the keys the log may grow to, while space is plenty.
const LOG_OF_SNAPSHOT: u64 = 4;

/// How far the walk has come.
#[derive(Debug)]
enum Walk {
    /// Operations of the clients after this one.
    Clients(Option<u64>),
    /// Keys after this one.
    Keys(Option<Box<[u8]>>),
    /// All is written.
    Done,
}

/// A checkpoint under way.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// Generation of the segment with which replay will start.
    pub replay_start: u64,
    base_epoch: u64,
    base_crc: u32,
    walk: Walk,
    /// Segments whose values are moved.
    victims: Vec<bool>,
}

impl<D: BlockDevice> Store<D> {
    /// Does a share of the checkpoint that is under way or due; false when there is nothing to do. For idle
    /// time, and after `CheckpointNeeded`.
    pub fn maintain(&mut self) -> Result<bool, Error> {
        if self.mode == Mode::NeedsReplay {
            self.recover()?;
        }
        if self.mode == Mode::ReadOnly || !self.pending.is_empty() {
            return Ok(false);
        }
        if self.checkpoint.is_none() && !self.checkpoint_due() {
            return Ok(false);
        }
        self.get_ready()?;
        let share = self.superblock.geometry.group_bytes_max();
        self.submit_with_maintenance(share).inspect_err(|_| self.mode = Mode::NeedsReplay)?;
        Ok(true)
    }

    /// Runs a whole checkpoint now. `ReadOnly` when changes are refused or a group is under construction.
    pub fn checkpoint_now(&mut self) -> Result<(), Error> {
        if !self.pending.is_empty() {
            return Err(Error::ReadOnly);
        }
        self.get_ready()?;
        if self.checkpoint.is_none() {
            self.begin_checkpoint();
        }
        while self.checkpoint.is_some() {
            self.maintain()?;
        }
        Ok(())
    }

    /// Free segments that are kept for checkpoints: two snapshots, and what starting them wastes.
    pub(crate) fn maintenance_floor(&self) -> u32 {
        2 * self.snapshot_segments() + 4
    }

    /// Segments of log at which a checkpoint that moves nothing begins: long before the bound where there are
    /// few keys, so that an opening costs little, and so many that checkpoints cost a quarter of what is
    /// written at the most.
    fn log_segments_due(&self) -> u32 {
        let geometry = self.superblock.geometry;
        let snapshot = 2 * self.usage.table_bytes;
        let due = LOG_SEGMENTS_MIN + LOG_OF_SNAPSHOT * snapshot / geometry.segment_bytes() as u64;
        due.min(u64::from(geometry.replay_bound() / 2)) as u32
    }

    fn snapshot_segments(&self) -> u32 {
        let bytes = self.usage.table_bytes * 5 / 2;
        (bytes / self.superblock.geometry.usable_bytes() as u64) as u32 + 1
    }

    /// Whether a checkpoint should begin beside ordinary work.
    pub(crate) fn checkpoint_due(&self) -> bool {
        self.checkpoint_presses()
            || (self.space_is_plenty() && self.log_segments() >= self.log_segments_due())
    }

    /// Whether a checkpoint must not wait: the log is at half its bound, or segments are scarce.
    pub(crate) fn checkpoint_presses(&self) -> bool {
        let geometry = self.superblock.geometry;
        if self.log_segments() >= geometry.replay_bound() / 2 {
            return true;
        }
        let scarce = self.maintenance_floor() + 2 + (geometry.segments / 16).max(1);
        self.segments.free() <= scarce && self.checkpoint_helps()
    }

    /// Whether a checkpoint need not move anything.
    fn space_is_plenty(&self) -> bool {
        self.segments.free() > self.superblock.geometry.segments / 2
    }

    /// Whether some segment would become free, now or by the checkpoint after.
    fn checkpoint_helps(&self) -> bool {
        let current = self.current.map(|(head, _)| head.segment);
        self.segments.iter().any(|(segment, info)| match info.state {
            SegmentState::Free => false,
            SegmentState::Freed(_) => true,
            SegmentState::Used => Some(segment) != current && self.is_sparse(info.live),
        })
    }

    fn is_sparse(&self, live: u64) -> bool {
        live < self.superblock.geometry.usable_bytes() as u64 * 3 / 4
    }

    /// Bytes that maintenance may add to the group about to be committed.
    pub(crate) fn maintenance_share(&self) -> usize {
        if self.segments.free() <= self.maintenance_floor() + 2 {
            return self.superblock.geometry.group_bytes_max();
        }
        (4 * self.pending.weight()).max(SHARE_MIN)
    }

    fn begin_checkpoint(&mut self) {
        self.checkpoint = Some(Checkpoint {
            replay_start: self.end.next_segment_generation,
            base_epoch: self.end.epoch,
            base_crc: self.end.crc,
            walk: Walk::Clients(None),
            victims: self.victims(),
        });
        #[cfg(feature = "mutants")]
        self.release_early(Mutant::SegmentReusedBeforeFreed, self.end.next_segment_generation);
    }

    /// The emptiest segments, as many as half of the room beside the snapshot can take, and a quarter of the
    /// log, which has to hold what is moved; none while space is plenty.
    fn victims(&self) -> Vec<bool> {
        let geometry = self.superblock.geometry;
        let room = self.segments.free().saturating_sub(self.snapshot_segments() + 2) / 2;
        let room = room.min(geometry.replay_bound() / 4);
        let mut left = u64::from(room) * geometry.usable_bytes() as u64;
        let mut sparse = Sorted::default();
        for (segment, info) in self.segments.iter() {
            if info.state == SegmentState::Used && info.live > 0 && self.is_sparse(info.live) {
                sparse.insert::<(u64, u32)>((info.live, segment), ());
            }
        }
        let mut victims = alloc::vec![false; geometry.segments as usize];
        if self.space_is_plenty() {
            return victims;
        }
        for ((live, segment), ()) in sparse.iter().copied() {
            if live > left {
                break;
            }
            left -= live;
            victims[segment as usize] = true;
        }
        victims
    }

    /// Submits what is staged together with a share of the checkpoint, and completes the checkpoint when
    /// that was its last.
    pub(crate) fn submit_with_maintenance(&mut self, share: usize) -> Result<(), Error> {
        if self.checkpoint.is_none() && self.checkpoint_due() {
            self.begin_checkpoint();
        }
        self.add_share(share)?;
        self.submit(GroupKind::Data)?;
        if self.checkpoint.as_ref().is_some_and(|checkpoint| matches!(checkpoint.walk, Walk::Done)) {
            self.complete_checkpoint()?;
        }
        Ok(())
    }

    /// Whether nothing is left of the checkpoint but its superblock.
    #[cfg(feature = "mutants")]
    pub(crate) fn checkpoint_is_written(&self) -> bool {
        self.checkpoint.as_ref().is_some_and(|checkpoint| matches!(checkpoint.walk, Walk::Done))
    }

    fn add_share(&mut self, share: usize) -> Result<(), Error> {
        let Some(mut checkpoint) = self.checkpoint.take() else { return Ok(()) };
        let limit = self.pending.weight() + share;
        loop {
            checkpoint.walk = match checkpoint.walk {
                Walk::Clients(after) => match self.add_client(after) {
                    Some(walk) => walk,
                    None => {
                        checkpoint.walk = Walk::Clients(after);
                        break;
                    }
                },
                Walk::Keys(after) => match self.add_key(after.as_deref(), &checkpoint.victims)? {
                    Some(Added::Key(key)) => Walk::Keys(Some(key)),
                    Some(Added::NoRoom) => {
                        checkpoint.walk = Walk::Keys(after);
                        break;
                    }
                    None => Walk::Done,
                },
                Walk::Done => Walk::Done,
            };
            if matches!(checkpoint.walk, Walk::Done) || self.pending.weight() >= limit {
                break;
            }
        }
        self.checkpoint = Some(checkpoint);
        Ok(())
    }

    /// Writes the operations of the next client; `None` when the group has no room for them.
    fn add_client(&mut self, after: Option<u64>) -> Option<Walk> {
        let Some((client, operations)) = self.operations.clients.after(after.as_ref()).cloned() else {
            return Some(Walk::Keys(None));
        };
        let (_, table) = record_bytes(RecordKind::Operation, 16, 0);
        if !self.has_room(0, table * operations.len()) {
            return None;
        }
        for (operation, version) in operations {
            self.push_operation(client, operation, version);
        }
        Some(Walk::Clients(Some(client)))
    }

    fn has_room(&self, body: usize, table: usize) -> bool {
        let geometry = self.superblock.geometry;
        self.pending.units_with(body, table, geometry.unit_bytes()) * geometry.unit_bytes()
            <= geometry.checkpoint_group_bytes_max()
    }

    /// Writes the next key: where its value lies, or the value itself when it is to be moved.
    fn add_key(&mut self, after: Option<&[u8]>, victims: &[bool]) -> Result<Option<Added>, Error> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let Some((key, entry)) = self.index.starting(from).next() else { return Ok(None) };
        let (key, mut entry): (Box<[u8]>, Entry) = (key.into(), *entry);
        let may_move = self.segments.free() > self.snapshot_segments() + 2;
        let moves =
            entry.state == State::Live && may_move && victims.get(usize::from(entry.segment)) == Some(&true);
        let kind = if moves { RecordKind::Moved } else { RecordKind::Entry };
        let (body, table) = record_bytes(kind, key.len(), entry.length as usize);
        if !self.has_room(body, table) {
            return Ok(Some(Added::NoRoom));
        }
        let mut sectors = core::mem::take(&mut self.sectors);
        let value = if moves { self.read_value(&entry, &mut sectors) } else { Ok(&[][..]) };
        let outcome = match value {
            Ok(value) => {
                self.push_located(kind, &key, &entry, value);
                Ok(Some(Added::Key(key)))
            }
            Err(Error::Corrupt) => {
                self.mark_corrupt(&key);
                entry.state = State::Corrupt;
                self.push_located(RecordKind::Entry, &key, &entry, &[]);
                Ok(Some(Added::Key(key)))
            }
            Err(error) => Err(error),
        };
        self.sectors = sectors;
        outcome
    }

    fn push_located(&mut self, kind: RecordKind, key: &[u8], entry: &Entry, value: &[u8]) {
        let corrupt = entry.state == State::Corrupt;
        let header = RecordHeader {
            kind,
            corrupt,
            key_length: key.len() as u16,
            value_length: entry.length,
            version: entry.version,
            payload_crc: entry.payload_crc,
            segment: if kind == RecordKind::Entry && !corrupt { entry.segment.into() } else { 0 },
            offset: if kind == RecordKind::Entry && !corrupt { entry.offset } else { 0 },
        };
        self.counters.bytes_moved += value.len() as u64;
        self.pending.push(header, key, value);
    }

    /// Reads a value into `sectors` and verifies it. `Corrupt` is for good; a device that is gone says nothing of
    /// the value.
    pub(crate) fn read_value<'a>(&mut self, entry: &Entry, sectors: &'a mut [u8]) -> Result<&'a [u8], Error> {
        if entry.length == 0 {
            return Ok(&[]);
        }
        let sector = crate::device::SECTOR as u64;
        let at = self.superblock.geometry.segment_offset(entry.segment.into()) + u64::from(entry.offset);
        let start = at / sector * sector;
        let end = (at + u64::from(entry.length)).div_ceil(sector) * sector;
        let buffer = sectors.get_mut(..(end - start) as usize).ok_or(Error::Corrupt)?;
        self.device.read(start, buffer).map_err(|error| match error {
            DeviceError::Gone => Error::Device(error),
            DeviceError::Io | DeviceError::Range => Error::Corrupt,
        })?;
        let value = buffer.get((at - start) as usize..).and_then(|rest| rest.get(..entry.length as usize));
        let value = value.ok_or(Error::Corrupt)?;
        let verifies = salted(self.superblock.salt ^ entry.version, value) == entry.payload_crc;
        if verifies { Ok(value) } else { Err(Error::Corrupt) }
    }

    /// From now on the key answers `Corrupt`, until it is written or deleted.
    pub(crate) fn mark_corrupt(&mut self, key: &[u8]) {
        if let Some(entry) = self.index.get_mut(key) {
            let place = entry.live_bytes(key);
            entry.state = State::Corrupt;
            self.damage.report(Damage::PayloadCorrupt { version: entry.version });
            self.counters.corrupt += 1;
            self.segments.remove_live(place);
        }
    }

    /// All of the checkpoint is durable: writes the superblock that says so.
    fn complete_checkpoint(&mut self) -> Result<(), Error> {
        let Some(checkpoint) = self.checkpoint.take() else { return Ok(()) };
        let generation = self.superblock.generation + 1;
        let superblock = Superblock {
            generation,
            replay_start: checkpoint.replay_start,
            frontier: self.end.epoch,
            incarnation: self.end.incarnation,
            next_version: self.end.next_version,
            next_segment_generation: self.end.next_segment_generation,
            base_epoch: checkpoint.base_epoch,
            base_crc: checkpoint.base_crc,
            free: self.segments.free_map(generation),
            ..self.superblock.clone()
        };
        let bytes = superblock.encode();
        self.device.write((generation % 2) * u64::from(superblock.geometry.unit), &bytes)?;
        self.device.flush()?;
        self.counters.bytes_written += bytes.len() as u64;
        self.counters.flushes += 1;
        self.counters.checkpoints += 1;
        self.superblock = superblock;
        self.segments.superblock_durable(generation, checkpoint.replay_start);
        #[cfg(feature = "mutants")]
        self.release_early(Mutant::SegmentReusedTooEarly, checkpoint.replay_start);
        Ok(())
    }
}

/// What became of the next key of the walk.
enum Added {
    Key(Box<[u8]>),
    NoRoom,
}
