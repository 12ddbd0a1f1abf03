//! virtio over registers (virtio 1.2, section 4.2): what stands in a slot, and how it is reset.
//!
//! What it is: as much as init needs to tell slots apart and to quiet a dead driver's device, over a
//! [`Window`]; and, with the feature `transport`, what a driver's queues need of it. What it is not: a driver.
//!
//! Where to start reading: [`probe`].
#![cfg_attr(not(test), no_std)]

#[cfg(feature = "transport")]
pub mod transport;

use mmio::Window;

/// Offsets of the registers, in bytes.
pub mod register {
    /// "virt".
    pub const MAGIC: usize = 0x000;
    /// 2; legacy devices say 1.
    pub const VERSION: usize = 0x004;
    /// What kind of device it is; 0: the slot is empty.
    pub const DEVICE_ID: usize = 0x008;
    /// 32 features of the device.
    pub const DEVICE_FEATURES: usize = 0x010;
    /// Which 32 of them.
    pub const DEVICE_FEATURES_SELECT: usize = 0x014;
    /// 32 features that the driver accepts.
    pub const DRIVER_FEATURES: usize = 0x020;
    /// Which 32 of them.
    pub const DRIVER_FEATURES_SELECT: usize = 0x024;
    /// The queue that the registers of a queue are about.
    pub const QUEUE_SELECT: usize = 0x030;
    /// Entries that the queue can have.
    pub const QUEUE_SIZE_MAX: usize = 0x034;
    /// Entries that it has.
    pub const QUEUE_SIZE: usize = 0x038;
    /// Whether the device may use it.
    pub const QUEUE_READY: usize = 0x044;
    /// Tells the device that a queue has something new.
    pub const QUEUE_NOTIFY: usize = 0x050;
    /// Why it interrupts.
    pub const INTERRUPT_STATUS: usize = 0x060;
    /// Clears what was seen there.
    pub const INTERRUPT_ACKNOWLEDGE: usize = 0x064;
    /// How far the driver is; writing 0 resets.
    pub const STATUS: usize = 0x070;
    /// Where the queue's descriptors are: the low and, four bytes on, the high half.
    pub const QUEUE_DESCRIPTORS: usize = 0x080;
    /// Where the driver's part of the queue is, likewise.
    pub const QUEUE_DRIVER: usize = 0x090;
    /// Where the device's part of the queue is, likewise.
    pub const QUEUE_DEVICE: usize = 0x0a0;
    /// Changes when the configuration does.
    pub const CONFIGURATION_GENERATION: usize = 0x0fc;
    /// The device's own configuration begins.
    pub const CONFIGURATION: usize = 0x100;
}

/// Bytes that every slot has.
pub const WINDOW_BYTES_MIN: usize = register::CONFIGURATION;
/// "virt", as it is read.
pub const MAGIC: u32 = 0x7472_6976;
/// The version of the registers that is driven here.
pub const MODERN: u32 = 2;
/// The version that is refused.
pub const LEGACY: u32 = 1;
/// Reads of the status until a device counts as one that does not reset.
pub const RESET_READS_MAX: u32 = 100_000;

/// Why what stands in a slot cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeError {
    /// It is no virtio slot.
    NoMagic,
    /// A device with the registers of before virtio 1.0.
    Legacy,
    /// Registers of a version that is not known.
    UnknownVersion(u32),
}

impl core::fmt::Display for ProbeError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ProbeError::NoMagic => formatter.write_str("it is no virtio slot"),
            ProbeError::Legacy => formatter.write_str("a legacy device (version 1); modern virtio is needed"),
            ProbeError::UnknownVersion(version) => write!(formatter, "version {version} is not known"),
        }
    }
}

/// A device that did not reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WillNotReset;

