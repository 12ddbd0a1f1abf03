//! Locks, and the order in which they are taken, as types.
//!
//! Every kernel object has a lock of a [`Level`]. A [`Held`] is the permission to take locks of higher
//! levels only: taking one hands out a `Held` of that level and borrows the one before, so that code
//! which would take locks out of order does not compile. Two objects of one level are taken together, in
//! the order of their ids (`Kernel::lock_pair`).
//!
//! The order: structure → object → thread → backing → process → leaf. Tables come last because a message's
//! delivery, which holds endpoint and threads, puts its capabilities into the receiver's table (ADR 1).
#![allow(unsafe_code)] // it is the locks

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// A place in the lock order.
pub trait Level {}
/// A level whose locks may be held when one of level `M` is taken.
pub trait Before<M: Level>: Level {}

macro_rules! levels {
    ($($(#[$doc:meta])* $name:ident),+) => {
        $($(#[$doc])* pub enum $name {} impl Level for $name {})+
        levels!(@order $($name)+);
    };
    (@order $first:ident $($later:ident)*) => {
        $(impl Before<$later> for $first {})*
        levels!(@order $($later)*);
    };
    (@order) => {};
}

levels! {
    /// Nothing is held.
    Nothing,
    /// The one lock of everything that creates, derives, maps, revokes or tears down.
    Structure,
    /// Endpoints, notifications, devices, timers: whatever threads wait at.
    Object,
    /// Threads.
    Thread,
    /// Memory objects and mappings: what user memory is made of.
    Backing,
    /// Processes: the capability table and the account.
    Process
}

/// The permission to take locks above level `L`.
pub struct Held<'h, L: Level>(PhantomData<(&'h mut (), L)>);

impl Held<'_, Nothing> {
    /// The permission with which the kernel is entered. Only the entry from a trap, boot code and tests
    /// have a reason to call this, once each.
    pub const fn at_entry() -> Self {
        Held(PhantomData)
    }
}

impl<L: Level> Held<'_, L> {
    /// The permission that is left when a lock of level `M` is held as well.
    #[inline]
    pub fn above<M: Level>(&mut self) -> Held<'_, M>
    where
        L: Before<M>,
    {
        Held(PhantomData)
    }

    /// The permission that goes with a lock that was just taken: for the functions that take locks.
    pub(crate) const fn granted() -> Self {
        Held(PhantomData)
    }

    /// The same permission for a shorter time.
    #[inline]
    pub fn again(&mut self) -> Held<'_, L> {
        Held(PhantomData)
    }
}

/// A leaf lock with the value that it guards: nothing else is ever taken while it is held.
pub struct SpinLock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, and the flag lets one guard exist at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock.
    pub const fn new(value: T) -> Self {
        SpinLock { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Waits for the lock and takes it.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        while self.taken.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        SpinGuard { lock: self, value: PhantomData }
    }

    /// Takes the lock if it is free: for the way out of a kernel bug, which must not wait.
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        (!self.taken.swap(true, Ordering::Acquire)).then_some(SpinGuard { lock: self, value: PhantomData })
    }
}

/// The value of a taken [`SpinLock`]. It gives out references to the value, so it is `Sync` only where that is.
pub struct SpinGuard<'l, T> {
    lock: &'l SpinLock<T>,
    value: PhantomData<&'l mut T>,
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the flag is set, so this guard is the only one, and `&self` lends it for as long as the reference.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `&mut self` is the only way through it.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.taken.store(false, Ordering::Release);
    }
}
