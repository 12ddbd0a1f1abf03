//! What was typed and not yet read.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes that wait to be read; what is typed beyond stays in the device.
pub const INPUT_BYTES_MAX: usize = 1024;

/// A bounded queue of typed bytes.
#[derive(Debug, Default)]
pub struct Input {
    bytes: VecDeque<u8>,
}

impl Input {
    /// For how many more bytes there is room.
    pub fn room(&self) -> usize {
        INPUT_BYTES_MAX.saturating_sub(self.bytes.len())
    }

    /// Adds a byte. Whoever does asks for [`room`](Self::room) before: without it the byte is gone.
    pub fn push(&mut self, byte: u8) {
        if self.room() > 0 {
            self.bytes.push_back(byte);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_room_first_loses_nothing_of_a_megabyte_of_typing() {
        let typed: Vec<u8> = (0..1_000_000u32).map(|number| number as u8).collect();
        let (mut device, mut input, mut read) = (typed.iter().copied(), Input::default(), Vec::new());
        while read.len() < typed.len() {
            device.by_ref().take(input.room()).for_each(|byte| input.push(byte));
            read.extend(input.peek(700));
            input.consume(700);
        }
        assert!(read == typed && input.is_empty());
    }

    #[test]
    fn without_room_nothing_grows() {
        let mut input = Input::default();
        (0..2 * INPUT_BYTES_MAX).for_each(|number| input.push(number as u8));
        assert_eq!((input.room(), input.peek(usize::MAX).len()), (0, INPUT_BYTES_MAX));
        assert_eq!(input.peek(3), [0, 1, 2]);
        input.consume(2);
        assert_eq!((input.room(), input.peek(1)), (2, vec![2]));
        input.consume(usize::MAX);
        assert!(input.is_empty());
    }
}
