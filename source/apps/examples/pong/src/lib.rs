//! The server of the example: one endpoint, one operation. Its messages are `nexus_proto::pong`.
#![cfg_attr(target_os = "none", no_std)]

use core::convert::Infallible;
use nexus_ipc::{Caller, Deadline, Event};
use nexus_proto::pong::{self, Ping, Pong};
use nexus_rt::{Environment, SetupError, error, info};

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    let Err(reason) = serve(environment);
    error!("pong: {reason}");
    1
}

fn serve(environment: &Environment) -> Result<Infallible, SetupError> {
    let mut receiver = environment.to_serve(pong::REFERENCE.endpoint, pong::MAX_BYTES)?;
    let mut server = Answering { answered: 0 };
    info!("pong: ready");
    environment.ready();
    loop {
        if let Event::Call(call) = receiver.next(Deadline::NEVER)? {
            pong::dispatch(&mut server, call);
        }
    }
}

/// All the state there is.
struct Answering {
    answered: u64,
}

impl pong::Server for Answering {
    fn ping(&mut self, _caller: Caller, request: Ping) -> Result<Pong, ()> {
        self.answered = self.answered.wrapping_add(1);
        Ok(Pong { number: request.number, answered: self.answered })
    }
}
