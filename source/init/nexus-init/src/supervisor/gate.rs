//! What the policy is asked for, and what its answers come to: a device before a service that owns it is started, a
//! program that somebody wants started, a process that somebody wants ended.

use super::{Slot, Supervisor};
use crate::KILLED_ON_REQUEST;
use crate::permission::{Asked, Permission, Questions};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use nexus_abi::{service_id, system};
use nexus_ipc::{Answer, Caller};
use nexus_proto::init::{Ended, InitError, Run, ServiceState, StartFailure, Target};
use nexus_rt::{error, warning};
use policy::Action;
use system_manifest::{DeviceNeed, LogReader, Manifest, Service, StartPolicy};

/// Time after which a question that got no answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Questions in a row that may stay without an answer before a service is given up.
const UNANSWERED_MAX: u32 = 10;

/// What a question is asked for.
pub(super) enum Purpose {
    /// The device with this number of a service that is to start.
    Start { index: usize, device: usize },
    /// Somebody wants a program started.
    Run { request: Run, answer: Answer<Ended, InitError> },
    /// Somebody wants a process ended.
    Kill { target: Target, answer: Answer<(), InitError> },
}

/// How far a service is with the permission for its devices, for its next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Clearance {
    /// Nobody was asked yet.
    #[default]
    None,
    /// The policy is being asked.
    Asked,
    /// It allowed every one.
    Given,
}

/// Whom init asks, if the manifest names anybody.
pub fn policy_endpoint(manifest: &Manifest) -> Option<&str> {
    let endpoint = nexus_proto::policy::REFERENCE.endpoint;
    manifest.init.calls.iter().any(|access| access.endpoint == endpoint).then_some(endpoint)
}

/// Whether the journal needs this service, itself or through others: what is recorded cannot be durable before it runs.
pub fn is_needed_to_record(manifest: &Manifest, service: &Service) -> bool {
    let is_journal = |service: &&Service| service.reads_logs == Some(LogReader::Journal);
    let mut needed: Vec<&Service> = manifest.services.iter().filter(is_journal).collect();
    let mut next = 0;
    while let Some(caller) = needed.get(next).copied() {
        let called = caller.calls.iter().filter_map(|access| manifest.endpoint(&access.endpoint)?.0);
        for server in called {
            if !needed.iter().any(|known| known.name == server.name) {
                needed.push(server);
            }
        }
        next += 1;
    }
    needed.iter().any(|known| known.name == service.name)
}

/// The question for a device.
fn device_question(manifest: &Manifest, service: &Service, need: &DeviceNeed) -> Asked {
    let action = Action::from_name(&format!("device.mmio.{}", need.name));
    Asked {
        subject: service_id(&service.name),
        action: action.map(Action::number),
        resource: need.resource(),
        waits: !is_needed_to_record(manifest, service),
    }
}

