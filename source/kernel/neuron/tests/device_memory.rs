//! The life of memory that a device reaches by itself: created for it, quarantined when nobody else reaches
//! it, back in the pool after the device was reset.

use neuron::memory::PhysicalAddress;
use neuron::testing::{Actor, Machine, PAGE, RAM_BASE, SCRATCH};
use nexus_abi::records::{CapabilityInfo, ProcessParameters, SystemInfo};
use nexus_abi::{Error, Kind, Rights, SystemCall};

const WINDOW: u64 = 0x1000_0000;
const HOLE: u64 = 0x3000_0000;
/// Pages that the device may have.
const PROMISED: u64 = 16;
const READ_WRITE: u64 = Rights::READ.union(Rights::WRITE).bits() as u64;

/// A supervisor that owns a device's window, and a driver that it gave the window to.
struct Bench {
    machine: Machine,
    supervisor: Actor,
    authority: u64,
    window: u64,
}

impl Bench {
    fn new() -> Self {
        let mut machine = Machine::new();
        let supervisor = machine.process();
        let authority = machine.give_root(supervisor, Kind::DeviceAuthority);
        let create = [authority, WINDOW, PAGE, PROMISED];
        let window = machine.call(supervisor, SystemCall::DeviceCapCreate, &create).expect("a free window");
        Bench { machine, supervisor, authority, window }
    }

    /// A driver with the right to map, as init would start it.
    fn driver(&mut self) -> (Actor, u64) {
        let driver = self.machine.process();
        let window = self.machine.hand(self.supervisor, self.window, driver, Rights::MAP);
        (driver, window)
    }

    fn create(&mut self, (driver, window): (Actor, u64), pages: u64) -> Result<u64, Error> {
        self.machine.call(driver, SystemCall::DmaCreate, &[window, pages * PAGE])
    }

    fn release(&mut self, outcome: u64) -> Result<u64, Error> {
        self.machine.call(self.supervisor, SystemCall::DmaRelease, &[self.window, outcome])
    }

    /// Pages in quarantine, by a query of the window; the machine's figures must agree.
    fn quarantined(&mut self) -> u64 {
        let (supervisor, window) = (self.supervisor, self.window);
        self.machine.call(supervisor, SystemCall::CapQuery, &[window, SCRATCH]).expect("alive");
        let of_device = self.machine.get::<CapabilityInfo>(supervisor, SCRATCH).badge;
        let control = self.machine.give_root(supervisor, Kind::SystemControl);
        self.machine.call(supervisor, SystemCall::SystemInfo, &[control, SCRATCH]).expect("alive");
        self.machine.call(supervisor, SystemCall::CapClose, &[control]).expect("just given");
        assert_eq!(self.machine.get::<SystemInfo>(supervisor, SCRATCH).quarantined_pages, of_device);
        of_device
    }

    fn end(&mut self, process: Actor) {
        self.machine.kill(process.process);
        self.machine.settle();
    }
}

#[test]
fn memory_for_a_device_is_contiguous_zeroed_and_tells_where_it_is() {
    let mut bench = Bench::new();
    let driver = bench.driver();
    let vmo = bench.create(driver, 5).expect("promised");
    let address = bench.machine.call(driver.0, SystemCall::DmaAddress, &[vmo]).expect("its own memory");
    assert!(address > RAM_BASE && address.is_multiple_of(PAGE));
    let memory = &bench.machine.kernel.memory;
    let first = memory.frame(PhysicalAddress(address)).expect("RAM");
    let map = [0, vmo, HOLE, 0, 5 * PAGE, READ_WRITE];
    bench.machine.call(driver.0, SystemCall::VmoMap, &map).expect("free addresses");
    for page in 0..5 {
        assert!(bench.machine.bytes(driver.0, HOLE + page * PAGE, PAGE as usize).iter().all(|&b| b == 0));
        bench.machine.put(driver.0, HOLE + page * PAGE, &(page + 1));
        let mut seen = [0; 8];
        memory.read(first + page as u32, 0, &mut seen);
        assert_eq!(u64::from_le_bytes(seen), page + 1, "the device sees the driver's bytes in order");
    }
}

#[test]
fn a_dead_drivers_memory_waits_until_the_device_was_reset() {
    let mut bench = Bench::new();
    let status = |bench: &mut Bench| bench.machine.status(bench.supervisor.process).expect("alive");
    // The first of everything touches pages that stay.
    assert_eq!(bench.quarantined(), 0);
    let first = bench.driver().0;
    bench.end(first);
    let before = (bench.machine.kernel.memory.free_count(), status(&mut bench).reserved_pages);
    let driver = bench.driver();
    let vmo = bench.create(driver, 6).expect("promised");
    bench.create(driver, 4).expect("promised");
    let map = [0, vmo, HOLE, 0, 6 * PAGE, READ_WRITE];
    bench.machine.call(driver.0, SystemCall::VmoMap, &map).expect("free addresses");
    bench.end(driver.0);
    assert_eq!(bench.quarantined(), 10);
    assert_eq!(bench.machine.kernel.memory.free_count(), before.0 - 10, "no frame of it is in the pool");

    let successor = bench.driver();
    assert_eq!(bench.create(successor, 7), Err(Error::NoMemory), "quarantine counts against the device");
    bench.create(successor, 6).expect("what is left of its pages");
    bench.release(0).expect("the holder of MANAGE");
    assert_eq!(bench.quarantined(), 0);
    bench.create(successor, 10).expect("its pages are back");
    bench.end(successor.0);
    bench.release(0).expect("the holder of MANAGE");
    assert_eq!((bench.machine.kernel.memory.free_count(), status(&mut bench).reserved_pages), before);
}

