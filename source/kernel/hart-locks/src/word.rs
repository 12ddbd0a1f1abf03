//! The lock of one object.

use crate::{AtomicU32, Ordering, wait_resting, wait_until};

/// 0, or 1 while held.
#[derive(Default)]
pub struct LockWord(AtomicU32);

impl LockWord {
    /// Waits for the lock and takes it; yields whether another hart had it.
    #[inline]
    pub fn acquire(&self) -> bool {
        let taken = !self.try_acquire();
        if taken {
            self.wait();
        }
        taken
    }

    /// Takes the lock if it is free. A 1 written over a 1 changes nothing, and is one instruction.
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn try_acquire(&self) -> bool {
        self.0.swap(1, Ordering::Acquire) == 0
    }

    /// The same for the model checker, which takes a 1 written over a 1 for a change.
    #[cfg(loom)]
    pub fn try_acquire(&self) -> bool {
        self.0.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// As [`LockWord::acquire`], and rests now and then while it waits long.
    pub(crate) fn acquire_resting(&self, rest: impl Fn()) {
        if !self.try_acquire() {
            wait_resting(|| self.0.load(Ordering::Relaxed) == 0 && self.try_acquire(), rest);
        }
    }

    /// Looks without writing until the lock is free, so that whoever has it is not slowed down.
    #[cold]
    fn wait(&self) {
        wait_until(|| self.0.load(Ordering::Relaxed) == 0 && self.try_acquire());
    }

    /// Gives the lock back.
    #[inline]
    pub fn release(&self) {
        self.0.store(0, Ordering::Release);
    }
}
