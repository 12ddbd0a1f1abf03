//! Power cuts from outside: a writer in a process of its own works on a store through the block server, the power
//! goes, and the disk image is compared with what the writer was told.
//!
//! ```text
//!  writer ── NBD ──► block server ── volatile cache ──► image ◄── nx statefs, reader in Python
//!    └─ what was tried, what was acknowledged (a pipe) ──► round.rs ── compares
//! ```
//! In `round.rs` the writer runs the engine itself, without driver and service; in `boots.rs` it is a program of the
//! system, in QEMU, with both. Start at `round.rs` (one life of the machine), then `writer.rs`.
#![forbid(unsafe_code)]

mod boots;
mod look;
mod round;
pub mod writer;

pub use boots::{Boots, Fault, Life};
pub use round::{Machine, Mutant, Round};
