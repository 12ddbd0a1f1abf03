//! User memory that is there already, as the fast path reaches it: pages are looked up without a lock and without
//! populating any, and copied through the window.
//!
//! Tables and mappings change only while a hart is alone in the kernel. So whoever came in beside others may use what
//! is found until it leaves, and no longer.
#![allow(unsafe_code)] // it reaches tables and pages that are known to be there without checking that they are

use super::frame::copy_apart;
use super::page_table::{self, EXECUTE, FRAME_SHIFT, READ, VALID, WRITE};
use super::slab::View;
use super::user::in_user_range;
use crate::arch::Arch;
use crate::kernel::Kernel;
use crate::object::process::ProcessShared;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use nexus_abi::limits::PAGE_SIZE;

/// Bytes of a word.
const WORD_BYTES: usize = size_of::<u64>();
/// Places are put together by bits, which cannot overflow and so is not checked.
const PAGE_SHIFT: u32 = PAGE_SIZE.trailing_zeros();

/// Where in its page a pointer points.
fn offset(pointer: *const u8) -> usize {
    pointer.addr() % PAGE_SIZE
}

/// Copies user memory within two pages.
///
/// # Safety
/// Each range lies in one page of user memory, in the window.
#[inline(always)]
unsafe fn copy(source: *const u8, target: *mut u8, bytes: usize) {
    if source.addr() / PAGE_SIZE == target.addr() / PAGE_SIZE {
        // SAFETY: the caller's. The kernel never has references into user memory; should a program write it meanwhile,
        // the bytes are that program's own loss. `copy` allows that they overlap.
        unsafe { core::ptr::copy(source, target, bytes) }
    } else {
        // SAFETY: as above, in two pages.
        unsafe { copy_apart(source, target, bytes) }
    }
}

impl View<'_> {
    /// Where an address of user memory is in the window, if its page is there and its protection has all these bits.
    ///
    /// # Safety
    /// The process is alive, and the hart is inside the kernel.
    #[inline(always)]
    unsafe fn user_memory(self, process: &ProcessShared, address: u64, needs: u64) -> Option<*mut u8> {
        let mut table = (process.root.load(Relaxed) as usize) << PAGE_SHIFT;
        for level in [2, 1] {
            // SAFETY: the caller's.
            let entry = unsafe { self.entry(table, address, level) };
            if entry & (VALID | READ | WRITE | EXECUTE) != VALID {
                return None;
            }
            table = self.offset_of(entry);
        }
        // SAFETY: as above.
        let leaf = unsafe { self.entry(table, address, 0) };
        let page = self.offset_of(leaf);
        // A device's registers are no memory: nothing is copied to or from them.
        if leaf & (VALID | needs) != VALID | needs || page >= self.bytes() {
            return None;
        }
        Some(self.pointer(page | (address as usize % PAGE_SIZE)))
    }

    /// The entry for an address in the table of a level at an offset from the base of RAM.
    ///
    /// # Safety
    /// It is a table of a process that is alive.
    #[inline(always)]
    unsafe fn entry(self, table: usize, address: u64, level: u32) -> u64 {
        let place = table | page_table::index(address, level) << WORD_BYTES.trailing_zeros();
        // SAFETY: such a table is a frame of words in RAM.
        unsafe { self.at::<AtomicU64>(place) }.load(Relaxed)
    }

    /// How far from the base of RAM the page begins that an entry of a page table names.
    #[inline(always)]
    fn offset_of(self, entry: u64) -> usize {
        (((entry >> FRAME_SHIFT) as usize) << PAGE_SHIFT).wrapping_sub(self.base() as usize)
    }
}

impl<A: Arch> Kernel<A> {
    /// Words of the memory of a process that is alive, if they are there already, on their boundary and in one page.
    #[inline(always)]
    pub(crate) fn words_present<const WORDS: usize>(
        &self,
        process: &ProcessShared,
        address: u64,
    ) -> Option<[u64; WORDS]> {
        let is_on_boundary = address.is_multiple_of(WORD_BYTES as u64);
        if !is_on_boundary || !in_user_range(address, (WORDS * WORD_BYTES) as u64) {
            return None;
        }
        // SAFETY: the process is alive, and this hart is inside.
        let source = unsafe { self.memory.view().user_memory(process, address, READ) }?;
        if offset(source) > PAGE_SIZE - WORDS * WORD_BYTES {
            return None;
        }
        // SAFETY: they lie in one page of the window, aligned; user code may change them meanwhile, so each is
        // read once.
        Some(core::array::from_fn(|word| unsafe { source.cast::<u64>().add(word).read_volatile() }))
    }

    /// Copies bytes from one process's memory to another's, both alive, as long as the pages are there already and no
    /// interrupt waits; looks at interrupts after each page. `None`: the long way has to do it anew.
    #[inline(never)]
    pub(crate) fn copy_present(
        &self,
        (from, mut source): (&ProcessShared, u64),
        (to, mut target): (&ProcessShared, u64),
        mut bytes: usize,
    ) -> Option<()> {
        if !in_user_range(source, bytes as u64) || !in_user_range(target, bytes as u64) {
            return None;
        }
        let memory = self.memory.view();
        // SAFETY: both processes are alive, and this hart is inside; here and below.
        let mut read = unsafe { memory.user_memory(from, source, READ) }?;
        // SAFETY: as above.
        let mut written = unsafe { memory.user_memory(to, target, WRITE) }?;
        loop {
            let chunk = bytes.min(PAGE_SIZE - offset(read).max(offset(written)));
            // SAFETY: so much is left of both pages.
            unsafe { copy(read, written, chunk) };
            bytes -= chunk;
            if bytes == 0 {
                return Some(());
            }
            if self.arch.interrupt_pending() || self.entrance.is_awaited() {
                return None;
            }
            (source, target) = (source + chunk as u64, target + chunk as u64);
            (read, written) = (read.wrapping_add(chunk), written.wrapping_add(chunk));
            if offset(read) == 0 {
                // SAFETY: as above.
                read = unsafe { memory.user_memory(from, source, READ) }?;
            }
            if offset(written) == 0 {
                // SAFETY: as above.
                written = unsafe { memory.user_memory(to, target, WRITE) }?;
            }
        }
    }
}