#[test]
fn a_live_driver_cannot_give_memory_back_behind_its_device() {
    let mut bench = Bench::new();
    let driver = bench.driver();
    let vmo = bench.create(driver, 3).expect("promised");
    bench.machine.call(driver.0, SystemCall::CapClose, &[vmo]).expect("its own handle");
    assert_eq!(bench.quarantined(), 3);
    let kept = bench.create(driver, 2).expect("promised");
    bench.release(0).expect("the holder of MANAGE");
    assert_eq!(bench.quarantined(), 0);
    assert!(bench.machine.call(driver.0, SystemCall::DmaAddress, &[kept]).is_ok(), "live memory stays");
}

#[test]
fn test_reject_a_reset_that_the_driver_claims() {
    let mut bench = Bench::new();
    let (driver, window) = bench.driver();
    let release = bench.machine.call(driver, SystemCall::DmaRelease, &[window, 0]);
    assert_eq!(release, Err(Error::NotPermitted));
}

#[test]
fn a_device_that_will_not_reset_is_retired_with_its_memory() {
    let mut bench = Bench::new();
    let driver = bench.driver();
    bench.create(driver, 3).expect("promised");
    bench.end(driver.0);
    bench.release(1).expect("the holder of MANAGE");
    assert_eq!(bench.quarantined(), 3);
    assert_eq!(bench.release(0), Err(Error::Sealed));
    let successor = bench.driver();
    let map = [successor.1, HOLE, 0, PAGE, READ_WRITE];
    assert_eq!(bench.machine.call(successor.0, SystemCall::MmioMap, &map), Err(Error::Sealed));
    // Not even under another name.
    bench.end(successor.0);
    let (supervisor, authority) = (bench.supervisor, bench.authority);
    bench.machine.call(supervisor, SystemCall::CapClose, &[bench.window]).expect("its own handle");
    let again = [authority, WINDOW, PAGE, 0];
    assert_eq!(bench.machine.call(supervisor, SystemCall::DeviceCapCreate, &again), Err(Error::Overlap));
}

#[test]
fn taking_the_window_back_takes_the_memory_back() {
    let mut bench = Bench::new();
    let driver = bench.driver();
    let vmo = bench.create(driver, 3).expect("promised");
    let map = [0, vmo, HOLE, 0, 3 * PAGE, READ_WRITE];
    bench.machine.call(driver.0, SystemCall::VmoMap, &map).expect("free addresses");
    bench.machine.call(bench.supervisor, SystemCall::CapRevoke, &[bench.window]).expect("its own handle");
    let read = bench.machine.call(driver.0, SystemCall::VmoRead, &[vmo, 0, SCRATCH, 8]);
    assert_eq!(read, Err(Error::StaleHandle));
    let through = bench.machine.call(driver.0, SystemCall::VmoRead, &[vmo, 0, HOLE, 8]);
    assert_eq!(through, Err(Error::StaleHandle));
    assert_eq!(bench.quarantined(), 3);
}

/// Whoever alone could have had the device reset is dead: what the device may still write is nobody's again,
/// and the sum of all quotas shrinks by it.
#[test]
fn memory_of_a_device_that_nobody_can_reset_is_lost_and_accounted_for() {
    let mut bench = Bench::new();
    let root = bench.machine.counts();
    let owner = bench.machine.process();
    let authority = bench.machine.give_root(owner, Kind::DeviceAuthority);
    let create = [authority, WINDOW + 8 * PAGE, PAGE, PROMISED];
    let window = bench.machine.call(owner, SystemCall::DeviceCapCreate, &create).expect("a free window");
    bench.create((owner, window), 3).expect("promised");
    bench.end(owner);
    let now = bench.machine.counts();
    assert_eq!((now.free_frames, now.lost), (root.free_frames - 3, root.lost + 3));
    assert_eq!(now.reserved, root.reserved);
    bench.machine.audit();
    let again = [bench.authority, WINDOW + 8 * PAGE, PAGE, 0];
    let (supervisor, call) = (bench.supervisor, SystemCall::DeviceCapCreate);
    assert!(bench.machine.call(supervisor, call, &again).is_ok(), "the window itself is free again");
}

#[test]
fn half_gathered_memory_of_a_killed_driver_serves_the_next() {
    let mut bench = Bench::new();
    let free = bench.machine.kernel.memory.free_count();
    let (driver, window) = bench.driver();
    // Two frames are zeroed a step: the first step cannot be the last.
    let begun = bench.machine.start_once(driver, SystemCall::DmaCreate, &[window, 8 * PAGE]);
    assert_eq!(begun, None);
    bench.end(driver);
    let successor = bench.driver();
    bench.create(successor, 5).expect("promised");
    bench.end(successor.0);
    bench.release(0).expect("the holder of MANAGE");
    assert_eq!(bench.machine.kernel.memory.free_count(), free);
}

#[test]
fn the_quota_of_the_windows_owner_holds_the_promise_until_the_window_goes() {
    let mut machine = Machine::new();
    let parameters = ProcessParameters { quota_pages: 128, ..machine.parameters() };
    let owner = machine.process_with(&parameters);
    let authority = machine.give_root(owner, Kind::DeviceAuthority);
    let reserved = |machine: &mut Machine| machine.status(owner.process).expect("alive").reserved_pages;
    let before = reserved(&mut machine);
    let window = machine.call(owner, SystemCall::DeviceCapCreate, &[authority, WINDOW, PAGE, 40]).unwrap();
    // One page is the slab of devices.
    assert_eq!(reserved(&mut machine), before + 41);
    machine.call(owner, SystemCall::CapClose, &[window]).expect("its own handle");
    assert_eq!(reserved(&mut machine), before);
}
