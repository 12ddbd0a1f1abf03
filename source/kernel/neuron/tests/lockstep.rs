//! The kernel beside the model of messages and capabilities: the same random events on both, compared after
//! each: who was answered what, who waits for what, what every table and object counts, that no frame is
//! lost. At the end of a sequence everybody is killed and every count must be what it was.
//!
//! It makes about a million steps (8,000 sequences of up to 200); `PROPTEST_CASES` changes that, and
//! `LOCKSTEP_EVENTS=1` prints each event with the model's answers. Real processes make such sequences on the
//! machine: `source/apps/lockstep`.

use kernel_model::{
    Bench, EVENTS, Late, Lockstep, MODELLED, Model, NOT_MODELLED, Object, PROCESSES, SCRATCH, SCRATCH_PAGES,
    Seed, THREADS, Wait, sequence,
};
use neuron::memory::Id;
use neuron::object::thread::State;
use neuron::object::{Capability, Endpoint, Notification, Vmo};
use neuron::testing::{self, Actor, Machine, Step};
use nexus_abi::calls::SYSTEM_CALLS;
use nexus_abi::message::Registers;
use nexus_abi::records::ProcessParameters;
use nexus_abi::{Error, Handle, Rights, SystemCall};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::fmt::Debug;

/// Ticks between two deadlines of the model: so few that no sequence uses up a budget of its.
const EPOCH: u64 = 1 << 12;
/// Frames of the machine: a failure that is made smaller leaves many of them behind.
const FRAMES: usize = 2_304;

const _: () = assert!(SCRATCH == testing::SCRATCH && SCRATCH_PAGES <= testing::SCRATCH_PAGES);

/// The kernel's core.
struct Core {
    machine: Machine,
    processes: Vec<Actor>,
    threads: Vec<Actor>,
    /// Raw ids of the objects, in the model's order.
    endpoints: Vec<u64>,
    notifications: Vec<u64>,
    memories: Vec<u64>,
    numbers: Vec<(u64, u64)>,
    frames: Option<u64>,
    /// A process may have ended by a call.
    ends: bool,
}

