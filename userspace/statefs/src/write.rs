//! Changes: staged into one group, made durable by one flush, then applied and answered.
//!
//! The commit in order: `stage` checks and copies into the group under construction; `commit` lets the
//! checkpoint add its share, `submit` picks the place, completes header and commit records, writes, flushes,
//! and only then applies the records to the index. Answers are returned after that.

use crate::apply::{Place, apply};
use crate::device::BlockDevice;
use crate::error::Error;
use crate::format::SegmentHead;
use crate::group::{GroupHeader, GroupKind, RecordHeader, RecordKind};
use crate::index::{Entry, State};
use crate::key::validate_key;
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, VALUE_BYTES_MAX};
use crate::pending::{PendingKey, record_bytes, units_alone};
use crate::quota::{Difference, quota_of};
use crate::sorted::Sorted;
use crate::store::{Mode, Store};
use alloc::vec::Vec;

/// One change of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The new value; `None` deletes.
    pub value: Option<&'a [u8]>,
    /// The version that the key must have (0 = absent); `None` for any.
    pub expect: Option<u64>,
}

/// A client's name for an operation, by which a retry is recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationId {
    /// The client, as the service knows it.
    pub client: u64,
    /// The operation; never used twice by a client for different things.
    pub operation: u64,
}

/// Changes that happen all or not at all.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The changes, each of another key.
    pub writes: &'a [Write<'a>],
    /// Makes a retry idempotent.
    pub operation: Option<OperationId>,
}

impl<D: BlockDevice> Store<D> {
    /// Adds a batch to the group under construction. Returns its place among the answers of the next
    /// [`Store::commit`]. Refused at once, the group untouched: what breaks a limit or a quota.
    pub fn stage(&mut self, batch: &Batch<'_>) -> Result<usize, Error> {
        if self.mode == Mode::NeedsReplay {
            self.recover()?;
        }
        if self.mode == Mode::ReadOnly {
            return Err(Error::ReadOnly);
        }
        if let Some(answer) = self.answered(batch.operation) {
            return Ok(self.answer(Ok(answer)));
        }
        let (body, table) = check_batch(batch)?;
        self.check_room_in_group(batch, body, table)?;
        if let Err(refusal) = self.check_conditions(batch) {
            return Ok(self.answer(Err(refusal)));
        }
        self.get_ready()?;
        self.check_segments(batch, body, table)?;
        self.reserve(batch)?;
        let mut version = 0;
        for write in batch.writes {
            version = self.end.next_version;
            self.end.next_version += 1;
            self.push_write(write, version);
        }
        if let Some(OperationId { client, operation }) = batch.operation {
            self.push_operation(client, operation, version);
            self.pending.operations.insert::<(u64, u64)>((client, operation), version);
        }
        Ok(self.answer(Ok(version)))
    }

    /// Makes the staged changes durable, by one flush, and returns their answers in the order of staging:
    /// the version of the batch's last change, or why it was refused.
    pub fn commit(&mut self) -> Vec<Result<u64, Error>> {
        let outcomes = core::mem::take(&mut self.pending.outcomes);
        if self.pending.is_empty() {
            return outcomes;
        }
        let share = self.maintenance_share();
        match self.submit_with_maintenance(share) {
            Ok(()) => outcomes,
            Err(_) => {
                self.mode = Mode::NeedsReplay;
                // A refusal too may rest on a change of this group.
                alloc::vec![Err(Error::OutcomeUnknown); outcomes.len()]
            }
        }
    }

    /// Stages and commits one batch, with what maintenance it needs before.
    pub fn apply_batch(&mut self, batch: &Batch<'_>) -> Result<u64, Error> {
        let checkpoints = self.counters.checkpoints;
        let ticket = loop {
            match self.stage(batch) {
                Err(Error::GroupFull) => drop(self.commit()),
                Err(Error::CheckpointNeeded) if self.counters.checkpoints < checkpoints + 4 => {
                    if !self.maintain()? {
                        return Err(Error::CheckpointNeeded);
                    }
                }
                other => break other?,
            }
        };
        self.commit().get(ticket).copied().unwrap_or(Err(Error::OutcomeUnknown))
    }

