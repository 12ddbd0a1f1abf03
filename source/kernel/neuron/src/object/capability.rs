//! Capability tables: entries of 64 bytes in pages that the process pays, found by handle.
//!
//! States of an entry: free (on the table's free list), in use, frozen (moved by a message that is not
//! delivered yet: it thaws with the same handle if that fails), reserved (for the Reply of a call to come).
//! Invariants: the generation goes up each time an entry is freed, and an entry whose generations are
//! used up is never free again; entries in use that name an object are counted in its references.
//! The table is guarded by its process's lock, the tree by the structure lock.
#![allow(unsafe_code)] // it finds entries in frames

use super::derivation::{NODE_OFFSET, Node};
use super::endpoint::Session;
use super::process::{Process, ProcessShared};
use super::thread::Thread;
use crate::memory::slab::{GRANULE_BYTES, GRANULES, View};
use crate::memory::{FrameKind, FrameNumber, Granule, Id, Memory};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use nexus_abi::limits::{CAPABILITIES_MAX, PAGE_SIZE};
use nexus_abi::{Error, Handle, Kind, Rights};

const FROZEN: u32 = 1 << 8;
const RESERVED: u32 = 1 << 9;
const REVOKING: u32 = 1 << 10;
/// The entry counts among the open calls, not among the ordinary entries.
const OPEN_CALL: u32 = 1 << 11;
/// Its badge belongs to a session.
const SESSION: u32 = 1 << 12;
const KIND: u32 = 0xff;
const PAGE_SHIFT: u32 = PAGE_SIZE.trailing_zeros();
/// An entry that is freed with this generation, the last that a handle can have, is never used again.
const GENERATION_LAST: u32 = 1 << 31;

/// One entry. `node` stands where the tree expects it.
#[derive(Default)]
#[repr(C, align(64))]
pub struct CapabilitySlot {
    /// The handle that names the entry now.
    handle: AtomicU64,
    rights: AtomicU32,
    /// The kind's number (0: free) and the flags above.
    kind: AtomicU32,
    pub(super) node: Node,
    object: AtomicU64,
    badge: AtomicU64,
    /// Free: the next free entry. In use: the granule of the badge's session, if there is one.
    link: AtomicU32,
    /// The generation of that session's id.
    session_generation: AtomicU32,
    /// Posts under way.
    posts: AtomicU32,
    /// Granule of the process whose table this is.
    owner: AtomicU32,
}

const _: () = assert!(
    size_of::<CapabilitySlot>() == GRANULE_BYTES
        && core::mem::offset_of!(CapabilitySlot, node) == NODE_OFFSET
        && CAPABILITIES_MAX as usize <= 512 * GRANULES as usize
);

/// What a capability says, copied out of its entry.
#[derive(Clone, Copy, Debug)]
pub struct Capability {
    /// What it names.
    pub kind: Kind,
    /// What it allows.
    pub rights: Rights,
    /// The object's raw id; the first service id of a `ProcessAuthority`.
    pub object: u64,
    /// The badge; the call's sequence of a Reply; the last service id of a `ProcessAuthority`; the highest class of
    /// a `QosAuthority`.
    pub badge: u64,
    /// The badge's session; it may be over.
    pub session: Option<Id<Session>>,
    /// Where it stands; 0 for one that stands nowhere yet.
    pub granule: Granule,
}

impl Capability {
    /// A capability that stands nowhere yet.
    pub fn new(kind: Kind, rights: Rights, object: u64) -> Self {
        Capability { kind, rights, object, badge: 0, session: None, granule: 0 }
    }
}

/// The table of one process.
#[derive(Default)]
pub struct Table {
    index: FrameNumber,
    pages: u32,
    first_free: Granule,
    /// Entries in use, reserved ones not counted.
    pub used: u32,
    /// Entries of received calls, and reserved for calls to come. The entry of a Reply that came in a
    /// message is an ordinary one.
    pub open_calls: u32,
    /// The most that `used` may become.
    pub used_max: u32,
    /// The most that `open_calls` may become.
    pub open_calls_max: u32,
}

impl Table {
    /// An empty table whose index page is the given frame.
    pub fn new(index: FrameNumber, used_max: u32, open_calls_max: u32) -> Self {
        Table { index, used_max, open_calls_max, ..Table::default() }
    }

