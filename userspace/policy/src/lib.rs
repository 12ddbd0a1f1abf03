//! Who may do what.
//!
//! What it is: the actions ([`Action`]), the table of lines ([`Table`]) with its bytes ([`decode`], [`encode`]), the
//! decision ([`Table::decide`]), what a server of decisions keeps ([`Judge`]) and how it records them ([`Merging`]),
//! signed overlays ([`Overlay`]), and,
//! with the feature `compile`, the compiler from `recipes/policy/*.toml` ([`compile()`]).
//! What it is not: it sends no message and knows no process; who asks is told to it.
//!
//! Invariants:
//! - what no line allows is denied; nobody is allowed anything by default;
//! - at most one line of a table decides about a subject, an action and a resource: lines that overlap are
//!   refused, by the compiler with their places and by [`decode`] whoever wrote the bytes;
//! - a decision that must be recorded and cannot be is a denial;
//! - every recorded decision is in one entry that was written, or owed;
//! - an overlay is in force whole or not at all.
//!
//! Where to start reading: [`Table::decide`], then [`Judge::check`].
#![cfg_attr(not(any(test, feature = "compile")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod action;
#[cfg(feature = "compile")]
mod compile;
mod decide;
mod judge;
mod merge;
mod overlay;
mod report;
mod resource;
mod table;

pub use action::Action;
#[cfg(feature = "compile")]
pub use compile::{PolicyFile, compile, compile_overlay, key_of_file};
pub use decide::{Decision, Reason};
pub use judge::{Audit, Counts, Judge, PushError, Record, Refusal, Verdict};
pub use merge::{Entry, Merging, Sink, WINDOWS_A_SUBJECT, WINDOWS_MAX};
pub use overlay::{Overlay, OverlayError};
#[cfg(feature = "compile")]
pub use overlay::{public_key, sign};
pub use report::{explain, matrix};
pub use resource::{covers, is_resource, overlap};
#[cfg(feature = "compile")]
pub use shell_line::nearest;
pub use table::{Rule, Subject, Table, TableError, decode, encode};

/// Bytes of a resource: what a question has room for in registers.
pub const RESOURCE_BYTES_MAX: usize = 52;
/// Lines of one table.
pub const RULES_MAX: usize = 1024;
/// Subjects of one table.
pub const SUBJECTS_MAX: usize = 128;
/// Files that one table is made from.
pub const FILES_MAX: usize = 32;
/// Bytes of a subject's or a file's name.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of an encoded table.
pub const TABLE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a signed overlay.
pub const OVERLAY_BYTES_MAX: usize = 4096;
/// Times a second that a line can bound itself to at the most.
pub const RATE_MAX: u16 = 10_000;
