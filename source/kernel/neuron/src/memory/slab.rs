//! Kernel objects in frames: typed ids, slots, guards.
//!
//! An object's place is a *granule*: its address in units of 64 bytes from the base of RAM. An [`Id`] is
//! a granule and a generation; it finds its object without any table and is stale once that is gone.
//!
//! Invariants:
//! - a frame of a slab holds slots of one type, of one owner ([`FrameInfo::owner`] pays for it);
//! - a generation is never used twice for a granule: frames remember the highest, and a frame whose
//!   generations are used up is never handed out again;
//! - the body of an object is reached only through its [`Guard`]; what is reached without is atomics.
#![allow(unsafe_code)] // it makes typed objects out of frames

use super::frame::{FrameKind, FrameNumber, Memory};
use crate::sync::Level;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::num::NonZeroU64;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use hart_locks::LockWord;
use nexus_abi::limits::PAGE_SIZE;

/// An address in units of [`GRANULE_BYTES`] from the base of RAM; 0 is none.
pub type Granule = u32;
/// Bytes of a granule: the unit of kernel objects and of capability table entries.
pub const GRANULE_BYTES: usize = 64;
/// Granules in a frame.
pub const GRANULES: u32 = (PAGE_SIZE / GRANULE_BYTES) as u32;
/// A frame whose next generation would exceed this is retired: the pool never gets it back.
const GENERATION_LAST: u32 = u32::MAX - 1024;

/// What can live in a slab.
pub trait Object: Sized + 'static {
    /// Number of the slab.
    const SLAB: u8;
    /// Name in reports.
    const NAME: &'static str;
    /// Place of its lock in the order.
    type Level: Level;
    /// What may be reached without its lock: atomics.
    type Shared: Default;

    /// Puts the shared part into its first state, for an object that is about to live there.
    fn reset(shared: &Self::Shared);
}

/// The name of an object of type `T`.
pub struct Id<T> {
    raw: NonZeroU64,
    object: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    /// Puts an id together; `None` for granule 0, which no object has.
    #[inline]
    pub fn new(granule: Granule, generation: u32) -> Option<Self> {
        let raw = u64::from(generation) << 32 | u64::from(granule);
        if granule == 0 {
            return None;
        }
        NonZeroU64::new(raw).map(|raw| Id { raw, object: PhantomData })
    }

    /// The id that [`Id::raw`] gave.
    #[inline]
    pub fn from_raw(raw: u64) -> Option<Self> {
        Self::new(raw as u32, (raw >> 32) as u32)
    }

    /// As [`Id::from_raw`], of a number that [`Id::raw`] gave.
    ///
    /// # Safety
    /// It did.
    #[inline(always)]
    pub(crate) unsafe fn issued(raw: u64) -> Self {
        // SAFETY: the caller's: no id is 0.
        Id { raw: unsafe { NonZeroU64::new_unchecked(raw) }, object: PhantomData }
    }

    /// The id as a number.
    #[inline]
    pub fn raw(self) -> u64 {
        self.raw.get()
    }

    /// Where the object lives.
    #[inline]
    pub fn granule(self) -> Granule {
        self.raw.get() as u32
    }

    fn generation(self) -> u32 {
        (self.raw.get() >> 32) as u32
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}
impl<T> Eq for Id<T> {}
impl<T> core::fmt::Debug for Id<T> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "{}#{:x}.{}", core::any::type_name::<T>(), self.granule(), self.generation())
    }
}

/// What every object begins with.
#[derive(Default)]
#[repr(C, align(16))]
struct SlotHead {
    generation: AtomicU32,
    lock: LockWord,
    references: AtomicU32,
}

#[repr(C, align(64))]
pub(crate) struct Slot<T: Object> {
    head: SlotHead,
    shared: T::Shared,
    body: UnsafeCell<MaybeUninit<T>>,
}

