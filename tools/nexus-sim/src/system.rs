//! A whole simulated system: the kernel's core, the machine, and the processes that run on it one at a time.
//!
//! [`System::step`] is one turn: the kernel says who runs; who runs goes on to its next system call; then
//! chance may take the turn away before the call is made, or do worse. Time passes by what is done: a call
//! takes [`CALL_TICKS`] and a little more by chance; when nobody can run, the clock jumps to the next event.

mod registers;
mod spaces;
mod trap;

use crate::block::Disk;
use crate::door::{self, Request, Response};
use crate::entropy::DeviceRam;
use crate::faults::{DELAY_TICKS_MAX, Faults, Harm, refusal};
use crate::image::{Built, device_tree};
use crate::machine::{Machine, TICKS_PER_SECOND};
use crate::mutants::{Mutant, Mutations};
use crate::ram::Ram;
use crate::random::Random;
use crate::task::{Process, Task};
use crate::trace::Trace;
use anyhow::{Context, Result, anyhow, bail};
use identity::ROOT_SECRET_BYTES;
use neuron::fault::Fault;
use neuron::memory::Id;
use neuron::object;
use neuron::simulation::{self, Simulation};
use nexus_abi::image::INIT;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::message::{Buffers, Header};
use nexus_abi::records::FaultCause;
use nexus_abi::{Error, Rights, SystemCall};
pub(crate) use registers::answer_with;
use registers::{answer, ask};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use zerocopy::IntoBytes;

/// Ticks that a system call takes.
pub const CALL_TICKS: u64 = 10;
/// Frames of the simulated RAM beside those that the manifest promises: for the kernel's tables, the image
/// and init.
const FRAMES_BESIDE: usize = 1536;
/// Ticks of a thread's turn.
const TURN_TICKS: u64 = TICKS_PER_SECOND / 200;
/// A call may come back so much later than its deadline, for others may run first: a second.
const LATE_TICKS: u64 = TICKS_PER_SECOND;
/// The exit code of a process that was harmed.
pub const HARM_CODE: u64 = 0x6861_726d;
/// The clock when the machine is switched on.
const TICKS_AT_BOOT: u64 = 1_000_000;
const PAGE: u64 = PAGE_SIZE as u64;
/// The program counter of a thread that has yet to make its call; behind the call it is 4 more.
const BEFORE_CALL: u64 = 0x1_0800;

type ProcessId = Id<object::Process>;
type ThreadId = Id<object::Thread>;

/// How a system is set up.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The boot arguments.
    pub arguments: String,
    /// Decides everything that chance decides.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// A bug that is planted.
    pub mutant: Option<Mutant>,
    /// Whether the machine lacks the entropy device and the disk.
    pub is_bare: bool,
    /// Its disk, which it shares with whoever boots from it next.
    pub disk: Disk,
    /// The secret of its board, if that has one.
    pub secret: Option<[u8; ROOT_SECRET_BYTES]>,
    /// Whether a trace is kept.
    pub trace: bool,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Somebody did something.
    Went,
    /// Nobody can do anything before this time; `None`: ever again, unless somebody types.
    Sleeps(Option<u64>),
    /// The machine was reset (`true`) or powered off.
    Reset(bool),
}

/// A process that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Its service.
    pub service: String,
    /// Its number in this boot.
    pub number: u64,
    /// One of the `STATE_` constants of the ABI.
    pub state: u32,
    /// What it or its killer said.
    pub exit_code: u64,
}

