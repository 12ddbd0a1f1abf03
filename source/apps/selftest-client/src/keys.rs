//! The device's identity: its key is there and stays, does what it is for, and is given to nobody.

use crate::{Subject, announce_restart, expect, trying};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use nexus_ipc::{Bytes, CallError};
use nexus_proto::init::Target;
use nexus_proto::keystore::{KeyError, NoIdentity, PublicKey, SIGNED_BYTES_MAX, Signature, Signed};

type Asked<A> = Result<A, CallError<KeyError>>;

fn refused<A>(error: KeyError) -> Asked<A> {
    Err(CallError::Service(error))
}

/// Whether this machine has an identity. One without disk or entropy has none: that everybody is told so, and why.
pub fn has_key(subject: &Subject<'_>) -> Result<bool, String> {
    let status = trying("how it stands", subject.keystore.status(&(), subject.deadline()))?;
    let reason = match status.identity {
        Err(reason @ (NoIdentity::NoStore(_) | NoIdentity::NoEntropy)) => reason,
        _ => return Ok(true),
    };
    let (none, due) = (KeyError::NoIdentity(reason), subject.deadline());
    expect("the public key of none", subject.keystore.public(&(), due), refused(none))?;
    expect("a signature of none", subject.keystore.sign(&Bytes(vec![1]), due), refused(none))?;
    Ok(false)
}

fn public(subject: &Subject<'_>) -> Result<PublicKey, String> {
    trying("the public key", subject.keystore.public(&(), subject.deadline()))
}

/// Asks for a signature of a message, and whether it is this key's over what this service says.
fn signed(subject: &Subject<'_>, key: PublicKey, message: Vec<u8>) -> Result<Signed, String> {
    let said = identity::statement(subject.environment.page().service_id, &message);
    let signature = trying("signing", subject.keystore.sign(&Bytes(message), subject.deadline()))?;
    Ok(Signed { key: key.bytes, signature: halves(signature)?, message: said })
}

fn halves(signature: Signature) -> Result<[[u8; 32]; 2], String> {
    signature.bytes.as_chunks().0.try_into().map_err(|_| "the signature is none".into())
}

/// The public key is told, the same each time, and what it is the public half of signs.
pub fn pubkey(subject: &Subject<'_>) -> Result<(), String> {
    let key = public(subject)?;
    expect("the key the second time", public(subject)?, key)?;
    let status = trying("how it stands", subject.keystore.status(&(), subject.deadline()))?;
    expect("how the identity stands", status.identity, Ok(()))?;
    let signed = signed(subject, key, b"of the device".to_vec())?;
    expect("verifying", subject.keystore.verify(&signed, subject.deadline()), Ok(()))
}

/// The private key is refused to everybody by a reason of its own, and each time is recorded.
pub fn private_export(subject: &Subject<'_>) -> Result<(), String> {
    let stats = || trying("the counts", subject.policy.stats(&(), subject.deadline()));
    let before = stats()?;
    let export = subject.keystore.export(&(), subject.deadline());
    expect("the private key", export, refused(KeyError::PrivateExport))?;
    let after = stats()?;
    expect("how many were denied", after.denied - before.denied, 1)?;
    expect("how many were recorded", after.recorded - before.recorded, 1)
}

/// What one may have signed and verified, and what is refused for its own reason.
pub fn v1(subject: &Subject<'_>) -> Result<(), String> {
    let (key, due) = (public(subject)?, subject.deadline());
    let largest = signed(subject, key, vec![0x5a; SIGNED_BYTES_MAX - 64])?;
    expect("verifying the largest", subject.keystore.verify(&largest, due), Ok(()))?;
    let again = signed(subject, key, vec![0x5a; SIGNED_BYTES_MAX - 64])?;
    expect("the signature the second time", again.signature == largest.signature, true)?;
    let mut forged = largest.clone();
    forged.message[40] ^= 1;
    expect("another message", subject.keystore.verify(&forged, due), refused(KeyError::BadSignature))?;
    forged.message[40] ^= 1;
    forged.key[0] ^= 1;
    expect("another key", subject.keystore.verify(&forged, due), refused(KeyError::BadSignature))?;
    let long = Bytes(vec![0x5a; SIGNED_BYTES_MAX + 1]);
    expect("signing too much", subject.keystore.sign(&long, due), refused(KeyError::Oversized))?;
    let long = Signed { message: long.0, ..largest };
    expect("verifying too much", subject.keystore.verify(&long, due), refused(KeyError::Oversized))?;
    let reset = subject.keystore.reset(&(), due);
    expect("a reset by who may not", reset, refused(KeyError::Denied))?;
    let denied = trying("the other end's signature", subject.peer.sign(&(), due))?;
    expect("whether signing was denied to it", denied.number, 1)?;
    expect("the key after all that", public(subject)?, key)
}

/// The service is killed, then the store below it: the key is the same, read again or held in memory.
pub fn persist(subject: &Subject<'_>) -> Result<(), String> {
    let key = public(subject)?;
    for victim in ["keystored", "statefsd", "virtioblkd"] {
        announce_restart(victim);
        let target = Target::Name(victim.to_string());
        trying("killing", subject.init.kill(&target, subject.deadline()))?;
        expect(victim, public(subject)?, key)?;
    }
    expect("the key as it is stored", subject.keystore.reload(&(), subject.deadline()), Ok(key))?;
    announce_restart("keystored");
    let target = Target::Name("keystored".to_string());
    trying("killing", subject.init.kill(&target, subject.deadline()))?;
    expect("the key that its successor found", public(subject)?, key)?;
    let signed = signed(subject, key, b"after all that".to_vec())?;
    expect("verifying", subject.keystore.verify(&signed, subject.deadline()), Ok(()))
}
