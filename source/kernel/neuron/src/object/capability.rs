//! Capability tables: entries of 64 bytes in pages that the process pays, found by handle.
//!
//! States of an entry: free (on the table's free list), in use, frozen (moved by a message that is not
//! delivered yet: it thaws with the same handle if that fails), taken back (no handle finds it any more, while calls that
//! wait through it are being ended), reserved (for the Reply of a call to come), a husk (its capability was handed over,
//! and what derives from it goes after that in steps).
//! Invariants: the generation goes up each time an entry is freed, and an entry whose generations are
//! used up is never free again; entries in use that name an object are counted in its references.
//! The table is guarded by its process's lock, the tree by the structure lock. Long because every word of an entry has
//! its one place here.
#![allow(unsafe_code)] // it finds entries in frames

use super::derivation::{NODE_OFFSET, Node};
use super::endpoint::Session;
use super::process::{Process, ProcessShared};
use super::thread::{Thread, Users};
use crate::memory::slab::{GRANULE_BYTES, GRANULES, View};
use crate::memory::{FrameKind, FrameNumber, Granule, Id, List, Memory};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use nexus_abi::limits::{CAPABILITIES_MAX, PAGE_SIZE, POST_CREDIT};
use nexus_abi::{Error, Handle, Kind, Rights};

const FROZEN: u32 = 1 << 8;
const RESERVED: u32 = 1 << 9;
const REVOKING: u32 = 1 << 10;
/// The entry counts among the open calls, not among the ordinary entries.
const OPEN_CALL: u32 = 1 << 11;
/// Its badge belongs to a session.
const SESSION: u32 = 1 << 12;
/// No handle finds it any more.
const TAKEN_BACK: u32 = 1 << 13;
/// Only its place in the tree is left.
const HUSK: u32 = 1 << 14;
const KIND: u32 = 0xff;
/// In the word of the rights: the count of posts under way stands above them.
const RIGHTS: u32 = (1 << POSTS_SHIFT) - 1;
const POSTS_SHIFT: u32 = 24;
const POST: u32 = 1 << POSTS_SHIFT;
const PAGE_SHIFT: u32 = PAGE_SIZE.trailing_zeros();
/// An entry that is freed with this generation, the last that a handle can have, is never used again.
const GENERATION_LAST: u32 = 1 << 31;

/// One entry. `node` stands where the tree expects it.
#[derive(Default)]
#[repr(C, align(64))]
pub struct CapabilitySlot {
    /// The handle that names the entry now.
    handle: AtomicU64,
    /// The rights, and above them the count of posts under way.
    rights: AtomicU32,
    /// The kind's number (0: free) and the flags above.
    kind: AtomicU32,
    pub(super) node: Node,
    object: AtomicU64,
    badge: AtomicU64,
    /// Free: the next free entry. A husk: the next husk. In use: the granule of the badge's session, if there is one.
    link: AtomicU32,
    /// The generation of that session's id.
    session_generation: AtomicU32,
    /// The first of the threads whose calls came through it and wait to be received.
    users: AtomicU32,
    /// Granule of the process whose table this is; while it is frozen, of the thread whose message carries it.
    owner: AtomicU32,
}

