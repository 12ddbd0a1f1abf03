//! The audit of a kernel at rest: everything that it counts is counted anew, everything that it links is followed.
//!
//! It looks at frames (each is somebody's, once), accounts, page tables, capability tables, the derivation tree,
//! queues and sessions, and takes the lock of every object, which shows that none was left taken. What it finds
//! wrong it says by a panic. Where to start reading: [`Machine::audit`]. Long because everything is looked at once.

use super::{Actor, Machine, PAGE};
use crate::memory::slab::GRANULES;
use crate::memory::{FrameKind, FrameNumber, Granule, Id, Memory, Object, PhysicalAddress};
use crate::object::capability::{Capability, CapabilitySlot};
use crate::object::mapping::Shows;
use crate::object::process::Teardown;
use crate::object::thread::State;
use crate::object::{
    Device, Endpoint, Irq, Mapping, Notification, Post, Process, Session, Thread, Timer, Vmo,
};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::{Kind, Rights};
use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

/// Bits of a page table's entry.
const VALID: u64 = 1;
const WRITABLE: u64 = 4;
const EXECUTABLE: u64 = 8;
const USER: u64 = 16;
/// Entries of a root table that are of user addresses, and entries of a table.
const USER_ENTRIES: usize = 256;
const ENTRIES: usize = 512;

/// What was found so far.
struct Found {
    /// How often each frame was found in use.
    frames: Vec<u32>,
    /// Frames of slabs, by the granule of who pays.
    slab_frames: BTreeMap<Granule, u64>,
    /// Capabilities by kind and object.
    references: BTreeMap<(u8, u64), u32>,
    /// Capabilities by their badge's session.
    sessions: BTreeMap<u64, u32>,
    /// The parent of each node of the derivation tree.
    parents: BTreeMap<Granule, Granule>,
    frozen: BTreeSet<Granule>,
    reserved: BTreeSet<Granule>,
    /// Replies by thread and sequence.
    replies: BTreeMap<(u64, u64), u32>,
    /// Posts that capabilities say are under way, by entry and generation.
    credit: BTreeMap<(Granule, u32), u32>,
    /// Frames that were lost to devices.
    lost: u64,
    /// Each thread's state, by raw id.
    threads: BTreeMap<u64, State>,
}

/// What one process has, told apart by who would have counted it.
#[derive(Default)]
struct Tally {
    /// Pages promised beyond those in use.
    promised: u64,
    /// Frames in use.
    populated: u64,
}

impl Machine {
    /// Reclaims what there is to reclaim, then checks everything; panics at the first thing that is wrong.
    pub fn audit(&mut self) {
        self.settle();
        let mut found = self.begin_audit();
        let processes = self.processes();
        for &process in &processes {
            self.audit_process(process, &mut found);
        }
        self.audit_frames(&found);
        self.audit_tree(&found);
        for &process in &processes {
            self.audit_objects(process, &found);
        }
        self.audit_threads(&processes, &found);
        let counters = &self.kernel.counters;
        assert_eq!(counters.threads.load(Relaxed), found.threads.len() as u64, "count of threads");
        assert_eq!(counters.processes.load(Relaxed), processes.len() as u64 - 1, "count of processes");
    }

    /// Every process, the kernel's own account first.
    pub fn processes(&mut self) -> Vec<Id<Process>> {
        let (structure, _) = self.kernel.structure(&mut self.held);
        [self.kernel.root].into_iter().chain(structure.processes.iter(&self.kernel.memory)).collect()
    }

    fn begin_audit(&mut self) -> Found {
        let memory = &self.kernel.memory;
        let mut slab_frames = BTreeMap::new();
        let mut frames = vec![0; memory.frame_count() as usize];
        for frame in 0..memory.frame_count() {
            let info = memory.info(frame);
            if info.kind() >= FrameKind::Slab0 as u8 {
                *slab_frames.entry(info.owner.load(Relaxed)).or_default() += 1;
                frames[frame as usize] += 1;
            }
        }
        Found {
            frames,
            slab_frames,
            references: BTreeMap::new(),
            sessions: BTreeMap::new(),
            parents: BTreeMap::new(),
            frozen: BTreeSet::new(),
            reserved: BTreeSet::new(),
            replies: BTreeMap::new(),
            credit: BTreeMap::new(),
            lost: 0,
            threads: BTreeMap::new(),
        }
    }

