//! The transport of a driver: what `virtio-drivers` asks of a device, over its register window.

use crate::{ProbeError, WillNotReset, register};
use mmio::Window;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The feature that every modern device has: virtio 1.0 or later.
pub const VERSION_1: u64 = 1 << 32;
/// Reads of a queue's readiness until the device counts as stuck.
const QUEUE_READS_MAX: u32 = 100_000;

/// Why a driver cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// What stands in the slot cannot be driven.
    Probe(ProbeError),
    /// Another device stands in it: its number.
    WrongDevice(u32),
    /// It does not reset.
    WillNotReset,
    /// It does not take the features that the driver accepts.
    Features,
    /// A queue or its memory could not be had.
    Queue(Error),
}

impl core::fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            OpenError::Probe(error) => write!(formatter, "{error}"),
            OpenError::WrongDevice(number) => write!(formatter, "it is virtio device {number}"),
            OpenError::WillNotReset => formatter.write_str("the device does not reset"),
            OpenError::Features => formatter.write_str("the device does not take the driver's features"),
            OpenError::Queue(error) => write!(formatter, "its queue: {error}"),
        }
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        OpenError::Queue(error)
    }
}

/// A modern device's registers.
pub struct MmioTransport {
    window: Window,
    device: DeviceType,
}

impl MmioTransport {
    /// The device with this number in this slot, after a reset that was read back.
    pub fn open(window: Window, number: u32) -> Result<Self, OpenError> {
        let found = crate::probe(&window).map_err(OpenError::Probe)?;
        let device = DeviceType::try_from(found).map_err(|_| OpenError::WrongDevice(found))?;
        if found != number {
            return Err(OpenError::WrongDevice(found));
        }
        crate::reset(&window).map_err(|WillNotReset| OpenError::WillNotReset)?;
        Ok(MmioTransport { window, device })
    }

    /// Agrees on features: [`VERSION_1`], and of `wanted` those that the device has. Yields them. The driver sets
    /// up its queues next and then calls [`Transport::finish_init`].
    pub fn negotiate(&mut self, wanted: u64) -> Result<u64, OpenError> {
        let begun = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        self.set_status(begun);
        let offered = self.read_device_features();
        if offered & VERSION_1 == 0 {
            return Err(OpenError::Features);
        }
        let agreed = offered & (wanted | VERSION_1);
        self.write_driver_features(agreed);
        self.set_status(begun | DeviceStatus::FEATURES_OK);
        let taken = self.get_status().contains(DeviceStatus::FEATURES_OK);
        if taken { Ok(agreed) } else { Err(OpenError::Features) }
    }

    fn write_address(&mut self, offset: usize, address: PhysAddr) {
        self.window.write_u32(offset, address as u32);
        self.window.write_u32(offset + size_of::<u32>(), (address >> 32) as u32);
    }

    /// Where so many bytes of the configuration begin in the window, when they are in it.
    fn configuration(&self, offset: usize, bytes: usize) -> Result<usize, Error> {
        let begin = register::CONFIGURATION.checked_add(offset).ok_or(Error::ConfigSpaceTooSmall)?;
        let end = begin.checked_add(bytes).ok_or(Error::ConfigSpaceTooSmall)?;
        if end > self.window.bytes() { Err(Error::ConfigSpaceTooSmall) } else { Ok(begin) }
    }
}

/// Whether a field of the configuration is read in words, as a device must be where it can be.
fn in_words(begin: usize, bytes: usize) -> bool {
    begin.is_multiple_of(size_of::<u32>()) && bytes.is_multiple_of(size_of::<u32>())
}

impl Transport for MmioTransport {
    fn device_type(&self) -> DeviceType {
        self.device
    }

    fn read_device_features(&mut self) -> u64 {
        let half = |number: u32| {
            self.window.write_u32(register::DEVICE_FEATURES_SELECT, number);
            u64::from(self.window.read_u32(register::DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        for (number, half) in [(0, driver_features as u32), (1, (driver_features >> 32) as u32)] {
            self.window.write_u32(register::DRIVER_FEATURES_SELECT, number);
            self.window.write_u32(register::DRIVER_FEATURES, half);
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.window.write_u32(register::QUEUE_SELECT, queue.into());
        self.window.read_u32(register::QUEUE_SIZE_MAX)
    }

    fn notify(&mut self, queue: u16) {
        // What was written into the queue is seen before this is.
        mmio::barrier();
        self.window.write_u32(register::QUEUE_NOTIFY, queue.into());
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_retain(self.window.read_u32(register::STATUS))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        mmio::barrier();
        self.window.write_u32(register::STATUS, status.bits());
    }

    fn set_guest_page_size(&mut self, _guest_page_size: u32) {
        // Of legacy devices alone.
    }

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.window.write_u32(register::QUEUE_SELECT, queue.into());
        self.window.write_u32(register::QUEUE_SIZE, size);
        self.write_address(register::QUEUE_DESCRIPTORS, descriptors);
        self.write_address(register::QUEUE_DRIVER, driver_area);
        self.write_address(register::QUEUE_DEVICE, device_area);
        mmio::barrier();
        self.window.write_u32(register::QUEUE_READY, 1);
    }

    fn queue_unset(&mut self, queue: u16) {
        self.window.write_u32(register::QUEUE_SELECT, queue.into());
        self.window.write_u32(register::QUEUE_READY, 0);
        // A device that goes on is for init to reset; nothing waits for it here.
        let stopped = (0..QUEUE_READS_MAX).any(|_| self.window.read_u32(register::QUEUE_READY) == 0);
        if stopped {
            for offset in [register::QUEUE_DESCRIPTORS, register::QUEUE_DRIVER, register::QUEUE_DEVICE] {
                self.write_address(offset, 0);
            }
        }
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.window.write_u32(register::QUEUE_SELECT, queue.into());
        self.window.read_u32(register::QUEUE_READY) != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        let status = self.window.read_u32(register::INTERRUPT_STATUS);
        if status != 0 {
            self.window.write_u32(register::INTERRUPT_ACKNOWLEDGE, status);
        }
        // What the device wrote before it interrupted is seen from here on.
        mmio::barrier();
        InterruptStatus::from_bits_truncate(status)
    }

    fn read_config_generation(&self) -> u32 {
        self.window.read_u32(register::CONFIGURATION_GENERATION)
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, Error> {
        let begin = self.configuration(offset, size_of::<T>())?;
        let mut value = T::new_zeroed();
        let bytes = value.as_mut_bytes();
        if in_words(begin, bytes.len()) {
            for (place, word) in bytes.chunks_exact_mut(size_of::<u32>()).enumerate() {
                let read = self.window.read_u32(begin + place * size_of::<u32>());
                word.copy_from_slice(&read.to_ne_bytes());
            }
        } else {
            for (place, byte) in bytes.iter_mut().enumerate() {
                *byte = self.window.read_u8(begin + place);
            }
        }
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) -> Result<(), Error> {
        let bytes = value.as_bytes();
        let begin = self.configuration(offset, bytes.len())?;
        if in_words(begin, bytes.len()) {
            for (place, word) in bytes.as_chunks().0.iter().enumerate() {
                self.window.write_u32(begin + place * size_of::<u32>(), u32::from_ne_bytes(*word));
            }
        } else {
            for (place, &byte) in bytes.iter().enumerate() {
                self.window.write_u8(begin + place, byte);
            }
        }
        Ok(())
    }
}
