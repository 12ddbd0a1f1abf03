//! Sv39 page tables as plain data in frames: three levels of 512 words.
//!
//! Layout after the RISC-V privileged specification, as the crate `riscv` and QEMU have it: bits 0 to 7
//! are V, R, W, X, U, G, A, D; the frame's number stands from bit 10 on. Nothing here touches the
//! machine: loading a table and flushing translations is the business of `arch`.

use super::frame::{FrameKind, FrameNumber, Memory, PhysicalAddress};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::Rights;
use nexus_abi::limits::PAGE_SIZE;

pub(super) const VALID: u64 = 1 << 0;
pub(super) const READ: u64 = 1 << 1;
pub(super) const WRITE: u64 = 1 << 2;
pub(super) const EXECUTE: u64 = 1 << 3;
const USER: u64 = 1 << 4;
const GLOBAL: u64 = 1 << 5;
const ACCESSED: u64 = 1 << 6;
const DIRTY: u64 = 1 << 7;
pub(super) const FRAME_SHIFT: u32 = 10;
/// Bytes that one entry of a table of level 1 covers.
pub const LEVEL1_BYTES: u64 = 2 << 20;
/// Bytes that one entry of a table of level 2 (the root) covers.
pub const LEVEL2_BYTES: u64 = 1 << 30;

/// A leaf's protection bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection(u64);

impl Protection {
    /// The protection of a user page; `None` when it would be writable and executable or nothing at all.
    pub fn user(rights: Rights) -> Option<Self> {
        Self::from_rights(rights).map(|Protection(bits)| Protection(bits | USER))
    }

    /// The protection of a page of the kernel, present in every address space.
    pub fn kernel(rights: Rights) -> Option<Self> {
        Self::from_rights(rights).map(|Protection(bits)| Protection(bits | GLOBAL))
    }

    /// Accessed and dirty are set from the start: the kernel does not page out and must not be asked.
    fn from_rights(rights: Rights) -> Option<Self> {
        let mut bits = VALID | ACCESSED | DIRTY;
        if rights.contains(Rights::WRITE | Rights::EXECUTE) {
            return None;
        }
        // Writable without readable is reserved by the specification, so writable implies readable.
        if rights.intersects(Rights::READ | Rights::WRITE) {
            bits |= READ;
        }
        if rights.contains(Rights::WRITE) {
            bits |= WRITE;
        }
        if rights.contains(Rights::EXECUTE) {
            bits |= EXECUTE;
        }
        (bits & (READ | EXECUTE) != 0).then_some(Protection(bits))
    }

    /// Whether an access with these rights is allowed.
    #[inline]
    pub fn allows(self, rights: Rights) -> bool {
        (!rights.contains(Rights::READ) || self.0 & READ != 0)
            && (!rights.contains(Rights::WRITE) || self.0 & WRITE != 0)
            && (!rights.contains(Rights::EXECUTE) || self.0 & EXECUTE != 0)
    }
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The physical address of the page.
    pub address: PhysicalAddress,
    /// What it allows.
    pub protection: Protection,
}

/// A page table could not be had.
#[derive(Debug, PartialEq, Eq)]
pub struct NoTable;

/// The tables of one address space.
#[derive(Clone, Copy, Debug)]
pub struct PageTable {
    /// The frame of the root.
    pub root: FrameNumber,
}

/// Index into the table of a level for an address.
#[inline]
pub fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level) & 0x1ff) as usize
}

fn entry_frame(memory: &Memory, entry: u64) -> Option<FrameNumber> {
    memory.frame(PhysicalAddress(entry >> FRAME_SHIFT << 12))
}

/// The word of a table entry that points at a lower table.
pub fn table_entry(address: PhysicalAddress) -> u64 {
    address.0 >> 12 << FRAME_SHIFT | VALID
}

/// The word of a leaf.
pub fn leaf_entry(address: PhysicalAddress, protection: Protection) -> u64 {
    address.0 >> 12 << FRAME_SHIFT | protection.0
}

impl PageTable {
    /// Maps one page. Tables that are missing come from the pool, where the mapping reserved them; each
    /// one taken is reported to `taken`.
    pub fn map(
        self,
        memory: &Memory,
        virtual_address: u64,
        address: PhysicalAddress,
        protection: Protection,
        mut taken: impl FnMut(),
    ) -> Result<(), NoTable> {
        let mut table = self.root;
        for level in [2, 1] {
            let word = memory.word(table, index(virtual_address, level));
            let entry = word.load(Relaxed);
            table = if entry & VALID == 0 {
                let lower = memory.take(FrameKind::PageTable as u8).ok_or(NoTable)?;
                taken();
                word.store(table_entry(memory.address(lower)), Relaxed);
                lower
            } else {
                entry_frame(memory, entry).ok_or(NoTable)?
            };
        }
        let word = memory.word(table, index(virtual_address, 0));
        word.store(leaf_entry(address, protection), Relaxed);
        Ok(())
    }

    /// Finds the page that an address of user memory leads to.
    #[inline]
    pub fn walk(self, memory: &Memory, virtual_address: u64) -> Option<Leaf> {
        let mut table = self.root;
        for level in [2, 1] {
            let entry = memory.word(table, index(virtual_address, level)).load(Relaxed);
            if entry & VALID == 0 || entry & (READ | WRITE | EXECUTE) != 0 {
                return None;
            }
            table = entry_frame(memory, entry)?;
        }
        let entry = memory.word(table, index(virtual_address, 0)).load(Relaxed);
        (entry & VALID != 0).then_some(Leaf {
            address: PhysicalAddress(entry >> FRAME_SHIFT << 12),
            protection: Protection(entry & ((1 << FRAME_SHIFT) - 1)),
        })
    }

    /// Removes the leaf of one page; yields whether there was one.
    pub fn unmap(self, memory: &Memory, virtual_address: u64) -> bool {
        let Some(table) = self.table(memory, virtual_address, 0) else { return false };
        memory.word(table, index(virtual_address, 0)).swap(0, Relaxed) & VALID != 0
    }

    /// Removes the table of `level` (0 or 1) that covers an address and gives its frame back. The caller
    /// knows that nothing is mapped under it.
    pub fn release_table(self, memory: &Memory, virtual_address: u64, level: u32) -> bool {
        let Some(parent) = self.table(memory, virtual_address, level + 1) else { return false };
        let entry = memory.word(parent, index(virtual_address, level + 1)).swap(0, Relaxed);
        match entry_frame(memory, entry) {
            Some(table) if entry & VALID != 0 => {
                memory.release(table);
                true
            }
            _ => false,
        }
    }

    /// The table of `level` that covers an address, if there is one.
    pub fn table(self, memory: &Memory, virtual_address: u64, level: u32) -> Option<FrameNumber> {
        let mut table = self.root;
        for upper in (level + 1..=2).rev() {
            let entry = memory.word(table, index(virtual_address, upper)).load(Relaxed);
            if entry & VALID == 0 {
                return None;
            }
            table = entry_frame(memory, entry)?;
        }
        Some(table)
    }
}

/// Page tables that mapping a range can need at most: one a touched 2 MiB and one a touched 1 GiB.
pub fn tables_for(base: u64, bytes: u64) -> u64 {
    let last = base + bytes - PAGE_SIZE as u64;
    (last / LEVEL1_BYTES - base / LEVEL1_BYTES + 1) + (last / LEVEL2_BYTES - base / LEVEL2_BYTES + 1)
}
