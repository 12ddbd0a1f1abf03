//! Physical memory: which frame is what, and the pool of free ones.
//!
//! States of a frame: firmware or kernel (never in the pool), free clean, free dirty, or in use as one of
//! [`FrameKind`]. Invariants: a frame is on at most one list; a frame handed out is zero; the number of
//! frames that quotas reserve never exceeds the number that the pool began with, so taking a reserved
//! frame cannot fail. That is true of single frames: a [`Row`] of neighbours may not be there.
#![allow(unsafe_code)] // it is the window onto physical memory

use crate::sync::SpinLock;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use nexus_abi::Error;
use nexus_abi::limits::PAGE_SIZE;

/// A physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhysicalAddress(pub u64);

/// The number of a frame, counted from the base of RAM. Frame 0 belongs to the firmware, so that 0 can
/// stand for "none" in lists.
pub type FrameNumber = u32;

/// What a frame is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Firmware, kernel image, initial image: not ours to hand out.
    Reserved = 0,
    /// In the pool, with whatever was in it.
    Free = 1,
    /// A page of user memory, or of the index of a `Vmo`.
    Data = 2,
    /// A page table of an address space.
    PageTable = 3,
    /// Entries of a capability table.
    Capabilities = 4,
    /// In the pool, zeroed.
    Clean = 5,
    /// Kernel objects; the value of slab `n` is `Slab0 as u8 + n`.
    Slab0 = 16,
}

/// What the kernel knows of one frame. Fields are guarded by the pool's lock while the frame is free, and
/// by its owner's account while it is in use.
#[derive(Default)]
pub struct FrameInfo {
    /// Slab frames: which slots are taken.
    pub used_slots: AtomicU64,
    /// Neighbours in the list that the frame is on.
    pub next: AtomicU32,
    /// See `next`.
    pub previous: AtomicU32,
    /// Slab frames: the granule of the process that pays.
    pub owner: AtomicU32,
    /// The generation with which objects of this frame begin: higher than any before.
    pub generation: AtomicU32,
    kind: AtomicU8,
}

impl FrameInfo {
    /// The frame's use, as the number of a [`FrameKind`] or slab.
    pub fn kind(&self) -> u8 {
        self.kind.load(Relaxed)
    }

    /// Changes the frame's use.
    pub fn set_kind(&self, kind: u8) {
        self.kind.store(kind, Relaxed);
    }
}

/// The free frames: two lists, doubly linked through the infos.
#[derive(Default)]
struct Pool {
    clean: FrameNumber,
    dirty: FrameNumber,
    /// Free frames, the one that is being cleaned included.
    free: u32,
    /// Whether a hart is about to put a cleaned frame back.
    cleaning: bool,
}

impl Pool {
    fn first(&mut self, clean: bool) -> &mut FrameNumber {
        if clean { &mut self.clean } else { &mut self.dirty }
    }
}

/// Bytes of a word.
const WORD_BYTES: usize = size_of::<u64>();
/// Words that are copied at a time.
const BLOCK_WORDS: usize = 16;
/// Words that are put together at a time.
const SHIFTED_WORDS: usize = 8;

/// Copies words; each is read once, for user code may change the source meanwhile.
///
/// # Safety
/// Both are valid for so many words and aligned, and nothing refers to what the target holds.
#[inline(always)]
unsafe fn copy_words<const WORDS: usize>(source: *const u8, target: *mut u8) {
    let (source, target) = (source.cast::<u64>(), target.cast::<u64>());
    // SAFETY: the caller's.
    let words: [u64; WORDS] = core::array::from_fn(|word| unsafe { source.add(word).read_volatile() });
    for (word, value) in words.into_iter().enumerate() {
        // SAFETY: the caller's.
        unsafe { target.add(word).write_volatile(value) };
    }
}

/// Copies single bytes, fewer than a word.
///
/// # Safety
/// As [`copy_apart`].
#[inline(always)]
unsafe fn copy_bytes(source: *const u8, target: *mut u8, bytes: usize) {
    for at in 0..bytes {
        // SAFETY: the caller's.
        unsafe { target.add(at).write_volatile(source.add(at).read_volatile()) };
    }
}

