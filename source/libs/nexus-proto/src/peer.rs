//! `selftest-peer`: the other end of the system's self-test.

use crate::helper::Number;
use nexus_ipc::{Bytes, register_message};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the largest echo: as much as one message can hold.
pub const ECHO_BYTES_MAX: usize = 64 * 1024;

/// Who the kernel says that the caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Identity {
    /// The caller's service id.
    pub service_id: u64,
    /// The caller's process.
    pub process_id: u64,
    /// How often the answering service was started in this boot.
    pub generation: u64,
}

register_message!(Identity);

nexus_ipc::service! {
    /// Does for the self-test what a well-behaved service would not.
    endpoint "peer", max_bytes ECHO_BYTES_MAX, error ();
    /// Sends the same bytes back.
    immediate idempotent echo(Bytes<ECHO_BYTES_MAX>) -> Bytes<ECHO_BYTES_MAX> = 1;
    /// Tells who called, and how often this service was started.
    immediate idempotent whoami(()) -> Identity = 2;
    /// Panics with the call open.
    immediate once crash(()) -> () = 3;
    /// Keeps the call open until the next one of its kind.
    deferred once hold(()) -> () = 4;
    /// Answers, but the recipe lets nobody ask for it.
    immediate idempotent forbidden(()) -> () = 5;
    /// Turns every bit of the lent memory over; yields 0, or the number of the kernel's error.
    immediate once invert(()) lends 1 -> Number = 6;
    /// Lends so many bytes in the middle of the lent memory on, for the helper to turn their bits over.
    immediate once delegate(Number) lends 1 -> Number = 7;
    /// Keeps the call and what it lends until [`Client::recall`].
    deferred once keep(()) lends 1 -> () = 8;
    /// Reads what the kept call lends; yields 0, or the number of the kernel's error.
    immediate once recall(()) -> Number = 9;
    /// Hands the call on to the helper, which answers it.
    deferred once forward(Number) -> Number = 10;
    /// Has the helper give its turn away so many times.
    immediate once work(Number) -> () = 11;
    /// Asks for a signature of the device in its own name; yields 1 if it is denied, 0 if it is given.
    immediate idempotent sign(()) -> Number = 12;
}
