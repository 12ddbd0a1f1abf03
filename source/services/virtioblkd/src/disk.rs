//! The device, its interrupt, its partitions, and what is under way: what the service's loop works on.

use crate::DEVICE_BIT;
use crate::doors::Doors;
use crate::failure::Failure;
use crate::transfers::{HALF, Transfers, Work};
use core::time::Duration;
use driver_kit::{DeviceMemory, Line, Look};
use nexus_abi::{Error, Handle, Rights, system};
use nexus_ipc::{Answer, Caller, Deadline};
use nexus_proto::block::{
    BLOCK_BYTES, BlockError, Extent, Geometry, HAS_CACHE, READ_ONLY, Server, TRANSFER_BLOCKS_MAX,
};
use nexus_rt::Environment;
use partitions::Partition;
use virtio_blk::{BlockDevice, Outcome, Properties, Request, SLOT_BYTES, SLOTS};

/// Time in which a device that has requests finishes one of them, or counts as stuck.
const DEVICE_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that a write under way may damage at the least.
const UNIT_BYTES_MIN: u64 = 4096;

const _: () = assert!(BLOCK_BYTES == virtio_blk::BLOCK_BYTES && BLOCK_BYTES == partitions::BLOCK_BYTES);

/// The disk.
pub struct Disk<'a> {
    environment: &'a Environment,
    line: Line,
    events: Handle,
    /// Where clients call; sessions are minted of it.
    endpoint: Handle,
    work: UnderWay,
    /// When a device that has requests counts as stuck.
    due: Deadline,
}

/// What the device's interrupt is about.
struct UnderWay {
    device: BlockDevice<DeviceMemory>,
    transfers: Transfers,
    doors: Doors,
    /// Requests that the device has finished so far.
    finished: u64,
    /// How the request ended that is no client's.
    own: Option<Outcome>,
}

impl Look for UnderWay {
    type Failure = Failure;

    fn clear_cause(&mut self) {
        self.device.clear_cause();
    }

    fn look(&mut self) -> Result<(), Failure> {
        while let Some((slot, outcome)) = self.device.take()? {
            self.finished += 1;
            if !self.transfers.finished(&mut self.device, slot, outcome) {
                self.own = Some(outcome);
            }
            if self.device.count_under_way() + HALF <= SLOTS {
                self.go_on()?;
            }
        }
        Ok(())
    }
}

impl UnderWay {
    /// Hands the device as much as it can take, and answers what is finished.
    fn go_on(&mut self) -> Result<(), Failure> {
        self.transfers.submit(&mut self.device)?;
        self.transfers.answer_finished(|badge| self.doors.broken(badge));
        Ok(())
    }
}

/// What is to be done for this request of a client whose partition is this, or why nothing is. `lent` is how many bytes
/// it lends, and whether they may be written.
fn work(
    partition: partitions::Extent,
    is_read_only: bool,
    request: Extent,
    writes: bool,
    lent: Option<(u64, bool)>,
) -> Result<Work, BlockError> {
    if writes && is_read_only {
        return Err(BlockError::ReadOnly);
    }
    if !(1..=TRANSFER_BLOCKS_MAX).contains(&request.blocks) {
        return Err(BlockError::BadLength);
    }
    let on_disk = partition.part(request.first, request.blocks).ok_or(BlockError::OutOfRange)?;
    let (bytes, is_writable) = lent.ok_or(BlockError::BadLease)?;
    if bytes != request.blocks * BLOCK_BYTES as u64 || (!writes && !is_writable) {
        return Err(BlockError::BadLease);
    }
    Ok(if writes { Work::Write(on_disk) } else { Work::Read(on_disk) })
}

impl<'a> Disk<'a> {
    /// A disk of which nothing is served yet.
    pub fn new(
        environment: &'a Environment,
        device: BlockDevice<DeviceMemory>,
        line: Line,
        events: Handle,
        endpoint: Handle,
    ) -> Self {
        let (transfers, doors) = (Transfers::default(), Doors::default());
        let work = UnderWay { device, transfers, doors, finished: 0, own: None };
        Disk { environment, line, events, endpoint, work, due: Deadline::NEVER }
    }

    /// What there is to know of the device.
    pub fn properties(&self) -> Properties {
        self.work.device.properties()
    }

    /// Serves these partitions from here on.
    pub fn set_partitions(&mut self, found: &[(Partition, partitions::Extent)]) {
        self.work.doors = Doors::new(found, self.environment.page().generation);
    }

