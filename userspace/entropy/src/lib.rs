//! From raw entropy to random bytes.
//!
//! What it is: the two continuous health tests of NIST SP 800-90B ([`health`]), and a [`Generator`] that
//! conditions what passed them with SHA-256 into the key of a ChaCha20 generator and replaces that key with
//! every request. What it is not: a source; bytes are fed to it.
//!
//! Invariants: no byte comes out before [`STARTUP_BYTES`] passed the tests, nor after [`REFUSE_AFTER_BYTES`]
//! without fresh entropy, nor after a failed test until the start-up test has passed anew. Whoever learns the state
//! cannot compute what came out before. Keys are wiped when they are replaced or dropped.
//!
//! Where to start reading: [`Generator`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod drbg;
mod generator;
pub mod health;

pub use generator::{
    Generator, REFUSE_AFTER_BYTES, REQUEST_BYTES_MAX, RESEED_AFTER_BYTES, Refusal, SEED_BYTES, STARTUP_BYTES,
};
pub use health::HealthFailure;