    /// Every object of a type that a process pays.
    pub fn objects_of<T: Object>(&mut self, process: Id<Process>) -> Vec<Id<T>> {
        let memory = &self.kernel.memory;
        let locked = self.kernel.lock(&mut self.held, process);
        locked.map_or_else(Vec::new, |(body, _)| body.account.each::<T>(memory).collect())
    }

    fn audit_process(&mut self, process: Id<Process>, found: &mut Found) {
        let mut tally = Tally {
            populated: found.slab_frames.remove(&process.granule()).unwrap_or(0),
            ..Tally::default()
        };
        self.audit_memory(process, found, &mut tally);
        self.audit_address_space(process, found, &mut tally);
        self.audit_table(process, found, &mut tally);
        for child in self.objects_of::<Process>(process).into_iter().filter(|&child| child != process) {
            tally.promised +=
                self.with(child, |child| child.account.limit + child.account.lost).expect("it is alive");
        }
        for thread in self.objects_of::<Thread>(process) {
            let state = self.with(thread, |body| body.state).expect("it is alive");
            found.threads.insert(thread.raw(), state);
        }
        found.lost += self.with(process, |body| body.account.lost).expect("it is on the list of all");
        let root = self.kernel.root;
        let (limit, reserved, populated, teardown) = self
            .with(process, |body| {
                (body.account.limit, body.account.reserved, body.account.populated, body.teardown)
            })
            .expect("it is on the list of all");
        assert!(matches!(teardown, Teardown::Alive | Teardown::Done), "{process:?} is settled");
        assert!(populated <= reserved && reserved <= limit, "{process:?}: {populated} {reserved} {limit}");
        assert_eq!(populated, tally.populated, "frames in use of {process:?} (root: {})", process == root);
        assert_eq!(reserved, tally.promised + tally.populated, "pages promised by {process:?}");
    }

    fn audit_memory(&mut self, process: Id<Process>, found: &mut Found, tally: &mut Tally) {
        for id in self.objects_of::<Vmo>(process) {
            let memory = &self.kernel.memory;
            let (vmo, _) = self.kernel.lock(&mut self.held, id).expect("it is alive");
            let is_reached = memory.references(id) > 0 || !vmo.mappings.is_empty();
            assert!(is_reached || vmo.device().is_some(), "nobody reaches {id:?}, and it is not given back");
            let mut in_use = 0;
            vmo.each_frame(memory, |frame| {
                found.take(memory, frame, FrameKind::Data);
                in_use += 1;
            });
            tally.populated += in_use;
            if vmo.device().is_none() {
                assert!(in_use <= vmo.charged(), "{id:?} has more than was promised");
                tally.promised += vmo.charged() - in_use;
            }
        }
        for id in self.objects_of::<Device>(process) {
            let memory = &self.kernel.memory;
            let (device, _) = self.kernel.lock(&mut self.held, id).expect("it is alive");
            assert!(device.quarantined <= device.dma_used && device.dma_used <= device.dma_pages, "{id:?}");
            tally.promised += device.dma_pages - device.dma_used;
            for frame in device.row.first..device.row.first + device.row.count {
                found.take(memory, frame, FrameKind::Data);
            }
        }
    }

    fn audit_address_space(&mut self, process: Id<Process>, found: &mut Found, tally: &mut Tally) {
        let (root, region_count, regions) = {
            let memory = &self.kernel.memory;
            let (body, _) = self.kernel.lock(&mut self.held, process).expect("it is alive");
            let regions: Vec<Id<Mapping>> = body.regions.iter(memory).collect();
            (memory.shared(process).expect("it is alive").page_table().root, body.region_count, regions)
        };
        assert_eq!(regions.len(), region_count as usize, "mappings of {process:?}");
        let promised: u64 =
            regions.iter().map(|&id| self.with(id, |mapping| mapping.tables).expect("it is alive")).sum();
        let mut tables = 0;
        if root != 0 && process != self.kernel.root {
            found.take(&self.kernel.memory, root, FrameKind::PageTable);
            tally.populated += 1;
            tables = self.audit_tables(root, &regions, found);
        }
        assert!(tables <= promised, "{process:?} has page tables that were not promised");
        tally.populated += tables;
        tally.promised += promised - tables;
        let mut end = 0;
        for id in regions {
            let memory = &self.kernel.memory;
            let shared = memory.shared(id).expect("it is alive");
            assert!(shared.base() >= end, "mappings of {process:?} overlap or are out of order");
            end = shared.end();
            found.node(memory, id.granule());
        }
    }

