//! `soak-peer`: hands back the capability that a call brings. Both sides use the kernel's calls themselves, for
//! typed messages carry no capabilities yet.

nexus_ipc::service! {
    /// The other end of the soak.
    endpoint "soak", max_bytes 64, error ();
    /// Answers with the capability that came.
    immediate once pass(()) -> () = 1;
    /// Adds eight counts to those that it keeps, and answers with the sums.
    immediate once tell(()) -> () = 2;
}
