//! A whole simulated system: the kernel's core, the machine, and the processes that run on it one at a time.
//!
//! [`System::step`] is one turn: the kernel says who runs; who runs goes on to its next system call; then
//! chance may take the turn away before the call is made, or do worse. Time passes by what is done: a call
//! takes [`CALL_TICKS`] and a little more by chance; when nobody can run, the clock jumps to the next event.

use crate::door::{self, Request, Response};
use crate::faults::{DELAY_TICKS_MAX, Faults, Harm, refusal};
use crate::image::{Built, ENTRY_BYTES, device_tree, program_at};
use crate::machine::{Flush, Machine, TICKS_PER_SECOND};
use crate::mutants::{Mutant, Mutations};
use crate::ram::{Ram, Shown, Space};
use crate::random::Random;
use crate::task::{Process, Task};
use crate::trace::Trace;
use crate::traps::{self, Trap};
use anyhow::{Context, Result, anyhow, bail, ensure};
use neuron::fault::Fault;
use neuron::memory::{Id, PhysicalAddress};
use neuron::object;
use neuron::object::thread::Context as ThreadContext;
use neuron::simulation::{self, Simulation};
use nexus_abi::image::INIT;
use nexus_abi::limits::{BACKTRACE_MAX, PAGE_SIZE};
use nexus_abi::message::{Buffers, Header, Registers};
use nexus_abi::records::FaultCause;
use nexus_abi::start_page::StartPage;
use nexus_abi::{Handle, Rights, SystemCall};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use zerocopy::{FromZeros, IntoBytes};

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
/// The numbers of the registers `ra`, `sp`, `s0` and `t5`.
const RETURN_ADDRESS: usize = 1;
const STACK_POINTER: usize = 2;
const FRAME_POINTER: usize = 8;
/// Bytes of a frame: the caller's frame pointer and the return address.
const FRAME_BYTES: u64 = 16;
const DEADLINE: usize = 30;
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
    late: Option<String>,
    digest: u64,
    trace: Option<Trace>,
}

