//! A reader's place in a ring: what every kind of ring is read through.

use crate::memory::{Memory, Ordering, Reader, fence};

/// What stands at the place.
pub(crate) enum Found {
    /// So many words that were not read.
    Words(u32),
    /// So many records were dropped since the last time that this was told.
    Lost(u32),
}

/// A place in a ring up to which everything was read: what a reader gives back to the writer when it is done with it.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    tail: u32,
    taken: u32,
    told: u32,
}

/// The one reader of its kind. It keeps its own tail and believes no counter of the other side.
pub(crate) struct Cursor<'a> {
    memory: Memory<'a>,
    reader: Reader,
    tail: u32,
    taken: u32,
    told: u32,
}

impl<'a> Cursor<'a> {
    /// Goes on where the reader of this kind before it stopped.
    pub fn new(memory: Memory<'a>, reader: Reader) -> Self {
        let place = memory.place(reader);
        let [tail, taken, told] =
            [&place.tail, &place.taken, &place.told].map(|word| word.load(Ordering::Relaxed));
        Cursor { memory, reader, tail, taken, told }
    }

    /// What there is; `None` when there is nothing, after which the next record rings if all was released before.
    /// What was lost is told after everything that was kept before it.
    pub fn available(&mut self) -> Option<Found> {
        let dropped = self.memory.counters.written.dropped.load(Ordering::Relaxed);
        let lost = dropped.wrapping_sub(self.told);
        if lost != 0 && self.memory.counters.written.head.load(Ordering::Acquire) == self.tail {
            self.told = dropped;
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

    /// Passes over a record of so many words, which counts for so many.
    pub fn take(&mut self, words: u32, count: u32) {
        self.taken = self.taken.wrapping_add(count);
        self.skip(words);
    }

    /// Passes over so many words that are no record.
    pub fn skip(&mut self, words: u32) {
        self.tail = self.tail.wrapping_add(words);
    }

    /// The place.
    pub fn mark(&self) -> Mark {
        Mark { tail: self.tail, taken: self.taken, told: self.told }
    }

    /// Gives everything up to a place back to the writer; a successor begins there.
    pub fn release(&self, mark: Mark) {
        let place = self.memory.place(self.reader);
        place.taken.store(mark.taken, Ordering::Relaxed);
        place.told.store(mark.told, Ordering::Relaxed);
        place.tail.store(mark.tail, Ordering::Release);
    }

    /// Tells the writer of an audit ring what was taken: from there on the next record rings.
    pub fn see(&self) {
        self.memory.counters.kept.seen.store(self.tail, Ordering::Relaxed);
    }

    /// Words that the writer has no room for, since they were not given back.
    pub fn unreleased(&self) -> u32 {
        self.memory.unread(self.memory.counters.written.head.load(Ordering::Relaxed), self.reader)
    }

    /// Says whether what is critical is made durable from now on, as another keeper than before.
    pub fn set_keeping(&self, keeps: bool) {
        let keeper = &self.memory.counters.kept.keeper;
        let before = keeper.load(Ordering::Relaxed);
        let step = if (before & 1 == 1) == keeps { 2 } else { 1 };
        keeper.store(before.wrapping_add(step), Ordering::Release);
    }

    /// Says that all up to a place is durable.
    pub fn set_kept(&self, mark: Mark) {
        self.memory.counters.kept.until.store(mark.tail, Ordering::Release);
    }

    /// What this reader and those of its kind before it have taken.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Dropped records that this reader and those of its kind before it have told of.
    pub fn told(&self) -> u32 {
        self.told
    }
}