/// Copies user memory: by words, as soon as the target is on a boundary.
///
/// # Safety
/// Both ranges lie in frames of the window, in different ones, that hold user memory.
pub(super) unsafe fn copy_apart(mut source: *const u8, mut target: *mut u8, mut bytes: usize) {
    let head = target.align_offset(WORD_BYTES).min(bytes);
    // SAFETY: the caller's, here and below; `bytes` is what is left of each range, and each copy is of no more.
    unsafe { copy_bytes(source, target, head) };
    (source, target, bytes) = (source.wrapping_add(head), target.wrapping_add(head), bytes - head);
    let rest = bytes % WORD_BYTES;
    let words_end = target.wrapping_add(bytes - rest);
    if source.addr().is_multiple_of(WORD_BYTES) {
        let blocks_end = target.wrapping_add(bytes - bytes % (BLOCK_WORDS * WORD_BYTES));
        while target != blocks_end {
            // SAFETY: a block is left, and both are aligned.
            unsafe { copy_words::<BLOCK_WORDS>(source, target) };
            (source, target) = (
                source.wrapping_add(BLOCK_WORDS * WORD_BYTES),
                target.wrapping_add(BLOCK_WORDS * WORD_BYTES),
            );
        }
        while target != words_end {
            // SAFETY: a word is left, and both are aligned.
            unsafe { copy_words::<1>(source, target) };
            (source, target) = (source.wrapping_add(WORD_BYTES), target.wrapping_add(WORD_BYTES));
        }
    } else if target != words_end {
        // SAFETY: at least a word is left of both.
        source = unsafe { copy_shifted(source, target, words_end) };
        target = words_end;
    }
    // SAFETY: fewer bytes than a word are left.
    unsafe { copy_bytes(source, target, rest) };
}

/// Copies words from a source that is on no boundary: each is put together from two. Yields where the source ends.
///
/// # Safety
/// As [`copy_apart`]; the target is aligned, the source is not, and there is at least a word.
unsafe fn copy_shifted(source: *const u8, mut target: *mut u8, end: *mut u8) -> *const u8 {
    let skew = source.addr() % WORD_BYTES;
    let source_end = source.wrapping_add(end.addr() - target.addr());
    let (low, high) = (8 * skew as u32, 8 * (WORD_BYTES - skew) as u32);
    let mut aligned = source.wrapping_sub(skew).cast::<u64>();
    // SAFETY: aligned words that hold a byte of the range lie in the frame with it; the last word that is read
    // holds the last byte of the last word that is put together. So much is left of the target.
    unsafe {
        let mut word = aligned.read_volatile();
        let mut put_together = |words: usize| {
            for at in 0..words {
                let next = aligned.wrapping_add(at + 1).read_volatile();
                let value = word.wrapping_shr(low) | next.wrapping_shl(high);
                target.cast::<u64>().wrapping_add(at).write_volatile(value);
                word = next;
            }
            aligned = aligned.wrapping_add(words);
            target = target.wrapping_add(words * WORD_BYTES);
            end.addr() - target.addr()
        };
        let mut left = put_together(0);
        while left >= SHIFTED_WORDS * WORD_BYTES {
            left = put_together(SHIFTED_WORDS);
        }
        while left != 0 {
            left = put_together(1);
        }
    }
    source_end
}

/// Frames that one step of [`Memory::extend_row`] looks at.
const ROW_FRAMES_A_STEP: u32 = 64;
/// Frames that one step of [`Memory::extend_row`] zeroes.
const ROW_ZEROED_A_STEP: u32 = 2;

/// Consecutive frames that are being gathered, in steps. Who keeps it gives the frames back or uses them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The first of them.
    pub first: FrameNumber,
    /// How many are taken out of the pool already.
    pub count: u32,
}

/// All of RAM, as the kernel reaches it.
pub struct Memory {
    /// Where the kernel sees `ram_base`.
    window: *mut u8,
    ram_base: u64,
    infos: &'static [FrameInfo],
    pool: SpinLock<Pool>,
    contended: AtomicU64,
}

