//! The four processes, and the clock that the model's epochs are put on.
#![allow(unsafe_code)] // it shares memory with processes that it made

use crate::actor::{CALL_REGISTERS, Mailbox, instructions};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::array::from_fn;
use core::fmt::Debug;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::time::Duration;
use kernel_model::{
    Bench, Late, Lockstep, Model, Object, PROCESSES, SCRATCH, SCRATCH_PAGES, THREADS, Wait, sequence,
};
use nexus_abi::capability::Qos;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::message::{Header, Registers};
use nexus_abi::records::{ProcessParameters, ProcessStatus, STATE_ALIVE};
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall, system};
use nexus_rt::{Environment, info};

const PAGE: u64 = PAGE_SIZE as u64;
const PROCESS_COUNT: usize = PROCESSES.len();
const THREAD_COUNT: usize = PROCESS_COUNT * THREADS;
/// Where the mailboxes stand: beyond what the model's messages use.
const MAILBOXES: u64 = (SCRATCH_PAGES - 1) * PAGE;
/// Bytes from one thread's mailbox to the next.
const MAILBOX_BYTES: u64 = 1024;
/// Where the actors' instructions are.
const CODE: u64 = SCRATCH + 64 * PAGE;
/// Pages for everything that one of the processes owns.
const QUOTA_PAGES: u64 = 96;
/// Time that an answer may take before it counts as missing.
const PATIENCE: Duration = Duration::from_secs(5);
/// Turns that everybody gets after the last answer that was expected: whoever is answered too much shows it.
const ROUNDS: usize = 3;
/// Where all of it runs: a yield lets whoever was told to call go on until it waits, which it does on one hart.
const HARTS: u64 = 1;
/// The length of an epoch at first. It is doubled whenever the clock overtook a sequence.
const EPOCH: Duration = Duration::from_millis(10);
/// Ticks of a moment in which the kernel reclaims.
const DOZE_TICKS: u64 = 500;
/// Attempts at one sequence.
const ATTEMPTS: u32 = 8;

/// Makes sequences until these many steps were compared.
pub fn compare(environment: &Environment, seed: u64, steps: u64) -> Result<(), String> {
    let memory = Memory::new(environment)?;
    let (mut done, mut number, mut repeated) = (0, seed, 0);
    while done < steps {
        let mut epoch = EPOCH;
        done += loop {
            match make(environment, &memory, number, epoch)? {
                Ok(events) => break events,
                Err(Late) if epoch < EPOCH * 2u32.pow(ATTEMPTS) => {
                    repeated += 1;
                    epoch *= 2;
                }
                Err(Late) => return Err(format!("the clock overtook sequence {number} {ATTEMPTS} times")),
            }
        };
        number += 1;
    }
    let sequences = number - seed;
    info!(
        "lockstep: seed {seed}, {done} steps in {sequences} sequences as the model has them, {repeated} repeated"
    );
    Ok(())
}

/// One sequence: how many events it had, or that the clock overtook it.
fn make(
    environment: &Environment,
    memory: &Memory,
    number: u64,
    epoch: Duration,
) -> Result<Result<u64, Late>, String> {
    let processes = Processes::new(environment, memory, epoch)?;
    let mut lockstep = Lockstep::new(processes, 1);
    lockstep.bench.tells = environment.has_argument("tell").then_some(number);
    let mut events = 0;
    for seed in sequence(number) {
        match lockstep.step(seed) {
            Ok(happened) => events += u64::from(happened),
            Err(late) => return Ok(Err(late)),
        }
    }
    Ok(lockstep.end().map(|_| events))
}

fn trying<T>(what: &str, outcome: Result<T, impl core::fmt::Display>) -> Result<T, String> {
    outcome.map_err(|error| format!("{what}: {error}"))
}

/// Lets the kernel reclaim: it does so when it chooses who runs next, and nobody else may want to.
fn doze() {
    system::thread_sleep(system::ticks() + DOZE_TICKS);
}

/// Memory that stays from one sequence to the next.
struct Memory {
    code: Handle,
    scratch: [Scratch; PROCESS_COUNT],
}

/// What a process has at [`SCRATCH`], and where the director sees it.
#[derive(Clone, Copy)]
struct Scratch {
    vmo: Handle,
    seen: *mut u8,
}

impl Memory {
    fn new(environment: &Environment) -> Result<Self, String> {
        let code = trying("memory for code", system::vmo_create(Handle::NONE, PAGE_SIZE))?;
        trying("writing the code", system::vmo_write(code, 0, instructions()))?;
        let mut scratch = [Scratch { vmo: Handle::NONE, seen: core::ptr::null_mut() }; PROCESS_COUNT];
        for one in &mut scratch {
            let bytes = (SCRATCH_PAGES * PAGE) as usize;
            one.vmo = trying("memory", system::vmo_create(Handle::NONE, bytes))?;
            let protection = Rights::READ | Rights::WRITE;
            one.seen = trying("seeing memory", environment.map_memory(one.vmo, bytes, protection))?;
        }
        Ok(Memory { code, scratch })
    }

