//! `rngd`: the one source of random bytes.

use nexus_ipc::{Bytes, postcard_message, register_message};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes that one request may ask for.
pub const ENTROPY_BYTES_MAX: usize = 256;

/// How many random bytes are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    /// From 1 to [`ENTROPY_BYTES_MAX`].
    pub bytes: u64,
}

/// Why there are no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RngError {
    /// The request is for more than [`ENTROPY_BYTES_MAX`] bytes.
    Oversized,
    /// The request is for no bytes.
    Empty,
    /// There is no entropy that passed its tests, or too long ago.
    Unavailable,
    /// The policy does not let the caller draw bytes.
    Denied,
    /// The policy gives no answer, and that is no.
    NoPolicy,
}

register_message!(Request);
postcard_message!(RngError, 8);

nexus_ipc::service! {
    /// Random bytes for keys, nonces and everything that nobody may guess.
    endpoint "rng", max_bytes 64, error RngError;
    /// Yields so many random bytes, which nobody else gets.
    immediate idempotent entropy(Request) -> Bytes<ENTROPY_BYTES_MAX> = 1;
}