const _: () = assert!(
    size_of::<CapabilitySlot>() == GRANULE_BYTES
        && core::mem::offset_of!(CapabilitySlot, node) == NODE_OFFSET
        && CAPABILITIES_MAX as usize <= 512 * GRANULES as usize
        && Rights::all().bits() <= RIGHTS
        && POST_CREDIT < 1 << (u32::BITS - POSTS_SHIFT)
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
        if kind & (RESERVED | HUSK) != 0 {
            return None;
        }
        Some(Capability {
            kind: Kind::from_number((kind & KIND) as u8)?,
            rights: Rights::from_bits_retain(self.rights.load(Relaxed) & RIGHTS),
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
        let open_call = self.kind.load(Relaxed) & OPEN_CALL;
        let in_session = if session == 0 { 0 } else { SESSION };
        self.kind.store(capability.kind as u32 | open_call | in_session, Relaxed);
    }

    /// Granule of the process whose table the entry is in; if it is frozen, of the thread whose message carries it.
    pub fn owner(&self) -> Granule {
        self.owner.load(Relaxed)
    }

    /// Whether a message that is under way moves it.
    pub fn frozen(&self) -> bool {
        self.kind.load(Relaxed) & FROZEN != 0
    }

    /// A message of this thread carries it from here on.
    pub fn freeze(&self, carrier: Granule) {
        self.set_flag(FROZEN, true);
        self.owner.store(carrier, Relaxed);
    }

    /// The message that carried it, from the table of this process, is over.
    pub fn thaw(&self, process: Granule) {
        self.set_flag(FROZEN, false);
        self.owner.store(process, Relaxed);
    }

    /// No handle finds it from here on: it is being taken back.
    pub fn take_back(&self) {
        self.set_flag(TAKEN_BACK, true);
    }

    /// Its capability was handed over; its place in the tree, and its room in the table, stay for a while.
    /// `next` is the husk after it (0: none).
    pub fn make_husk(&self, next: Granule) {
        self.kind.store(HUSK, Relaxed);
        self.link.store(next, Relaxed);
    }

    /// Whether calls that came through it wait to be received.
    pub fn has_users(&self) -> bool {
        self.users.load(Relaxed) != 0
    }

    /// Whether only its place in the tree is left.
    pub fn is_husk(&self) -> bool {
        self.kind.load(Relaxed) & HUSK != 0
    }

    /// The husk after this one.
    pub fn next_husk(&self) -> Granule {
        self.link.load(Relaxed)
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
    pub fn posts(&self) -> u32 {
        self.rights.load(Relaxed) >> POSTS_SHIFT
    }

    /// One more post is under way; the caller knows that there are fewer than [`POST_CREDIT`].
    pub fn begin_post(&self) {
        self.rights.fetch_add(POST, Relaxed);
    }

    /// A post was received, or came to nothing.
    pub fn end_post(&self) {
        let _ = self.rights.fetch_update(Relaxed, Relaxed, |word| word.checked_sub(POST));
    }

    /// The entry's generation.
    pub fn generation(&self) -> u32 {
        self.handle().generation()
    }

    /// The object of a capability of this kind that has this right, belongs to no session and is not under way.
    #[inline]
    pub(crate) fn plain<T>(&self, kind: Kind, right: Rights) -> Option<Id<T>> {
        let plain = self.kind.load(Relaxed) == kind as u32 && self.rights.load(Relaxed) & right.bits() != 0;
        // SAFETY: an entry in use changes only while a hart is alone, but for Replies: kind and object belong together, and
        // a capability of this kind names an object that lives or has lived.
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
        // SAFETY: the caller received this Reply: it was filled before that, and nobody else changes it beside; it names
        // the thread that called.
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

    fn users_list(&self) -> List<Thread, Users> {
        List::from_first(self.users.load(Relaxed))
    }

    fn set_flag(&self, flag: u32, value: bool) {
        if value {
            self.kind.fetch_or(flag, Relaxed);
        } else {
            self.kind.fetch_and(!flag, Relaxed);
        }
    }
}

const _: () = assert!(core::mem::offset_of!(CapabilitySlot, kind) % size_of::<u64>() == size_of::<u32>());

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
        // SAFETY: it is that of an entry, or of words of the table's index (frame numbers, below 2^32): where an entry has
        // its kind those have the upper half of a word, 0, which is no kind. After the teardown's stage of tables the
        // place is stale, and no thread of the process is left to look.
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
        if slot.kind.load(Relaxed) & (TAKEN_BACK | HUSK) != 0 {
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

impl Memory {
    /// A call that came through an entry of this generation begins to wait.
    pub(crate) fn join_users(&self, (entry, generation): (Granule, u32), thread: Id<Thread>) {
        let through = u64::from(generation) << u32::BITS | u64::from(entry);
        self.shared_at::<Thread>(thread.granule()).through.store(through, Relaxed);
        self.change_users(through, |users| users.push_back(self, thread));
    }

    /// It waits no longer.
    pub(crate) fn leave_users(&self, thread: Id<Thread>) {
        let through = self.shared_at::<Thread>(thread.granule()).through.load(Relaxed);
        self.change_users(through, |users| users.remove(self, thread));
    }

    /// Changes who uses an entry. Those of one that was freed since are a list still, whose first nobody knows.
    fn change_users(&self, through: u64, change: impl FnOnce(&mut List<Thread, Users>)) {
        let (entry, generation) = (through as Granule, (through >> u32::BITS) as u32);
        let slot = self.capability_slot_if(entry).filter(|slot| slot.generation() == generation);
        let mut users = slot.map_or_else(List::new, CapabilitySlot::users_list);
        change(&mut users);
        if let Some(slot) = slot {
            slot.users.store(users.first_granule(), Relaxed);
        }
    }

    /// A thread whose call came through an entry and waits to be received.
    pub(crate) fn user_of(&self, slot: &CapabilitySlot) -> Option<Id<Thread>> {
        slot.users_list().first(self)
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
        slot.rights.store(0, Relaxed);
        slot.users.store(0, Relaxed);
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
        // One that has ended finds nothing any more, whatever still comes.
        if !shared.has_ended() {
            if page == 0 {
                shared.table_first.store(first, Relaxed);
            }
            shared.table_pages.store(self.table.pages, Relaxed);
        }
        Ok(())
    }
}
