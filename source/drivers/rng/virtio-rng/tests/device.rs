//! The driver against a device that does as it should, and against devices that do not.

use mmio::Window;
use mmio::host::{Bus, install};
use std::alloc::{Layout, alloc_zeroed};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::rc::Rc;
use virtio_drivers::{BufferDirection, Error, Hal, PhysAddr};
use virtio_mmio::transport::{MmioTransport, OpenError, VERSION_1};
use virtio_mmio::{MAGIC, MODERN, ProbeError, register};
use virtio_rng::{BUFFER_BYTES, DEVICE, DeviceError, EntropyDevice};

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

/// How a device is made, and how it behaves.
#[derive(Clone, Copy)]
struct Make {
    version: u32,
    number: u32,
    features: u64,
    takes_features: bool,
    resets: bool,
    queue_entries: u32,
    /// Whether a buffer that is given comes back.
    answers: bool,
    /// What it says that it wrote.
    says: u32,
    /// The buffer that it says it is.
    shift_token: u32,
}

const GOOD: Make = Make {
    version: MODERN,
    number: DEVICE,
    features: VERSION_1 | 1 << 28 | 1 << 29,
    takes_features: true,
    resets: true,
    queue_entries: 1024,
    answers: true,
    says: BUFFER_BYTES as u32,
    shift_token: 0,
};

/// The device: one queue.
struct Device {
    make: Make,
    registers: RefCell<BTreeMap<usize, u32>>,
    seen: Cell<u16>,
    /// Bytes that it gave so far; each is the low byte of its number.
    given: Cell<usize>,
}

impl Device {
    fn register(&self, offset: usize) -> u32 {
        self.registers.borrow().get(&offset).copied().unwrap_or(0)
    }

    fn address(&self, offset: usize) -> usize {
        self.register(offset) as usize | (self.register(offset + 4) as usize) << 32
    }

    /// Uses what the driver made available since it last looked.
    fn work(&self) {
        let (descriptors, driver, device) = (
            self.address(register::QUEUE_DESCRIPTORS),
            self.address(register::QUEUE_DRIVER),
            self.address(register::QUEUE_DEVICE),
        );
        let entries = self.register(register::QUEUE_SIZE) as usize;
        while self.seen.get() != read::<u16>(driver + 2) {
            let place = usize::from(self.seen.get()) % entries;
            let head = read::<u16>(driver + 4 + 2 * place);
            let descriptor = descriptors + 16 * usize::from(head);
            let (buffer, bytes) = (read::<u64>(descriptor) as usize, read::<u32>(descriptor + 8) as usize);
            assert_eq!(read::<u16>(descriptor + 12), 2, "one buffer that the device writes");
            for offset in 0..bytes.min(self.make.says as usize) {
                write(buffer + offset, self.given.get() as u8);
                self.given.set(self.given.get() + 1);
            }
            write(device + 4 + 8 * place, u32::from(head) + self.make.shift_token);
            write(device + 8 + 8 * place, self.make.says);
            self.seen.set(self.seen.get().wrapping_add(1));
            write(device + 2, self.seen.get());
            self.registers.borrow_mut().insert(register::INTERRUPT_STATUS, 1);
        }
    }
}

fn read<T: Copy>(address: usize) -> T {
    // SAFETY: the driver says that its queue is there, in memory that is never given back.
    unsafe { std::ptr::with_exposed_provenance::<T>(address).read_volatile() }
}

fn write<T>(address: usize, value: T) {
    // SAFETY: as in `read`.
    unsafe { std::ptr::with_exposed_provenance_mut::<T>(address).write_volatile(value) }
}

impl Bus for Device {
    fn load(&self, address: u64, bytes: u32) -> u64 {
        assert_eq!(bytes, 4);
        let selected = self.register(register::DEVICE_FEATURES_SELECT);
        match address as usize {
            register::MAGIC => MAGIC.into(),
            register::VERSION => self.make.version.into(),
            register::DEVICE_ID => self.make.number.into(),
            register::DEVICE_FEATURES => u64::from((self.make.features >> (32 * selected)) as u32),
            register::QUEUE_SIZE_MAX => self.make.queue_entries.into(),
            offset => self.register(offset).into(),
        }
    }

