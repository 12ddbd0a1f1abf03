//! The journal's board: memory of init's that outlives it, by which a successor in the same boot goes on.
//!
//! ```text
//! word 0   the number of this boot; 0: not known yet
//! word 1   the last number that was given to a record
//! word 2   records that were to be in the store and are neither there nor in their ring
//! ```

use core::sync::atomic::{AtomicU64, Ordering};
use journal::{Before, Journal};
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::{Kind, Rights};
use nexus_rt::{Environment, SetupError};

/// Words that it has.
const WORDS: usize = 3;

/// The board.
pub struct Board(&'static [AtomicU64; WORDS]);

impl Board {
    /// Maps it.
    pub fn open(environment: &Environment) -> Result<Self, SetupError> {
        let memory = environment.needed("board/log", Kind::Vmo)?;
        let base = environment.map_memory(memory, PAGE_SIZE, Rights::READ | Rights::WRITE)?;
        // SAFETY: mapped just now and for good, page-aligned and of more bytes; whoever else maps it, this process's
        // predecessors and its callers, reaches it by atomics or only to read.
        Ok(Board(unsafe { &*base.cast() }))
    }

    /// What the journals of this boot before this one left, which had so many decisions.
    pub fn before(&self, decisions: u64) -> Before {
        let [boot, last, unwritten] = self.0.each_ref().map(|word| word.load(Ordering::Relaxed));
        Before { decisions, boot, last, unwritten }
    }

    /// Writes down where the journal is, of whose decisions so many are still in their rings.
    pub fn update(&self, journal: &Journal, held: u64) {
        let lost = journal.unwritten().saturating_sub(held) + journal.figures().never_written;
        let now = [journal.boot(), journal.last(), lost];
        self.0.iter().zip(now).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
    }
}
