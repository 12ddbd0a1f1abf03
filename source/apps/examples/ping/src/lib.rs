//! The client of the example: three calls with a deadline each. `run ping` at the prompt starts it.
#![cfg_attr(target_os = "none", no_std)]

use core::time::Duration;
use nexus_proto::pong::{self, Ping};
use nexus_rt::{Environment, SetupError, error, info};

/// Pings that are sent.
const PINGS: u64 = 3;
/// Time for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    environment.ready();
    match send(environment) {
        Ok(()) => 0,
        Err(reason) => {
            error!("ping: {reason}");
            1
        }
    }
}

fn send(environment: &Environment) -> Result<(), SetupError> {
    let client = pong::Client::new(environment.to_call(pong::REFERENCE.endpoint)?);
    for number in 1..=PINGS {
        match client.ping(&Ping { number }, environment.deadline(TIMEOUT)) {
            Ok(pong) => info!("ping: {} came back; pong has answered {} so far", pong.number, pong.answered),
            Err(reason) => error!("ping: {number} did not come back: {reason}"),
        }
    }
    Ok(())
}
