//! Keys and values that survive.
//!
//! It opens the partition `state` through `virtioblkd` ([`partition`]), runs the engine `statefs` on it, and asks the
//! policy for each key ([`gate`]). What it decides is in `state-service`; here that meets messages, the clock and
//! memory that clients lend. A change is answered after the flush that made it durable; while one flush is made,
//! whoever calls waits, and what waits shares the next one. Where there is no store it says why in one line, answers
//! everybody so, and goes on.
//!
//! Where to start reading: [`serve`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod gate;
mod opening;
mod partition;
mod seeds;
mod words;

use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::time::Duration;
use gate::Gate;
use nexus_abi::system;
use nexus_ipc::{Answer, Caller, Deadline, Event, Message};
use nexus_policy::Policy;
use nexus_proto::state::{
    BATCH_LENT_BYTES_MAX, BadChanges, Batch, Changes, Delete, Done, Found, Key, List, MAX_BYTES, NoStore,
    PAGE_KEYS_MAX, Page, Put, REFERENCE, Server, Session, Space, StateError, VALUE_BYTES_MAX, dispatch,
};
use nexus_rt::{Environment, SetupError, error, info, warning};
use partition::Partition;
use seeds::Seeds;
use state_service::Desk;
use statefs::{OperationId, Write};

/// Time without changes after which the last one is sealed.
const IDLE: Duration = Duration::from_millis(100);
/// Names of operations that one session has.
const SESSION_BITS: u32 = 32;

type ToAnswer = Answer<Done, StateError>;

/// Bytes that the heap has from the beginning.
const HEAP_BYTES: usize = 1024 * 1024;

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    // The heap takes now what it needs at most times: a program that is busier later need not find it missing.
    drop(core::hint::black_box(Vec::<u8>::with_capacity(HEAP_BYTES)));
    let Err(reason) = serve(environment);
    error!("statefsd: {reason}");
    1
}

fn serve(environment: &Environment) -> Result<Infallible, SetupError> {
    let mut receiver = environment.to_serve(REFERENCE.endpoint, MAX_BYTES)?;
    let gate = Gate::new(Policy::open(environment)?, environment.clock());
    let mut seeds = Seeds::draw(environment);
    let store = opening::open(environment, &mut seeds);
    let idle_ticks = environment.clock().ticks(IDLE);
    let desk = store.map(|store| Desk::new(store, idle_ticks));
    let mut service = Service { gate, seeds, desk, value: Vec::new() };
    service.tell_opening();
    environment.ready();
    loop {
        match receiver.next(service.due())? {
            Event::Call(call) => dispatch(&mut service, call),
            Event::TimedOut => service.nobody_called(),
            _ => {}
        }
        service.answer();
    }
}

/// The store, if there is one, and who may use it.
struct Service<'a> {
    gate: Gate,
    seeds: Option<Seeds<'a>>,
    desk: Result<Desk<Partition, ToAnswer>, NoStore>,
    /// Where a value stands between its client's memory and the store's, and back.
    value: Vec<u8>,
}