    /// The frame of the index page.
    pub fn index_frame(&self) -> FrameNumber {
        self.index
    }

    /// The frame of a page of entries.
    pub fn page(&self, memory: &Memory, page: u32) -> Option<FrameNumber> {
        (page < self.pages).then(|| memory.word(self.index, page as usize).load(Relaxed) as FrameNumber)
    }

    /// Pages of entries.
    pub fn page_count(&self) -> u32 {
        self.pages
    }
}

impl CapabilitySlot {
    /// The handle that names the entry now.
    #[inline]
    pub fn handle(&self) -> Handle {
        Handle(self.handle.load(Relaxed))
    }

    /// Has the entry named by another handle from here on: those that were given are stale.
    #[inline]
    fn renew(&self) {
        self.handle.store(self.handle.load(Relaxed).wrapping_add(Handle::new(0, 1).0), Relaxed);
    }

    /// What the entry holds; `None` when it is free or reserved.
    pub fn read(&self, granule: Granule) -> Option<Capability> {
        let kind = self.kind.load(Relaxed);
        if kind & RESERVED != 0 {
            return None;
        }
        Some(Capability {
            kind: Kind::from_number((kind & KIND) as u8)?,
            rights: Rights::from_bits_retain(self.rights.load(Relaxed)),
            object: self.object.load(Relaxed),
            badge: self.badge.load(Relaxed),
            session: Id::new(self.link.load(Relaxed), self.session_generation.load(Relaxed)),
            granule,
        })
    }

    /// Writes a capability into the entry.
    pub fn write(&self, capability: &Capability) {
        self.rights.store(capability.rights.bits(), Relaxed);
        self.object.store(capability.object, Relaxed);
        self.badge.store(capability.badge, Relaxed);
        let session = capability.session.map_or(0, Id::raw);
        self.link.store(session as u32, Relaxed);
        self.session_generation.store((session >> 32) as u32, Relaxed);
        self.posts.store(0, Relaxed);
        let open_call = self.kind.load(Relaxed) & OPEN_CALL;
        let in_session = if session == 0 { 0 } else { SESSION };
        self.kind.store(capability.kind as u32 | open_call | in_session, Relaxed);
    }

    /// Granule of the process whose table the entry is in.
    pub fn owner(&self) -> Granule {
        self.owner.load(Relaxed)
    }

    /// Whether a message that is under way moves it.
    pub fn frozen(&self) -> bool {
        self.kind.load(Relaxed) & FROZEN != 0
    }

    /// Freezes or thaws the entry.
    pub fn set_frozen(&self, frozen: bool) {
        self.set_flag(FROZEN, frozen);
    }

    /// Whether everything that derives from it is being taken back.
    pub fn revoking(&self) -> bool {
        self.kind.load(Relaxed) & REVOKING != 0
    }

    /// Marks that everything that derives from it is being taken back, or no longer.
    pub fn set_revoking(&self, revoking: bool) {
        self.set_flag(REVOKING, revoking);
    }

    /// Whether the entry waits for the Reply of a call to come.
    pub fn reserved(&self) -> bool {
        self.kind.load(Relaxed) & RESERVED != 0
    }

    /// Whether the entry counts among its table's open calls.
    pub fn is_open_call(&self) -> bool {
        self.kind.load(Relaxed) & OPEN_CALL != 0
    }

    /// The count of posts under way.
    pub fn posts(&self) -> &AtomicU32 {
        &self.posts
    }

    /// The entry's generation.
    pub fn generation(&self) -> u32 {
        self.handle().generation()
    }

    /// The object of a capability of this kind that has this right, belongs to no session and is not under way.
    #[inline]
    pub(crate) fn plain<T>(&self, kind: Kind, right: Rights) -> Option<Id<T>> {
        let plain = self.kind.load(Relaxed) == kind as u32 && self.rights.load(Relaxed) & right.bits() != 0;
        // SAFETY: a capability of a kind that has objects names one.
        if plain { Some(unsafe { Id::issued(self.object.load(Relaxed)) }) } else { None }
    }

    /// The badge, of a capability that [`CapabilitySlot::plain`] found.
    #[inline]
    pub(crate) fn badge(&self) -> u64 {
        self.badge.load(Relaxed)
    }

