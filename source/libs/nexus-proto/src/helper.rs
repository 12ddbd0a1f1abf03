//! `selftest-helper`: what the other end of the self-test does not do itself.

use nexus_ipc::register_message;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Any number; what it counts is the operation's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Number {
    /// The number.
    pub number: u64,
}

register_message!(Number);

nexus_ipc::service! {
    /// Helps the other end of the self-test.
    endpoint "helper", max_bytes 64, error ();
    /// Turns every bit of the lent memory over; yields 0, or the number of the kernel's error.
    immediate once invert(()) lends 1 -> Number = 1;
    /// Answers the call that is handed on: the number, with the bits of its own service id turned over.
    immediate once settle(Number) takes (Number, ()) -> () = 2;
    /// Gives its turn away so many times.
    immediate once work(Number) -> () = 3;
    /// Waits until the next `work` begins.
    deferred once begun(()) -> () = 4;
    /// Waits until the next `work` is done.
    deferred once done(()) -> () = 5;
}
