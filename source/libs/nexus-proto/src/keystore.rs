//! `keystored`: the device's identity and what its key does.
//!
//! The private key never leaves: there is an operation that asks for it, so that refusing it can be seen.

use crate::state::NoStore;
use alloc::string::String;
use alloc::vec::Vec;
use nexus_ipc::{Bytes, postcard_message, register_message};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes that one request may have signed or verified. What is longer is signed by its hash.
pub const SIGNED_BYTES_MAX: usize = 1024;
/// Bytes of the largest request: a message, a key and a signature.
const REQUEST_BYTES_MAX: usize = SIGNED_BYTES_MAX + 128;

/// The device's public key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PublicKey {
    /// Ed25519, as RFC 8032 encodes it.
    pub bytes: [u8; 32],
}

/// A signature by the device's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Signature {
    /// Ed25519, as RFC 8032 encodes it.
    pub bytes: [u8; 64],
}

/// Something to verify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// Whose signature it is said to be.
    pub key: [u8; 32],
    /// The two halves of the signature.
    pub signature: [[u8; 32]; 2],
    /// Exactly what was signed, at most [`SIGNED_BYTES_MAX`] bytes.
    pub message: Vec<u8>,
}

/// How the identity stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether there is one; if not, why.
    pub identity: Result<(), NoIdentity>,
    /// The machine's id; empty where it says none.
    pub machine: String,
    /// Whether the stored key is wrapped with a secret of the board.
    pub is_wrapped: bool,
}

/// Why there is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoIdentity {
    /// This device has one, and its key is missing.
    Lost,
    /// What is stored belongs to another machine.
    Foreign,
    /// What is stored is damaged, or of a later system.
    Damaged,
    /// There is no store.
    NoStore(NoStore),
    /// The disk has no partition `bootctl`, or one that cannot be used.
    NoBootctl,
    /// There is no entropy that a key could be made of.
    NoEntropy,
    /// The boot argument `machine=` is none.
    BadMachine,
    /// The store or the disk did not answer, or takes no changes.
    Unavailable,
    /// What is stored does not open with what this board has: a secret, another, or none.
    OtherRoot,
    /// The board has a secret, and it cannot be read.
    BadRoot,
}

impl NoIdentity {
    /// Whether a person has to say that the identity is given up before there is another.
    pub const fn takes_reset(self) -> bool {
        matches!(self, NoIdentity::Lost | NoIdentity::Foreign | NoIdentity::Damaged | NoIdentity::OtherRoot)
    }
}

impl core::fmt::Display for NoIdentity {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            NoIdentity::Lost => "IdentityLost: this device has an identity, and its key is missing",
            NoIdentity::Foreign => "IdentityForeign: what is stored belongs to another machine",
            NoIdentity::Damaged => "IdentityDamaged: what is stored is damaged, or of a later system",
            NoIdentity::NoStore(reason) => return write!(formatter, "there is no /state: {reason}"),
            NoIdentity::NoBootctl => "the disk has no usable partition `bootctl`",
            NoIdentity::NoEntropy => "there is no entropy that a key could be made of",
            NoIdentity::BadMachine => "the boot argument `machine=` is no id of a machine",
            NoIdentity::Unavailable => "the store or the disk does not answer, or takes no changes",
            NoIdentity::OtherRoot => {
                "IdentityDamaged: what is stored does not open with what this board has for a secret"
            }
            NoIdentity::BadRoot => "the secret of the board cannot be read",
        })
    }
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyError {
    /// The policy does not allow it.
    Denied,
    /// The policy gives no answer, and that is no.
    NoPolicy,
    /// There is no identity.
    NoIdentity(NoIdentity),
    /// The private key is given to nobody.
    PrivateExport,
    /// The message has more than [`SIGNED_BYTES_MAX`] bytes.
    Oversized,
    /// The signature is not this key's over this message.
    BadSignature,
    /// The identity is in order, or not known to be lost: it is not given up.
    NothingToReset,
}

impl core::fmt::Display for KeyError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            KeyError::Denied => "the policy does not allow it",
            KeyError::NoPolicy => "the policy gives no answer",
            KeyError::NoIdentity(reason) => return write!(formatter, "there is no device key: {reason}"),
            KeyError::PrivateExport => "the private key is given to nobody",
            KeyError::Oversized => "the message is longer than 1024 bytes",
            KeyError::BadSignature => "the signature is not this key's over this message",
            KeyError::NothingToReset => "no identity is lost, damaged or of another machine",
        })
    }
}

register_message!(PublicKey);
register_message!(Signature);
postcard_message!(Signed, REQUEST_BYTES_MAX);
postcard_message!(Status, 80);
postcard_message!(KeyError, 8);

nexus_ipc::service! {
    /// The device's identity. Who may have what is asked of the policy, about the caller, each time.
    endpoint "keystore", max_bytes REQUEST_BYTES_MAX, error KeyError;
    /// Tells the public key.
    immediate idempotent public(()) -> PublicKey = 1;
    /// Signs a message as a statement of its caller.
    immediate idempotent sign(Bytes<REQUEST_BYTES_MAX>) -> Signature = 2;
    /// Verifies anybody's signature; yields nothing if it is one.
    immediate idempotent verify(Signed) -> () = 3;
    /// Reads the key again from where it is stored; yields the public key.
    immediate idempotent reload(()) -> PublicKey = 4;
    /// Asks for the private key, and is refused.
    immediate idempotent export(()) -> () = 5;
    /// Tells how the identity stands.
    immediate idempotent status(()) -> Status = 6;
    /// Gives up an identity that is lost, damaged or of another machine, and makes another; yields its public key.
    immediate once reset(()) -> PublicKey = 7;
}
