//! `storm-gale`: answers messages with buffers, capabilities and leases. Both sides use the kernel's calls themselves,
//! so that what is tried is the kernel: the numbers here are those of `selftest-soak`.

/// Bytes of the largest message: as much as one can hold.
pub const GALE_BYTES_MAX: usize = 64 * 1024;

nexus_ipc::service! {
    /// Answers messages of every size by several threads at once, while it takes back what it gave.
    endpoint "gale", max_bytes GALE_BYTES_MAX, error ();
    /// Checks the bytes and answers with as many others.
    immediate once echo(()) -> () = 1;
    /// Answers as late as it was asked to.
    immediate once late(()) -> () = 2;
    /// Is answered by two threads at once, of which one succeeds.
    immediate once race(()) -> () = 3;
    /// Checks what is lent.
    immediate once lend(()) -> () = 4;
    /// Checks the memory whose capability comes, and hands it back.
    immediate once hand(()) -> () = 5;
    /// Signals the notification whose capability comes.
    immediate once ring(()) -> () = 6;
    /// Answers with a badged copy of the endpoint, which is taken back at any time.
    immediate once open(()) -> () = 7;
    /// Checks the badge.
    immediate once badge(()) -> () = 8;
}
