//! The kernel as a value: everything that lives as long as the machine, and how its parts are locked.
//!
//! There are no statics: several simulated machines fit in one process. A hart enters with its own
//! `&mut Hart`, does one thing, and leaves through `Kernel::leave`, which says what it runs next.

use crate::arch::{AddressSpace, Arch};
use crate::deadline::{Deadlines, Entry};
use crate::harts::HartShared;
use crate::memory::list::LinksOf;
use crate::memory::{Granule, Guard, Id, List, Memory, Object};
use crate::object::device::AllDevices;
use crate::object::endpoint::Ending;
use crate::object::process::{All, Reclaim as ReclaimProcess};
use crate::object::vmo::Reclaim as ReclaimVmo;
use crate::object::{Device, Endpoint, Process, Thread, Vmo};
use crate::ring::{RING_BYTES, Ring};
use crate::run_queue::RunQueue;
use crate::sync::{Before, Held, SpinGuard, SpinLock, Structure};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use hart_locks::Entrance;
use nexus_abi::limits::HARTS_MAX;

/// Interrupt lines that the kernel can tell apart.
pub const LINES_MAX: usize = 1024;
/// Words of the set of address space numbers.
const ASID_WORDS: usize = 64;

/// What the one structure lock guards.
pub struct StructureState {
    /// Every process, by number.
    pub processes: List<Process, All>,
    /// Ended processes that still have something.
    pub ended: List<Process, ReclaimProcess>,
    /// Those of which a hart that was called may still run a thread: they go on when a hart that was called comes in.
    pub called_off: List<Process, ReclaimProcess>,
    /// Memory that nobody can reach any more and whose pages go back step by step.
    pub unreachable: List<Vmo, ReclaimVmo>,
    /// Endpoints that nobody holds any more and at which calls still wait.
    pub ending: List<Endpoint, Ending>,
    /// Every device window.
    pub devices: List<Device, AllDevices>,
    /// The number of the next process.
    pub next_process_id: u64,
    asids: [u64; ASID_WORDS],
}

/// Counts that only grow, or follow what lives.
#[derive(Default)]
pub struct Counters {
    /// Messages delivered.
    pub messages: AtomicU64,
    /// Device interrupts taken.
    pub interrupts: AtomicU64,
    /// Live threads.
    pub threads: AtomicU64,
    /// Timers that exist.
    pub timers: AtomicU64,
    /// Processes that exist.
    pub processes: AtomicU64,
    /// The clock when init was entered.
    pub init_ticks: AtomicU64,
    /// Hardware threads online.
    pub harts_online: AtomicU64,
    /// Pages that only a device that was not reset can reach.
    pub quarantined_pages: AtomicU64,
    /// The longest that a hart ran in the kernel without a look at interrupts.
    pub longest_ticks: AtomicU64,
}

/// What boot found, for `system_info`.
#[derive(Clone, Copy, Default)]
pub struct Figures {
    /// The clock when the kernel was entered.
    pub boot_ticks: u64,
    /// Pages of RAM that the firmware handed over.
    pub ram_pages: u64,
    /// Pages that the kernel occupies for good.
    pub kernel_pages: u64,
    /// Threads that there can be.
    pub threads_max: u64,
    /// Harts that the machine has.
    pub harts: u64,
    /// Whether printed lines begin with their author.
    pub print_origin: bool,
}

/// One machine's kernel. In this order, because what messages need is near the beginning, where one instruction
/// reaches it.
#[repr(C)]
pub struct Kernel<A: Arch> {
    /// The machine's memory.
    pub memory: Memory,
    /// The machine.
    pub arch: A,
    /// The kernel's own account: what was there before init.
    pub root: Id<Process>,
    /// What boot found.
    pub figures: Figures,
    /// Counts.
    pub counters: Counters,
    /// Raw id of the first process, once it exists.
    pub(crate) init: AtomicU64,
    /// Who is inside.
    pub entrance: Entrance,
    /// Index of the hart that is alone inside, or was last.
    pub(crate) alone: AtomicU32,
    /// The harts that found nothing to do and are outside until they are interrupted, one bit each.
    pub(crate) asleep: AtomicU32,
    /// What harts know of each other.
    pub harts: [HartShared; HARTS_MAX],
    pub(crate) ring: SpinLock<Ring>,
    pub(crate) run_queues: [SpinLock<RunQueue>; HARTS_MAX],
    /// When each hart entered the kernel, or looked at interrupts last.
    pub(crate) looked: [AtomicU64; HARTS_MAX],
    /// Messages that went the fast path, by hart: brought up to date when the hart leaves by the long way.
    pub(crate) fast_messages: [AtomicU64; HARTS_MAX],
    /// 1 while something waits to be reclaimed. It then counts as somebody of the lowest class who is ready.
    pub(crate) reclaiming: AtomicU32,
    /// The first husk of a capability that was handed over (0: none); changed by who is alone.
    pub(crate) husks: AtomicU32,
    pub(crate) deadlines: [SpinLock<Deadlines>; HARTS_MAX],
    /// Raw ids of the `Irq` of each line.
    pub(crate) lines: &'static [AtomicU64; LINES_MAX],
    structure: SpinLock<StructureState>,
}

