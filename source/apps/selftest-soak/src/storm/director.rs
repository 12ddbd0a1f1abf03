//! Starts everybody, lets them be, kills them at random, and compares the counts of before and after.

use super::counts::{Counts as Done, What};
use crate::chance::Chance;
use crate::{Counts, PATIENCE, endless, leave_counts};
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use nexus_abi::records::SystemInfo;
use nexus_abi::{Handle, system};
use nexus_ipc::CallError;
use nexus_proto::init::{Client as Init, InitError, Run, ServiceEntry, ServiceState, Target};
use nexus_rt::{Environment, Key, Level, info, write_record};

/// The field that numbers a line.
const LINE: Key = Key::new("line");
/// They start again by themselves.
const SERVERS: [&str; 2] = ["storm-gust", "storm-gale"];
/// The director starts them again.
const CALLERS: [&str; 4] = ["storm-caller-1", "storm-caller-2", "storm-caller-3", "storm-mapper"];
/// Kills are at most so far apart.
const APART_MAX: Duration = Duration::from_millis(120);
/// A storm before the counts are taken: tables, slabs and heaps grow to the size that they keep.
const WARM_UP: Duration = Duration::from_secs(3);
/// In so many calls there must be something of every kind.
const EVERY_KIND_IN: u64 = 10_000;
/// Lines that the console keeps; it is full before the counts are taken.
const LINES: u64 = 600;

/// Who starts and kills.
pub struct Director<'a> {
    environment: &'a Environment,
    control: Handle,
    init: Init,
    peer: Handle,
    chance: Chance,
    kills: u64,
}

impl<'a> Director<'a> {
    /// With what the recipe gives.
    pub fn new(environment: &'a Environment, control: Handle, init: Init, seed: u64) -> Result<Self, String> {
        let peer = environment.to_call("soak").map_err(|error| format!("{error}"))?;
        Ok(Director { environment, control, init, peer, chance: Chance::new(seed), kills: 0 })
    }

    /// So many seconds of storm, a third of them without kills: there every call must be answered.
    pub fn storm(&mut self, seconds: u64) -> Result<(), String> {
        self.fill_the_console();
        self.blow(WARM_UP, true)?;
        let (mut before, then) = (Counts::settled(self.environment, self.control)?, self.info()?);
        let (done, kills) = (self.done()?, self.kills);
        let calm = Duration::from_millis(seconds * 1000 / 3);
        self.blow_and_compare(&mut before, calm, false, "a storm without kills")?;
        let rest = Duration::from_secs(seconds).saturating_sub(calm);
        self.blow_and_compare(&mut before, rest, true, "a storm with kills")?;
        self.report(&done, &then, seconds, self.kills - kills)
    }

    /// A storm after which every count is as it was.
    fn blow_and_compare(
        &mut self,
        before: &mut Counts,
        time: Duration,
        kills: bool,
        what: &str,
    ) -> Result<(), String> {
        let (environment, control) = (self.environment, self.control);
        leave_counts(environment, control, before, what, || self.blow(time, kills))
    }

    fn report(&self, before: &Done, then: &SystemInfo, seconds: u64, kills: u64) -> Result<(), String> {
        let (done, now) = (self.done()?, self.info()?);
        let of = |what| done.of(what).wrapping_sub(before.of(what));
        info!(
            "soak: {} messages, {} calls of harts, {} threads taken over, {} locks found taken",
            now.messages - then.messages,
            now.hart_calls - then.hart_calls,
            now.threads_stolen - then.threads_stolen,
            now.locks_contended - then.locks_contended
        );
        info!(
            "soak: {} calls, {} cut short, {} answered by two, {} signals, {} capabilities handed over",
            of(What::Calls),
            of(What::Cut),
            of(What::Races),
            of(What::Signals),
            of(What::Capabilities)
        );
        info!(
            "soak: storm of {seconds} s on {} harts: {kills} kills, {} revocations, {} changes of mappings, \
             {} found unmapped; every answer right, every count as it was",
            now.harts_online,
            of(What::Revocations),
            of(What::Mappings),
            of(What::Unmapped)
        );
        let kinds = [
            What::Races,
            What::Signals,
            What::Capabilities,
            What::Revocations,
            What::Mappings,
            What::Unmapped,
        ];
        // On one hart there is no such moment.
        let can_be = |kind: &What| now.harts_online > 1 || !matches!(kind, What::Races);
        match kinds.into_iter().filter(can_be).find(|&kind| of(kind) == 0) {
            Some(kind) if of(What::Calls) >= EVERY_KIND_IN => Err(format!("no {kind:?} at all")),
            _ if of(What::Calls) == 0 => Err("no calls at all".into()),
            _ => Ok(()),
        }
    }

