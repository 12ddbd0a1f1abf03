//! The other end of the self-test: echoes, tells who calls, crashes and keeps callers waiting.
#![cfg_attr(target_os = "none", no_std)]

use core::convert::Infallible;
use nexus_ipc::{Answer, Bytes, Caller, Deadline, Event};
use nexus_proto::peer::{self, ECHO_BYTES_MAX, Identity};
use nexus_rt::{Environment, SetupError, error, info};

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    let Err(reason) = serve(environment);
    error!("selftest-peer: {reason}");
    1
}

fn serve(environment: &Environment) -> Result<Infallible, SetupError> {
    let mut receiver = environment.to_serve(peer::REFERENCE.endpoint, peer::MAX_BYTES)?;
    let mut server = Peer { generation: environment.page().generation, held: None };
    info!("selftest-peer: ready");
    environment.ready();
    loop {
        if let Event::Call(call) = receiver.next(Deadline::NEVER)? {
            peer::dispatch(&mut server, call);
        }
    }
}

struct Peer {
    generation: u32,
    held: Option<Answer<(), ()>>,
}

impl peer::Server for Peer {
    fn echo(&mut self, _caller: Caller, request: Bytes<ECHO_BYTES_MAX>) -> Result<Bytes<ECHO_BYTES_MAX>, ()> {
        Ok(request)
    }

    fn whoami(&mut self, caller: Caller, (): ()) -> Result<Identity, ()> {
        let generation = self.generation.into();
        Ok(Identity { service_id: caller.service_id, process_id: caller.process_id, generation })
    }

    fn crash(&mut self, _caller: Caller, (): ()) -> Result<(), ()> {
        panic!("asked to crash with the call open");
    }

    fn hold(&mut self, _caller: Caller, (): (), answer: Answer<(), ()>) {
        self.held = Some(answer);
    }

    fn forbidden(&mut self, _caller: Caller, (): ()) -> Result<(), ()> {
        Ok(())
    }
}