    /// Sets a key; returns its new version.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<u64, Error> {
        let writes = [Write { key, value: Some(value), expect: None }];
        self.apply_batch(&Batch { writes: &writes, operation: None })
    }

    /// Deletes a key that must exist.
    pub fn delete(&mut self, key: &[u8]) -> Result<u64, Error> {
        let writes = [Write { key, value: None, expect: None }];
        self.apply_batch(&Batch { writes: &writes, operation: None })
    }

    /// Proves the newest group acknowledged: after idling, and at shutdown.
    pub fn seal(&mut self) -> Result<(), Error> {
        if self.newest_kind != GroupKind::Data || !self.pending.is_empty() {
            return Ok(());
        }
        match self.mode {
            Mode::Ready => {}
            // The group that begins an incarnation proves the one before as well.
            Mode::Opened => return self.get_ready(),
            Mode::NeedsReplay | Mode::ReadOnly => return Ok(()),
        }
        if self.place_for_alone().is_none() {
            return Err(Error::CheckpointNeeded);
        }
        self.submit(GroupKind::Seal).inspect_err(|_| self.mode = Mode::NeedsReplay)
    }

    fn answer(&mut self, outcome: Result<u64, Error>) -> usize {
        self.pending.outcomes.push(outcome);
        self.pending.outcomes.len() - 1
    }

    fn answered(&self, operation: Option<OperationId>) -> Option<u64> {
        let OperationId { client, operation } = operation?;
        let durable = self.operations.answer(client, operation);
        durable.or_else(|| self.pending.operations.get(&(client, operation)).copied())
    }

    /// What the key is, in durable state and the group under construction: version, and length if it is there.
    fn known(&self, key: &[u8]) -> (u64, Option<usize>) {
        if let Some(PendingKey { version, length }) = self.pending.overlay.get(key) {
            return (if length.is_some() { *version } else { 0 }, *length);
        }
        match self.index.get(key) {
            Some(Entry { state: State::Live | State::Corrupt, version, length, .. }) => {
                (*version, Some(*length as usize))
            }
            _ => (0, None),
        }
    }

    fn check_conditions(&self, batch: &Batch<'_>) -> Result<(), Error> {
        for write in batch.writes {
            let (actual, length) = self.known(write.key);
            match write.expect {
                Some(expected) if expected != actual => return Err(Error::VersionMismatch { actual }),
                _ if write.value.is_none() && length.is_none() => return Err(Error::NotFound),
                _ => {}
            }
        }
        Ok(())
    }

    fn check_room_in_group(&self, batch: &Batch<'_>, body: usize, table: usize) -> Result<(), Error> {
        let geometry = self.superblock.geometry;
        let most = geometry.group_bytes_max() / geometry.unit_bytes();
        if units_alone(body, table, geometry.unit_bytes()) > most {
            return Err(if batch.writes.len() == 1 { Error::ValueTooLarge } else { Error::BatchTooLarge });
        }
        let units = self.pending.units_with(body, table, geometry.unit_bytes());
        if units > most { Err(Error::GroupFull) } else { Ok(()) }
    }

    /// Keeps the last free segments for those who have a right to them.
    fn check_segments(&self, batch: &Batch<'_>, body: usize, table: usize) -> Result<(), Error> {
        let geometry = self.superblock.geometry;
        let units = self.pending.units_with(body, table, geometry.unit_bytes()) as u32;
        if self.current.is_some_and(|(_, next)| next + units < geometry.segment_units)
            && self.checkpoint.is_none()
        {
            return Ok(());
        }
        let only_deletes = batch.writes.iter().all(|write| write.value.is_none());
        let reserved = batch.writes.iter().all(|write| self.has_reserve(write.key));
        let kept = self.maintenance_floor()
            + if only_deletes {
                0
            } else if reserved {
                1
            } else {
                2
            };
        if self.segments.free() <= kept || self.log_segments() >= geometry.replay_bound() {
            return Err(Error::CheckpointNeeded);
        }
        Ok(())
    }

    fn has_reserve(&self, key: &[u8]) -> bool {
        let quota = quota_of(&self.options.quotas, key).and_then(|at| self.options.quotas.get(at));
        quota.is_some_and(|quota| quota.bytes_reserved > 0)
    }

    /// Takes the batch into account in usage, all of it or nothing.
    fn reserve(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        let bounds = self.bounds();
        let mut done = Vec::new();
        for write in batch.writes {
            let change = Difference {
                key: write.key,
                old: self.known(write.key).1,
                new: write.value.map(<[u8]>::len),
            };
            if let Err(refusal) = self.usage.check(&self.options.quotas, bounds, change) {
                for Difference { key, old, new } in done {
                    self.usage.apply(&self.options.quotas, Difference { key, old: new, new: old });
                }
                return Err(refusal);
            }
            self.usage.apply(&self.options.quotas, change);
            done.push(change);
        }
        Ok(())
    }

    fn push_write(&mut self, write: &Write<'_>, version: u64) {
        let payload = write.value.unwrap_or(&[]);
        let kind = if write.value.is_some() { RecordKind::Put } else { RecordKind::Delete };
        let header = RecordHeader {
            kind,
            corrupt: false,
            key_length: write.key.len() as u16,
            value_length: payload.len() as u32,
            version,
            payload_crc: 0,
            segment: 0,
            offset: 0,
        };
        self.pending.push(header, write.key, payload);
        self.pending.client_bytes += (write.key.len() + payload.len()) as u64;
        let length = write.value.map(<[u8]>::len);
        self.pending.overlay.insert::<[u8]>(write.key.into(), PendingKey { version, length });
    }

    /// Adds the record of an answered operation.
    pub(crate) fn push_operation(&mut self, client: u64, operation: u64, version: u64) {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&client.to_le_bytes());
        key[8..].copy_from_slice(&operation.to_le_bytes());
        let header = RecordHeader {
            kind: RecordKind::Operation,
            corrupt: false,
            key_length: 16,
            value_length: 0,
            version,
            payload_crc: 0,
            segment: 0,
            offset: 0,
        };
        self.pending.push(header, &key, &[]);
    }

    /// Where a group of so many units goes: the current segment, or a free one.
    pub(crate) fn place_for(&self, units: usize) -> Option<(u32, u32, bool)> {
        let last = self.superblock.geometry.segment_units - 1;
        let fresh_for_checkpoint = self
            .checkpoint
            .as_ref()
            .is_some_and(|checkpoint| checkpoint.replay_start == self.end.next_segment_generation);
        match self.current {
            Some((head, next)) if !fresh_for_checkpoint && next + units as u32 <= last => {
                Some((head.segment, next, false))
            }
            _ => Some((self.segments.next_free()?, 1, true)),
        }
    }

    /// Writes the group under construction, flushes, and applies it.
    pub(crate) fn submit(&mut self, kind: GroupKind) -> Result<(), Error> {
        let geometry = self.superblock.geometry;
        let units = self.pending.units_with(0, 0, geometry.unit_bytes());
        let (segment, unit, fresh) = self.place_for(units).ok_or(Error::NoSpace)?;
        let head = self.head_for(segment, fresh);
        let mut header = GroupHeader {
            kind,
            salt: head.salt,
            epoch: self.end.next_epoch,
            previous_epoch: self.end.epoch,
            incarnation: self.end.incarnation,
            first_version: self.end.next_version - self.pending.overlay.len() as u64,
            superblock: self.superblock.generation,
            previous_crc: self.end.crc,
            body: 0,
            table: 0,
            records: 0,
            units: 0,
            table_crc: 0,
        };
        #[cfg(feature = "mutants")]
        self.pay_owed_flush()?;
        if fresh {
            self.write_heads(&head)?;
        }
        let bytes = self.pending.finish(&mut header, geometry.unit_bytes());
        let offset = geometry.segment_offset(segment) + u64::from(unit) * u64::from(geometry.unit);
        self.device.write(offset, bytes)?;
        self.counters.bytes_written += bytes.len() as u64;
        self.flush_group()?;
        self.current = Some((head, unit + header.units));
        self.end.epoch = header.epoch;
        self.end.next_epoch = header.epoch + 1;
        self.end.crc = header.crc();
        self.newest_kind = kind;
        self.counters.groups += 1;
        self.counters.client_bytes += self.pending.client_bytes;
        self.apply_pending(Place { segment, group_offset: unit * geometry.unit, whole: true });
        Ok(())
    }

    fn head_for(&mut self, segment: u32, fresh: bool) -> SegmentHead {
        match self.current {
            Some((head, _)) if !fresh => head,
            _ => SegmentHead {
                segment,
                generation: self.end.next_segment_generation,
                salt: self.options.entropy.next(),
                incarnation: self.end.incarnation,
                frontier: self.end.epoch,
            },
        }
    }

    /// Takes a segment and writes both copies of its head, to be flushed with its first group.
    fn write_heads(&mut self, head: &SegmentHead) -> Result<(), Error> {
        let geometry = self.superblock.geometry;
        self.segments.take(head.segment, head.generation);
        self.end.next_segment_generation = head.generation + 1;
        self.counters.segments_taken += 1;
        let bytes = head.encode(&self.superblock);
        let first = geometry.segment_offset(head.segment);
        for offset in [first, first + (geometry.segment_bytes() - geometry.unit_bytes()) as u64] {
            self.device.write(offset, &bytes)?;
            self.counters.bytes_written += bytes.len() as u64;
        }
        Ok(())
    }

    fn apply_pending(&mut self, place: Place) {
        let mut deleted = Vec::new();
        for (record, key) in self.pending.records() {
            if let Some(effect) = apply(&mut self.index, &mut self.operations, (record, key), place) {
                self.segments.remove_live(effect.old.and_then(|old| old.live_bytes(key)));
                self.segments.add_live(effect.new.live_bytes(key));
                if effect.new.state == State::Deleted {
                    deleted.push(key);
                }
            }
        }
        for key in deleted {
            // A later batch of the same group may have put it again.
            if self.index.get(key).is_some_and(|entry| entry.state == State::Deleted) {
                self.index.remove(key);
            }
        }
        self.pending.clear();
    }

    #[cfg(not(feature = "mutants"))]
    fn flush_group(&mut self) -> Result<(), Error> {
        self.counters.flushes += 1;
        Ok(self.device.flush()?)
    }
}

