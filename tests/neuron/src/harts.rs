//! The same world on several harts: the kernel chooses who runs, and each hart lets whom it runs make random calls.
//!
//! What a seed decides is what each hart draws; in which order harts meet is the computer's choice, so a failure need
//! not come again at once. Between two rounds every hart stands still and the kernel is audited.

use crate::world::{PLACES, World, draw_call};
use neuron::object::thread::Context;
use neuron::testing::{Actor, Machine};
use nexus_abi::calls::{SYSTEM_CALLS, Specification};
use nexus_abi::grammar::{Caller, Known, LEASES_OFFSET, Random};
use nexus_abi::limits::{FOREVER, HARTS_MAX};
use nexus_abi::message::{Arrival, Header, Registers};
use nexus_abi::{Error, Handle, Kind, SystemCall};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use zerocopy::IntoBytes;

/// Calls that a hart makes in a round.
const CALLS_A_ROUND: u64 = 4_000;
/// Ticks that a call waits at the most: who waits for ever makes no more calls.
const PATIENCE: u64 = 1 << 13;
/// Frames of the machine.
const FRAMES: usize = 4096;

/// What harts share beside the kernel.
struct Shared {
    world: Mutex<World>,
    known: Mutex<BTreeMap<u64, Vec<Known>>>,
    /// By thread: where it made its last call, and which.
    begun: Mutex<BTreeMap<u64, (u64, &'static Specification)>>,
    processes_end: AtomicU64,
    calls: AtomicU64,
    answered: AtomicU64,
    fast: AtomicU64,
}

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Calls.
    pub calls: u64,
    /// Of these, answered without an error.
    pub answered: u64,
    /// Messages that went the fast path.
    pub fast: u64,
    /// Threads that a hart took over from another.
    pub stolen: u64,
}

impl Made {
    /// Adds what another seed made.
    pub fn add(&mut self, other: &Made) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.fast += other.fast;
        self.stolen += other.stolen;
    }
}

/// Lets so many harts make so many calls each, and audits the kernel again and again. Panics, and so ends the program,
/// at the first thing that is wrong.
pub fn run_side_by_side(seed: u64, harts: usize, calls_a_hart: u64) -> Made {
    let mut machine = Machine::with_harts(FRAMES, harts);
    let before = machine.counts();
    let kernel = machine.kernel;
    // The world lives on whichever hart looks at it; meanwhile on one that nobody starts.
    let mut world = World::of_several_harts(machine, seed);
    machine = world.take_machine(Machine::hart_of(kernel, HARTS_MAX - 1));
    let shared = Shared {
        world: Mutex::new(world),
        known: Mutex::default(),
        begun: Mutex::default(),
        processes_end: AtomicU64::new(0),
        calls: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        fast: AtomicU64::new(0),
    };
    let mut done = 0;
    while done < calls_a_hart {
        let round = CALLS_A_ROUND.min(calls_a_hart - done);
        machine.go_out();
        std::thread::scope(|scope| {
            for index in 1..harts {
                let shared = &shared;
                scope.spawn(move || {
                    let mut hart = Machine::hart_of(kernel, index);
                    HartOfWorld::new(&mut hart, shared, seed ^ done).makes(round);
                });
            }
            HartOfWorld::new(&mut machine, &shared, seed ^ done).makes(round);
        });
        done += round;
        machine.come_in();
        machine.set_begun(locked(&shared.begun).iter().map(|(&thread, &(at, _))| (thread, at)).collect());
        machine.audit();
    }
    let stolen = kernel.harts.iter().map(|hart| hart.stolen.load(Relaxed)).sum();
    for process in machine.processes().into_iter().skip(1) {
        machine.kill(process);
    }
    machine.settle();
    assert_eq!(machine.counts().with_the_lost(), before, "with nobody left");
    Made {
        calls: shared.calls.load(Relaxed),
        answered: shared.answered.load(Relaxed),
        fast: shared.fast.load(Relaxed),
        stolen,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One hart, and what it draws.
struct HartOfWorld<'a> {
    machine: &'a mut Machine,
    shared: &'a Shared,
    random: Random,
}

/// Ends the program when a hart dies: the others would wait for it for ever.
struct Ends;

impl Drop for Ends {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::exit(101);
        }
    }
}

impl<'a> HartOfWorld<'a> {
    fn new(machine: &'a mut Machine, shared: &'a Shared, seed: u64) -> Self {
        let random = Random::new(seed.wrapping_mul(31).wrapping_add(machine.hart.index as u64 + 1));
        HartOfWorld { machine, shared, random }
    }

    /// So many calls of whoever runs here.
    fn makes(&mut self, calls: u64) {
        let _ends = Ends;
        let (mut left, before) = (calls, self.machine.fast_messages());
        while left > 0 {
            if self.random.one_in(64) {
                self.look();
            }
            if !self.machine.go_on() {
                self.look();
                left -= 1;
                continue;
            }
            if let Some(actor) = self.machine.current() {
                self.call(actor);
                left -= 1;
            }
        }
        self.machine.stop();
        self.machine.go_out();
        self.shared.fast.fetch_add(self.machine.fast_messages() - before, Relaxed);
    }

