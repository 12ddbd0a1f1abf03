//! The copies of the anchor on the partition `bootctl`, which is open only while they are read or written.

use alloc::vec;
use core::time::Duration;
use identity::{ANCHOR_BYTES, ANCHOR_COPIES, Copies, anchor_place};
use nexus_abi::{Error, system};
use nexus_ipc::{CallError, Clock, Deadline, Lent};
use nexus_proto::block::{BLOCK_BYTES, BlockError, Client, Extent};
use nexus_proto::keystore::NoIdentity;

/// Time in which a driver that was started again opens the partition.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);
/// Time between two attempts to open.
const OPEN_PAUSE: Duration = Duration::from_millis(5);
/// Time that the driver may take for one call: more than it gives its device.
const CALL_PATIENCE: Duration = Duration::from_secs(15);
/// Times that a session which ended in the middle is begun anew. What is done in one can be done again.
const ATTEMPTS: u32 = 3;

const _: () = assert!(ANCHOR_BYTES == BLOCK_BYTES);

type Called<A> = Result<A, CallError<BlockError>>;

/// The partition.
pub struct Bootctl {
    driver: Client,
    clock: Clock,
}

/// An open partition; it is closed when this is dropped.
struct Session<'a> {
    partition: Client,
    blocks: u64,
    clock: &'a Clock,
}

impl Bootctl {
    /// The partition behind this driver.
    pub const fn new(driver: Client, clock: Clock) -> Self {
        Bootctl { driver, clock }
    }

    /// Every copy of the anchor.
    pub fn anchors(&self) -> Result<Copies, NoIdentity> {
        self.within(|session| {
            let mut copies = [None; ANCHOR_COPIES];
            for (place, copy) in copies.iter_mut().enumerate() {
                *copy = session.read(place)?;
            }
            Ok(copies)
        })
    }

    /// Writes a copy of the anchor, durably.
    pub fn keep_anchor(&self, copy: usize, anchor: &[u8; ANCHOR_BYTES]) -> Result<(), NoIdentity> {
        self.within(|session| session.write(copy, anchor))
    }

    /// Does something with the open partition, again from the beginning if the driver dies meanwhile.
    fn within<A>(&self, mut deed: impl FnMut(&Session<'_>) -> Called<A>) -> Result<A, NoIdentity> {
        let mut attempt = 1;
        loop {
            let outcome = self.open().and_then(|session| deed(&session));
            match outcome {
                Err(CallError::Kernel(Error::PeerGone)) if attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome.map_err(reason),
            }
        }
    }

    /// Opens the partition, in a moment if it is about to be free.
    fn open(&self) -> Called<Session<'_>> {
        let end = Deadline::after(&self.clock, OPEN_PATIENCE);
        loop {
            match self.driver.bootctl(&(), end) {
                Err(CallError::Service(BlockError::Busy)) if !end.has_passed() => {
                    system::thread_sleep(Deadline::after(&self.clock, OPEN_PAUSE).ticks());
                }
                opened => {
                    let mut session = Session { partition: opened?, blocks: 0, clock: &self.clock };
                    session.blocks = session.partition.geometry(&(), session.deadline())?.blocks;
                    return Ok(session);
                }
            }
        }
    }
}

impl Session<'_> {
    fn deadline(&self) -> Deadline {
        Deadline::after(self.clock, CALL_PATIENCE)
    }

    /// Where a copy stands. In a partition without room for it nothing can be reached.
    fn extent(&self, copy: usize) -> Called<Extent> {
        let place = anchor_place(self.blocks.saturating_mul(BLOCK_BYTES as u64), copy);
        let place = place.ok_or(CallError::Service(BlockError::NoPartition))?;
        Ok(Extent { first: place / BLOCK_BYTES as u64, blocks: 1 })
    }

    fn read(&self, copy: usize) -> Called<Option<[u8; ANCHOR_BYTES]>> {
        let mut bytes = vec![0; ANCHOR_BYTES];
        match self.partition.read(&self.extent(copy)?, [Lent::write(&mut bytes)], self.deadline()) {
            Ok(()) => Ok(bytes.first_chunk().copied()),
            // The device itself could not: these bytes are lost.
            Err(CallError::Service(BlockError::Io)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, copy: usize, anchor: &[u8; ANCHOR_BYTES]) -> Called<()> {
        let bytes = anchor.to_vec();
        self.partition.write(&self.extent(copy)?, [Lent::read(&bytes)], self.deadline())?;
        self.partition.flush(&(), self.deadline())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // A session whose driver is gone is gone as well.
        let _ = system::cap_close(self.partition.endpoint());
    }
}

fn reason(error: CallError<BlockError>) -> NoIdentity {
    match error {
        CallError::Service(BlockError::NoPartition) => NoIdentity::NoBootctl,
        _ => NoIdentity::Unavailable,
    }
}