    /// Reads whole blocks and waits until they are there; only while nothing else is under way.
    pub fn read_now(&mut self, first: u64, to: &mut [u8]) -> Result<(), Failure> {
        for (place, part) in to.chunks_mut(SLOT_BYTES).enumerate() {
            let first = first.saturating_add((place * (SLOT_BYTES / BLOCK_BYTES)) as u64);
            let slot = self.work.device.free_slot().ok_or(Failure::Stuck)?;
            self.work.device.submit(slot, Request::Read { first, bytes: part.len() })?;
            self.work.device.kick();
            let due = self.environment.deadline(DEVICE_PATIENCE).ticks();
            let outcome = loop {
                match system::notification_wait(self.events, DEVICE_BIT, due) {
                    Ok(_) => self.line.answer(&mut self.work)?,
                    Err(Error::TimedOut) => return Err(Failure::Stuck),
                    Err(error) => return Err(error.into()),
                }
                if let Some(outcome) = self.work.own.take() {
                    break outcome;
                }
            };
            let buffer = self.work.device.buffer(slot).filter(|_| outcome == Outcome::Done);
            let read = buffer.and_then(|buffer| buffer.get(..part.len())).ok_or(Failure::Refused)?;
            part.copy_from_slice(read);
        }
        Ok(())
    }

    /// The device interrupted.
    pub fn hear(&mut self) -> Result<(), Failure> {
        let before = self.work.finished;
        self.line.answer(&mut self.work)?;
        // An interrupt alone is no sign of life.
        if self.work.finished > before {
            self.due = Deadline::NEVER;
        }
        Ok(())
    }

    /// The client of this session is gone: what it asked for is not begun any more.
    pub fn client_gone(&mut self, badge: u64) {
        self.work.doors.closing(badge);
        self.work.transfers.cancel(badge);
    }

    /// Hands the device as much as it can take, answers what is finished, closes what nobody uses. A device that
    /// finishes nothing for too long is stuck, also while clients never stop calling.
    pub fn go_on(&mut self) -> Result<(), Failure> {
        if self.due.has_passed() {
            // What was finished until now may wait for its interrupt to be heard.
            let before = self.work.finished;
            self.work.look()?;
            if self.work.finished == before {
                return Err(Failure::Stuck);
            }
            self.due = Deadline::NEVER;
        }
        self.work.go_on()?;
        let UnderWay { device, transfers, doors, .. } = &mut self.work;
        doors.close(|badge| transfers.has(badge));
        match (device.count_under_way(), self.due) {
            (0, _) => self.due = Deadline::NEVER,
            (_, Deadline::NEVER) => self.due = self.environment.deadline(DEVICE_PATIENCE),
            _ => {}
        }
        Ok(())
    }

    /// When the device counts as stuck.
    pub fn patience_ends(&self) -> Deadline {
        self.due
    }

    /// Never, but in an image with planted faults.
    fn completes_flushes_at_once(&self) -> bool {
        cfg!(feature = "mutants") && self.environment.has_argument("mutant=early-flush")
    }

    fn open(&mut self, partition: Partition) -> Result<Handle, BlockError> {
        let badge = self.work.doors.open(partition)?;
        let session =
            system::endpoint_mint(self.endpoint, badge, Rights::CALL).map_err(|_| BlockError::Busy)?;
        self.work.doors.opened(badge);
        Ok(session)
    }

    /// Begins to read or write, or says why not.
    fn transfer(
        &mut self,
        badge: u64,
        request: Extent,
        writes: bool,
        answer: &Answer<(), BlockError>,
    ) -> Result<Work, BlockError> {
        let partition = self.work.doors.extent(badge)?;
        if writes {
            self.work.doors.may_write(badge)?;
        }
        let lent = answer.leases().get(0).ok().map(|lent| (lent.bytes(), lent.is_writable()));
        work(partition, self.properties().is_read_only, request, writes, lent)
    }

    /// Keeps what can be begun, and refuses what cannot.
    fn take_on(&mut self, badge: u64, work: Result<Work, BlockError>, answer: Answer<(), BlockError>) {
        match work {
            Ok(work) => self.work.transfers.add(badge, work, answer),
            Err(refusal) => {
                // Whoever asked may have given up meanwhile.
                let _ = answer.send(Err(refusal));
            }
        }
    }
}

