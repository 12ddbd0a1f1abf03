//! Rings in the test's own memory.

use nexus_log::Memory;
use nexus_log::memory::{Counters, Kept, Place, Progress};
use std::sync::atomic::{AtomicU32, Ordering};

/// Words of a ring as init creates it.
pub const WORDS: usize = 1024;

/// What a ring is made of.
pub struct Parts {
    /// The first page.
    pub counters: Counters,
    /// The second.
    pub words: Vec<AtomicU32>,
}

impl Parts {
    /// An empty ring that was used before: its counters stand at this place. Read by these bits.
    pub fn starting_at(place: u32, readers: u32) -> Self {
        let parts =
            Parts { counters: Counters::default(), words: (0..WORDS).map(|_| AtomicU32::new(0)).collect() };
        parts.counters.readers.store(readers, Ordering::Relaxed);
        parts.counters.written.head.store(place, Ordering::Relaxed);
        for reader in &parts.counters.places {
            reader.tail.store(place, Ordering::Relaxed);
        }
        parts.counters.kept.seen.store(place, Ordering::Relaxed);
        parts
    }

    /// A ring of any contents.
    pub fn of(head: u32, dropped: u32, tail: u32, words: Vec<u32>) -> Self {
        let place = || Place { tail: AtomicU32::new(tail), ..Place::default() };
        let written =
            Progress { head: AtomicU32::new(head), dropped: AtomicU32::new(dropped), ..Progress::default() };
        let counters = Counters {
            written,
            places: [place(), place()],
            readers: AtomicU32::new(u32::MAX),
            kept: Kept::default(),
        };
        Parts { counters, words: words.into_iter().map(AtomicU32::new).collect() }
    }

    /// The ring.
    pub fn memory(&self) -> Memory<'_> {
        Memory::new(&self.counters, &self.words).unwrap()
    }
}
