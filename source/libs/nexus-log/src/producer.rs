//! The writing side.

use crate::memory::{HEAD_WORDS, Memory, Ordering, fence, text_words};
use crate::{Level, TEXT_BYTES_MAX};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is in the ring, which was empty: the consumer must be rung.
    Doorbell,
    /// It is in the ring; the consumer has been rung for an earlier one.
    Quiet,
    /// The ring was full; it was dropped and counted.
    Dropped,
}

/// The one writer of a ring. Its place is kept in the ring, so that a restarted process goes on.
pub struct Producer<'a> {
    memory: Memory<'a>,
}

impl<'a> Producer<'a> {
    /// The writer of this ring; there must be no second one at the same time.
    pub fn new(memory: Memory<'a>) -> Self {
        Producer { memory }
    }

    /// Appends a record; text beyond [`TEXT_BYTES_MAX`] is cut.
    pub fn write(&mut self, level: Level, ticks: u64, text: &[u8]) -> Written {
        let memory = &self.memory;
        let text = &text[..text.len().min(TEXT_BYTES_MAX)];
        let words = HEAD_WORDS + text_words(text.len());
        let head = memory.head.load(Ordering::Relaxed);
        // A tail that is ahead of the head makes `used` huge: an impossible consumer is a full ring.
        let used = head.wrapping_sub(memory.tail.load(Ordering::Acquire));
        if used > memory.capacity() || words > memory.capacity() - used {
            memory.dropped.store(memory.dropped.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            return Written::Dropped;
        }
        memory.word(head).store(text.len() as u32 | (level as u32) << 16, Ordering::Relaxed);
        memory.word(head.wrapping_add(1)).store(ticks as u32, Ordering::Relaxed);
        memory.word(head.wrapping_add(2)).store((ticks >> 32) as u32, Ordering::Relaxed);
        for (place, chunk) in (HEAD_WORDS..).zip(text.chunks(4)) {
            let mut bytes = [0; 4];
            bytes[..chunk.len()].copy_from_slice(chunk);
            memory.word(head.wrapping_add(place)).store(u32::from_le_bytes(bytes), Ordering::Relaxed);
        }
        memory.head.store(head.wrapping_add(words), Ordering::Release);
        // Pairs with the fence in `Consumer::read`: either it sees the new head before it sleeps, or we
        // see that it had read everything and ring.
        fence(Ordering::SeqCst);
        if memory.tail.load(Ordering::Relaxed) == head { Written::Doorbell } else { Written::Quiet }
    }
}
