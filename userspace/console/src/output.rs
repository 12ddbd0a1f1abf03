//! Bytes on their way to the terminal.

use alloc::collections::VecDeque;

/// Bytes that may wait for the terminal. Who has more to show waits with it.
pub const OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// A queue of bytes to send. Its bound is kept by whoever asks [`Output::room`] first: a line is never cut.
#[derive(Debug, Default)]
pub struct Output {
    bytes: VecDeque<u8>,
    /// Bytes that were ever sent.
    sent: u64,
}

impl Output {
    /// How many bytes more may be queued.
    pub fn room(&self) -> usize {
        OUTPUT_BYTES_MAX.saturating_sub(self.bytes.len())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that were ever sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes that were ever queued.
    pub fn queued(&self) -> u64 {
        self.sent + self.bytes.len() as u64
    }

    /// Queues bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Lets `send` take from the front; it yields how many bytes it took.
    pub fn send_with(&mut self, send: impl FnOnce(&mut dyn Iterator<Item = u8>) -> usize) {
        let sent = send(&mut self.bytes.iter().copied());
        let sent = sent.min(self.bytes.len());
        self.bytes.drain(..sent);
        self.sent += sent as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_stays_in_order() {
        let mut output = Output::default();
        output.extend(b"abcd");
        let mut seen = Vec::new();
        output.send_with(|bytes| {
            seen.extend(bytes.take(3));
            3
        });
        output.send_with(|bytes| {
            seen.extend(bytes);
            1
        });
        assert_eq!(seen, b"abcd");
        assert_eq!((output.is_empty(), output.room()), (true, OUTPUT_BYTES_MAX));
        assert_eq!((output.sent(), output.queued()), (4, 4));
    }
}
