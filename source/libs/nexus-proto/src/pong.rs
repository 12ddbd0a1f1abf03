//! `pong`: the smallest service there is, to copy.

use nexus_ipc::register_message;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A ping: travels in registers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ping {
    /// Any number; it comes back.
    pub number: u64,
}

/// The answer to a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Pong {
    /// The ping's number.
    pub number: u64,
    /// Pings that this process has answered, this one included.
    pub answered: u64,
}

register_message!(Ping);
register_message!(Pong);

nexus_ipc::service! {
    /// Answers pings.
    endpoint "pong", max_bytes 64, error ();
    /// Sends the number back, and how many pings were answered.
    immediate idempotent ping(Ping) -> Pong = 1;
}
