//! The client of the state.
//!
//! What it is: [`State`] reads, changes and lists keys of `statefsd`. A change goes under a name of its own; when its
//! server died before it answered, or its device failed, it is made again under the same name, and happens once. What
//! it is not: it keeps nothing, and waits for nobody longer than it is told.
//!
//! Invariants:
//! - `Ok` for a change means that it is durable;
//! - a call is made at most [`ATTEMPTS_MAX`] times, and never after its deadline.
//!
//! Where to start reading: [`State::put`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use nexus_abi::{Error, system};
use nexus_ipc::{CallError, Clock, Deadline, Lent};
use nexus_proto::state::{
    Batch, Changes, Client, Delete, Key, List, Page, Put, REFERENCE, Space, StateError, VALUE_BYTES_MAX,
};
use nexus_rt::{Environment, SetupError};

pub use nexus_proto::state::{Change, Found, Listed, NoStore, StateError as Refusal};

/// Calls that one change or read is at the most.
pub const ATTEMPTS_MAX: u32 = 5;
/// Time between two of them.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes that are lent for a value whose length is not known.
const GUESS_BYTES: usize = 1024;
/// Names that a session has.
const SESSION_NAMES: u32 = u32::MAX;

/// Why something was not read or changed.
pub type StateFailure = CallError<StateError>;

/// A client of the state.
#[derive(Debug)]
pub struct State {
    client: Client,
    clock: Clock,
    /// The next name of an operation, and how many follow.
    names: (u64, u32),
}

/// Whether the call may be made again: it was not answered, the device failed under it, or whoever decides was away.
fn may_pass(failure: &StateFailure) -> bool {
    match failure {
        CallError::Kernel(error) => *error == Error::PeerGone,
        CallError::Service(refusal) => matches!(
            refusal,
            StateError::OutcomeUnknown
                | StateError::Busy
                | StateError::DeviceFailed
                | StateError::Unavailable
        ),
        _ => false,
    }
}

impl State {
    /// The client of a service whose recipe entry lets it call `state`.
    pub fn open(environment: &Environment) -> Result<Self, SetupError> {
        Ok(State::new(Client::new(environment.to_call(REFERENCE.endpoint)?), environment.clock()))
    }

    /// A client of this endpoint.
    pub const fn new(client: Client, clock: Clock) -> Self {
        State { client, clock, names: (0, 0) }
    }

    /// Makes a call until it is answered, may not pass, or has been made often enough.
    fn repeat<A>(
        &self,
        deadline: Deadline,
        mut call: impl FnMut(&Client) -> Result<A, StateFailure>,
    ) -> Result<A, StateFailure> {
        let mut attempt = 1;
        loop {
            let outcome = call(&self.client);
            let is_last = attempt == ATTEMPTS_MAX || deadline.has_passed();
            if is_last || !outcome.as_ref().is_err_and(may_pass) {
                return outcome;
            }
            attempt += 1;
            system::thread_sleep(Deadline::after(&self.clock, PAUSE).min(deadline).ticks());
        }
    }

    /// A name that no other operation of this service has.
    fn name(&mut self, deadline: Deadline) -> Result<u64, StateFailure> {
        if self.names.1 == 0 {
            let session = self.repeat(deadline, |client| client.session(&(), deadline))?;
            self.names = (session.first, SESSION_NAMES);
        }
        let (name, left) = self.names;
        self.names = (name.wrapping_add(1), left - 1);
        Ok(name)
    }

    /// A key's value, and its version.
    pub fn get(&self, key: &str, deadline: Deadline) -> Result<(Vec<u8>, u64), StateFailure> {
        let request = Key { key: key.into() };
        let mut value = vec![0; GUESS_BYTES];
        loop {
            let found =
                self.repeat(deadline, |client| client.get(&request, [Lent::write(&mut value)], deadline));
            match found {
                Ok(found) => {
                    value.truncate(usize::try_from(found.bytes).unwrap_or(usize::MAX));
                    return Ok((value, found.version));
                }
                // It may have grown meanwhile, so it is asked anew with room for any.
                Err(CallError::Service(StateError::TooShort { .. })) if value.len() < VALUE_BYTES_MAX => {
                    value = vec![0; VALUE_BYTES_MAX];
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Sets a key, which must have the version `expect` (0: be absent) if one is given; yields its new version.
    pub fn put(
        &mut self,
        key: &str,
        value: &[u8],
        expect: Option<u64>,
        deadline: Deadline,
    ) -> Result<u64, StateFailure> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(CallError::Service(StateError::ValueTooLarge));
        }
        if key.is_empty() {
            return Err(CallError::Service(StateError::KeyInvalid));
        }
        let operation = Some(self.name(deadline)?);
        let request = Put { key: key.into(), bytes: value.len() as u32, expect, operation };
        // Nothing cannot be lent.
        let lent = if value.is_empty() { key.as_bytes() } else { value };
        let done = self.repeat(deadline, |client| client.put(&request, [Lent::read(lent)], deadline))?;
        Ok(done.version)
    }

    /// Deletes a key, which must be there, and have the version `expect` if one is given; yields the version of that
    /// change.
    pub fn delete(
        &mut self,
        key: &str,
        expect: Option<u64>,
        deadline: Deadline,
    ) -> Result<u64, StateFailure> {
        let operation = Some(self.name(deadline)?);
        let request = Delete { key: key.into(), expect, operation };
        let done = self.repeat(deadline, |client| client.delete(&request, deadline))?;
        Ok(done.version)
    }

    /// Makes several changes, all or none; yields the version of the last one.
    pub fn batch(&mut self, changes: &[Change<'_>], deadline: Deadline) -> Result<u64, StateFailure> {
        let invalid = CallError::Service(StateError::BatchInvalid);
        let lent = Changes { changes: changes.into() }.to_bytes().map_err(|_| invalid)?;
        let bytes = u32::try_from(lent.len()).map_err(|_| CallError::Service(StateError::BatchTooLarge))?;
        let request = Batch { bytes, operation: Some(self.name(deadline)?) };
        let done = self.repeat(deadline, |client| client.batch(&request, [Lent::read(&lent)], deadline))?;
        Ok(done.version)
    }

    /// Version and length of a key.
    pub fn stat(&self, key: &str, deadline: Deadline) -> Result<Found, StateFailure> {
        let request = Key { key: key.into() };
        self.repeat(deadline, |client| client.stat(&request, deadline))
    }

    /// One page of the keys with this prefix, those behind `after`.
    pub fn list(
        &self,
        prefix: &str,
        after: Option<String>,
        deadline: Deadline,
    ) -> Result<Page, StateFailure> {
        let request = List { prefix: prefix.into(), after, limit: 0 };
        self.repeat(deadline, |client| client.list(&request, deadline))
    }

    /// How full the store is.
    pub fn space(&self, deadline: Deadline) -> Result<Space, StateFailure> {
        self.repeat(deadline, |client| client.space(&(), deadline))
    }
}