    fn mailbox(&self, thread: usize) -> &Mailbox {
        let offset = MAILBOXES + (thread % THREADS) as u64 * MAILBOX_BYTES;
        // SAFETY: the memory is mapped for good and larger than this; all of a mailbox is atomic, and nothing
        // else is made of these bytes.
        unsafe { &*self.scratch[thread / THREADS].seen.add(offset as usize).cast() }
    }
}

/// What is to be compared after an event, as it was before the clock was looked at.
#[derive(Clone, Copy, Default)]
struct Seen {
    waits: [bool; THREAD_COUNT],
    /// Capabilities of the processes that are alive.
    capabilities: [Option<u32>; PROCESS_COUNT],
}

struct Processes<'a> {
    memory: &'a Memory,
    /// The first and the last that the director may give: one for each process.
    service_ids: (u64, u64),
    handles: Vec<Handle>,
    threads: Vec<Handle>,
    /// What the director was handed of each kind of authority.
    authorities: [(Kind, Handle); 3],
    numbers: Vec<(u64, u64)>,
    /// Commands that each thread was given.
    given: [u64; THREAD_COUNT],
    /// Who made the last call.
    acting: Option<usize>,
    /// Whether a thread waited for a time when the event began.
    deadlines: bool,
    seen: Seen,
    /// The tick at which an epoch began, and which.
    anchor: (u64, u64),
    epoch_ticks: u64,
    patience: u64,
    /// The number of the sequence, when every event is to be told.
    tells: Option<u64>,
}

impl<'a> Processes<'a> {
    fn new(environment: &Environment, memory: &'a Memory, epoch: Duration) -> Result<Self, String> {
        let handed = |name: &str, kind| {
            let found = environment.capability(name, kind).map_err(|error| format!("{name}: {error:?}"))?;
            Ok::<_, String>((kind, found))
        };
        let authorities = [
            handed("process-authority", Kind::ProcessAuthority)?,
            handed("qos-authority", Kind::QosAuthority)?,
            handed("system", Kind::SystemControl)?,
        ];
        let authority = authorities[0].1;
        let range = trying("the range of service ids", system::cap_query(authority))?;
        let ticks = |duration: Duration| {
            (u128::from(environment.page().ticks_per_second) * duration.as_micros() / 1_000_000) as u64
        };
        let mut processes = Processes {
            memory,
            service_ids: (range.base, range.badge),
            handles: Vec::new(),
            threads: Vec::new(),
            authorities,
            numbers: Vec::new(),
            given: [0; THREAD_COUNT],
            acting: None,
            deadlines: false,
            seen: Seen::default(),
            anchor: (system::ticks(), 1),
            epoch_ticks: ticks(epoch),
            patience: ticks(PATIENCE),
            tells: None,
        };
        for place in 0..PROCESS_COUNT {
            trying("creating a process", processes.create(authority, place))?;
        }
        Ok(processes)
    }

    fn create(&mut self, authority: Handle, place: usize) -> Result<(), Error> {
        let (rank, capabilities_max, open_calls_max) = PROCESSES[place];
        let parameters = ProcessParameters {
            service_id: self.service_ids.0 + place as u64,
            quota_pages: QUOTA_PAGES,
            rank,
            capabilities_max,
            open_calls_max,
            qos_max: Qos::Normal as u32,
            ..ProcessParameters::default()
        };
        let process = system::process_create(authority, &parameters)?;
        self.handles.push(process);
        let Scratch { vmo, .. } = self.memory.scratch[place];
        let (bytes, protection) = ((SCRATCH_PAGES * PAGE) as usize, Rights::READ | Rights::WRITE);
        // SAFETY: it is another process's memory, as in the next calls.
        unsafe { system::vmo_map(process, vmo, SCRATCH, 0, bytes, protection)? };
        let protection = Rights::READ | Rights::EXECUTE;
        // SAFETY: as above.
        unsafe { system::vmo_map(process, self.memory.code, CODE, 0, PAGE_SIZE, protection)? };
        for thread in place * THREADS..(place + 1) * THREADS {
            let mailbox = self.memory.mailbox(thread);
            for word in [&mailbox.command, &mailbox.entered, &mailbox.done] {
                word.store(0, Release);
            }
            let address = SCRATCH + MAILBOXES + (thread % THREADS) as u64 * MAILBOX_BYTES;
            // SAFETY: as above.
            let thread = unsafe { system::thread_create(process, CODE, 0, address, Qos::Normal as u64)? };
            system::thread_set_affinity(thread, HARTS)?;
            self.threads.push(thread);
        }
        self.numbers.push((parameters.service_id, system::process_status(process)?.process_id));
        Ok(())
    }

