//! Processes that init makes: every other one ends by itself, the others are killed.

use crate::PATIENCE;
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use nexus_abi::Error;
use nexus_abi::records::STATE_EXITED;
use nexus_ipc::CallError;
use nexus_proto::init::{Client, InitError, Run, Target};
use nexus_rt::Environment;

const CHILD: &str = "soak-child";
/// Time after which a child that stays is killed.
const SHORT: Duration = Duration::from_millis(3);

/// Who is started: ends at once, or waits for whoever kills it.
pub fn child(environment: &Environment) -> u64 {
    environment.ready();
    while environment.has_argument("stay") {
        environment.sleep(PATIENCE);
    }
    0
}

/// The supervisor, asked again and again.
pub struct Spawns<'a> {
    /// What this process was given.
    pub environment: &'a Environment,
    /// The supervisor.
    pub init: Client,
}

impl Spawns<'_> {
    /// Starts and ends so many children, one after the other.
    pub fn rounds(&mut self, count: u64) -> Result<(), String> {
        for round in 0..count {
            let ended = if round.is_multiple_of(2) { self.let_end() } else { self.kill() };
            ended.map_err(|reason| format!("spawn {round}: {reason}"))?;
        }
        Ok(())
    }

    fn let_end(&self) -> Result<(), String> {
        let request = Run { name: CHILD.into(), arguments: String::new() };
        let ended = self.init.run(&request, self.environment.deadline(PATIENCE));
        let ended = ended.map_err(|error| format!("running it: {error}"))?;
        if (ended.state, ended.exit_code) == (STATE_EXITED.into(), 0) {
            Ok(())
        } else {
            Err(format!("it ended with {ended:?}"))
        }
    }

    /// Starts a child that stays, gives up waiting for its end, and kills it.
    fn kill(&self) -> Result<(), String> {
        let request = Run { name: CHILD.into(), arguments: "stay".into() };
        let deadline = self.environment.deadline(PATIENCE);
        while !deadline.has_passed() {
            match self.init.run(&request, self.environment.deadline(SHORT)) {
                // Running: init had heard of the time before, and was slow.
                Err(CallError::Kernel(Error::TimedOut) | CallError::Service(InitError::Running)) => {}
                other => return Err(format!("running one that stays: {other:?}")),
            }
            match self.init.kill(&Target::Name(CHILD.into()), self.environment.deadline(PATIENCE)) {
                Ok(()) => return self.wait_until_gone(),
                // Init had not yet heard of it.
                Err(CallError::Service(InitError::NotRunning)) => {}
                Err(error) => return Err(format!("killing it: {error}")),
            }
        }
        Err("it does not start".into())
    }

    fn wait_until_gone(&self) -> Result<(), String> {
        let deadline = self.environment.deadline(PATIENCE);
        while !deadline.has_passed() {
            let services = self.init.list(&(), deadline).map_err(|error| format!("init's list: {error}"))?;
            if services.entries.iter().any(|entry| entry.name == CHILD && entry.process_id == 0) {
                return Ok(());
            }
            nexus_abi::system::thread_yield();
        }
        Err("it is not gone".into())
    }
}