/// The number of the device in a slot; 0 when it is empty. Changes nothing.
pub fn probe(window: &Window) -> Result<u32, ProbeError> {
    if window.bytes() < WINDOW_BYTES_MIN || window.read_u32(register::MAGIC) != MAGIC {
        return Err(ProbeError::NoMagic);
    }
    let device = window.read_u32(register::DEVICE_ID);
    match window.read_u32(register::VERSION) {
        // What is not there has no version either.
        MODERN | LEGACY if device == 0 => Ok(0),
        MODERN => Ok(device),
        LEGACY => Err(ProbeError::Legacy),
        other => Err(ProbeError::UnknownVersion(other)),
    }
}

/// Resets the device and reads back that it did: from then on it touches no memory.
pub fn reset(window: &Window) -> Result<(), WillNotReset> {
    mmio::barrier();
    window.write_u32(register::STATUS, 0);
    let done = (0..RESET_READS_MAX).any(|_| window.read_u32(register::STATUS) == 0);
    mmio::barrier();
    if done { Ok(()) } else { Err(WillNotReset) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mmio::host::{Bus, install};
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A slot: magic, version, device, and a status that needs so many reads until it is 0.
    struct Slot {
        words: [u32; 3],
        status: RefCell<(u32, u32)>,
    }

    impl Bus for Slot {
        fn load(&self, address: u64, bytes: u32) -> u64 {
            assert_eq!(bytes, 4);
            let mut status = self.status.borrow_mut();
            match address as usize {
                register::STATUS => {
                    status.1 = status.1.saturating_sub(1);
                    if status.1 == 0 { status.0.into() } else { 0xf }
                }
                offset => self.words.get(offset / 4).copied().unwrap_or(0).into(),
            }
        }

        fn store(&self, address: u64, _bytes: u32, value: u64) {
            assert_eq!(address as usize, register::STATUS);
            self.status.borrow_mut().0 = value as u32;
        }
    }

    fn with<T>(words: [u32; 3], reads: u32, act: impl FnOnce(&Window) -> T) -> T {
        install(Some(Rc::new(Slot { words, status: RefCell::new((0xf, reads)) })));
        // SAFETY: every access goes to the bus.
        let outcome = act(&unsafe { Window::new(core::ptr::null_mut(), 0x200) });
        install(None);
        outcome
    }

    #[test]
    fn a_slot_tells_its_device() {
        assert_eq!(with([MAGIC, MODERN, 4], 0, probe), Ok(4));
        assert_eq!(with([MAGIC, MODERN, 0], 0, probe), Ok(0));
        assert_eq!(with([MAGIC, LEGACY, 0], 0, probe), Ok(0));
    }

    #[test]
    fn test_reject_legacy_devices_unknown_versions_and_other_registers() {
        assert_eq!(with([MAGIC, LEGACY, 4], 0, probe), Err(ProbeError::Legacy));
        assert_eq!(with([MAGIC, 3, 4], 0, probe), Err(ProbeError::UnknownVersion(3)));
        assert_eq!(with([0, MODERN, 4], 0, probe), Err(ProbeError::NoMagic));
        assert_eq!(with([u32::MAX; 3], 0, probe), Err(ProbeError::NoMagic));
    }

    #[test]
    fn test_reject_a_window_too_small_for_a_slot() {
        // SAFETY: nothing is accessed.
        let small = unsafe { Window::new(core::ptr::null_mut(), 0x80) };
        assert_eq!(probe(&small), Err(ProbeError::NoMagic));
    }

    #[test]
    fn a_reset_is_over_when_it_is_read_back() {
        assert_eq!(with([MAGIC, MODERN, 4], 0, reset), Ok(()));
        assert_eq!(with([MAGIC, MODERN, 4], RESET_READS_MAX, reset), Ok(()));
    }

    #[test]
    fn test_reject_a_device_that_does_not_reset() {
        assert_eq!(with([MAGIC, MODERN, 4], RESET_READS_MAX + 1, reset), Err(WillNotReset));
    }
}
