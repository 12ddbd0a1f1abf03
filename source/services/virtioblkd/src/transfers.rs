//! Calls of clients, cut into requests of the device.
//!
//! A call is answered when every piece of it has ended. Bytes are copied once between the client's memory, which it
//! lends for the time of the call, and the device's. Requests go to the device in the order of the calls; it may
//! finish them in any.

use crate::failure::Failure;
use alloc::vec::Vec;
use driver_kit::DeviceMemory;
use nexus_ipc::Answer;
use nexus_proto::block::{BLOCK_BYTES, BlockError};
use partitions::Extent;
use virtio_blk::{BlockDevice, Outcome, Request, SLOT_BYTES, SLOTS};

/// Slots that are handed to the device at a time: it works on one half of them while the other is copied.
pub const HALF: usize = SLOTS / 2;

/// What a call asks for: blocks of the disk, inside of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Into the client's memory.
    Read(Extent),
    /// Out of the client's memory.
    Write(Extent),
    /// Of what was written.
    Flush,
}

impl Work {
    /// The next piece, when so many bytes are begun: what is asked of the device, and its bytes. A flush is one
    /// piece of no bytes, begun when it counts 1.
    fn piece(self, begun: u64) -> Option<(Request, usize)> {
        let (extent, writes) = match self {
            Work::Read(extent) => (extent, false),
            Work::Write(extent) => (extent, true),
            Work::Flush => return (begun == 0).then_some((Request::Flush, 0)),
        };
        let left = (extent.blocks * BLOCK_BYTES as u64).checked_sub(begun).filter(|&left| left > 0)?;
        let bytes = left.min(SLOT_BYTES as u64) as usize;
        let first = extent.first + begun / BLOCK_BYTES as u64;
        let request = if writes { Request::Write { first, bytes } } else { Request::Read { first, bytes } };
        Some((request, bytes))
    }
}

/// A call that is worked on.
struct Transfer {
    number: u64,
    badge: u64,
    work: Work,
    answer: Answer<(), BlockError>,
    /// Bytes that were handed to the device, or are its client's no more; 1 for a flush.
    begun: u64,
    /// Requests that the device has.
    under_way: usize,
    /// Why nothing more of it is begun.
    failed: Option<BlockError>,
}

impl Transfer {
    fn is_finished(&self) -> bool {
        self.under_way == 0 && (self.failed.is_some() || self.work.piece(self.begun).is_none())
    }
}

/// What a slot of the device is used for.
#[derive(Clone, Copy)]
struct Use {
    number: u64,
    /// Where its bytes are in the client's memory.
    offset: u64,
    bytes: usize,
}

/// Every call that is worked on, in the order in which they came.
#[derive(Default)]
pub struct Transfers {
    open: Vec<Transfer>,
    uses: [Option<Use>; SLOTS],
    numbers: u64,
}

impl Transfers {
    /// Takes a call on.
    pub fn add(&mut self, badge: u64, work: Work, answer: Answer<(), BlockError>) {
        self.numbers += 1;
        let number = self.numbers;
        self.open.push(Transfer { number, badge, work, answer, begun: 0, under_way: 0, failed: None });
    }

    /// Whether a session has calls that are worked on.
    pub fn has(&self, badge: u64) -> bool {
        self.open.iter().any(|transfer| transfer.badge == badge)
    }

    /// Begins nothing more of a session's calls.
    pub fn cancel(&mut self, badge: u64) {
        for transfer in self.open.iter_mut().filter(|transfer| transfer.badge == badge) {
            transfer.failed = Some(BlockError::Io);
        }
    }

