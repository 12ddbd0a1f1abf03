//! The other end of the self-test: echoes, tells who calls, works on what is lent, crashes and keeps callers
//! waiting. One program, several services: which one it is says its name.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod roles;

use alloc::vec;
use core::convert::Infallible;
use core::time::Duration;
use nexus_abi::Error;
use nexus_ipc::{Answer, Bytes, CallError, Caller, Deadline, Event, Leases};
use nexus_proto::helper::{self, Number};
use nexus_proto::keystore::{self, KeyError};
use nexus_proto::peer::{self, ECHO_BYTES_MAX, Identity};
use nexus_rt::{Environment, SetupError, error, info};

/// Time that a call of its own may take: less than the simulator waits for a system to come to rest.
const PATIENCE: Duration = Duration::from_secs(25);
/// Bytes of lent memory that it looks at at a time.
const PART_BYTES: usize = 32 * 1024;

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    let Err(reason) = match environment.name() {
        "selftest-helper" => roles::help(environment),
        "selftest-busy" => roles::be_busy(environment),
        "selftest-slow" => roles::be_slow(environment),
        _ => serve(environment),
    };
    error!("{}: {reason}", environment.name());
    1
}

fn says_that_it_is_ready(environment: &Environment) {
    info!("{}: ready", environment.name());
    environment.ready();
}

fn serve(environment: &Environment) -> Result<Infallible, SetupError> {
    let mut receiver = environment.to_serve(peer::REFERENCE.endpoint, peer::MAX_BYTES)?;
    let helper = helper::Client::new(environment.to_call(helper::REFERENCE.endpoint)?);
    let keystore = keystore::Client::new(environment.to_call(keystore::REFERENCE.endpoint)?);
    let mut server = Peer { environment, helper, keystore, held: None, kept: None };
    says_that_it_is_ready(environment);
    loop {
        if let Event::Call(call) = receiver.next(Deadline::NEVER)? {
            peer::dispatch(&mut server, call);
        }
    }
}

struct Peer<'a> {
    environment: &'a Environment,
    helper: helper::Client,
    keystore: keystore::Client,
    held: Option<Answer<(), ()>>,
    kept: Option<Answer<(), ()>>,
}

/// What became of something, as a number.
fn told(outcome: Result<(), Error>) -> Number {
    Number { number: outcome.map_or_else(|error| error as u64, |()| 0) }
}

/// Turns over every bit of what a caller lends first.
fn turned_over(leases: &Leases<'_>) -> Number {
    told((|| {
        let memory = leases.get(0)?;
        let mut part = vec![0; PART_BYTES];
        for offset in (0..memory.bytes()).step_by(PART_BYTES) {
            let part = &mut part[..(memory.bytes() - offset).min(PART_BYTES as u64) as usize];
            memory.read(offset, part)?;
            part.iter_mut().for_each(|byte| *byte = !*byte);
            memory.write(offset, part)?;
        }
        Ok(())
    })())
}

impl Peer<'_> {
    fn deadline(&self) -> Deadline {
        self.environment.deadline(PATIENCE)
    }
}

impl peer::Server for Peer<'_> {
    fn echo(&mut self, _caller: Caller, request: Bytes<ECHO_BYTES_MAX>) -> Result<Bytes<ECHO_BYTES_MAX>, ()> {
        Ok(request)
    }

    fn whoami(&mut self, caller: Caller, (): ()) -> Result<Identity, ()> {
        let generation = self.environment.page().generation.into();
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

    fn invert(&mut self, _caller: Caller, (): (), leases: &Leases<'_>) -> Result<Number, ()> {
        Ok(turned_over(leases))
    }

    fn delegate(&mut self, _caller: Caller, request: Number, leases: &Leases<'_>) -> Result<Number, ()> {
        let memory = leases.get(0).map_err(drop)?;
        let begin = memory.bytes().saturating_sub(request.number) / 2;
        let middle = memory.lend_writable(begin..begin.saturating_add(request.number));
        self.helper.invert(&(), [middle], self.deadline()).map_err(drop)
    }

    fn keep(&mut self, _caller: Caller, (): (), answer: Answer<(), ()>) {
        self.kept = Some(answer);
    }

    fn recall(&mut self, _caller: Caller, (): ()) -> Result<Number, ()> {
        let kept = self.kept.take().ok_or(())?;
        Ok(told(kept.leases().get(0).and_then(|memory| memory.read(0, &mut [0]))))
    }

    fn forward(&mut self, _caller: Caller, request: Number, answer: Answer<Number, ()>) {
        // Where it comes back it is dropped, and the caller is told that nobody is there.
        if let Err(reason) = self.helper.settle(&request, answer, self.deadline()) {
            error!("{}: handing on: {reason}", self.environment.name());
        }
    }

    fn work(&mut self, _caller: Caller, request: Number) -> Result<(), ()> {
        self.helper.work(&request, self.deadline()).map_err(drop)
    }

    fn sign(&mut self, _caller: Caller, (): ()) -> Result<Number, ()> {
        match self.keystore.sign(&Bytes(vec![0x5a]), self.deadline()) {
            Ok(_) => Ok(Number { number: 0 }),
            Err(CallError::Service(KeyError::Denied)) => Ok(Number { number: 1 }),
            Err(_) => Err(()),
        }
    }
}
