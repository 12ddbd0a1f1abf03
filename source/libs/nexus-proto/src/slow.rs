//! `selftest-slow`: makes a call that takes long, while whoever asked for it goes on.

use crate::helper::Number;

nexus_ipc::service! {
    /// Calls the other end of the self-test.
    endpoint "slow", max_bytes 64, error ();
    /// Answers, then has the helper give its turn away so many times.
    deferred once begin(Number) -> () = 1;
}
