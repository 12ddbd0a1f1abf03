//! What the service of the state decides, without system calls: which right a key takes, how changes of several
//! clients share one flush, what nobody is shown, which part of the store may use how much, and when it rests.
//!
//! What it is: [`Desk`] over the engine `statefs`, [`Part`], [`quotas`]. What it is not: it knows no messages, no
//! clients and no clock (the program `statefsd` has those).
//!
//! Invariants:
//! - a change is answered after the flush that made it durable, in the order in which it was staged;
//! - what waits for a flush is bounded by [`WAITING_MAX`];
//! - a listing never shows a key of a part whose right was not asked for, not even in where the next page begins;
//! - after the seal nothing is due, so nobody is woken.
//!
//! Where to start reading: [`Desk`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod desk;
mod parts;

pub use desk::{Desk, WAITING_MAX};
pub use parts::{Part, directory, quotas, resource};
