//! The identity of a device: an Ed25519 key that it made itself, bound to its machine.
//!
//! What it is: the record in which the private key is stored ([`Identity`]), the anchor that remembers elsewhere which
//! key this was ([`Anchor`]), what the two together come to ([`judge`]), and the steps by which an identity is made,
//! found again or given up ([`open`], [`reset`]), over any [`Places`]. What it is not: it reaches no store, no disk and
//! no entropy by itself, and decides nothing about who may use the key.
//!
//! Invariants:
//! - a key is made only where neither record nor anchor was ever written, and never because one could not be read;
//! - an identity is handed out only after its record and both copies of its anchor were read back;
//! - no private byte leaves but in the record; they are wiped when they are dropped.
//!
//! The layouts are those of RFC-0008. Where to start reading: [`judge`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod anchor;
mod custody;
mod judge;
mod machine;
mod record;
mod root;
mod statement;

pub use anchor::{ANCHOR_BYTES, ANCHOR_COPIES, ANCHOR_SPACING, Anchor, Copies, Copy, anchor_place};
pub use custody::{Failure, Places, open, reset};
pub use judge::{Finding, Kept, Refusal, judge};
pub use machine::{MACHINE_BYTES_MAX, MachineId, MachineIdMalformed};
pub use record::{Identity, NotOpened, RECORD_BYTES, RecordHead, SEED_BYTES};
pub use root::{NONCE_BYTES, Nonce, ROOT_ITEM_BYTES, ROOT_ITEM_MAGIC, ROOT_SECRET_BYTES, RootSecret};
pub use statement::{
    PUBLIC_KEY_BYTES, PublicKey, SIGNATURE_BYTES, Signature, fingerprint, statement, verify,
};

/// The key under which the record is stored.
pub const RECORD_KEY: &str = "/state/keystore/device.signing";
