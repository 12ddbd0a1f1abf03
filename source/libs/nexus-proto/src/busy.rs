//! `selftest-busy`: has always something to do, once it was asked to.

use crate::helper::Number;

nexus_ipc::service! {
    /// Counts its turns.
    endpoint "busy", max_bytes 64, error ();
    /// Begins to count turns, each of which it gives away at once.
    deferred once start(()) -> () = 1;
    /// Ends it; yields how many there were.
    immediate once stop(()) -> Number = 2;
}
