//! The heap: a real allocator over memory that grows from the process's quota in steps.

use crate::environment::heap_end;
use core::alloc::{GlobalAlloc, Layout};
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::start_page::StartPage;
use nexus_abi::{Handle, Rights, system};
use talc::{OomHandler, Span, Talc, Talck};

/// The heap grows by at least this much: 16 pages.
const GROWTH_BYTES: usize = 16 * PAGE_SIZE;

#[cfg(target_os = "none")]
#[global_allocator]
static HEAP: Heap = Heap::new();

/// A process's heap. On the machine there is one a program; a simulator has one a process.
pub struct Heap(Talck<spin::Mutex<()>, Growing>);

impl Heap {
    /// A heap without addresses, whose allocations fail.
    #[expect(clippy::new_without_default, reason = "statics need a constant")]
    pub const fn new() -> Self {
        Heap(Talc::new(Growing { next: 0, end: 0, span: Span::empty() }).lock())
    }

    /// Gives the heap its address range.
    pub fn open(&self, page: &StartPage) {
        let mut heap = self.0.lock();
        heap.oom_handler.next = page.heap_base;
        heap.oom_handler.end = heap_end(page);
    }
}

// SAFETY: all of it is the allocator's own, which keeps the contract.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's word.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's word.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's word.
        unsafe { self.0.realloc(pointer, layout, bytes) }
    }
}

/// The heap of this program.
#[cfg(target_os = "none")]
pub fn own() -> &'static Heap {
    &HEAP
}

/// Where the heap stands in its address range.
struct Growing {
    next: u64,
    end: u64,
    span: Span,
}

impl OomHandler for Growing {
    /// Maps more memory behind what there is; fails when the quota or the range is used up.
    fn handle_oom(talc: &mut Talc<Self>, layout: Layout) -> Result<(), ()> {
        // Room for the allocator's own words around the block, and for aligning it.
        let needed = layout.size().checked_add(layout.align()).and_then(|bytes| bytes.checked_add(PAGE_SIZE));
        let bytes = needed.ok_or(())?.max(GROWTH_BYTES).next_multiple_of(PAGE_SIZE);
        let at = talc.oom_handler.next;
        let next = at.checked_add(bytes as u64).filter(|&next| next <= talc.oom_handler.end).ok_or(())?;
        let vmo = system::vmo_create(Handle::NONE, bytes).map_err(drop)?;
        let protection = Rights::READ.union(Rights::WRITE);
        // SAFETY: the range is the heap's alone and nothing of it was mapped before.
        let mapped = unsafe { system::vmo_map(Handle::NONE, vmo, at, 0, bytes, protection) };
        // What is mapped stays without its capability: nobody is to resize or hand over the heap, and a program holds as
        // many capabilities however much memory it has needed so far.
        let _ = system::cap_close(vmo);
        mapped.map_err(drop)?;
        talc.oom_handler.next = next;
        let grown = Span::from_base_size(at as *mut u8, bytes);
        let old = talc.oom_handler.span;
        // SAFETY: the memory was just mapped for good and, if there is some already, follows it directly.
        let span = unsafe {
            if old.is_empty() { talc.claim(grown)? } else { talc.extend(old, old.fit_over(grown)) }
        };
        talc.oom_handler.span = span;
        Ok(())
    }
}