impl System {
    /// Boots a machine up to init's first instruction.
    pub fn boot(built: &Built, setup: &Setup) -> Result<Self> {
        door::open();
        let frames = built.manifest.memory_pages() as usize + FRAMES_BESIDE;
        let mut ram = Ram::take(frames).context("the simulated RAM")?;
        let image_frames = built.image.len().div_ceil(PAGE_SIZE);
        ram.put(frames - image_frames, &built.image);
        let clock = Rc::new(Cell::new(TICKS_AT_BOOT));
        let mut chance = Random::new(setup.seed);
        let machine = Machine::new(clock.clone(), chance.number());
        let lent = simulation::Ram { window: ram.window(), frames, image_frames };
        #[allow(unsafe_code)]
        // SAFETY: `ram` is dropped after the kernel; its other views are the spaces of processes.
        let kernel = unsafe { Simulation::boot(machine, lent, &device_tree()?, &setup.arguments) };
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
        if let Some(asked) = task.asked {
            let gone = "a thread that is gone goes on";
            if self.mutations.after(&mut self.kernel, thread, process.name == INIT, asked) {
                self.kernel.context(thread, |context| ask(asked, context)).context(gone)?;
                return Ok(());
            }
            response = self.kernel.context(thread, |context| answer(asked, context)).context(gone)?;
            let now = self.clock.get();
            self.digest = digest(self.digest, process.number, &response, now);
            if overdue(asked, now) {
                self.late = Some(format!("a call of {} ended after its deadline", process.name));
            }
            if let Some(trace) = &mut self.trace {
                trace.answered(now, process.number, asked, &response);
            }
        }
        loop {
            let request = task.resume(process, response);
            task.asked = Some(request);
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
                    self.kernel.fault(Fault { cause: FaultCause::Breakpoint, detail: 3, address: 0 });
                    return Ok(());
                }
                Request::Trap(trap) => return self.trap(thread, id, trap),
            }
        }
    }

    /// The processor refused what the running thread did.
    fn trap(&mut self, thread: ThreadId, id: ProcessId, trap: Trap) -> Result<()> {
        let (jumped_from, frames) = self.frames(id, &trap);
        let stack = self.stack(id, trap.stack);
        // Frames as the machine's code makes them, where the thread's stack was: nobody needs that any more.
        let mut place = stack;
        for (number, return_address) in frames.iter().enumerate() {
            let caller = if number + 1 < frames.len() { place + 2 * FRAME_BYTES } else { 0 };
            let written = self.kernel.write(id, place, [caller, *return_address].as_bytes());
            written.map_err(|error| anyhow!("the frames of a fault: {error}"))?;
            place += FRAME_BYTES;
        }
        self.kernel.context(thread, |context| {
            context.set_program_counter(trap.program_counter);
            context.registers[RETURN_ADDRESS] = jumped_from;
            context.registers[STACK_POINTER] = trap.stack;
            context.registers[FRAME_POINTER] = if frames.is_empty() { 0 } else { stack + FRAME_BYTES };
        });
        self.kernel.fault(Fault { cause: trap.cause, detail: 0, address: trap.address });
        let ended = self.kernel.identity(id).is_none_or(|identity| identity.ended);
        ensure!(ended, "the kernel's tables hold {:#x}, which the process could not reach", trap.address);
        Ok(())
    }

    /// What stands on top of a stack, for who jumped from there, and the return addresses of its frames.
    fn frames(&mut self, id: ProcessId, trap: &Trap) -> (u64, Vec<u64>) {
        let mut words = [0u64; 2];
        let base = self.processes.get(&id.raw()).map_or(0, |process| process.space.base());
        let top = self.kernel.read(id, trap.stack, words[..1].as_mut_bytes());
        let jumped = trap.cause == FaultCause::ExecuteFault && top.is_ok();
        let jumped_from = if jumped { traps::told(words[0]) } else { 0 };
        let mut frames = Vec::new();
        let mut frame = trap.frame;
        while frames.len() < BACKTRACE_MAX && self.kernel.read(id, frame, words.as_mut_bytes()).is_ok() {
            if traps::told(words[1]) == words[1] {
                break;
            }
            frames.push(traps::told(words[1]));
            frame = words[0].wrapping_sub(base);
        }
        (jumped_from, frames)
    }

    /// The lowest address of the stack that an address lies in, or below.
    fn stack(&mut self, id: ProcessId, address: u64) -> u64 {
        let regions = self.kernel.regions(id);
        let above = regions.iter().find(|region| address < region.base + region.bytes);
        above.map_or(0, |region| region.base)
    }

    /// Gives a thread that never ran its stack and its program.
    fn begin(&mut self, thread: ThreadId, id: ProcessId) -> Result<()> {
        let begins = self.kernel.context(thread, |context| {
            (context.program_counter(), context.registers[STACK_POINTER], context.argument(0))
        });
        let (entry, stack, argument) = begins.context("a thread that is gone begins")?;
        if !self.processes.contains_key(&id.raw()) {
            let mut bytes = [0; ENTRY_BYTES];
            self.kernel.read(id, entry, &mut bytes).map_err(|error| anyhow!("the entry: {error}"))?;
            let program = program_at(&bytes).context("no program stands at an entry")?;
            let mut page = StartPage::new_zeroed();
            let read = self.kernel.read(id, argument, page.as_mut_bytes());
            read.map_err(|error| anyhow!("the start page of {}: {error}", program.0))?;
            let identity = self.kernel.identity(id).context("a process that is gone begins")?;
            let space = Space::new().context("a space")?;
            let process = Process::new(program, space, identity.process_id, identity.asid, page);
            self.processes.insert(id.raw(), process);
        }
        self.fill(id)?;
        let regions = self.kernel.regions(id);
        let holds =
            |region: &&simulation::Region| (region.base..region.base + region.bytes).contains(&(stack - 1));
        let limit = regions.iter().find(holds).context("a thread without a stack")?.base;
        let process = self.processes.get(&id.raw()).context("a process that never began")?;
        let task = Task::new(process, (limit, stack), self.clock.clone())?;
        self.tasks.insert(thread.raw(), task);
        Ok(())
    }

    /// Brings a process's space up to what the kernel's tables promise.
    fn fill(&mut self, id: ProcessId) -> Result<()> {
        let Some(process) = self.processes.get_mut(&id.raw()) else { return Ok(()) };
        if !std::mem::take(&mut process.stale) {
            return Ok(());
        }
        for region in self.kernel.regions(id) {
            // Code is the host's own.
            if !region.rights.contains(Rights::READ) {
                continue;
            }
            let writable = region.rights.contains(Rights::WRITE);
            let mut run: Option<(u64, u64, PhysicalAddress)> = None;
            for page in (region.base..region.base + region.bytes).step_by(PAGE_SIZE) {
                if process.space.has(page) {
                    continue;
                }
                let place = self.kernel.page(id, page, Rights::READ).map_err(|error| anyhow!("{error}"))?;
                if region.registers {
                    if Machine::is_plain(place.0) {
                        process.space.show(&self.ram, page, 1, Shown::Registers, writable)?;
                    }
                    continue;
                }
                run = match run {
                    Some((base, count, first))
                        if base + count * PAGE == page && first.0 + count * PAGE == place.0 =>
                    {
                        Some((base, count + 1, first))
                    }
                    other => {
                        show(&mut process.space, &self.ram, other, writable)?;
                        Some((page, 1, place))
                    }
                };
            }
            show(&mut process.space, &self.ram, run, writable)?;
        }
        Ok(())
    }

    /// Forgets what the kernel said is to be forgotten, and whoever has ended.
    fn flush(&mut self) -> Result<()> {
        for flush in self.kernel.arch().take_flushes() {
            let (Flush::Page(asid, _) | Flush::Space(asid)) = flush;
            let Some(process) = self.processes.values_mut().find(|process| process.asid == asid) else {
                continue;
            };
            process.stale = true;
            match flush {
                Flush::Page(_, page) => process.space.flush(page)?,
                Flush::Space(_) => process.space.flush_all()?,
            }
        }
        let kernel = &mut self.kernel;
        self.tasks.retain(|&raw, _| {
            let process = ThreadId::from_raw(raw).and_then(|thread| kernel.process_of(thread));
            process.and_then(|process| kernel.identity(process)).is_some_and(|identity| !identity.ended)
        });
        let deaths = &mut self.deaths;
        self.processes.retain(|&raw, process| {
            let Some(id) = ProcessId::from_raw(raw) else { return false };
            let alive = kernel.identity(id).is_some_and(|identity| !identity.ended);
            if !alive {
                let status = kernel.status(id).unwrap_or_default();
                let (state, exit_code) = (status.state, status.exit_code);
                let (service, number) = (process.name.clone(), process.number);
                deaths.push(Death { service, number, state, exit_code });
            }
            alive
        });
        Ok(())
    }

    /// Takes what the machine put on the terminal.
    fn listen(&mut self) {
        let machine = self.kernel.arch();
        let printed = std::mem::take(&mut *machine.printed.borrow_mut());
        self.console.extend(printed.as_bytes());
        self.console.extend(machine.uart.borrow_mut().take_sent());
    }
}

