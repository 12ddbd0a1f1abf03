//! `storm-gust`: answers messages in registers. Both sides use the kernel's calls themselves, so that what is tried
//! is the kernel: the numbers here are those of `selftest-soak`.

nexus_ipc::service! {
    /// Answers small messages by several threads at once.
    endpoint "gust", max_bytes 64, error ();
    /// Answers with the pattern of the caller's number.
    immediate once echo(()) -> () = 1;
    /// Answers as late as it was asked to.
    immediate once late(()) -> () = 2;
    /// Is answered by two threads at once, of which one succeeds.
    immediate once race(()) -> () = 3;
}
