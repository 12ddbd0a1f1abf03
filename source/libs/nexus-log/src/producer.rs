//! The writing side of a log ring.

use crate::memory::{AtomicU32, Memory, Ordering, Reader, Straight, Writer, halves, text_words};
use crate::{FIELD_WORDS_MAX, KEY_BYTES_MAX, Level, MESSAGE_BYTES_MAX, SCOPE_BYTES_MAX};
use core::num::NonZero;
use zerocopy::FromBytes;

/// Words before the texts of a record: words and level, lengths, then the ticks.
pub(crate) const HEAD_WORDS: u32 = 4;
/// In a field's first word, that its value is a signed number.
pub(crate) const SIGNED: u32 = 1 << 8;
/// In a field's first word, that its value is text; its bytes stand above it.
pub(crate) const TEXT: u32 = 2 << 8;

/// Words of a field that is a number, at the most: its first, its key and its value.
const NUMBER_WORDS_MAX: usize = 1 + KEY_BYTES_MAX / 4 + 2;
/// What [`Producer::write_plain`] yields beside readers: that it was written.
const PLAIN: u64 = 1 << 32;
/// So many numbers take no more than fields may have, whatever their keys.
const PLAIN_FIELDS_MAX: usize = FIELD_WORDS_MAX as usize / NUMBER_WORDS_MAX;

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
    count: Count,
}

/// How many words a key has. A type of its own, so that a place behind them is known to be within a field's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Count {
    Zero = 0,
    One = 1,
    Two = 2,
    Three = 3,
    Four = 4,
}

impl Key {
    /// The key of this text, of which [`KEY_BYTES_MAX`] bytes count.
    pub const fn new(text: &str) -> Self {
        let (text, mut words, mut place) = (text.as_bytes(), [0; KEY_BYTES_MAX / 4], 0);
        while place < text.len() && place < KEY_BYTES_MAX {
            words[place / 4] |= (text[place] as u32) << (8 * (place % 4));
            place += 1;
        }
        let count = match place {
            0 => Count::Zero,
            1..=4 => Count::One,
            5..=8 => Count::Two,
            9..=12 => Count::Three,
            _ => Count::Four,
        };
        Key { words, bytes: place as u32, count }
    }