impl<T: Object> Slot<T> {
    /// Granules from one slot to the next: a power of two, so that a place is checked by its bits alone.
    const GRANULES: u32 = {
        assert!(size_of::<Self>() <= PAGE_SIZE);
        (size_of::<Self>() / GRANULE_BYTES).next_power_of_two() as u32
    };
    const BYTES: usize = Self::GRANULES as usize * GRANULE_BYTES;
    const COUNT: u32 = GRANULES / Self::GRANULES;
}

/// Slots in one frame of objects of type `T`.
pub fn slots_in_frame<T: Object>() -> u32 {
    Slot::<T>::COUNT
}

/// The body of an object, locked.
pub struct Guard<'k, T: Object> {
    slot: &'k Slot<T>,
}

impl<T: Object> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the slot's lock, and slots that a guard can exist for are initialized:
        // `lock_slot` checks the generation, which `remove` changes before the body goes, and the callers of
        // `try_lock_live` answer for it.
        unsafe { (*self.slot.body.get()).assume_init_ref() }
    }
}

impl<T: Object> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; the lock makes the guard the only way to the body.
        unsafe { (*self.slot.body.get()).assume_init_mut() }
    }
}

impl<T: Object> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.slot.head.lock.release();
    }
}

impl<'k, T: Object> Guard<'k, T> {
    /// What is shared of the object.
    #[inline]
    pub fn shared(&self) -> &'k T::Shared {
        &self.slot.shared
    }

    /// The object's id, for who knows where it lives.
    #[inline]
    pub fn id_at(&self, granule: Granule) -> Id<T> {
        let generation = u64::from(self.slot.head.generation.load(Relaxed));
        let raw = generation << 32 | u64::from(granule);
        // SAFETY: generations begin at 1 and never wrap: `place` leaves slots alone that have had the last.
        let raw = unsafe { NonZeroU64::new_unchecked(raw) };
        Id { raw, object: PhantomData }
    }
}

/// Number of the frame kind of slab `T`.
pub const fn frame_kind<T: Object>() -> u8 {
    FrameKind::Slab0 as u8 + T::SLAB
}

/// Memory for those who know what lives where. Its base is at hand: read again at each use, as that of a [`Memory`] is,
/// it would cost the fast path a load each time.
#[derive(Clone, Copy)]
pub(crate) struct View<'k> {
    memory: &'k Memory,
    window: *mut u8,
}

impl<'k> View<'k> {
    /// The physical address of the base of RAM.
    #[inline(always)]
    pub(super) fn base(self) -> u64 {
        self.memory.base()
    }

    /// Bytes of RAM.
    #[inline(always)]
    pub(super) fn bytes(self) -> usize {
        self.memory.infos().len() * PAGE_SIZE
    }

    /// Where an offset from the base of RAM is.
    #[inline(always)]
    pub(super) fn pointer(self, offset: usize) -> *mut u8 {
        self.window.wrapping_add(offset)
    }

