//! A reader's place in a ring: what every kind of ring is read through.

use crate::memory::{Memory, Ordering, Reader, fence};

/// What stands at the place.
pub(crate) enum Found {
    /// So many words that were not read.
    Words(u32),
    /// So many records were dropped since the last time that this was told.
    Lost(u32),
}

/// The one reader of its kind. It keeps its own tail and believes no counter of the other side.
pub(crate) struct Cursor<'a> {
    memory: Memory<'a>,
    reader: Reader,
    tail: u32,
    told: u32,
}

impl<'a> Cursor<'a> {
    /// Goes on where the reader of this kind before it stopped.
    pub fn new(memory: Memory<'a>, reader: Reader) -> Self {
        let place = memory.place(reader);
        let (tail, told) = (place.tail.load(Ordering::Relaxed), place.told.load(Ordering::Relaxed));
        Cursor { memory, reader, tail, told }
    }

    /// What there is; `None` when there is nothing, after which the next record rings. What was lost is told
    /// after everything that was kept before it.
    pub fn available(&mut self) -> Option<Found> {
        let dropped = self.memory.counters.written.dropped.load(Ordering::Relaxed);
        let lost = dropped.wrapping_sub(self.told);
        if lost != 0 && self.memory.counters.written.head.load(Ordering::Acquire) == self.tail {
            self.told = dropped;
            self.memory.place(self.reader).told.store(dropped, Ordering::Relaxed);
            return Some(Found::Lost(lost));
        }
        // Publishing the tail and then looking at the head again, with the fence between, pairs with
        // `Memory::publish`.
        fence(Ordering::SeqCst);
        match self.memory.counters.written.head.load(Ordering::Acquire).wrapping_sub(self.tail) {
            0 => None,
            words => Some(Found::Words(words)),
        }
    }

    /// The word so far behind the place.
    pub fn word(&self, ahead: u32) -> u32 {
        self.memory.word(self.tail.wrapping_add(ahead)).load(Ordering::Relaxed)
    }

    /// Two words, the lower half first.
    pub fn long(&self, ahead: u32) -> u64 {
        u64::from(self.word(ahead)) | u64::from(self.word(ahead.wrapping_add(1))) << 32
    }

    /// Copies text out that begins so far behind the place; yields where what follows it begins.
    pub fn copy_text(&self, mut ahead: u32, text: &mut [u8]) -> u32 {
        for chunk in text.chunks_mut(4) {
            let bytes = self.word(ahead).to_le_bytes();
            let length = chunk.len();
            chunk.copy_from_slice(&bytes[..length]);
            ahead = ahead.wrapping_add(1);
        }
        ahead
    }

    /// How many words the ring holds.
    pub fn capacity(&self) -> u32 {
        self.memory.capacity()
    }

    /// Takes a record of so many words.
    pub fn take(&mut self, words: u32) {
        let taken = &self.memory.place(self.reader).taken;
        taken.store(taken.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.skip(words);
    }

    /// Records that this reader and those of its kind before it have taken.
    pub fn taken(&self) -> u32 {
        self.memory.place(self.reader).taken.load(Ordering::Relaxed)
    }

    /// Dropped records that this reader and those of its kind before it have told of.
    pub fn told(&self) -> u32 {
        self.told
    }

    /// Passes over so many words.
    pub fn skip(&mut self, words: u32) {
        self.tail = self.tail.wrapping_add(words);
        self.memory.place(self.reader).tail.store(self.tail, Ordering::Release);
    }
}