    /// Follows the tables below a root; yields how many there are.
    fn audit_tables(&mut self, root: FrameNumber, regions: &[Id<Mapping>], found: &mut Found) -> u64 {
        let mut tables = 0;
        let memory = &self.kernel.memory;
        let mut leaves = Vec::new();
        for (upper, table) in valid_entries(memory, root, USER_ENTRIES) {
            let table = frame_of(memory, table);
            found.take(memory, table, FrameKind::PageTable);
            tables += 1;
            for (middle, table) in valid_entries(memory, table, ENTRIES) {
                let table = frame_of(memory, table);
                found.take(memory, table, FrameKind::PageTable);
                tables += 1;
                for (lower, leaf) in valid_entries(memory, table, ENTRIES) {
                    leaves.push((((upper * ENTRIES + middle) * ENTRIES + lower) as u64 * PAGE, leaf));
                }
            }
        }
        for (address, leaf) in leaves {
            self.audit_leaf(address, leaf, regions);
        }
        tables
    }

    /// A page of user memory belongs to a mapping, shows what that shows, and allows no more.
    fn audit_leaf(&mut self, address: u64, leaf: u64, regions: &[Id<Mapping>]) {
        let memory = &self.kernel.memory;
        let place = regions.partition_point(|id| memory.shared_at::<Mapping>(id.granule()).end() <= address);
        let id = *regions.get(place).unwrap_or_else(|| panic!("{address:x} is mapped by nobody"));
        let base = memory.shared_at::<Mapping>(id.granule()).base();
        assert!(base <= address, "{address:x} is mapped by nobody");
        let (shows, rights, removed) =
            self.with(id, |mapping| (mapping.shows, mapping.rights, mapping.removed)).expect("it is alive");
        let offset = address - base;
        let expected = match shows {
            Shows::Registers(window) => Some(PhysicalAddress(window + offset)),
            Shows::Memory(vmo, first) => {
                let (vmo, _) = self.kernel.lock(&mut self.held, vmo).expect("its memory outlives a mapping");
                let frame = vmo.frame(&self.kernel.memory, first + (offset / PAGE) as usize);
                frame.map(|frame| self.kernel.memory.address(frame))
            }
        };
        assert_eq!(expected, Some(PhysicalAddress(leaf >> 10 << 12)), "what {address:x} shows");
        assert!(leaf & USER != 0 && leaf & WRITABLE == 0 || leaf & EXECUTABLE == 0, "{address:x} is w and x");
        // While its protection is being changed, pages that the change has not come to are as they were.
        let settled = removed == 0;
        let allowed = |right, bit| leaf & bit == 0 || rights.contains(right);
        assert!(
            !settled || allowed(Rights::WRITE, WRITABLE) && allowed(Rights::EXECUTE, EXECUTABLE),
            "{address:x} allows more than its mapping: {leaf:x}, {rights:?}"
        );
    }

    fn audit_table(&mut self, process: Id<Process>, found: &mut Found, tally: &mut Tally) {
        let memory = &self.kernel.memory;
        let (body, _) = self.kernel.lock(&mut self.held, process).expect("it is alive");
        let table = &body.table;
        if table.index_frame() != 0 {
            found.take(memory, table.index_frame(), FrameKind::Data);
            tally.populated += 1;
        }
        let (mut used, mut open_calls) = (0, 0);
        for page in 0..table.page_count() {
            let frame = table.page(memory, page).expect("a page of the table");
            found.take(memory, frame, FrameKind::Capabilities);
            tally.populated += 1;
            for granule in Memory::first_granule(frame)..Memory::first_granule(frame) + GRANULES {
                let slot = memory.capability_slot(granule);
                let owner = match slot.frozen() {
                    true => memory.shared_at::<Thread>(slot.owner()).process.load(Relaxed),
                    false => slot.owner(),
                };
                assert_eq!(owner, process.granule(), "whose entry {granule:x} is");
                match slot.read(granule) {
                    Some(capability) => {
                        found.capability(memory, slot, &capability);
                        *(if slot.is_open_call() { &mut open_calls } else { &mut used }) += 1;
                    }
                    None if slot.reserved() => {
                        found.reserved.insert(granule);
                        open_calls += 1;
                    }
                    None => {
                        let node = memory.node(granule);
                        assert_eq!((node.parent(), node.child()), (0, 0), "links of free entry {granule:x}");
                    }
                }
            }
        }
        assert_eq!((table.used, table.open_calls), (used, open_calls), "entries of {process:?}");
    }