    /// Everybody runs for a while, and then rests, new.
    fn blow(&mut self, time: Duration, kills: bool) -> Result<(), String> {
        for caller in CALLERS {
            self.start(caller, kills)?;
        }
        let end = self.environment.deadline(time);
        while kills && !end.has_passed() {
            self.environment.sleep(Duration::from_micros(self.chance.below(APART_MAX.as_micros() as u64)));
            match self.chance.below((SERVERS.len() + CALLERS.len()) as u64) as usize {
                index if index < SERVERS.len() => self.kill_server(SERVERS[index])?,
                index => {
                    let caller = CALLERS[index - SERVERS.len()];
                    self.kill_caller(caller)?;
                    self.start(caller, kills)?;
                }
            }
        }
        system::thread_sleep(end.ticks());
        for caller in CALLERS {
            self.kill_caller(caller)?;
        }
        // What they still have open ends with them.
        for server in SERVERS {
            self.wait_for(server, |entry| entry.state == ServiceState::Up)?;
            let old = self.entry(server)?.process_id;
            self.kill_server(server)?;
            self.wait_for(server, |entry| entry.state == ServiceState::Up && entry.process_id != old)?;
        }
        Ok(())
    }

    fn start(&mut self, caller: &str, kills: bool) -> Result<(), String> {
        let phase = if kills { "kills" } else { "calm" };
        let request =
            Run { name: caller.into(), arguments: format!("{phase} seed={}", self.chance.below(1 << 20)) };
        endless::start(self.environment, &self.init, &request)
    }

    fn kill_caller(&mut self, caller: &str) -> Result<(), String> {
        match self.init.kill(&Target::Name(caller.into()), self.environment.deadline(PATIENCE)) {
            Ok(()) => self.kills += 1,
            // On a slow machine init may have been first.
            Err(CallError::Service(InitError::NotRunning))
                if self.entry(caller)?.last_end.contains("not ready") => {}
            // It ends by itself only when it finds something wrong, and says so.
            Err(error) => return Err(format!("{caller} could not be killed: {error}")),
        }
        self.wait_for(caller, |entry| entry.process_id == 0)
    }

    fn kill_server(&mut self, server: &str) -> Result<(), String> {
        match self.init.kill(&Target::Name(server.into()), self.environment.deadline(PATIENCE)) {
            Ok(()) => self.kills += 1,
            // Between two lives there is nobody to kill.
            Err(CallError::Service(InitError::NotRunning)) => {}
            Err(error) => return Err(format!("{server} could not be killed: {error}")),
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<ServiceEntry, String> {
        endless::entry(self.environment, &self.init, name)
    }

    fn wait_for(&self, name: &str, is_so: impl Fn(&ServiceEntry) -> bool) -> Result<(), String> {
        let deadline = self.environment.deadline(PATIENCE);
        while !deadline.has_passed() {
            if is_so(&self.entry(name)?) {
                return Ok(());
            }
            self.environment.sleep(Duration::from_millis(2));
        }
        Err(format!("{name} is not as it should be: {:?}", self.entry(name)?))
    }

    fn info(&self) -> Result<SystemInfo, String> {
        system::system_info(self.control).map_err(|error| format!("the machine's figures: {error}"))
    }

    fn done(&self) -> Result<Done, String> {
        let told = Done::default().tell(self.peer, self.environment.deadline(PATIENCE).ticks());
        told.map_err(|error| format!("what was done: {error}"))
    }

    fn fill_the_console(&self) {
        for number in 0..LINES {
            write_record(
                Level::Info,
                "soak",
                "before the storm",
                &[(&LINE, nexus_rt::Value::Unsigned(number))],
            );
            if number % 16 == 0 {
                self.environment.sleep(Duration::from_millis(4));
            }
        }
    }
}
