//! The reading side of a log ring.

use crate::cursor::{Cursor, Found};
use crate::memory::{Memory, Reader, text_words};
use crate::producer::HEAD_WORDS;
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

/// The one reader of its kind of a ring.
pub struct Consumer<'a>(Cursor<'a>);

impl<'a> Consumer<'a> {
    /// This reader of this ring; it goes on where the one of its kind before it stopped.
    pub fn new(memory: Memory<'a>, reader: Reader) -> Self {
        Consumer(Cursor::new(memory, reader))
    }

    /// Takes the oldest record; `None` when there is none, after which the next record rings the doorbell.
    pub fn read(&mut self) -> Option<Item> {
        Some(match self.0.available()? {
            Found::Lost(count) => Item::Lost(count),
            Found::Words(available) => self.take(available),
        })
    }

    fn take(&mut self, available: u32) -> Item {
        if available > self.0.capacity() || available < HEAD_WORDS {
            return self.give_up(available);
        }
        let first = self.0.word(0);
        let text_bytes = (first & 0xffff) as usize;
        let words = HEAD_WORDS + text_words(text_bytes);
        if text_bytes > TEXT_BYTES_MAX || words > available {
            return self.give_up(available);
        }
        let level = Level::from_number(first >> 16);
        let mut record = Record { level, ticks: self.0.long(1), text: [0; TEXT_BYTES_MAX], text_bytes };
        self.0.copy_text(HEAD_WORDS, &mut record.text[..text_bytes]);
        self.0.take(words);
        Item::Record(record)
    }

    fn give_up(&mut self, available: u32) -> Item {
        self.0.skip(available);
        Item::Broken
    }
}