/// Checks what can be checked without the store; returns the bytes of body and table.
fn check_batch(batch: &Batch<'_>) -> Result<(usize, usize), Error> {
    if batch.writes.is_empty() {
        return Err(Error::BatchEmpty);
    }
    if batch.writes.len() > BATCH_RECORDS_MAX {
        return Err(Error::BatchTooManyRecords);
    }
    let (mut body, mut table, mut total) = (0, 0, 0);
    let mut keys = Sorted::default();
    for write in batch.writes {
        validate_key(write.key)?;
        let value = write.value.map_or(0, <[u8]>::len);
        if value > VALUE_BYTES_MAX {
            return Err(Error::ValueTooLarge);
        }
        if !keys.insert::<[u8]>(write.key, ()) {
            return Err(Error::DuplicateKey);
        }
        let kind = if write.value.is_some() { RecordKind::Put } else { RecordKind::Delete };
        let (more_body, more_table) = record_bytes(kind, write.key.len(), value);
        body += more_body;
        table += more_table;
        total += more_table + value;
    }
    if total > BATCH_BYTES_MAX {
        return Err(Error::BatchTooLarge);
    }
    if batch.operation.is_some() {
        table += record_bytes(RecordKind::Operation, 16, 0).1;
    }
    Ok((body, table))
}