/// Memory that boot keeps for good, for what is too large to be moved about.
pub struct Storage {
    /// Harts that there may be, from 1 on.
    pub harts: usize,
    /// Places of their deadline heaps, as many for each.
    pub deadlines: &'static mut [Entry],
    /// The kernel's ring.
    pub ring: &'static mut [u8; RING_BYTES],
    /// The owner of each interrupt line.
    pub lines: &'static [AtomicU64; LINES_MAX],
}

/// What one hart knows of itself.
pub struct Hart {
    /// Its index, from 0 on.
    pub index: usize,
    /// The thread that it runs.
    pub current: Option<Id<Thread>>,
    /// Granule of that thread's process.
    pub(crate) process: Granule,
    /// Who is charged for the time since `running_since`.
    pub(crate) payer: Option<Id<Process>>,
    /// A thread that is to run next without standing in a queue: the other side of a message.
    pub(crate) handoff: Option<Id<Thread>>,
    /// A thread that a signal woke, more urgent than `current` and than whoever is ready: it runs next, and is in no
    /// queue.
    pub(crate) woken: Option<Id<Thread>>,
    /// Whether somebody more urgent than `current` is ready.
    pub(crate) reschedule: bool,
    /// Harts that must look when this one leaves, one bit each.
    pub(crate) calls: u32,
    /// Messages that went the fast path here.
    pub(crate) messages: u64,
    /// Since when `payer` is charged.
    pub(crate) running_since: u64,
    /// When its turn ends.
    pub(crate) turn_ends: u64,
    /// The time for which the timer is set.
    pub(crate) timer: u64,
    /// The address space that is loaded.
    pub(crate) loaded: AddressSpace,
}

impl Hart {
    /// A hart that runs nothing yet.
    pub const fn new(index: usize) -> Self {
        Hart {
            index,
            current: None,
            process: 0,
            payer: None,
            messages: 0,
            handoff: None,
            woken: None,
            reschedule: false,
            calls: 0,
            running_since: 0,
            turn_ends: 0,
            timer: u64::MAX,
            loaded: AddressSpace::NONE,
        }
    }
}

/// Two locked objects of one type, and the permission that is left.
pub type LockedPair<'a, T> = (Guard<'a, T>, Guard<'a, T>, Held<'a, <T as Object>::Level>);

/// The structure, locked.
pub type StructureGuard<'k> = SpinGuard<'k, StructureState>;

impl<A: Arch> Kernel<A> {
    /// A kernel over memory whose pool is filled, with the kernel's own account.
    pub fn new(arch: A, memory: Memory, root: Id<Process>, figures: Figures, storage: Storage) -> Self {
        let mut deadlines = [const { SpinLock::new(Deadlines::empty()) }; HARTS_MAX];
        let places = storage.deadlines.len() / storage.harts;
        for (hart, entries) in storage.deadlines.chunks_exact_mut(places).take(HARTS_MAX).enumerate() {
            deadlines[hart] = SpinLock::new(Deadlines::new(hart, entries));
        }
        Kernel {
            arch,
            memory,
            root,
            figures,
            counters: Counters::default(),
            init: AtomicU64::new(0),
            entrance: Entrance::new(),
            alone: AtomicU32::new(0),
            asleep: AtomicU32::new(0),
            harts: core::array::from_fn(|_| HartShared::default()),
            ring: SpinLock::new(Ring::new(storage.ring)),
            run_queues: [const { SpinLock::new(RunQueue::new()) }; HARTS_MAX],
            looked: [const { AtomicU64::new(u64::MAX) }; HARTS_MAX],
            fast_messages: [const { AtomicU64::new(0) }; HARTS_MAX],
            husks: AtomicU32::new(0),
            reclaiming: AtomicU32::new(0),
            deadlines,
            lines: storage.lines,
            structure: SpinLock::new(StructureState {
                processes: List::new(),
                ended: List::new(),
                called_off: List::new(),
                unreachable: List::new(),
                ending: List::new(),
                devices: List::new(),
                next_process_id: 1,
                // Number 0 stays the kernel's own.
                asids: core::array::from_fn(|word| (word == 0).into()),
            }),
        }
    }