    fn store(&self, address: u64, _bytes: u32, value: u64) {
        let (offset, mut value) = (address as usize, value as u32);
        match offset {
            register::QUEUE_NOTIFY if self.make.answers => self.work(),
            register::INTERRUPT_ACKNOWLEDGE => {
                self.registers
                    .borrow_mut()
                    .entry(register::INTERRUPT_STATUS)
                    .and_modify(|bits| *bits &= !value);
            }
            register::STATUS if value == 0 => {
                if self.make.resets {
                    self.registers.borrow_mut().clear();
                    self.seen.set(0);
                } else {
                    self.registers.borrow_mut().insert(register::STATUS, 0xf);
                }
                return;
            }
            register::STATUS if !self.make.takes_features => value &= !8,
            _ => {}
        }
        self.registers.borrow_mut().insert(offset, value);
    }
}

fn open(make: Make) -> Result<EntropyDevice<HostMemory>, OpenError> {
    let device = Device { make, registers: RefCell::default(), seen: Cell::new(0), given: Cell::new(0) };
    // Whatever drove it before left it running.
    device.registers.borrow_mut().extend([(register::STATUS, 0xf), (register::QUEUE_READY, 1)]);
    install(Some(Rc::new(device)));
    // SAFETY: every access goes to the bus.
    let window = unsafe { Window::new(std::ptr::null_mut(), PAGE) };
    EntropyDevice::open(MmioTransport::open(window, DEVICE)?)
}

fn refusal(make: Make) -> OpenError {
    open(make).err().expect("it must be refused")
}

fn answer(make: Make) -> Result<Option<usize>, DeviceError> {
    let mut driver = open(make).unwrap();
    driver.ask().unwrap();
    driver.take(&mut [0; BUFFER_BYTES])
}

#[test]
fn bytes_come_in_order_as_often_as_they_are_asked_for() {
    let mut driver = open(GOOD).unwrap();
    let mut came = Vec::new();
    for _ in 0..20 {
        let mut bytes = [0; BUFFER_BYTES];
        assert_eq!(driver.take(&mut bytes), Ok(None));
        driver.ask().unwrap();
        assert!(driver.is_asked());
        assert!(!driver.clear_cause().is_empty() && driver.clear_cause().is_empty());
        assert_eq!(driver.take(&mut bytes), Ok(Some(BUFFER_BYTES)));
        assert!(!driver.is_asked());
        came.extend(bytes);
    }
    assert_eq!(came, (0..20 * BUFFER_BYTES).map(|number| number as u8).collect::<Vec<_>>());
}

#[test]
fn fewer_bytes_are_as_many_as_the_device_says() {
    assert_eq!(answer(Make { says: 5, ..GOOD }), Ok(Some(5)));
}

#[test]
fn nothing_comes_before_the_device_answers_and_asking_twice_is_asking_once() {
    let mut driver = open(Make { answers: false, ..GOOD }).unwrap();
    for _ in 0..10 {
        driver.ask().unwrap();
        assert_eq!(driver.take(&mut [0; BUFFER_BYTES]), Ok(None));
    }
    assert!(driver.is_asked());
}

#[test]
fn test_reject_answers_of_no_bytes_too_many_bytes_and_another_buffer() {
    assert_eq!(answer(Make { says: 0, ..GOOD }), Err(DeviceError::NoBytes));
    assert_eq!(answer(Make { says: 257, ..GOOD }), Err(DeviceError::TooMany(257)));
    assert_eq!(answer(Make { says: u32::MAX, ..GOOD }), Err(DeviceError::TooMany(u32::MAX)));
    let other = Make { shift_token: 1, ..GOOD };
    assert_eq!(answer(other), Err(DeviceError::Queue(Error::WrongToken)));
}

#[test]
fn test_reject_what_is_not_this_device() {
    assert_eq!(refusal(Make { version: 1, ..GOOD }), OpenError::Probe(ProbeError::Legacy));
    assert_eq!(refusal(Make { number: 0, ..GOOD }), OpenError::WrongDevice(0));
    assert_eq!(refusal(Make { number: 2, ..GOOD }), OpenError::WrongDevice(2));
}

#[test]
fn test_reject_a_device_that_does_not_reset() {
    assert_eq!(refusal(Make { resets: false, ..GOOD }), OpenError::WillNotReset);
}

#[test]
fn test_reject_a_device_without_modern_features_or_that_does_not_take_them() {
    assert_eq!(refusal(Make { features: 0, ..GOOD }), OpenError::Features);
    assert_eq!(refusal(Make { takes_features: false, ..GOOD }), OpenError::Features);
}

#[test]
fn test_reject_a_device_without_a_queue() {
    assert_eq!(refusal(Make { queue_entries: 0, ..GOOD }), OpenError::Queue(Error::InvalidParam));
}
