//! The simulated machine's RAM, and the address spaces that show pieces of it.
//!
//! RAM is one anonymous file. The kernel sees all of it through one window; a process sees its pages where
//! its own space has them, so memory that two processes share is the same memory, as on the machine. A
//! space is to the kernel's page tables what a TLB is: filled from them, and flushed when they say so.
//!
//! A process's address `u` is the host's address `base + u`: programs of the host use their pointers as they
//! are, and what crosses the ABI is translated (see [`crate::door`]).
#![allow(unsafe_code)] // it maps memory

use neuron::memory::PhysicalAddress;
use neuron::simulation::RAM_BASE;
use nexus_abi::limits::{PAGE_SIZE, USER_END};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr::{null_mut, with_exposed_provenance_mut};
use std::sync::Mutex;

const PAGE: u64 = PAGE_SIZE as u64;
/// Where the first space begins: far from whatever the host places by itself.
const SPACES_BASE: u64 = 0x1000_0000_0000;
/// Spaces that one program of the host can have at a time.
const SPACES_MAX: usize = 256;

static SPACES: Mutex<[bool; SPACES_MAX]> = Mutex::new([false; SPACES_MAX]);

thread_local! {
    /// RAM that nobody uses: mapping it anew would take longer than a boot.
    static UNUSED: RefCell<Option<Chips>> = const { RefCell::new(None) };
}

/// RAM. What was in it before is still there when it is taken, as after a reset.
pub struct Ram(Option<Chips>);

/// What RAM is made of.
struct Chips {
    file: OwnedFd,
    window: *mut u8,
    frames: usize,
}

impl Chips {
    fn new(frames: usize) -> io::Result<Self> {
        let file = memfd_create("nexus-sim", MemfdFlags::CLOEXEC)?;
        let bytes = frames * PAGE_SIZE;
        ftruncate(&file, bytes as u64)?;
        let both = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address of the host's choice.
        let window = unsafe { mmap(null_mut(), bytes, both, MapFlags::SHARED, &file, 0)? };
        Ok(Chips { file, window: window.cast(), frames })
    }
}

impl Drop for Chips {
    fn drop(&mut self) {
        // SAFETY: the window is this value's own, and whoever was lent it is gone.
        let unmapped = unsafe { munmap(self.window.cast(), self.frames * PAGE_SIZE) };
        assert!(unmapped.is_ok(), "the window onto RAM cannot be unmapped");
    }
}

impl Ram {
    /// RAM of so many frames.
    pub fn take(frames: usize) -> io::Result<Self> {
        let unused = UNUSED.with(RefCell::take).filter(|chips| chips.frames == frames);
        Ok(Ram(Some(unused.map_or_else(|| Chips::new(frames), Ok)?)))
    }

    fn chips(&self) -> &Chips {
        self.0.as_ref().expect("only dropping takes them")
    }

    /// Where all of it is seen.
    pub fn window(&self) -> *mut u8 {
        self.chips().window
    }

    /// Writes bytes from a frame on, before anybody else knows of it.
    pub fn put(&mut self, frame: usize, bytes: &[u8]) {
        let chips = self.chips();
        assert!(frame * PAGE_SIZE + bytes.len() <= chips.frames * PAGE_SIZE);
        // SAFETY: inside the window, which nobody else sees yet (`self` is exclusive).
        unsafe { chips.window.add(frame * PAGE_SIZE).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        UNUSED.with(|unused| unused.replace(self.0.take()));
    }
}

/// Addresses of the host that lie in the space of some simulated process.
pub fn in_any_space(address: u64) -> bool {
    (SPACES_BASE..SPACES_BASE + SPACES_MAX as u64 * USER_END).contains(&address)
}

/// What a page of a space shows.
#[derive(Clone, Copy, Debug)]
pub enum Shown {
    /// RAM at this address.
    Memory(PhysicalAddress),
    /// A device whose registers are memory: a page of its own, holding ones.
    Registers,
}

/// The addresses of one simulated process.
pub struct Space {
    place: usize,
    pages: BTreeSet<u64>,
}

impl Space {
    /// An empty space.
    pub fn new() -> io::Result<Self> {
        let mut spaces = SPACES.lock().expect("nobody panics while choosing a place");
        let place = spaces.iter().position(|taken| !taken);
        let place = place.ok_or_else(|| io::Error::other("too many simulated processes at a time"))?;
        spaces[place] = true;
        Ok(Space { place, pages: BTreeSet::new() })
    }

    /// What to add to an address of the process to have one of the host.
    pub fn base(&self) -> u64 {
        SPACES_BASE + self.place as u64 * USER_END
    }

    /// Whether a page is there.
    pub fn has(&self, page: u64) -> bool {
        self.pages.contains(&page)
    }

    /// Shows something at a page, and whatever follows it there.
    pub fn show(&mut self, ram: &Ram, page: u64, count: u64, shown: Shown, writable: bool) -> io::Result<()> {
        let at = with_exposed_provenance_mut((self.base() + page) as usize);
        let bytes = (count * PAGE) as usize;
        let mut protection = ProtFlags::READ;
        protection.set(ProtFlags::WRITE, writable);
        match shown {
            // SAFETY: the range is of this space, whose place nobody else has; what was there is replaced,
            // and the process that could have used it does not run now.
            Shown::Memory(address) => unsafe {
                let flags = MapFlags::SHARED | MapFlags::FIXED;
                mmap(at, bytes, protection, flags, &ram.chips().file, address.0 - RAM_BASE)?;
            },
            // SAFETY: as above; the page is filled while nobody knows of it.
            Shown::Registers => unsafe {
                let flags = MapFlags::PRIVATE | MapFlags::FIXED;
                mmap_anonymous(at, bytes, ProtFlags::READ | ProtFlags::WRITE, flags)?;
                at.cast::<u8>().write_bytes(1, bytes);
            },
        }
        self.pages.extend((0..count).map(|number| page + number * PAGE));
        Ok(())
    }

    /// Forgets a page.
    pub fn flush(&mut self, page: u64) -> io::Result<()> {
        if self.pages.remove(&page) {
            let at = with_exposed_provenance_mut((self.base() + page) as usize);
            // SAFETY: a page of this space; the kernel took it from the process.
            unsafe { munmap(at, PAGE_SIZE)? };
        }
        Ok(())
    }

    /// Forgets every page.
    pub fn flush_all(&mut self) -> io::Result<()> {
        self.pages.clear();
        let at = with_exposed_provenance_mut(self.base() as usize);
        // SAFETY: the whole range is this space's alone.
        unsafe { munmap(at, USER_END as usize)? };
        Ok(())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let flushed = self.flush_all();
        assert!(flushed.is_ok(), "a simulated process's memory cannot be unmapped");
        SPACES.lock().expect("nobody panics while choosing a place")[self.place] = false;
    }
}
