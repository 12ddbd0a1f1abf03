//! A ring's memory, as both sides see it.
//!
//! ```text
//! page 0, offset 0    head      words that were ever written; the producer's
//!         offset 4    dropped   records that found the ring full; the producer's
//!         offset 64   tail      words that were ever read; the consumer's
//! page 1 …            words     a power of two of them; word n of the stream lies at n mod their number
//!
//! record: bytes of text | level << 16, ticks (low), ticks (high), text padded with zeroes to whole words
//! ```
//! All of it is reached through atomics: the other side may change any word at any time.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, Ordering, fence};

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, Ordering, fence};

/// Words before the text of a record.
pub(crate) const HEAD_WORDS: u32 = 3;

/// A ring's counters and words.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    pub(crate) head: &'a AtomicU32,
    pub(crate) dropped: &'a AtomicU32,
    pub(crate) tail: &'a AtomicU32,
    pub(crate) words: &'a [AtomicU32],
}

impl<'a> Memory<'a> {
    /// A ring over these counters and words; `None` unless there is a power of two of words.
    pub fn new(
        head: &'a AtomicU32,
        dropped: &'a AtomicU32,
        tail: &'a AtomicU32,
        words: &'a [AtomicU32],
    ) -> Option<Self> {
        let fits = words.len().is_power_of_two() && words.len() <= 1 << 24;
        fits.then_some(Memory { head, dropped, tail, words })
    }

    /// A ring over [`crate::RING_BYTES`] of mapped memory.
    ///
    /// # Safety
    /// `base` must be page-aligned and readable and writable for [`crate::RING_BYTES`] for as long as `'a`,
    /// and this process must reach that memory through rings alone.
    #[cfg(not(loom))]
    pub unsafe fn from_mapped(base: *mut u8) -> Self {
        let counter = |offset: usize| {
            // SAFETY: inside the mapping, aligned to 4, only reached through atomics; the caller's word.
            unsafe { AtomicU32::from_ptr(base.add(offset).cast()) }
        };
        let count = (crate::RING_BYTES - 4096) / size_of::<AtomicU32>();
        // SAFETY: as above: the second page is all words, and every bit pattern is one.
        let words = unsafe { core::slice::from_raw_parts(base.add(4096).cast::<AtomicU32>(), count) };
        Memory { head: counter(0), dropped: counter(4), tail: counter(64), words }
    }

    /// How many words the ring holds.
    pub(crate) fn capacity(&self) -> u32 {
        self.words.len() as u32
    }

    /// The word at this place of the stream.
    pub(crate) fn word(&self, place: u32) -> &'a AtomicU32 {
        &self.words[place as usize & (self.words.len() - 1)]
    }
}

/// Words that a text of this many bytes takes.
pub(crate) fn text_words(bytes: usize) -> u32 {
    bytes.div_ceil(4) as u32
}
