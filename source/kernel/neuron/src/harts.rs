//! Several harts: how one comes into the kernel and leaves, where a thread becomes ready, how one hart makes
//! another look, and what an idle one takes over.
//!
//! A thread that becomes ready goes to the hart on which it ran last, if it may run there. That hart is
//! interrupted, so that it looks at its queue. A hart that leaves the kernel with others still ready behind it
//! interrupts one idle hart, which takes over one of them ([`Kernel::steal`]). All of it happens while the
//! hart is alone in the kernel ([`hart_locks::Entrance`]), but that a wait, a wake and a yield beside others use its own
//! queue; messages of the fast path touch none of it.

use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::memory::{Guard, Id};
use crate::object::process::ProcessShared;
use crate::object::thread::ThreadShared;
use crate::object::{Process, Thread};
use crate::run_queue::RunQueue;
use crate::sync::{Held, Nothing};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use nexus_abi::capability::Qos;
use nexus_abi::limits::HARTS_MAX;

/// Threads that an idle hart takes over at a time.
pub const STOLEN_MAX: usize = 1;
/// Ready threads of each class that a thief looks at, for one that may run on it.
const LOOKED_AT_MAX: usize = 4;

/// What others may know of a hart, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
pub struct HartShared {
    /// The classes with somebody ready on it, one bit each: read without the queue's lock.
    pub(crate) ready: AtomicU32,
    /// Raw id of the thread that it runs; 0: none.
    pub(crate) current: AtomicU64,
    /// Whether it was interrupted and has not come in since.
    called: AtomicBool,
    /// Granule of the process whose page table it stands on while it runs nothing and waits to be alone; 0: none.
    pub(crate) stands_on: AtomicU32,
    /// How often somebody asked it to look at its queue.
    pub requested: AtomicU64,
    /// How often it was interrupted for that: requests that come while one is under way are one.
    pub sent: AtomicU64,
    /// Interrupts of that kind that it took.
    pub taken: AtomicU64,
    /// Requests that it has seen to.
    pub acknowledged: AtomicU64,
    /// Threads that it took over from other harts.
    pub stolen: AtomicU64,
}

/// Why a hart cannot be made to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// There can be no hart with this index.
    NoSuchHart,
    /// The hart is not online.
    Offline,
}

impl<A: Arch> Kernel<A> {
    /// Harts that run threads.
    pub fn online(&self) -> usize {
        self.counters.harts_online.load(Relaxed) as usize
    }

    /// The hart comes into the kernel, alone. Whom it ran may have ended meanwhile, or somebody more urgent may
    /// have become ready.
    pub fn come_in(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) {
        self.mark_entry(hart);
        if self.arch.quiet() {
            self.harts[hart.index].taken.fetch_add(1, Relaxed);
        }
        self.entrance.enter_alone_resting(|| self.arch.rest(hart.timer));
        self.alone.store(hart.index as u32, Relaxed);
        self.harts[hart.index].stands_on.store(0, Relaxed);
        if self.online() > 1 {
            self.look_around(hart, held);
        }
    }

    /// The hart leaves the kernel, and has others look where it left something to do.
    pub fn go_out(&self, hart: &mut Hart) {
        if self.online() > 1 {
            self.call_others(hart);
        }
        self.entrance.leave_alone();
    }

    /// Between two steps of longer work: who waits to come in does so. No thread runs here.
    pub(crate) fn let_others_in(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) {
        if self.entrance.is_awaited() {
            self.load_kernel_space(hart);
            self.go_out(hart);
            self.come_in(hart, held);
        }
    }

    fn look_around(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) {
        let shared = &self.harts[hart.index];
        if shared.called.swap(false, Relaxed) {
            shared.acknowledged.fetch_add(1, Relaxed);
            self.go_on_with_the_ended(held);
        }
        let Some(id) = hart.current else { return };
        let Some((mut thread, _)) = self.lock(held, id) else { return };
        let may_run = self.may_run(thread.shared(), hart.index);
        hart.reschedule |= !may_run || self.is_somebody_above(hart.index, thread.shared().urgency());
        let process = thread.process;
        if self.memory.shared(process).is_some_and(ProcessShared::has_ended) {
            // Its teardown waits for this.
            self.stop_running(hart, &mut thread);
        }
    }

