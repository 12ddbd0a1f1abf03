//! The writing side of a log ring.

use crate::memory::{Memory, Ordering, Reader, Straight, Writer, halves, text_words};
use crate::{FIELD_WORDS_MAX, KEY_BYTES_MAX, Level, MESSAGE_BYTES_MAX, SCOPE_BYTES_MAX};
use zerocopy::FromBytes;

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

/// The key of a field, made into words once, mostly as a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    words: [u32; KEY_BYTES_MAX / 4],
    bytes: u32,
}

impl Key {
    /// The key of this text, of which [`KEY_BYTES_MAX`] bytes count.
    pub const fn new(text: &str) -> Self {
        let (text, mut words, mut place) = (text.as_bytes(), [0; KEY_BYTES_MAX / 4], 0);
        while place < text.len() && place < KEY_BYTES_MAX {
            words[place / 4] |= (text[place] as u32) << (8 * (place % 4));
            place += 1;
        }
        Key { words, bytes: place as u32 }
    }

    #[inline(always)]
    fn put<W: Writer>(&self, writer: W) -> Option<W> {
        let [first, second, third, fourth] = self.words;
        match self.bytes {
            0 => Some(writer),
            1..=4 => writer.put([first]),
            5..=8 => writer.put([first, second]),
            9..=12 => writer.put([first, second, third]),
            _ => writer.put([first, second, third, fourth]),
        }
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
        fields: &[(Key, Value<'_>)],
    ) -> Written {
        // Most records are plain and fit in a row behind what is there, which shows when they stand there.
        let begins_a_word = message.as_ptr().addr().is_multiple_of(size_of::<u32>());
        if begins_a_word && scope.is_empty() && message.len() <= MESSAGE_BYTES_MAX {
            let lengths = (message.len() << 8) as u32;
            let put = |to: Straight<'a>| put_plain(to.put(texts_head(lengths, ticks))?, message);
            if let Some(readers) = self.write_in_a_row(level, put, fields, put_number) {
                return Written::Kept(readers);
            }
        }
        self.write_any(level, ticks, scope, message, fields)
    }

    /// As [`Producer::write`], of any record that fits in a row.
    #[inline(never)]
    fn write_any(
        &mut self,
        level: Level,
        ticks: u64,
        scope: &[u8],
        message: &[u8],
        fields: &[(Key, Value<'_>)],
    ) -> Written {
        if scope.len() <= SCOPE_BYTES_MAX && message.len() <= MESSAGE_BYTES_MAX {
            let put = |to: Straight<'a>| put_texts(to, ticks, scope, message);
            if let Some(readers) = self.write_in_a_row(level, put, fields, put_field) {
                return Written::Kept(readers);
            }
        }
        self.write_carefully(level, ticks, scope, message, fields)
    }

    /// Writes a record whose texts and fields these put, and yields whom to ring; `None`, and nothing is written, if
    /// they do not, or not all of it fits before the end of the ring, before what is unread, or into what fields may
    /// have.
    #[inline(always)]
    fn write_in_a_row<'f, 'v>(
        &mut self,
        level: Level,
        put_texts: impl FnOnce(Straight<'a>) -> Option<Straight<'a>>,
        fields: &'f [(Key, Value<'v>)],
        put_field: impl Fn(Straight<'a>, &'f (Key, Value<'v>)) -> Option<Straight<'a>>,
    ) -> Option<u32> {
        let memory = self.memory;
        let head = memory.counters.written.head.load(Ordering::Relaxed);
        let readers = memory.counters.readers.load(Ordering::Relaxed);
        let row = memory.row(head, memory.unread_by_any(head, readers));
        let (first, rest) = row.split_first()?;
        let Straight(rest) = put_texts(Straight(rest))?;
        let room = rest.get(..FIELD_WORDS_MAX as usize).unwrap_or(rest);
        let Straight(left) = fields.iter().try_fold(Straight(room), put_field)?;
        let field_words = room.len().wrapping_sub(left.len());
        let words = row.len().wrapping_sub(rest.len()).wrapping_add(field_words) as u32;
        first.store(words | (level as u32) << 16, Ordering::Relaxed);
        Some(memory.publish(head, head.wrapping_add(words), readers))
    }

    /// Cuts what is too long and counts what fits; then writes that, around the end of the ring if need be.
    #[cold]
    #[inline(never)]
    fn write_carefully(
        &mut self,
        level: Level,
        ticks: u64,
        scope: &[u8],
        message: &[u8],
        fields: &[(Key, Value<'_>)],
    ) -> Written {
        let memory = &self.memory;
        let scope = &scope[..scope.len().min(SCOPE_BYTES_MAX)];
        let message = &message[..message.len().min(MESSAGE_BYTES_MAX)];
        let (fields, field_words) = fitting(fields);
        let words = HEAD_WORDS + text_words(scope.len()) + text_words(message.len()) + field_words;
        let head = memory.counters.written.head.load(Ordering::Relaxed);
        let readers = memory.counters.readers.load(Ordering::Relaxed);
        // An impossible reader is a full ring.
        let free = memory.capacity().checked_sub(memory.unread_by_any(head, readers));
        let written = || {
            free.filter(|&free| words <= free)?;
            let writer = memory.around(head).put([words | (level as u32) << 16])?;
            fields.iter().try_fold(put_texts(writer, ticks, scope, message)?, put_field)
        };
        match written() {
            Some(_) => Written::Kept(memory.publish(head, head.wrapping_add(words), readers)),
            None => {
                memory.count_dropped();
                Written::Dropped
            }
        }
    }
}

/// What stands before the texts of a record, behind its first word.
#[inline(always)]
fn texts_head(lengths: u32, ticks: u64) -> [u32; 3] {
    let [low, high] = halves(ticks);
    [lengths, low, high]
}

/// All that stands between a record's first word and its fields.
fn put_texts<W: Writer>(writer: W, ticks: u64, scope: &[u8], message: &[u8]) -> Option<W> {
    let writer = writer.put(texts_head((scope.len() | message.len() << 8) as u32, ticks))?;
    writer.put_text(scope)?.put_text(message)
}

/// A message that begins a word.
#[inline(always)]
fn put_plain<'a>(writer: Straight<'a>, message: &[u8]) -> Option<Straight<'a>> {
    let (whole, rest) = message.as_chunks::<4>();
    let words = <[u32]>::ref_from_bytes(whole.as_flattened()).ok()?;
    let (groups, words) = words.as_chunks::<4>();
    let writer = groups.iter().try_fold(writer, |to, group| to.put(group.map(u32::from_le)))?;
    let writer = words.iter().try_fold(writer, |to, word| to.put([u32::from_le(*word)]))?;
    writer.put_rest(rest)
}

/// The fields that fit, and their words.
fn fitting<'f, 'v>(fields: &'f [(Key, Value<'v>)]) -> (&'f [(Key, Value<'v>)], u32) {
    let mut words = 0;
    for (place, (key, value)) in fields.iter().enumerate() {
        let value_words = match value {
            Value::Text(text) => text_words(text.len()),
            _ => 2,
        };
        let next = words + 1 + text_words(key.bytes as usize) + value_words;
        if next > FIELD_WORDS_MAX {
            return (&fields[..place], words);
        }
        words = next;
    }
    (fields, words)
}

fn put_field<W: Writer>(writer: W, field: &(Key, Value<'_>)) -> Option<W> {
    let (key, Value::Text(text)) = field else { return put_number(writer, field) };
    let writer = writer.put([key.bytes | TEXT | (text.len() as u32) << 16])?;
    key.put(writer)?.put_text(text)
}

/// A field that is a number.
#[inline(always)]
fn put_number<W: Writer>(writer: W, (key, value): &(Key, Value<'_>)) -> Option<W> {
    let (kind, number) = match value {
        Value::Unsigned(number) => (0, *number),
        Value::Signed(number) => (SIGNED, *number as u64),
        Value::Text(_) => return None,
    };
    key.put(writer.put([key.bytes | kind])?)?.put(halves(number))
}
