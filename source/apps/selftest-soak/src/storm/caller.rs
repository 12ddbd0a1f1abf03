//! Calls of every kind by two threads at once, each answer checked, and signals between threads.

use super::counts::{Counts, What};
use super::pattern::{bytes, differs, fill};
use super::{BADGE, DONE, ECHO, HAND, LATE, LEND, NOT_THERE, OPEN, RACE, RACED, RING, wander};
use crate::PATIENCE;
use crate::chance::Chance;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::time::Duration;
use nexus_abi::limits::{FOREVER, MESSAGE_BYTES_MAX, PAGE_SIZE, REGISTER_BYTES};
use nexus_abi::message::{Buffers, CapabilityTransfer, Header, Lease, Registers};
use nexus_abi::{Error, Handle, Rights, system};
use nexus_ipc::{Clock, Deadline};
use nexus_rt::{Environment, error, thread};

/// Bytes of messages with buffers.
const SIZES: [usize; 4] = [512, 4096, 20_000, MESSAGE_BYTES_MAX];
/// After so many rounds the counts are told.
const ROUNDS: u64 = 64;
/// Every other bit.
const EVEN_BITS: u64 = 0x5555_5555_5555_5555;
/// A late answer is at most so late, and who asked waits at most as long.
const LATE_WITHIN: Duration = Duration::from_millis(3);

/// A caller; ends only with a failure.
pub fn run(environment: &Environment) -> u64 {
    let outcome = Gear::new(environment).and_then(|gear| {
        let pair = Pair::new(environment)?;
        let second: &'static (dyn Fn() + Sync) = Box::leak(Box::new(move || storm(gear, pair, 2)));
        thread::spawn(environment, second).map_err(|error| format!("a thread: {error}"))?;
        Ok((gear, Pair::new(environment)?))
    });
    match outcome {
        Ok((gear, pair)) => {
            environment.ready();
            storm(gear, pair, 1)
        }
        Err(reason) => failed(&reason),
    }
}

/// Says what went wrong and ends the program.
pub fn failed(reason: &str) -> ! {
    error!("soak: FAIL {reason}");
    system::process_exit(1)
}

fn storm(gear: Gear, pair: Pair, thread: u64) -> ! {
    let Err(reason) = Caller::new(gear, pair, thread).and_then(Caller::without_end);
    failed(&format!("{} seed={} thread {thread}: {reason}", gear.name, gear.seed));
}

/// What a process was given, for each of its threads.
#[derive(Clone, Copy)]
pub struct Gear {
    name: &'static str,
    small: Option<Handle>,
    large: Handle,
    peer: Handle,
    clock: Clock,
    /// What its numbers begin with, so that no two processes have the same.
    first: u64,
    /// What its deeds follow from.
    pub seed: u64,
    may_die: bool,
}

impl Gear {
    /// What the recipe gives and the arguments say.
    pub fn new(environment: &Environment) -> Result<Self, String> {
        let endpoint = |name: &str| environment.to_call(name).map_err(|error| format!("{error}"));
        let seed = crate::asked_for(environment, "seed");
        Ok(Gear {
            name: environment.name(),
            small: endpoint("gust").ok(),
            large: endpoint("gale")?,
            peer: endpoint("soak")?,
            clock: environment.clock(),
            first: environment.page().service_id << 40 ^ seed << 32,
            seed,
            may_die: environment.has_argument("kills"),
        })
    }

    fn deadline(&self, within: Duration) -> u64 {
        Deadline::after(&self.clock, within).ticks()
    }
}

/// One thread that calls.
pub struct Caller {
    gear: Gear,
    chance: Chance,
    /// The number of the last call; no two calls of all have the same.
    number: u64,
    /// A badged copy of the large endpoint, and its badge.
    session: Option<(Handle, u64)>,
    pair: Pair,
    room: Vec<u64>,
    sent: Vec<u64>,
    memory: Handle,
    /// What this thread did since it told.
    pub counts: Counts,
}

/// A call that is made.
pub struct Ask<'a> {
    endpoint: Handle,
    label: u16,
    parameter: Option<u64>,
    capability: Option<CapabilityTransfer>,
    lease: Option<&'a Lease>,
    within: Duration,
}

