//! The driver against a device that does as it should, in any order, and against devices that do not.

use mmio::Window;
use mmio::host::{Bus, install};
use std::alloc::{Layout, alloc_zeroed};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::rc::Rc;
use virtio_blk::{
    BLOCK_BYTES, BlockDevice, DEVICE, DeviceError, Outcome, Properties, Request, SLOT_BYTES, SLOTS,
};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};
use virtio_mmio::transport::{MmioTransport, OpenError, VERSION_1};
use virtio_mmio::{MAGIC, MODERN, register};

const PAGE: usize = 4096;

/// The host's memory, at the same address for both sides.
struct HostMemory;

// SAFETY: fresh zeroed pages, aligned, never given back.
unsafe impl Hal for HostMemory {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // SAFETY: the size is not zero.
        let memory = unsafe { alloc_zeroed(Layout::from_size_align(pages * PAGE, PAGE).unwrap()) };
        (memory.expose_provenance() as PhysAddr, NonNull::new(memory).unwrap())
    }

    unsafe fn dma_dealloc(_address: PhysAddr, _place: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_address: PhysAddr, _bytes: usize) -> NonNull<u8> {
        unreachable!("of PCI alone")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr().expose_provenance() as PhysAddr
    }

    unsafe fn unshare(_address: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// How a device behaves.
#[derive(Clone, Copy)]
struct Make {
    features: u64,
    block_bytes: u32,
    status: u8,
    /// How many bytes fewer than it should it says that it wrote.
    says_fewer: u32,
    /// The request that it says it has finished.
    shift_token: u32,
    /// Whether it finishes the last request first.
    backwards: bool,
}

const GOOD: Make = Make {
    features: VERSION_1 | 1 << 6 | 1 << 9 | 1 << 10,
    block_bytes: 512,
    status: 0,
    says_fewer: 0,
    shift_token: 0,
    backwards: false,
};

/// The device, with a disk of whatever was written.
struct Device {
    make: Make,
    registers: RefCell<BTreeMap<usize, u32>>,
    disk: RefCell<BTreeMap<u64, u8>>,
    counts: RefCell<(u16, u16)>,
}

impl Device {
    fn register(&self, offset: usize) -> u32 {
        self.registers.borrow().get(&offset).copied().unwrap_or(0)
    }

    fn address(&self, offset: usize) -> usize {
        self.register(offset) as usize | (self.register(offset + 4) as usize) << 32
    }

    fn work(&self) {
        let driver = self.address(register::QUEUE_DRIVER);
        let entries = self.register(register::QUEUE_SIZE) as usize;
        let (seen, available) = (self.counts.borrow().0, read::<u16>(driver + 2));
        let count = available.wrapping_sub(seen);
        let mut heads: Vec<u16> = (0..count)
            .map(|place| read(driver + 4 + 2 * (usize::from(seen.wrapping_add(place)) % entries)))
            .collect();
        if self.make.backwards {
            heads.reverse();
        }
        self.counts.borrow_mut().0 = available;
        heads.into_iter().for_each(|head| self.finish(head, entries));
        self.registers.borrow_mut().insert(register::INTERRUPT_STATUS, 1);
    }

    fn finish(&self, head: u16, entries: usize) {
        let mut chain = Vec::new();
        let mut next = usize::from(head);
        loop {
            let descriptor = self.address(register::QUEUE_DESCRIPTORS) + 16 * next;
            chain.push((read::<u64>(descriptor) as usize, read::<u32>(descriptor + 8) as usize));
            if read::<u16>(descriptor + 12) & 1 == 0 {
                break;
            }
            next = usize::from(read::<u16>(descriptor + 14));
        }
        let (header, status) = (chain[0].0, chain[chain.len() - 1].0);
        let (kind, first) = (read::<u32>(header), read::<u64>(header + 8));
        let mut written = 1;
        for &(address, bytes) in &chain[1..chain.len() - 1] {
            for place in 0..bytes {
                let at = first * BLOCK_BYTES as u64 + place as u64;
                match kind {
                    0 => write(address + place, self.disk.borrow().get(&at).copied().unwrap_or(0)),
                    _ => drop(self.disk.borrow_mut().insert(at, read(address + place))),
                }
            }
            written += if kind == 0 { bytes as u32 } else { 0 };
        }
        write(status, self.make.status);
        let device = self.address(register::QUEUE_DEVICE);
        let used = &mut self.counts.borrow_mut().1;
        let place = device + 4 + 8 * (usize::from(*used) % entries);
        write(place, u32::from(head) + self.make.shift_token);
        write(place + 4, written - self.make.says_fewer);
        *used = used.wrapping_add(1);
        write(device + 2, *used);
    }
}

fn read<T: Copy>(address: usize) -> T {
    // SAFETY: the driver says that its memory is there, and it is never given back.
    unsafe { std::ptr::with_exposed_provenance::<T>(address).read_volatile() }
}

fn write<T>(address: usize, value: T) {
    // SAFETY: as in `read`.
    unsafe { std::ptr::with_exposed_provenance_mut::<T>(address).write_volatile(value) }
}

impl Bus for Device {
    fn load(&self, address: u64, _bytes: u32) -> u64 {
        let selected = self.register(register::DEVICE_FEATURES_SELECT);
        match address as usize {
            register::MAGIC => MAGIC.into(),
            register::VERSION => MODERN.into(),
            register::DEVICE_ID => DEVICE.into(),
            register::DEVICE_FEATURES => u64::from((self.make.features >> (32 * selected)) as u32),
            register::QUEUE_SIZE_MAX => 256,
            register::CONFIGURATION => 131_072,
            0x114 => self.make.block_bytes.into(),
            0x118 => 3,
            offset => self.register(offset).into(),
        }
    }

    fn store(&self, address: u64, _bytes: u32, value: u64) {
        let (offset, value) = (address as usize, value as u32);
        match offset {
            register::QUEUE_NOTIFY => self.work(),
            register::STATUS if value == 0 => self.registers.borrow_mut().clear(),
            register::INTERRUPT_ACKNOWLEDGE => {
                self.registers.borrow_mut().insert(register::INTERRUPT_STATUS, 0);
                return;
            }
            _ => {}
        }
        self.registers.borrow_mut().insert(offset, value);
    }
}

fn open(make: Make) -> Result<BlockDevice<HostMemory>, DeviceError> {
    let (registers, disk, counts) = (RefCell::default(), RefCell::default(), RefCell::default());
    install(Some(Rc::new(Device { make, registers, disk, counts })));
    // SAFETY: every access goes to the bus.
    let window = unsafe { Window::new(std::ptr::null_mut(), PAGE) };
    BlockDevice::open(MmioTransport::open(window, DEVICE)?)
}

/// Writes a slot full of a byte to each of so many places at once.
fn write_many(driver: &mut BlockDevice<HostMemory>, count: usize) {
    for slot in 0..count {
        assert_eq!(driver.free_slot(), Some(slot));
        driver.buffer(slot).unwrap().fill(slot as u8 + 1);
        let first = (slot * SLOT_BYTES / BLOCK_BYTES) as u64;
        driver.submit(slot, Request::Write { first, bytes: SLOT_BYTES }).unwrap();
    }
    driver.kick();
}

fn outcomes(driver: &mut BlockDevice<HostMemory>) -> Vec<(usize, Outcome)> {
    std::iter::from_fn(|| driver.take().unwrap()).collect()
}

/// What becomes of one read.
fn one_read(make: Make) -> Result<Option<(usize, Outcome)>, DeviceError> {
    let mut driver = open(make).unwrap();
    driver.submit(0, Request::Read { first: 0, bytes: BLOCK_BYTES }).unwrap();
    driver.kick();
    driver.take()
}

#[test]
fn the_device_tells_what_it_is() {
    let expected = Properties { blocks: 131_072, physical_bytes: 4096, has_cache: true, is_read_only: false };
    assert_eq!(open(GOOD).unwrap().properties(), expected);
    let plain = open(Make { features: VERSION_1 | 1 << 5, ..GOOD }).unwrap().properties();
    assert_eq!((plain.physical_bytes, plain.has_cache, plain.is_read_only), (512, false, true));
}

#[test]
fn as_many_requests_as_there_are_slots_are_finished_in_any_order() {
    for backwards in [false, true] {
        let mut driver = open(Make { backwards, ..GOOD }).unwrap();
        write_many(&mut driver, SLOTS);
        assert_eq!((driver.free_slot(), driver.count_under_way()), (None, SLOTS));
        let mut done = outcomes(&mut driver);
        assert_eq!(done[0].0, if backwards { SLOTS - 1 } else { 0 });
        done.sort_by_key(|(slot, _)| *slot);
        assert_eq!(done, (0..SLOTS).map(|slot| (slot, Outcome::Done)).collect::<Vec<_>>());
        for slot in 0..SLOTS {
            let first = (slot * SLOT_BYTES / BLOCK_BYTES) as u64 + 1;
            driver.submit(slot, Request::Read { first, bytes: BLOCK_BYTES }).unwrap();
        }
        driver.kick();
        assert_eq!(outcomes(&mut driver).len(), SLOTS);
        for slot in 0..SLOTS {
            assert_eq!(driver.buffer(slot).unwrap()[..BLOCK_BYTES], [slot as u8 + 1; BLOCK_BYTES]);
        }
        driver.submit(3, Request::Flush).unwrap();
        driver.kick();
        assert_eq!(outcomes(&mut driver), [(3, Outcome::Done)]);
    }
}

#[test]
fn what_the_device_says_of_a_request_is_told() {
    assert_eq!(one_read(GOOD), Ok(Some((0, Outcome::Done))));
    assert_eq!(one_read(Make { status: 1, ..GOOD }), Ok(Some((0, Outcome::Failed))));
    assert_eq!(one_read(Make { status: 2, ..GOOD }), Ok(Some((0, Outcome::Unsupported))));
    assert_eq!(one_read(Make { status: 0xff, ..GOOD }), Ok(Some((0, Outcome::Failed))));
}

#[test]
fn test_reject_a_read_that_did_not_fill_its_buffer() {
    assert_eq!(one_read(Make { says_fewer: 1, ..GOOD }), Ok(Some((0, Outcome::Failed))));
}

#[test]
fn test_reject_a_request_that_the_device_did_not_have() {
    assert_eq!(one_read(Make { shift_token: 1, ..GOOD }), Err(DeviceError::NotAsked(1)));
    assert_eq!(one_read(Make { shift_token: 40, ..GOOD }), Err(DeviceError::NotAsked(40)));
}

#[test]
fn test_reject_requests_that_fit_no_buffer_and_slots_in_use() {
    let mut driver = open(GOOD).unwrap();
    for bytes in [0, 1, BLOCK_BYTES + 1, SLOT_BYTES + BLOCK_BYTES] {
        let refused = driver.submit(0, Request::Write { first: 0, bytes });
        assert_eq!(refused, Err(DeviceError::BadRequest), "{bytes}");
    }
    assert_eq!(driver.submit(SLOTS, Request::Flush), Err(DeviceError::SlotInUse));
    driver.submit(0, Request::Flush).unwrap();
    assert_eq!(driver.submit(0, Request::Flush), Err(DeviceError::SlotInUse));
    assert!(driver.buffer(0).is_none() && driver.buffer(SLOTS).is_none());
}

#[test]
fn test_reject_other_block_sizes_and_devices_before_virtio_1() {
    let refused = |make| open(make).err().expect("it must be refused");
    assert_eq!(refused(Make { block_bytes: 4096, ..GOOD }), DeviceError::BlockSize(4096));
    assert_eq!(refused(Make { features: 0, ..GOOD }), DeviceError::Open(OpenError::Features));
}
