//! A ring's memory, as both sides see it.
//!
//! ```text
//! page 0, offset 0    head      words that were ever written; the producer's
//!         offset 4    dropped   records that found the ring full; the producer's
//!         offset 8    owed      of an audit ring: decisions that wait to be told of together; the producer's
//!         offset 64   tail      words that the console has ever read; the console's
//!         offset 68   told      of the dropped, how many it has told of; the console's
//!         offset 72   taken     records that it has ever read; the console's
//!         offset 128  tail, told, taken: the journal's
//!         offset 192  readers   who reads: bit 0 the console, bit 1 the journal; written by who owns the ring
//!         offset 256  until     of an audit ring: up to which word all that is critical is durable; the journal's
//!         offset 260  keeper    odd: a journal makes it so; another number than before: it is another journal, or
//!                               one that gave some up; the journal's
//!         offset 264  seen      of an audit ring: words that the journal has taken, whether or not it gave them back
//! page 1 …            words     a power of two of them; word n of the stream lies at n mod their number
//!
//! record: words of it | level << 16, bytes of scope | bytes of message << 8, ticks (low), ticks (high), scope,
//!         message, fields: each text padded with zeroes to whole words
//! field:  bytes of key | kind << 8 | bytes of text << 16, key, value (two words of a number, or text);
//!         kind 0: unsigned, 1: signed, 2: text
//! ```
//! All of it is reached through atomics: the other sides may change any word at any time.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, Ordering, fence};

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, Ordering, fence};

/// Who reads a ring. Each has a place of its own in it, so neither waits for the other or misses anything by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Shows lines.
    Console = 0,
    /// Keeps records.
    Journal = 1,
}

impl Reader {
    /// Its bit in the ring's word of who reads.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Where the word of who reads lies, for the ring's owner, who writes it as the `u32` of [`Reader::bit`]s.
pub const READERS_OFFSET: u64 = 192;

/// The producer's counters.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Progress {
    /// Words that were ever written.
    pub head: AtomicU32,
    /// Records that found the ring full.
    pub dropped: AtomicU32,
    /// Of an audit ring, decisions that wait to be told of together.
    pub owed: AtomicU32,
}

/// One reader's counters.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Place {
    /// Words that were ever read.
    pub tail: AtomicU32,
    /// Of the dropped records, how many were told.
    pub told: AtomicU32,
    /// Records that were ever read.
    pub taken: AtomicU32,
}

/// What the journal says of the critical records of an audit ring.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Kept {
    /// Up to which word of the stream they are durable.
    pub until: AtomicU32,
    /// Odd: a journal makes them durable. It changes when that is another one, or it gave some up.
    pub keeper: AtomicU32,
    /// Words that the journal has taken: it gives them back when they are durable, and is rung before.
    pub seen: AtomicU32,
}

/// The first page: each side's counters on a cache line of their own.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Counters {
    /// The producer's.
    pub written: Progress,
    /// The readers', by [`Reader`].
    pub places: [Place; 2],
    /// The bits of who reads.
    pub readers: AtomicU32,
    /// The journal's word.
    pub kept: Kept,
}

#[cfg(not(loom))]
const _: () = assert!(core::mem::offset_of!(Counters, readers) == READERS_OFFSET as usize);

/// A ring's counters and words.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    pub(crate) counters: &'a Counters,
    pub(crate) words: &'a [AtomicU32],
}

impl<'a> Memory<'a> {
    /// A ring over these counters and words; `None` unless there is a power of two of words.
    pub fn new(counters: &'a Counters, words: &'a [AtomicU32]) -> Option<Self> {
        let fits = words.len().is_power_of_two() && words.len() <= 1 << 24;
        fits.then_some(Memory { counters, words })
    }

    /// A ring over [`crate::RING_BYTES`] of mapped memory.
    ///
    /// # Safety
    /// `base` must be page-aligned and readable and writable for [`crate::RING_BYTES`] for as long as `'a`,
    /// and this process must reach that memory through rings alone.
    #[cfg(not(loom))]
    pub unsafe fn from_mapped(base: *mut u8) -> Self {
        // SAFETY: inside the mapping and aligned, all of it atomics, of which every bit pattern is one; the
        // caller's word.
        let counters = unsafe { &*base.cast::<Counters>() };
        let count = (crate::RING_BYTES - 4096) / size_of::<AtomicU32>();
        // SAFETY: as above: the second page is all words.
        let words = unsafe { core::slice::from_raw_parts(base.add(4096).cast::<AtomicU32>(), count) };
        Memory { counters, words }
    }

    /// How many words the ring holds.
    pub(crate) fn capacity(&self) -> u32 {
        self.words.len() as u32
    }

