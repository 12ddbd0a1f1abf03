//! A writer of the state that says after each change that it was acknowledged, while service, driver or power may be
//! gone at any moment.

use crate::PATIENCE;
use crate::steps::{Step, Steps};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use nexus_abi::Error;
use nexus_ipc::CallError;
use nexus_proto::init::{Client as Init, Run};
use nexus_rt::{Environment, error, info};
use nexus_state::{Change, Refusal, State, StateFailure};

/// Who is the second writer, and time after which nobody waits any longer for its end.
const CHILD: &str = "soak-child";
const SHORT: Duration = Duration::from_millis(20);
/// Times that one step is tried, each of which outlives several deaths of the service or its driver.
const ATTEMPTS: u32 = 8;

/// Makes so many steps of a seed, with a second writer beside it if there are to be two.
pub fn write(
    environment: &Environment,
    init: Init,
    seed: u64,
    count: u64,
    writers: u64,
) -> Result<(), String> {
    if writers > 1 {
        let arguments = format!("second state={seed} steps={count}");
        // Whoever runs a program waits for its end; this one goes on by itself.
        match init.run(&Run { name: CHILD.into(), arguments }, environment.deadline(SHORT)) {
            Ok(_) | Err(CallError::Kernel(Error::TimedOut)) => {}
            other => return Err(format!("running the second writer: {other:?}")),
        }
    }
    make_all(environment, Steps::new(seed), count, "state")
}

/// The second writer; its value is the exit code.
pub fn write_beside(environment: &Environment, seed: u64, count: u64) -> u64 {
    match make_all(environment, Steps::second(seed), count, "second") {
        Ok(()) => 0,
        Err(reason) => {
            error!("soak: FAIL the second writer: {reason}");
            1
        }
    }
}

/// Makes so many steps and says after each that it was acknowledged. A store that is gone for good ends it, and is no
/// failure of the store.
fn make_all(environment: &Environment, steps: Steps, count: u64, writer: &str) -> Result<(), String> {
    let mut state = State::open(environment).map_err(|error| format!("{error}"))?;
    for (step, number) in steps.zip(1..=count) {
        if let Err(failure) = make(environment, &mut state, &step) {
            error!("soak: {writer} ended behind {}: {failure}", number - 1);
            return Ok(());
        }
        info!("soak: {writer} {number}");
    }
    info!("soak: {writer} is written");
    Ok(())
}

fn make(environment: &Environment, state: &mut State, step: &Step) -> Result<(), StateFailure> {
    let mut attempt = 1;
    loop {
        let due = environment.deadline(PATIENCE);
        let outcome = match step.first_key_value() {
            Some((key, None)) => state.delete(key, None, due),
            _ => {
                let changes: Vec<_> = step
                    .iter()
                    .map(|(key, value)| Change { key, value: value.as_deref(), expect: None })
                    .collect();
                state.batch(&changes, due)
            }
        };
        match outcome {
            Ok(_) | Err(CallError::Service(Refusal::NotFound)) => return Ok(()),
            Err(failure) if attempt == ATTEMPTS => return Err(failure),
            Err(_) => attempt += 1,
        }
    }
}