impl Service<'_> {
    fn tell_opening(&mut self) {
        self.tell_damage();
        match &mut self.desk {
            Ok(desk) => {
                let (space, is_read_only) = (desk.space(), desk.store().is_read_only());
                if self.seeds.is_none() {
                    warning!("statefsd: there is no entropy: the store can be read alone");
                } else if is_read_only {
                    error!("statefsd: the store is damaged and can be read alone; see `nx statefs fsck`");
                }
                info!("statefsd: the store has {} of {} keys", space.keys, space.keys_max);
                info!("statefsd: ready");
            }
            Err(reason) => warning!("statefsd: there is no /state: {reason}"),
        }
    }

    fn tell_damage(&mut self) {
        let lines = self.desk.as_mut().map(|desk| desk.new_damage()).unwrap_or_default();
        lines.iter().for_each(|line| error!("statefsd: {line}"));
    }

    /// Until when to wait for a call: not at all while changes wait for their flush.
    fn due(&self) -> Deadline {
        match &self.desk {
            Ok(desk) if desk.has_waiting() => Deadline::at(0),
            Ok(desk) => desk.due().map_or(Deadline::NEVER, Deadline::at),
            Err(_) => Deadline::NEVER,
        }
    }

    /// Everybody who called is staged: one flush for all of them. Or the time of rest has come.
    fn nobody_called(&mut self) {
        let Ok(desk) = &mut self.desk else { return };
        if desk.has_waiting() {
            desk.commit();
            desk.stir(system::ticks());
        } else {
            desk.idle();
        }
        self.tell_damage();
    }

    /// Answers what is durable, or refused.
    fn answer(&mut self) {
        let Ok(desk) = &mut self.desk else { return };
        for (client, outcome) in desk.answers() {
            let outcome = outcome.map(|version| Done { version }).map_err(words::refusal);
            // Whoever asked may have given up meanwhile; what was changed stays.
            let _ = client.send(outcome);
        }
    }

    fn desk(&mut self) -> Result<&mut Desk<Partition, ToAnswer>, StateError> {
        self.desk.as_mut().map_err(|reason| StateError::NoStore(*reason))
    }

    /// Takes a change on, or says why not.
    fn change(&mut self, writes: &[Write<'_>], operation: Option<OperationId>, client: ToAnswer) {
        match self.desk() {
            Ok(desk) => desk.change(&statefs::Batch { writes, operation }, client),
            Err(refusal) => refuse(client, refusal),
        }
    }

    /// Whether there is a store, and the caller may read or write this key.
    fn may(&mut self, caller: Caller, key: &str, writes: bool) -> Result<(), StateError> {
        self.desk()?;
        self.gate.key(caller, key, writes)
    }

    fn read(
        &mut self,
        caller: Caller,
        key: &Key,
        client: &Answer<Found, StateError>,
    ) -> Result<Found, StateError> {
        self.may(caller, &key.key, false)?;
        let mut value = core::mem::take(&mut self.value);
        let outcome = self.read_into(key, &mut value, client);
        self.value = value;
        self.tell_damage();
        outcome
    }

    fn read_into(
        &mut self,
        key: &Key,
        value: &mut Vec<u8>,
        client: &Answer<Found, StateError>,
    ) -> Result<Found, StateError> {
        let desk = self.desk()?;
        let store = desk.store();
        let known = store.stat(key.key.as_bytes()).map_err(words::refusal)?;
        if !store.device_mut().is_reachable() {
            return Err(StateError::DeviceFailed);
        }
        let version = store.get_into(key.key.as_bytes(), value).map_err(words::refusal)?;
        let bytes = u64::from(known.length);
        if bytes > 0 {
            let lent = client.leases().get(0).map_err(|_| StateError::BadLease)?;
            if lent.bytes() < bytes {
                return Err(StateError::TooShort { bytes });
            }
            lent.write(0, value).map_err(|_| StateError::BadLease)?;
        }
        Ok(Found { version, bytes })
    }

    /// A batch's changes, out of what its client lends.
    fn changes<'b>(&mut self, caller: Caller, lent: &'b [u8]) -> Result<Vec<Write<'b>>, StateError> {
        let changes = Changes::from_bytes(lent).map_err(|bad| match bad {
            BadChanges::Malformed => StateError::BadLease,
            BadChanges::TooMany => StateError::BatchTooLarge,
        })?;
        let changes = changes.changes;
        for change in &changes {
            self.may(caller, change.key, true)?;
        }
        let write = |change: &nexus_proto::state::Change<'b>| Write {
            key: change.key.as_bytes(),
            value: change.value,
            expect: change.expect,
        };
        Ok(changes.iter().map(write).collect())
    }
}

fn refuse<A: Message>(client: Answer<A, StateError>, refusal: StateError) {
    // Whoever asked may have given up meanwhile.
    let _ = client.send(Err(refusal));
}