    fn give(&mut self, thread: usize, call: SystemCall, arguments: [u64; CALL_REGISTERS]) {
        let mailbox = self.memory.mailbox(thread);
        self.given[thread] += 1;
        mailbox.call.store(call as u64, Relaxed);
        for (place, value) in mailbox.arguments.iter().zip(arguments) {
            place.store(value, Relaxed);
        }
        for (place, kept) in mailbox.kept.iter().enumerate() {
            kept.store(self.pattern(thread, place), Relaxed);
        }
        mailbox.command.store(self.given[thread], Release);
        self.acting = Some(thread);
    }

    /// What a register that the kernel must not change holds during a thread's last call.
    fn pattern(&self, thread: usize, place: usize) -> u64 {
        let number = self.given[thread] << 16 | (thread as u64) << 8 | place as u64;
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn is_done(&self, thread: usize) -> bool {
        self.memory.mailbox(thread).done.load(Acquire) == self.given[thread]
    }

    /// Lets the others run until something is so; whether it came to be.
    fn wait_until(&self, pass: fn(), mut is_so: impl FnMut(&Self) -> bool) -> bool {
        let end = system::ticks() + self.patience;
        while !is_so(self) {
            if system::ticks() > end {
                return false;
            }
            pass();
        }
        true
    }

    fn status(&self, process: usize) -> ProcessStatus {
        system::process_status(self.handles[process]).expect("the director manages it")
    }

    fn wait_until_gone(&self, process: usize) {
        let is_gone = |processes: &Self| {
            let status = processes.status(process);
            status.state != STATE_ALIVE && status.reclaiming == 0
        };
        assert!(self.wait_until(doze, is_gone), "process {process} is not reclaimed");
    }

    fn look(&mut self) {
        for thread in 0..THREAD_COUNT {
            self.seen.waits[thread] = !self.is_done(thread);
        }
        for process in 0..PROCESS_COUNT {
            let status = self.status(process);
            self.seen.capabilities[process] = (status.state == STATE_ALIVE).then_some(status.capabilities);
        }
    }

    /// Whether a thread may have waited too long meanwhile.
    fn is_late(&self, model: &Model) -> bool {
        let ends = self.deadline(model.now + 1);
        (self.deadlines || model.has_deadline()) && system::ticks() >= ends
    }

    /// Where the director sees bytes of a thread's memory.
    fn place(&self, thread: usize, address: u64, bytes: usize) -> *mut u8 {
        let offset = address.checked_sub(SCRATCH).expect("in its memory");
        assert!(offset + bytes as u64 <= MAILBOXES, "in its memory, below the mailboxes");
        // SAFETY: the range is within the mapping, as was just checked.
        unsafe { self.memory.scratch[thread / THREADS].seen.add(offset as usize) }
    }
}

impl Bench for Processes<'_> {
    fn call(&mut self, thread: usize, call: SystemCall, arguments: &[u64]) -> Result<u64, Error> {
        self.start(thread, call, arguments);
        assert!(
            self.wait_until(system::thread_yield, |processes| processes.is_done(thread)),
            "thread {thread} does not answer"
        );
        self.look();
        self.outcome(thread)
    }

    fn hand(&mut self, handle: u64, from: usize, to: usize, rights: Rights) -> u64 {
        let manager = system::cap_transfer_to(self.handles[from], self.handles[to], Kind::Process.rights());
        let manager = manager.expect("a fresh process").0;
        let call = [manager, handle, rights.bits().into()];
        let handed = self.call(from * THREADS, SystemCall::CapTransferTo, &call).expect("a fresh process");
        self.call(from * THREADS, SystemCall::CapClose, &[manager]).expect("the handle it just got");
        handed
    }

    fn give(&mut self, object: Object, to: usize, rights: Rights) -> u64 {
        let own = match object {
            Object::Process(process) => self.handles[process],
            Object::Thread(thread) => self.threads[thread],
            _ => {
                let found = self.authorities.iter().find(|(kind, _)| *kind == object.kind());
                found.expect("the director was handed it").1
            }
        };
        system::cap_transfer_to(self.handles[to], own, rights).expect("a fresh process").0
    }

    fn identities(&self) -> (u64, u64) {
        self.service_ids
    }

