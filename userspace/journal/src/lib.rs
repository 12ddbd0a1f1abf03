//! The log journal: bounded records, questions about them, and who may add how many.
//!
//! What it is: [`Journal`] keeps records and answers [`Question`]s; [`Admission`] decides about what is sent to it;
//! [`kernel`] reads the kernel's own decisions. What it is not: it knows no ring, no message and no clock; times are
//! ticks that it is told, service ids are those of who it is told about.
//!
//! Invariants:
//! - records and their bytes are bounded; the oldest make room, and are counted;
//! - decisions and errors are kept apart, each subject's and each author's in a share of its own, so nobody evicts
//!   another's; what goes is counted;
//! - numbers of records go up by one, and go on where the last journal ended;
//! - a share that was written to the store comes back whole or is refused.
//!
//! Where to start reading: [`Journal::push`], then [`Journal::answer`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod admission;
pub mod kernel;
mod question;
pub mod segment;
mod shares;
mod text;

pub use admission::{
    Admission, FIELDS_BYTES_MAX, LEVEL_MAX, MESSAGE_BYTES_MAX, RATE_MAX, Reject, SCOPE_BYTES_MAX,
    SENDERS_MAX, Sent,
};
pub use question::{QUESTION_TEXT_BYTES_MAX, Question};
pub use segment::{Segment, SegmentError};
pub use shares::{Owner, PLACES_MAX, SHARE_ERRORS_MAX, SHARE_RECORDS_MAX, SUBJECTS_MAX};
pub use text::{clean, fields};

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use shares::Shares;

/// Records that are kept, decisions and errors apart.
pub const RECORDS_MAX: usize = 768;
/// Bytes of text that they may have together.
pub const BYTES_MAX: usize = 64 * 1024;

/// One record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number.
    pub id: u64,
    /// The number of the boot that it is of; 0: of this one, whose number is not known yet.
    pub boot: u64,
    /// When it was written, in ticks, by its author's word.
    pub ticks: u64,
    /// How serious it is: 0 error, 1 warning, 2 info, 3 debug, 4 trace.
    pub level: u8,
    /// Who wrote it, by the ring that it came through; 0 is the kernel.
    pub service_id: u64,
    /// For a decision, who asked.
    pub subject: Option<u64>,
    /// What part of its author it is of.
    pub scope: String,
    /// What it says.
    pub message: String,
    /// `key=value` lines, sorted.
    pub fields: String,
}

impl Record {
    fn bytes(&self) -> usize {
        self.scope.len() + self.message.len() + self.fields.len()
    }

    /// Whether both tell of the same: of all but their numbers.
    fn is_of_the_same(&self, other: &Record) -> bool {
        let numbers =
            |record: &Record| (record.boot, record.ticks, record.level, record.service_id, record.subject);
        numbers(self) == numbers(other)
            && (&self.scope, &self.message, &self.fields) == (&other.scope, &other.message, &other.fields)
    }
}

/// What went through the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Records that were ever kept, decisions included.
    pub total: u64,
    /// Records that made room.
    pub evicted: u64,
    /// Lines that a full ring dropped, or an overwritten one.
    pub lost: u64,
    /// Decisions that were ever kept.
    pub decisions: u64,
    /// Decisions that made room.
    pub decisions_evicted: u64,
    /// Decisions that are no because there was no slot for them.
    pub refused: u64,
    /// Decisions that the journals of this boot before this one had.
    pub before: u64,
    /// Decisions and errors of this boot that were to be in the store and never came there: they made room before, or
    /// a journal died with them.
    pub never_written: u64,
    /// Segments of the store that were refused.
    pub segments_refused: u64,
}

/// What the journals of this boot before this one left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Decisions that they had.
    pub decisions: u64,
    /// The number of this boot; 0: none of them knew it.
    pub boot: u64,
    /// The last number that they gave.
    pub last: u64,
    /// Records that were to be in the store and are not.
    pub unwritten: u64,
}

/// What was in the store.
#[derive(Debug, Default)]
pub struct Stored {
    /// The places that have a segment, a bit each.
    pub index: u128,
    /// Whether that was refused, so that it is any place that may have one.
    pub is_index_lost: bool,
    /// The segments that were read, each with its place.
    pub segments: Vec<(usize, Segment)>,
    /// How many were refused.
    pub refused: u64,
}

