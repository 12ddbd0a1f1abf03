//! The device's identity, and what its key does.
//!
//! At its start it finds the identity again, or makes the first one: a seed from `rngd`, a record in the store, wrapped
//! with the secret of the board if that has one ([`root`]), an anchor on `bootctl` ([`places`]). What that comes to is
//! decided in `identity`; who may use the key, by the policy ([`gate`]); that a key is made or given up is written down
//! and durable before anybody hears of it ([`decisions`]). The key is held in memory from then on, whatever becomes of
//! the store. Where there is no identity it says why in one line, answers everybody so, and looks again when somebody
//! asks.
//!
//! Where to start reading: [`serve`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod bootctl;
mod decisions;
mod gate;
mod places;
mod root;

use alloc::string::String;
use core::convert::Infallible;
use core::fmt::Write;
use core::time::Duration;
use gate::{Deed, Gate};
use identity::{Failure, Identity, MachineId, RootSecret};
use nexus_ipc::{Bytes, Caller, Clock, Deadline, Event};
use nexus_policy::Policy;
use nexus_proto::keystore::{
    KeyError, MAX_BYTES, NoIdentity, PublicKey, REFERENCE, SIGNED_BYTES_MAX, Server, Signature, Signed,
    Status, dispatch,
};
use nexus_rt::{Environment, SetupError, error, info, warning};
use places::DevicePlaces;

/// Time after which somebody's question has a missing identity looked for again.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    let Err(reason) = serve(environment);
    error!("keystored: {reason}");
    1
}

fn serve(environment: &Environment) -> Result<Infallible, SetupError> {
    let mut receiver = environment.to_serve(REFERENCE.endpoint, MAX_BYTES)?;
    let gate = Gate::new(Policy::open(environment)?, environment.clock());
    let places = DevicePlaces::open(environment)?;
    let machine = MachineId::among(environment.page().arguments()).ok();
    let mut service = Keystore {
        gate,
        places,
        machine,
        root: root::secret(environment)?,
        clock: environment.clock(),
        identity: Err(NoIdentity::Unavailable),
        look_again: Deadline::at(0),
    };
    service.look();
    environment.ready();
    loop {
        if let Event::Call(call) = receiver.next(Deadline::NEVER)? {
            dispatch(&mut service, call);
        }
    }
}

/// The identity, if there is one.
struct Keystore {
    gate: Gate,
    places: DevicePlaces,
    /// `None`: what the boot arguments say is no id.
    machine: Option<MachineId>,
    /// The secret of the board, if it has one; or that it cannot be read.
    root: Result<Option<RootSecret>, NoIdentity>,
    clock: Clock,
    identity: Result<Identity, NoIdentity>,
    /// When a missing identity is looked for again.
    look_again: Deadline,
}

impl Keystore {
    /// Finds the identity, or makes the first one.
    fn find(&mut self) -> Result<Identity, NoIdentity> {
        let machine = self.machine.ok_or(NoIdentity::BadMachine)?;
        let root = self.root.as_ref().map_err(|reason| *reason)?;
        let found = identity::open(&mut self.places, machine, root.as_ref()).map_err(reason);
        self.places.decisions.settle();
        found
    }

    /// Looks for the identity, and says what there is if that is new.
    fn look(&mut self) {
        let found = self.find();
        self.take(found);
    }

    /// Takes an identity, or the lack of one, and says so if that is new.
    fn take(&mut self, found: Result<Identity, NoIdentity>) {
        let is_first = self.look_again == Deadline::at(0);
        self.look_again = Deadline::after(&self.clock, LOOK_INTERVAL);
        let before = self.identity.as_ref().map(Identity::public_key).map_err(|reason| *reason);
        let after = found.as_ref().map(Identity::public_key).map_err(|reason| *reason);
        self.identity = found;
        if before == after && !is_first {
            return;
        }
        match &self.identity {
            Ok(identity) => {
                let (name, machine) = (hexadecimal(&identity.fingerprint()), identity.machine());
                info!("keystored: device key {name}");
                let root = if self.is_wrapped() { "board" } else { "none" };
                info!("keystored: machine: {machine}, root: {root}");
                info!("keystored: ready");
            }
            Err(reason) => warning!("keystored: there is no device key: {reason}"),
        }
    }

    /// The identity. A missing one is looked for again, once in a while.
    fn identity(&mut self) -> Result<&Identity, KeyError> {
        if self.identity.is_err() && self.look_again.has_passed() {
            self.look();
        }
        self.identity.as_ref().map_err(|reason| KeyError::NoIdentity(*reason))
    }

    /// Whether what is stored is wrapped with the secret of the board.
    fn is_wrapped(&self) -> bool {
        matches!(self.root, Ok(Some(_)))
    }

    fn public_key(&mut self) -> Result<PublicKey, KeyError> {
        Ok(PublicKey { bytes: self.identity()?.public_key() })
    }
}

