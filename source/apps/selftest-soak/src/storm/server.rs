//! Both servers: several threads at one endpoint, one that answers the calls of others at the same moment, and one
//! that takes back what was given.

use super::pattern::{bytes_mut, differs, fill};
use super::race::Race;
use super::{BADGE, DONE, ECHO, HAND, LATE, LEND, NOT_THERE, OPEN, RACE, RACED, RING, WRONG, Wrong, wander};
use crate::chance::Chance;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::{FOREVER, MESSAGE_BYTES_MAX, REGISTER_BYTES, REGISTER_WORDS};
use nexus_abi::message::{Arrival, Buffers, CapabilityTransfer, Header, Registers};
use nexus_abi::{Error, Handle, Kind, Rights, system};
use nexus_ipc::Clock;
use nexus_rt::{Environment, error, info, thread};

/// Threads that receive, besides the first.
const MORE_WORKERS: usize = 2;
/// Time between two revocations at the most, in microseconds.
const REVOKED_WITHIN_MICROS: u64 = 4_000;

/// Badges that may be open at once: more than all threads of all callers have, and those of some that are being ended.
const OPEN_BADGES_MAX: u64 = 64;

/// What the threads share.
struct Server {
    endpoint: Handle,
    /// Words of the largest message; 0: registers only.
    room_words: usize,
    race: Race,
    /// What badged copies derive from.
    sessions: Handle,
    badges: AtomicU64,
    /// Badges whose end was not told yet.
    open_badges: AtomicU64,
    /// Revocations that nobody was told of yet.
    revocations: AtomicU64,
    /// Threads that have all the memory that they need.
    set_up: AtomicU64,
    clock: Clock,
}

impl Server {
    /// The end of a badge is told: of one that is open.
    fn badge_ended(&self, badge: u64) {
        let is_known = (1..=self.badges.load(Relaxed)).contains(&badge);
        if !is_known || self.open_badges.fetch_sub(1, Relaxed) == 0 {
            failed(&format!("the end of badge {badge:#x}, which is not open, was told"));
        }
    }
}

/// Serves; ends only with a failure.
pub fn serve(environment: &Environment) -> u64 {
    match begin(environment) {
        Ok(desk) => work(desk),
        Err(reason) => failed(&reason),
    }
}

fn failed(reason: &str) -> ! {
    error!("soak: FAIL a server: {reason}");
    system::process_exit(1)
}

/// What a capability names may be gone, or it was taken back.
fn close(capability: Handle) {
    match system::cap_close(capability) {
        Ok(()) | Err(Error::StaleHandle) => {}
        Err(error) => failed(&format!("closing a capability: {error}")),
    }
}

fn begin(environment: &Environment) -> Result<Desk<'static>, String> {
    let is_large = environment.name() == "storm-gale";
    let endpoint = format!("serve/{}", if is_large { "gale" } else { "gust" });
    let endpoint = environment.needed(&endpoint, Kind::Endpoint).map_err(|error| format!("{error}"))?;
    let sessions = system::cap_dup(endpoint, Rights::CALL | Rights::MINT);
    let sessions = sessions.map_err(|error| format!("a copy of the endpoint: {error}"))?;
    let server: &Server = Box::leak(Box::new(Server {
        endpoint,
        room_words: if is_large { MESSAGE_BYTES_MAX / 8 } else { 0 },
        race: Race::new().map_err(|error| format!("a bell: {error}"))?,
        sessions,
        badges: AtomicU64::new(0),
        open_badges: AtomicU64::new(0),
        revocations: AtomicU64::new(0),
        set_up: AtomicU64::new(0),
        clock: environment.clock(),
    }));
    let spawn = |body: &'static (dyn Fn() + Sync)| {
        thread::spawn(environment, body).map_err(|error| format!("a thread: {error}"))
    };
    let desk = Desk::new(server);
    for _ in 0..MORE_WORKERS {
        spawn(Box::leak(Box::new(move || work(Desk::new(server)))))?;
    }
    spawn(Box::leak(Box::new(move || answer_calls_of_others(server))))?;
    if is_large {
        spawn(Box::leak(Box::new(move || take_back(server))))?;
    }
    // From then on its counts stay.
    while server.set_up.load(Relaxed) < MORE_WORKERS as u64 + 2 {
        environment.sleep(core::time::Duration::from_millis(1));
    }
    info!("{}: ready", environment.name());
    environment.ready();
    Ok(desk)
}

/// One of several that receive.
fn work(mut desk: Desk<'_>) -> ! {
    let server = desk.server;
    let mut then = Then::Receive;
    loop {
        let outcome = match then {
            Then::Receive => desk.receive(),
            Then::Answer | Then::Race => desk.answer_and_receive(),
        };
        let is_race = matches!(then, Then::Race);
        if is_race && !server.race.ended(outcome) {
            failed("a race");
        }
        then = match outcome {
            Ok(()) => desk.handle(),
            Err(Error::StaleHandle) if is_race => Then::Receive,
            // It was taken back, or its owner died: the call is still open.
            Err(Error::StaleHandle) if desk.keep_what_was_not_sent() => Then::Answer,
            // The caller died or gave up.
            Err(Error::PeerGone) => {
                desk.keep_what_was_not_sent();
                Then::Receive
            }
            Err(error) => failed(&format!("receiving: {error}")),
        };
    }
}

