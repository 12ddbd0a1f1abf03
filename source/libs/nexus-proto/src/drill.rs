//! `selftest-driver`: a driver that does what it is told, also what no driver may.

use nexus_ipc::{postcard_message, register_message};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes that the device gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Bytes {
    /// How many.
    pub count: u64,
}

/// Why it was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrillError {
    /// The device did not do its part.
    Device,
}

register_message!(Bytes);
postcard_message!(DrillError, 8);

nexus_ipc::service! {
    /// Does with its device what a driver that fails would do.
    endpoint "drill", max_bytes 64, error DrillError;
    /// Has the device interrupt, and leaves the interrupt as it is.
    immediate once stall(()) -> () = 1;
    /// Answers the interrupt of [`Client::stall`]; yields how many bytes came with it.
    immediate once resume(()) -> Bytes = 2;
    /// Hangs, with the device under way: the call is never answered.
    immediate once hang(()) -> () = 3;
    /// Ends by a fault of its own, with the device under way.
    immediate once fault(()) -> () = 4;
}
