//! Who pays: pages of a quota, and the slab frames that a process's objects live in.
//!
//! Invariants: `reserved ≤ limit`; every frame that a process uses (objects, tables, memory) is counted in
//! `reserved` before it is taken from the pool; what a child process gets is reserved in its parent.

use super::SLABS;
use crate::memory::{FrameNumber, Granule, Guard, Id, Memory, Object};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::Error;

/// The account of one process.
pub struct Account {
    /// Pages of the quota.
    pub limit: u64,
    /// Pages promised: objects, tables, memory whether touched or not, and what children were given.
    pub reserved: u64,
    /// Frames in use.
    pub populated: u64,
    /// Pages that were of the quota and never come back.
    pub lost: u64,
    /// First frame of each slab; the frames form a list through their infos, those with room in front.
    slabs: [FrameNumber; SLABS],
}

impl Account {
    /// An account without objects.
    pub const fn new(limit: u64) -> Self {
        Account { limit, reserved: 0, populated: 0, lost: 0, slabs: [0; SLABS] }
    }

    /// Promises pages.
    pub fn reserve(&mut self, pages: u64) -> Result<(), Error> {
        let reserved = self.reserved.checked_add(pages).ok_or(Error::NoMemory)?;
        if reserved > self.limit {
            return Err(Error::NoMemory);
        }
        self.reserved = reserved;
        Ok(())
    }

    /// Takes a promise back.
    pub fn unreserve(&mut self, pages: u64) {
        assert!(pages <= self.reserved, "an account gave back more than it had");
        self.reserved -= pages;
    }

    /// Takes a frame that was not promised before.
    pub fn take(&mut self, memory: &Memory, kind: u8) -> Result<FrameNumber, Error> {
        self.reserve(1)?;
        match self.take_reserved(memory, kind) {
            Some(frame) => Ok(frame),
            None => {
                self.unreserve(1);
                Err(Error::NoMemory)
            }
        }
    }

    /// Takes a frame that was promised.
    pub fn take_reserved(&mut self, memory: &Memory, kind: u8) -> Option<FrameNumber> {
        let frame = memory.take(kind)?;
        self.populated += 1;
        Some(frame)
    }

    /// Gives a frame and its promise back.
    pub fn release(&mut self, memory: &Memory, frame: FrameNumber) {
        memory.release(frame);
        self.populated -= 1;
        self.unreserve(1);
    }

    /// Gives up frames for good: they never come back, here or to whom the quota goes back.
    pub fn lose(&mut self, pages: u64) {
        self.populated -= pages;
        self.unreserve(pages);
        self.limit -= pages;
        self.lost += pages;
    }

    /// Takes back what a child was given; what it lost is lost here too.
    pub fn take_back(&mut self, limit: u64, lost: u64) {
        self.unreserve(limit + lost);
        self.limit -= lost;
        self.lost += lost;
    }

    /// Creates an object that this account pays; `owner` is the granule of its process.
    pub fn create<T: Object>(&mut self, memory: &Memory, owner: Granule, value: T) -> Result<Id<T>, Error> {
        let slab = T::SLAB as usize;
        let first = self.slabs[slab];
        let frame = if first != 0 && memory.slab_has_room::<T>(first) {
            first
        } else {
            let frame = self.take(memory, crate::memory::slab::frame_kind::<T>())?;
            memory.make_slab::<T>(frame, owner);
            self.push_front(memory, slab, frame);
            frame
        };
        let id = memory.place(frame, value).ok_or(Error::NoMemory)?;
        if !memory.slab_has_room::<T>(frame) {
            self.move_to_end(memory, slab, frame);
        }
        Ok(id)
    }

    /// Ends an object of this account.
    pub fn destroy<T: Object>(&mut self, memory: &Memory, guard: Guard<'_, T>) {
        let slab = T::SLAB as usize;
        let frame = memory.remove(guard);
        self.unlink(memory, slab, frame);
        if memory.slab_is_empty(frame) {
            memory.release_slab(frame);
            self.populated -= 1;
            self.unreserve(1);
        } else {
            self.push_front(memory, slab, frame);
        }
    }

    /// Any live object of this type that the account pays.
    pub fn any<T: Object>(&self, memory: &Memory) -> Option<Id<T>> {
        match self.slabs[T::SLAB as usize] {
            0 => None,
            frame => memory.first_in(frame),
        }
    }

    /// Every live object of this type that the account pays.
    pub fn each<'m, T: Object>(&self, memory: &'m Memory) -> impl Iterator<Item = Id<T>> + use<'m, T> {
        let first = self.slabs[T::SLAB as usize];
        let mut frame = first;
        let mut place = 0;
        core::iter::from_fn(move || {
            while frame != 0 {
                if let Some((id, after)) = memory.live_from::<T>(frame, place) {
                    place = after;
                    return Some(id);
                }
                place = 0;
                frame = memory.info(frame).next.load(Relaxed);
                if frame == first {
                    frame = 0;
                }
            }
            None
        })
    }

    fn push_front(&mut self, memory: &Memory, slab: usize, frame: FrameNumber) {
        let first = self.slabs[slab];
        self.insert(memory, first, frame);
        self.slabs[slab] = frame;
    }

    /// The list is a ring: the end is what precedes the first.
    fn move_to_end(&mut self, memory: &Memory, slab: usize, frame: FrameNumber) {
        self.unlink(memory, slab, frame);
        let first = self.slabs[slab];
        self.insert(memory, first, frame);
        if first == 0 {
            self.slabs[slab] = frame;
        }
    }

    fn insert(&mut self, memory: &Memory, before: FrameNumber, frame: FrameNumber) {
        let info = memory.info(frame);
        let (next, previous) = match before {
            0 => (frame, frame),
            _ => (before, memory.info(before).previous.load(Relaxed)),
        };
        info.next.store(next, Relaxed);
        info.previous.store(previous, Relaxed);
        if before != 0 {
            memory.info(previous).next.store(frame, Relaxed);
            memory.info(next).previous.store(frame, Relaxed);
        }
    }

    fn unlink(&mut self, memory: &Memory, slab: usize, frame: FrameNumber) {
        let info = memory.info(frame);
        let (next, previous) = (info.next.load(Relaxed), info.previous.load(Relaxed));
        memory.info(previous).next.store(next, Relaxed);
        memory.info(next).previous.store(previous, Relaxed);
        if self.slabs[slab] == frame {
            self.slabs[slab] = if next == frame { 0 } else { next };
        }
    }
}
