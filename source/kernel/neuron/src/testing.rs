//! A whole machine for tests: a kernel over a buffer as RAM, processes that make system calls by hand.
//!
//! What it is: the one bench of all host tests (and of the simulator). Everything a test does goes through
//! the same doors as on the machine: `boot::build`, `new_process`, `system_call`, `expire`, `reclaim_step`.
//! What it is not: it schedules nothing by itself; a test says which thread makes the next call.
//!
//! Where to start reading: [`Machine::process`], [`Machine::call`], [`Machine::message`]. Long because it is
//! many small doors to one machine.
#![allow(unsafe_code)] // it gives the kernel a buffer as RAM

mod audit;
mod side_by_side;

use crate::arch::host::Host;
use crate::boot;
use crate::deadline::Entry;
use crate::kernel::{Figures, Hart, Kernel, LINES_MAX, Storage};
use crate::memory::frame::FrameInfo;
use crate::memory::slab::GRANULES;
use crate::memory::{Id, Memory, Object};
use crate::object::capability::Capability;
use crate::object::thread::State;
use crate::object::{Process, Thread};
use crate::ring::RING_BYTES;
use crate::sync::{Held, Nothing};
use nexus_abi::capability::Qos;
use nexus_abi::limits::{FOREVER, PAGE_SIZE};
use nexus_abi::message::Registers;
use nexus_abi::records::{ProcessParameters, ProcessStatus, STATE_KILLED};
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall};
use std::alloc::{Layout, alloc_zeroed};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::vec;
use std::vec::Vec;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Bytes of a page.
pub const PAGE: u64 = PAGE_SIZE as u64;
/// Frames of the usual machine: 16 MiB.
pub const FRAMES: usize = 4096;
/// Where its RAM begins.
pub const RAM_BASE: u64 = 0x8000_0000;
/// Where every process has readable and writable memory.
pub const SCRATCH: u64 = 0x10_0000;
/// Pages of it.
pub const SCRATCH_PAGES: u64 = 40;

/// A kernel, its one hart and the way in.
pub struct Machine {
    /// The kernel.
    pub kernel: &'static Kernel<Host>,
    /// Its hart.
    pub hart: Hart,
    held: Held<'static, Nothing>,
    next_service: u64,
    /// Where each thread made its last call, by its raw id.
    begun: BTreeMap<u64, u64>,
}

/// A thread that makes system calls, and its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The process.
    pub process: Id<Process>,
    /// The thread.
    pub thread: Id<Thread>,
}

/// How a system call went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It answered.
    Done(Result<u64, Error>),
    /// The thread waits.
    Waits,
    /// The thread, or its process, is over.
    Ended,
}

/// What must come back to what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Frames in the pool.
    pub free_frames: u32,
    /// Frames that were lost to devices for good.
    pub lost: u64,
    /// Pages that the kernel's own account has promised.
    pub reserved: u64,
    /// Pages of it in use.
    pub populated: u64,
    /// Live threads.
    pub threads: u64,
    /// Processes.
    pub processes: u64,
}