/// The system.
pub struct System {
    // Tasks and processes go before the memory that they run in.
    tasks: BTreeMap<u64, Task>,
    processes: BTreeMap<u64, Process>,
    kernel: Simulation<Machine>,
    ram: Ram,
    clock: Rc<Cell<u64>>,
    chance: Random,
    /// What goes wrong from here on.
    pub faults: Faults,
    mutations: Mutations,
    console: Vec<u8>,
    deaths: Vec<Death>,
    harmed: BTreeMap<u64, Harm>,
    /// The service that hangs at its next call of this kind.
    to_hang: Option<(&'static str, SystemCall)>,
    /// The process that computes for ever.
    hangs: Option<u64>,
    late: Option<String>,
    digest: u64,
    trace: Option<Trace>,
}

impl System {
    /// Boots a machine up to init's first instruction.
    pub fn boot(built: &Built, setup: &Setup) -> Result<Self> {
        door::open();
        let frames = built.manifest.memory_pages(|_| true) as usize + FRAMES_BESIDE;
        let mut ram = Ram::take(frames).context("the simulated RAM")?;
        let image_frames = built.image.len().div_ceil(PAGE_SIZE);
        ram.put(frames - image_frames, &built.image);
        let clock = Rc::new(Cell::new(TICKS_AT_BOOT));
        let mut chance = Random::new(setup.seed);
        #[allow(unsafe_code)]
        // SAFETY: `ram` is dropped after the kernel, of which the machine is a part.
        let device_ram = unsafe { DeviceRam::new(ram.window(), frames as u64 * PAGE) };
        let disk = setup.disk.clone();
        let machine = Machine::new(clock.clone(), chance.number(), device_ram, disk, setup.secret);
        machine.block.borrow_mut().forgets_flushes = setup.mutant == Some(Mutant::ForgottenFlush);
        let tree = device_tree(setup.is_bare)?;
        let arguments = format!("{}{}", setup.arguments, setup.mutant.map_or("", Mutant::argument));
        let lent = simulation::Ram { window: ram.window(), frames, image_frames };
        #[allow(unsafe_code)]
        // SAFETY: `ram` is dropped after the kernel; its other views are the spaces of processes.
        let kernel = unsafe { Simulation::boot(machine, lent, &tree, &arguments) };
        Ok(System {
            tasks: BTreeMap::new(),
            processes: BTreeMap::new(),
            kernel: kernel.map_err(|error| anyhow!("{error}"))?,
            ram,
            clock,
            chance,
            faults: setup.faults.clone(),
            mutations: Mutations::new(setup.mutant),
            console: Vec::new(),
            deaths: Vec::new(),
            harmed: BTreeMap::new(),
            to_hang: None,
            hangs: None,
            late: None,
            digest: 0,
            trace: setup.trace.then(Trace::default),
        })
    }

    /// The clock, in ticks.
    pub fn now(&self) -> u64 {
        self.clock.get()
    }

    /// Types at the terminal.
    pub fn type_bytes(&mut self, bytes: &[u8]) {
        self.kernel.arch().uart.borrow_mut().type_bytes(bytes, self.clock.get());
    }

    /// Who died so far.
    pub fn deaths(&self) -> &[Death] {
        &self.deaths
    }

    /// What was done to whom, by number.
    pub fn harmed(&self) -> &BTreeMap<u64, Harm> {
        &self.harmed
    }

    /// Ends a service's process, as somebody who manages it could; yields whether it was there.
    pub fn kill(&mut self, service: &str) -> bool {
        let found = self.processes.iter().find(|(_, process)| process.name == service);
        let Some((id, number)) = found.and_then(|(&raw, p)| Some((ProcessId::from_raw(raw)?, p.number)))
        else {
            return false;
        };
        self.harmed.insert(number, Harm::Kill);
        self.kernel.kill(id, HARM_CODE);
        true
    }

    /// A number that two runs share only if they went the same way.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The kernel, to look at.
    pub fn kernel(&mut self) -> &mut Simulation<Machine> {
        &mut self.kernel
    }

    /// The trace so far, if one is kept.
    pub fn trace(&self) -> Option<&Trace> {
        self.trace.as_ref()
    }

    /// The threads that live, for whoever looks at what they wait for.
    pub fn threads(&self) -> impl Iterator<Item = ThreadId> {
        self.tasks.keys().filter_map(|&raw| ThreadId::from_raw(raw))
    }

    /// The bytes that stand on the terminal.
    pub fn console_bytes(&self) -> &[u8] {
        &self.console
    }

    /// Everything that stands on the terminal.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console).into_owned()
    }

    /// Has a service compute for ever in the place of its next call of this kind.
    pub fn hang_at(&mut self, service: &'static str, call: SystemCall) {
        self.to_hang = Some((service, call));
    }

