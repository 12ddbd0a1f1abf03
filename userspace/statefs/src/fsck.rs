//! Checking a store from end to end, accepting damage, and showing the groups of its log.

use crate::damage::{Damage, DamageLog};
use crate::device::BlockDevice;
use crate::error::Error;
use crate::index::State;
use crate::read::check;
use crate::replay::read_superblock;
use crate::scan::{SegmentReader, log_heads, segment_head, segment_heads};
use crate::store::{Mode, Store};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// What a key answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Its value is damaged.
    Corrupt,
    /// A lost group may have changed it.
    Uncertain,
}

/// A key that does not answer its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKey {
    /// The key.
    pub key: Box<[u8]>,
    /// Why.
    pub state: KeyState,
}

/// The findings of a check.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Keys whose value was read and verified.
    pub keys_good: u64,
    /// Keys that do not answer their value.
    pub keys_bad: Vec<FoundKey>,
    /// Segment heads of which one copy is lost.
    pub heads_damaged: Vec<u32>,
    /// Absence is not certain: groups are missing.
    pub hole: bool,
}

/// A group of the log, for `dump`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSummary {
    /// Segment, and first unit in it.
    pub place: (u32, u32),
    /// Units.
    pub units: u32,
    /// Epoch.
    pub epoch: u64,
    /// Epoch before it.
    pub previous_epoch: u64,
    /// Incarnation.
    pub incarnation: u64,
    /// 1 data, 2 seal, 3 open.
    pub kind: u32,
    /// Records.
    pub records: u32,
    /// Everything verifies.
    pub whole: bool,
    /// Header and both commit records are there.
    pub all_copies: bool,
}

impl<D: BlockDevice> Store<D> {
    /// Reads and verifies every value and both heads of every segment in use; changes nothing on the device.
    /// `progress` is told keys done and keys in all.
    pub fn check_all(&mut self, progress: &mut dyn FnMut(u64, u64)) -> CheckReport {
        let mut report = CheckReport { hole: self.hole, ..CheckReport::default() };
        let keys: Vec<Box<[u8]>> = self.index.iter().map(|(key, _)| key.into()).collect();
        let mut value = Vec::new();
        for (done, key) in keys.iter().enumerate() {
            match self.get_into(key, &mut value) {
                Ok(_) => report.keys_good += 1,
                Err(Error::Corrupt) => {
                    report.keys_bad.push(FoundKey { key: key.clone(), state: KeyState::Corrupt })
                }
                Err(Error::Uncertain) => {
                    report.keys_bad.push(FoundKey { key: key.clone(), state: KeyState::Uncertain });
                }
                Err(_) => {}
            }
            progress(done as u64 + 1, keys.len() as u64);
        }
        let used: Vec<u32> = self
            .segments
            .iter()
            .filter(|(_, info)| info.generation >= self.superblock.replay_start || info.live > 0)
            .map(|(segment, _)| segment)
            .collect();
        for segment in used {
            let copies = [0, 1].map(|copy| segment_head(&mut self.device, &self.superblock, segment, copy));
            if copies[0].is_some() != copies[1].is_some() {
                report.heads_damaged.push(segment);
            }
        }
        report
    }

    /// Accepts the damage: uncertain keys keep the last value that replay found, corrupt keys are removed.
    /// Both are returned. A new incarnation and a checkpoint make it permanent.
    pub fn accept_damage(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<CheckReport, Error> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        let report = self.check_all(progress);
        match self.accept() {
            Ok(()) => Ok(report),
            Err(error) => {
                // Nothing is accepted that is not durable.
                self.index.mark_uncertain();
                self.hole = true;
                self.mode = Mode::NeedsReplay;
                self.recover()?;
                Err(error)
            }
        }
    }

    fn accept(&mut self) -> Result<(), Error> {
        let mut corrupt = Vec::new();
        self.index.values_mut().for_each(|entry| entry.uncertain = false);
        for (key, entry) in self.index.iter() {
            if entry.state != State::Deleted && check(entry).is_err() {
                corrupt.push(Box::<[u8]>::from(key));
            }
        }
        self.index.drop_deleted();
        self.hole = false;
        if self.mode == Mode::ReadOnly {
            self.current = None;
            self.begin_incarnation()?;
        }
        for key in corrupt {
            self.delete(&key)?;
        }
        self.checkpoint_now()
    }
}

/// Calls `show` with each group found in the log of a device, in order, dropped and damaged ones included.
pub(crate) fn groups(device: &mut dyn BlockDevice, show: &mut dyn FnMut(GroupSummary)) -> Result<(), Error> {
    let mut damage = DamageLog::default();
    let superblock = read_superblock(device, &mut damage)?;
    let (heads, _) = segment_heads(device, &superblock, &mut damage);
    let mut reader = SegmentReader::new(device, &superblock);
    for head in log_heads(&heads, &superblock) {
        reader.enter(&head);
        let mut unit = 1;
        while let Some(group) = reader.next_group(unit) {
            unit = group.end();
            show(GroupSummary {
                place: (group.segment, group.start),
                units: group.header.units,
                epoch: group.header.epoch,
                previous_epoch: group.header.previous_epoch,
                incarnation: group.header.incarnation,
                kind: group.header.kind as u32,
                records: group.header.records,
                whole: group.whole,
                all_copies: group.all_copies,
            });
        }
    }
    Ok(())
}

impl<D: BlockDevice> Store<D> {
    /// Shows each group found in the log, in order, dropped and damaged ones included.
    pub fn dump_groups(&mut self, show: &mut dyn FnMut(GroupSummary)) -> Result<(), Error> {
        groups(&mut self.device, show)
    }

    /// A line for each finding, as the service prints it.
    pub fn damage_lines(&self) -> impl Iterator<Item = alloc::string::String> + '_ {
        self.damage.reports().iter().map(|damage| match damage {
            Damage::TailDropped { epoch, bytes } => {
                alloc::format!("tail dropped: epoch {epoch}, {bytes} bytes")
            }
            Damage::GroupCorrupt { .. } | Damage::PayloadCorrupt { .. } => {
                alloc::format!("crc mismatch: {damage:?}")
            }
            other => alloc::format!("damage: {other:?}"),
        })
    }
}