impl Counts {
    /// The counts that there would be if nothing were lost.
    pub fn with_the_lost(self) -> Self {
        Counts { free_frames: self.free_frames + self.lost as u32, lost: 0, ..self }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// The usual machine.
    pub fn new() -> Self {
        Self::with_frames(FRAMES)
    }

    /// A machine with so much RAM. What it is made of stays allocated for ever, as on a real one.
    pub fn with_frames(frames: usize) -> Self {
        Self::with_harts(frames, 1)
    }

    /// As [`Machine::with_frames`], with so many harts; the first is alone in the kernel.
    pub fn with_harts(frames: usize, harts: usize) -> Self {
        let memory = memory(frames);
        boot::fill_pool(&memory, &[]);
        let figures = Figures {
            threads_max: boot::threads_for(frames as u64),
            ram_pages: frames as u64,
            ..Figures::default()
        };
        let storage = Storage {
            harts,
            deadlines: Box::leak(
                vec![Entry::EMPTY; harts * boot::deadlines_for(frames as u64)].into_boxed_slice(),
            ),
            ring: Box::leak(Box::new([0; RING_BYTES])),
            lines: Box::leak(Box::new([const { AtomicU64::new(0) }; LINES_MAX])),
        };
        let kernel = boot::build(Host::default(), memory, 0, figures, storage).expect("it has enough RAM");
        kernel.arch.timer.store(FOREVER, Relaxed);
        kernel.counters.harts_online.store(harts as u64, Relaxed);
        (0..harts).for_each(|_| kernel.entrance.admit());
        let (mut hart, mut held) = (Hart::new(0), Held::at_entry());
        kernel.come_in(&mut hart, &mut held);
        Machine { kernel: Box::leak(Box::new(kernel)), hart, held, next_service: 1, begun: BTreeMap::new() }
    }

    /// What a process is usually created with: rank 10, 256 pages, 64 capabilities, 4 open calls.
    pub fn parameters(&mut self) -> ProcessParameters {
        self.next_service += 1;
        ProcessParameters {
            service_id: self.next_service,
            quota_pages: 256,
            rank: 10,
            capabilities_max: 64,
            open_calls_max: 4,
            qos_max: Qos::PerfBurst as u32,
            ..ProcessParameters::default()
        }
    }

    /// The usual process with one thread and memory at [`SCRATCH`].
    pub fn process(&mut self) -> Actor {
        let parameters = self.parameters();
        self.process_with(&parameters)
    }

    /// As [`Machine::process`], of a rank.
    pub fn process_of_rank(&mut self, rank: u32) -> Actor {
        let parameters = ProcessParameters { rank, ..self.parameters() };
        self.process_with(&parameters)
    }

    /// As [`Machine::process`], with these parameters.
    pub fn process_with(&mut self, parameters: &ProcessParameters) -> Actor {
        let process = self.empty_process(parameters);
        let actor = self.thread(process);
        let memory = self.call(actor, SystemCall::VmoCreate, &[0, SCRATCH_PAGES * PAGE]).expect("a quota");
        let bits = (Rights::READ | Rights::WRITE).bits().into();
        let map = [0, memory, SCRATCH, 0, SCRATCH_PAGES * PAGE, bits];
        self.call(actor, SystemCall::VmoMap, &map).expect("room for its memory");
        self.call(actor, SystemCall::CapClose, &[memory]).expect("the handle it just got");
        actor
    }

    /// A process without threads or memory, paid by the kernel's own account.
    pub fn empty_process(&mut self, parameters: &ProcessParameters) -> Id<Process> {
        self.kernel.new_process(&mut self.held, self.kernel.root, parameters).expect("enough RAM")
    }

    /// One more thread of a process.
    pub fn thread(&mut self, process: Id<Process>) -> Actor {
        let begin = [SCRATCH, SCRATCH, 0];
        let thread =
            self.kernel.new_thread(&mut self.held, process, begin, Qos::Normal).expect("a live process");
        Actor { process, thread }
    }

    /// Gives a process a capability out of nothing, as boot does for init.
    pub fn give(&mut self, to: Actor, capability: Capability) -> u64 {
        self.kernel.insert_into(&mut self.held, to.process, 0, capability).expect("a free entry").0
    }

    /// Gives a process one of the roots, with every right.
    pub fn give_root(&mut self, to: Actor, kind: Kind) -> u64 {
        let mut capability = Capability::new(kind, kind.rights(), 0);
        if kind == Kind::ProcessAuthority {
            (capability.object, capability.badge) = (1, u64::MAX);
        }
        self.give(to, capability)
    }

    /// Gives a process control over another.
    pub fn give_process(&mut self, to: Actor, process: Id<Process>) -> u64 {
        self.give(to, Capability::new(Kind::Process, Kind::Process.rights(), process.raw()))
    }

    /// Copies a capability from one process to another, as whoever manages both would.
    pub fn hand(&mut self, from: Actor, handle: u64, to: Actor, rights: Rights) -> u64 {
        let manager = self.give_process(from, to.process);
        let call = [manager, handle, rights.bits().into()];
        let handed = self.call(from, SystemCall::CapTransferTo, &call).expect("what may be handed over");
        self.call(from, SystemCall::CapClose, &[manager]).expect("the handle it just got");
        handed
    }

    /// As [`Machine::give_process`], where the table may be full.
    pub fn try_give_process(&mut self, to: Actor, process: Id<Process>) -> Option<u64> {
        let capability = Capability::new(Kind::Process, Kind::Process.rights(), process.raw());
        self.kernel.insert_into(&mut self.held, to.process, 0, capability).ok().map(|handle| handle.0)
    }

    /// Copies a capability whose object is alive from one process to another, if that has room.
    pub fn copy_to(&mut self, from: Id<Process>, handle: Handle, to: Id<Process>) -> Option<u64> {
        let memory = &self.kernel.memory;
        let (_, capability) = memory.find_capability(memory.shared(from)?, handle).ok()?;
        if capability.kind == Kind::Reply || !self.kernel.is_alive(&capability) {
            return None;
        }
        let copied = self.kernel.insert_into(&mut self.held, to, capability.granule, capability);
        copied.ok().map(|handle| handle.0)
    }

    /// Every capability of a process: its handle, its kind, and whether its object is alive.
    pub fn handles_of(&mut self, process: Id<Process>) -> Vec<(Handle, Kind, bool)> {
        let memory = &self.kernel.memory;
        let Some((body, _)) = self.kernel.lock(&mut self.held, process) else { return Vec::new() };
        let frames = (0..body.table.page_count()).filter_map(|page| body.table.page(memory, page));
        let granules = frames.flat_map(|frame| {
            let first = Memory::first_granule(frame);
            first..first + GRANULES
        });
        let entry = |granule| {
            let slot = memory.capability_slot(granule);
            let capability = slot.read(granule)?;
            Some((slot.handle(), capability.kind, self.kernel.is_alive(&capability)))
        };
        granules.filter_map(entry).collect()
    }

    /// Whether a process has a capability with this handle that a message under way carries.
    pub fn is_frozen(&self, process: Id<Process>, handle: Handle) -> bool {
        let memory = &self.kernel.memory;
        let found = memory.shared(process).and_then(|shared| memory.find_capability(shared, handle).ok());
        found.is_some_and(|(slot, _)| slot.frozen())
    }

    /// Whether an object is alive.
    pub fn lives<T: Object>(&self, id: Id<T>) -> bool {
        self.kernel.memory.shared(id).is_some()
    }

    /// Makes a system call that answers at once; steps that interrupts come between are made in a row.
    pub fn call(&mut self, actor: Actor, call: SystemCall, arguments: &[u64]) -> Result<u64, Error> {
        match self.start(actor, call, arguments) {
            Step::Done(result) => result,
            other => panic!("{call:?} was to answer at once: {other:?}"),
        }
    }

    /// Makes a system call, until it answers or waits.
    pub fn start(&mut self, actor: Actor, call: SystemCall, arguments: &[u64]) -> Step {
        self.prepare(actor, call as u64, arguments);
        self.run(actor)
    }

    /// Makes a system call by its number.
    pub fn call_number(&mut self, actor: Actor, number: u64, arguments: &[u64]) -> Step {
        self.prepare(actor, number, arguments);
        self.run(actor)
    }

    /// Makes a system call's first step only; `None`: it is to be made again.
    pub fn start_once(&mut self, actor: Actor, call: SystemCall, arguments: &[u64]) -> Option<Step> {
        self.prepare(actor, call as u64, arguments);
        self.run_once(actor)
    }

    /// Goes on with a call whose first step was made.
    pub fn resume(&mut self, actor: Actor) -> Step {
        self.run(actor)
    }

    /// One further step of a call; `None`: it is to be made again.
    pub fn resume_once(&mut self, actor: Actor) -> Option<Step> {
        self.run_once(actor)
    }

    /// Makes a message call; what comes back is in [`Machine::registers`] once it is done.
    pub fn message(&mut self, actor: Actor, call: SystemCall, message: &Registers) -> Step {
        self.prepare_message(actor, call, message);
        self.run(actor)
    }

    /// Makes a message call's first step only.
    pub fn message_once(&mut self, actor: Actor, call: SystemCall, message: &Registers) -> Option<Step> {
        self.prepare_message(actor, call, message);
        self.run_once(actor)
    }

    fn prepare(&mut self, actor: Actor, number: u64, arguments: &[u64]) {
        let (mut thread, _) = self.kernel.lock(&mut self.held, actor.thread).expect("a live thread");
        assert_eq!(thread.state, State::Ready, "a thread that waits makes no calls");
        for index in 0..7 {
            thread.context.set_argument(index, arguments.get(index).copied().unwrap_or(0));
        }
        thread.context.set_argument(7, number);
        thread.context.registers[30] = FOREVER;
        self.begun.insert(actor.thread.raw(), thread.context.program_counter());
    }

    fn prepare_message(&mut self, actor: Actor, call: SystemCall, message: &Registers) {
        let arguments = [message.target, message.header.0, message.reply.0, message.buffers];
        self.prepare(actor, call as u64, &arguments);
        let (mut thread, _) = self.kernel.lock(&mut self.held, actor.thread).expect("a live thread");
        thread.context.set_words(message.words);
        thread.context.registers[30] = message.deadline;
    }

    /// Whether a thread that is ready makes its last call anew.
    pub fn repeats(&mut self, actor: Actor) -> bool {
        let begun = self.begun.get(&actor.thread.raw()).copied();
        self.state(actor) == Some(State::Ready) && begun == Some(self.program_counter(actor))
    }

    /// Lets threads whose call the kernel wants made anew make it, in the order in which they would run.
    pub fn repeat_calls(&mut self) {
        loop {
            let ready: Vec<_> = self.kernel.run_queues[0].lock().iter(&self.kernel.memory).collect();
            let again = ready.into_iter().find_map(|id| {
                let (thread, _) = self.kernel.lock(&mut self.held, id)?;
                let begun = self.begun.get(&id.raw()).copied();
                let again = begun == Some(thread.context.program_counter());
                again.then_some(Actor { process: thread.process, thread: id })
            });
            let Some(actor) = again else { return };
            self.run(actor);
        }
    }

    /// The turn of the thread that runs ends: the clock goes on, and the timer interrupts.
    pub fn end_of_turn(&mut self) {
        let time = self.hart.turn_ends.max(self.now());
        self.kernel.arch.clock.fetch_max(time, Relaxed);
        self.kernel.take_interrupts(&mut self.hart, &mut self.held);
    }

    /// The class at which a thread runs now.
    pub fn urgency(&self, actor: Actor) -> Option<Qos> {
        self.kernel.memory.shared(actor.thread).map(|shared| shared.urgency())
    }

    /// Gives a thread that makes no call a class of its own.
    pub fn set_qos(&mut self, actor: Actor, class: Qos) {
        let (mut thread, _) = self.kernel.lock(&mut self.held, actor.thread).expect("a live thread");
        thread.qos = class;
        drop(thread);
        self.take_off_queue(actor);
        self.kernel.memory.shared(actor.thread).expect("a live thread").set_urgency(class);
    }

    fn run(&mut self, actor: Actor) -> Step {
        for _ in 0..1 << 20 {
            if let Some(step) = self.run_once(actor) {
                return step;
            }
        }
        panic!("a system call is made again and again and never ends")
    }

    fn run_once(&mut self, actor: Actor) -> Option<Step> {
        let before = self.program_counter(actor);
        self.take_off_queue(actor);
        self.run_on_hart(actor);
        self.kernel.enter(&mut self.hart, &mut self.held);
        let runs = self.hart.current.is_some();
        self.kernel.note_running(&mut self.hart, None);
        self.kernel.queue_woken(&mut self.hart, &mut self.held);
        (self.hart.reschedule, self.hart.handoff) = (false, None);
        let Some(state) = self.state(actor) else { return Some(Step::Ended) };
        if self.has_ended(actor.process) {
            return Some(Step::Ended);
        }
        if runs && self.program_counter(actor) == before {
            return None;
        }
        if state != State::Ready {
            return Some(Step::Waits);
        }
        Some(Step::Done(self.result(actor)))
    }

    fn take_off_queue(&self, actor: Actor) {
        let memory = &self.kernel.memory;
        self.kernel.with_queue_of(actor.thread, |queue| queue.remove_if_queued(memory, actor.thread));
    }

    fn run_on_hart(&mut self, actor: Actor) {
        self.kernel.note_running(&mut self.hart, Some(actor.thread));
        if let Some((thread, process)) =
            self.kernel.memory.shared(actor.thread).zip(self.kernel.memory.shared(actor.process))
        {
            self.kernel.make_known(&self.hart, thread, process);
        }
        self.hart.process = actor.process.granule();
        self.hart.payer = self.kernel.lock(&mut self.held, actor.thread).map(|(thread, _)| thread.payer);
    }

    fn program_counter(&mut self, actor: Actor) -> u64 {
        self.kernel.lock(&mut self.held, actor.thread).map_or(0, |(t, _)| t.context.program_counter())
    }

    /// What a thread does; `None` once it is gone.
    pub fn state(&mut self, actor: Actor) -> Option<State> {
        self.kernel.lock(&mut self.held, actor.thread).map(|(thread, _)| thread.state)
    }

    /// Whether a thread waits for something.
    pub fn waits(&mut self, actor: Actor) -> bool {
        self.state(actor).is_some_and(|state| state != State::Ready)
    }

    /// Whether a process has ended (or is gone).
    pub fn has_ended(&self, process: Id<Process>) -> bool {
        self.kernel.memory.shared(process).is_none_or(|shared| shared.has_ended())
    }

    /// The result in a thread's registers.
    pub fn result(&mut self, actor: Actor) -> Result<u64, Error> {
        let registers = self.registers(actor);
        match registers.target {
            0 => Ok(registers.header.0),
            number => Err(Error::from_number(number).expect("a number of the contract")),
        }
    }

    /// A thread's message registers.
    pub fn registers(&mut self, actor: Actor) -> Registers {
        let (thread, _) = self.kernel.lock(&mut self.held, actor.thread).expect("a live thread");
        thread.context.message()
    }

    /// Writes a structure into a process's memory.
    pub fn put<T: IntoBytes + Immutable + ?Sized>(&mut self, actor: Actor, address: u64, value: &T) {
        let bytes = value.as_bytes();
        self.kernel.write_user(&mut self.held.above(), actor.process, address, bytes).expect("its memory");
    }

    /// Writes bytes into a process's memory, if that is there.
    pub fn try_put(&mut self, actor: Actor, address: u64, bytes: &[u8]) -> Result<(), Error> {
        self.kernel.write_user(&mut self.held.above(), actor.process, address, bytes)
    }

    /// Reads a structure from a process's memory.
    pub fn get<T: FromBytes + FromZeros + IntoBytes>(&mut self, actor: Actor, address: u64) -> T {
        self.kernel.read_record(&mut self.held.above(), actor.process, address).expect("its memory")
    }

    /// Reads bytes from a process's memory.
    pub fn bytes(&mut self, actor: Actor, address: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.kernel
            .read_user(&mut self.held.above(), actor.process, address, &mut bytes)
            .expect("its memory");
        bytes
    }

    /// The clock now.
    pub fn now(&self) -> u64 {
        self.kernel.arch.clock.load(Relaxed)
    }

    /// Lets the clock go on to a time, and ends what is due.
    pub fn advance_to(&mut self, time: u64) {
        self.kernel.arch.clock.fetch_max(time, Relaxed);
        self.kernel.expire(&mut self.hart, &mut self.held);
    }

    /// Ends a process from outside.
    pub fn kill(&mut self, process: Id<Process>) {
        let (mut structure, mut held) = self.kernel.structure(&mut self.held);
        self.kernel.end_process(&mut structure, &mut held, process, STATE_KILLED, 0);
    }

    /// Makes threads that [`Machine::thread`] created ready to be chosen by [`Machine::leave`].
    pub fn make_ready(&mut self, actor: Actor) {
        let (mut thread, _) = self.kernel.lock(&mut self.held, actor.thread).expect("a live thread");
        self.kernel.make_ready(&mut self.hart, actor.thread, &mut thread);
    }

    /// Leaves the kernel: yields the thread that runs. Something must be ready, or a deadline set.
    pub fn leave(&mut self) -> Id<Thread> {
        self.kernel.leave(&mut self.hart, &mut self.held)
    }

    /// The current thread faults.
    pub fn fault(&mut self, actor: Actor, fault: crate::fault::Fault) {
        self.take_off_queue(actor);
        self.run_on_hart(actor);
        self.kernel.user_fault(&mut self.hart, &mut self.held, fault);
        self.kernel.note_running(&mut self.hart, None);
    }

    /// Pulls an interrupt line and lets the kernel take it.
    pub fn interrupt(&mut self, line: u32) {
        self.kernel.arch.pulled.lock().expect("no test died in it").insert(line);
        self.kernel.take_interrupts(&mut self.hart, &mut self.held);
    }

    /// One step of reclamation; yields whether there is more.
    pub fn reclaim_step(&mut self) -> bool {
        self.kernel.reclaim_step(&mut self.hart, &mut self.held)
    }

    /// Reclaims whatever there is to reclaim.
    pub fn settle(&mut self) {
        for _ in 0..1 << 20 {
            if !self.reclaim_step() {
                return;
            }
        }
        panic!("reclamation never ends")
    }

    /// The figures of a process.
    pub fn status(&mut self, process: Id<Process>) -> Option<ProcessStatus> {
        self.kernel.status_of(&mut self.held, process)
    }

    /// Does something with a live object, locked.
    pub fn with<T: Object, R>(&mut self, id: Id<T>, look: impl FnOnce(&mut T) -> R) -> Option<R>
    where
        Nothing: crate::sync::Before<T::Level>,
    {
        self.kernel.lock(&mut self.held, id).map(|(mut guard, _)| look(&mut guard))
    }

    /// What must come back to what it was.
    pub fn counts(&mut self) -> Counts {
        let account = |root: &mut Process| (root.account.reserved, root.account.populated, root.account.lost);
        let (reserved, populated, lost) =
            self.with(self.kernel.root, account).expect("the kernel's own account");
        Counts {
            free_frames: self.kernel.memory.free_count(),
            lost,
            reserved,
            populated,
            threads: self.kernel.counters.threads.load(Relaxed),
            processes: self.kernel.counters.processes.load(Relaxed),
        }
    }

    /// Pages that the kernel's own account can still promise.
    pub fn pages_left(&mut self) -> u64 {
        let left = |root: &mut Process| root.account.limit - root.account.reserved;
        self.with(self.kernel.root, left).expect("the kernel's own account")
    }

    /// Makes a process the one that may not die.
    pub fn make_init(&mut self, process: Id<Process>) {
        self.kernel.init.store(process.raw(), core::sync::atomic::Ordering::Relaxed);
    }

    /// Whether the machine was told to power off (`false`) or reset (`true`), the last time it was.
    pub fn reset(&self) -> Option<bool> {
        *self.kernel.arch.reset.lock().unwrap()
    }

    /// Messages that went the fast path so far.
    pub fn fast_messages(&self) -> u64 {
        self.hart.messages
    }

    /// What the kernel printed so far.
    pub fn console(&self) -> std::string::String {
        self.kernel.arch.console.lock().expect("no test died in it").clone()
    }
}

/// RAM of so many frames, all reserved; it stays allocated for ever.
pub fn memory(frames: usize) -> Memory {
    let layout = Layout::from_size_align(frames * PAGE_SIZE, PAGE_SIZE).expect("a small size");
    // SAFETY: the layout is not empty (a machine has frames).
    let window = unsafe { alloc_zeroed(layout) };
    assert!(!window.is_null(), "no memory for the machine");
    let infos: Vec<FrameInfo> = (0..frames).map(|_| FrameInfo::default()).collect();
    // SAFETY: the buffer has as many pages as there are infos, is never freed and nobody else knows it.
    unsafe { Memory::new(window, RAM_BASE, Box::leak(infos.into_boxed_slice())) }
}
