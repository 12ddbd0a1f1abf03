//! Who runs, and what happens next: one thread, one place to wait, three things to hear of: bits (somebody
//! died, the policy has answered), posts (somebody is ready), calls (the shell asks).
//!
//! Long because what may happen to a service is read here from its start to its end.

mod gate;

pub use gate::{is_needed_to_record, policy_endpoint};

use crate::launch::{Launch, launch};
use crate::program::Program;
use crate::resources::{Resources, access_entries};
use crate::schedule::{
    BUDGET_WINDOW, Decision, History, Overdue, RESTART_SPACING, after_silence, may_start, restart_at,
    silent_at,
};
use crate::{KILLED_AS_LATE, KILLED_AS_SILENT, KILLED_ON_REQUEST, report};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use gate::{Clearance, Pending};
use nexus_abi::records::{FaultReport, ProcessStatus, STATE_ALIVE, STATE_KILLED};
use nexus_abi::{Error, Handle, service_id, system};
use nexus_ipc::{Access, Answer, Caller, Clock, Deadline, Event, Receiver};
use nexus_proto::init::{
    Ended, InitError, Run, Server, ServiceEntry, ServiceState, Services, StartFailure, Target, dispatch,
};
use nexus_rt::{Environment, MapError, READY_LABEL, error, info, warning};
use system_manifest::{Manifest, Restart, Service, StartPolicy};

/// What the supervisor works with.
pub struct Parts<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// The program of each service, in the manifest's order, or what is wrong with it.
    pub programs: &'a [Result<Program<'a>, &'static str>],
    /// The system's objects.
    pub resources: Resources,
    /// The root of processes.
    pub authority: Handle,
    /// Hears of deaths: bit n is service n. Nobody else holds it.
    pub deaths: Handle,
    /// The machine's clock.
    pub clock: Clock,
    /// The clock's ticks a second.
    pub ticks_per_second: u64,
    /// The machine's boot arguments.
    pub arguments: &'a str,
}

/// One service at the moment.
struct Slot {
    state: ServiceState,
    process: Option<(Handle, u64)>,
    /// When it was started, in ticks.
    started: u64,
    /// In `Starting`: when it must be ready; in `Restarting`: when it starts; in `Up`: when its sign is due.
    due: u64,
    /// Whether a sign of it did not come, and is waited for once more.
    doubted: bool,
    starts: u32,
    history: History,
    last_end: String,
    waits_for_end: Option<Answer<Ended, InitError>>,
    /// For its next start: arguments of its own, and permission for its devices.
    arguments: Option<String>,
    clearance: Clearance,
    /// Questions about its devices in a row that stayed without an answer.
    unanswered: u32,
}

/// The supervisor's state.
pub struct Supervisor<'a> {
    parts: Parts<'a>,
    slots: Vec<Slot>,
    /// Whether everybody was up, once that is decided.
    complete: Option<bool>,
    wait_for_ready: Vec<Answer<(), InitError>>,
    questions: Pending,
}

/// Callers that may wait for the system to be ready.
const WAITING_MAX: usize = 8;

impl<'a> Supervisor<'a> {
    /// A supervisor that has started nothing yet.
    pub fn new(parts: Parts<'a>, environment: &Environment) -> Result<Self, MapError> {
        let wanted = |service: &Service| {
            service.start == StartPolicy::Boot && may_ever_start(service, parts.arguments)
        };
        let slot = |service: &Service| Slot {
            state: if wanted(service) { ServiceState::Waiting } else { ServiceState::Stopped },
            process: None,
            started: 0,
            due: 0,
            doubted: false,
            starts: 0,
            history: History::default(),
            last_end: String::new(),
            waits_for_end: None,
            arguments: None,
            clearance: Clearance::None,
            unanswered: 0,
        };
        let slots = parts.manifest.services.iter().map(slot).collect();
        let endpoint = policy_endpoint(parts.manifest);
        let record = endpoint.and_then(|name| parts.resources.record(name));
        let endpoint = endpoint.and_then(|name| parts.resources.endpoint(parts.manifest, name));
        let questions = Pending::open(environment, endpoint, record, parts.deaths)?;
        Ok(Supervisor { parts, slots, complete: None, wait_for_ready: Vec::new(), questions })
    }