    /// What is at an offset from the base of RAM.
    ///
    /// # Safety
    /// The offset is in RAM, and a `T` that is atomics throughout is there as long as the caller uses it.
    #[inline(always)]
    pub(crate) unsafe fn at<T>(self, offset: usize) -> &'k T {
        // SAFETY: the caller's.
        unsafe { &*self.window.wrapping_add(offset).cast::<T>() }
    }

    /// The slot that begins at a granule.
    ///
    /// # Safety
    /// The granule's frame must be of the slab of `T`, and a slot must begin there.
    #[inline(always)]
    unsafe fn slot_at<T: Object>(self, granule: Granule) -> &'k Slot<T> {
        let address = self.window.wrapping_add(granule as usize * GRANULE_BYTES);
        // SAFETY: the window begins above 0 and does not wrap.
        unsafe { core::hint::assert_unchecked(!address.is_null()) };
        // SAFETY: by the contract above this is a `Slot<T>` in the window, whose head and shared part were
        // written when the frame became one of the slab; they are atomics, the body is behind its cell.
        unsafe { &*address.cast::<Slot<T>>() }
    }

    /// The shared part, and the id, of an object that is known to live at a granule.
    ///
    /// # Safety
    /// An object of type `T` lives there, and the caller holds what keeps it alive.
    #[inline]
    pub(crate) unsafe fn shared_of_live<T: Object>(self, granule: Granule) -> &'k T::Shared {
        // SAFETY: the caller's.
        unsafe { &self.slot_at::<T>(granule).shared }
    }

    /// Where the body of an object that is known to live at a granule is.
    ///
    /// # Safety
    /// As [`View::shared_of_live`].
    #[inline]
    #[cfg(target_os = "none")]
    pub(crate) unsafe fn body_of_live<T: Object>(self, granule: Granule) -> *mut T {
        // SAFETY: the caller's. A slot that lives has a body.
        unsafe { self.slot_at::<T>(granule) }.body.get().cast()
    }

    /// As [`View::try_lock_live`] for whom nobody can be in the way: no lock is taken, and none given back.
    ///
    /// # Safety
    /// As [`View::shared_of_live`]; and until the caller lets another hart have it, only the caller reaches the body.
    #[inline(always)]
    pub(crate) unsafe fn owned<T: Object>(self, granule: Granule) -> ManuallyDrop<Guard<'k, T>> {
        // SAFETY: the caller's.
        ManuallyDrop::new(Guard { slot: unsafe { self.slot_at::<T>(granule) } })
    }

    /// The shared part of the object that an id names, if that lives.
    ///
    /// # Safety
    /// As [`View::try_lock_issued`].
    #[inline(always)]
    pub(crate) unsafe fn shared_of_issued<T: Object>(self, id: Id<T>) -> Option<&'k T::Shared> {
        // SAFETY: the caller's: the place lies in RAM.
        let info = unsafe { self.memory.infos().get_unchecked(Memory::frame_of(id.granule()) as usize) };
        if info.kind() != frame_kind::<T>() {
            return None;
        }
        // SAFETY: the frame is one of this slab, and a slot begins there.
        let slot = unsafe { self.slot_at::<T>(id.granule()) };
        (slot.head.generation.load(Relaxed) == id.generation()).then_some(&slot.shared)
    }

    /// Takes the lock of an object that is known to live at a granule; `None` if somebody holds it.
    ///
    /// # Safety
    /// As [`View::shared_of_live`].
    #[inline(always)]
    pub(crate) unsafe fn try_lock_live<T: Object>(self, granule: Granule) -> Option<Guard<'k, T>> {
        // SAFETY: the caller's.
        let slot = unsafe { self.slot_at::<T>(granule) };
        if slot.head.lock.try_acquire() {
            return Some(Guard { slot });
        }
        self.memory.count_contended();
        None
    }

    /// As [`Memory::lock_slot`], but `None` also if somebody holds the lock.
    ///
    /// # Safety
    /// The id is that of an object which lives or has lived: its place is one where a slot of `T` can begin.
    #[inline(always)]
    pub(crate) unsafe fn try_lock_issued<T: Object>(self, id: Id<T>) -> Option<Guard<'k, T>> {
        // SAFETY: the caller's: the place lies in RAM.
        let info = unsafe { self.memory.infos().get_unchecked(Memory::frame_of(id.granule()) as usize) };
        if info.kind() != frame_kind::<T>() {
            return None;
        }
        // SAFETY: the frame is one of this slab, and a slot begins there.
        let guard = unsafe { self.try_lock_live::<T>(id.granule()) }?;
        (guard.slot.head.generation.load(Relaxed) == id.generation()).then_some(guard)
    }
}

