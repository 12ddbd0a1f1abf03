//! A notification: 64 bits that stay set until somebody takes them.
//!
//! Invariant: at most one thread waits for it or is bound to it. Signals never wait and are never lost:
//! two signals of one bit before it is taken are one.

use super::thread::Thread;
use crate::memory::{Id, Object};
use crate::sync;

/// What a notification is made of.
#[derive(Default)]
pub struct Notification {
    /// Bits that are set and not taken.
    pub bits: u64,
    /// The thread that waits.
    pub waiter: Option<Id<Thread>>,
    /// The thread whose `recv` takes the bits.
    pub bound: Option<Id<Thread>>,
}

impl Object for Notification {
    const SLAB: u8 = 3;
    const NAME: &'static str = "notification";
    type Level = sync::Object;
    type Shared = ();
    fn reset(_: &()) {}
}