// SAFETY: `window` is a constant address of memory that lives as long as the machine; what is shared
// through it is either atomics or guarded by the locks of the slab and pool.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Takes charge of RAM from `ram_base` on, one frame an entry of `infos`. All frames begin reserved.
    ///
    /// # Safety
    /// `window` must be valid for reads and writes of `infos.len()` pages for ever, and nothing else may
    /// use frames that are given to [`Memory::release`].
    pub const unsafe fn new(window: *mut u8, ram_base: u64, infos: &'static [FrameInfo]) -> Self {
        let pool = SpinLock::new(Pool { clean: 0, dirty: 0, free: 0, cleaning: false });
        Memory { window, ram_base, infos, pool, contended: AtomicU64::new(0) }
    }

    /// An object's lock was found taken by another hart.
    #[inline(always)]
    pub(crate) fn count_contended(&self) {
        self.contended.fetch_add(1, Relaxed);
    }

    /// How often that happened.
    pub fn contended(&self) -> u64 {
        self.contended.load(Relaxed)
    }

    /// The number of frames, reserved ones included.
    pub fn frame_count(&self) -> u32 {
        self.infos.len() as u32
    }

    /// The number of free frames.
    pub fn free_count(&self) -> u32 {
        self.pool.lock().free
    }

    /// Whether a physical range touches RAM.
    pub fn overlaps(&self, base: u64, bytes: u64) -> bool {
        let end = self.ram_base + self.infos.len() as u64 * PAGE_SIZE as u64;
        base < end && base.saturating_add(bytes) > self.ram_base
    }

    /// The physical address of the base of RAM.
    pub(super) fn base(&self) -> u64 {
        self.ram_base
    }

    /// The address of a frame.
    pub fn address(&self, frame: FrameNumber) -> PhysicalAddress {
        PhysicalAddress(self.ram_base + u64::from(frame) * PAGE_SIZE as u64)
    }

    /// The frame that holds an address, if it is of RAM.
    #[inline]
    pub fn frame(&self, address: PhysicalAddress) -> Option<FrameNumber> {
        let frame = address.0.checked_sub(self.ram_base)? / PAGE_SIZE as u64;
        (frame < self.infos.len() as u64).then_some(frame as FrameNumber)
    }

    /// What is known of all frames.
    #[inline]
    pub(crate) fn infos(&self) -> &'static [FrameInfo] {
        self.infos
    }

    /// What is known of a frame.
    #[inline]
    pub fn info(&self, frame: FrameNumber) -> &FrameInfo {
        &self.infos[frame as usize]
    }

    /// Takes a zeroed frame out of the pool; `None` when it is empty, which reservations rule out.
    pub fn take(&self, kind: u8) -> Option<FrameNumber> {
        let mut pool = self.pool.lock();
        while pool.clean == 0 && pool.cleaning {
            // The last free frame may be the one in another hart's hands.
            drop(pool);
            core::hint::spin_loop();
            pool = self.pool.lock();
        }
        let frame = if pool.clean != 0 { pool.clean } else { pool.dirty };
        if frame == 0 {
            return None;
        }
        let clean = self.unlink(&mut pool, frame);
        drop(pool);
        if !clean {
            self.zero(frame);
        }
        self.info(frame).set_kind(kind);
        Some(frame)
    }

    /// Puts a frame (back) into the pool.
    pub fn release(&self, frame: FrameNumber) {
        assert!(!self.is_free(frame), "frame {frame} released twice");
        self.link(&mut self.pool.lock(), frame, FrameKind::Free);
    }

    /// Zeroes one free frame ahead of time; yields whether there was one to zero that no other hart is at. For
    /// idle moments: the caller need not be inside of the kernel.
    pub fn clean_one(&self) -> bool {
        let frame = {
            let mut pool = self.pool.lock();
            let frame = pool.dirty;
            if frame == 0 || pool.cleaning {
                return false;
            }
            self.unlink(&mut pool, frame);
            self.info(frame).set_kind(FrameKind::Reserved as u8);
            pool.free += 1;
            pool.cleaning = true;
            frame
        };
        self.zero(frame);
        let mut pool = self.pool.lock();
        pool.free -= 1;
        pool.cleaning = false;
        self.link(&mut pool, frame, FrameKind::Clean);
        true
    }

    /// One bounded step towards a row of so many zeroed neighbours, marked with `kind`. Yields the first
    /// once all are there, or `None` while there is more to do. `NoMemory`: there is no such row, and what
    /// was gathered is back.
    pub fn extend_row(&self, row: &mut Row, frames: u32, kind: u8) -> Result<Option<FrameNumber>, Error> {
        if row.count > frames {
            self.release_row(row);
        }
        let mut zeroed = 0;
        for _ in 0..ROW_FRAMES_A_STEP {
            let next = row.first + row.count;
            if next >= self.frame_count() {
                self.release_row(row);
                *row = Row::default();
                return Err(Error::NoMemory);
            }
            let mut pool = self.pool.lock();
            if !self.is_free(next) {
                drop(pool);
                self.release_row(row);
                row.first = next + 1;
                continue;
            }
            let clean = self.unlink(&mut pool, next);
            drop(pool);
            self.info(next).set_kind(kind);
            row.count += 1;
            if !clean {
                self.zero(next);
                zeroed += 1;
            }
            if row.count == frames || zeroed == ROW_ZEROED_A_STEP {
                break;
            }
        }
        Ok((row.count == frames).then(|| core::mem::take(row).first))
    }

    /// Gives the frames of a row that was not finished back.
    pub fn release_row(&self, row: &mut Row) {
        for frame in row.first..row.first + core::mem::take(&mut row.count) {
            self.link(&mut self.pool.lock(), frame, FrameKind::Clean);
        }
    }

    fn is_free(&self, frame: FrameNumber) -> bool {
        let kind = self.info(frame).kind();
        kind == FrameKind::Free as u8 || kind == FrameKind::Clean as u8
    }

    fn link(&self, pool: &mut Pool, frame: FrameNumber, kind: FrameKind) {
        let info = self.info(frame);
        info.set_kind(kind as u8);
        let first = pool.first(kind == FrameKind::Clean);
        info.next.store(*first, Relaxed);
        info.previous.store(0, Relaxed);
        if *first != 0 {
            self.info(*first).previous.store(frame, Relaxed);
        }
        *first = frame;
        pool.free += 1;
    }

    /// Takes a free frame off its list; yields whether it is zero.
    fn unlink(&self, pool: &mut Pool, frame: FrameNumber) -> bool {
        let info = self.info(frame);
        let clean = info.kind() == FrameKind::Clean as u8;
        let (next, previous) = (info.next.swap(0, Relaxed), info.previous.swap(0, Relaxed));
        if next != 0 {
            self.info(next).previous.store(previous, Relaxed);
        }
        if previous != 0 {
            self.info(previous).next.store(next, Relaxed);
        } else {
            *pool.first(clean) = next;
        }
        pool.free -= 1;
        clean
    }

    /// Where the kernel sees the base of RAM.
    #[inline]
    pub(crate) fn window(&self) -> *mut u8 {
        self.window
    }

    /// Where the kernel sees a frame.
    #[inline]
    pub(crate) fn pointer(&self, frame: FrameNumber) -> *mut u8 {
        assert!((frame as usize) < self.infos.len());
        self.window.wrapping_add(frame as usize * PAGE_SIZE)
    }

    /// One of the 512 words of a frame that holds page tables or an index.
    #[inline]
    pub fn word(&self, frame: FrameNumber, index: usize) -> &AtomicU64 {
        assert!(index < PAGE_SIZE / 8);
        // SAFETY: the frame lies in the window (`pointer` checks), the index in the frame. Callers name frames that
        // hold words alone (page tables, indices of tables and of memory), which are reached as atomics only.
        unsafe { &*self.pointer(frame).cast::<AtomicU64>().add(index) }
    }

    /// Copies bytes from one frame to another; the ranges must lie in their frames.
    #[inline]
    pub fn copy(&self, from: (FrameNumber, usize), to: (FrameNumber, usize), bytes: usize) {
        assert!(bytes <= PAGE_SIZE && from.1 + bytes <= PAGE_SIZE && to.1 + bytes <= PAGE_SIZE);
        let (source, target) =
            (self.pointer(from.0).wrapping_add(from.1), self.pointer(to.0).wrapping_add(to.1));
        if from.0 == to.0 {
            // SAFETY: both ranges lie in a frame of the window (checked above). Callers name frames of user
            // memory, which the kernel never has references into; should a program write one meanwhile, the
            // bytes are that program's own loss. `copy` allows that they overlap.
            unsafe { core::ptr::copy(source, target, bytes) }
        } else {
            // SAFETY: as above, in two frames.
            unsafe { copy_apart(source, target, bytes) }
        }
    }

    /// Copies bytes of user memory out of a frame.
    pub fn read(&self, frame: FrameNumber, offset: usize, to: &mut [u8]) {
        assert!(offset + to.len() <= PAGE_SIZE);
        let source = self.pointer(frame).wrapping_add(offset);
        // SAFETY: as in `copy`; `to` is memory of the kernel, never a frame of user memory.
        unsafe { core::ptr::copy_nonoverlapping(source, to.as_mut_ptr(), to.len()) }
    }

    /// Copies bytes into a frame of user memory.
    pub fn write(&self, frame: FrameNumber, offset: usize, from: &[u8]) {
        assert!(offset + from.len() <= PAGE_SIZE);
        let target = self.pointer(frame).wrapping_add(offset);
        // SAFETY: as in `read`.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), target, from.len()) }
    }

    fn zero(&self, frame: FrameNumber) {
        let mut word = self.pointer(frame).cast::<u64>();
        for _ in 0..PAGE_SIZE / size_of::<u64>() / 8 {
            // SAFETY: callers took the frame off the pool's lists, or hold them locked: it is free, so nobody has a
            // reference into it. Volatile, or the compiler makes a loop of the library of it, three instructions a word.
            unsafe {
                word.write_volatile(0);
                word.add(1).write_volatile(0);
                word.add(2).write_volatile(0);
                word.add(3).write_volatile(0);
                word.add(4).write_volatile(0);
                word.add(5).write_volatile(0);
                word.add(6).write_volatile(0);
                word.add(7).write_volatile(0);
            }
            word = word.wrapping_add(8);
        }
    }
}
