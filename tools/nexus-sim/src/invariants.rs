//! What must hold of a system at rest, whatever happened to it before.
//!
//! - init has started again whoever died, and nobody died who was not harmed;
//! - no two live processes have one identity;
//! - nobody holds a capability that the manifest does not give; a process at rest holds as many as it held at
//!   rest before anything went wrong, and no frame is in use that no process accounts for;
//! - nobody waits for an answer past its deadline, and nobody waits for one at all that has no server;
//! - the terminal's device lost no byte.

use crate::faults::Harm;
use crate::system::{Death, System};
use anyhow::{Result, ensure};
use nexus_abi::image::INIT;
use nexus_abi::records::{CapabilityInfo, STATE_ALIVE, STATE_EXITED, STATE_FAULTED};
use nexus_abi::{Kind, Rights, service_id};
use nexus_init::KILLED_ON_REQUEST;
use std::collections::BTreeMap;
use system_manifest::{Manifest, Service};

/// A system at rest, in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// What each process holds, by service.
    pub processes: BTreeMap<String, Holdings>,
    /// Pages that are in use and of no process.
    pub unaccounted_pages: u64,
    /// Threads in all.
    pub threads: u64,
    /// Processes in all, ended ones that somebody holds included.
    pub all_processes: u64,
}

/// What a process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// How many capabilities of each kind, with the same rights.
    pub capabilities: BTreeMap<(String, u32), u32>,
    /// How many threads.
    pub threads: u32,
}

impl Rest {
    /// What differs from how it was, in words.
    pub fn compare(&self, before: &Rest) -> Result<()> {
        let missing = before.processes.keys().find(|name| !self.processes.contains_key(*name));
        ensure!(missing.is_none(), "{} is not up again", missing.map_or("", String::as_str));
        for (name, now) in &self.processes {
            let was = before.processes.get(name);
            ensure!(was == Some(now), "{name} holds {now:?}, before it was {was:?}");
        }
        let (now, was) = (self.unaccounted_pages, before.unaccounted_pages);
        ensure!(now == was, "{now} pages are in use that no process accounts for, before it was {was}");
        ensure!(
            self.threads == before.threads && self.all_processes == before.all_processes,
            "{} threads and {} processes, before it was {} and {}",
            self.threads,
            self.all_processes,
            before.threads,
            before.all_processes
        );
        Ok(())
    }
}

/// Looks at a system at rest, and checks what holds of any one.
pub fn look(system: &mut System, manifest: &Manifest) -> Result<Rest> {
    only_the_harmed_died(system)?;
    nobody_waits_too_long(system)?;
    let overrun = system.kernel().arch().uart.borrow().overrun;
    ensure!(overrun == 0, "{overrun} bytes were sent to a device that had no room");
    let mut processes = BTreeMap::new();
    let mut accounted = 0;
    for id in system.kernel().processes() {
        let Some(status) = system.kernel().status(id) else { continue };
        accounted += status.populated_pages;
        if status.state != STATE_ALIVE {
            continue;
        }
        let services = manifest.services.iter();
        let service = services.into_iter().find(|service| service_id(&service.name) == status.service_id);
        let name = service.map_or(INIT, |service| service.name.as_str());
        ensure!(
            service.is_some() || status.service_id == service_id(INIT),
            "process {} is of a service that the manifest does not name",
            status.process_id
        );
        let mut holdings = Holdings { capabilities: BTreeMap::new(), threads: status.threads };
        for capability in system.kernel().capabilities(id) {
            service.map_or(Ok(()), |service| given(service, &capability))?;
            let kind = u8::try_from(capability.kind).ok().and_then(Kind::from_number);
            *holdings.capabilities.entry((format!("{kind:?}"), capability.rights)).or_default() += 1;
        }
        let twice = processes.insert(name.to_string(), holdings);
        ensure!(twice.is_none(), "two processes are {name}");
    }
    let totals = system.kernel().totals();
    Ok(Rest {
        processes,
        unaccounted_pages: totals.used_pages.saturating_sub(accounted),
        threads: totals.threads,
        all_processes: totals.processes,
    })
}

/// Whether a service may hold what it holds.
fn given(service: &Service, capability: &CapabilityInfo) -> Result<()> {
    let kind = u8::try_from(capability.kind).ok().and_then(Kind::from_number);
    let control = service.control;
    let parts =
        [(control.log, Rights::LOG), (control.inspect, Rights::INSPECT), (control.reset, Rights::RESET)];
    let allowed: Rights = parts.into_iter().filter(|(wanted, _)| *wanted).map(|(_, right)| right).collect();
    let may = match kind {
        Some(Kind::Endpoint | Kind::Reply | Kind::Notification | Kind::Vmo) => true,
        Some(Kind::DeviceMmio | Kind::Irq) => !service.devices.is_empty(),
        Some(Kind::SystemControl) => allowed.contains(Rights::from_bits_truncate(capability.rights)),
        _ => false,
    };
    ensure!(may, "{} holds {kind:?} with the rights {:#x}", service.name, capability.rights);
    Ok(())
}

fn only_the_harmed_died(system: &System) -> Result<()> {
    let expected = |death: &Death| {
        let harm = system.harmed().get(&death.number);
        match death.state {
            STATE_EXITED => death.exit_code == 0 || harm.is_some(),
            // A refused allocation or a message that it did not mean to send may end it, its own fault or not.
            STATE_FAULTED => matches!(harm, Some(Harm::Refuse | Harm::Corrupt)),
            _ => harm.is_some() || death.exit_code == KILLED_ON_REQUEST,
        }
    };
    let unexpected = system.deaths().iter().find(|death| !expected(death));
    ensure!(unexpected.is_none(), "somebody died who was not harmed: {unexpected:?}\n{}", system.console());
    Ok(())
}

/// No call waits past its deadline.
pub fn nobody_waits_too_long(system: &mut System) -> Result<()> {
    let now = system.now();
    let threads: Vec<_> = system.threads().collect();
    for thread in threads {
        let Some(wait) = system.kernel().wait(thread) else { continue };
        ensure!(
            !wait.calls || wait.deadline > now,
            "a call waits on after its deadline at {}, and it is {now}",
            wait.deadline
        );
    }
    Ok(())
}
