//! The writing side of a log ring.

use crate::memory::{Memory, Ordering, Reader, text_words};
use crate::{Level, TEXT_BYTES_MAX};

/// Words before the text of a record: bytes of text and level, then the ticks.
pub(crate) const HEAD_WORDS: u32 = 3;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is in the ring; the readers of these [`Reader::bit`]s had read everything before it and must be rung.
    Kept(u32),
    /// The ring was full; it was dropped and counted.
    Dropped,
}

impl Written {
    /// Whether this reader must be rung.
    pub const fn rings(self, reader: Reader) -> bool {
        matches!(self, Written::Kept(readers) if readers & reader.bit() != 0)
    }
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
        let head = memory.counters.written.head.load(Ordering::Relaxed);
        let readers = memory.counters.readers.load(Ordering::Relaxed);
        let has_room = |reader: Reader| readers & reader.bit() == 0 || memory.has_room(head, reader, words);
        if !has_room(Reader::Console) || !has_room(Reader::Journal) {
            memory.count_dropped();
            return Written::Dropped;
        }
        memory.put(head, text.len() as u32 | (level as u32) << 16);
        memory.put(head.wrapping_add(1), ticks as u32);
        memory.put(head.wrapping_add(2), (ticks >> 32) as u32);
        let behind = memory.put_text(head.wrapping_add(HEAD_WORDS), text);
        Written::Kept(memory.publish(head, behind, readers))
    }
}