    /// The caller and the sequence of a Reply that was received with a call, and can be used again for the next.
    #[inline]
    pub(crate) fn open_call(&self) -> Option<(Id<Thread>, u64)> {
        let fits =
            self.kind.load(Relaxed) == Kind::Reply as u32 | OPEN_CALL && self.generation() < GENERATION_LAST;
        // SAFETY: it names the thread that called.
        fits.then(|| (unsafe { Id::issued(self.object.load(Relaxed)) }, self.badge.load(Relaxed)))
    }

    /// Makes a reserved entry the Reply owed to a thread's call of this sequence.
    #[inline]
    pub(crate) fn fill_reply(&self, caller: u64, sequence: u64) {
        self.object.store(caller, Relaxed);
        self.badge.store(sequence, Relaxed);
        self.kind.store(Kind::Reply as u32 | OPEN_CALL, Relaxed);
    }

    /// Makes every handle that was given for the entry of a received call stale, and reserves it for the next.
    #[inline]
    pub(crate) fn renew_reservation(&self) {
        self.renew();
        self.kind.store(RESERVED | OPEN_CALL, Relaxed);
    }

    fn set_flag(&self, flag: u32, value: bool) {
        if value {
            self.kind.fetch_or(flag, Relaxed);
        } else {
            self.kind.fetch_and(!flag, Relaxed);
        }
    }
}

impl<'k> View<'k> {
    /// The entry that a handle names in the table of a process, and its place.
    ///
    /// # Safety
    /// The process is alive and the caller holds what keeps it so: its table's pages stay while it is.
    #[inline(always)]
    pub(crate) unsafe fn entry_of_live(
        self,
        process: &ProcessShared,
        handle: Handle,
    ) -> Option<(&'k CapabilitySlot, Granule)> {
        // Most are in the first page. One that is not has another handle than what is looked at there.
        let first = process.table_first.load(Relaxed) | (handle.index() % GRANULES);
        // SAFETY: it is that of an entry, or of words of the table's index, which are no handles: what is read of them
        // is no kind of capability.
        let entry = unsafe { self.entry_at_live(first) };
        if entry.handle() == handle {
            return Some((entry, first));
        }
        // SAFETY: the caller's.
        let later = unsafe { self.entry_of_later_page(process, handle) }?;
        // SAFETY: it is that of an entry of the table.
        let entry = unsafe { self.entry_at_live(later) };
        if entry.handle() == handle { Some((entry, later)) } else { None }
    }

    /// Where an entry is that is not in the table's first page.
    ///
    /// # Safety
    /// As [`View::entry_of_live`].
    #[inline(always)]
    unsafe fn entry_of_later_page(self, process: &ProcessShared, handle: Handle) -> Option<Granule> {
        let page = handle.index() / GRANULES;
        if page >= process.table_pages.load(Relaxed) {
            return None;
        }
        let index = ((process.table_index.load(Relaxed) as usize) << PAGE_SHIFT) | ((page as usize) << 3);
        // SAFETY: the table's index is a frame of words, and has one for each page.
        let frame = unsafe { self.at::<AtomicU64>(index) }.load(Relaxed);
        Some(Memory::first_granule(frame as FrameNumber) | (handle.index() % GRANULES))
    }

    /// The entry at a granule.
    ///
    /// # Safety
    /// It is one of the table of a process that is alive.
    #[inline(always)]
    pub(crate) unsafe fn entry_at_live(self, granule: Granule) -> &'k CapabilitySlot {
        // SAFETY: the caller's; entries are atomics throughout.
        unsafe { self.at(granule as usize * GRANULE_BYTES) }
    }
}

impl Memory {
    /// The entry at a granule, which must be one of a capability table.
    #[inline]
    pub fn capability_slot(&self, granule: Granule) -> &CapabilitySlot {
        let frame = Memory::frame_of(granule);
        assert_eq!(self.info(frame).kind(), FrameKind::Capabilities as u8, "{granule:x} is no capability");
        let offset = (granule % GRANULES) as usize * GRANULE_BYTES;
        // SAFETY: frames of this kind hold nothing but entries, which are atomics throughout and begin as
        // zeroes, a valid free entry.
        unsafe { &*self.pointer(frame).wrapping_add(offset).cast::<CapabilitySlot>() }
    }