impl Caller {
    /// The thread with this number.
    pub fn new(gear: Gear, pair: Pair, thread: u64) -> Result<Self, String> {
        let kernel = |error: Error| format!("setting up: {error}");
        let memory = system::vmo_create(Handle::NONE, PAGE_SIZE).map_err(kernel)?;
        let mut beginning = [0; 8];
        fill(&mut beginning, gear.first);
        system::vmo_write(memory, 0, bytes(&beginning)).map_err(kernel)?;
        Ok(Caller {
            gear,
            chance: Chance::new(gear.seed << 4 | thread),
            number: gear.first ^ thread << 30,
            session: None,
            pair,
            room: vec![0; MESSAGE_BYTES_MAX / 8],
            sent: vec![0; MESSAGE_BYTES_MAX / 8],
            memory,
            counts: Counts::default(),
        })
    }

    fn ask(&self, label: u16) -> Ask<'static> {
        let (parameter, capability, lease) = (None, None, None);
        Ask { endpoint: self.gear.large, label, parameter, capability, lease, within: PATIENCE }
    }

    fn without_end(mut self) -> Result<Infallible, String> {
        loop {
            for _ in 0..ROUNDS {
                self.round()?;
            }
            self.tell()?;
        }
    }

    /// Something at random.
    fn round(&mut self) -> Result<(), String> {
        if let Some(small) = self.gear.small {
            for _ in 0..self.chance.below(16) {
                self.small_call(Ask { endpoint: small, ..self.ask(ECHO) })?;
            }
        }
        let endpoint = self.gear.small.filter(|_| self.chance.below(2) == 0).unwrap_or(self.gear.large);
        match self.chance.below(12) {
            0 | 1 => self.echo(),
            2 => self.small_call(self.ask(ECHO)).map(drop),
            3 => self.late(endpoint),
            4 | 5 => self.small_call(Ask { endpoint, ..self.ask(RACE) }).map(|done| {
                let was_race = done.is_some_and(|answer| answer.header.label() == RACED);
                self.counts.more(What::Races, was_race.into());
            }),
            6 => self.lend(),
            7 => self.hand(),
            8 => self.ring(),
            9 | 10 => self.session(),
            _ => {
                wander(self.chance.draw());
                self.pair.round(&self.gear, &mut self.chance)?;
                self.counts.more(What::Signals, 2);
                Ok(())
            }
        }
        .map_err(|reason| format!("call {:#x}: {reason}", self.number))
    }

    /// Tells `soak-peer` what was done.
    pub fn tell(&mut self) -> Result<(), String> {
        let deadline = self.gear.deadline(PATIENCE);
        let told = self.counts.tell(self.gear.peer, deadline);
        told.map(drop).map_err(|error| format!("telling the counts: {error}"))
    }

    /// Makes a call in registers; yields the answer, or `None` when it ended as it may. Its words are checked but those
    /// that an answer uses otherwise.
    fn small_call(&mut self, ask: Ask<'_>) -> Result<Option<Registers>, String> {
        self.number += 1;
        let mut registers = Registers::default();
        fill(&mut registers.words, self.number);
        if let Some(parameter) = ask.parameter {
            registers.words[1] = parameter;
        }
        let mut buffers = Buffers::default();
        let header = Header::new(ask.label, REGISTER_BYTES as u32, ask.capability.is_some().into());
        registers.header = header.with_leases(ask.lease.is_some().into());
        if let Some(capability) = ask.capability {
            buffers.send_capabilities[0] = capability;
        }
        buffers.leases = ask.lease.map_or(0, |lease| &raw const *lease as u64);
        let has_buffers = ask.capability.is_some() || ask.lease.is_some() || ask.label == OPEN;
        let deadline = self.gear.deadline(ask.within);
        let buffers_used = has_buffers.then_some(&mut buffers);
        // SAFETY: the buffers name a lease that is borrowed, and itself names memory that is only read.
        let outcome = unsafe { system::call(ask.endpoint, &mut registers, buffers_used, deadline) };
        if let Err(error) = outcome {
            return self.cut(&ask, error).map(|()| None);
        }
        self.counts.more(What::Calls, 1);
        let words = &mut registers.words;
        if words[0] != !self.number {
            return Err(format!("the answer to {:#x} came", !words[0]));
        }
        let is_expected = match registers.header.label() {
            DONE | NOT_THERE => true,
            label => label == RACED && ask.label == RACE,
        };
        if !is_expected {
            return Err(format!("operation {}: the server found wrong: {}", ask.label, words[1]));
        }
        if ask.label != OPEN && differs(words, !self.number).is_some() {
            return Err(format!("operation {}: wrong words {words:x?}", ask.label));
        }
        if registers.header.capabilities() > 0 {
            // Where the badge of who receives stands.
            registers.buffers = buffers.received_capabilities[0].0;
        }
        Ok(Some(registers))
    }

    /// Whether a call may end like this.
    fn cut(&mut self, ask: &Ask<'_>, error: Error) -> Result<(), String> {
        let may_be = match error {
            Error::PeerGone if ask.label == BADGE => true,
            Error::PeerGone => self.gear.may_die,
            Error::TimedOut => ask.label == LATE,
            Error::Revoked | Error::StaleHandle => ask.label == BADGE,
            _ => false,
        };
        if !may_be {
            return Err(format!("operation {}: {error}", ask.label));
        }
        self.counts.more(What::Cut, 1);
        Ok(())
    }

    fn echo(&mut self) -> Result<(), String> {
        let bytes = SIZES[self.chance.below(SIZES.len() as u64) as usize];
        let sent = self.sent.as_ptr();
        self.number += 1;
        fill(&mut self.sent[..bytes / 8], self.number);
        // SAFETY: `sent` is not touched until the call has ended.
        if unsafe { self.echo_from(sent, bytes, self.number)? } == Some(Error::Fault) {
            return Err("its own memory is not there".into());
        }
        Ok(())
    }

    /// Sends what stands at an address and checks what comes back; yields the error of a call that ended as it may.
    ///
    /// # Safety
    /// Nobody writes there meanwhile.
    pub unsafe fn echo_from(
        &mut self,
        sent: *const u64,
        bytes: usize,
        number: u64,
    ) -> Result<Option<Error>, String> {
        let bytes = bytes / 8 * 8;
        let ask = self.ask(ECHO);
        let header = Header::new(ECHO, bytes as u32, 0);
        let mut registers = Registers { header, ..Registers::default() };
        let mut buffers = Buffers {
            send_address: sent as u64,
            receive_address: self.room.as_mut_ptr() as u64,
            receive_bytes: size_of_val(&self.room[..]) as u64,
            ..Buffers::default()
        };
        let deadline = self.gear.deadline(PATIENCE);
        // SAFETY: what is read is the caller's word; `room` is this thread's.
        match unsafe { system::call(ask.endpoint, &mut registers, Some(&mut buffers), deadline) } {
            Ok(()) => {}
            Err(Error::Fault) => return Ok(Some(Error::Fault)),
            Err(error) => return self.cut(&ask, error).map(|()| Some(error)),
        }
        self.counts.more(What::Calls, 1);
        if registers.header.label() != DONE || registers.header.bytes() != bytes {
            return Err(format!("{bytes} bytes: answered {:?}, {:x?}", registers.header, registers.words));
        }
        match differs(&self.room[..bytes / 8], !number) {
            None => Ok(None),
            Some(place) => {
                Err(format!("{bytes} bytes: the answer's word {place} is {:#x}", self.room[place]))
            }
        }
    }

    fn late(&mut self, endpoint: Handle) -> Result<(), String> {
        let ticks = self.gear.clock.ticks(LATE_WITHIN);
        let (late, within) = (self.chance.below(ticks), self.chance.below(LATE_WITHIN.as_micros() as u64));
        let within = if self.chance.below(2) == 0 { PATIENCE } else { Duration::from_micros(within) };
        self.small_call(Ask { endpoint, parameter: Some(late), within, ..self.ask(LATE) }).map(drop)
    }

    fn lend(&mut self) -> Result<(), String> {
        let words = self.chance.below(self.sent.len() as u64) as usize + 1;
        let pattern = self.number;
        fill(&mut self.sent[..words], pattern);
        let lease = Lease::of(bytes(&self.sent[..words]));
        match self.lend_it(&lease, pattern)? {
            Some(NOT_THERE) => Err("what was lent was not there".into()),
            _ => Ok(()),
        }
    }

    /// Lends memory with a pattern; yields what the server answered.
    pub fn lend_it(&mut self, lease: &Lease, pattern: u64) -> Result<Option<u16>, String> {
        let ask = Ask { parameter: Some(pattern), lease: Some(lease), ..self.ask(LEND) };
        Ok(self.small_call(ask)?.map(|answer| answer.header.label()))
    }

    fn hand(&mut self) -> Result<(), String> {
        let moves = self.chance.below(2) == 0;
        let copy = system::cap_dup(self.memory, Rights::READ).map_err(|error| format!("a copy: {error}"))?;
        let transfer = match moves {
            true => CapabilityTransfer::moved(copy, Rights::READ),
            false => CapabilityTransfer::copy(copy, Rights::READ),
        };
        let parameter = Some(self.gear.first);
        let answer = self.small_call(Ask { parameter, capability: Some(transfer), ..self.ask(HAND) })?;
        if let Some(answer) = answer {
            self.counts.more(What::Capabilities, 2);
            if answer.header.capabilities() == 0 {
                return Err("what was handed over does not come back".into());
            }
            close(Handle(answer.buffers))?;
            if !moves {
                close(copy)?;
            }
            return Ok(());
        }
        // Whether it went before the server died is not known.
        close(copy)
    }

    fn ring(&mut self) -> Result<(), String> {
        let bits = 1 + self.chance.below(0xffff);
        let transfer = CapabilityTransfer::copy(self.pair.back, Rights::SIGNAL);
        let answer =
            self.small_call(Ask { parameter: Some(bits), capability: Some(transfer), ..self.ask(RING) })?;
        if answer.is_none() {
            // Whether they came before the server died is not known.
            return match system::notification_poll(self.pair.back, u64::MAX) {
                Ok(_) | Err(Error::WouldBlock) => Ok(()),
                Err(error) => Err(format!("polling: {error}")),
            };
        }
        self.counts.more(What::Capabilities, 1);
        self.counts.more(What::Signals, 1);
        let deadline = self.gear.deadline(PATIENCE);
        match system::notification_wait(self.pair.back, u64::MAX, deadline) {
            Ok(came) if came == bits => Ok(()),
            other => Err(format!("bits {bits:#x} were signalled, and a wait yields {other:x?}")),
        }
    }

    fn session(&mut self) -> Result<(), String> {
        let Some((session, badge)) = self.session else { return self.open() };
        let ask = Ask { endpoint: session, parameter: Some(badge), ..self.ask(BADGE) };
        let is_over = self.small_call(ask)?.is_none();
        if is_over || self.chance.below(16) == 0 {
            self.session = None;
            close(session)?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), String> {
        let Some(answer) = self.small_call(self.ask(OPEN))? else { return Ok(()) };
        self.counts.more(What::Revocations, answer.words[2]);
        if answer.header.label() == DONE && answer.header.capabilities() > 0 {
            self.counts.more(What::Capabilities, 1);
            self.session = Some((Handle(answer.buffers), answer.words[1]));
        }
        Ok(())
    }
}

