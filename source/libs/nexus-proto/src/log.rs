//! `logd`: the log journal.

use alloc::string::String;
use alloc::vec::Vec;
use nexus_ipc::postcard_message;
use serde::{Deserialize, Serialize};

/// Bytes of the largest request. More than a record may have, so that one which is too long is refused as that.
pub const REQUEST_BYTES_MAX: usize = 2048;
/// Bytes of a page of records.
pub const PAGE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a record in a page beside its texts, at the most.
pub const ENTRY_OVERHEAD: usize = 72;
/// The highest level: trace.
pub const LEVEL_MAX: u8 = 4;
/// Levels, by their numbers.
pub const LEVELS: [&str; 5] = ["error", "warning", "info", "debug", "trace"];

/// A record of somebody who has no ring, or to try what is refused. Who sent it, the kernel says; when, the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// From 0, error, to [`LEVEL_MAX`].
    pub level: u8,
    /// What part of its sender it is of: at most 64 bytes.
    pub scope: String,
    /// What it says: at most 256 bytes.
    pub message: String,
    /// `key=value` lines: at most 512 bytes.
    pub fields: String,
}

/// Which records are wanted: those for which all of it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Only after the record of this number; the next page goes on after [`Page::end`].
    pub after: u64,
    /// Only so many of the newest; 0: from the oldest on.
    pub last: u32,
    /// Only up to this level; [`LEVEL_MAX`]: all.
    pub level: u8,
    /// Only what this service wrote or, of decisions, was asked by.
    pub service_id: Option<u64>,
    /// Only since this time, in ticks.
    pub since: u64,
    /// Only what has this in it, at most 64 bytes, whatever the case of ASCII letters.
    pub text: String,
    /// Only decisions.
    pub audit: bool,
    /// Only decisions and errors that are kept of boots before this one; otherwise only what is of this one.
    pub earlier: bool,
}

impl Query {
    /// Everything, from the oldest on.
    pub const ALL: Query = Query {
        after: 0,
        last: 0,
        level: LEVEL_MAX,
        service_id: None,
        since: 0,
        text: String::new(),
        audit: false,
        earlier: false,
    };
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number: up by one from record to record, also over deaths of the journal and boots.
    pub id: u64,
    /// The number of the boot that it is of; 0: of this one, whose number is not known, as there is no store.
    pub boot: u64,
    /// When it was written, in ticks of that boot.
    pub ticks: u64,
    /// From 0, error, to [`LEVEL_MAX`].
    pub level: u8,
    /// Who wrote it, by the kernel's word; 0 is the kernel.
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

/// Records, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The records.
    pub entries: Vec<Entry>,
    /// The number of the last record that was looked at.
    pub end: u64,
    /// Whether more follow.
    pub has_more: bool,
}

/// What went through the journal since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Records that were ever kept.
    pub total: u64,
    /// Records that made room for newer ones, decisions apart.
    pub evicted: u64,
    /// Lines that never came: their ring was full, or was overwritten.
    pub lost: u64,
    /// Records that are kept, decisions included.
    pub kept: u64,
    /// Bytes of their text.
    pub kept_bytes: u64,
    /// Records that can be kept, decisions apart.
    pub capacity: u64,
    /// Bytes of text that these can have.
    pub capacity_bytes: u64,
    /// Decisions that were ever kept.
    pub decisions: u64,
    /// Decisions that made room for newer ones of the same share.
    pub decisions_evicted: u64,
    /// Decisions that were no because there was no slot for their record, in this boot.
    pub decisions_refused: u64,
    /// Decisions that the journals before this one in this boot had.
    pub decisions_before: u64,
    /// The number of this boot; 0: it is not known, as there is no store.
    pub boot: u64,
    /// Decisions and errors of this boot that are to be in the store and are not there yet.
    pub unwritten: u64,
    /// Those that never came there: they made room before, or a journal died with them.
    pub never_written: u64,
    /// Decisions and errors that made room in their shares, in all boots that the store knows of.
    pub kept_evicted: u64,
    /// What was found in the store and is none of the journal's, or damaged.
    pub segments_refused: u64,
    /// Requests that were refused as invalid.
    pub invalid_args: u64,
    /// Requests that were refused as too long or too many.
    pub over_limit: u64,
    /// Requests that were refused because their sender sent too much.
    pub rate_limited: u64,
}

/// Why the journal refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogError {
    /// A level that there is not, a text with control characters, a field that is none or says who somebody is.
    InvalidArgs,
    /// A text is longer than it may be, or too many follow already.
    OverLimit,
    /// Its sender sent too much within a second.
    RateLimited,
}

impl core::fmt::Display for LogError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            LogError::InvalidArgs => "that may not be asked or said",
            LogError::OverLimit => "that is longer or more than there may be",
            LogError::RateLimited => "too much within a second",
        })
    }
}

postcard_message!(Append, REQUEST_BYTES_MAX);
postcard_message!(Query, REQUEST_BYTES_MAX);
postcard_message!(Page, PAGE_BYTES_MAX);
postcard_message!(LogError, 8);
postcard_message!(Stats, 208);

nexus_ipc::service! {
    /// The log journal: what everybody wrote and what was decided, by author, level, time and text.
    endpoint "log", max_bytes REQUEST_BYTES_MAX, error LogError;
    /// Keeps a record of its caller; yields nothing.
    immediate once append(Append) -> () = 1;
    /// Yields a page of the records that are kept now.
    immediate idempotent query(Query) -> Page = 2;
    /// Tells what went through the journal.
    immediate idempotent stats(()) -> Stats = 3;
    /// As `query`, but waits until there is a record.
    deferred idempotent follow(Query) -> Page = 4;
}
