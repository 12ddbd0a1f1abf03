//! The entrance of the kernel. Messages and other calls that touch few objects come in *beside* each other, each
//! hart through a door of its own that no other hart touches as a rule; everything else comes in *alone*, through
//! all doors.
//!
//! So whatever changes the structure of the system (maps, derives, tears down, gives frames back) runs when no
//! other hart is inside: nothing that it takes away can be in somebody's hands. Harts that run user code are
//! outside. Which is which, and what it costs: ADR 0008.

use crate::{AtomicU32, LockWord, Ordering, wait_resting};
use nexus_abi::limits::HARTS_MAX;

/// A hart's own door into the kernel, on a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
pub struct Door {
    word: LockWord,
    /// How often its hart found it taken.
    contended: AtomicU32,
}

/// Who is in the kernel.
pub struct Entrance {
    doors: [Door; HARTS_MAX],
    /// Harts whose doors there are. Changes only while a hart is alone.
    harts: AtomicU32,
    /// Doors that the hart that is alone took; 0: nobody is.
    taken: AtomicU32,
    /// The number that the next hart which wants to be alone draws.
    next: AtomicU32,
    /// The number whose turn it is.
    turn: AtomicU32,
}

impl Default for Entrance {
    fn default() -> Self {
        Self::new()
    }
}

/// A hart is inside, beside others; until this is dropped.
pub struct Beside<'e>(&'e LockWord);

impl Drop for Beside<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Door {
    /// Its hart comes in beside others. `None`: another is alone, or about to be.
    #[inline(always)]
    pub fn beside(&self) -> Option<Beside<'_>> {
        if self.word.try_acquire() {
            return Some(Beside(&self.word));
        }
        self.contended.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl Entrance {
    /// Nobody is inside, and nobody may come in before [`Entrance::admit`].
    pub fn new() -> Self {
        Entrance {
            doors: core::array::from_fn(|_| Door::default()),
            harts: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            next: AtomicU32::new(0),
            turn: AtomicU32::new(0),
        }
    }

    /// One more hart may come in: the one whose index is the number of those before it.
    pub fn admit(&self) {
        self.enter_alone();
        self.harts.fetch_add(1, Ordering::Relaxed);
        self.leave_alone();
    }

    /// The door of a hart, by its index.
    pub fn door(&self, hart: usize) -> &Door {
        &self.doors[hart]
    }

    /// Waits until nobody else is inside, and comes in alone.
    pub fn enter_alone(&self) {
        self.enter_alone_resting(|| {});
    }

    /// As [`Entrance::enter_alone`]; `rest` is called now and then while it waits long.
    pub fn enter_alone_resting(&self, rest: impl Fn()) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        wait_resting(|| self.turn.load(Ordering::Acquire) == number, &rest);
        let harts = self.harts.load(Ordering::Relaxed);
        for door in &self.doors[..harts as usize] {
            door.word.acquire_resting(&rest);
        }
        self.taken.store(harts, Ordering::Relaxed);
    }

    /// The hart that is alone leaves.
    pub fn leave_alone(&self) {
        let taken = self.taken.swap(0, Ordering::Relaxed);
        for door in &self.doors[..taken as usize] {
            door.word.release();
        }
        self.turn.store(self.turn.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// Whether another hart waits to be alone: asked by one that is inside, between the steps of longer work.
    pub fn is_awaited(&self) -> bool {
        let is_taken = self.taken.load(Ordering::Relaxed) != 0;
        let drawn = self.next.load(Ordering::Relaxed).wrapping_sub(self.turn.load(Ordering::Relaxed));
        drawn > is_taken.into()
    }

    /// How often a hart found its door taken.
    pub fn contended(&self) -> u64 {
        self.doors.iter().map(|door| u64::from(door.contended.load(Ordering::Relaxed))).sum()
    }
}