    /// Every frame that is neither free nor the firmware's nor lost to a device was found once.
    fn audit_frames(&mut self, found: &Found) {
        let memory = &self.kernel.memory;
        assert!(found.slab_frames.is_empty(), "slabs of nobody: {:?}", found.slab_frames);
        let (mut free, mut lost) = (0, 0);
        for frame in 0..memory.frame_count() {
            let kind = memory.info(frame).kind();
            let is_free = kind == FrameKind::Free as u8 || kind == FrameKind::Clean as u8;
            let expected = u32::from(!is_free && kind != FrameKind::Reserved as u8);
            let uses = found.frames[frame as usize];
            if uses == 0 && kind == FrameKind::Data as u8 {
                lost += 1;
            } else {
                assert_eq!(uses, expected, "uses of frame {frame}, kind {kind}");
            }
            free += u32::from(is_free);
        }
        assert_eq!(free, memory.free_count(), "frames in the pool");
        assert_eq!(lost, found.lost, "frames of nobody, and those that were lost to devices");
    }

    /// Children name their parents, lists are whole, and every node hangs below a root.
    fn audit_tree(&mut self, found: &Found) {
        let memory = &self.kernel.memory;
        let roots = found.parents.iter().filter(|(_, parent)| **parent == 0).map(|(node, _)| *node);
        let mut open: Vec<Granule> = roots.collect();
        let mut reached = 0;
        while let Some(node) = open.pop() {
            reached += 1;
            let (mut child, mut previous) = (memory.node(node).child(), 0);
            while child != 0 {
                assert_eq!(found.parents.get(&child), Some(&node), "who {child:x} derives from");
                assert_eq!(memory.node(child).previous(), previous, "the neighbour of {child:x}");
                open.push(child);
                (previous, child) = (child, memory.node(child).next());
            }
        }
        assert_eq!(reached, found.parents.len(), "nodes that hang below a root");
    }

    /// Each object has as many capabilities as it counts, and is gone with the last.
    fn audit_objects(&mut self, process: Id<Process>, found: &Found) {
        self.audit_references::<Thread>(process, Kind::Thread, found, false);
        self.audit_references::<Process>(process, Kind::Process, found, false);
        self.audit_references::<Vmo>(process, Kind::Vmo, found, false);
        self.audit_references::<Endpoint>(process, Kind::Endpoint, found, true);
        self.audit_references::<Notification>(process, Kind::Notification, found, true);
        self.audit_references::<Device>(process, Kind::DeviceMmio, found, false);
        self.audit_references::<Irq>(process, Kind::Irq, found, true);
        self.audit_references::<Timer>(process, Kind::Timer, found, true);
        for session in self.objects_of::<Session>(process) {
            let expected = found.sessions.get(&session.raw()).copied().unwrap_or(0);
            assert_eq!(self.kernel.memory.references(session), expected, "badged copies of {session:?}");
            let endpoint = self.with(session, |session| session.endpoint).expect("it is alive");
            let memory = &self.kernel.memory;
            let Some((endpoint, _)) = self.kernel.lock(&mut self.held, endpoint) else { continue };
            let gone = endpoint.gone.iter(memory).any(|other| other == session);
            assert_eq!(gone, expected == 0, "whether the end of {session:?} waits to be received");
        }
        for endpoint in self.objects_of::<Endpoint>(process) {
            self.audit_endpoint(endpoint, found);
        }
        for notification in self.objects_of::<Notification>(process) {
            self.audit_notification(notification, found);
        }
        for irq in self.objects_of::<Irq>(process) {
            let line = self.with(irq, |irq| irq.line).expect("it is alive");
            assert_eq!(self.kernel.lines[line as usize].load(Relaxed), irq.raw(), "whose line {line} is");
        }
        for thread in self.objects_of::<Thread>(process) {
            self.audit_thread(process, thread, found);
        }
        self.audit_listeners(process, found);
    }