impl Supervisor<'_> {
    /// Starts a service, or asks first for what it needs permission for.
    pub(super) fn start_if_permitted(&mut self, index: usize) {
        let needs =
            self.parts.manifest.services.get(index).is_some_and(|service| !service.devices.is_empty());
        let clearance = self.slots.get(index).map_or(Clearance::None, |slot| slot.clearance);
        match clearance {
            Clearance::None if needs => self.ask_for_device(index, 0),
            Clearance::Asked => {}
            _ => self.start_cleared(index),
        }
    }

    /// Whether a service that could start waits for the policy: to be up, or to answer.
    pub(super) fn waits_for_policy(&self, index: usize, service: &Service) -> bool {
        let clearance = self.slots.get(index).map_or(Clearance::None, |slot| slot.clearance);
        let policy = policy_endpoint(self.parts.manifest);
        let server =
            policy.and_then(|name| self.parts.manifest.endpoint(name)).and_then(|(server, _)| server);
        let is_up = server.is_none_or(|server| {
            let index = self.parts.manifest.services.iter().position(|other| other.name == server.name);
            !index.map_or(ServiceState::Stopped, |index| self.state(index)).is_under_way()
        });
        !service.devices.is_empty()
            && (clearance == Clearance::Asked || (clearance == Clearance::None && !is_up))
    }

    fn ask_for_device(&mut self, index: usize, device: usize) {
        let service = self.parts.manifest.services.get(index);
        let need = service.and_then(|service| service.devices.get(device).map(|need| (service, need)));
        let (Some((service, need)), Some(slot)) = (need, self.slots.get_mut(index)) else { return };
        slot.clearance = Clearance::Asked;
        self.questions
            .ask(Purpose::Start { index, device }, device_question(self.parts.manifest, service, need));
    }

    /// Takes every answer that is there.
    pub(super) fn hear_answers(&mut self) {
        while let Some((purpose, permission)) = self.questions.answered() {
            match purpose {
                Purpose::Start { index, device } => self.hear_of_device(index, device, permission),
                Purpose::Run { request, answer } => self.hear_of_run(request, answer, permission),
                Purpose::Kill { target, answer } => {
                    let outcome = may(permission).and_then(|()| self.end_on_request(&target));
                    // Whoever asked may have given up meanwhile.
                    let _ = answer.send(outcome);
                }
            }
        }
    }

    fn hear_of_device(&mut self, index: usize, device: usize, permission: Permission) {
        let (Some(service), Some(slot)) =
            (self.parts.manifest.services.get(index), self.slots.get_mut(index))
        else {
            return;
        };
        slot.clearance = Clearance::None;
        match permission {
            Permission::Allowed => {
                slot.unanswered = 0;
                if device + 1 < service.devices.len() {
                    return self.ask_for_device(index, device + 1);
                }
                slot.clearance = Clearance::Given;
                self.start_cleared(index);
            }
            Permission::Denied => self.refuse(index, service, device),
            Permission::NoAnswer => {
                slot.unanswered = slot.unanswered.saturating_add(1);
                warning!("init: no answer of the policy about {}: its device is not given", service.name);
                if service.start == StartPolicy::OnDemand {
                    tell_failure(slot, StartFailure::NoPolicy);
                } else if slot.unanswered < UNANSWERED_MAX {
                    slot.state = ServiceState::Restarting;
                    slot.due = self.parts.clock.now().saturating_add(self.parts.clock.ticks(ASK_AGAIN));
                } else {
                    self.give_up(index, "the policy gives no answer about its device");
                }
            }
        }
    }

    /// Starts a service that has every permission that it needs; they are good for this one start.
    fn start_cleared(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.clearance = Clearance::None;
        let arguments = slot.arguments.take();
        // A failure is told and decided upon there.
        if let Err(failure) = self.start(index, arguments.as_deref())
            && let Some(slot) = self.slots.get_mut(index)
        {
            tell_failure(slot, failure);
        }
    }

    /// A device that the policy does not give: whose it would be is left out, all others go on.
    fn refuse(&mut self, index: usize, service: &Service, device: usize) {
        let need = service.devices.get(device);
        let (name, what) =
            need.map_or((String::new(), String::new()), |need| (need.name.clone(), need.resource()));
        error!("init: refused device.mmio.{name} ({what}) to {}: the policy does not allow it", service.name);
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.last_end = String::from("left out: the policy does not allow its device");
        tell_failure(slot, StartFailure::DeniedByPolicy);
        if service.start == StartPolicy::OnDemand {
            slot.state = ServiceState::Stopped;
        } else {
            slot.state = ServiceState::Refused;
            self.seal(index, service);
        }
    }

    /// Asks whether the caller may have a program started; what cannot be started anyway is told at once.
    pub(super) fn ask_for_run(&mut self, caller: Caller, request: Run, answer: Answer<Ended, InitError>) {
        let runnable = self.runnable(&request).and_then(|_| self.room());
        match runnable {
            Ok(()) => {
                let asked = caller_question(caller, Action::ProcSpawn, request.name.clone());
                self.questions.ask(Purpose::Run { request, answer }, asked);
            }
            Err(refusal) => {
                // Whoever asked may have given up meanwhile.
                let _ = answer.send(Err(refusal));
            }
        }
    }

    fn hear_of_run(&mut self, request: Run, answer: Answer<Ended, InitError>, permission: Permission) {
        match may(permission).and_then(|()| self.runnable(&request)) {
            Ok(index) => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.waits_for_end = Some(answer);
                    slot.arguments = Some(request.arguments);
                }
                self.start_if_permitted(index);
            }
            Err(refusal) => {
                let _ = answer.send(Err(refusal));
            }
        }
    }

    /// Asks whether the caller may have a process ended.
    pub(super) fn ask_for_kill(&mut self, caller: Caller, target: Target, answer: Answer<(), InitError>) {
        let name = self.running(&target).and_then(|name| self.room().map(|()| name));
        match name {
            Ok(name) => {
                let asked = caller_question(caller, Action::ProcKill, name);
                self.questions.ask(Purpose::Kill { target, answer }, asked);
            }
            Err(refusal) => {
                let _ = answer.send(Err(refusal));
            }
        }
    }

    fn room(&self) -> Result<(), InitError> {
        if self.questions.have_room() { Ok(()) } else { Err(InitError::TooManyWait) }
    }

    /// The name of a service that runs.
    fn running(&self, target: &Target) -> Result<String, InitError> {
        let index = self.find(target)?;
        let runs = self.slots.get(index).is_some_and(|slot| slot.process.is_some());
        let service = self.parts.manifest.services.get(index).filter(|_| runs);
        service.map(|service| service.name.to_string()).ok_or(InitError::NotRunning)
    }

    fn end_on_request(&self, target: &Target) -> Result<(), InitError> {
        let index = self.find(target)?;
        let process = self.slots.get(index).and_then(|slot| slot.process).ok_or(InitError::NotRunning)?;
        system::process_kill(process.0, KILLED_ON_REQUEST).map_err(|_| InitError::NotRunning)
    }
}

/// Tells whoever waits for the end of a program that it does not begin.
fn tell_failure(slot: &mut Slot, failure: StartFailure) {
    slot.arguments = None;
    if let Some(answer) = slot.waits_for_end.take() {
        // Whoever asked may have given up meanwhile.
        let _ = answer.send(Err(InitError::CouldNotStart(failure)));
    }
}

fn caller_question(caller: Caller, action: Action, resource: String) -> Asked {
    Asked { subject: caller.service_id, action: Some(action.number()), resource, waits: false }
}

/// Only what is exactly allowed may be done.
fn may(permission: Permission) -> Result<(), InitError> {
    match permission {
        Permission::Allowed => Ok(()),
        Permission::Denied => Err(InitError::DeniedByPolicy),
        Permission::NoAnswer => Err(InitError::NoPolicy),
    }
}

/// Questions of the supervisor.
pub(super) type Pending = Questions<Purpose>;