    /// Hands the device what it has slots for; it begins while the rest is copied.
    pub fn submit(&mut self, device: &mut BlockDevice<DeviceMemory>) -> Result<(), Failure> {
        let mut untold = 0;
        for transfer in &mut self.open {
            while transfer.failed.is_none()
                && let Some((request, bytes)) = transfer.work.piece(transfer.begun)
                && let Some(slot) = device.free_slot()
            {
                let used = Use { number: transfer.number, offset: transfer.begun, bytes };
                if let Request::Write { .. } = request
                    && let Err(error) = copy_in(transfer, used, device, slot)
                {
                    transfer.failed = Some(error);
                    break;
                }
                device.submit(slot, request)?;
                if let Some(place) = self.uses.get_mut(slot) {
                    *place = Some(used);
                }
                transfer.begun += bytes.max(1) as u64;
                transfer.under_way += 1;
                untold += 1;
                if untold == HALF {
                    device.kick();
                    untold = 0;
                }
            }
        }
        if untold > 0 {
            device.kick();
        }
        Ok(())
    }

    /// The device has finished with a slot; yields whether it was a client's.
    pub fn finished(
        &mut self,
        device: &mut BlockDevice<DeviceMemory>,
        slot: usize,
        outcome: Outcome,
    ) -> bool {
        let Some(used) = self.uses.get_mut(slot).and_then(Option::take) else { return false };
        let Some(transfer) = self.open.iter_mut().find(|transfer| transfer.number == used.number) else {
            return false;
        };
        transfer.under_way = transfer.under_way.saturating_sub(1);
        let ended = match (outcome, transfer.work) {
            (Outcome::Done, Work::Read(_)) => copy_out(transfer, used, device, slot),
            (Outcome::Done, _) => Ok(()),
            (Outcome::Failed | Outcome::Unsupported, _) => Err(BlockError::Io),
        };
        transfer.failed = transfer.failed.or(ended.err());
        true
    }

    /// Answers what is finished. `broken` hears of each session of which a write or a flush was begun and failed.
    pub fn answer_finished(&mut self, mut broken: impl FnMut(u64)) {
        let mut place = 0;
        while let Some(transfer) = self.open.get(place) {
            if !transfer.is_finished() {
                place += 1;
                continue;
            }
            let transfer = self.open.remove(place);
            let changes = !matches!(transfer.work, Work::Read(_));
            if changes && transfer.failed.is_some() && transfer.begun > 0 {
                broken(transfer.badge);
            }
            // Whoever asked may have given up meanwhile.
            let _ = transfer.answer.send(transfer.failed.map_or(Ok(()), Err));
        }
    }
}

/// From the client's memory into the slot's.
fn copy_in(
    transfer: &Transfer,
    used: Use,
    device: &mut BlockDevice<DeviceMemory>,
    slot: usize,
) -> Result<(), BlockError> {
    let buffer = device.buffer(slot).and_then(|buffer| buffer.get_mut(..used.bytes)).ok_or(BlockError::Io)?;
    let lent = transfer.answer.leases().get(0).map_err(|_| BlockError::BadLease)?;
    lent.read(used.offset, buffer).map_err(|_| BlockError::BadLease)
}

/// From the slot's memory into the client's.
fn copy_out(
    transfer: &Transfer,
    used: Use,
    device: &mut BlockDevice<DeviceMemory>,
    slot: usize,
) -> Result<(), BlockError> {
    let buffer = device.buffer(slot).and_then(|buffer| buffer.get(..used.bytes)).ok_or(BlockError::Io)?;
    let lent = transfer.answer.leases().get(0).map_err(|_| BlockError::BadLease)?;
    lent.write(used.offset, buffer).map_err(|_| BlockError::BadLease)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_cut_into_pieces_that_are_all_of_it() {
        let extent = Extent { first: 100, blocks: (2 * SLOT_BYTES / BLOCK_BYTES) as u64 + 6 };
        let mut begun = 0;
        let mut pieces = Vec::new();
        while let Some((request, bytes)) = Work::Write(extent).piece(begun) {
            assert_eq!(request, Request::Write { first: 100 + begun / 512, bytes });
            pieces.push(bytes);
            begun += bytes as u64;
        }
        assert_eq!(pieces, [SLOT_BYTES, SLOT_BYTES, 6 * BLOCK_BYTES]);
    }

    #[test]
    fn a_flush_is_one_piece() {
        assert_eq!(Work::Flush.piece(0), Some((Request::Flush, 0)));
        assert_eq!(Work::Flush.piece(1), None);
    }
}
