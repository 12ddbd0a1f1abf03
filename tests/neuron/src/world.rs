//! A machine with a handful of processes whose threads make one random call after the other.

use crate::Tally;
use neuron::fault::Fault;
use neuron::memory::Id;
use neuron::object::thread::State;
use neuron::object::{Process, Thread};
use neuron::testing::{Actor, Counts, Machine, PAGE, SCRATCH, SCRATCH_PAGES, Step};
use nexus_abi::calls::{SYSTEM_CALLS, Specification};
use nexus_abi::grammar::{Caller, Known, LEASES_OFFSET, Places, Random, any_call, given_kind};
use nexus_abi::limits::FOREVER;
use nexus_abi::records::{FaultCause, ProcessParameters};
use nexus_abi::{Error, Kind, Rights, SystemCall};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use zerocopy::IntoBytes;

/// Processes that there are at least; those that end are followed by others.
const PROCESSES_MIN: usize = 6;
/// The largest quota of a process that begins, and a page for its object.
const PAGES_FOR_BIRTH: u64 = 600;
/// Copies of capabilities of others with which a process begins, half of them of endpoints.
const GIFTS: usize = 16;
/// Threads beyond which somebody ends.
const THREADS_MAX: usize = 48;
/// Capabilities beyond which a process closes rather than creates.
const CROWDED: usize = 40;
/// Steps after which the world looks again at who there is.
const STEPS_A_LOOK: u64 = 64;
/// Calls that are remembered.
const LAST_CALLS: usize = 16;
/// Where memory is mapped that may only be read.
const READ_ONLY: u64 = 0x20_0000;
/// Where mappings come and go.
const MAPS: u64 = 0x28_0000_0000;
/// Service ids of processes that begin from outside: beyond those that calls name.
const FIRST_SERVICE: u64 = 1 << 40;
/// Endpoints that somebody owns who makes no calls: servers come and go, these stay.
const ENDPOINTS: usize = 5;
/// Ranks of processes, and of endpoints between them.
const RANKS: [u32; 4] = [5, 10, 20, 20];
const ENDPOINT_RANKS: [u64; 4] = [5, 10, 10, 15];

pub(crate) const PLACES: Places =
    Places { arena: SCRATCH, read_only: READ_ONLY, edge: SCRATCH + SCRATCH_PAGES * PAGE, maps: MAPS };

/// A call, and what became of it.
#[derive(Clone, Copy)]
struct Record {
    actor: Actor,
    name: &'static str,
    arguments: [u64; 6],
    outcome: Option<Step>,
}

/// See the head of the file.
pub struct World {
    machine: Machine,
    random: Random,
    before: Counts,
    /// Owns the endpoints and makes no calls.
    owner: Actor,
    endpoints: VecDeque<u64>,
    threads: Vec<Actor>,
    processes: Vec<Id<Process>>,
    known: BTreeMap<u64, Vec<Known>>,
    /// Calls in which threads wait, or that they make again.
    pending: BTreeMap<u64, &'static Specification>,
    last: VecDeque<Record>,
    steps: u64,
    /// One more than the highest number of a process, when the world last looked.
    processes_end: u64,
    /// Threads that began from outside and that nobody made ready yet.
    born: Vec<Actor>,
    /// Other harts run beside: endpoints take what goes the fast path, and what is reclaimed may wait for them.
    beside: bool,
    tally: Tally,
}

impl World {
    /// The world of a seed, on a machine of its own.
    pub fn new(seed: u64) -> Self {
        Self::on(Machine::new(), seed)
    }

    /// The world of a seed, on a machine on which nobody is.
    pub(crate) fn on(mut machine: Machine, seed: u64) -> Self {
        let before = machine.counts();
        let parameters = ProcessParameters { rank: 20, service_id: FIRST_SERVICE, ..machine.parameters() };
        let owner = machine.process_with(&parameters);
        World {
            owner,
            endpoints: VecDeque::new(),
            machine,
            random: Random::new(seed),
            before,
            threads: Vec::new(),
            processes: Vec::new(),
            known: BTreeMap::new(),
            pending: BTreeMap::new(),
            last: VecDeque::with_capacity(LAST_CALLS),
            steps: 0,
            processes_end: 0,
            born: Vec::new(),
            beside: false,
            tally: Tally::default(),
        }
    }

    /// As [`World::on`], beside other harts.
    pub(crate) fn of_several_harts(machine: Machine, seed: u64) -> Self {
        World { beside: true, ..Self::on(machine, seed) }
    }