/// Segments that are written together.
#[derive(Debug)]
pub struct Batch {
    /// Each with its place and the last number in it.
    parts: Vec<(usize, u64, Vec<u8>)>,
    /// The places of all segments, and that as bytes where it is to be written too.
    index: (u128, Option<Vec<u8>>),
}

impl Batch {
    /// Places and bytes.
    pub fn segments(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.parts.iter().map(|(place, _, bytes)| (*place, bytes.as_slice()))
    }

    /// The bytes of the index, where they change.
    pub fn index(&self) -> Option<&[u8]> {
        self.index.1.as_deref()
    }
}

/// Where a record is that is to be in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// There.
    Stored,
    /// Not there yet.
    Waiting,
    /// It made room.
    Gone,
}

/// The journal.
#[derive(Debug, Default)]
pub struct Journal {
    own_id: u64,
    /// The number of this boot; 0: not known.
    boot: u64,
    /// The last number that was given.
    last: u64,
    records: VecDeque<Record>,
    bytes: usize,
    shares: Shares,
    /// The places that have a segment in the store.
    index: u128,
    /// Whether the store has no index that says so.
    is_index_lost: bool,
    figures: Figures,
}

impl Journal {
    /// An empty journal, of the service `own_id`, after others. It takes the memory of its places now: what it may
    /// need is there or the program does not start, and it is not found missing when most is written.
    pub fn new(own_id: u64, before: Before) -> Self {
        let figures =
            Figures { before: before.decisions, never_written: before.unwritten, ..Figures::default() };
        let (boot, last) = (before.boot, before.last);
        let records = VecDeque::with_capacity(RECORDS_MAX);
        Journal { own_id, boot, last, records, figures, ..Journal::default() }
    }

