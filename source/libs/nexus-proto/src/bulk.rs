//! `bench-bulk`: sends back or swallows what does not fit the registers, for the figures of messages.

use nexus_ipc::Bytes;

/// Bytes of the largest message: as much as one can hold.
pub const BULK_BYTES_MAX: usize = 64 * 1024;

nexus_ipc::service! {
    /// Takes large messages, as fast as it can.
    endpoint "bulk", max_bytes BULK_BYTES_MAX, error ();
    /// Sends the bytes back.
    immediate idempotent echo(Bytes<BULK_BYTES_MAX>) -> Bytes<BULK_BYTES_MAX> = 1;
    /// Answers without a byte.
    immediate idempotent take(Bytes<BULK_BYTES_MAX>) -> () = 2;
}