/// Answers what others received, at the same moment as they do: as they do, or by itself.
fn answer_calls_of_others(server: &Server) {
    let mut desk = Desk::new(server);
    loop {
        let (reply, number) = match server.race.accept() {
            Ok(offered) => offered,
            Err(error) => failed(&format!("the bell: {error}")),
        };
        desk.registers.reply = reply;
        desk.answer_with(RACED, number);
        let receives = number & 1 == 0;
        let outcome = if receives { desk.answer_and_receive() } else { desk.answer() };
        if !server.race.ended(outcome) {
            failed("a race");
        }
        // What came is answered here, and nothing more received.
        if receives && outcome.is_ok() && !matches!(desk.handle(), Then::Receive) {
            while let Err(error) = desk.answer() {
                let is_open = desk.keep_what_was_not_sent();
                match error {
                    Error::PeerGone => break,
                    Error::StaleHandle if is_open => {}
                    error => failed(&format!("answering: {error}")),
                }
            }
        }
    }
}

/// Takes back all badged copies, again and again.
fn take_back(server: &Server) {
    let mut chance = Chance::new(server.clock.now());
    loop {
        let pause =
            server.clock.ticks(core::time::Duration::from_micros(chance.below(REVOKED_WITHIN_MICROS)));
        let before = server.badges.load(Relaxed);
        system::thread_sleep(server.clock.now() + pause.max(1));
        if server.badges.load(Relaxed) == before {
            // Nobody has one: nothing to take.
            continue;
        }
        match system::cap_revoke(server.sessions) {
            Ok(()) => server.revocations.fetch_add(1, Relaxed),
            Err(error) => failed(&format!("revoking: {error}")),
        };
    }
}

/// What is done with a call that came.
enum Then {
    /// It has its answer, or none came.
    Receive,
    /// It is answered.
    Answer,
    /// It is answered by two.
    Race,
}

/// What one thread works with.
struct Desk<'a> {
    server: &'a Server,
    registers: Registers,
    buffers: Buffers,
    room: Vec<u64>,
}

impl<'a> Desk<'a> {
    fn new(server: &'a Server) -> Self {
        let mut room = vec![0; server.room_words];
        let address = room.as_mut_ptr() as u64;
        let buffers = Buffers {
            send_address: address,
            receive_address: address,
            receive_bytes: size_of_val(&room[..]) as u64,
            ..Buffers::default()
        };
        server.set_up.fetch_add(1, Relaxed);
        Desk { server, registers: Registers::default(), buffers, room }
    }

    fn buffers(&mut self) -> Option<&mut Buffers> {
        (self.server.room_words > 0).then_some(&mut self.buffers)
    }

    fn receive(&mut self) -> Result<(), Error> {
        let (endpoint, mut registers) = (self.server.endpoint, Registers::default());
        // SAFETY: the buffers name `room`, which nobody else has, here and below.
        let outcome = unsafe { system::recv(endpoint, &mut registers, self.buffers(), FOREVER) };
        self.registers = registers;
        outcome
    }

    fn answer_and_receive(&mut self) -> Result<(), Error> {
        let (endpoint, mut registers) = (self.server.endpoint, self.registers);
        // SAFETY: as above.
        let outcome = unsafe { system::reply_recv(endpoint, &mut registers, self.buffers(), FOREVER) };
        if outcome.is_ok() {
            self.registers = registers;
        }
        outcome
    }

    fn answer(&mut self) -> Result<(), Error> {
        let mut registers = self.registers;
        // SAFETY: as above.
        unsafe { system::reply(&mut registers, self.buffers()) }
    }

    /// Capabilities of an answer that nobody took stay here. Whether there are any; then the answer is without.
    fn keep_what_was_not_sent(&mut self) -> bool {
        let header = self.registers.header;
        if header.capabilities() == 0 {
            return false;
        }
        close(self.buffers.send_capabilities[0].handle);
        self.registers.header = Header::new(NOT_THERE, header.bytes() as u32, 0);
        true
    }

    fn answer_with(&mut self, label: u16, number: u64) {
        self.registers.header = Header::new(label, REGISTER_BYTES as u32, 0);
        fill(&mut self.registers.words, !number);
    }

    fn answer_wrong(&mut self, number: u64, what: Wrong) {
        self.answer_with(WRONG, number);
        self.registers.words[1] = what as u64;
    }