fn reason(failure: Failure<NoIdentity>) -> NoIdentity {
    match failure {
        Failure::Refused(identity::Refusal::Lost) => NoIdentity::Lost,
        Failure::Refused(identity::Refusal::Foreign) => NoIdentity::Foreign,
        Failure::Refused(identity::Refusal::Damaged) => NoIdentity::Damaged,
        Failure::Refused(identity::Refusal::OtherRoot) => NoIdentity::OtherRoot,
        Failure::Place(reason) => reason,
    }
}

/// Whether a message is short enough to be signed or verified.
fn is_signable(message: &[u8]) -> Result<(), KeyError> {
    if message.len() <= SIGNED_BYTES_MAX { Ok(()) } else { Err(KeyError::Oversized) }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Server for Keystore {
    fn public(&mut self, caller: Caller, (): ()) -> Result<PublicKey, KeyError> {
        self.gate.may(caller, Deed::Public)?;
        self.public_key()
    }

    fn sign(&mut self, caller: Caller, message: Bytes<MAX_BYTES>) -> Result<Signature, KeyError> {
        self.gate.may(caller, Deed::Sign)?;
        is_signable(&message.0)?;
        Ok(Signature { bytes: self.identity()?.sign(caller.service_id, &message.0) })
    }

    fn verify(&mut self, caller: Caller, signed: Signed) -> Result<(), KeyError> {
        self.gate.may(caller, Deed::Verify)?;
        is_signable(&signed.message)?;
        let mut signature = [0; identity::SIGNATURE_BYTES];
        signature.iter_mut().zip(signed.signature.as_flattened()).for_each(|(to, from)| *to = *from);
        let is_good = identity::verify(&signed.key, &signed.message, &signature);
        if is_good { Ok(()) } else { Err(KeyError::BadSignature) }
    }

    fn reload(&mut self, caller: Caller, (): ()) -> Result<PublicKey, KeyError> {
        self.gate.may(caller, Deed::Reload)?;
        match self.find() {
            // The store is away: that is no reason to lose the key that is held.
            Err(reason) if !reason.takes_reset() && self.identity.is_ok() => {
                return Err(KeyError::NoIdentity(reason));
            }
            found => self.take(found),
        }
        self.public_key()
    }

    fn export(&mut self, caller: Caller, (): ()) -> Result<(), KeyError> {
        Err(self.gate.refuse_export(caller))
    }

    fn status(&mut self, _caller: Caller, (): ()) -> Result<Status, KeyError> {
        let identity = match self.identity() {
            Ok(_) => Ok(()),
            Err(KeyError::NoIdentity(reason)) => Err(reason),
            Err(other) => return Err(other),
        };
        let machine = self.machine.unwrap_or(MachineId::NONE).as_str().into();
        Ok(Status { identity, machine, is_wrapped: self.is_wrapped() })
    }

    fn reset(&mut self, caller: Caller, (): ()) -> Result<PublicKey, KeyError> {
        self.gate.may(caller, Deed::Reset)?;
        // What is stored decides, and not what was found a while ago.
        let found = self.find();
        if !found.as_ref().is_err_and(|reason| reason.takes_reset()) {
            self.take(found);
            self.identity()?;
            return Err(KeyError::NothingToReset);
        }
        self.places.decisions.write(decisions::RESET, caller.service_id).map_err(KeyError::NoIdentity)?;
        let outcome = identity::reset(&mut self.places);
        self.places.decisions.settle();
        outcome.map_err(KeyError::NoIdentity)?;
        warning!("keystored: the identity was reset (subject={:016x})", caller.service_id);
        self.look();
        self.public_key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use nexus_proto::state::NoStore;

    #[test]
    fn test_reject_sign_oversized_payload() {
        assert_eq!(is_signable(&vec![0; SIGNED_BYTES_MAX]), Ok(()));
        assert_eq!(is_signable(&[]), Ok(()));
        assert_eq!(is_signable(&vec![0; SIGNED_BYTES_MAX + 1]), Err(KeyError::Oversized));
    }

    #[test]
    fn a_refusal_keeps_its_reason_and_only_what_is_stored_wrongly_takes_a_reset() {
        for (refusal, expected) in [
            (identity::Refusal::Lost, NoIdentity::Lost),
            (identity::Refusal::Foreign, NoIdentity::Foreign),
            (identity::Refusal::Damaged, NoIdentity::Damaged),
            (identity::Refusal::OtherRoot, NoIdentity::OtherRoot),
        ] {
            assert_eq!(reason(Failure::Refused(refusal)), expected);
            assert!(expected.takes_reset());
        }
        for other in [
            NoIdentity::NoStore(NoStore::Blank),
            NoIdentity::NoBootctl,
            NoIdentity::NoEntropy,
            NoIdentity::BadMachine,
            NoIdentity::BadRoot,
            NoIdentity::Unavailable,
        ] {
            assert_eq!(reason(Failure::Place(other)), other);
            assert!(!other.takes_reset());
        }
    }
}
