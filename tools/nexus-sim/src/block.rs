//! The simulated virtio block device: one queue, requests that it finishes in any order, and a cache that it loses.
//!
//! Like the entropy device it reads and writes RAM by itself. Its [`Medium`] outlives the machine: what was flushed
//! is there at the next boot, and of what was not, whatever chance kept.

use crate::entropy::DeviceRam;
use crate::random::Random;
use partitions::{BLOCK_BYTES, Extent, Partition, lay_out};
use statefs::{DeviceError, Entropy, Geometry, Options, Store};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::OnceLock;
use virtio_mmio::{MAGIC, MODERN, register};

/// virtio's number of the device.
const DEVICE: u32 = 2;
/// Features: virtio 1.0, and flushes.
const FEATURES: u64 = 1 << 32 | 1 << 9;
/// Entries that its queue can have.
const QUEUE_ENTRIES_MAX: u32 = 128;
/// Ticks that a request is with the device at the least, and by how many more it may differ.
const TICKS_A_REQUEST: u64 = 200;
const TICKS_MORE: u64 = 2000;
/// Blocks of the disk: 16 MiB.
const DISK_BLOCKS: u64 = 32 * 1024;
/// The partitions of a new disk, with their blocks.
const PARTITIONS: &[(Partition, u64)] = &[
    (Partition::BootA, 4096),
    (Partition::BootB, 4096),
    (Partition::Bootctl, 2048),
    (Partition::State, 8192),
    (Partition::Scratch, 4096),
];
/// Descriptors that one request may have.
const CHAIN_MAX: usize = 8;

type Block = [u8; BLOCK_BYTES];

/// What a disk keeps.
#[derive(Clone, Debug)]
pub struct Medium {
    durable: BTreeMap<u64, Block>,
    /// Written and not flushed.
    cache: BTreeMap<u64, Block>,
}

impl Medium {
    /// A disk on which nothing was ever written.
    pub fn empty() -> Self {
        Medium { durable: BTreeMap::new(), cache: BTreeMap::new() }
    }

    /// A disk with a partition table, and an empty store on `state`.
    pub fn with_store() -> Self {
        static MADE: OnceLock<Medium> = OnceLock::new();
        let make = || {
            let mut medium = Medium::with_partitions();
            let made = medium.format_state();
            // The layout of the simulated disk is a constant: it has room or none ever has.
            assert!(made.is_ok(), "the simulated disk has no room for a store: {made:?}");
            medium
        };
        MADE.get_or_init(make).clone()
    }

    /// Makes an empty store on `state`, whatever was there; the other partitions stay as they are.
    pub fn format_state(&mut self) -> Result<(), statefs::Error> {
        let mut state = self.state();
        let shape = Geometry::for_device(statefs::BlockDevice::length(&state), 4096)?;
        Store::format(&mut state, shape, Entropy([1, 2, 3, 4]))
    }

    /// What the store on `state` holds, looked at from outside.
    pub fn stored(&self) -> Result<BTreeMap<String, Vec<u8>>, statefs::Error> {
        let mut medium = self.clone();
        let options = Options { read_only: true, ..Options::new(Entropy([0; 4])) };
        let mut store = Store::open(medium.state(), options)?;
        let mut found = BTreeMap::new();
        let mut after: Option<Box<[u8]>> = None;
        loop {
            let page = store.list(b"/state/", after.as_deref(), statefs::LIST_KEYS_MAX);
            for listed in &page.keys {
                let key = String::from_utf8_lossy(&listed.key).into_owned();
                found.insert(key, store.get(&listed.key)?);
            }
            if !page.more {
                return Ok(found);
            }
            after = page.keys.last().map(|listed| listed.key.clone());
        }
    }

    /// The partition `state`, as it is seen from outside.
    fn state(&mut self) -> StatePartition<'_> {
        let table = partitions::read(DISK_BLOCKS, |first, to| {
            for (block, bytes) in (first..).zip(to.as_chunks_mut().0) {
                *bytes = self.read(block);
            }
            Ok::<(), partitions::ReadError<()>>(())
        });
        let found = table.map(|table| table.found).unwrap_or_default();
        let state = found.into_iter().find(|(partition, _)| *partition == Partition::State);
        let extent = state.map_or(Extent { first: 0, blocks: 0 }, |(_, extent)| extent);
        StatePartition { medium: self, extent }
    }

    /// A disk with a partition table.
    pub fn with_partitions() -> Self {
        let mut medium = Medium::empty();
        let pieces = lay_out(DISK_BLOCKS, PARTITIONS, || [1; 16]).unwrap_or_default();
        for (first, bytes) in pieces {
            for (place, block) in bytes.as_chunks().0.iter().enumerate() {
                medium.durable.insert(first + place as u64, *block);
            }
        }
        medium
    }

    /// The power fails: of what was not flushed, chance keeps some.
    pub fn lose_power(&mut self, chance: &mut Random) {
        for (block, bytes) in std::mem::take(&mut self.cache) {
            if chance.once_in(2) {
                self.durable.insert(block, bytes);
            }
        }
    }

    fn read(&self, block: u64) -> Block {
        let found = self.cache.get(&block).or_else(|| self.durable.get(&block));
        found.copied().unwrap_or([0; BLOCK_BYTES])
    }

    fn flush(&mut self) {
        self.durable.append(&mut self.cache);
    }
}

