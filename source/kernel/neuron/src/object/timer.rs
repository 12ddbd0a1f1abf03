//! A timer: one deadline that signals a notification.

use super::notification::Notification;
use crate::memory::{Id, Object};
use crate::sync;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use nexus_abi::limits::FOREVER;

/// What a timer is made of.
pub struct Timer {
    /// Who hears of it.
    pub notification: Id<Notification>,
    /// By which bits.
    pub bits: u64,
}

/// Its place in the deadline heap; as in `ThreadShared`.
#[derive(Default)]
pub struct TimerShared {
    /// Place and hart; 0: in no heap.
    pub heap_place: AtomicU32,
    /// The deadline under which it is there.
    pub heap_key: AtomicU64,
}

impl Object for Timer {
    const SLAB: u8 = 8;
    const NAME: &'static str = "timer";
    type Level = sync::Object;
    type Shared = TimerShared;

    fn reset(shared: &TimerShared) {
        shared.heap_place.store(0, Relaxed);
        shared.heap_key.store(FOREVER, Relaxed);
    }
}