    /// A hart that was called is here: the teardown of whatever waited for that looks anew who runs.
    fn go_on_with_the_ended(&self, held: &mut Held<'_, Nothing>) {
        let (mut structure, _) = self.structure(held);
        while let Some(process) = structure.called_off.pop_front(&self.memory) {
            structure.push_ended(&self.memory, process);
            self.begin_reclaiming();
        }
    }

    /// Whether a thread may run on a hart.
    pub(crate) fn may_run(&self, thread: &ThreadShared, hart: usize) -> bool {
        thread.affinity.load(Relaxed) >> hart & 1 != 0
    }

    /// The hart whose queue a thread goes into that becomes ready.
    pub(crate) fn hart_for(&self, hart: &Hart, thread: &ThreadShared) -> usize {
        let online = self.online();
        let home = thread.home.load(Relaxed) as usize;
        if online == 1 {
            return hart.index;
        }
        let fits = |&index: &usize| index < online && self.may_run(thread, index);
        [home, hart.index].into_iter().find(fits).or_else(|| (0..online).find(fits)).unwrap_or(hart.index)
    }

    /// Whether nobody but this hart has to look when a thread becomes ready.
    #[inline]
    pub(crate) fn wakes_here(&self, hart: &Hart, thread: &ThreadShared) -> bool {
        self.asleep.load(Relaxed) == 0 && self.hart_for(hart, thread) == hart.index
    }

    /// The other hart on which a thread runs now.
    pub(crate) fn runs_elsewhere(&self, hart: &Hart, thread: Id<Thread>) -> Option<usize> {
        let runs =
            |&index: &usize| index != hart.index && self.harts[index].current.load(Relaxed) == thread.raw();
        (0..self.online()).find(runs)
    }

    /// Does something with the queue in which a ready thread stands, if it is in one.
    pub(crate) fn with_queue_of<R>(&self, thread: Id<Thread>, change: impl FnOnce(&mut RunQueue) -> R) -> R {
        let home = self.memory.shared_at::<Thread>(thread.granule()).home.load(Relaxed);
        self.with_queue(home as usize % HARTS_MAX, change)
    }

    /// Has a hart look at its queue.
    pub fn call_hart(&self, index: usize) -> Result<(), CallError> {
        let shared = self.harts.get(index).ok_or(CallError::NoSuchHart)?;
        if index >= self.online() {
            return Err(CallError::Offline);
        }
        shared.requested.fetch_add(1, Relaxed);
        if !shared.called.swap(true, Relaxed) {
            shared.sent.fetch_add(1, Relaxed);
            self.arch.interrupt(index);
        }
        Ok(())
    }

    /// Calls the harts in whose queues something was put, and an idle one for what is ready here.
    fn call_others(&self, hart: &mut Hart) {
        let mut calls = core::mem::take(&mut hart.calls);
        if self.harts[hart.index].ready.load(Relaxed) != 0
            && let Some(idle) = (0..self.online()).find(|&other| self.is_thief(other, hart.index))
        {
            calls |= 1 << idle;
        }
        while calls != 0 {
            let other = calls.trailing_zeros() as usize;
            calls &= calls - 1;
            // A hart that is not online has an empty queue and runs nothing.
            let _ = self.call_hart(other);
        }
    }

    fn is_thief(&self, idle: usize, victim: usize) -> bool {
        idle != victim && self.asleep.load(Relaxed) >> idle & 1 != 0 && self.stealable(victim, idle).is_some()
    }

    /// Takes a ready thread over from another hart: at most [`STOLEN_MAX`], and none above the class that the
    /// other hart runs, for that one is about to run there.
    pub fn steal(&self, thief: usize) -> Option<Id<Thread>> {
        let online = self.online();
        let victims = (1..online).map(|step| (thief + step) % online);
        let mut stolen = victims.filter_map(|victim| {
            let id = self.stealable(victim, thief)?;
            self.with_queue(victim, |queue| queue.remove(&self.memory, id));
            Some(id)
        });
        let found = stolen.next();
        if let Some(id) = found {
            self.memory.shared_at::<Thread>(id.granule()).home.store(thief as u32, Relaxed);
            self.harts[thief].stolen.fetch_add(STOLEN_MAX as u64, Relaxed);
        }
        found
    }