    /// Takes the machine, and leaves another one of the same kernel.
    pub(crate) fn take_machine(&mut self, other: Machine) -> Machine {
        std::mem::replace(&mut self.machine, other)
    }

    /// A hart that is alone in the kernel and runs nothing looks at who there is, and what happens beside calls happens.
    /// Yields what each process has, by its raw id, and one more than the highest number of a process.
    pub(crate) fn look_by(&mut self, hart: &mut Machine) -> (BTreeMap<u64, Vec<Known>>, u64) {
        std::mem::swap(&mut self.machine, hart);
        self.look();
        for actor in std::mem::take(&mut self.born) {
            self.machine.make_ready(actor);
        }
        match self.random.below(32) {
            0..=7 => self.time_passes(1 << 14),
            8 => {
                let line = self.random.below(32) as u32;
                self.machine.interrupt(line);
            }
            9 => self.somebody_is_killed(),
            10 => {
                let always = self.random.one_in(2);
                self.machine.kernel.arch.always_interrupted.store(always, Relaxed);
            }
            _ => {}
        }
        for process in self.processes.clone() {
            self.remember(process);
        }
        std::mem::swap(&mut self.machine, hart);
        (self.known.clone(), self.processes_end)
    }

    /// What was made so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The last calls, oldest first.
    pub fn last_words(&self) -> Vec<String> {
        let words = |record: &Record| {
            let Record { actor, name, arguments, outcome } = record;
            let (process, thread) = (actor.process.granule(), actor.thread.granule());
            format!("process {process:x} thread {thread:x}: {name} {arguments:x?} -> {outcome:?}")
        };
        self.last.iter().map(words).collect()
    }

    /// Checks everything that the kernel counts and links.
    pub fn audit(&mut self) {
        self.machine.audit();
    }

    /// Ends everybody: every count is what it was.
    pub fn end(&mut self) {
        for process in self.machine.processes().into_iter().skip(1) {
            self.machine.kill(process);
        }
        self.machine.settle();
        assert_eq!(self.machine.counts().with_the_lost(), self.before, "with nobody left");
    }

    /// One thing happens: mostly a call.
    pub fn step(&mut self) {
        if self.steps.is_multiple_of(STEPS_A_LOOK) {
            self.look();
        }
        self.steps += 1;
        match self.random.below(512) {
            0..=3 => self.time_passes(1 << 14),
            4 => {
                let line = self.random.below(32) as u32;
                self.machine.interrupt(line);
            }
            5..=16 => drop(self.machine.reclaim_step()),
            17 => {
                let always = self.random.one_in(2);
                self.machine.kernel.arch.always_interrupted.store(always, Relaxed);
            }
            18 if self.random.one_in(16) => self.somebody_faults(),
            19 if self.random.one_in(16) => self.somebody_is_killed(),
            _ => self.somebody_calls(),
        }
    }

    /// Looks at who there is, and sees to it that there are enough.
    fn look(&mut self) {
        self.processes = self.machine.processes().split_off(1);
        let owner = self.owner.process;
        self.processes.retain(|&process| process != owner && !self.machine.has_ended(process));
        if self.endpoints.len() < ENDPOINTS || self.random.one_in(128) {
            self.renew_an_endpoint();
        }
        if self.processes.len() < PROCESSES_MIN {
            // Whoever ended keeps its quota as long as somebody holds a capability to it.
            if self.machine.pages_left() < PAGES_FOR_BIRTH {
                self.somebody_is_killed();
                if !self.beside {
                    self.machine.settle();
                }
            } else {
                let process = self.give_birth();
                self.processes.push(process);
            }
        }
        let newest = self.processes.last().and_then(|&process| self.machine.status(process));
        self.processes_end = newest.map_or(0, |newest| newest.process_id + 1);
        self.threads.clear();
        for &process in &self.processes {
            let threads = self.machine.objects_of::<Thread>(process).into_iter();
            self.threads.extend(threads.map(|thread| Actor { process, thread }));
        }
        if self.threads.len() > THREADS_MAX {
            self.somebody_is_killed();
        }
        let alive = |raw: u64| Id::from_raw(raw).is_some_and(|id| self.machine.lives::<Thread>(id));
        self.pending.retain(|&thread, _| alive(thread));
        let processes = &self.processes;
        self.known.retain(|&raw, _| processes.iter().any(|process| process.raw() == raw));
        self.machine.kernel.arch.console.lock().expect("nobody died in it").clear();
    }