    /// Threads that can take no call are listed by their process, while it owes as many answers as it may.
    fn audit_listeners(&mut self, process: Id<Process>, found: &Found) {
        let threads = self.objects_of::<Thread>(process);
        let listens = |id: &Id<Thread>| matches!(found.threads.get(&id.raw()), Some(State::Listening(_)));
        let expected: BTreeSet<u64> = threads.iter().copied().filter(listens).map(Id::raw).collect();
        let repeating = threads.iter().filter(|&&thread| self.repeats(Actor { process, thread })).count();
        let memory = &self.kernel.memory;
        let (body, _) = self.kernel.lock(&mut self.held, process).expect("it is alive");
        let listed: BTreeSet<u64> = body.listeners.iter(memory).map(Id::raw).collect();
        assert_eq!(listed, expected, "who of {process:?} can take no call");
        // Who was woken for an answer that may be owed has yet to receive anew.
        let free = (body.table.open_calls_max - body.table.open_calls) as usize;
        assert!(
            free <= repeating || listed.is_empty(),
            "{process:?} may owe {free} more answers, {repeating} threads will, and somebody cannot"
        );
    }

    fn audit_references<T: Object>(
        &mut self,
        process: Id<Process>,
        kind: Kind,
        found: &Found,
        ends_with_the_last: bool,
    ) {
        for id in self.objects_of::<T>(process) {
            let expected = found.references.get(&(kind as u8, id.raw())).copied().unwrap_or(0);
            assert_eq!(self.kernel.memory.references(id), expected, "capabilities to {id:?}");
            assert!(expected > 0 || !ends_with_the_last, "{id:?} outlives its last capability");
        }
    }

    /// Whoever waits here says so, and nobody waits for what is there.
    fn audit_endpoint(&mut self, id: Id<Endpoint>, found: &Found) {
        let memory = &self.kernel.memory;
        let (endpoint, _) = self.kernel.lock(&mut self.held, id).expect("it is alive");
        let queues = [
            (&endpoint.callers, State::Calling(id)),
            (&endpoint.receivers, State::Receiving(id)),
            (&endpoint.listeners, State::Listening(id)),
        ];
        for (queue, state) in queues {
            let queued: BTreeSet<u64> = queue.iter(memory).map(Id::raw).collect();
            let waiting = found.threads.iter().filter(|(_, other)| **other == state);
            let waiting: BTreeSet<u64> = waiting.map(|(thread, _)| *thread).collect();
            assert_eq!(queued, waiting, "who is {state:?}");
        }
        let urgencies = endpoint.callers.iter(memory).filter_map(|id| memory.shared(id));
        let most_urgent = urgencies.map(|caller| caller.urgency()).max();
        assert_eq!(endpoint.shared().most_urgent(), most_urgent, "the most urgent call that waits at {id:?}");
        let idle = endpoint.receivers.is_empty();
        assert!(idle || endpoint.callers.is_empty(), "call and receiver miss each other at {id:?}");
        let somebody = !idle || !endpoint.listeners.is_empty();
        assert!(!somebody || endpoint.posts.is_empty(), "a post misses who waits at {id:?}");
        assert!(!somebody || endpoint.gone.is_empty(), "a badge's end misses who waits at {id:?}");
        let quiet = endpoint.callers.is_empty() && endpoint.posts.is_empty() && !somebody;
        assert!(!endpoint.is_sealed() || quiet, "somebody waits at the sealed {id:?}");
        assert!(!endpoint.is_sealing(), "{id:?} is being sealed for ever");
    }

    fn audit_notification(&mut self, id: Id<Notification>, found: &Found) {
        let (bits, waiter, bound) =
            self.with(id, |body| (body.bits, body.waiter, body.bound)).expect("it is alive");
        let waiting: Vec<_> = found
            .threads
            .iter()
            .filter_map(|(thread, state)| match state {
                State::Waiting(other, mask) if *other == id => Some((*thread, *mask)),
                _ => None,
            })
            .collect();
        assert_eq!(waiting.iter().map(|(thread, _)| *thread).collect::<Vec<_>>(), {
            waiter.map(Id::raw).into_iter().collect::<Vec<_>>()
        });
        assert!(waiting.iter().all(|(_, mask)| bits & mask == 0), "bits of {id:?} miss who waits for them");
        if let Some(bound) = bound {
            assert_eq!(self.with(bound, |thread| thread.bound), Some(Some(id)), "who is bound to {id:?}");
            let state = found.threads.get(&bound.raw());
            let receives = matches!(state, Some(State::Receiving(_) | State::Listening(_)));
            assert!(bits == 0 || !receives, "bits of {id:?} miss the receiver that is bound to it");
        }
    }

