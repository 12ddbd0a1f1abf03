//! The simulated machine as the kernel sees it: a clock that the simulator moves, an interrupt controller,
//! devices, and a record of the translations that the kernel had forgotten.

use crate::block::{BlockDevice, Disk};
use crate::entropy::{DeviceRam, Entropy};
use crate::random::Random;
use crate::uart::Uart;
use identity::{ROOT_ITEM_MAGIC, ROOT_SECRET_BYTES};
use neuron::arch::{AddressSpace, Arch};
use neuron::object::thread::Context;
use nexus_abi::limits::PAGE_SIZE;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use virtio_mmio::register;

/// Ticks of the clock a second, as of QEMU's `virt` machine.
pub const TICKS_PER_SECOND: u64 = 10_000_000;
/// Where the UART's registers are.
pub const UART_BASE: u64 = 0x1000_0000;
/// The UART's interrupt line.
pub const UART_LINE: u32 = 10;
/// Where the registers of a clock are that nobody needs.
pub const RTC_BASE: u64 = 0x10_1000;
/// Its interrupt line.
pub const RTC_LINE: u32 = 11;

/// Where the registers of a virtio slot are in which no device stands.
pub const SLOT_BASE: u64 = 0x1000_1000;
/// Its interrupt line.
pub const SLOT_LINE: u32 = 1;

/// Where the registers of another such slot are.
pub const SPARE_BASE: u64 = 0x1000_4000;
/// Its interrupt line.
pub const SPARE_LINE: u32 = 4;

/// Where the registers of the entropy device's slot are.
pub const ENTROPY_BASE: u64 = 0x1000_2000;
/// Its interrupt line.
pub const ENTROPY_LINE: u32 = 2;

/// Where the registers of the block device's slot are.
pub const BLOCK_BASE: u64 = 0x1000_3000;
/// Its interrupt line.
pub const BLOCK_LINE: u32 = 3;

/// Where the registers of fw_cfg are.
pub const FW_CFG_BASE: u64 = 0x1010_0000;

/// A translation that is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Of one page of a space.
    Page(u16, u64),
    /// Of a whole space.
    Space(u16),
}

/// The machine.
pub struct Machine {
    clock: Rc<Cell<u64>>,
    timer: Cell<u64>,
    enabled: RefCell<BTreeSet<u32>>,
    /// The terminal's device.
    pub uart: RefCell<Uart>,
    /// The source of entropy.
    pub entropy: RefCell<Entropy>,
    /// The disk's device.
    pub block: RefCell<BlockDevice>,
    fw_cfg: RefCell<fw_cfg::host::Model>,
    flushes: RefCell<Vec<Flush>>,
    /// What the last reset was asked to do: reboot or not.
    pub reset: Cell<Option<bool>>,
    /// What the kernel printed through the firmware.
    pub printed: RefCell<String>,
    /// How often a long copy finds an interrupt pending: once in so many times.
    pub hurry: Cell<u64>,
    chance: RefCell<Random>,
}

impl Machine {
    /// A machine whose devices are at rest.
    pub fn new(
        clock: Rc<Cell<u64>>,
        seed: u64,
        ram: DeviceRam,
        disk: Disk,
        secret: Option<[u8; ROOT_SECRET_BYTES]>,
    ) -> Self {
        let item = secret.map(|secret| [&ROOT_ITEM_MAGIC[..], &secret].concat());
        let items: Vec<_> = item.iter().map(|item| ("opt/nexus/root", item.as_slice())).collect();
        Machine {
            clock,
            timer: Cell::new(u64::MAX),
            enabled: RefCell::default(),
            uart: RefCell::default(),
            entropy: RefCell::new(Entropy::new(ram.clone(), !seed)),
            block: RefCell::new(BlockDevice::new(ram, disk, seed.rotate_left(17))),
            fw_cfg: RefCell::new(fw_cfg::host::Model::new(&items)),
            flushes: RefCell::default(),
            reset: Cell::new(None),
            printed: RefCell::default(),
            hurry: Cell::new(0),
            chance: RefCell::new(Random::new(seed)),
        }
    }

    /// When something happens without anybody doing anything; `None`: never.
    pub fn next_event(&self) -> Option<u64> {
        let timer = Some(self.timer.get()).filter(|&timer| timer != u64::MAX);
        let mut uart = self.uart.borrow_mut();
        uart.advance(self.clock.get());
        let mut entropy = self.entropy.borrow_mut();
        entropy.advance(self.clock.get());
        let mut block = self.block.borrow_mut();
        block.advance(self.clock.get());
        let devices = uart.next_event().into_iter().chain(entropy.next_event()).chain(block.next_event());
        timer.into_iter().chain(devices).min()
    }

    /// The translations that were forgotten since this was last asked.
    pub fn take_flushes(&self) -> Vec<Flush> {
        std::mem::take(&mut *self.flushes.borrow_mut())
    }

