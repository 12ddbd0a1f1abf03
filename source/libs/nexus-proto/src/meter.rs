//! `bench-peer`: sends back what it gets, for the figures of messages.

use nexus_ipc::register_message;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Eight words: as much as travels in registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Words {
    /// Any numbers; they come back.
    pub words: [u64; 8],
}

register_message!(Words);

nexus_ipc::service! {
    /// Sends everything back, as fast as it can.
    endpoint "meter", max_bytes 64, error ();
    /// Sends the words back.
    immediate idempotent echo(Words) -> Words = 1;
}