/// The partition `state` in the hands of whoever looks from outside.
struct StatePartition<'a> {
    medium: &'a mut Medium,
    extent: Extent,
}

impl StatePartition<'_> {
    fn first(&self, offset: u64, bytes: usize) -> Result<u64, DeviceError> {
        let blocks = (bytes / BLOCK_BYTES) as u64;
        let part = self.extent.part(offset / BLOCK_BYTES as u64, blocks).ok_or(DeviceError::Range)?;
        Ok(part.first)
    }
}

impl statefs::BlockDevice for StatePartition<'_> {
    fn physical_block(&self) -> u32 {
        4096
    }

    fn length(&self) -> u64 {
        self.extent.blocks * BLOCK_BYTES as u64
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        let first = self.first(offset, buffer.len())?;
        for (block, bytes) in (first..).zip(buffer.as_chunks_mut().0) {
            *bytes = self.medium.read(block);
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        let first = self.first(offset, data.len())?;
        for (block, bytes) in (first..).zip(data.as_chunks().0) {
            self.medium.cache.insert(block, *bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.medium.flush();
        Ok(())
    }
}

/// A disk, which outlives machines.
#[derive(Clone, Debug)]
pub struct Disk(pub Rc<RefCell<Medium>>);

impl Default for Disk {
    fn default() -> Self {
        Disk(Rc::new(RefCell::new(Medium::with_store())))
    }
}

/// The device.
pub struct BlockDevice {
    ram: DeviceRam,
    disk: Disk,
    registers: BTreeMap<u64, u32>,
    /// Requests that it has seen, and those that it has finished.
    seen: u16,
    used: u16,
    /// When each request that it has is finished: its first descriptor.
    under_way: Vec<(u64, u16)>,
    chance: Random,
    /// Requests that led outside of RAM or made no sense, which a driver never asks for.
    pub astray: u64,
    /// Once in so many times a request fails; 0 is never.
    pub failing: u64,
    /// Whether it finishes nothing any more.
    pub silent: bool,
    /// Whether flushes are answered and not made: a planted bug.
    pub forgets_flushes: bool,
}

impl BlockDevice {
    /// A device that was reset.
    pub fn new(ram: DeviceRam, disk: Disk, seed: u64) -> Self {
        let (registers, under_way) = (BTreeMap::new(), Vec::new());
        let chance = Random::new(seed);
        BlockDevice {
            ram,
            disk,
            registers,
            seen: 0,
            used: 0,
            under_way,
            chance,
            astray: 0,
            failing: 0,
            silent: false,
            forgets_flushes: false,
        }
    }

    /// Lets what is due happen.
    pub fn advance(&mut self, now: u64) {
        while let Some(place) = self.under_way.iter().position(|(due, _)| *due <= now) {
            let (_, head) = self.under_way.swap_remove(place);
            if self.finish(head).is_none() {
                self.astray += 1;
            }
        }
    }

    /// When something will happen by itself.
    pub fn next_event(&self) -> Option<u64> {
        self.under_way.iter().map(|(due, _)| *due).min()
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
            register::CONFIGURATION => DISK_BLOCKS as u32,
            register::DEVICE_FEATURES => {
                let selected = self.register(register::DEVICE_FEATURES_SELECT);
                FEATURES.checked_shr(32 * selected).unwrap_or(0) as u32
            }
            other => self.register(other),
        }
    }

    /// Writes a register.
    pub fn store(&mut self, offset: u64, value: u32, now: u64) {
        match offset as usize {
            register::STATUS if value == 0 => {
                self.registers.clear();
                self.under_way.clear();
                (self.seen, self.used) = (0, 0);
                return;
            }
            register::QUEUE_NOTIFY => self.look(now),
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

    fn entries(&self) -> u64 {
        self.register(register::QUEUE_SIZE).clamp(1, QUEUE_ENTRIES_MAX).into()
    }

    /// Takes what the driver made available since the last time.
    fn look(&mut self, now: u64) {
        let driver = self.address(register::QUEUE_DRIVER);
        let Some(available) = self.ram.read(driver + 2).map(u16::from_le_bytes) else { return };
        while self.seen != available && self.register(register::QUEUE_READY) != 0 {
            let place = u64::from(self.seen) % self.entries();
            let Some(head) = self.ram.read(driver + 4 + 2 * place).map(u16::from_le_bytes) else { return };
            self.seen = self.seen.wrapping_add(1);
            let due = now + TICKS_A_REQUEST + self.chance.below(TICKS_MORE);
            if !self.silent {
                self.under_way.push((due, head));
            }
        }
    }

    /// The buffers of a request: address, bytes, and whether the device writes there.
    fn chain(&self, head: u16) -> Option<Vec<(u64, u64, bool)>> {
        let mut chain = Vec::new();
        let mut next = head;
        loop {
            let descriptor =
                self.address(register::QUEUE_DESCRIPTORS) + 16 * (u64::from(next) % self.entries());
            let address = u64::from_le_bytes(self.ram.read(descriptor)?);
            let bytes = u32::from_le_bytes(self.ram.read(descriptor + 8)?);
            let flags = u16::from_le_bytes(self.ram.read(descriptor + 12)?);
            chain.push((address, bytes.into(), flags & 2 != 0));
            if flags & 1 == 0 {
                return Some(chain);
            }
            next = u16::from_le_bytes(self.ram.read(descriptor + 14)?);
            if chain.len() == CHAIN_MAX {
                return None;
            }
        }
    }

    /// Does a request and gives it back; `None` for one that makes no sense.
    fn finish(&mut self, head: u16) -> Option<()> {
        let chain = self.chain(head)?;
        let (&(header, 16, false), rest) = chain.split_first()? else { return None };
        let (&(status, 1, true), data) = rest.split_last()? else { return None };
        let kind = u32::from_le_bytes(self.ram.read(header)?);
        let first = u64::from_le_bytes(self.ram.read(header + 8)?);
        let fails = self.chance.once_in(self.failing);
        let written = if fails { 0 } else { self.work(kind, first, data)? };
        self.ram.write(status, &[u8::from(fails)])?;
        let device = self.address(register::QUEUE_DEVICE);
        let place = u64::from(self.used) % self.entries();
        self.ram.write(device + 4 + 8 * place, &u32::from(head).to_le_bytes())?;
        self.ram.write(device + 8 + 8 * place, &(written as u32 + 1).to_le_bytes())?;
        self.used = self.used.wrapping_add(1);
        self.ram.write(device + 2, &self.used.to_le_bytes())?;
        self.registers.insert(register::INTERRUPT_STATUS as u64, 1);
        Some(())
    }

    /// Yields the bytes that it wrote to RAM.
    fn work(&mut self, kind: u32, first: u64, data: &[(u64, u64, bool)]) -> Option<u64> {
        let mut medium = self.disk.0.borrow_mut();
        match (kind, data) {
            (4, []) if self.forgets_flushes => {}
            (4, []) => medium.flush(),
            (0 | 1, &[(address, bytes, into_ram)]) => {
                let blocks = bytes / BLOCK_BYTES as u64;
                let fits = first.checked_add(blocks).is_some_and(|end| end <= DISK_BLOCKS);
                if !fits || bytes % BLOCK_BYTES as u64 != 0 || into_ram != (kind == 0) {
                    return None;
                }
                for place in 0..blocks {
                    let at = address + place * BLOCK_BYTES as u64;
                    if into_ram {
                        self.ram.write(at, &medium.read(first + place))?;
                    } else {
                        medium.cache.insert(first + place, self.ram.read(at)?);
                    }
                }
                return Some(if into_ram { bytes } else { 0 });
            }
            _ => return None,
        }
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_outlives_the_power_and_of_the_rest_any_part_may() {
        let mut kept = [0; 2];
        for seed in 0..64 {
            let mut medium = Medium::empty();
            medium.cache.insert(1, [1; BLOCK_BYTES]);
            medium.flush();
            medium.cache.insert(1, [2; BLOCK_BYTES]);
            assert_eq!(medium.read(1), [2; BLOCK_BYTES]);
            medium.lose_power(&mut Random::new(seed));
            kept[usize::from(medium.read(1)[0]) - 1] += 1;
        }
        assert!(kept.iter().all(|&count| count > 0), "{kept:?}");
    }
}