fn begin(mut machine: Machine) -> Lockstep<Core> {
    let epoch = machine.now() / EPOCH + 1;
    machine.advance_to(epoch * EPOCH);
    let (mut processes, mut threads, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    for (rank, capabilities_max, open_calls_max) in PROCESSES {
        let parameters = ProcessParameters { rank, capabilities_max, open_calls_max, ..machine.parameters() };
        let first = machine.process_with(&parameters);
        let number = machine.status(first.process).expect("alive").process_id;
        numbers.push((parameters.service_id, number));
        processes.push(first);
        threads.push(first);
        threads.extend((1..THREADS).map(|_| machine.thread(first.process)));
    }
    let core = Core {
        machine,
        processes,
        threads,
        endpoints: Vec::new(),
        notifications: Vec::new(),
        memories: Vec::new(),
        numbers,
        frames: None,
        ends: false,
    };
    Lockstep::new(core, epoch)
}

impl Bench for Core {
    fn call(&mut self, thread: usize, call: SystemCall, arguments: &[u64]) -> Result<u64, Error> {
        self.machine.call(self.threads[thread], call, arguments)
    }

    fn hand(&mut self, handle: u64, from: usize, to: usize, rights: Rights) -> u64 {
        self.machine.hand(self.processes[from], handle, self.processes[to], rights)
    }

    fn give(&mut self, object: Object, to: usize, rights: Rights) -> u64 {
        let (raw, badge) = match object {
            Object::Process(process) => (self.processes[process].process.raw(), 0),
            Object::Thread(thread) => (self.threads[thread].thread.raw(), 0),
            Object::Identities(first, last) => (first, last),
            Object::Urgency(most) => (0, most),
            _ => (0, 0),
        };
        let capability = Capability { badge, ..Capability::new(object.kind(), rights, raw) };
        self.machine.give(self.processes[to], capability)
    }

    fn identities(&self) -> (u64, u64) {
        (0x100, 0x103)
    }

    fn created(&mut self, object: Object, process: usize, handle: u64) {
        let memory = &self.machine.kernel.memory;
        let shared = memory.shared(self.processes[process].process).expect("alive");
        let raw = memory.find_capability(shared, Handle(handle)).expect("a fresh handle").1.object;
        match object {
            Object::Endpoint(_) => self.endpoints.push(raw),
            Object::Notification(_) => self.notifications.push(raw),
            Object::Memory(_) => self.memories.push(raw),
            _ => unreachable!("nobody creates one"),
        }
    }

    fn put(&mut self, thread: usize, address: u64, bytes: &[u8]) {
        self.machine.put(self.threads[thread], address, bytes);
    }

    fn get(&mut self, thread: usize, address: u64, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.machine.bytes(self.threads[thread], address, bytes.len()));
    }

    fn start(&mut self, thread: usize, call: SystemCall, arguments: &[u64]) {
        self.ends |= matches!(call, SystemCall::ProcessKill | SystemCall::ProcessExit);
        self.machine.start(self.threads[thread], call, arguments);
    }

    fn start_message(&mut self, thread: usize, call: SystemCall, registers: &Registers) {
        let step = self.machine.message(self.threads[thread], call, registers);
        assert_ne!(step, Step::Ended);
    }

    fn kill(&mut self, process: usize) {
        self.machine.kill(self.processes[process].process);
        self.machine.settle();
    }

    fn time_passes(&mut self, model: &Model) {
        self.machine.advance_to((model.now + 1) * EPOCH);
    }

    fn deadline(&self, epoch: u64) -> u64 {
        epoch * EPOCH
    }

    fn settle(&mut self, _model: &Model, _answered: &[usize]) -> Result<(), Late> {
        if core::mem::take(&mut self.ends) {
            self.machine.settle();
        }
        self.machine.repeat_calls();
        self.machine.advance_to(self.machine.now());
        Ok(())
    }

    fn outcome(&mut self, thread: usize) -> Result<u64, Error> {
        self.machine.result(self.threads[thread])
    }

    fn registers(&mut self, thread: usize) -> Registers {
        self.machine.registers(self.threads[thread])
    }

    fn identity(&self, process: usize) -> (u64, u64) {
        self.numbers[process]
    }

    fn compare(&mut self, model: &Model) {
        for thread in 0..self.threads.len() {
            self.compare_state(model, thread);
        }
        self.compare_counts(model);
    }

    fn tell(&mut self, event: &dyn Debug, answers: &dyn Debug) {
        if std::env::var_os("LOCKSTEP_EVENTS").is_some() {
            eprintln!("{event:?} -> {answers:?}");
        }
    }
}

impl Core {
    fn compare_state(&mut self, model: &Model, thread: usize) {
        let state = self.machine.state(self.threads[thread]);
        let expected = &model.threads[thread];
        let same = match (state, &expected.wait) {
            (None, _) => !expected.alive,
            (Some(State::Ready), Wait::Nothing) => expected.alive,
            (Some(State::Calling(id)), Wait::Calling { endpoint, .. })
            | (Some(State::Receiving(id)), Wait::Receiving(endpoint))
            | (Some(State::Listening(id)), Wait::Listening(endpoint)) => {
                id.raw() == self.endpoints[*endpoint]
            }
            (Some(State::Called), Wait::Called) | (Some(State::Sleeping), Wait::Sleeping) => true,
            (Some(State::Waiting(id, mask)), Wait::Bits(notification, wanted)) => {
                id.raw() == self.notifications[*notification] && mask == *wanted
            }
            _ => false,
        };
        assert!(same, "thread {thread} is {state:?}, the model has {:?}", expected.wait);
        let urgency = self.machine.urgency(self.threads[thread]);
        assert_eq!(urgency, expected.alive.then_some(expected.urgency), "the urgency of thread {thread}");
    }

