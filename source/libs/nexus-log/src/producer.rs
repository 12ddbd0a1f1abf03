//! The writing side of a log ring.

use crate::memory::{Memory, Ordering, Reader, Writer, halves, text_words};
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
        let record = Encoded { words, level, ticks, scope, message, fields };
        match memory.straight(head, words) {
            Some(mut writer) => record.write(&mut writer),
            None => record.write_around(memory, head),
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

/// A record that fits, and its words.
struct Encoded<'r, 'v> {
    words: u32,
    level: Level,
    ticks: u64,
    scope: &'r [u8],
    message: &'r [u8],
    fields: &'r [(&'v str, Value<'v>)],
}

impl Encoded<'_, '_> {
    #[inline(always)]
    fn write(&self, writer: &mut impl Writer) {
        let lengths = (self.scope.len() | self.message.len() << 8) as u32;
        let [low, high] = halves(self.ticks);
        writer.put([self.words | (self.level as u32) << 16, lengths, low, high]);
        if !self.scope.is_empty() {
            writer.put_text(self.scope);
        }
        writer.put_text(self.message);
        for (key, value) in self.fields {
            put_field(writer, key.as_bytes(), value);
        }
    }

    /// Across the end of the ring.
    #[cold]
    #[inline(never)]
    fn write_around(&self, memory: &Memory<'_>, head: u32) {
        self.write(&mut memory.around(head));
    }
}

#[inline(always)]
fn put_field(writer: &mut impl Writer, key: &[u8], value: &Value<'_>) {
    let length = key.len() as u32;
    match value {
        Value::Unsigned(number) => {
            writer.put([length]);
            writer.put_text(key);
            writer.put(halves(*number));
        }
        Value::Signed(number) => {
            writer.put([length | SIGNED]);
            writer.put_text(key);
            writer.put(halves(*number as u64));
        }
        Value::Text(text) => {
            writer.put([length | TEXT | (text.len() as u32) << 16]);
            writer.put_text(key);
            writer.put_text(text);
        }
    }
}