    fn handle(&mut self) -> Then {
        let header = self.registers.header;
        match header.arrival() {
            Some(Arrival::Call) => {}
            Some(Arrival::BadgeGone) => {
                self.server.badge_ended(self.registers.buffers);
                return Then::Receive;
            }
            other => failed(&format!("{other:?} came")),
        }
        let is_long = header.bytes() > REGISTER_BYTES;
        let number = if is_long { self.room[0] } else { self.registers.words[0] };
        let parameter = self.registers.words[1];
        match header.label() {
            ECHO if is_long => self.echo(header.bytes(), number),
            ECHO if differs(&self.registers.words, number).is_some() => {
                self.answer_wrong(number, Wrong::Bytes)
            }
            ECHO => self.answer_with(DONE, number),
            LATE => {
                system::thread_sleep(self.server.clock.now() + parameter);
                self.answer_with(DONE, number);
            }
            RACE => {
                let is_race = self.server.race.offer(self.registers.reply, number);
                self.answer_with(if is_race { RACED } else { DONE }, number);
                return if is_race { Then::Race } else { Then::Answer };
            }
            LEND => self.read_lease(number, parameter),
            HAND => self.read_memory(number, parameter),
            RING => self.ring(number, parameter),
            OPEN => self.open(number),
            BADGE if self.registers.buffers != parameter => self.answer_wrong(number, Wrong::Badge),
            BADGE => self.answer_with(DONE, number),
            _ => self.answer_wrong(number, Wrong::Call),
        }
        if number % 61 == 0 {
            wander(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
        }
        Then::Answer
    }

    fn echo(&mut self, bytes: usize, number: u64) {
        let words = &mut self.room[..bytes / 8];
        if differs(words, number).is_some() {
            return self.answer_wrong(number, Wrong::Bytes);
        }
        fill(words, !number);
        self.registers.header = Header::new(DONE, bytes as u32, 0);
    }

    /// Whatever is lent has the pattern of the second word.
    fn read_lease(&mut self, number: u64, pattern: u64) {
        let outcome = system::lease_query(self.registers.reply, 0).and_then(|(bytes, _)| {
            let words = &mut self.room[..bytes as usize / 8];
            system::lease_read(self.registers.reply, 0, 0, bytes_mut(words))?;
            Ok(differs(words, pattern))
        });
        match outcome {
            Ok(None) => self.answer_with(DONE, number),
            Ok(Some(_)) => self.answer_wrong(number, Wrong::Bytes),
            Err(Error::Fault) => self.answer_with(NOT_THERE, number),
            // The answer will find the same.
            Err(Error::PeerGone) => self.answer_with(DONE, number),
            Err(error) => failed(&format!("a lease: {error}")),
        }
    }

    /// Whatever is handed over begins with the pattern of the second word: another's memory would not.
    fn read_memory(&mut self, number: u64, pattern: u64) {
        let memory = self.buffers.received_capabilities[0];
        let mut words = [0; REGISTER_WORDS];
        match system::vmo_read(memory, 0, bytes_mut(&mut words)) {
            Ok(()) if differs(&words, pattern).is_none() => self.answer_with(DONE, number),
            Ok(()) => self.answer_wrong(number, Wrong::Bytes),
            // Its owner died.
            Err(Error::StaleHandle) => {
                close(memory);
                return self.answer_with(DONE, number);
            }
            Err(error) => failed(&format!("memory that came: {error}")),
        }
        self.give(memory, Rights::READ);
    }

    fn ring(&mut self, number: u64, bits: u64) {
        let bell = self.buffers.received_capabilities[0];
        let outcome = system::notification_signal(bell, bits);
        close(bell);
        match outcome {
            // Its owner may have died.
            Ok(()) | Err(Error::StaleHandle) => self.answer_with(DONE, number),
            Err(error) => failed(&format!("a bell that came: {error}")),
        }
    }

    fn open(&mut self, number: u64) {
        let badge = self.server.badges.fetch_add(1, Relaxed) + 1;
        // Before it is minted, for another thread may hear of its end before this one goes on.
        let open = self.server.open_badges.fetch_add(1, Relaxed);
        if open >= OPEN_BADGES_MAX {
            failed(&format!("the ends of {open} badges were not told"));
        }
        self.answer_with(DONE, number);
        match system::endpoint_mint(self.server.sessions, badge, Rights::CALL) {
            Ok(session) => {
                self.give(session, Rights::CALL);
                self.registers.words[1] = badge;
            }
            Err(Error::Revoked) => {
                self.server.open_badges.fetch_sub(1, Relaxed);
                self.registers.header = Header::new(NOT_THERE, REGISTER_BYTES as u32, 0);
            }
            Err(error) => failed(&format!("minting: {error}")),
        }
        self.registers.words[2] = self.server.revocations.swap(0, Relaxed);
    }

    fn give(&mut self, capability: Handle, rights: Rights) {
        let header = self.registers.header;
        self.registers.header = Header::new(header.label(), header.bytes() as u32, 1);
        self.buffers.send_capabilities[0] = CapabilityTransfer::moved(capability, rights);
    }
}