    #[inline(always)]
    fn put<W: Writer>(&self, writer: W) -> Option<W> {
        let [first, second, third, fourth] = self.words;
        match self.count {
            Count::Zero => Some(writer),
            Count::One => writer.put([first]),
            Count::Two => writer.put([first, second]),
            Count::Three => writer.put([first, second, third]),
            Count::Four => writer.put([first, second, third, fourth]),
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
    #[inline(always)]
    pub fn write(
        &mut self,
        level: Level,
        ticks: u64,
        scope: &[u8],
        message: &[u8],
        fields: &[(&Key, Value<'_>)],
    ) -> Written {
        // Most records are plain. What else may come is kept by who calls, so that this one keeps nothing.
        if scope.is_empty()
            && begins_a_word(message)
            && message.len() <= MESSAGE_BYTES_MAX
            && fields.len() <= PLAIN_FIELDS_MAX
            && let Some(kept) = self.write_plain((level as u32) << 16, ticks, message, fields)
        {
            return Written::Kept((kept.get() & !PLAIN) as u32);
        }
        self.write_any(level, ticks, scope, message, fields)
    }

    /// Writes a record without a scope, of a message that begins a word and of few fields, if these are numbers and all of
    /// it fits in a row behind what is there; `level` is at its place of the first word. Yields whom to ring, and [`PLAIN`]; `None`: nothing was written.
    #[inline(never)]
    fn write_plain(
        &mut self,
        level: u32,
        ticks: u64,
        message: &[u8],
        fields: &[(&Key, Value<'_>)],
    ) -> Option<NonZero<u64>> {
        let memory = self.memory;
        let head = memory.counters.written.head.load(Ordering::Relaxed);
        let readers = memory.counters.readers.load(Ordering::Relaxed);
        let row = memory.row(head, memory.unread_by_any(head, readers));
        let (whole, rest) = message.as_chunks::<4>();
        let (beginning, behind) = row.split_at_checked(HEAD_WORDS as usize + whole.len())?;
        let ([first, lengths, low, high], places) = beginning.split_first_chunk()?;
        lengths.store((message.len() << 8) as u32, Ordering::Relaxed);
        low.store(ticks as u32, Ordering::Relaxed);
        high.store((ticks >> 32) as u32, Ordering::Relaxed);
        put_words(places, <[u32]>::ref_from_bytes(whole.as_flattened()).ok()?);
        let mut to = Straight(behind);
        if !rest.is_empty() {
            to = to.put_rest(rest)?;
        }
        for field in fields {
            to = put_number(to, field)?;
        }
        let words = row.len().wrapping_sub(to.0.len()) as u32;
        first.store(words | level, Ordering::Relaxed);
        NonZero::new(PLAIN | u64::from(memory.publish(head, head.wrapping_add(words), readers)))
    }

    /// As [`Producer::write`], of any record. One that is plain was tried before, and does not fit in a row.
    #[inline(never)]
    fn write_any(
        &mut self,
        level: Level,
        ticks: u64,
        scope: &[u8],
        message: &[u8],
        fields: &[(&Key, Value<'_>)],
    ) -> Written {
        let has_text = fields.iter().any(|(_, value)| matches!(value, Value::Text(_)));
        let is_plain = scope.is_empty() && begins_a_word(message) && !has_text;
        if !is_plain && scope.len() <= SCOPE_BYTES_MAX && message.len() <= MESSAGE_BYTES_MAX {
            let put = |to: Straight<'a>| put_texts(to, ticks, scope, message);
            if let Some(readers) = self.write_in_a_row(level, put, fields) {
                return Written::Kept(readers);
            }
        }
        self.write_carefully(level, ticks, scope, message, fields)
    }

    /// Writes a record whose texts and fields these put, and yields whom to ring; `None`, and nothing is written, if
    /// they do not, or not all of it fits before the end of the ring, before what is unread, or into what fields may
    /// have.
    #[inline(always)]
    fn write_in_a_row(
        &mut self,
        level: Level,
        put_texts: impl FnOnce(Straight<'a>) -> Option<Straight<'a>>,
        fields: &[(&Key, Value<'_>)],
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
    #[inline(never)]
    fn write_carefully(
        &mut self,
        level: Level,
        ticks: u64,
        scope: &[u8],
        message: &[u8],
        fields: &[(&Key, Value<'_>)],
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

/// All that stands between a record's first word and its fields.
fn put_texts<W: Writer>(writer: W, ticks: u64, scope: &[u8], message: &[u8]) -> Option<W> {
    let [low, high] = halves(ticks);
    let writer = writer.put([(scope.len() | message.len() << 8) as u32, low, high])?;
    writer.put_text(scope)?.put_text(message)
}

/// Whether words can be read from there.
#[inline(always)]
fn begins_a_word(message: &[u8]) -> bool {
    message.as_ptr().addr().is_multiple_of(size_of::<u32>())
}

/// Writes words to as many places, four at a time: who writes one at a time is busy with counting.
#[inline(always)]
fn put_words(places: &[AtomicU32], words: &[u32]) {
    let ((groups, words), (group_places, places)) = (words.as_chunks::<4>(), places.as_chunks::<4>());
    let put = |(place, word): (&AtomicU32, &u32)| place.store(u32::from_le(*word), Ordering::Relaxed);
    for (places, words) in group_places.iter().zip(groups) {
        places.iter().zip(words).for_each(put);
    }
    places.iter().zip(words).for_each(put);
}

/// The fields that fit, and their words.
fn fitting<'f, 'v>(fields: &'f [(&'f Key, Value<'v>)]) -> (&'f [(&'f Key, Value<'v>)], u32) {
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

fn put_field<W: Writer>(writer: W, field: &(&Key, Value<'_>)) -> Option<W> {
    let (key, value) = field;
    let (kind, number) = match value {
        Value::Unsigned(number) => (0, *number),
        Value::Signed(number) => (SIGNED, *number as u64),
        Value::Text(text) => {
            let writer = writer.put([key.bytes | TEXT | (text.len() as u32) << 16])?;
            return key.put(writer)?.put_text(text);
        }
    };
    key.put(writer.put([key.bytes | kind])?)?.put(halves(number))
}

/// A field that is a number.
#[inline(always)]
fn put_number<'a>(writer: Straight<'a>, (key, value): &(&Key, Value<'_>)) -> Option<Straight<'a>> {
    let (kind, number) = match value {
        Value::Unsigned(number) => (0, *number),
        Value::Signed(number) => (SIGNED, *number as u64),
        Value::Text(_) => return None,
    };
    let [low, high] = halves(number);
    // Words of the key that it does not need come to stand where the value goes, before that does.
    let words = writer.0.first_chunk::<NUMBER_WORDS_MAX>()?;
    words[0].store(key.bytes | kind, Ordering::Relaxed);
    words[1].store(key.words[0], Ordering::Relaxed);
    words[2].store(key.words[1], Ordering::Relaxed);
    let count = key.count as usize;
    if count > 2 {
        words[3].store(key.words[2], Ordering::Relaxed);
        words[4].store(key.words[3], Ordering::Relaxed);
    }
    let behind = writer.0.get(count..)?;
    let ([_, first, second], behind) = behind.split_first_chunk()?;
    first.store(low, Ordering::Relaxed);
    second.store(high, Ordering::Relaxed);
    Some(Straight(behind))
}
