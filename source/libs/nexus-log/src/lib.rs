//! Log rings: bounded memory that one process writes records into and another reads them from.
//!
//! What it is: the layout of a ring ([`memory`]), its writing side ([`Producer`]) and its reading side
//! ([`Consumer`]). What it is not: it maps nothing, signals nothing and renders nothing.
//!
//! Who wrote a record is known from the ring, never from the record: init creates one ring a service and
//! keeps it over restarts. Writing never blocks: a full ring drops the *newest* record and counts it.
//!
//! Invariants:
//! - neither side trusts the other: the consumer keeps its own tail, bounds the head, and copies a record
//!   out before it looks at it; the producer takes an impossible tail for a full ring;
//! - [`Written::Doorbell`] is answered only by the write that made an empty ring non-empty, and a consumer
//!   that found the ring empty after publishing its tail is always rung for the next record.
//!
//! Where to start reading: [`Producer::write`], then [`Consumer::read`].
#![cfg_attr(not(any(test, loom)), no_std)]

mod consumer;
pub mod memory;
mod producer;

pub use consumer::{Consumer, Item, Record};
pub use memory::Memory;
pub use producer::{Producer, Written};

/// Bytes of a ring as init creates it: one page of counters, one page of records.
pub const RING_BYTES: usize = 2 * 4096;
/// Bytes of text in one record; longer text is cut.
pub const TEXT_BYTES_MAX: usize = 1000;

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
