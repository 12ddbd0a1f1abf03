//! `bench-bell`: answers signals by signals, for the figure of notifications.

nexus_ipc::service! {
    /// Waits for the first of two notifications, which come along, and signals the second each time.
    endpoint "bell", max_bytes 64, error ();
    /// Takes both; goes on until bit 1 comes.
    immediate once ring(()) -> () = 1;
}