    /// Starts the system and watches it. Yields only when its own endpoint can no longer be waited for.
    pub fn run(&mut self, environment: &Environment) -> Error {
        let endpoint = &self.parts.manifest.init.endpoint;
        let access = Access::new(access_entries(self.parts.manifest, endpoint));
        let handle = self.parts.resources.init_endpoint;
        let receiver = Receiver::new(handle, endpoint.max_bytes as usize, Some(access));
        let mut receiver = environment.telling(receiver);
        if let Err(error) = system::notification_bind(self.parts.deaths) {
            return error;
        }
        self.give_up_who_lacks_a_device();
        let mut overdue = Overdue::default();
        loop {
            self.hear_answers();
            self.act();
            let due = self.next_deadline();
            match receiver.next(due) {
                Ok(Event::Bits(bits)) => self.look_at_the_dead(bits),
                Ok(Event::Post { caller, label }) => self.hear_post(caller, label),
                Ok(Event::Call(call)) => dispatch(self, call),
                // Whatever was said before was heard: nothing is waiting any more.
                Ok(Event::TimedOut) => self.end_the_silent(),
                Ok(Event::BadgeGone(_)) => {}
                Err(error) => return error,
            }
            if overdue.heard(due.has_passed()) {
                self.end_the_silent();
            }
        }
    }

    /// Without its device a service could only fail, over and over.
    fn give_up_who_lacks_a_device(&mut self) {
        for (index, service) in self.parts.manifest.services.iter().enumerate() {
            let missing = self.parts.resources.missing_devices(index, service);
            let missing = missing.filter(|need| !need.dispensable);
            let missing: Vec<bool> = missing.map(|need| need.optional).collect();
            if missing.is_empty() || self.state(index) != ServiceState::Waiting {
                continue;
            }
            if missing.iter().all(|&optional| optional) {
                self.leave_out(index, service);
            } else {
                self.give_up(index, "it lacks a device");
            }
        }
    }

