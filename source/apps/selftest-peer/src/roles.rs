//! The smaller parts of the other end, each a service of its own: they help it, keep the machine busy and stand
//! before others in a queue.

use crate::turned_over;
use core::convert::Infallible;
use nexus_abi::system;
use nexus_ipc::{Answer, Caller, Deadline, Event, Leases};
use nexus_proto::helper::{self, Number};
use nexus_proto::{busy, peer, slow};
use nexus_rt::{Environment, SetupError, info};

/// Turns after which whoever is busy has enough, should nobody end it.
const TURNS_MAX: u64 = 1_000_000;

/// `selftest-helper`.
pub fn help(environment: &Environment) -> Result<Infallible, SetupError> {
    let receiver = environment.to_serve(helper::REFERENCE.endpoint, helper::MAX_BYTES)?;
    let mut receiver = receiver.taking_capabilities();
    let mut server = Helper { service_id: environment.page().service_id, begun: None, done: None };
    crate::says_that_it_is_ready(environment);
    loop {
        if let Event::Call(call) = receiver.next(Deadline::NEVER)? {
            helper::dispatch(&mut server, call);
        }
    }
}

struct Helper {
    service_id: u64,
    begun: Option<Answer<(), ()>>,
    done: Option<Answer<(), ()>>,
}

impl helper::Server for Helper {
    fn invert(&mut self, _caller: Caller, (): (), leases: &Leases<'_>) -> Result<Number, ()> {
        Ok(turned_over(leases))
    }

    fn settle(&mut self, _caller: Caller, request: Number, owed: Answer<Number, ()>) -> Result<(), ()> {
        owed.send(Ok(Number { number: request.number ^ self.service_id })).map_err(drop)
    }

    fn work(&mut self, _caller: Caller, request: Number) -> Result<(), ()> {
        // Whoever asked may have given up.
        let tell = |answer: Option<Answer<(), ()>>| answer.map(|answer| answer.send(Ok(())));
        tell(self.begun.take());
        for _ in 0..request.number {
            system::thread_yield();
        }
        tell(self.done.take());
        Ok(())
    }

    fn begun(&mut self, _caller: Caller, (): (), answer: Answer<(), ()>) {
        self.begun = Some(answer);
    }

    fn done(&mut self, _caller: Caller, (): (), answer: Answer<(), ()>) {
        self.done = Some(answer);
    }
}

/// `selftest-busy`.
pub fn be_busy(environment: &Environment) -> Result<Infallible, SetupError> {
    let mut receiver = environment.to_serve(busy::REFERENCE.endpoint, busy::MAX_BYTES)?;
    let mut server = Busy { turns: None };
    crate::says_that_it_is_ready(environment);
    loop {
        let is_busy = server.turns.is_some_and(|turns| turns < TURNS_MAX);
        match receiver.next(if is_busy { Deadline::at(0) } else { Deadline::NEVER })? {
            Event::Call(call) => busy::dispatch(&mut server, call),
            Event::TimedOut => {
                server.turns = server.turns.map(|turns| turns + 1);
                system::thread_yield();
            }
            _ => {}
        }
    }
}

struct Busy {
    turns: Option<u64>,
}

impl busy::Server for Busy {
    fn start(&mut self, _caller: Caller, (): (), answer: Answer<(), ()>) {
        self.turns = answer.send(Ok(())).is_ok().then_some(0);
    }

    fn stop(&mut self, _caller: Caller, (): ()) -> Result<Number, ()> {
        self.turns.take().map(|number| Number { number }).ok_or(())
    }
}

/// `selftest-slow`.
pub fn be_slow(environment: &Environment) -> Result<Infallible, SetupError> {
    let mut receiver = environment.to_serve(slow::REFERENCE.endpoint, slow::MAX_BYTES)?;
    let peer = peer::Client::new(environment.to_call(peer::REFERENCE.endpoint)?);
    let mut server = Slow { environment, peer };
    crate::says_that_it_is_ready(environment);
    loop {
        if let Event::Call(call) = receiver.next(Deadline::NEVER)? {
            slow::dispatch(&mut server, call);
        }
    }
}

struct Slow<'a> {
    environment: &'a Environment,
    peer: peer::Client,
}

impl slow::Server for Slow<'_> {
    fn begin(&mut self, _caller: Caller, request: Number, answer: Answer<(), ()>) {
        if answer.send(Ok(())).is_ok()
            && let Err(reason) = self.peer.work(&request, self.environment.deadline(crate::PATIENCE))
        {
            info!("{}: {reason}", self.environment.name());
        }
    }
}
