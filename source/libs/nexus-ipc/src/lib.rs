//! Typed clients and servers over the system calls.
//!
//! Where to start reading: [`clock`].
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod clock;

pub use clock::{Clock, Deadline};
