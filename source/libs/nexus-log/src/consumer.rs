//! The reading side of a log ring.

use crate::cursor::{Cursor, Found, Mark};
use crate::memory::{Memory, Reader, text_words};
use crate::producer::{HEAD_WORDS, SIGNED, TEXT, Value};
use crate::{FIELD_WORDS_MAX, Level, MESSAGE_BYTES_MAX, SCOPE_BYTES_MAX};

const FIELD_BYTES: usize = FIELD_WORDS_MAX as usize * 4;

/// One record, copied out of the ring. Its texts are whatever the producer wrote: escape before printing.
pub struct Record {
    /// How serious it says it is.
    pub level: Level,
    /// The clock when it was written, in ticks, by the producer's word.
    pub ticks: u64,
    scope: [u8; SCOPE_BYTES_MAX],
    scope_bytes: usize,
    message: [u8; MESSAGE_BYTES_MAX],
    message_bytes: usize,
    fields: [u8; FIELD_BYTES],
    field_bytes: usize,
}

impl Record {
    /// What part of the producer it is of; mostly empty. Not necessarily UTF-8.
    pub fn scope(&self) -> &[u8] {
        &self.scope[..self.scope_bytes]
    }

    /// The message, not necessarily UTF-8.
    pub fn message(&self) -> &[u8] {
        &self.message[..self.message_bytes]
    }

    /// The fields: keys, not necessarily UTF-8, and values. What does not follow the layout ends them.
    pub fn fields(&self) -> Fields<'_> {
        Fields(&self.fields[..self.field_bytes])
    }
}

/// The fields of a record, first to last.
#[derive(Clone, Debug)]
pub struct Fields<'r>(&'r [u8]);

impl<'r> Fields<'r> {
    /// Splits so many bytes off, padded to whole words.
    fn text(&mut self, bytes: usize) -> Option<&'r [u8]> {
        let (text, rest) = self.0.split_at_checked(bytes.next_multiple_of(4))?;
        self.0 = rest;
        text.get(..bytes)
    }

    fn field(&mut self) -> Option<(&'r [u8], Value<'r>)> {
        let first = u32::from_le_bytes(self.text(4)?.try_into().ok()?);
        let key = self.text((first & 0xff) as usize)?;
        if first & 0xff00 == TEXT {
            return Some((key, Value::Text(self.text((first >> 16) as usize)?)));
        }
        let number = u64::from_le_bytes(self.text(8)?.try_into().ok()?);
        Some((
            key,
            if first & 0xff00 == SIGNED { Value::Signed(number as i64) } else { Value::Unsigned(number) },
        ))
    }
}

impl<'r> Iterator for Fields<'r> {
    type Item = (&'r [u8], Value<'r>);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        field
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
        let item = self.read_held();
        self.release(self.mark());
        item
    }

    /// As [`Consumer::read`], but the item stays in the ring until [`Consumer::release`], so that a successor reads
    /// it again, or is told of the loss again, if this reader dies before it is done with it. After a release, look
    /// again before you wait: a record that came before it rings for nobody.
    pub fn read_held(&mut self) -> Option<Item> {
        let available = match self.0.available()? {
            Found::Lost(count) => return Some(Item::Lost(count)),
            Found::Words(available) => available,
        };
        Some(match self.record(available) {
            Some((record, words)) => {
                self.0.take(words, 1);
                Item::Record(record)
            }
            None => {
                self.0.skip(available);
                Item::Broken
            }
        })
    }

    /// The place up to which everything was read.
    pub fn mark(&self) -> Mark {
        self.0.mark()
    }

    /// Gives everything up to a place back to the writer.
    pub fn release(&self, mark: Mark) {
        self.0.release(mark);
    }

    /// The record at the place, with its words, if there is a whole one.
    fn record(&self, available: u32) -> Option<(Record, u32)> {
        if available > self.0.capacity() || available < HEAD_WORDS {
            return None;
        }
        let (first, lengths) = (self.0.word(0), self.0.word(1));
        let (words, scope_bytes, message_bytes) =
            (first & 0xffff, (lengths & 0xff) as usize, (lengths >> 8) as usize);
        if words > available || scope_bytes > SCOPE_BYTES_MAX || message_bytes > MESSAGE_BYTES_MAX {
            return None;
        }
        let before_fields = HEAD_WORDS + text_words(scope_bytes) + text_words(message_bytes);
        let field_words = words.checked_sub(before_fields).filter(|&words| words <= FIELD_WORDS_MAX)?;
        let mut record = Record {
            level: Level::from_number(first >> 16),
            ticks: self.0.long(2),
            scope: [0; SCOPE_BYTES_MAX],
            scope_bytes,
            message: [0; MESSAGE_BYTES_MAX],
            message_bytes,
            fields: [0; FIELD_BYTES],
            field_bytes: field_words as usize * 4,
        };
        let ahead = self.0.copy_text(HEAD_WORDS, &mut record.scope[..scope_bytes]);
        let ahead = self.0.copy_text(ahead, &mut record.message[..message_bytes]);
        self.0.copy_text(ahead, &mut record.fields[..record.field_bytes]);
        Some((record, words))
    }
}