    /// The word at this place of the stream.
    #[inline(always)]
    pub(crate) fn word(&self, place: u32) -> &'a AtomicU32 {
        &self.words[place as usize & (self.words.len() - 1)]
    }

    /// The counters of a reader.
    #[inline(always)]
    pub(crate) fn place(&self, reader: Reader) -> &'a Place {
        &self.counters.places[reader as usize]
    }

    /// Words that a reader has not taken. A tail that is ahead of the head makes it huge.
    #[inline(always)]
    pub(crate) fn unread(&self, head: u32, reader: Reader) -> u32 {
        head.wrapping_sub(self.place(reader).tail.load(Ordering::Acquire))
    }

    /// Whether so many words more fit before what this reader has not taken. An impossible reader is a full ring.
    #[inline(always)]
    pub(crate) fn has_room(&self, head: u32, reader: Reader, words: u32) -> bool {
        self.capacity().checked_sub(self.unread(head, reader)).is_some_and(|free| words <= free)
    }

    /// Counts a record that found the ring full.
    #[cold]
    pub(crate) fn count_dropped(&self) {
        let dropped = &self.counters.written.dropped;
        dropped.store(dropped.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Words that a reader of these bits has not taken, of the one that has taken least.
    #[inline(always)]
    pub(crate) fn unread_by_any(&self, head: u32, readers: u32) -> u32 {
        let unread = |reader: Reader| if readers & reader.bit() == 0 { 0 } else { self.unread(head, reader) };
        unread(Reader::Console).max(unread(Reader::Journal))
    }

    /// Words in a row from this place of the stream on, before those that are unread; none if a reader is impossible.
    #[inline(always)]
    pub(crate) fn row(&self, head: u32, unread: u32) -> &'a [AtomicU32] {
        let (capacity, unread) = (self.words.len(), unread as usize);
        // Nothing here can wrap: `words` is never empty, and what is beyond its capacity was refused.
        // With its sign, which is masked away: the machine loads it so.
        let place = head as i32 as usize & capacity.wrapping_sub(1);
        if unread > capacity {
            return &[];
        }
        let free = capacity.wrapping_sub(unread);
        match self.words.get(place..) {
            Some(row) => row.get(..free).unwrap_or(row),
            None => &[],
        }
    }

    /// Writes words from this place of the stream on, once around at the most.
    pub(crate) fn around(&self, place: u32) -> Around<'a> {
        let (before, from) = self.words.split_at(place as usize & (self.words.len() - 1));
        Around { now: from, next: before }
    }

    /// Makes everything up to `head` readable; yields which of `readers` must be rung, since it had read all before.
    #[inline(always)]
    pub(crate) fn publish(&self, before: u32, head: u32, readers: u32) -> u32 {
        self.advance(head);
        let [console, journal] = [Reader::Console, Reader::Journal]
            .map(|reader| self.place(reader).tail.load(Ordering::Relaxed) == before);
        // Mostly the one before was not read yet, and nobody is to be rung.
        if console || journal { rung(console, journal) & readers } else { 0 }
    }

    /// As [`Memory::publish`] of an audit ring: yields whether the journal must be rung, since it had taken all before.
    pub(crate) fn publish_to_journal(&self, before: u32, head: u32) -> bool {
        self.advance(head);
        self.counters.kept.seen.load(Ordering::Relaxed) == before
    }

    /// Makes everything up to `head` readable.
    #[inline(always)]
    fn advance(&self, head: u32) {
        self.counters.written.head.store(head, Ordering::Release);
        // Pairs with the fence in `Cursor::available`: either a reader sees the new head before it sleeps, or
        // we see that it had read everything and ring.
        fence(Ordering::SeqCst);
    }
}

/// The bits of who had read everything.
#[inline(never)]
fn rung(console: bool, journal: bool) -> u32 {
    let bit = |had_all: bool, reader: Reader| if had_all { reader.bit() } else { 0 };
    bit(console, Reader::Console) | bit(journal, Reader::Journal)
}

/// Where the next words of the stream go: what is written yields where those behind it go. `None`: there is no place for
/// more.
pub(crate) trait Writer: Sized {
    /// Writes words.
    fn put<const N: usize>(self, values: [u32; N]) -> Option<Self>;

    /// Writes text, padded with zeroes to whole words.
    #[inline(never)]
    fn put_text(self, text: &[u8]) -> Option<Self> {
        let (whole, rest) = text.as_chunks::<4>();
        let (groups, words) = whole.as_chunks::<4>();
        let group = |to: Self, group: &[[u8; 4]; 4]| to.put(group.map(u32::from_le_bytes));
        let to = groups.iter().try_fold(self, group)?;
        let to = words.iter().try_fold(to, |to, word| to.put([u32::from_le_bytes(*word)]))?;
        to.put_rest(rest)
    }

    /// Writes less than a word of text, padded with zeroes.
    #[inline(always)]
    fn put_rest(self, rest: &[u8]) -> Option<Self> {
        match *rest {
            [] => Some(self),
            [first] => self.put([u32::from_le_bytes([first, 0, 0, 0])]),
            [first, second] => self.put([u32::from_le_bytes([first, second, 0, 0])]),
            [first, second, third, ..] => self.put([u32::from_le_bytes([first, second, third, 0])]),
        }
    }
}

/// The two words of a number, the lower half first.
#[inline(always)]
pub(crate) const fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// Words in a row: most records are written so.
#[derive(Clone, Copy)]
pub(crate) struct Straight<'a>(pub &'a [AtomicU32]);

impl Writer for Straight<'_> {
    #[inline(always)]
    fn put<const N: usize>(self, values: [u32; N]) -> Option<Self> {
        let (words, rest) = self.0.split_first_chunk::<N>()?;
        for (word, value) in words.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        Some(Straight(rest))
    }
}

/// Words of which some are at the end of the ring and the others at its beginning.
pub(crate) struct Around<'a> {
    now: &'a [AtomicU32],
    /// What follows at the end of the ring: its beginning.
    next: &'a [AtomicU32],
}

impl Writer for Around<'_> {
    fn put<const N: usize>(mut self, values: [u32; N]) -> Option<Self> {
        if let Some(Straight(now)) = Straight(self.now).put(values) {
            return Some(Around { now, ..self });
        }
        for value in values {
            if self.now.is_empty() {
                self.now = core::mem::take(&mut self.next);
            }
            let (word, now) = self.now.split_first()?;
            word.store(value, Ordering::Relaxed);
            self.now = now;
        }
        Some(self)
    }
}

/// Words that a text of this many bytes takes.
pub(crate) const fn text_words(bytes: usize) -> u32 {
    bytes.div_ceil(4) as u32
}
