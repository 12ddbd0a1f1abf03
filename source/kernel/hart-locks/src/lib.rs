//! What harts exclude each other with inside the kernel: the lock word of one object ([`LockWord`]), what one hart
//! hands to exactly one other ([`Claim`]), and the entrance of the whole kernel ([`Entrance`]).
//!
//! What it is not: it knows no object and guards no value; who takes a lock knows what it is for.
//!
//! Invariants:
//! - a lock word is held by one hart at a time; what is put into a claim is taken by one;
//! - while a hart is alone, no other hart is inside; harts that are inside beside each other take the locks of
//!   the objects that they touch;
//! - who waits to be alone gets in before whoever asked later.
//!
//! Every ordering of these is tried by a model checker (`tests/interleavings.rs`, built with `--cfg loom`).
//!
//! Where to start reading: [`Door::beside`], [`Entrance::enter_alone`].
#![cfg_attr(not(loom), no_std)]
#![forbid(unsafe_code)]

#[cfg(all(feature = "host", not(loom)))]
extern crate std;

mod claim;
mod entrance;
mod word;

pub use claim::Claim;
pub use entrance::{Beside, Door, Entrance};
pub use word::LockWord;

#[cfg(loom)]
use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(not(any(loom, feature = "host")))]
use core::hint::spin_loop;

// Harts that are threads of a computer may be more than it has processors.
#[cfg(all(feature = "host", not(loom)))]
use std::thread::yield_now as spin_loop;

/// Looks at a lock after which it must have been released: longer means a kernel bug.
const PATIENCE: u64 = 1 << 36;
/// More looks than whoever is inside needs to come out, if it runs at all: on an emulated machine with fewer processors
/// than harts it may not, and then the one that waits is in its way.
const LOOKS_BEFORE_A_REST: u64 = 1 << 13;

/// Looks at something until it holds.
fn wait_until(holds: impl Fn() -> bool) {
    wait_resting(holds, || {});
}

/// Looks at something until it holds, and rests after each [`LOOKS_BEFORE_A_REST`] looks.
fn wait_resting(holds: impl Fn() -> bool, rest: impl Fn()) {
    let mut looks = 0u64;
    while !holds() {
        spin_loop();
        looks += 1;
        if looks.is_multiple_of(LOOKS_BEFORE_A_REST) {
            rest();
        }
        assert!(looks < PATIENCE, "a lock was never released");
    }
}