    /// A service whose device this machine does not have: its callers are told at once, all others go on.
    fn leave_out(&mut self, index: usize, service: &Service) {
        info!("init: {} is left out: this machine lacks its device", service.name);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.state = ServiceState::NoDevice;
            slot.last_end = String::from("left out: no device");
        }
        self.seal(index, service);
    }

    fn seal(&self, index: usize, service: &Service) {
        if let Err(error) = self.parts.resources.seal(index) {
            warning!("init: an endpoint of {} could not be sealed: {error}", service.name);
        }
    }

    /// Starts what may start, and ends what took too long.
    fn act(&mut self) {
        for index in 0..self.slots.len() {
            let Some(service) = self.parts.manifest.services.get(index) else { continue };
            let due = self.slots.get(index).is_some_and(|slot| self.parts.clock.now() >= slot.due);
            match self.state(index) {
                ServiceState::Waiting | ServiceState::Restarting if self.waits_for_policy(index, service) => {
                }
                ServiceState::Waiting if self.may_start(service) => self.start_if_permitted(index),
                ServiceState::Restarting if due => self.start_if_permitted(index),
                ServiceState::Starting if due => self.end_late(index, service),
                _ => {}
            }
        }
        self.announce();
    }

    fn state(&self, index: usize) -> ServiceState {
        self.slots.get(index).map_or(ServiceState::Stopped, |slot| slot.state)
    }

    fn may_start(&self, service: &Service) -> bool {
        may_start(self.parts.manifest, service, |name| {
            let index = self.parts.manifest.services.iter().position(|other| other.name == name);
            index.map_or(ServiceState::Stopped, |index| self.state(index))
        })
    }

    /// Says once that everybody who starts by themselves is up, or who is not, and tells who waits for it.
    fn announce(&mut self) {
        let under_way = |slot: &Slot| slot.state.is_under_way();
        if self.complete.is_none() && !self.slots.iter().any(under_way) {
            let services = self.parts.manifest.services.iter().zip(&self.slots);
            let lost = |slot: &Slot| matches!(slot.state, ServiceState::GivenUp | ServiceState::Refused);
            let lost = services.filter(|(_, slot)| lost(slot));
            let lost =
                lost.map(|(service, _)| error!("init: incomplete: {} is not up", service.name)).count();
            if lost == 0 {
                info!("init: ready");
            }
            self.complete = Some(lost == 0);
        }
        if let Some(complete) = self.complete {
            for answer in self.wait_for_ready.drain(..) {
                // Whoever asked may have given up meanwhile.
                let _ = answer.send(if complete { Ok(()) } else { Err(InitError::Incomplete) });
            }
        }
    }

    fn next_deadline(&self) -> Deadline {
        let all = self.parts.manifest.services.iter().zip(&self.slots).enumerate();
        let timed = all.filter(|(index, (service, slot))| match slot.state {
            ServiceState::Starting | ServiceState::Up => true,
            // Who waits for the policy goes on when it is up, or answers: both are heard of.
            ServiceState::Restarting => !self.waits_for_policy(*index, service),
            _ => false,
        });
        timed.map(|(_, (_, slot))| Deadline::at(slot.due)).min().unwrap_or(Deadline::NEVER)
    }

    /// Starts a service; one that cannot be started counts as one that died at once.
    fn start(&mut self, index: usize, arguments: Option<&str>) -> Result<(), StartFailure> {
        let parts = &self.parts;
        let (Some(service), Some(program), Some(slot)) =
            (parts.manifest.services.get(index), parts.programs.get(index), self.slots.get_mut(index))
        else {
            return Err(StartFailure::InvalidImage);
        };
        info!("init: start {}", service.name);
        slot.starts = slot.starts.saturating_add(1);
        slot.started = parts.clock.now();
        // Whatever ran before, this boot's firmware or a driver that died: its device must not go on for it.
        if let Err((device, reason)) = parts.resources.quiet_devices(index) {
            slot.last_end = format!("its device `{device}`: {reason}");
            self.give_up(index, "its device cannot be quieted");
            return Err(StartFailure::DeviceFailed);
        }
        let grants = parts.resources.grants(parts.manifest, index, service);
        let made = match program {
            Ok(program) => {
                let plan = Launch {
                    service,
                    program,
                    grants: &grants,
                    arguments: arguments.unwrap_or(parts.arguments),
                    generation: slot.starts,
                    supervisor: parts.deaths,
                    death_bits: 1u64.checked_shl(index as u32).unwrap_or(0),
                };
                launch(parts.authority, &plan, parts.ticks_per_second)
                    .map_err(|error| (error.failure(), error.to_string()))
            }
            Err(reason) => Err((StartFailure::InvalidImage, format!("its program: {reason}"))),
        };
        match made {
            Ok(process) => {
                let number = system::process_status(process).map_or(0, |status| status.process_id);
                let allowed = parts.clock.ticks(Duration::from_millis(service.ready_ms.into()));
                slot.due = slot.started.saturating_add(allowed);
                slot.process = Some((process, number));
                slot.state = ServiceState::Starting;
                Ok(())
            }
            Err((failure, reason)) => {
                error!("init: cannot start {}: {failure} ({reason})", service.name);
                slot.last_end = format!("could not start: {failure}");
                self.decide(index, false);
                Err(failure)
            }
        }
    }

    fn end_late(&mut self, index: usize, service: &Service) {
        error!("init: {} was not ready within {} ms", service.name, service.ready_ms);
        self.end(index, service, KILLED_AS_LATE);
    }

    /// Ends who works and did not say for too long that it lives.
    fn end_the_silent(&mut self) {
        let now = self.parts.clock.now();
        for index in 0..self.slots.len() {
            let Some(service) = self.parts.manifest.services.get(index) else { continue };
            let half = half_of_patience(service, self.parts.clock);
            let Some(slot) = self.slots.get_mut(index) else { continue };
            if slot.state != ServiceState::Up || now < slot.due {
                continue;
            }
            match after_silence(slot.doubted, now, half) {
                Some(due) => (slot.doubted, slot.due) = (true, due),
                None => {
                    error!("init: {} gave no sign of life within {} ms", service.name, service.heartbeat_ms);
                    self.end(index, service, KILLED_AS_SILENT);
                }
            }
        }
    }

    fn end(&mut self, index: usize, service: &Service, exit_code: u64) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        // Its death is heard of by its bit, as any other; until then nothing more is due.
        slot.due = u64::MAX;
        if let Some((process, _)) = slot.process
            && let Err(error) = system::process_kill(process, exit_code)
        {
            warning!("init: {} could not be ended: {error}", service.name);
        }
    }

    /// A service says that it is ready, works or rests; who it is, the kernel says.
    fn hear_post(&mut self, caller: Caller, label: u16) {
        let services = self.parts.manifest.services.iter().zip(&mut self.slots);
        let sender = services.into_iter().find(|(service, slot)| {
            service_id(&service.name) == caller.service_id
                && slot.process.is_some_and(|(_, number)| number == caller.process_id)
        });
        let clock = self.parts.clock;
        let due = |service: &Service| silent_at(label, clock.now(), half_of_patience(service, clock));
        match sender.map(|(service, slot)| (due(service), service, slot)) {
            Some((Some(due), service, slot))
                if label == READY_LABEL && slot.state == ServiceState::Starting =>
            {
                (slot.state, slot.due, slot.doubted) = (ServiceState::Up, due, false);
                info!("init: up {}", service.name);
            }
            Some((Some(due), _, slot)) if label != READY_LABEL && slot.state == ServiceState::Up => {
                (slot.due, slot.doubted) = (due, false);
            }
            // What is waited for is that it gets ready: signs of life before that change nothing.
            Some((Some(_), _, slot)) if label != READY_LABEL && slot.state == ServiceState::Starting => {}
            _ => warning!("init: odd post {label} from process {}", caller.process_id),
        }
    }

    /// Looks at everyone whose bit is set. A bit alone proves nothing: the process's state does.
    fn look_at_the_dead(&mut self, bits: u64) {
        for index in 0..self.slots.len() {
            let Some((process, _)) = self.slots.get(index).and_then(|slot| slot.process) else { continue };
            if bits & 1u64.checked_shl(index as u32).unwrap_or(0) == 0 {
                continue;
            }
            match system::process_status(process) {
                Ok(status) if status.state != STATE_ALIVE => self.bury(index, process, &status),
                Ok(_) => {}
                Err(error) => warning!("init: the state of a process cannot be read: {error}"),
            }
        }
    }

    /// Tells how a process ended, keeps the evidence, gives everything back and decides what comes next.
    fn bury(&mut self, index: usize, process: Handle, status: &ProcessStatus) {
        let fault = system::process_report(process).ok();
        let (Some(service), Some(slot)) =
            (self.parts.manifest.services.get(index), self.slots.get_mut(index))
        else {
            return;
        };
        let ending = report::ending(status, fault.as_ref());
        info!("init: ended {} (pid {}): {ending}", service.name, status.process_id);
        if let Some(fault) = &fault {
            let program = self.parts.programs.get(index).and_then(|program| program.as_ref().ok());
            for line in report::fault_lines(&service.name, fault, program) {
                error!("{line}");
            }
        }
        slot.last_end = ending;
        slot.process = None;
        // Before the next start the device is quieted again, and a refusal decides then.
        if let Err((device, reason)) = self.parts.resources.quiet_devices(index) {
            error!("init: the device `{device}` of {}: {reason}", service.name);
        }
        if let Err(error) = system::cap_close(process) {
            warning!("init: the process of {} could not be closed: {error}", service.name);
        }
        if let Some(answer) = slot.waits_for_end.take() {
            // Whoever asked may have given up meanwhile.
            let _ = answer.send(Ok(ended(status, fault.as_ref())));
        }
        let asked_for = status.state == STATE_KILLED && status.exit_code == KILLED_ON_REQUEST;
        self.decide(index, asked_for);
    }

    /// Decides what becomes of a service that has no process, `asked_for` by somebody or by itself.
    fn decide(&mut self, index: usize, asked_for: bool) {
        let clock = self.parts.clock;
        let (Some(service), Some(slot)) =
            (self.parts.manifest.services.get(index), self.slots.get_mut(index))
        else {
            return;
        };
        let (spacing, window) = (clock.ticks(RESTART_SPACING), clock.ticks(BUDGET_WINDOW));
        let now = clock.now();
        let decision = match service.restart {
            Restart::Always { .. } if asked_for => restart_at(slot.started, now, spacing),
            policy => slot.history.decide(policy, slot.started, now, spacing, window),
        };
        match decision {
            Decision::Stay => slot.state = ServiceState::Stopped,
            Decision::RestartAt(due) => {
                slot.state = ServiceState::Restarting;
                slot.due = due;
            }
            Decision::GiveUp => self.give_up(index, "its restarts within a minute are used up"),
        }
    }

    /// Nothing more is tried: every call to the service fails from here on.
    fn give_up(&mut self, index: usize, reason: &str) {
        let (Some(service), Some(slot)) =
            (self.parts.manifest.services.get(index), self.slots.get_mut(index))
        else {
            return;
        };
        slot.state = ServiceState::GivenUp;
        if slot.last_end.is_empty() {
            error!("init: gave up {}: {reason}", service.name);
            slot.last_end = reason.into();
        } else {
            error!("init: gave up {}: {reason}; last: {}", service.name, slot.last_end);
        }
        self.seal(index, service);
        if let Some(reader) = service.reads_logs
            && let Err(error) = self.parts.resources.reads_no_more(self.parts.manifest, reader)
        {
            warning!("init: the log rings could not be told that {} is gone: {error}", service.name);
        }
    }

    fn find(&self, target: &Target) -> Result<usize, InitError> {
        let mut services = self.parts.manifest.services.iter().zip(&self.slots);
        let found = match target {
            Target::Name(name) => services.position(|(service, _)| service.name == *name),
            Target::Process(wanted) => {
                services.position(|(_, slot)| slot.process.is_some_and(|(_, number)| number == *wanted))
            }
        };
        found.ok_or(InitError::Unknown)
    }

    /// Whether a program could be started now, should its caller be allowed to have it started.
    fn runnable(&self, request: &Run) -> Result<usize, InitError> {
        let index = self.find(&Target::Name(request.name.clone()))?;
        let service = self.parts.manifest.services.get(index).ok_or(InitError::Unknown)?;
        if service.start != StartPolicy::OnDemand {
            return Err(InitError::NotOnDemand);
        }
        if !may_ever_start(service, self.parts.arguments) {
            return Err(InitError::CouldNotStart(StartFailure::NotPermitted));
        }
        match self.slots.get(index) {
            Some(slot) if slot.process.is_none() && slot.clearance == Clearance::None => Ok(index),
            _ => Err(InitError::Running),
        }
    }
}