    /// Takes the lock of a live object; `None` if it is gone.
    #[inline]
    pub fn lock<'a, T: Object, L: Before<T::Level>>(
        &'a self,
        _held: &'a mut Held<'_, L>,
        id: Id<T>,
    ) -> Option<(Guard<'a, T>, Held<'a, T::Level>)> {
        Some((self.memory.lock_slot(id)?, Held::granted()))
    }

    /// Takes the locks of two different live objects, in the order of their ids.
    #[inline]
    pub fn lock_pair<'a, T: Object, L: Before<T::Level>>(
        &'a self,
        _held: &'a mut Held<'_, L>,
        first: Id<T>,
        second: Id<T>,
    ) -> Option<LockedPair<'a, T>> {
        if first.granule() < second.granule() {
            let first = self.memory.lock_slot(first)?;
            Some((first, self.memory.lock_slot(second)?, Held::granted()))
        } else if first.granule() > second.granule() {
            let second = self.memory.lock_slot(second)?;
            Some((self.memory.lock_slot(first)?, second, Held::granted()))
        } else {
            None
        }
    }

    /// Takes the structure lock.
    pub fn structure<'a, L: Before<Structure>>(
        &'a self,
        _held: &'a mut Held<'_, L>,
    ) -> (StructureGuard<'a>, Held<'a, Structure>) {
        (self.structure.lock(), Held::granted())
    }

    /// The process whose account pays for an object.
    pub(crate) fn owner_of<T: Object>(&self, id: Id<T>) -> Option<Id<Process>> {
        self.memory.shared(id)?;
        self.memory.id_at(self.owner_granule(id.granule()))
    }

    fn owner_granule(&self, granule: Granule) -> Granule {
        self.memory.info(Memory::frame_of(granule)).owner.load(Relaxed)
    }

    /// Creates an object in a process's account.
    pub(crate) fn create<T: Object, L: Before<crate::sync::Process>>(
        &self,
        held: &mut Held<'_, L>,
        owner: Id<Process>,
        value: T,
    ) -> Result<Id<T>, nexus_abi::Error> {
        let (mut body, _) = self.lock(held, owner).ok_or(nexus_abi::Error::PeerGone)?;
        body.account.create(&self.memory, owner.granule(), value)
    }

    /// Ends an object; `guard` is its lock.
    pub(crate) fn destroy<T: Object>(&self, held: &mut Held<'_, T::Level>, id: Id<T>, guard: Guard<'_, T>)
    where
        T::Level: Before<crate::sync::Process>,
    {
        let Some(owner) = self.owner_of(id) else { return };
        if let Some((mut body, _)) = self.lock(held, owner) {
            body.account.destroy(&self.memory, guard);
        }
    }
}

impl StructureState {
    /// A free address space number of at most `last`.
    pub(crate) fn take_asid(&mut self, last: u16) -> Option<u16> {
        let (word, bits) = self.asids.iter_mut().enumerate().find(|(_, bits)| **bits != u64::MAX)?;
        let bit = bits.trailing_ones();
        let asid = (word as u32 * 64 + bit) as u16;
        if asid > last {
            return None;
        }
        *bits |= 1 << bit;
        Some(asid)
    }

    /// Gives an address space number back, after all its translations were flushed.
    pub(crate) fn release_asid(&mut self, asid: u16) {
        self.asids[usize::from(asid) / 64] &= !(1 << (asid % 64));
    }

    /// Puts a process on, or takes it off, a list without borrowing the whole state twice.
    pub(crate) fn push_ended(&mut self, memory: &Memory, process: Id<Process>) {
        if !ReclaimProcess::links(memory.shared_at::<Process>(process.granule())).linked() {
            self.ended.push_back(memory, process);
        }
    }
}
