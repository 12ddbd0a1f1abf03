//! Where the deliberate faults take hold. Compiled only for the proof that the proofs find them.

use crate::device::BlockDevice;
use crate::error::Error;
use crate::store::{Mutant, Store};

impl<D: BlockDevice> Store<D> {
    /// The flush of a group, as the mutant does it.
    pub(crate) fn flush_group(&mut self) -> Result<(), Error> {
        self.counters.flushes += 1;
        match self.options.mutant {
            Mutant::FlushDropped => Ok(()),
            Mutant::SuperblockBeforeData if self.checkpoint_is_written() => Ok(()),
            Mutant::AcknowledgedBeforeFlush => {
                self.flush_owed = true;
                Ok(())
            }
            _ => Ok(self.device.flush()?),
        }
    }

    /// Segments that this mutant takes before it may.
    pub(crate) fn release_early(&mut self, mutant: Mutant, replay_start: u64) {
        if self.options.mutant == mutant {
            self.segments.release(replay_start);
        }
    }

    /// The flush that was answered before it was done.
    pub(crate) fn pay_owed_flush(&mut self) -> Result<(), Error> {
        if core::mem::take(&mut self.flush_owed) {
            self.device.flush()?;
        }
        Ok(())
    }
}
