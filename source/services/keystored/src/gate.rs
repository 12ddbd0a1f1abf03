//! Who may have what of the device's key: the policy's word, and a line for refusals.

use core::time::Duration;
use nexus_ipc::{Caller, Clock, Deadline, Tally};
use nexus_policy::{Denial, PATIENCE, Policy};
use nexus_proto::keystore::KeyError;
use nexus_rt::warning;
use policy::Action;

/// Each deed that is refused is told of once in this time.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// What is asked of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// To be told the public key.
    Public,
    /// To have something signed.
    Sign,
    /// To have a signature verified.
    Verify,
    /// To have the key read again.
    Reload,
    /// To be given the private key.
    Export,
    /// To have the identity given up.
    Reset,
}

impl Deed {
    const COUNT: usize = 6;

    const fn action(self) -> Action {
        match self {
            Deed::Public => Action::DevicePubkeyRead,
            Deed::Sign => Action::CryptoSign,
            Deed::Verify => Action::CryptoVerify,
            Deed::Reload => Action::DeviceKeyReload,
            Deed::Export => Action::DeviceKeyExport,
            Deed::Reset => Action::DeviceKeygen,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Deed::Public => "public key",
            Deed::Sign => "sign",
            Deed::Verify => "verify",
            Deed::Reload => "reload",
            Deed::Export => "private export",
            Deed::Reset => "reset",
        }
    }
}

/// The policy, and what is told of its refusals.
pub struct Gate {
    policy: Policy,
    clock: Clock,
    refusals: Tally<{ Deed::COUNT }>,
}

impl Gate {
    /// A gate that asks this policy.
    pub fn new(policy: Policy, clock: Clock) -> Self {
        Gate { policy, clock, refusals: Tally::default() }
    }

    /// Whether the caller may do this. No answer is no.
    pub fn may(&mut self, caller: Caller, deed: Deed) -> Result<(), KeyError> {
        let deadline = Deadline::after(&self.clock, PATIENCE);
        self.policy.may(caller.service_id, deed.action(), "", deadline).map_err(|denial| {
            self.tell(caller, deed);
            refused(denial)
        })
    }

    /// The private key is refused to everybody. The policy is asked all the same: that has it recorded.
    pub fn refuse_export(&mut self, caller: Caller) -> KeyError {
        if self.may(caller, Deed::Export).is_ok() {
            self.tell(caller, Deed::Export);
        }
        KeyError::PrivateExport
    }

    fn tell(&mut self, caller: Caller, deed: Deed) {
        let (now, interval) = (self.clock.now(), self.clock.ticks(TELL_INTERVAL));
        if let Some(times) = self.refusals.count(deed as usize, now, interval) {
            let (name, subject) = (deed.name(), caller.service_id);
            warning!("keystored: {name} denied (subject={subject:016x}), {times} since this was last said");
        }
    }
}

/// What a client is told to whom the policy does not give it.
fn refused(denial: Denial) -> KeyError {
    match denial {
        Denial::Denied(_) => KeyError::Denied,
        Denial::Refused(_) | Denial::NoAnswer => KeyError::NoPolicy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_proto::policy::{PolicyError, Why};

    #[test]
    fn test_reject_sign_without_policy() {
        assert_eq!(refused(Denial::Denied(Some(Why::NoLine))), KeyError::Denied);
        assert_eq!(refused(Denial::Denied(None)), KeyError::Denied);
        assert_eq!(refused(Denial::Refused(PolicyError::NotDelegated)), KeyError::NoPolicy);
        assert_eq!(refused(Denial::NoAnswer), KeyError::NoPolicy);
    }

    #[test]
    fn each_deed_has_an_action_of_its_own() {
        let deeds = [Deed::Public, Deed::Sign, Deed::Verify, Deed::Reload, Deed::Export, Deed::Reset];
        for (place, deed) in deeds.iter().enumerate() {
            assert_eq!(*deed as usize, place);
            assert!(deeds.iter().all(|other| other == deed || other.action() != deed.action()));
        }
        assert_eq!(deeds.len(), Deed::COUNT);
    }
}
