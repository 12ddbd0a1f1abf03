//! A whole simulated system: the kernel's core, the machine, and the processes that run on it one at a time.
//!
//! [`System::step`] is one turn: the kernel says who runs; who runs goes on to its next system call; then
//! chance may take the turn away before the call is made. Time passes by what is done: a call takes
//! [`CALL_TICKS`] and a little more by chance, and when nobody can run the clock jumps to the next event.

use crate::door::{self, Request, Response};
use crate::image::{Built, ENTRY_BYTES, device_tree, program_at};
use crate::machine::{Flush, Machine};
use crate::ram::{Ram, Shown, Space};
use crate::random::Random;
use crate::task::{Process, Task};
use anyhow::{Context, Result, anyhow, bail};
use neuron::fault::Fault;
use neuron::memory::{Id, PhysicalAddress};
use neuron::object;
use neuron::object::thread::Context as ThreadContext;
use neuron::simulation::{self, Simulation};
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::message::{Header, Registers};
use nexus_abi::records::FaultCause;
use nexus_abi::start_page::StartPage;
use nexus_abi::{Handle, Rights, SystemCall};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use zerocopy::{FromZeros, IntoBytes};

/// Ticks that a system call takes.
pub const CALL_TICKS: u64 = 10;
/// Frames of the simulated RAM: 32 MiB.
const FRAMES: usize = 8192;
/// The clock when the machine is switched on.
const TICKS_AT_BOOT: u64 = 1_000_000;
const PAGE: u64 = PAGE_SIZE as u64;
/// The numbers of the registers `sp` and `t5`.
const STACK_POINTER: usize = 2;
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
    /// A long copy finds an interrupt pending once in so many times.
    pub hurry: u64,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Somebody did something, or time passed.
    Went,
    /// Nothing will ever happen again unless somebody types.
    Idle,
    /// The machine was reset (`true`) or powered off.
    Reset(bool),
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
    setup: Setup,
    console: Vec<u8>,
}

impl System {
    /// Boots a machine up to init's first instruction.
    pub fn boot(built: &Built, setup: &Setup) -> Result<Self> {
        door::open();
        let mut ram = Ram::new(FRAMES).context("the simulated RAM")?;
        let image_frames = built.image.len().div_ceil(PAGE_SIZE);
        ram.put(FRAMES - image_frames, &built.image);
        let clock = Rc::new(Cell::new(TICKS_AT_BOOT));
        let mut chance = Random::new(setup.seed);
        let machine = Machine::new(clock.clone(), chance.next(), setup.hurry);
        let lent = simulation::Ram { window: ram.window(), frames: FRAMES, image_frames };
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
            setup: setup.clone(),
            console: Vec::new(),
        })
    }

    /// The clock, in ticks.
    pub fn now(&self) -> u64 {
        self.clock.get()
    }

    /// Types at the terminal.
    pub fn type_text(&mut self, text: &str) {
        self.kernel.arch().uart.borrow_mut().type_bytes(text.as_bytes(), self.clock.get());
    }

    /// Everything that stands on the terminal.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console).into_owned()
    }

    /// One turn.
    pub fn step(&mut self) -> Result<Turn> {
        self.kernel.take_interrupts();
        let turn = match self.kernel.choose() {
            Some(thread) => {
                if self.program_counter(thread)? == BEFORE_CALL {
                    self.call(thread)?;
                } else {
                    self.go_on(thread)?;
                }
                Turn::Went
            }
            None => {
                self.kernel.idle();
                let asleep = self.kernel.choose().is_none() && self.kernel.arch().next_event().is_none();
                if asleep { Turn::Idle } else { Turn::Went }
            }
        };
        self.flush()?;
        self.listen();
        Ok(self.kernel.arch().reset.get().map_or(turn, Turn::Reset))
    }

    fn program_counter(&mut self, thread: ThreadId) -> Result<u64> {
        self.kernel.context(thread, |context| context.program_counter()).context("a thread that is gone runs")
    }

    /// The running thread makes its call.
    fn call(&mut self, thread: ThreadId) -> Result<()> {
        self.clock.set(self.clock.get() + CALL_TICKS + self.chance.below(CALL_TICKS));
        let (number, handle) = self
            .kernel
            .context(thread, |context| (context.argument(7), context.argument(0)))
            .context("a thread that is gone makes a call")?;
        let caller = self.kernel.process_of(thread).context("a thread without a process")?;
        let call = SystemCall::from_number(number);
        let mapped = match call {
            Some(SystemCall::VmoMap | SystemCall::VmoProtect) => self.kernel.named(caller, handle),
            Some(SystemCall::MmioMap) => Some(caller),
            _ => None,
        };
        self.kernel.system_call();
        if let Some(process) = mapped.and_then(|process| self.processes.get_mut(&process.raw())) {
            process.stale = true;
        }
        Ok(())
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
        let mut response = match task.asked {
            None => Some(Response::Go),
            Some(asked) => self.kernel.context(thread, |context| answer(asked, context)),
        }
        .context("a thread that is gone goes on")?;
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
                    let put = self.kernel.context(thread, |context| ask(request, context));
                    return put.context("a thread that is gone asks");
                }
                Request::Breakpoint => {
                    self.kernel.fault(Fault { cause: FaultCause::Breakpoint, detail: 3, address: 0 });
                    return Ok(());
                }
            }
        }
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
        self.processes.retain(|&raw, _| {
            let identity = ProcessId::from_raw(raw).and_then(|process| kernel.identity(process));
            identity.is_some_and(|identity| !identity.ended)
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
