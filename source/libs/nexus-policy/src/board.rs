//! The board: memory of init's that `policyd` alone writes, that who may ask it reads, and that outlives it.
//!
//! ```text
//! page 0, word 0   the epoch
//!         word 1   which overlay is kept: its slot (1 or 2) << 32 | its bytes; 0: none is
//! page 1, page 2   slots of an overlay each, with its signature
//! ```
//! What is kept is written to the slot that is not in use, and then named in one step; so it is there whole at any
//! instant, and `policyd` finds it when it starts again.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::{Error, Handle, Kind, Rights, system};
use nexus_rt::{Environment, SetupError};
use policy::OVERLAY_BYTES_MAX;

/// Its capability's name.
const NAME: &str = "board/policy";
const _: () = assert!(OVERLAY_BYTES_MAX <= PAGE_SIZE);

/// The board, to look at.
pub struct Board {
    memory: Handle,
    epoch: &'static AtomicU64,
    kept: &'static AtomicU64,
}

/// The board in the hands of who writes it.
pub struct OwnBoard(Board);

impl Board {
    /// The board of a service that may ask.
    pub fn open(environment: &Environment) -> Result<Self, SetupError> {
        Self::map(environment, Rights::READ)
    }

    fn map(environment: &Environment, rights: Rights) -> Result<Self, SetupError> {
        let memory = environment.needed(NAME, Kind::Vmo)?;
        let base = environment.map_memory(memory, PAGE_SIZE, rights)?.cast::<u64>();
        // SAFETY: mapped just now and for good, page-aligned, and nobody reaches these words but by atomics; only an
        // `OwnBoard`, which is mapped to be written, stores to them.
        let word = |place| unsafe { AtomicU64::from_ptr(base.add(place)) };
        Ok(Board { memory, epoch: word(0), kept: word(1) })
    }

    /// The epoch of the table in force; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The slot in use, 0 for none, and its bytes.
    fn named(&self) -> (u64, usize) {
        let word = self.kept.load(Ordering::Acquire);
        let slot = word >> 32;
        (if slot <= 2 { slot } else { 0 }, word as u32 as usize)
    }
}

impl OwnBoard {
    /// The board of `policyd`.
    pub fn open(environment: &Environment) -> Result<Self, SetupError> {
        Board::map(environment, Rights::READ | Rights::WRITE).map(OwnBoard)
    }

    /// The epoch that it shows.
    pub fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    /// Shows an epoch: whoever kept answers of another one asks again.
    pub fn set_epoch(&mut self, epoch: u64) {
        self.0.epoch.store(epoch, Ordering::Release);
    }

    /// The overlay that is kept, if one is.
    pub fn kept(&self) -> Result<Option<Vec<u8>>, Error> {
        let (slot, bytes) = self.0.named();
        if slot == 0 {
            return Ok(None);
        }
        let mut overlay = vec![0; bytes.min(OVERLAY_BYTES_MAX)];
        system::vmo_read(self.0.memory, slot * PAGE_SIZE as u64, &mut overlay)?;
        Ok(Some(overlay))
    }

    /// Keeps an overlay in the place of the one before.
    pub fn keep(&mut self, overlay: &[u8]) -> Result<(), Error> {
        let slot = if self.0.named().0 == 1 { 2 } else { 1 };
        system::vmo_write(self.0.memory, slot * PAGE_SIZE as u64, overlay)?;
        self.0.kept.store(slot << 32 | overlay.len() as u64, Ordering::Release);
        Ok(())
    }
}