    /// Reads a device's register at a physical address.
    pub fn load(&self, address: u64) -> u64 {
        let now = self.clock.get();
        if let Some(offset) = within(address, UART_BASE) {
            let mut uart = self.uart.borrow_mut();
            uart.advance(now);
            uart.load(offset).into()
        } else if let Some(offset) = within(address, ENTROPY_BASE) {
            let mut entropy = self.entropy.borrow_mut();
            entropy.advance(now);
            entropy.load(offset).into()
        } else if let Some(offset) = within(address, BLOCK_BASE) {
            let mut block = self.block.borrow_mut();
            block.advance(now);
            block.load(offset).into()
        } else if let Some(offset) = within(address, FW_CFG_BASE) {
            self.fw_cfg.borrow_mut().load(offset).into()
        } else {
            let slot = within(address, SLOT_BASE).or_else(|| within(address, SPARE_BASE));
            slot.map_or(u64::MAX, |offset| empty_slot(offset).into())
        }
    }

    /// Writes a device's register.
    pub fn store(&self, address: u64, value: u64) {
        let now = self.clock.get();
        if let Some(offset) = within(address, UART_BASE) {
            let mut uart = self.uart.borrow_mut();
            uart.advance(now);
            uart.store(offset, value as u8, now);
        } else if let Some(offset) = within(address, ENTROPY_BASE) {
            let mut entropy = self.entropy.borrow_mut();
            entropy.advance(now);
            entropy.store(offset, value as u32, now);
        } else if let Some(offset) = within(address, BLOCK_BASE) {
            let mut block = self.block.borrow_mut();
            block.advance(now);
            block.store(offset, value as u32, now);
        } else if let Some(offset) = within(address, FW_CFG_BASE) {
            self.fw_cfg.borrow_mut().store(offset, value as u16);
        }
    }

    /// Whether the registers at a physical address behave as memory does.
    pub fn is_plain(address: u64) -> bool {
        [UART_BASE, SLOT_BASE, SPARE_BASE, ENTROPY_BASE, BLOCK_BASE, FW_CFG_BASE]
            .into_iter()
            .all(|base| within(address, base).is_none())
    }

    fn line_is_up(&self, line: u32) -> bool {
        let (mut uart, mut entropy) = (self.uart.borrow_mut(), self.entropy.borrow_mut());
        uart.advance(self.clock.get());
        entropy.advance(self.clock.get());
        let mut block = self.block.borrow_mut();
        block.advance(self.clock.get());
        match line {
            UART_LINE => uart.raised(),
            ENTROPY_LINE => entropy.raised(),
            BLOCK_LINE => block.raised(),
            _ => false,
        }
    }
}

/// The offset of an address in the window of one page that begins at `base`.
fn within(address: u64, base: u64) -> Option<u64> {
    address.checked_sub(base).filter(|&offset| offset < PAGE_SIZE as u64)
}

/// The registers of a virtio slot in which no device stands: a magic, a version, and nothing else.
fn empty_slot(offset: u64) -> u32 {
    match offset as usize {
        register::MAGIC => virtio_mmio::MAGIC,
        register::VERSION => virtio_mmio::MODERN,
        _ => 0,
    }
}

impl Arch for Machine {
    fn now(&self) -> u64 {
        self.clock.get()
    }

    fn ticks_per_second(&self) -> u64 {
        TICKS_PER_SECOND
    }

    fn set_timer(&self, deadline: u64) {
        self.timer.set(deadline);
    }

    fn interrupt_pending(&self) -> bool {
        self.chance.borrow_mut().once_in(self.hurry.get())
    }

    fn wait_for_interrupt(&self) {
        if let Some(event) = self.next_event() {
            self.clock.set(self.clock.get().max(event));
        }
    }

    fn rest(&self, _: u64) {}

    fn last_line(&self) -> u32 {
        31
    }

    fn claim_and_mask(&self) -> Option<u32> {
        let mut enabled = self.enabled.borrow_mut();
        let line = enabled.iter().copied().find(|&line| self.line_is_up(line))?;
        enabled.remove(&line);
        Some(line)
    }

    fn unmask(&self, line: u32) {
        self.enabled.borrow_mut().insert(line);
    }

    fn mask(&self, line: u32) {
        self.enabled.borrow_mut().remove(&line);
    }

    fn is_kernel_device(&self, _base: u64, _bytes: u64) -> bool {
        false
    }

    fn space(&self, root: u64, asid: u16) -> AddressSpace {
        AddressSpace(root | u64::from(asid))
    }

    fn load(&self, _: AddressSpace) {}

    fn flush_page(&self, asid: u16, address: u64) {
        self.flushes.borrow_mut().push(Flush::Page(asid, address));
    }

    fn flush_space(&self, asid: u16) {
        self.flushes.borrow_mut().push(Flush::Space(asid));
    }

    fn flush_instructions(&self) {}
    // There is one hart.
    fn flush_space_of(&self, _: u32, _: u16) {}
    fn flush_instructions_of(&self, _: u32) {}
    fn interrupt(&self, _: usize) {}
    fn quiet(&self) -> bool {
        false
    }

    fn last_asid(&self) -> u16 {
        1023
    }

    fn leave_float(&self, _: &mut Context) {}
    fn enter_float(&self, _: &Context) {}

    fn print(&self, text: &str) {
        self.printed.borrow_mut().push_str(text);
    }

    fn reset(&self, reboot: bool) {
        self.reset.set(Some(reboot));
    }
}
