//! Who may read or write which key: the policy's word, and one line for each refusal that is not one of many.

use core::time::Duration;
use nexus_abi::system;
use nexus_ipc::{Caller, Clock, Deadline};
use nexus_policy::{Denial, PATIENCE, Policy};
use nexus_proto::state::StateError;
use nexus_rt::warning;
use state_service::{Part, directory, resource};
use statefs::{key_prefix_is_valid, validate_key};

/// Refusals are told of once in this time, with how many there were.
const INTERVAL: Duration = Duration::from_secs(1);

/// The policy, and what is told of its refusals.
pub struct Gate {
    policy: Policy,
    clock: Clock,
    /// Refusals that nobody was told of, and when one is told of again.
    untold: u64,
    next: u64,
}

impl Gate {
    /// A gate that asks this policy.
    pub fn new(policy: Policy, clock: Clock) -> Self {
        Gate { policy, clock, untold: 0, next: 0 }
    }

    /// Whether the caller may read or write this key, which is a key. No answer is no.
    pub fn key(&mut self, caller: Caller, key: &str, writes: bool) -> Result<(), StateError> {
        validate_key(key.as_bytes()).map_err(crate::words::refusal)?;
        self.ask(caller, key, writes)
    }

    /// Whether the caller may see the keys with this prefix: whether it may read the directory that they are in.
    pub fn listing(&mut self, caller: Caller, prefix: &str) -> Result<(), StateError> {
        let directory = directory(prefix);
        if !directory.starts_with(Part::Common.root()) || !key_prefix_is_valid(prefix.as_bytes()) {
            return Err(StateError::KeyInvalid);
        }
        self.ask(caller, directory, false)
    }

    fn ask(&mut self, caller: Caller, key: &str, writes: bool) -> Result<(), StateError> {
        let action = Part::of(key.as_bytes()).action(writes);
        let deadline = Deadline::after(&self.clock, PATIENCE);
        match self.policy.may(caller.service_id, action, resource(key), deadline) {
            Ok(()) => Ok(()),
            Err(Denial::Denied(_)) => {
                self.tell(caller, key, writes);
                Err(StateError::Denied)
            }
            Err(Denial::Refused(_) | Denial::NoAnswer) => Err(StateError::Unavailable),
        }
    }

    fn tell(&mut self, caller: Caller, key: &str, writes: bool) {
        self.untold += 1;
        let now = system::ticks();
        if now < self.next {
            return;
        }
        self.next = now.saturating_add(self.clock.ticks(INTERVAL));
        let deed = if writes { "write" } else { "read" };
        let more = core::mem::take(&mut self.untold) - 1;
        let key = key.escape_debug();
        warning!("statefsd: access denied: {:016x} may not {deed} {key} ({more} more)", caller.service_id);
    }
}