    /// The oldest endpoint goes, sealed or not, and another comes.
    fn renew_an_endpoint(&mut self) {
        if self.endpoints.len() == ENDPOINTS
            && let Some(oldest) = self.endpoints.pop_front()
        {
            self.machine.call(self.owner, SystemCall::CapRevoke, &[oldest]).expect("its own");
            self.machine.call(self.owner, SystemCall::CapClose, &[oldest]).expect("its own");
        }
        let rank = self.random.one_of(&ENDPOINT_RANKS).unwrap_or(0);
        let bytes = self.random.one_of(&[64, 64, 4096, 65_536]).unwrap_or(64);
        let capabilities = self.random.below(5);
        let new = if self.beside { [rank, 64, 0] } else { [rank, bytes, capabilities] };
        self.endpoints
            .push_back(self.machine.call(self.owner, SystemCall::EndpointCreate, &new).expect("room"));
    }

    /// A process with memory, a few threads, and copies of what others have.
    fn give_birth(&mut self) -> Id<Process> {
        self.tally.processes += 1;
        let parameters = ProcessParameters {
            rank: self.random.one_of(&RANKS).unwrap_or(0),
            quota_pages: 96 + self.random.below(PAGES_FOR_BIRTH - 96),
            capabilities_max: 24 + self.random.below(80) as u32,
            open_calls_max: self.random.below(4) as u32,
            service_id: FIRST_SERVICE + self.tally.processes,
            ..self.machine.parameters()
        };
        let actor = self.machine.process_with(&parameters);
        self.born.push(actor);
        for _ in 0..self.random.below(3) {
            self.born.push(self.machine.thread(actor.process));
        }
        let read_only: u64 = Rights::READ.bits().into();
        let memory = self.machine.call(actor, SystemCall::VmoCreate, &[0, PAGE]).expect("a fresh process");
        let map = [0, memory, READ_ONLY, 0, PAGE, read_only];
        self.machine.call(actor, SystemCall::VmoMap, &map).expect("a fresh process");
        if self.random.one_in(2) {
            let roots =
                [Kind::DeviceAuthority, Kind::ProcessAuthority, Kind::QosAuthority, Kind::SystemControl];
            for root in roots {
                self.machine.give_root(actor, root);
            }
        }
        for copy in 0..GIFTS {
            let other = self.random.one_of(&self.processes).filter(|_| copy % 4 < 2);
            let from = other.unwrap_or(self.owner.process);
            let mut handles = self.machine.handles_of(from);
            handles.retain(|(_, kind, _)| copy % 2 == 0 || *kind == Kind::Endpoint);
            let Some((handle, ..)) = self.random.one_of(&handles) else { continue };
            self.machine.copy_to(from, handle, actor.process);
        }
        if let Some(manager) = self.random.one_of(&self.processes) {
            let manager = Actor { process: manager, ..actor };
            self.machine.try_give_process(manager, actor.process);
        }
        actor.process
    }

    fn time_passes(&mut self, most: u64) {
        let time = self.machine.now() + self.random.below(most);
        self.machine.advance_to(time);
    }

    fn somebody_is_killed(&mut self) {
        if let Some(process) = self.random.one_of(&self.processes) {
            self.machine.kill(process);
        }
    }

    fn somebody_faults(&mut self) {
        let Some(actor) = self.somebody_ready() else { return };
        let causes = [FaultCause::ReadFault, FaultCause::WriteFault, FaultCause::ExecuteFault];
        let cause = self.random.one_of(&causes).unwrap_or(FaultCause::Other);
        let address = PLACES.address(&mut self.random);
        self.machine.fault(actor, Fault { cause, detail: 0, address, is_of_a_page: true });
    }

    /// A thread that runs, of a process that is alive.
    fn somebody_ready(&mut self) -> Option<Actor> {
        for _ in 0..32 {
            let Some(actor) = self.random.one_of(&self.threads) else { break };
            let ready = self.machine.state(actor) == Some(State::Ready);
            if ready && !self.machine.has_ended(actor.process) {
                return Some(actor);
            }
        }
        None
    }

    fn somebody_calls(&mut self) {
        let Some(actor) = self.somebody_ready() else {
            self.time_passes(1 << 18);
            if self.random.one_in(64) {
                self.somebody_is_killed();
            }
            return;
        };
        self.tally.calls += 1;
        if let Some(call) = self.pending.remove(&actor.thread.raw()) {
            if self.machine.repeats(actor) {
                let step = self.machine.resume_once(actor);
                return self.judge(actor, call, step);
            }
            let outcome = Step::Done(self.machine.result(actor));
            self.judge(actor, call, Some(outcome));
        }
        self.call(actor);
    }