impl Memory {
    /// As [`View`].
    #[inline(always)]
    pub(crate) fn view(&self) -> View<'_> {
        View { memory: self, window: self.window() }
    }

    /// The granule of the first slot in a frame.
    pub fn first_granule(frame: FrameNumber) -> Granule {
        frame * GRANULES
    }

    /// The frame that a granule lies in.
    #[inline]
    pub fn frame_of(granule: Granule) -> FrameNumber {
        granule / GRANULES
    }

    #[inline]
    fn slot<T: Object>(&self, granule: Granule) -> Option<&Slot<T>> {
        let info = self.infos().get(Self::frame_of(granule) as usize)?;
        if info.kind() != frame_kind::<T>() || granule & (Slot::<T>::GRANULES - 1) != 0 {
            return None;
        }
        // SAFETY: the frame is one of this slab, and the granule is where a slot of it begins.
        Some(unsafe { self.view().slot_at(granule) })
    }

    #[inline]
    fn live_slot<T: Object>(&self, id: Id<T>) -> Option<&Slot<T>> {
        self.slot::<T>(id.granule()).filter(|slot| slot.head.generation.load(Relaxed) == id.generation())
    }

    /// The shared part of a live object.
    #[inline]
    pub fn shared<T: Object>(&self, id: Id<T>) -> Option<&T::Shared> {
        self.live_slot(id).map(|slot| &slot.shared)
    }

    /// The shared part of whatever object of this type lives at a granule; for links of lists, whose
    /// members are alive by the list's own invariant.
    #[inline]
    pub fn shared_at<T: Object>(&self, granule: Granule) -> &T::Shared {
        match self.slot::<T>(granule) {
            Some(slot) => &slot.shared,
            None => panic!("granule {granule:x} is no {}", T::NAME),
        }
    }

    /// The id of the object that lives at a granule now.
    #[inline]
    pub fn id_at<T: Object>(&self, granule: Granule) -> Option<Id<T>> {
        let slot = self.slot::<T>(granule)?;
        Id::new(granule, slot.head.generation.load(Relaxed))
    }

    /// The object that lives at a granule now, and what is shared of it.
    #[inline]
    pub(crate) fn live_at<T: Object>(&self, granule: Granule) -> Option<(Id<T>, &T::Shared)> {
        let slot = self.slot::<T>(granule)?;
        Some((Id::new(granule, slot.head.generation.load(Relaxed))?, &slot.shared))
    }

    /// Takes the lock of a live object; `None` if it is gone.
    #[inline]
    pub(crate) fn lock_slot<T: Object>(&self, id: Id<T>) -> Option<Guard<'_, T>> {
        let slot = self.slot::<T>(id.granule())?;
        if slot.head.lock.acquire() {
            self.count_contended();
        }
        if slot.head.generation.load(Relaxed) != id.generation() {
            slot.head.lock.release();
            return None;
        }
        Some(Guard { slot })
    }

    /// Adds to the number of capabilities that name an object.
    pub fn reference<T: Object>(&self, id: Id<T>) {
        if let Some(slot) = self.live_slot(id) {
            slot.head.references.fetch_add(1, Relaxed);
        }
    }

    /// Takes from the number of capabilities that name an object; yields whether none is left.
    pub fn dereference<T: Object>(&self, id: Id<T>) -> bool {
        self.live_slot(id).is_some_and(|slot| slot.head.references.fetch_sub(1, Relaxed) == 1)
    }

    /// The number of capabilities that name an object.
    pub fn references<T: Object>(&self, id: Id<T>) -> u32 {
        self.live_slot(id).map_or(0, |slot| slot.head.references.load(Relaxed))
    }

    /// Makes a zeroed frame one of the slab of `T`.
    pub(crate) fn make_slab<T: Object>(&self, frame: FrameNumber, owner: Granule) {
        let info = self.info(frame);
        info.used_slots.store(0, Relaxed);
        info.owner.store(owner, Relaxed);
        let generation = info.generation.load(Relaxed) + 1;
        for index in 0..Slot::<T>::COUNT {
            let address = self.pointer(frame).wrapping_add(index as usize * Slot::<T>::BYTES);
            let head = SlotHead { generation: AtomicU32::new(generation), ..SlotHead::default() };
            // SAFETY: the frame was just taken from the pool, so nothing else refers to it, and the slot
            // lies in it (COUNT).
            unsafe {
                let slot = address.cast::<Slot<T>>();
                (&raw mut (*slot).head).write(head);
                (&raw mut (*slot).shared).write(T::Shared::default());
            }
        }
        info.set_kind(frame_kind::<T>());
    }

    /// Whether a slab frame has a free slot.
    pub(crate) fn slab_has_room<T: Object>(&self, frame: FrameNumber) -> bool {
        self.info(frame).used_slots.load(Relaxed).count_ones() < Slot::<T>::COUNT
    }

    /// Whether a slab frame has no object.
    pub(crate) fn slab_is_empty(&self, frame: FrameNumber) -> bool {
        self.info(frame).used_slots.load(Relaxed) == 0
    }

    /// Puts an object into a free slot of a slab frame. The caller holds the owner's account.
    pub(crate) fn place<T: Object>(&self, frame: FrameNumber, value: T) -> Option<Id<T>> {
        let used = &self.info(frame).used_slots;
        let taken = used.load(Relaxed);
        let place = |index| Self::first_granule(frame) + index * Slot::<T>::GRANULES;
        // A slot whose generations are used up stays empty until its frame is, which is then retired.
        let (index, slot) = (taken.trailing_ones()..Slot::<T>::COUNT)
            .filter(|index| taken >> index & 1 == 0)
            .filter_map(|index| Some((index, self.slot::<T>(place(index))?)))
            .find(|(_, slot)| slot.head.generation.load(Relaxed) < u32::MAX)?;
        used.fetch_or(1 << index, Relaxed);
        // SAFETY: the slot was free, and the caller holds the owner's account, so nobody else takes it; no guard
        // exists, and nobody has its id yet.
        unsafe { (*slot.body.get()).write(value) };
        slot.head.references.store(0, Relaxed);
        T::reset(&slot.shared);
        Id::new(place(index), slot.head.generation.load(Relaxed))
    }

    /// Ends an object: its id is stale from here on. Yields its frame. The caller holds the account.
    pub(crate) fn remove<T: Object>(&self, guard: Guard<'_, T>) -> FrameNumber {
        let slot = guard.slot;
        let address = core::ptr::from_ref(slot).cast::<u8>().addr() - self.pointer(0).addr();
        let frame = (address / PAGE_SIZE) as FrameNumber;
        let index = address % PAGE_SIZE / Slot::<T>::BYTES;
        let generation = slot.head.generation.load(Relaxed) + 1;
        slot.head.generation.store(generation, Relaxed);
        // SAFETY: the guard is the only way to the body, and with the generation changed none can follow.
        unsafe { (*slot.body.get()).assume_init_drop() };
        drop(guard);
        let info = self.info(frame);
        info.generation.fetch_max(generation, Relaxed);
        info.used_slots.fetch_and(!(1 << index), Relaxed);
        frame
    }

    /// Gives an empty slab frame back to the pool, unless its generations are used up.
    pub(crate) fn release_slab(&self, frame: FrameNumber) {
        if self.info(frame).generation.load(Relaxed) < GENERATION_LAST {
            self.release(frame);
        } else {
            self.info(frame).set_kind(FrameKind::Reserved as u8);
        }
    }

    /// The first live object at or after a place in a slab frame, and the place after it.
    pub(crate) fn live_from<T: Object>(&self, frame: FrameNumber, place: u32) -> Option<(Id<T>, u32)> {
        let used = self.info(frame).used_slots.load(Relaxed) >> place;
        if place >= Slot::<T>::COUNT || used == 0 {
            return None;
        }
        let index = place + used.trailing_zeros();
        let granule = Self::first_granule(frame) + index * Slot::<T>::GRANULES;
        self.id_at(granule).map(|id| (id, index + 1))
    }

    /// The first live object in a slab frame.
    pub(crate) fn first_in<T: Object>(&self, frame: FrameNumber) -> Option<Id<T>> {
        let used = self.info(frame).used_slots.load(Relaxed);
        (used != 0)
            .then(|| Self::first_granule(frame) + used.trailing_zeros() * Slot::<T>::GRANULES)
            .and_then(|granule| self.id_at(granule))
    }
}