    fn compare_counts(&mut self, model: &Model) {
        for (index, actor) in self.processes.iter().enumerate() {
            let expected = &model.processes[index];
            let look = |process: &mut neuron::object::Process| {
                let account = &process.account;
                assert!(account.populated <= account.reserved && account.reserved <= account.limit);
                (process.table.used, process.table.open_calls)
            };
            // One that has ended stays while somebody has a capability to it, without any of its own.
            let counts = self.machine.with(actor.process, look).filter(|counts| *counts != (0, 0));
            let wanted = expected.alive.then_some((expected.used, expected.open_calls));
            let wanted = wanted.filter(|wanted| *wanted != (0, 0));
            assert_eq!(counts, wanted, "entries and open calls of process {index}");
        }
        let memory = &self.machine.kernel.memory;
        let references = |object| model.references(object) as u32;
        for (index, &raw) in self.endpoints.iter().enumerate() {
            let id = Id::<Endpoint>::from_raw(raw).expect("an id");
            assert_eq!(memory.shared(id).is_some(), model.endpoints[index].alive, "endpoint {index}");
            let expected = if model.endpoints[index].alive { references(Object::Endpoint(index)) } else { 0 };
            assert_eq!(memory.references(id), expected, "references of endpoint {index}");
        }
        for (index, &raw) in self.notifications.iter().enumerate() {
            let id = Id::<Notification>::from_raw(raw).expect("an id");
            let alive = model.notifications[index].alive;
            let expected = if alive { references(Object::Notification(index)) } else { 0 };
            assert_eq!((memory.shared(id).is_some(), memory.references(id)), (alive, expected));
        }
        for (index, &raw) in self.memories.iter().enumerate() {
            let id = Id::<Vmo>::from_raw(raw).expect("an id");
            if memory.shared(id).is_some() {
                assert_eq!(memory.references(id), references(Object::Memory(index)), "memory {index}");
            }
        }
        let frames = self.frames_now();
        assert_eq!(*self.frames.get_or_insert(frames), frames, "a frame was lost or found");
    }

    /// Frames in the pool and in every account.
    fn frames_now(&mut self) -> u64 {
        let counts = self.machine.counts();
        let held: u64 = self
            .processes
            .clone()
            .into_iter()
            .filter_map(|actor| self.machine.with(actor.process, |process| process.account.populated))
            .sum();
        u64::from(counts.free_frames) + counts.populated + held
    }
}

fn seeds() -> impl Strategy<Value = Vec<Seed>> {
    proptest::collection::vec(any::<Seed>(), EVENTS)
}

#[test]
fn the_kernel_does_what_the_model_says() {
    let (kept, steps) = (RefCell::new(None), Cell::new(0));
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    let cases = wanted.unwrap_or(8_000);
    let mut config = ProptestConfig { cases, max_shrink_iters: 100, ..ProptestConfig::default() };
    // The same sequences each time, unless `PROPTEST_RNG_SEED` asks for others.
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = proptest::test_runner::RngSeed::Fixed(1);
    }
    proptest!(config, |(seeds in seeds())| {
        // A machine that a failure left behind is not used again.
        let mut machine = kept.take().unwrap_or_else(|| Machine::with_frames(FRAMES));
        let before = machine.counts();
        let mut lockstep = begin(machine);
        for seed in seeds {
            let happened = lockstep.step(seed).expect("its clock stands still");
            steps.set(steps.get() + u64::from(happened));
        }
        let mut machine = lockstep.end().expect("its clock stands still").machine;
        prop_assert_eq!(machine.counts(), before);
        kept.replace(Some(machine));
    });
    assert!(wanted.is_some() || steps.get() >= 1_000_000, "{} steps were compared", steps.get());
}

/// The sequences that real processes make on the machine, and more of their kind.
#[test]
fn the_kernel_does_what_the_model_says_in_the_machines_sequences() {
    let mut machine = Machine::with_frames(FRAMES);
    let (before, mut events) = (machine.counts(), 0);
    for number in 1..=100 {
        let mut lockstep = begin(machine);
        for seed in sequence(number) {
            events += usize::from(lockstep.step(seed).expect("its clock stands still"));
        }
        machine = lockstep.end().expect("its clock stands still").machine;
        assert_eq!(machine.counts(), before, "after sequence {number}");
    }
    assert!(events > 10_000, "of {} seeds {events} were events", 100 * EVENTS);
}

#[test]
fn every_call_of_the_table_is_in_the_model_or_named_as_left_out() {
    let (mut named, mut table) =
        ([MODELLED, NOT_MODELLED].concat(), SYSTEM_CALLS.iter().map(|entry| entry.call).collect::<Vec<_>>());
    named.sort_by_key(|call| *call as u64);
    table.sort_by_key(|call| *call as u64);
    assert_eq!(named, table);
}