/// Closes what may be revoked, moved, or gone with its owner.
fn close(capability: Handle) -> Result<(), String> {
    match system::cap_close(capability) {
        Ok(()) | Err(Error::StaleHandle) => Ok(()),
        Err(error) => Err(format!("closing: {error}")),
    }
}

/// Two notifications: a thread answers the bits of one by the same of the other.
#[derive(Clone, Copy)]
pub struct Pair {
    out: Handle,
    back: Handle,
}

impl Pair {
    /// With a thread of its own.
    pub fn new(environment: &Environment) -> Result<Self, String> {
        let create = || system::notification_create().map_err(|error| format!("a notification: {error}"));
        let (out, back) = (create()?, create()?);
        let answers: &'static (dyn Fn() + Sync) = Box::leak(Box::new(move || {
            loop {
                let bits = system::notification_wait(out, u64::MAX, FOREVER);
                if let Err(error) = bits.and_then(|bits| system::notification_signal(back, bits)) {
                    failed(&format!("answering signals: {error}"));
                }
            }
        }));
        thread::spawn(environment, answers).map_err(|error| format!("a thread: {error}"))?;
        Ok(Pair { out, back })
    }

    /// Two signals in a row, of other bits each; all come back, together or one by one, and once.
    fn round(&self, gear: &Gear, chance: &mut Chance) -> Result<(), String> {
        let [first, second] = [chance.draw() & EVEN_BITS | 1, chance.draw() & !EVEN_BITS | 2];
        let signal =
            |bits| system::notification_signal(self.out, bits).map_err(|error| format!("a signal: {error}"));
        signal(first)?;
        signal(second)?;
        let (mut missing, deadline) = (first | second, gear.deadline(PATIENCE));
        while missing != 0 {
            let came = system::notification_wait(self.back, u64::MAX, deadline);
            let came = came.map_err(|error| format!("bits {missing:#x} did not come back: {error}"))?;
            if came & !missing != 0 {
                return Err(format!("bits {came:#x} came back where {missing:#x} were to come"));
            }
            missing &= !came;
        }
        Ok(())
    }
}