    /// One turn.
    pub fn step(&mut self) -> Result<Turn> {
        self.kernel.arch().hurry.set(self.faults.rates.hurry);
        self.kernel.take_interrupts();
        let turn = match self.kernel.choose() {
            Some(thread) => {
                if self.program_counter(thread)? == BEFORE_CALL {
                    self.call(thread)?;
                } else {
                    self.go_on(thread)?;
                    self.interrupt();
                }
                Turn::Went
            }
            None => Turn::Sleeps(self.kernel.arch().next_event()),
        };
        self.flush()?;
        self.listen();
        if let Some(late) = self.late.take() {
            bail!(late);
        }
        Ok(self.kernel.arch().reset.get().map_or(turn, Turn::Reset))
    }

    /// Lets time pass up to the next event, when a turn said that everybody sleeps.
    pub fn sleep(&mut self) {
        self.kernel.idle();
    }

    /// Lets time pass up to a moment.
    pub fn advance_to(&mut self, ticks: u64) {
        self.clock.set(self.clock.get().max(ticks));
    }

    /// By chance the turn ends, or time passes, before the running thread makes its call.
    fn interrupt(&mut self) {
        let rates = self.faults.rates;
        if self.chance.once_in(rates.preempt) {
            self.clock.set(self.clock.get() + TURN_TICKS);
        }
        if self.chance.once_in(rates.delay) {
            self.clock.set(self.clock.get() + TURN_TICKS + self.chance.below(DELAY_TICKS_MAX));
        }
    }

    fn program_counter(&mut self, thread: ThreadId) -> Result<u64> {
        self.kernel.context(thread, |context| context.program_counter()).context("a thread that is gone runs")
    }

    /// The running thread makes its call, if nothing comes between.
    fn call(&mut self, thread: ThreadId) -> Result<()> {
        self.clock.set(self.clock.get() + CALL_TICKS + self.chance.below(CALL_TICKS));
        let (number, handle) = self
            .kernel
            .context(thread, |context| (context.argument(7), context.argument(0)))
            .context("a thread that is gone makes a call")?;
        let caller = self.kernel.process_of(thread).context("a thread without a process")?;
        let call = SystemCall::from_number(number).context("a call that does not exist")?;
        let process = self.processes.get_mut(&caller.raw()).context("a process that never began")?;
        let (is_init, pid) = (process.name == INIT, process.number);
        if self.to_hang.take_if(|(name, kind)| process.name == *name && call == *kind).is_some() {
            self.hangs = Some(pid);
            // Whoever misses it ends it.
            self.harmed.insert(pid, Harm::Kill);
        }
        if self.hangs == Some(pid) {
            self.clock.set(self.clock.get() + TURN_TICKS);
            return Ok(());
        }
        if let Some(harm) = (!is_init).then(|| self.faults.due(call)).flatten() {
            self.harmed.insert(pid, harm);
            if let Some(trace) = &mut self.trace {
                trace.instant(self.clock.get(), pid, &format!("{harm:?}"));
            }
            match harm {
                Harm::Kill => {
                    self.kernel.kill(caller, HARM_CODE);
                    return Ok(());
                }
                Harm::Refuse => {
                    let error = refusal(call).map_or(0, |error| error as u64);
                    self.kernel.context(thread, |context| answer_with(context, error));
                    return Ok(());
                }
                Harm::Corrupt => self.corrupt(thread, caller),
            }
        }
        if self.mutations.before(&mut self.kernel, thread, caller, is_init, call) {
            return Ok(());
        }
        let mapped = match call {
            SystemCall::VmoMap | SystemCall::VmoProtect => self.kernel.named(caller, handle),
            SystemCall::MmioMap => Some(caller),
            _ => None,
        };
        self.kernel.system_call();
        if let Some(process) = mapped.and_then(|process| self.processes.get_mut(&process.raw())) {
            process.stale = true;
        }
        Ok(())
    }

    /// Flips some bits of what a message call sends.
    fn corrupt(&mut self, thread: ThreadId, caller: ProcessId) {
        let Some((header, buffers, mut words)) = self
            .kernel
            .context(thread, |context| (Header(context.argument(1)), context.argument(3), context.words()))
        else {
            return;
        };
        let flips = 1 + self.chance.below(4);
        for _ in 0..flips {
            let (place, bit) = (self.chance.below(header.bytes().max(1) as u64), self.chance.below(8));
            if header.bytes() <= words.as_bytes().len() {
                words.as_mut_bytes()[place as usize] ^= 1 << bit;
                continue;
            }
            let mut whole = Buffers::default();
            let mut byte = [0];
            if self.kernel.read(caller, buffers, whole.as_mut_bytes()).is_ok()
                && self.kernel.read(caller, whole.send_address + place, &mut byte).is_ok()
            {
                byte[0] ^= 1 << bit;
                // What cannot be written is sent as it was.
                let _ = self.kernel.write(caller, whole.send_address + place, &byte);
            }
        }
        self.kernel.context(thread, |context| context.set_words(words));
    }