impl Server for Disk<'_> {
    fn boota(&mut self, _caller: Caller, (): ()) -> Result<Handle, BlockError> {
        self.open(Partition::BootA)
    }

    fn bootb(&mut self, _caller: Caller, (): ()) -> Result<Handle, BlockError> {
        self.open(Partition::BootB)
    }

    fn bootctl(&mut self, _caller: Caller, (): ()) -> Result<Handle, BlockError> {
        self.open(Partition::Bootctl)
    }

    fn state(&mut self, _caller: Caller, (): ()) -> Result<Handle, BlockError> {
        self.open(Partition::State)
    }

    fn scratch(&mut self, _caller: Caller, (): ()) -> Result<Handle, BlockError> {
        self.open(Partition::Scratch)
    }

    fn geometry(&mut self, caller: Caller, (): ()) -> Result<Geometry, BlockError> {
        let (extent, properties) = (self.work.doors.extent(caller.badge)?, self.properties());
        let flag = |is_so: bool, bit: u64| if is_so { bit } else { 0 };
        Ok(Geometry {
            blocks: extent.blocks,
            unit_bytes: properties.physical_bytes.max(UNIT_BYTES_MIN),
            flags: flag(properties.has_cache, HAS_CACHE) | flag(properties.is_read_only, READ_ONLY),
        })
    }

    fn read(&mut self, caller: Caller, request: Extent, answer: Answer<(), BlockError>) {
        let work = self.transfer(caller.badge, request, false, &answer);
        self.take_on(caller.badge, work, answer);
    }

    fn write(&mut self, caller: Caller, request: Extent, answer: Answer<(), BlockError>) {
        let work = self.transfer(caller.badge, request, true, &answer);
        self.take_on(caller.badge, work, answer);
    }

    fn flush(&mut self, caller: Caller, (): (), answer: Answer<(), BlockError>) {
        let work = self.work.doors.may_write(caller.badge).map(|()| Work::Flush);
        if work.is_ok() && (!self.properties().has_cache || self.completes_flushes_at_once()) {
            // Every write that was answered is durable already. Whoever asked may have given up meanwhile.
            let _ = answer.send(Ok(()));
            return;
        }
        self.take_on(caller.badge, work, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: partitions::Extent = partitions::Extent { first: 100, blocks: 4000 };

    fn asked(first: u64, blocks: u64) -> Extent {
        Extent { first, blocks }
    }

    fn refused(read_only: bool, request: Extent, writes: bool, lent: Option<(u64, bool)>) -> BlockError {
        work(STATE, read_only, request, writes, lent).unwrap_err()
    }

    #[test]
    fn a_request_becomes_work_inside_of_its_partition() {
        let on_disk = partitions::Extent { first: 107, blocks: 2 };
        let read = work(STATE, true, asked(7, 2), false, Some((1024, true)));
        assert_eq!(read, Ok(Work::Read(on_disk)), "a disk that cannot be written is read");
        assert_eq!(work(STATE, false, asked(7, 2), true, Some((1024, false))), Ok(Work::Write(on_disk)));
    }

    #[test]
    fn test_reject_writing_to_a_disk_that_cannot_be_written() {
        assert_eq!(refused(true, asked(0, 1), true, Some((512, true))), BlockError::ReadOnly);
    }

    #[test]
    fn test_reject_no_blocks_and_more_than_one_call_may_move() {
        for blocks in [0, TRANSFER_BLOCKS_MAX + 1, u64::MAX] {
            let lent = Some((blocks.wrapping_mul(512), true));
            assert_eq!(refused(false, asked(0, blocks), false, lent), BlockError::BadLength);
        }
    }

    #[test]
    fn test_reject_blocks_beyond_the_partition() {
        for first in [3999, 4000, u64::MAX - 1, u64::MAX] {
            assert_eq!(refused(false, asked(first, 2), true, Some((1024, true))), BlockError::OutOfRange);
        }
    }

    #[test]
    fn test_reject_memory_that_is_not_lent_of_another_length_or_not_to_be_written() {
        let lent = [None, Some((0, true)), Some((1023, true)), Some((1025, true)), Some((1024, false))];
        for lent in lent {
            assert_eq!(refused(false, asked(0, 2), false, lent), BlockError::BadLease);
        }
        assert_eq!(refused(false, asked(0, 2), true, Some((512, false))), BlockError::BadLease);
    }
}
