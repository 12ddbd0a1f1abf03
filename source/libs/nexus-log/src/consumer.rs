//! The reading side.

use crate::memory::{HEAD_WORDS, Memory, Ordering, fence, text_words};
use crate::{Level, TEXT_BYTES_MAX};

/// One record, copied out of the ring. Its text is whatever the producer wrote: escape before printing.
pub struct Record {
    /// How serious it says it is.
    pub level: Level,
    /// The clock when it was written, in ticks, by the producer's word.
    pub ticks: u64,
    text: [u8; TEXT_BYTES_MAX],
    text_bytes: usize,
}

impl Record {
    /// The text, not necessarily UTF-8.
    pub fn text(&self) -> &[u8] {
        &self.text[..self.text_bytes]
    }
}

/// What [`Consumer::read`] found.
// There is no heap here, and an item lives on the reader's stack for one turn of its loop.
#[allow(clippy::large_enum_variant)]
pub enum Item {
    /// A record.
    Record(Record),
    /// So many records were dropped because the ring was full.
    Lost(u32),
    /// The producer broke the ring; everything unread in it was given up.
    Broken,
}

/// The one reader of a ring.
pub struct Consumer<'a> {
    memory: Memory<'a>,
    tail: u32,
    dropped_seen: u32,
}

impl<'a> Consumer<'a> {
    /// The reader of this ring; it goes on where the reader before it stopped.
    pub fn new(memory: Memory<'a>) -> Self {
        let tail = memory.tail.load(Ordering::Relaxed);
        let dropped_seen = memory.dropped.load(Ordering::Relaxed);
        Consumer { memory, tail, dropped_seen }
    }

    /// Takes the oldest record; `None` when there is none, after which the next record rings the doorbell.
    pub fn read(&mut self) -> Option<Item> {
        let dropped = self.memory.dropped.load(Ordering::Relaxed);
        let lost = dropped.wrapping_sub(self.dropped_seen);
        if lost != 0 && self.is_empty() {
            self.dropped_seen = dropped;
            return Some(Item::Lost(lost));
        }
        // Publishing the tail and then looking at the head again, with the fence between, pairs with
        // `Producer::write`.
        fence(Ordering::SeqCst);
        let available = self.memory.head.load(Ordering::Acquire).wrapping_sub(self.tail);
        match available {
            0 => None,
            _ => Some(self.take(available)),
        }
    }

    fn is_empty(&self) -> bool {
        self.memory.head.load(Ordering::Acquire) == self.tail
    }

    fn take(&mut self, available: u32) -> Item {
        if available > self.memory.capacity() || available < HEAD_WORDS {
            return self.give_up(available);
        }
        let first = self.word(0);
        let text_bytes = (first & 0xffff) as usize;
        let words = HEAD_WORDS + text_words(text_bytes);
        if text_bytes > TEXT_BYTES_MAX || words > available {
            return self.give_up(available);
        }
        let mut record = Record {
            level: Level::from_number(first >> 16),
            ticks: u64::from(self.word(1)) | u64::from(self.word(2)) << 32,
            text: [0; TEXT_BYTES_MAX],
            text_bytes,
        };
        for (place, chunk) in (HEAD_WORDS..).zip(record.text[..text_bytes].chunks_mut(4)) {
            let bytes = self.word(place).to_le_bytes();
            let length = chunk.len();
            chunk.copy_from_slice(&bytes[..length]);
        }
        self.advance(words);
        Item::Record(record)
    }

    fn word(&self, place: u32) -> u32 {
        self.memory.word(self.tail.wrapping_add(place)).load(Ordering::Relaxed)
    }

    fn give_up(&mut self, available: u32) -> Item {
        self.advance(available);
        Item::Broken
    }

    fn advance(&mut self, words: u32) {
        self.tail = self.tail.wrapping_add(words);
        self.memory.tail.store(self.tail, Ordering::Release);
    }
}