fn show(
    space: &mut Space,
    ram: &Ram,
    run: Option<(u64, u64, PhysicalAddress)>,
    writable: bool,
) -> Result<()> {
    let Some((page, count, place)) = run else { return Ok(()) };
    space.show(ram, page, count, Shown::Memory(place), writable).context("memory of a process")
}

/// Puts a call into a thread's registers, as the program's code does on the machine.
fn ask(request: Request, context: &mut ThreadContext) {
    let (call, arguments) = match request {
        Request::Plain(call, arguments) => (call, arguments),
        Request::Message(call, registers) => {
            context.set_words(registers.words);
            context.registers[DEADLINE] = registers.deadline;
            (call, [registers.target, registers.header.0, registers.reply.0, registers.buffers, 0, 0])
        }
        _ => return,
    };
    let count = if matches!(request, Request::Message(..)) { 4 } else { 6 };
    for (place, argument) in arguments.into_iter().enumerate().take(count) {
        context.set_argument(place, argument);
    }
    context.set_argument(7, call as u64);
    context.set_program_counter(BEFORE_CALL);
}

/// Answers a call as the kernel would that refuses it.
pub(crate) fn answer_with(context: &mut ThreadContext, error: u64) {
    context.set_argument(0, error);
    context.set_argument(1, 0);
    context.set_program_counter(BEFORE_CALL + 4);
}

/// Takes a call's answer out of a thread's registers.
fn answer(asked: Request, context: &mut ThreadContext) -> Response {
    match asked {
        Request::Message(..) => Response::Message(Registers {
            target: context.argument(0),
            header: Header(context.argument(1)),
            reply: Handle(context.argument(2)),
            buffers: context.argument(3),
            words: context.words(),
            deadline: context.registers[DEADLINE],
            process_id: context.registers[DEADLINE + 1],
        }),
        _ => Response::Plain(context.argument(0), context.argument(1)),
    }
}

/// Whether a call comes back much later than it said it would wait.
fn overdue(asked: Request, now: u64) -> bool {
    let Request::Message(SystemCall::Call, registers) = asked else { return false };
    now > registers.deadline.saturating_add(LATE_TICKS)
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
