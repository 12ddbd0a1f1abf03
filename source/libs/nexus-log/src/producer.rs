//! The writing side of a log ring.

use crate::memory::{Memory, Ordering, Reader, Writer, text_words};
use crate::{FIELD_WORDS_MAX, Level, MESSAGE_BYTES_MAX, SCOPE_BYTES_MAX};

/// Words before the texts of a record: words and level, lengths, then the ticks.
pub(crate) const HEAD_WORDS: u32 = 4;
/// In a field's first word, that its value is a signed number.
pub(crate) const SIGNED: u32 = 1 << 8;
/// In a field's first word, that its value is text; its bytes stand above it.
pub(crate) const TEXT: u32 = 2 << 8;

/// The value of a field, unformatted: whoever reads the record renders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number.
    Unsigned(u64),
    /// A number that may be negative.
    Signed(i64),
    /// Text, not necessarily UTF-8.
    Text(&'a [u8]),
}

impl Value<'_> {
    /// Hands over the bytes that show it: text as it is, numbers in decimal.
    pub fn show(&self, mut show: impl FnMut(&[u8])) {
        let mut number = match self {
            Value::Text(text) => return show(text),
            Value::Unsigned(number) => *number,
            Value::Signed(number) => {
                if *number < 0 {
                    show(b"-");
                }
                number.unsigned_abs()
            }
        };
        let mut digits = [0; 20];
        let mut first = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            (number, first) = (number / 10, first - 1);
            if number == 0 {
                break;
            }
        }
        show(&digits[first..]);
    }
}

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

    /// Appends a record. Text beyond [`SCOPE_BYTES_MAX`] and [`MESSAGE_BYTES_MAX`] is cut; fields that do not
    /// fit [`FIELD_WORDS_MAX`] are left out.
    #[inline]
    pub fn write(
        &mut self,
        level: Level,
        ticks: u64,
        scope: &[u8],
        message: &[u8],
        fields: &[(&str, Value<'_>)],
    ) -> Written {
        let memory = &self.memory;
        let scope = &scope[..scope.len().min(SCOPE_BYTES_MAX)];
        let message = &message[..message.len().min(MESSAGE_BYTES_MAX)];
        let (fields, field_words) = fitting(fields);
        let words = HEAD_WORDS + text_words(scope.len()) + text_words(message.len()) + field_words;
        let head = memory.counters.written.head.load(Ordering::Relaxed);
        let readers = memory.counters.readers.load(Ordering::Relaxed);
        let has_room = |reader: Reader| readers & reader.bit() == 0 || memory.has_room(head, reader, words);
        if !has_room(Reader::Console) || !has_room(Reader::Journal) {
            memory.count_dropped();
            return Written::Dropped;
        }
        let mut writer = memory.writer(head);
        writer.put(words | (level as u32) << 16);
        writer.put((scope.len() | message.len() << 8) as u32);
        writer.put_long(ticks);
        writer.put_text(scope);
        writer.put_text(message);
        for (key, value) in fields {
            put_field(&mut writer, key.as_bytes(), value);
        }
        Written::Kept(memory.publish(head, head.wrapping_add(words), readers))
    }
}

/// The fields that fit, and their words.
#[inline(always)]
fn fitting<'f, 'v>(fields: &'f [(&'v str, Value<'v>)]) -> (&'f [(&'v str, Value<'v>)], u32) {
    let mut words = 0;
    for (place, (key, value)) in fields.iter().enumerate() {
        let value_words = match value {
            Value::Text(text) => text_words(text.len()),
            _ => 2,
        };
        let next = words + 1 + text_words(key.len()) + value_words;
        if next > FIELD_WORDS_MAX || key.len() > u8::MAX as usize {
            return (&fields[..place], words);
        }
        words = next;
    }
    (fields, words)
}

#[inline(always)]
fn put_field(writer: &mut Writer<'_>, key: &[u8], value: &Value<'_>) {
    let kind = match value {
        Value::Unsigned(_) => 0,
        Value::Signed(_) => SIGNED,
        Value::Text(text) => TEXT | (text.len() as u32) << 16,
    };
    writer.put(key.len() as u32 | kind);
    writer.put_text(key);
    match value {
        Value::Unsigned(number) => writer.put_long(*number),
        Value::Signed(number) => writer.put_long(*number as u64),
        Value::Text(text) => writer.put_text(text),
    }
}
