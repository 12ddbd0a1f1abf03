//! What one hart puts there for exactly one other to take.

use crate::{AtomicU64, Ordering};

/// A numbered thing that waits to be taken, or nothing. Who puts it there gives up with it all that goes along;
/// whoever takes it has that alone.
#[derive(Default)]
pub struct Claim(AtomicU64);

impl Claim {
    /// Puts a thing there. Its number is not 0, and nothing is there.
    #[inline(always)]
    pub fn put(&self, number: u64) {
        self.0.store(number, Ordering::Release);
    }

    /// Takes the thing of this number; yields whether it was there.
    #[inline(always)]
    pub fn take(&self, number: u64) -> bool {
        self.0.compare_exchange(number, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Removes whatever is there. The hart is alone, so nobody takes it meanwhile.
    #[inline]
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The number of what is there; 0: nothing.
    pub fn number(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