    /// Finds the entry that a handle names in a process's table.
    #[inline]
    pub fn find_capability(
        &self,
        process: &ProcessShared,
        handle: Handle,
    ) -> Result<(&CapabilitySlot, Capability), Error> {
        let index = handle.index();
        let page = index / GRANULES;
        if page >= process.table_pages.load(Relaxed) || handle.generation() == 0 {
            return Err(Error::InvalidHandle);
        }
        let frame = self.word(process.table_index.load(Relaxed), page as usize).load(Relaxed) as FrameNumber;
        let granule = Memory::first_granule(frame) + index % GRANULES;
        let slot = self.capability_slot(granule);
        if slot.handle() != handle {
            return Err(Error::StaleHandle);
        }
        let capability = slot.read(granule).ok_or(Error::InvalidHandle)?;
        Ok((slot, capability))
    }

    /// As [`Memory::find_capability`], for use: of this kind, with these rights, not under way.
    #[inline]
    pub fn capability(
        &self,
        process: &ProcessShared,
        handle: u64,
        kind: Kind,
        rights: Rights,
    ) -> Result<Capability, Error> {
        let (slot, capability) = self.find_capability(process, Handle(handle))?;
        if capability.kind != kind {
            return Err(Error::WrongKind);
        }
        if slot.frozen() {
            return Err(Error::StaleHandle);
        }
        if !capability.rights.contains(rights) {
            return Err(Error::NotPermitted);
        }
        Ok(capability)
    }
}

/// What an entry is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A capability like any other.
    Ordinary,
    /// The Reply of a call to come.
    OpenCall,
}

impl Process {
    /// Whether so many more ordinary entries fit the table's own bound.
    pub fn has_room(&self, entries: u32) -> bool {
        self.table.used + entries <= self.table.used_max
    }

    /// Takes an entry, growing the table by a page when none is free.
    pub fn take_entry(
        &mut self,
        memory: &Memory,
        shared: &ProcessShared,
        owner: Granule,
        purpose: Use,
    ) -> Result<Granule, Error> {
        let full = match purpose {
            Use::Ordinary => self.table.used >= self.table.used_max,
            Use::OpenCall => self.table.open_calls >= self.table.open_calls_max,
        };
        if full {
            return Err(Error::NoSlots);
        }
        if self.table.first_free == 0 {
            self.grow_table(memory, shared, owner)?;
        }
        let granule = self.table.first_free;
        let slot = memory.capability_slot(granule);
        self.table.first_free = slot.link.swap(0, Relaxed);
        match purpose {
            Use::Ordinary => self.table.used += 1,
            Use::OpenCall => {
                self.table.open_calls += 1;
                // What `fill_reply` leaves as it is.
                slot.write(&Capability::new(Kind::Reply, Rights::empty(), 0));
                slot.kind.store(RESERVED | OPEN_CALL, Relaxed);
            }
        }
        Ok(granule)
    }

    /// Gives an entry back; handles to it are stale from here on.
    pub fn free_entry(&mut self, memory: &Memory, granule: Granule) {
        let slot = memory.capability_slot(granule);
        if slot.kind.swap(0, Relaxed) & OPEN_CALL != 0 {
            self.table.open_calls -= 1;
        } else {
            self.table.used -= 1;
        }
        slot.node.reset();
        let is_last = slot.generation() >= GENERATION_LAST;
        slot.renew();
        if !is_last {
            slot.link.store(self.table.first_free, Relaxed);
            self.table.first_free = granule;
        }
    }

    fn grow_table(&mut self, memory: &Memory, shared: &ProcessShared, owner: Granule) -> Result<(), Error> {
        if self.table.pages as usize >= CAPABILITIES_MAX as usize / GRANULES as usize {
            return Err(Error::NoSlots);
        }
        let frame = self.account.take(memory, FrameKind::Capabilities as u8)?;
        let page = self.table.pages;
        memory.word(self.table.index, page as usize).store(u64::from(frame), Relaxed);
        let first = Memory::first_granule(frame);
        for place in (0..GRANULES).rev() {
            let slot = memory.capability_slot(first + place);
            slot.handle.store(Handle::new(page * GRANULES + place, 1).0, Relaxed);
            slot.owner.store(owner, Relaxed);
            slot.link.store(self.table.first_free, Relaxed);
            self.table.first_free = first + place;
        }
        self.table.pages += 1;
        if page == 0 {
            shared.table_first.store(first, Relaxed);
        }
        shared.table_pages.store(self.table.pages, Relaxed);
        Ok(())
    }
}