    fn call(&mut self, actor: Actor) {
        if self.random.one_in(1024) {
            let number = [0, SYSTEM_CALLS.len() as u64 + 1, u64::MAX][self.random.below(3) as usize];
            let step = self.machine.call_number(actor, number, &[]);
            assert_eq!(step, Step::Done(Err(Error::UnknownCall)), "call number {number}");
            return;
        }
        if self.random.one_in(64) || !self.known.contains_key(&actor.process.raw()) {
            self.remember(actor.process);
        }
        let known = self.known.get(&actor.process.raw()).map_or(&[][..], Vec::as_slice);
        let call = draw_call(&mut self.random, known);
        let now = self.machine.now();
        let caller = Caller {
            places: &PLACES,
            known,
            guess_from: 0,
            processes_end: self.processes_end,
            now,
            patience: FOREVER,
        };
        let mut arguments = caller.arguments(&mut self.random, call);
        if call.call == SystemCall::DeviceCapCreate && !self.random.one_in(64) {
            // What a device may still write is lost with its owner: the machine must last as long as the seed.
            arguments[3] = 0;
        }
        self.last.push_back(Record { actor, name: call.name, arguments, outcome: None });
        if self.last.len() > LAST_CALLS {
            self.last.pop_front();
        }
        let step = if call.message {
            let (registers, buffers) = caller.message(&mut self.random, arguments);
            // Its memory may be gone: then the call finds that too.
            let _ = self.machine.try_put(actor, PLACES.arena, buffers.as_bytes());
            let leases = caller.leases(&mut self.random);
            let _ = self.machine.try_put(actor, PLACES.arena + LEASES_OFFSET, leases.as_bytes());
            self.machine.message_once(actor, call.call, &registers)
        } else {
            if call.call == SystemCall::ProcessCreate {
                let parameters = caller.parameters(&mut self.random);
                let _ = self.machine.try_put(actor, PLACES.arena, parameters.as_bytes());
            }
            self.machine.start_once(actor, call.call, &arguments)
        };
        self.judge(actor, call, step);
    }

    /// What became of a call: an answer must be one that the table names.
    fn judge(&mut self, actor: Actor, call: &'static Specification, step: Option<Step>) {
        if let Some(record) = self.last.back_mut().filter(|record| record.actor == actor) {
            record.outcome = step;
        }
        let thread = actor.thread.raw();
        match step {
            None | Some(Step::Waits) => drop(self.pending.insert(thread, call)),
            Some(Step::Ended) => {}
            Some(Step::Done(Ok(_))) => {
                self.tally.answered[call.call as usize - 1] += 1;
                if call.message || given_kind(call.call).is_some() {
                    self.remember(actor.process);
                }
            }
            Some(Step::Done(Err(error))) => {
                let named = call.errors.iter().any(|(named, _)| *named == error);
                assert!(named, "{} answered {error}, which its entry does not name", call.name);
            }
        }
    }

    /// What a process has now, and some of what it had.
    fn remember(&mut self, process: Id<Process>) {
        let stale = self.known.remove(&process.raw()).unwrap_or_default();
        let mut known = self.machine.handles_of(process);
        // Of those whose object is gone, a few are enough.
        known.retain(|(_, kind, alive)| *alive || *kind == Kind::Reply || self.random.one_in(4));
        let known = known.into_iter().map(|(handle, kind, _)| Known { handle, kind });
        let known: Vec<Known> = known.chain(stale.into_iter().rev().take(4)).collect();
        self.known.insert(process.raw(), known);
    }
}

/// A call: those that end somebody are rare, who has much closes, and who owes an answer serves.
pub(crate) fn draw_call(random: &mut Random, known: &[Known]) -> &'static Specification {
    let owes = known.iter().any(|known| known.kind == Kind::Reply);
    if known.len() > CROWDED && random.one_in(4) {
        return &SYSTEM_CALLS[SystemCall::CapClose as usize - 1];
    }
    if owes && random.one_in(8) {
        let for_servers =
            [SystemCall::LeaseCopy, SystemCall::LeaseQuery, SystemCall::Reply, SystemCall::ReplyReceive];
        return &SYSTEM_CALLS[random.one_of(&for_servers).unwrap_or(SystemCall::Reply) as usize - 1];
    }
    loop {
        let call = any_call(random);
        let times = match call.call {
            SystemCall::ThreadExit | SystemCall::ProcessExit | SystemCall::EndpointSeal => 256,
            SystemCall::ProcessKill | SystemCall::CapRevoke => 32,
            SystemCall::Reply | SystemCall::ReplyReceive if !owes => 8,
            _ => 1,
        };
        if random.one_in(times) {
            return call;
        }
    }
}