    fn put(&mut self, thread: usize, address: u64, bytes: &[u8]) {
        let to = self.place(thread, address, bytes.len());
        // SAFETY: the range is mapped; the thread it belongs to waits for a command, and the kernel writes into
        // it only for that thread's calls.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    fn get(&mut self, thread: usize, address: u64, bytes: &mut [u8]) {
        let from = self.place(thread, address, bytes.len());
        // SAFETY: the range is mapped; the thread it belongs to waits for a command, so nobody writes there.
        unsafe { core::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
    }

    fn before(&mut self, model: &Model) {
        self.acting = None;
        self.deadlines = model.has_deadline();
        if !self.deadlines {
            // Nobody waits for a time: the epoch may as well begin now.
            self.anchor = (system::ticks(), model.now);
        }
    }

    fn start(&mut self, thread: usize, call: SystemCall, arguments: &[u64]) {
        self.give(thread, call, from_fn(|place| arguments.get(place).copied().unwrap_or(0)));
    }

    fn start_message(&mut self, thread: usize, call: SystemCall, registers: &Registers) {
        let Registers { target, header, reply, buffers, words, deadline, process_id } = *registers;
        let [a, b, c, d, e, f, g, h] = words;
        let before = [target, header.0, reply.0, buffers, a, b, c, d, e, f, g, h, deadline, process_id];
        self.give(thread, call, before);
    }

    fn kill(&mut self, process: usize) {
        match system::process_kill(self.handles[process], 0) {
            // The model kills at the end whoever there was, too.
            Ok(()) | Err(Error::PeerGone) => {}
            Err(error) => panic!("killing process {process}: {error}"),
        }
        self.wait_until_gone(process);
    }

    fn time_passes(&mut self, model: &Model) {
        let next = model.now + 1;
        if self.deadlines {
            system::thread_sleep(self.deadline(next));
        } else {
            self.anchor = (system::ticks(), next);
        }
    }

    fn deadline(&self, epoch: u64) -> u64 {
        let (ticks, begun) = self.anchor;
        ticks + epoch.saturating_sub(begun) * self.epoch_ticks
    }

    fn settle(&mut self, model: &Model, answered: &[usize]) -> Result<(), Late> {
        let acting = self.acting;
        let missing = |processes: &Self| {
            let entered = |thread: usize| {
                processes.memory.mailbox(thread).entered.load(Acquire) == processes.given[thread]
            };
            let waits = acting.filter(|&thread| !entered(thread));
            waits.or_else(|| answered.iter().copied().find(|&thread| !processes.is_done(thread)))
        };
        let complete = self.wait_until(system::thread_yield, |processes| missing(processes).is_none());
        for process in (0..PROCESS_COUNT).filter(|&process| !model.processes[process].alive) {
            self.wait_until_gone(process);
        }
        for _ in 0..ROUNDS {
            system::thread_yield();
        }
        self.look();
        if self.is_late(model) {
            return Err(Late);
        }
        assert!(complete, "thread {:?} was not answered", missing(self));
        Ok(())
    }

    fn outcome(&mut self, thread: usize) -> Result<u64, Error> {
        let mailbox = self.memory.mailbox(thread);
        for (place, kept) in mailbox.kept_after.iter().enumerate() {
            let expected = self.pattern(thread, place);
            assert_eq!(kept.load(Relaxed), expected, "a kept register of thread {thread}: number {place}");
        }
        let [error, value, ..] = &mailbox.answers;
        match error.load(Relaxed) {
            0 => Ok(value.load(Relaxed)),
            error => Err(Error::from_number(error).expect("an error that the contract knows")),
        }
    }

    fn registers(&mut self, thread: usize) -> Registers {
        let after = self.memory.mailbox(thread).answers.each_ref().map(|register| register.load(Relaxed));
        let [target, header, reply, buffers, a, b, c, d, e, f, g, h, deadline, process_id] = after;
        let (header, reply, words) = (Header(header), Handle(reply), [a, b, c, d, e, f, g, h]);
        Registers { target, header, reply, buffers, words, deadline, process_id }
    }

    fn identity(&self, process: usize) -> (u64, u64) {
        self.numbers[process]
    }

    fn compare(&mut self, model: &Model) {
        for (place, thread) in model.threads.iter().enumerate().filter(|(_, thread)| thread.alive) {
            let waits = !matches!(thread.wait, Wait::Nothing);
            assert_eq!(self.seen.waits[place], waits, "whether thread {place} waits: {:?}", thread.wait);
        }
        for (place, process) in model.processes.iter().enumerate() {
            let expected = process.alive.then_some(process.used + process.open_calls);
            assert_eq!(self.seen.capabilities[place], expected, "capabilities of process {place}");
        }
    }

    fn tell(&mut self, event: &dyn Debug, answers: &dyn Debug) {
        if let Some(number) = self.tells {
            info!("lockstep: {number}: {event:?} -> {answers:?}");
        }
    }
}

impl Drop for Processes<'_> {
    fn drop(&mut self) {
        for &thread in &self.threads {
            system::cap_close(thread).expect("the director manages it");
        }
        for process in 0..self.handles.len() {
            self.kill(process);
            system::cap_close(self.handles[process]).expect("the director manages it");
        }
    }
}
