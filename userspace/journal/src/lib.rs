//! The log journal: bounded records, questions about them, and who may add how many.
//!
//! What it is: [`Journal`] keeps records and answers [`Question`]s; [`Admission`] decides about what is sent to it;
//! [`kernel`] reads the kernel's own decisions. What it is not: it knows no ring, no message and no clock; times are
//! ticks that it is told, service ids are those of who it is told about.
//!
//! Invariants:
//! - records and their bytes are bounded; the oldest make room, and are counted;
//! - decisions are kept apart, each subject's in a share of its own, so nobody evicts another's; what goes is counted;
//! - numbers of records go up by one and are never given twice.
//!
//! Where to start reading: [`Journal::push`], then [`Journal::answer`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod admission;
mod decisions;
pub mod kernel;
mod question;
mod text;

pub use admission::{
    Admission, FIELDS_BYTES_MAX, LEVEL_MAX, MESSAGE_BYTES_MAX, RATE_MAX, Reject, SCOPE_BYTES_MAX,
    SENDERS_MAX, Sent,
};
pub use decisions::{SHARE_RECORDS_MAX, SUBJECTS_MAX};
pub use question::{QUESTION_TEXT_BYTES_MAX, Question};
pub use text::{clean, fields};

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use decisions::Decisions;

/// Records that are kept, decisions apart.
pub const RECORDS_MAX: usize = 768;
/// Bytes of text that they may have together.
pub const BYTES_MAX: usize = 64 * 1024;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub id: u64,
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
}

/// The journal.
#[derive(Debug, Default)]
pub struct Journal {
    records: VecDeque<Record>,
    bytes: usize,
    decisions: Decisions,
    figures: Figures,
}

impl Journal {
    /// An empty journal, after others that had so many decisions. It takes the memory of its places now: what it may
    /// need is there or the program does not start, and it is not found missing when most is written.
    pub fn new(before: u64) -> Self {
        let figures = Figures { before, ..Figures::default() };
        Journal { records: VecDeque::with_capacity(RECORDS_MAX), figures, ..Journal::default() }
    }

    /// Keeps a record; its `id` is given here, and yielded.
    pub fn push(&mut self, mut record: Record) -> u64 {
        self.figures.total += 1;
        record.id = self.figures.total;
        if record.subject.is_some() {
            self.figures.decisions += 1;
            self.figures.decisions_evicted += self.decisions.push(record);
            return self.figures.total;
        }
        self.bytes += record.bytes();
        // Room first: a queue that is never longer than its bound does not grow beyond it either.
        while self.records.len() >= RECORDS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.figures.evicted += 1;
        }
        self.records.push_back(record);
        self.figures.total
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
        (self.records.len() + self.decisions.len(), self.bytes + self.decisions.bytes())
    }

    /// Records that answer a question, oldest first, of at most so many bytes together (a record counts its text
    /// and `overhead`); and whether there are more behind them.
    pub fn answer(&self, question: &Question<'_>, bytes_max: usize, overhead: usize) -> (Vec<&Record>, bool) {
        let mut found: Vec<&Record> = match question.audit {
            true => Vec::new(),
            false => self.records.iter().filter(|record| question.asks_for(record)).collect(),
        };
        found.extend(self.decisions.iter().filter(|record| question.asks_for(record)));
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
