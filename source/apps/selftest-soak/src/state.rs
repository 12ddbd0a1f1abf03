//! A writer of the state that says after each change that it was acknowledged, while service, driver or power may be
//! gone at any moment.

use crate::PATIENCE;
use crate::steps::{Step, Steps};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use nexus_ipc::CallError;
use nexus_rt::{Environment, error, info};
use nexus_state::{Change, Refusal, State, StateFailure};

/// Times that one step is tried, each of which outlives several deaths of the service or its driver.
const ATTEMPTS: u32 = 8;

/// Makes so many steps of a seed. A store that is gone for good ends it, and is no failure of the store.
pub fn write(environment: &Environment, seed: u64, count: u64) -> Result<(), String> {
    let mut state = State::open(environment).map_err(|error| format!("{error}"))?;
    for (step, number) in Steps::new(seed).zip(1..=count) {
        if let Err(failure) = make(environment, &mut state, &step) {
            error!("soak: state ended behind {}: {failure}", number - 1);
            return Ok(());
        }
        info!("soak: state {number}");
    }
    info!("soak: state is written");
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