    /// Keeps a record; its `id` and boot are given here, and the `id` yielded.
    pub fn push(&mut self, mut record: Record) -> u64 {
        self.figures.total += 1;
        self.last += 1;
        (record.id, record.boot) = (self.last, self.boot);
        if let Some(owner) = Owner::of(&record) {
            let is_decision = record.subject.is_some();
            let made_room = self.keep(owner, record);
            if is_decision {
                self.figures.decisions += 1;
                self.figures.decisions_evicted += made_room;
            } else {
                self.figures.evicted += made_room;
            }
            return self.last;
        }
        self.bytes += record.bytes();
        // Room first: a queue that is never longer than its bound does not grow beyond it either.
        while self.records.len() >= RECORDS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.figures.evicted += 1;
        }
        self.records.push_back(record);
        self.last
    }

    /// Into its share; yields how many made room. What is of the journal itself, or about it, is written along with
    /// others and never for its own sake: otherwise a store that refuses would be asked without end.
    fn keep(&mut self, owner: Owner, record: Record) -> u64 {
        let is_wanted = record.service_id != self.own_id && record.subject != Some(self.own_id);
        let made_room = self.shares.push(owner, record, is_wanted);
        self.figures.never_written += made_room.unwritten;
        made_room.records
    }

    /// Takes over what was in the store: what came since then is numbered behind it. To be called once, before the
    /// first [`Journal::batch`].
    pub fn restore(&mut self, stored: Stored) {
        self.figures.segments_refused = stored.refused + u64::from(stored.is_index_lost);
        (self.index, self.is_index_lost) = (stored.index, stored.is_index_lost);
        let all = || stored.segments.iter().map(|(_, segment)| segment);
        let (last_boot, end) =
            all().fold((0, 0), |(boot, end), segment| (segment.boot.max(boot), segment.end.max(end)));
        // A journal of this boot that knew its number went on from what was there before.
        let shift = if self.boot == 0 { end } else { 0 };
        self.boot = if self.boot == 0 { last_boot + 1 } else { self.boot };
        self.last += shift;
        for record in &mut self.records {
            (record.id, record.boot) = (record.id + shift, self.boot);
        }
        let young = core::mem::take(&mut self.shares);
        for (place, segment) in stored.segments {
            let Segment { owner, records, made_room, .. } = segment;
            if !self.shares.restore(place, owner, records, made_room) {
                self.figures.segments_refused += 1;
            }
        }
        let mut young: Vec<Record> = young.iter().cloned().collect();
        young.sort_unstable_by_key(|record| record.id);
        for mut record in young {
            (record.id, record.boot) = (record.id + shift, self.boot);
            // The kernel's ring is read from its beginning by each journal, and what is critical stays in its ring.
            let is_known = self.shares.iter().any(|known| known.is_of_the_same(&record));
            if let Some(owner) = Owner::of(&record).filter(|_| !is_known) {
                self.keep(owner, record);
            }
        }
    }

    /// Whether something that came behind this number is to be written.
    pub fn wants_writing(&self, behind: u64) -> bool {
        self.shares.want_writing(behind)
    }

    /// Records that are to be in the store and are not there yet.
    pub fn unwritten(&self) -> u64 {
        self.shares.unwritten()
    }

    /// Records of shares that made room, in all boots.
    pub fn made_room(&self) -> u64 {
        self.shares.made_room()
    }

    /// The segments to write next, of at most so many bytes together, which must be enough for one; `None`: all is
    /// written.
    pub fn batch(&self, bytes_max: usize) -> Option<Batch> {
        let mut room = bytes_max;
        let mut parts = Vec::new();
        for place in self.shares.unwritten_places() {
            let Some(share) = self.shares.at(place) else { continue };
            let Some(newest) = share.records.back() else { continue };
            let bytes = segment::encode(share, self.boot, self.last);
            let Some(left) = room.checked_sub(bytes.len()) else { break };
            room = left;
            parts.push((place, newest.id, bytes));
        }
        let index = parts.iter().fold(self.index, |index, (place, ..)| index | 1 << place);
        let changed = (index != self.index || self.is_index_lost).then(|| segment::encode_index(index));
        (!parts.is_empty()).then_some(Batch { parts, index: (index, changed) })
    }

    /// These segments are in the store.
    pub fn written(&mut self, batch: &Batch) {
        for (place, until, _) in &batch.parts {
            self.shares.set_written(*place, *until);
        }
        (self.index, self.is_index_lost) = (batch.index.0, false);
    }

    /// Where a decision or error is.
    pub fn whereabouts(&self, id: u64) -> Whereabouts {
        let holds = |share: &&shares::Share| share.records.iter().any(|record| record.id == id);
        match self.shares.places().map(|(_, share)| share).find(holds) {
            Some(share) if share.written >= id => Whereabouts::Stored,
            Some(_) => Whereabouts::Waiting,
            None => Whereabouts::Gone,
        }
    }

    /// The number of this boot; 0: not known.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// The last number that was given.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Counts lines that nobody has.
    pub fn count_lost(&mut self, lines: u64) {
        self.figures.lost = self.figures.lost.saturating_add(lines);
    }

    /// Counts decisions for which there was no slot.
    pub fn count_refused(&mut self, decisions: u64) {
        self.figures.refused = self.figures.refused.saturating_add(decisions);
    }

    /// Counts decisions that records tell of beside their first.
    pub fn count_merged(&mut self, decisions: u64) {
        self.figures.decisions = self.figures.decisions.saturating_add(decisions);
    }

    /// What went through it.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Records that are kept, decisions included, and the bytes of their text.
    pub fn kept(&self) -> (usize, usize) {
        (self.records.len() + self.shares.len(), self.bytes + self.shares.bytes())
    }

    /// Records that answer a question, oldest first, of at most so many bytes together (a record counts its text
    /// and `overhead`); and whether there are more behind them.
    pub fn answer(&self, question: &Question<'_>, bytes_max: usize, overhead: usize) -> (Vec<&Record>, bool) {
        let is_wanted =
            |record: &&Record| (record.boot != self.boot) == question.earlier && question.asks_for(record);
        let mut found: Vec<&Record> = match question.audit || question.earlier {
            true => Vec::new(),
            false => self.records.iter().filter(is_wanted).collect(),
        };
        found.extend(self.shares.iter().filter(is_wanted));
        found.sort_unstable_by_key(|record| record.id);
        let mut room = bytes_max;
        let mut fits = |record: &&&Record| {
            let left = room.checked_sub(record.bytes() + overhead);
            room = left.unwrap_or(0);
            left.is_some()
        };
        if question.last > 0 {
            let count = found.iter().rev().take(question.last).take_while(&mut fits).count();
            return (found.split_off(found.len() - count), false);
        }
        let count = found.iter().take_while(&mut fits).count();
        let has_more = count < found.len();
        found.truncate(count);
        (found, has_more)
    }
}
