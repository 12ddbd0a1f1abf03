//! Decisions: a share for each subject.

use crate::Record;
use alloc::collections::{BTreeMap, VecDeque};

/// Subjects that have a share of their own; all others have one together.
pub const SUBJECTS_MAX: usize = 32;
/// Decisions that are kept of one subject.
pub const SHARE_RECORDS_MAX: usize = 24;

/// The decisions that are kept, by subject; those without a share of their own under `None`.
#[derive(Debug, Default)]
pub struct Decisions {
    shares: BTreeMap<Option<u64>, VecDeque<Record>>,
    bytes: usize,
}

impl Decisions {
    /// Keeps a decision; yields how many of the same share made room.
    pub fn push(&mut self, record: Record) -> u64 {
        let own = record.subject;
        let has_share = self.shares.contains_key(&own) || self.shares.len() < SUBJECTS_MAX;
        let share = self.shares.entry(own.filter(|_| has_share)).or_default();
        let oldest = if share.len() >= SHARE_RECORDS_MAX { share.pop_front() } else { None };
        self.bytes -= oldest.as_ref().map_or(0, Record::bytes);
        self.bytes += record.bytes();
        share.push_back(record);
        oldest.map_or(0, |_| 1)
    }

    /// Every decision, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.shares.values().flatten()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shares.values().map(VecDeque::len).sum()
    }

    /// The bytes of their text.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