    fn audit_thread(&mut self, process: Id<Process>, id: Id<Thread>, found: &Found) {
        let memory = &self.kernel.memory;
        let (thread, _) = self.kernel.lock(&mut self.held, id).expect("it is alive");
        assert_eq!(thread.process, process);
        let called = if thread.state == State::Called { thread.wait_sequence } else { 0 };
        assert_eq!(thread.shared().open_call.number(), called, "the open call of {id:?}");
        if thread.state == State::Called {
            let replies = found.replies.get(&(id.raw(), thread.wait_sequence)).copied();
            assert_eq!(replies, Some(1), "Replies to {id:?}");
        }
        if !matches!(thread.state, State::Ready) {
            let key = memory.shared_at::<Thread>(id.granule()).heap_key.load(Relaxed);
            assert!(key <= thread.deadline, "{id:?} waits beyond its deadline");
        }
        assert!(thread.reply_entry == 0 || found.reserved.contains(&thread.reply_entry), "{id:?}");
        let takes_calls = matches!(thread.state, State::Receiving(_));
        assert!(
            !takes_calls || thread.reply_entry != 0,
            "{id:?} waits for calls and has no entry for a Reply"
        );
    }

    /// What threads, posts and tables say of each other agrees.
    fn audit_threads(&mut self, processes: &[Id<Process>], found: &Found) {
        let (mut frozen, mut reserved) = (BTreeSet::new(), BTreeSet::new());
        let mut credit = BTreeMap::new();
        for &process in processes {
            for thread in self.objects_of::<Thread>(process) {
                let (carried, entry) = self
                    .with(thread, |body| (body.message.capabilities, body.reply_entry))
                    .expect("it is alive");
                for granule in carried.into_iter().filter(|&granule| granule != 0) {
                    assert!(frozen.insert(granule), "two messages carry {granule:x}");
                }
                assert!(entry == 0 || reserved.insert(entry), "two threads reserve {entry:x}");
            }
            for post in self.objects_of::<Post>(process) {
                let via = self.with(post, |post| post.via).expect("it is alive");
                *credit.entry(via).or_insert(0) += 1;
            }
        }
        assert_eq!(frozen, found.frozen, "capabilities that messages carry, and those that are frozen");
        assert_eq!(reserved, found.reserved, "entries that threads reserve, and those that are reserved");
        for (via, posts) in &found.credit {
            assert_eq!(credit.get(via).copied().unwrap_or(0), *posts, "posts under way of {via:x?}");
        }
    }
}

impl Found {
    fn take(&mut self, memory: &Memory, frame: FrameNumber, kind: FrameKind) {
        assert_eq!(memory.info(frame).kind(), kind as u8, "what frame {frame} is");
        self.frames[frame as usize] += 1;
    }

    fn node(&mut self, memory: &Memory, granule: Granule) {
        self.parents.insert(granule, memory.node(granule).parent());
    }

    fn capability(&mut self, memory: &Memory, slot: &CapabilitySlot, capability: &Capability) {
        let granule = capability.granule;
        self.node(memory, granule);
        *self.references.entry((capability.kind as u8, capability.object)).or_default() += 1;
        if let Some(session) = capability.session {
            *self.sessions.entry(session.raw()).or_default() += 1;
        }
        if slot.frozen() {
            self.frozen.insert(granule);
        }
        if capability.kind == Kind::Reply {
            *self.replies.entry((capability.object, capability.badge)).or_default() += 1;
        }
        self.credit.insert((granule, slot.generation()), slot.posts());
    }
}

/// The entries of a table that are in force, with their places.
fn valid_entries(memory: &Memory, table: FrameNumber, count: usize) -> impl Iterator<Item = (usize, u64)> {
    let entries = (0..count).map(move |place| (place, memory.word(table, place).load(Relaxed)));
    entries.filter(|(_, entry)| entry & VALID != 0)
}

fn frame_of(memory: &Memory, entry: u64) -> FrameNumber {
    memory.frame(PhysicalAddress(entry >> 10 << 12)).expect("a table lies in RAM")
}
