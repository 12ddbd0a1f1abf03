//! The simulated virtio entropy device: one queue, and bytes a while after they were asked for.
//!
//! It reads and writes RAM by itself, wherever its driver told it to, also when that driver is dead; that is what
//! makes it worth simulating.
#![allow(unsafe_code)] // it reaches RAM past everybody's address space

use crate::random::Random;
use neuron::simulation::RAM_BASE;
use std::collections::BTreeMap;
use virtio_mmio::{MAGIC, MODERN, register};

/// virtio's number of the device.
const DEVICE: u32 = 4;
/// The feature that a modern device has.
const VERSION_1: u64 = 1 << 32;
/// Entries that its queue can have.
const QUEUE_ENTRIES_MAX: u32 = 8;
/// Ticks that a buffer is with the device.
const TICKS_A_BUFFER: u64 = 300;

/// RAM as a device sees it: all of it, by physical addresses.
#[derive(Clone)]
pub struct DeviceRam {
    window: *mut u8,
    bytes: u64,
}

impl DeviceRam {
    /// RAM that is seen whole from `window` on.
    ///
    /// # Safety
    /// The window must hold so many bytes for as long as this lives.
    pub unsafe fn new(window: *mut u8, bytes: u64) -> Self {
        DeviceRam { window, bytes }
    }

    /// Where bytes are; `None` for what is not RAM.
    fn place(&self, address: u64, bytes: u64) -> Option<*mut u8> {
        let offset = address.checked_sub(RAM_BASE)?;
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        inside.then(|| self.window.wrapping_add(offset as usize))
    }

    /// Bytes at an address; `None` for what is not RAM.
    pub fn read<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let place = self.place(address, N as u64)?;
        // SAFETY: inside the window; programs that share it do not run now, for one thread runs all of them.
        Some(unsafe { place.cast::<[u8; N]>().read_unaligned() })
    }

    /// Writes bytes to an address; `None` for what is not RAM.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Option<()> {
        let place = self.place(address, bytes.len() as u64)?;
        // SAFETY: as above.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Some(())
    }
}

/// The device.
pub struct Entropy {
    ram: DeviceRam,
    registers: BTreeMap<u64, u32>,
    /// Buffers that it has used.
    used: u16,
    /// When it gives back what it has.
    due: Option<u64>,
    chance: Random,
    /// Buffers whose place was no RAM, which a driver never asks for.
    pub astray: u64,
    /// Whether it goes on as before when it is reset.
    pub stuck: bool,
    /// Whether it gives the same byte again and again.
    pub repeats: bool,
    /// Whether it never gives back what it has.
    pub silent: bool,
}

impl Entropy {
    /// A device that was reset.
    pub fn new(ram: DeviceRam, seed: u64) -> Self {
        let chance = Random::new(seed);
        Entropy {
            ram,
            registers: BTreeMap::new(),
            used: 0,
            due: None,
            chance,
            astray: 0,
            stuck: false,
            repeats: false,
            silent: false,
        }
    }

    /// Lets what is due happen.
    pub fn advance(&mut self, now: u64) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            while let Some(worked) = self.use_one() {
                self.astray += u64::from(worked.is_none());
            }
        }
    }

    /// When something will happen by itself.
    pub fn next_event(&self) -> Option<u64> {
        self.due
    }

    /// Whether the interrupt line is up.
    pub fn raised(&self) -> bool {
        self.register(register::INTERRUPT_STATUS) != 0
    }

    /// Reads a register.
    pub fn load(&self, offset: u64) -> u32 {
        match offset as usize {
            register::MAGIC => MAGIC,
            register::VERSION => MODERN,
            register::DEVICE_ID => DEVICE,
            register::QUEUE_SIZE_MAX => QUEUE_ENTRIES_MAX,
            register::DEVICE_FEATURES => {
                let selected = self.register(register::DEVICE_FEATURES_SELECT);
                VERSION_1.checked_shr(32 * selected).unwrap_or(0) as u32
            }
            other => self.register(other),
        }
    }

    /// Writes a register.
    pub fn store(&mut self, offset: u64, value: u32, now: u64) {
        match offset as usize {
            register::STATUS if value == 0 && self.stuck => return,
            register::STATUS if value == 0 => {
                self.registers.clear();
                (self.used, self.due) = (0, None);
                return;
            }
            register::QUEUE_NOTIFY if self.silent => {}
            register::QUEUE_NOTIFY => self.due = Some(self.due.unwrap_or(now + TICKS_A_BUFFER)),
            register::INTERRUPT_ACKNOWLEDGE => {
                let status = self.register(register::INTERRUPT_STATUS) & !value;
                self.registers.insert(register::INTERRUPT_STATUS as u64, status);
            }
            _ => {}
        }
        self.registers.insert(offset, value);
    }

    fn register(&self, offset: usize) -> u32 {
        self.registers.get(&(offset as u64)).copied().unwrap_or(0)
    }

    fn address(&self, offset: usize) -> u64 {
        u64::from(self.register(offset)) | u64::from(self.register(offset + 4)) << 32
    }

    /// Uses the next buffer; `None` when there is none, and `Some(None)` for one that leads outside of RAM.
    fn use_one(&mut self) -> Option<Option<()>> {
        let entries = self.register(register::QUEUE_SIZE).clamp(1, QUEUE_ENTRIES_MAX);
        let available = u16::from_le_bytes(self.ram.read(self.address(register::QUEUE_DRIVER) + 2)?);
        if self.register(register::QUEUE_READY) == 0 || available == self.used {
            return None;
        }
        let place = u64::from(u32::from(self.used) % entries);
        self.used = self.used.wrapping_add(1);
        Some(self.fill(place))
    }

    /// Fills the buffer at this place of the queue and gives it back.
    fn fill(&mut self, place: u64) -> Option<()> {
        let (driver, device) = (self.address(register::QUEUE_DRIVER), self.address(register::QUEUE_DEVICE));
        let head = u16::from_le_bytes(self.ram.read(driver + 4 + 2 * place)?);
        let descriptor = self.address(register::QUEUE_DESCRIPTORS) + 16 * u64::from(head);
        let buffer = u64::from_le_bytes(self.ram.read(descriptor)?);
        let bytes = u32::from_le_bytes(self.ram.read(descriptor + 8)?);
        for offset in 0..u64::from(bytes) {
            let byte = if self.repeats { 0 } else { (self.chance.number() >> 32) as u8 };
            self.ram.write(buffer + offset, &[byte])?;
        }
        self.ram.write(device + 4 + 8 * place, &u32::from(head).to_le_bytes())?;
        self.ram.write(device + 8 + 8 * place, &bytes.to_le_bytes())?;
        self.ram.write(device + 2, &self.used.to_le_bytes())?;
        self.registers.insert(register::INTERRUPT_STATUS as u64, 1);
        Some(())
    }
}
