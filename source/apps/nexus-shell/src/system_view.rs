//! What the shell sees of the system: processes from the kernel, their names from init.

use crate::commands::{CALL_PATIENCE, Shell};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use nexus_abi::records::ProcessStatus;
use nexus_abi::{Error, service_id, system};
use nexus_proto::init::ServiceEntry;

/// The supervisor, which does not list itself.
pub const INIT_NAME: &str = "nexus-init";
/// Processes that are listed at the most.
const PROCESSES_MAX: usize = 1024;

/// Every service, by init's word.
pub fn services(shell: &Shell<'_>) -> Result<Vec<ServiceEntry>, String> {
    let services = shell.init.list(&(), shell.environment.deadline(CALL_PATIENCE));
    services.map(|services| services.entries).map_err(|error| format!("init: {error}"))
}

/// Every process, by the kernel's word.
pub fn processes(shell: &Shell<'_>) -> Result<Vec<ProcessStatus>, String> {
    let mut processes: Vec<ProcessStatus> = Vec::new();
    while processes.len() < PROCESSES_MAX {
        let after = processes.last().map_or(0, |status| status.process_id);
        match system::process_list(shell.control, after) {
            Ok(status) => processes.push(status),
            Err(Error::WouldBlock) => break,
            Err(error) => return Err(format!("the list of processes: {error}")),
        }
    }
    Ok(processes)
}

/// The name of a service id.
pub fn name_of(services: &[ServiceEntry], id: u64) -> String {
    if id == service_id(INIT_NAME) {
        return INIT_NAME.into();
    }
    let known = services.iter().find(|service| service.service_id == id);
    known.map_or_else(|| format!("{id:016x}"), |service| service.name.clone())
}

/// The process that a word of the command line means: a number, or a service's name.
pub fn process_of(shell: &Shell<'_>, word: &str) -> Result<u64, String> {
    if let Ok(number) = word.parse() {
        return Ok(number);
    }
    let id = service_id(word);
    let alive = processes(shell)?.into_iter().find(|status| status.service_id == id);
    alive
        .map(|status| status.process_id)
        .ok_or_else(|| format!("no process is called `{word}`; `ps` lists them"))
}
