//! What was typed and not yet read.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes that wait to be read; what is typed beyond is dropped and counted.
pub const INPUT_BYTES_MAX: usize = 1024;

/// A bounded queue of typed bytes.
#[derive(Debug, Default)]
pub struct Input {
    bytes: VecDeque<u8>,
    dropped: u64,
}

impl Input {
    /// Adds a byte, or counts it as dropped.
    pub fn push(&mut self, byte: u8) {
        if self.bytes.len() < INPUT_BYTES_MAX {
            self.bytes.push_back(byte);
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Copies the first bytes, at most `maximum`, without taking them.
    pub fn peek(&self, maximum: usize) -> Vec<u8> {
        self.bytes.iter().take(maximum).copied().collect()
    }

    /// Takes so many bytes away, after they were delivered.
    pub fn consume(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
    }

    /// How many bytes were dropped since this was last asked.
    pub fn take_dropped(&mut self) -> u64 {
        core::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_megabyte_of_typing_keeps_the_first_bytes_and_counts_the_rest() {
        let mut input = Input::default();
        for number in 0..1_000_000u32 {
            input.push(number as u8);
        }
        assert_eq!(input.take_dropped(), 1_000_000 - INPUT_BYTES_MAX as u64);
        assert_eq!(input.take_dropped(), 0);
        assert_eq!(input.peek(3), [0, 1, 2]);
        input.consume(2);
        assert_eq!(input.peek(1), [2]);
        input.consume(usize::MAX);
        assert!(input.is_empty());
    }
}
