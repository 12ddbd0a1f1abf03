//! `consoled`: the terminal of the machine.

use nexus_ipc::{Bytes, postcard_message};
use serde::{Deserialize, Serialize};

/// Bytes of one write.
pub const WRITE_BYTES_MAX: usize = 2048;
/// Bytes that one read yields.
pub const READ_BYTES_MAX: usize = 512;
/// Bytes of the lines that `recent` yields.
pub const RECENT_BYTES_MAX: usize = 16 * 1024;

/// How many of the last log lines are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// Lines; fewer come when fewer are kept or fit.
    pub lines: u32,
}

/// Why the console refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsoleError {
    /// Somebody else waits for input, or too many writes wait for room.
    Busy,
}

postcard_message!(Recent, 8);
postcard_message!(ConsoleError, 8);

nexus_ipc::service! {
    /// The terminal: what is typed, what is shown, and the log lines that passed.
    endpoint "console", max_bytes WRITE_BYTES_MAX, error ConsoleError;
    /// Shows bytes on the terminal, as they are; answers when they are on their way.
    deferred once write(Bytes<WRITE_BYTES_MAX>) -> () = 1;
    /// Yields what was typed, waiting until something is.
    deferred once read(()) -> Bytes<READ_BYTES_MAX> = 2;
    /// Yields the last log lines, oldest first.
    immediate idempotent recent(Recent) -> Bytes<RECENT_BYTES_MAX> = 3;
}
