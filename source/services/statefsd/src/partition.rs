//! The partition `state`, through its session with the driver, as the device that the store lives on.
//!
//! A session ends with its driver, and with a write or a flush that failed; what was written since the last good
//! flush is gone then. Whoever stores must hear of that exactly once: a session that is lost with nothing unflushed
//! is opened again in silence, and one that is lost with anything unflushed fails the next write or flush.

use core::time::Duration;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::{Error, system};
use nexus_ipc::{CallError, Clock, Deadline, Lent};
use nexus_proto::block::{BLOCK_BYTES, BlockError, Client, Extent, Geometry, TRANSFER_BLOCKS_MAX};
use nexus_proto::state::NoStore;
use statefs::{BlockDevice, DeviceError, SECTOR};

/// Time that the driver may take for one call: more than it gives its device.
const CALL_PATIENCE: Duration = Duration::from_secs(15);
/// Time in which a driver that was started again opens the partition.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);
/// Time between two attempts to open.
const OPEN_PAUSE: Duration = Duration::from_millis(5);

const _: () = assert!(SECTOR == BLOCK_BYTES && PAGE_SIZE.is_multiple_of(SECTOR));

type Called<A> = Result<A, CallError<BlockError>>;

/// The partition.
pub struct Partition {
    driver: Client,
    clock: Clock,
    session: Option<Client>,
    geometry: Geometry,
    /// Something was written that no flush has made durable.
    is_dirty: bool,
    /// What was written is lost, or could not be looked at, and nobody has heard of it.
    owes_failure: bool,
}

impl Partition {
    /// Opens the partition.
    pub fn open(driver: Client, clock: Clock) -> Result<Self, NoStore> {
        let geometry = Geometry::default();
        let mut partition =
            Partition { driver, clock, session: None, geometry, is_dirty: false, owes_failure: false };
        let session = partition.open_session().map_err(|error| match error {
            CallError::Service(BlockError::NoPartition) => NoStore::NoPartition,
            CallError::Kernel(Error::Sealed) => NoStore::NoDisk,
            _ => NoStore::DeviceFailed,
        })?;
        partition.geometry =
            session.geometry(&(), partition.deadline()).map_err(|_| NoStore::DeviceFailed)?;
        Ok(partition)
    }

    /// Whether there is a session, or one could be had: whoever reads without one would take the driver's absence for
    /// damage.
    pub fn is_reachable(&mut self) -> bool {
        self.session().is_some()
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(&self.clock, CALL_PATIENCE)
    }

    /// A new session, in a moment if the partition or the driver is about to be free.
    fn open_session(&mut self) -> Called<Client> {
        let end = Deadline::after(&self.clock, OPEN_PATIENCE);
        loop {
            let opened = self.driver.state(&(), end);
            let may_change = matches!(
                opened,
                Err(CallError::Service(BlockError::Busy) | CallError::Kernel(Error::PeerGone))
            );
            if !may_change || end.has_passed() {
                let session = opened?;
                self.session = Some(session);
                return Ok(session);
            }
            system::thread_sleep(Deadline::after(&self.clock, OPEN_PAUSE).ticks());
        }
    }

    /// The session; a lost one is opened anew, on the same partition or not at all.
    fn session(&mut self) -> Option<Client> {
        if self.session.is_none() && self.geometry.blocks > 0 {
            let session = self.open_session().ok()?;
            if session.geometry(&(), self.deadline()).ok() != Some(self.geometry) {
                self.close();
            }
        }
        self.session
    }

    /// The session is over, and with it what was not flushed.
    fn close(&mut self) {
        if let Some(session) = self.session.take() {
            // A session whose driver is gone is gone as well.
            let _ = system::cap_close(session.endpoint());
        }
        self.owes_failure |= core::mem::take(&mut self.is_dirty);
    }

    /// Fails once if what was written is lost.
    fn pay(&mut self) -> Result<(), DeviceError> {
        if core::mem::take(&mut self.owes_failure) { Err(DeviceError::Io) } else { Ok(()) }
    }

    /// Makes a call, and once more through a new session if the old one was over and nothing is lost with it.
    fn call(&mut self, mut make: impl FnMut(Client, Deadline) -> Called<()>) -> Result<(), DeviceError> {
        let mut is_second = false;
        loop {
            let session = self.session().ok_or(DeviceError::Gone)?;
            let Err(error) = make(session, self.deadline()) else { return Ok(()) };
            let is_over = matches!(
                error,
                CallError::Kernel(Error::PeerGone | Error::Sealed) | CallError::Service(BlockError::NotOpen)
            );
            match error {
                CallError::Service(BlockError::OutOfRange | BlockError::BadLength) => {
                    return Err(DeviceError::Range);
                }
                // The device itself could not: of a read, these bytes are lost.
                CallError::Service(BlockError::Io | BlockError::ReadOnly) => return Err(DeviceError::Io),
                _ if is_over => {
                    let is_lost = self.is_dirty;
                    self.close();
                    if is_lost || is_second {
                        return Err(DeviceError::Gone);
                    }
                    is_second = true;
                }
                // No answer in time, or none that there is: nothing is known of the bytes.
                _ => return Err(DeviceError::Gone),
            }
        }
    }

    /// As [`Partition::call`], for what changes: after a failure nothing since the last good flush counts.
    fn change(&mut self, make: impl FnMut(Client, Deadline) -> Called<()>) -> Result<(), DeviceError> {
        self.pay()?;
        let outcome = self.call(make);
        if outcome.is_err() {
            self.close();
            // This is the failure that was owed.
            self.owes_failure = false;
        }
        outcome
    }
}

/// Which blocks a transfer is about.
fn extent(offset: u64, bytes: usize) -> Result<Extent, DeviceError> {
    let is_whole = offset.is_multiple_of(BLOCK_BYTES as u64) && bytes.is_multiple_of(BLOCK_BYTES);
    let blocks = (bytes / BLOCK_BYTES) as u64;
    if is_whole { Ok(Extent { first: offset / BLOCK_BYTES as u64, blocks }) } else { Err(DeviceError::Range) }
}

/// Bytes that one call moves.
const CALL_BYTES: usize = TRANSFER_BLOCKS_MAX as usize * BLOCK_BYTES;

impl BlockDevice for Partition {
    fn physical_block(&self) -> u32 {
        u32::try_from(self.geometry.unit_bytes).unwrap_or(u32::MAX)
    }

    fn length(&self) -> u64 {
        self.geometry.blocks.saturating_mul(BLOCK_BYTES as u64)
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        extent(offset, buffer.len())?;
        for (place, part) in buffer.chunks_mut(CALL_BYTES).enumerate() {
            let part_extent = extent(offset + (place * CALL_BYTES) as u64, part.len())?;
            let outcome = self.call(|session, due| session.read(&part_extent, [Lent::write(part)], due));
            if let Err(error) = outcome {
                // The blocks may be well: nothing that is concluded from this may become durable.
                self.owes_failure |= !self.is_reachable();
                return Err(error);
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        extent(offset, data.len())?;
        for (place, part) in data.chunks(CALL_BYTES).enumerate() {
            let part_extent = extent(offset + (place * CALL_BYTES) as u64, part.len())?;
            self.change(|session, due| session.write(&part_extent, [Lent::read(part)], due))?;
            self.is_dirty = true;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.change(|session, due| session.flush(&(), due))?;
        self.is_dirty = false;
        Ok(())
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.close();
    }
}
