//! Log rings: bounded memory that one process writes records into and another reads them from.
//!
//! What it is: the layout of a ring ([`memory`]), its writing side ([`Producer`]) and its reading side
//! ([`Consumer`]); and rings of decisions, where a slot is reserved before the decision ([`AuditProducer`],
//! [`AuditConsumer`]). What it is not: it maps nothing, signals nothing and renders nothing.
//!
//! Who wrote a record is known from the ring, never from the record: init creates one ring a service and
//! keeps it over restarts. Writing never blocks: a full ring drops the *newest* record and counts it. A log ring
//! may have two readers, the console and the journal, each with a place of its own; it is full when it is full for
//! one of them.
//!
//! Invariants:
//! - neither side trusts the other: the consumer keeps its own tail, bounds the head, and copies a record
//!   out before it looks at it; the producer takes an impossible tail for a full ring;
//! - a reader is rung only by the write that found everything read by it, and a reader that found the ring
//!   empty after publishing its tail is always rung for the next record;
//! - a critical decision is told of as durable only by the journal that made it so;
//! - what was dropped is counted, and each reader is told of it at least once, restarts included (a reader that dies between showing and releasing is told again).
//!
//! Where to start reading: [`Producer::write`], then [`Consumer::read`].
#![cfg_attr(not(any(test, loom)), no_std)]

mod audit;
mod consumer;
mod cursor;
mod kept;
pub mod memory;
mod producer;

pub use audit::{
    ACTION_BYTES_MAX, Audit, AuditConsumer, AuditItem, AuditProducer, AuditRecord, AuditSlot, Decision,
    RESOURCE_BYTES_MAX, RULE_BYTES_MAX, Several,
};
pub use consumer::{Consumer, Fields, Item, Record};
pub use cursor::Mark;
pub use kept::{AuditMark, CRITICAL, Keeping, Watch, is_critical};
pub use memory::{Memory, READERS_OFFSET, Reader};
pub use producer::{Key, Producer, Value, Written};

/// Bytes of a ring as init creates it: one page of counters, one page of records.
pub const RING_BYTES: usize = 2 * 4096;
/// Bytes of a record's scope; longer text is cut.
pub const SCOPE_BYTES_MAX: usize = 64;
/// Bytes of a record's message; longer text is cut.
pub const MESSAGE_BYTES_MAX: usize = 256;
/// Bytes of a field's key; longer text is cut.
pub const KEY_BYTES_MAX: usize = 16;
/// Words that a record's fields may take, with their keys; fields beyond are left out (512 bytes).
pub const FIELD_WORDS_MAX: u32 = 128;

/// How serious a record is. The numbers are those of the kernel's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something that must be looked at.
    Error = 0,
    /// Something was refused or is odd.
    Warning = 1,
    /// Ordinary life.
    Info = 2,
}

impl Level {
    /// The level with this number; an unknown one counts as ordinary.
    pub const fn from_number(number: u32) -> Level {
        match number {
            0 => Level::Error,
            1 => Level::Warning,
            _ => Level::Info,
        }
    }
}