    /// The thread that a thief may take from a victim. One that runs nothing sees to its queue itself.
    fn stealable(&self, victim: usize, thief: usize) -> Option<Id<Thread>> {
        let runs = Id::<Thread>::from_raw(self.harts[victim].current.load(Relaxed))?;
        let most = self.memory.shared(runs)?.urgency();
        let fits = |&id: &Id<Thread>| self.may_run(self.memory.shared_at::<Thread>(id.granule()), thief);
        let queue = self.run_queues[victim].lock();
        Qos::ALL
            .into_iter()
            .rev()
            .filter(|&class| class <= most)
            .find_map(|class| queue.of_class(&self.memory, class).take(LOOKED_AT_MAX).find(fits))
    }

    /// Notes that a hart runs a thread now, or none.
    #[inline]
    pub(crate) fn note_running(&self, hart: &mut Hart, thread: Option<Id<Thread>>) {
        hart.current = thread;
        self.harts[hart.index % HARTS_MAX].current.store(thread.map_or(0, Id::raw), Relaxed);
    }

    /// Changes where a thread may run. Where it may not go on, it is stopped.
    pub(crate) fn set_affinity(
        &self,
        hart: &mut Hart,
        id: Id<Thread>,
        thread: &Guard<'_, Thread>,
        affinity: u32,
    ) {
        let shared = thread.shared();
        shared.affinity.store(affinity, Relaxed);
        shared.known_on.fetch_and(affinity, Relaxed);
        if hart.current == Some(id) {
            hart.reschedule |= !self.may_run(shared, hart.index);
        } else if let Some(other) = self.runs_elsewhere(hart, id) {
            hart.calls |= 1 << other;
        } else if thread.state == crate::object::thread::State::Ready
            && self.with_queue_of(id, |queue| queue.remove_if_queued(&self.memory, id))
        {
            self.enqueue(hart, id, thread);
        }
    }

    /// The space of a process is about to be in use on a hart: from now on that is told what changes in it. What
    /// the hart knows under the space's number, and of instructions, is from before.
    pub(crate) fn make_known(&self, hart: &Hart, thread: &ThreadShared, process: &ProcessShared) {
        let bit = 1 << hart.index;
        if thread.is_known_on(hart.index) {
            return;
        }
        if process.harts.fetch_or(bit, Relaxed) & bit == 0 {
            self.arch.flush_space(process.asid.load(Relaxed) as u16);
            self.arch.flush_instructions();
        }
        thread.known_on.fetch_or(bit, Relaxed);
    }

    /// The other harts than the one that is alone in the kernel that may use translations of a process's space. Once the
    /// last thread of one that has ended is gone there are none: no hart loads it again, and the number's next user is new
    /// to each. Before that a hart may still run one of its threads, which it is called off.
    pub(crate) fn others_that_know(&self, process: &ProcessShared) -> u32 {
        let others = ((1u32 << self.online()) - 1) & !(1 << self.alone.load(Relaxed));
        if process.is_without_threads() { 0 } else { process.harts.load(Relaxed) & others }
    }

    /// Has every hart that may use them forget all translations of a process's space.
    pub(crate) fn flush_everywhere(&self, process: &ProcessShared) {
        let asid = process.asid.load(Relaxed) as u16;
        self.arch.flush_space(asid);
        self.arch.flush_space_of(self.others_that_know(process), asid);
    }

    /// Makes freshly written instructions visible to every hart that may run the process.
    pub(crate) fn flush_instructions_everywhere(&self, process: Id<Process>) {
        self.arch.flush_instructions();
        if let Some(process) = self.memory.shared(process) {
            self.arch.flush_instructions_of(self.others_that_know(process));
        }
    }

    /// Whether a thread of a process runs on another hart; those harts are called.
    pub(crate) fn call_off(&self, hart: &Hart, process: Id<Process>) -> bool {
        let mut any = false;
        for index in (0..self.online()).filter(|&index| index != hart.index) {
            let runs = Id::<Thread>::from_raw(self.harts[index].current.load(Relaxed));
            let whose = runs.and_then(|id| self.memory.shared(id)).map(|thread| thread.process.load(Relaxed));
            if whose == Some(process.granule()) {
                // At once: this hart may stay inside until those have come.
                let _ = self.call_hart(index);
                any = true;
            }
        }
        any
    }
}
