//! The record: the private key as it is stored.
//!
//! ```text
//!   0   8  magic with the version of the layout
//!   8   1  what the private key is wrapped with: 0, nothing; 1, the board's secret
//!   9   7  zeroes
//!  16  64  the machine's id, filled up with zeroes
//!  80  32  public key
//!            wrapped with nothing                              with the board's secret
//! 112  32  seed of the private key                     112 24  nonce
//! 144  64  signature by that key of a context and      136 32  seed, encrypted
//!          bytes 0 to 111                              168 16  tag of it and of bytes 0 to 111
//!                                                      184 24  zeroes
//! ```
//! Every bit of it is checked: the seed by the public key, all before it by the signature or by the tag.

use crate::root::{NONCE_BYTES, Nonce, RootSecret, TAG_BYTES};
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
/// The wrapping with nothing, and that with the board's secret.
const PLAIN: u8 = 0;
const WRAPPED: u8 = 1;
/// Bytes before the machine's id: the magic, the wrapping, zeroes.
const HEAD_BYTES: usize = 16;
const PUBLIC_AT: usize = HEAD_BYTES + MACHINE_BYTES_MAX;
const BODY_AT: usize = PUBLIC_AT + PUBLIC_KEY_BYTES;
const BODY_BYTES: usize = RECORD_BYTES - BODY_AT;
const _: () = assert!(SEED_BYTES + SIGNATURE_BYTES == BODY_BYTES);
const _: () = assert!(NONCE_BYTES + SEED_BYTES + TAG_BYTES < BODY_BYTES);

/// What a record says before its seed, to whoever reads it: only who opens the record knows that it is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// The machine.
    pub machine: MachineId,
    /// The public key.
    pub public_key: PublicKey,
    /// Whether the seed is wrapped with a board's secret.
    pub is_wrapped: bool,
}

impl RecordHead {
    /// The head of a record; `None` for bytes that are not laid out as one.
    pub fn of(record: &[u8]) -> Option<Self> {
        let record: &[u8; RECORD_BYTES] = record.try_into().ok()?;
        let bytes: &[u8; BODY_AT] = record.first_chunk()?;
        let machine = MachineId::from_padded(bytes.get(HEAD_BYTES..PUBLIC_AT)?.first_chunk()?)?;
        let public_key = *bytes.last_chunk()?;
        let head = |is_wrapped| RecordHead { machine, public_key, is_wrapped };
        // All of it is as one of the two would be written.
        [head(false), head(true)].into_iter().find(|head| head.to_bytes() == *bytes)
    }

    fn to_bytes(self) -> [u8; BODY_AT] {
        let mut bytes = [0; BODY_AT];
        let wrapping = if self.is_wrapped { WRAPPED } else { PLAIN };
        let head = MAGIC.iter().chain([&wrapping]).chain(&[0; HEAD_BYTES - MAGIC.len() - 1]);
        let parts = head.chain(self.machine.padded()).chain(&self.public_key);
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        bytes
    }
}

/// Why a record yields no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// It is damaged, or of a layout that this system does not know.
    Damaged,
    /// It says that it is of this machine, and what the board has does not open it: it is wrapped and the board has no
    /// secret, or another, or what is wrapped is damaged; or it is not wrapped, and the board has a secret.
    OtherRoot(MachineId),
}

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

    /// Its record on a board without a secret.
    pub fn to_record(&self) -> Zeroizing<[u8; RECORD_BYTES]> {
        let head = self.head(false).to_bytes();
        let signature = self.key.sign(&[CONTEXT, &head].concat()).to_bytes();
        let seed = Zeroizing::new(self.key.to_bytes());
        filled([&head, &*seed, &signature])
    }

    /// Its record on a board with this secret. A nonce is used once. `None` never happens: the cipher refuses only what is
    /// far longer.
    pub fn to_wrapped_record(
        &self,
        root: &RootSecret,
        nonce: &Nonce,
    ) -> Option<Zeroizing<[u8; RECORD_BYTES]>> {
        let head = self.head(true).to_bytes();
        let mut seed = Zeroizing::new(self.key.to_bytes());
        let tag = root.wrap(self.machine, nonce, &head, &mut *seed)?;
        Some(filled([&head, nonce, &*seed, &tag]))
    }

    fn head(&self, is_wrapped: bool) -> RecordHead {
        RecordHead { machine: self.machine, public_key: self.public_key(), is_wrapped }
    }

    /// The identity of a record, on a board with this secret, or with none.
    pub fn from_record(record: &[u8], root: Option<&RootSecret>) -> Result<Self, NotOpened> {
        let head = RecordHead::of(record).ok_or(NotOpened::Damaged)?;
        let body = record.last_chunk().ok_or(NotOpened::Damaged)?;
        match (head.is_wrapped, root) {
            (true, Some(root)) => Self::unwrapped(head, body, root),
            (true, None) => Err(NotOpened::OtherRoot(head.machine)),
            (false, None) => Self::plain(head, body).ok_or(NotOpened::Damaged),
            // Its key stood where everybody could read it: this board does not take it for its own.
            (false, Some(_)) => Err(match Self::plain(head, body) {
                Some(_) => NotOpened::OtherRoot(head.machine),
                None => NotOpened::Damaged,
            }),
        }
    }

    fn plain(head: RecordHead, body: &[u8; BODY_BYTES]) -> Option<Self> {
        let (seed, signature): (&[u8; SEED_BYTES], _) = body.split_first_chunk()?;
        let signature: &Signature = signature.try_into().ok()?;
        let is_signed = verify(&head.public_key, &[CONTEXT, &head.to_bytes()].concat(), signature);
        Self::of_seed(seed, head).filter(|_| is_signed)
    }

    fn unwrapped(head: RecordHead, body: &[u8; BODY_BYTES], root: &RootSecret) -> Result<Self, NotOpened> {
        let (nonce, body): (&Nonce, _) = body.split_first_chunk().ok_or(NotOpened::Damaged)?;
        let (seed, body): (&[u8; SEED_BYTES], _) = body.split_first_chunk().ok_or(NotOpened::Damaged)?;
        let (tag, rest): (&[u8; TAG_BYTES], _) = body.split_first_chunk().ok_or(NotOpened::Damaged)?;
        if rest.iter().any(|&byte| byte != 0) {
            return Err(NotOpened::Damaged);
        }
        let mut seed = Zeroizing::new(*seed);
        let opened = root.open(head.machine, nonce, &head.to_bytes(), &mut *seed, tag);
        opened.ok_or(NotOpened::OtherRoot(head.machine))?;
        Self::of_seed(&seed, head).ok_or(NotOpened::Damaged)
    }

    /// The identity of this seed, if it makes this head's public key.
    fn of_seed(seed: &[u8; SEED_BYTES], head: RecordHead) -> Option<Self> {
        let identity = Identity::new(seed, head.machine);
        (identity.public_key() == head.public_key).then_some(identity)
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

/// A record of these parts, one behind the other, filled up with zeroes.
fn filled<const PARTS: usize>(parts: [&[u8]; PARTS]) -> Zeroizing<[u8; RECORD_BYTES]> {
    let mut record = Zeroizing::new([0; RECORD_BYTES]);
    record.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
    record
}
