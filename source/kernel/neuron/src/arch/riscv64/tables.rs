//! The real page tables of the kernel's half, and the RAM that boot keeps for good.

use crate::boot::device_tree::{Machine, Range};
use crate::memory::PhysicalAddress;
use crate::memory::page_table::{LEVEL1_BYTES, Protection, index, leaf_entry, table_entry};
use nexus_abi::Rights;
use nexus_abi::limits::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;
/// Where the kernel sees physical address 0: the first address of the upper half.
pub(super) const WINDOW: u64 = 0xffff_ffc0_0000_0000;
/// Where the kernel is linked (`neuron.ld`).
pub(super) const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// Bytes of a hart's stack and of the hole under it (`neuron.ld`).
pub(super) const STACK_BYTES: u64 = 32 * 1024;
pub(super) const GUARD_BYTES: u64 = PAGE;

// SAFETY: the linker script defines these symbols; only their addresses are used.
unsafe extern "C" {
    static __text_end: u8;
    static __rodata_end: u8;
    static __stacks_start: u8;
    static __image_end: u8;
}

/// The address of a symbol of the linker script.
macro_rules! address_of {
    ($symbol:ident) => {
        (&raw const $symbol).addr() as u64
    };
}

/// The first address behind the kernel's image.
pub(super) fn image_end() -> u64 {
    address_of!(__image_end)
}

/// The first address of the stacks: that of the hole under the first.
pub(super) fn stacks_start() -> u64 {
    address_of!(__stacks_start)
}

/// Hands out pages of RAM that boot keeps for good, one after the other.
pub(super) struct Keeper {
    pub(super) next: u64,
    end: u64,
}

impl Keeper {
    /// Zeroed pages at a physical address.
    pub(super) fn take(&mut self, pages: u64) -> Option<u64> {
        let base = self.next;
        self.next = base.checked_add(pages * PAGE).filter(|&next| next <= self.end)?;
        // SAFETY: the range lies in RAM behind the kernel's image and before anything that is reserved
        // (`place_for_keeping`), is in the window, and nothing refers to it yet.
        unsafe { core::ptr::write_bytes(seen(base), 0, (pages * PAGE) as usize) };
        Some(base)
    }
}

/// Where the kernel sees a physical address.
pub(super) fn seen(address: u64) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut((WINDOW + address) as usize)
}

/// RAM behind the kernel's image, up to the first thing in the way.
pub(super) fn place_for_keeping(machine: &Machine<'_>, image_end: u64, tree: Range) -> Keeper {
    let mut end = machine.ram.end;
    let image = machine.initial_image.unwrap_or_default();
    for range in machine.reserved.iter().chain([&tree, &image]) {
        if range.end > image_end && range.base < end {
            end = range.base;
        }
    }
    Keeper { next: image_end, end }
}

/// The real tables: nothing writable and executable, a hole under every stack.
pub(super) fn make_tables(machine: &Machine<'_>, keeper: &mut Keeper, load_address: u64) -> Option<u64> {
    let root = keeper.take(1)?;
    let read_write = Protection::kernel(Rights::READ | Rights::WRITE)?;
    let read_only = Protection::kernel(Rights::READ)?;
    let text = load_address..load_address + (address_of!(__rodata_end) - IMAGE_BASE);
    let mut tables = Tables { root, keeper };
    for block in (machine.ram.base..machine.ram.end).step_by(LEVEL1_BYTES as usize) {
        if block + LEVEL1_BYTES <= text.start || text.end <= block {
            tables.map_block(WINDOW + block, block, read_write)?;
            continue;
        }
        for page in (block..block + LEVEL1_BYTES).step_by(PAGE_SIZE) {
            // Code and constants are not writable through the window either.
            tables.map_page(
                WINDOW + page,
                page,
                if text.contains(&page) { read_only } else { read_write },
            )?;
        }
    }
    let controller = machine.controller.base / LEVEL1_BYTES * LEVEL1_BYTES..machine.controller.end;
    for block in controller.step_by(LEVEL1_BYTES as usize) {
        tables.map_block(WINDOW + block, block, read_write)?;
    }
    tables.map_image(load_address)?;
    Some(root)
}

struct Tables<'k> {
    root: u64,
    keeper: &'k mut Keeper,
}

impl Tables<'_> {
    /// The word for an address in the table of a level, with the tables above it made.
    fn word(&mut self, address: u64, level: u32) -> Option<*mut u64> {
        let mut table = self.root;
        for upper in (level + 1..=2).rev() {
            let word = seen(table).cast::<u64>().wrapping_add(index(address, upper));
            // SAFETY: `table` is a page that the keeper gave us, of 512 words.
            let entry = unsafe { word.read() };
            table = if entry == 0 {
                let lower = self.keeper.take(1)?;
                // SAFETY: as above.
                unsafe { word.write(table_entry(PhysicalAddress(lower))) };
                lower
            } else {
                entry >> 10 << 12
            };
        }
        Some(seen(table).cast::<u64>().wrapping_add(index(address, level)))
    }

    fn map_block(&mut self, at: u64, physical: u64, protection: Protection) -> Option<()> {
        let word = self.word(at, 1)?;
        // SAFETY: the word of a table of ours, which is not in force yet.
        unsafe { word.write(leaf_entry(PhysicalAddress(physical), protection)) };
        Some(())
    }

    fn map_page(&mut self, at: u64, physical: u64, protection: Protection) -> Option<()> {
        let word = self.word(at, 0)?;
        // SAFETY: as in `map_block`.
        unsafe { word.write(leaf_entry(PhysicalAddress(physical), protection)) };
        Some(())
    }

    fn map_image(&mut self, load_address: u64) -> Option<()> {
        let execute = Protection::kernel(Rights::READ | Rights::EXECUTE)?;
        let read_only = Protection::kernel(Rights::READ)?;
        let read_write = Protection::kernel(Rights::READ | Rights::WRITE)?;
        let stacks = address_of!(__stacks_start);
        for page in (IMAGE_BASE..address_of!(__image_end)).step_by(PAGE_SIZE) {
            let protection = match page {
                _ if page < address_of!(__text_end) => execute,
                _ if page < address_of!(__rodata_end) => read_only,
                _ => read_write,
            };
            let is_guard = page >= stacks && (page - stacks).is_multiple_of(STACK_BYTES + GUARD_BYTES);
            if !is_guard {
                self.map_page(page, page - IMAGE_BASE + load_address, protection)?;
            }
        }
        Some(())
    }
}
