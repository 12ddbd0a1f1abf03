//! Programs without an end: whoever has init run one waits for no answer, and looks whether it is there.

use crate::PATIENCE;
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use nexus_abi::Error;
use nexus_ipc::CallError;
use nexus_proto::init::{Client, InitError, Run, ServiceEntry};
use nexus_rt::Environment;

/// Time after which nobody waits any longer for the end of a program that has none.
const SHORT: Duration = Duration::from_millis(20);

/// What init says of a service.
pub fn entry(environment: &Environment, init: &Client, name: &str) -> Result<ServiceEntry, String> {
    let services = init.list(&(), environment.deadline(PATIENCE));
    let services = services.map_err(|error| format!("init's list: {error}"))?;
    let entry = services.entries.into_iter().find(|entry| entry.name == name);
    entry.ok_or_else(|| format!("there is no {name}"))
}

/// Has init start a program that has no end, until there is a process that was not there before: on a slow machine
/// init may not receive in time that it is to, or start it long after that, or end it as late.
pub fn start(environment: &Environment, init: &Client, request: &Run) -> Result<(), String> {
    let name = &request.name;
    let before = entry(environment, init, name)?.process_id;
    let deadline = environment.deadline(PATIENCE);
    while !deadline.has_passed() {
        match init.run(request, environment.deadline(SHORT)) {
            // Running: init had heard of the time before.
            Err(CallError::Kernel(Error::TimedOut) | CallError::Service(InitError::Running)) => {}
            other => return Err(format!("{name} was run and ended: {other:?}")),
        }
        let now = entry(environment, init, name)?.process_id;
        if now != 0 && now != before {
            return Ok(());
        }
        // Running is answered at once.
        environment.sleep(SHORT);
    }
    Err(format!("{name} does not start"))
}
