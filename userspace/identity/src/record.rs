//! The record: the private key as it is stored.
//!
//! ```text
//!   0   8  magic with the version of the layout
//!   8   1  what the private key is wrapped with: 0, nothing
//!   9   7  zeroes
//!  16  64  the machine's id, filled up with zeroes
//!  80  32  public key
//! 112  32  seed of the private key
//! 144  64  signature by that key of a context and bytes 0 to 111
//! ```
//! Every bit of it is checked: the seed by the public key, all before it by the signature.

use crate::statement::{
    PUBLIC_KEY_BYTES, PublicKey, SIGNATURE_BYTES, Signature, fingerprint, statement, verify,
};
use crate::{MACHINE_BYTES_MAX, MachineId};
use core::fmt;
use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroizing;

/// Bytes of a record.
pub const RECORD_BYTES: usize = 208;
/// Bytes of a private key's seed.
pub const SEED_BYTES: usize = 32;
const MAGIC: [u8; 8] = *b"NXIDENT\x01";
/// What the signature in a record is made over, before the record's own bytes. No service's statement begins so.
const CONTEXT: &[u8] = b"nexus identity record\0";
/// Bytes before the machine's id: the magic, the wrapping (none), zeroes.
const HEAD_BYTES: usize = 16;
const PUBLIC_AT: usize = HEAD_BYTES + MACHINE_BYTES_MAX;
const SEED_AT: usize = PUBLIC_AT + PUBLIC_KEY_BYTES;
const SIGNATURE_AT: usize = SEED_AT + SEED_BYTES;
const _: () = assert!(SIGNATURE_AT + SIGNATURE_BYTES == RECORD_BYTES);

/// A device's key and the machine that it is bound to.
pub struct Identity {
    /// Wiped when it is dropped.
    key: SigningKey,
    machine: MachineId,
}

impl Identity {
    /// The identity that comes of a seed.
    pub fn new(seed: &[u8; SEED_BYTES], machine: MachineId) -> Self {
        Identity { key: SigningKey::from_bytes(seed), machine }
    }

    /// Its record.
    pub fn to_record(&self) -> Zeroizing<[u8; RECORD_BYTES]> {
        let mut record = Zeroizing::new([0; RECORD_BYTES]);
        let signed = self.signed_part();
        let signature = self.key.sign(&[CONTEXT, &signed].concat()).to_bytes();
        let seed = Zeroizing::new(self.key.to_bytes());
        let parts = signed.iter().chain(seed.iter()).chain(&signature);
        record.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        record
    }

    /// What stands before the seed.
    fn signed_part(&self) -> [u8; SEED_AT] {
        let mut part = [0; SEED_AT];
        let public = self.public_key();
        let head = MAGIC.iter().chain(&[0; HEAD_BYTES - MAGIC.len()]);
        let bytes = head.chain(self.machine.padded()).chain(&public);
        part.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        part
    }

    /// The identity of a record; `None` for bytes that are not exactly a record of this layout.
    pub fn from_record(record: &[u8]) -> Option<Self> {
        if record.len() != RECORD_BYTES {
            return None;
        }
        let (signed, rest) = record.split_first_chunk::<SEED_AT>()?;
        let (seed, rest) = rest.split_first_chunk::<SEED_BYTES>()?;
        let signature: &Signature = rest.first_chunk()?;
        let (_, padded) = signed.split_first_chunk::<HEAD_BYTES>()?;
        let machine = MachineId::from_padded(padded.first_chunk()?)?;
        let identity = Identity::new(seed, machine);
        // The seed makes this public key, and head, id and public key are as this identity would write them.
        let is_its_own = identity.signed_part() == *signed;
        let is_signed = verify(&identity.public_key(), &[CONTEXT, signed].concat(), signature);
        (is_its_own && is_signed).then_some(identity)
    }

    /// The public key.
    pub fn public_key(&self) -> PublicKey {
        self.key.verifying_key().to_bytes()
    }

    /// The name of the public key.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.public_key())
    }

    /// The machine that it is bound to.
    pub const fn machine(&self) -> MachineId {
        self.machine
    }

    /// The signature over what this service says ([`statement`]).
    pub fn sign(&self, service_id: u64, message: &[u8]) -> Signature {
        self.key.sign(&statement(service_id, message)).to_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing of the private key, ever.
        formatter.debug_struct("Identity").field("machine", &self.machine).finish_non_exhaustive()
    }
}