    /// Alone in the kernel: the world sees to it that there is enough to do.
    fn look(&mut self) {
        let mut world = locked(&self.shared.world);
        self.machine.stop();
        let (known, processes_end) = world.look_by(self.machine);
        self.machine.go_out();
        self.shared.processes_end.store(processes_end, Relaxed);
        *locked(&self.shared.known) = known;
    }

    /// The thread that runs here goes on with its call, or makes another.
    fn call(&mut self, actor: Actor) {
        let thread = actor.thread.raw();
        let seen = self.machine.with_context(|context| (context.program_counter(), context.argument(0)));
        let Some((at, error)) = seen else { return };
        let begun = locked(&self.shared.begun).get(&thread).copied();
        if let Some((from, call)) = begun {
            if at == from {
                return self.machine.enter();
            }
            self.judge(call, error);
        }
        let known = locked(&self.shared.known).get(&actor.process.raw()).cloned().unwrap_or_default();
        if self.random.one_in(2)
            && let Some((call, registers)) = self.short_message(&known)
        {
            return self.make(thread, at, call, |context| context.set_message(&registers));
        }
        let call = draw_call(&mut self.random, &known);
        let caller = Caller {
            places: &PLACES,
            known: &known,
            guess_from: 0,
            processes_end: self.shared.processes_end.load(Relaxed),
            now: self.machine.now(),
            patience: if self.random.one_in(4) { PATIENCE } else { FOREVER },
        };
        let mut arguments = caller.arguments(&mut self.random, call);
        if call.call == SystemCall::DeviceCapCreate {
            // What a device may still write is lost with its owner.
            arguments[3] = 0;
        }
        let (registers, buffers) = caller.message(&mut self.random, arguments);
        if self.random.one_in(2) {
            let leases = caller.leases(&mut self.random);
            let parameters = caller.parameters(&mut self.random);
            let buffers = if call.message { buffers.as_bytes() } else { parameters.as_bytes() };
            self.machine.come_in();
            // Its memory may be gone: then the call finds that too.
            let _ = self.machine.try_put(actor, PLACES.arena, buffers);
            let _ = self.machine.try_put(actor, PLACES.arena + LEASES_OFFSET, leases.as_bytes());
            self.machine.go_out();
            if self.machine.current() != Some(actor) {
                return;
            }
        }
        self.make(thread, at, call, |context| {
            context.set_message(&registers);
            if !call.message {
                arguments.iter().enumerate().for_each(|(place, &value)| context.set_argument(place, value));
                context.set_argument(6, 0);
                context.set_sender(FOREVER, 0);
            }
        });
    }

    /// A thread's registers become those of a call, and it makes it.
    fn make(
        &mut self,
        thread: u64,
        at: u64,
        call: &'static Specification,
        registers: impl FnOnce(&mut Context),
    ) {
        self.shared.calls.fetch_add(1, Relaxed);
        locked(&self.shared.begun).insert(thread, (at, call));
        self.machine.with_context(|context| {
            registers(context);
            context.set_argument(7, call.call as u64);
        });
        self.machine.enter();
    }

    /// A message that fits registers and waits for ever: what goes the fast path, if somebody is there. Who owes an
    /// answer gives it and receives.
    fn short_message(&mut self, known: &[Known]) -> Option<(&'static Specification, Registers)> {
        let endpoints: Vec<Known> = known.iter().copied().filter(|one| one.kind == Kind::Endpoint).collect();
        let target = self.random.one_of(&endpoints)?.handle.0;
        let came = self.machine.with_context(|context| context.message())?;
        let is_call =
            came.target == 0 && came.header.arrival() == Some(Arrival::Call) && !came.reply.is_none();
        let (call, reply) = match self.random.below(4) {
            _ if is_call => (SystemCall::ReplyReceive, came.reply),
            0 => (SystemCall::ReplyReceive, Handle::NONE),
            _ => (SystemCall::Call, Handle::NONE),
        };
        let header = Header::new(1, self.random.below(65) as u32, 0);
        let registers = Registers { target, header, reply, deadline: FOREVER, ..Registers::default() };
        Some((&SYSTEM_CALLS[call as usize - 1], registers))
    }

    /// An answer must be one that the table names.
    fn judge(&self, call: &'static Specification, error: u64) {
        let Some(error) = Error::from_number(error) else {
            assert_eq!(error, 0, "{} answered a number that no error has", call.name);
            self.shared.answered.fetch_add(1, Relaxed);
            return;
        };
        let named = call.errors.iter().any(|(named, _)| *named == error);
        assert!(named, "{} answered {error}, which its entry does not name", call.name);
    }
}