/// After half of its patience a service is doubted, after all of it ended; 0 when it is not asked for signs of life.
fn half_of_patience(service: &Service, clock: Clock) -> u64 {
    clock.ticks(Duration::from_millis(service.heartbeat_ms.into())) / 2
}

/// Whether the boot arguments hold the word without which a service is not started.
pub(crate) fn may_ever_start(service: &Service, arguments: &str) -> bool {
    let condition = service.condition.as_deref();
    condition.is_none_or(|word| arguments.split_ascii_whitespace().any(|argument| argument == word))
}

impl Server for Supervisor<'_> {
    fn list(&mut self, _caller: Caller, (): ()) -> Result<Services, InitError> {
        let services = self.parts.manifest.services.iter().zip(&self.slots);
        // What another boot argument is for is no part of this system.
        let services = services.filter(|(service, _)| may_ever_start(service, self.parts.arguments));
        let entries = services.map(|(service, slot)| ServiceEntry {
            name: service.name.clone(),
            service_id: service_id(&service.name),
            process_id: slot.process.map_or(0, |(_, number)| number),
            state: slot.state,
            restarts: slot.starts.saturating_sub(1),
            last_end: slot.last_end.clone(),
        });
        Ok(Services { entries: entries.collect() })
    }

    fn kill(&mut self, caller: Caller, target: Target, answer: Answer<(), InitError>) {
        self.ask_for_kill(caller, target, answer);
    }

    fn run(&mut self, caller: Caller, request: Run, answer: Answer<Ended, InitError>) {
        self.ask_for_run(caller, request, answer);
    }

    fn ready(&mut self, _caller: Caller, (): (), answer: Answer<(), InitError>) {
        if self.wait_for_ready.len() < WAITING_MAX {
            // `announce` answers, at once if it is decided.
            self.wait_for_ready.push(answer);
        } else {
            // Whoever asked may have given up meanwhile.
            let _ = answer.send(Err(InitError::TooManyWait));
        }
    }
}

fn ended(status: &ProcessStatus, fault: Option<&FaultReport>) -> Ended {
    Ended {
        process_id: status.process_id,
        state: status.state.into(),
        exit_code: status.exit_code,
        cause: fault.map_or(0, |fault| fault.cause.into()),
        address: fault.map_or(0, |fault| fault.address),
        program_counter: fault.map_or(0, |fault| fault.program_counter),
        frames: fault.map_or(0, |fault| fault.backtrace_length.into()),
    }
}