    /// The running thread goes on from the answer to its last call to its next one.
    fn go_on(&mut self, thread: ThreadId) -> Result<()> {
        let id = self.kernel.process_of(thread).context("a thread without a process")?;
        if !self.tasks.contains_key(&thread.raw()) {
            self.begin(thread, id)?;
        }
        self.fill(id)?;
        let (Some(task), Some(process)) =
            (self.tasks.get_mut(&thread.raw()), self.processes.get_mut(&id.raw()))
        else {
            bail!("a thread that never began goes on");
        };
        let mut response = Response::Go;
        if let Some((asked, began)) = task.asked {
            let gone = "a thread that is gone goes on";
            if self.mutations.after(&mut self.kernel, thread, process.name == INIT, asked) {
                self.kernel.context(thread, |context| ask(asked, context)).context(gone)?;
                return Ok(());
            }
            response = self.kernel.context(thread, |context| answer(asked, context)).context(gone)?;
            let now = self.clock.get();
            self.digest = digest(self.digest, process.number, &response, now);
            if let Some(what) = untimely(asked, began, &response, now) {
                self.late = Some(format!("a call of {} {what}", process.name));
            }
            if let Some(trace) = &mut self.trace {
                trace.answered(now, process.number, asked, &response);
            }
        }
        loop {
            let request = task.resume(process, response);
            task.asked = Some((request, self.clock.get()));
            match request {
                Request::Load(address, _) => {
                    let place = self.kernel.page(id, address, Rights::READ).map_err(|e| anyhow!("{e}"))?;
                    let place = place.0 + address % PAGE;
                    response = Response::Loaded(self.kernel.arch().load(place));
                }
                Request::Store(address, _, value) => {
                    let place = self.kernel.page(id, address, Rights::WRITE).map_err(|e| anyhow!("{e}"))?;
                    self.kernel.arch().store(place.0 + address % PAGE, value);
                    response = Response::Go;
                }
                Request::Plain(..) | Request::Message(..) => {
                    if let Some(trace) = &mut self.trace {
                        trace.asked(self.clock.get(), process.number, &process.name, request);
                    }
                    let put = self.kernel.context(thread, |context| ask(request, context));
                    return put.context("a thread that is gone asks");
                }
                Request::Breakpoint => {
                    self.kernel.fault(Fault {
                        cause: FaultCause::Breakpoint,
                        detail: 3,
                        address: 0,
                        is_of_a_page: false,
                    });
                    return Ok(());
                }
                Request::Trap(trap) => return self.trap(thread, id, trap),
            }
        }
    }

    /// Takes what the machine put on the terminal.
    fn listen(&mut self) {
        let machine = self.kernel.arch();
        let printed = std::mem::take(&mut *machine.printed.borrow_mut());
        self.console.extend(printed.as_bytes());
        self.console.extend(machine.uart.borrow_mut().take_sent());
    }
}

/// What is wrong with the moment at which a call comes back.
fn untimely(asked: Request, began: u64, response: &Response, now: u64) -> Option<&'static str> {
    let (Request::Message(SystemCall::Call, sent), Response::Message(came)) = (asked, response) else {
        return None;
    };
    if now > sent.deadline.max(began).saturating_add(LATE_TICKS) {
        Some("ended after its deadline")
    } else if came.target == Error::TimedOut as u64 && now < sent.deadline {
        Some("timed out before its deadline")
    } else {
        None
    }
}

/// Takes one more answer into account: FNV-1a over what makes two runs one.
fn digest(before: u64, process: u64, response: &Response, now: u64) -> u64 {
    let (first, second) = match response {
        Response::Plain(error, value) => (*error, *value),
        Response::Message(registers) => (registers.target, registers.header.0),
        _ => (0, 0),
    };
    let words = [process, first, second, now];
    words.into_iter().fold(before, |digest, word| (digest ^ word).wrapping_mul(0x0000_0100_0000_01b3))
}