/// Copies so many bytes of what the caller lends, once: what is decided about is the copy.
fn copy_in(client: &ToAnswer, bytes: u32, to: &mut Vec<u8>) -> Result<(), StateError> {
    to.clear();
    if bytes > 0 {
        to.resize(bytes as usize, 0);
        let lent = client.leases().get(0).map_err(|_| StateError::BadLease)?;
        lent.read(0, to).map_err(|_| StateError::BadLease)?;
    }
    Ok(())
}

/// An operation's name, under the name of who asks for it: nobody repeats another's.
fn operation_of(caller: Caller, operation: Option<u64>) -> Option<OperationId> {
    operation.map(|operation| OperationId { client: caller.service_id, operation })
}

impl Server for Service<'_> {
    fn get(&mut self, caller: Caller, request: Key, answer: Answer<Found, StateError>) {
        let outcome = self.read(caller, &request, &answer);
        // Whoever asked may have given up meanwhile.
        let _ = answer.send(outcome);
    }

    fn put(&mut self, caller: Caller, request: Put, answer: ToAnswer) {
        let mut value = core::mem::take(&mut self.value);
        let outcome = match request.bytes as usize > VALUE_BYTES_MAX {
            true => Err(StateError::ValueTooLarge),
            false => self.may(caller, &request.key, true),
        };
        match outcome.and_then(|()| copy_in(&answer, request.bytes, &mut value)) {
            Ok(()) => {
                let key = request.key.as_bytes();
                let write = Write { key, value: Some(&value), expect: request.expect };
                self.change(&[write], operation_of(caller, request.operation), answer);
            }
            Err(refusal) => refuse(answer, refusal),
        }
        self.value = value;
    }

    fn delete(&mut self, caller: Caller, request: Delete, answer: ToAnswer) {
        match self.may(caller, &request.key, true) {
            Ok(()) => {
                let write = Write { key: request.key.as_bytes(), value: None, expect: request.expect };
                self.change(&[write], operation_of(caller, request.operation), answer);
            }
            Err(refusal) => refuse(answer, refusal),
        }
    }

    fn batch(&mut self, caller: Caller, request: Batch, answer: ToAnswer) {
        if request.bytes as usize > BATCH_LENT_BYTES_MAX {
            return refuse(answer, StateError::BatchTooLarge);
        }
        let mut lent = vec![];
        let copied = copy_in(&answer, request.bytes, &mut lent);
        match copied.and_then(|()| self.changes(caller, &lent)) {
            Ok(writes) => self.change(&writes, operation_of(caller, request.operation), answer),
            Err(refusal) => refuse(answer, refusal),
        }
    }

    fn stat(&mut self, caller: Caller, request: Key) -> Result<Found, StateError> {
        self.may(caller, &request.key, false)?;
        let known = self.desk()?.store().stat(request.key.as_bytes()).map_err(words::refusal)?;
        Ok(Found { version: known.version, bytes: known.length.into() })
    }

    fn list(&mut self, caller: Caller, request: List) -> Result<Page, StateError> {
        self.desk()?;
        self.gate.listing(caller, &request.prefix)?;
        let limit = match request.limit as usize {
            0 => PAGE_KEYS_MAX,
            limit => limit.min(PAGE_KEYS_MAX),
        };
        let desk = self.desk()?;
        Ok(words::page(desk.list(&request.prefix, request.after.as_deref(), limit)))
    }

    fn space(&mut self, _caller: Caller, (): ()) -> Result<Space, StateError> {
        let desk = self.desk()?;
        let (space, changes) = (desk.space(), desk.changes());
        let store = desk.store();
        Ok(Space {
            bytes: space.bytes,
            bytes_max: space.bytes_max,
            keys: space.keys,
            keys_max: space.keys_max,
            is_read_only: store.is_read_only(),
            changes,
            flushes: store.counters().flushes,
            damage: store.damage().count(),
        })
    }

    fn session(&mut self, _caller: Caller, (): ()) -> Result<Session, StateError> {
        let word = self.seeds.as_mut().and_then(Seeds::next).ok_or(StateError::ReadOnly)?;
        Ok(Session { first: word & !((1 << SESSION_BITS) - 1) })
    }
}
