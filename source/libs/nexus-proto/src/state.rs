//! `statefsd`: keys and values that survive.
//!
//! Every change is answered when it is durable, and not before. Values travel in lent memory; keys, conditions and
//! names of operations in the message. Who may read or write which key, the policy says.

use alloc::string::String;
use alloc::vec::Vec;
use nexus_ipc::reexports::postcard;
use nexus_ipc::{postcard_message, register_message};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 255;
/// Bytes of a value.
pub const VALUE_BYTES_MAX: usize = 65_536;
/// Changes of a batch.
pub const BATCH_CHANGES_MAX: usize = 256;
/// Bytes of a batch: keys, values and 32 for each change.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a batch as it is lent, in postcard.
pub const BATCH_LENT_BYTES_MAX: usize = BATCH_BYTES_MAX + 16;
/// Keys of a page.
pub const PAGE_KEYS_MAX: usize = 64;
/// Bytes of a page.
pub const PAGE_BYTES_MAX: usize = 20 * 1024;
/// Bytes of the largest request: one that lists.
pub const REQUEST_BYTES_MAX: usize = 640;

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// `/state/…`, at most [`KEY_BYTES_MAX`] bytes.
    pub key: String,
}

/// A value for a key; the value is lent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// `/state/…`, at most [`KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// Bytes of the value, from the beginning of what is lent: at most [`VALUE_BYTES_MAX`].
    pub bytes: u32,
    /// The version that the key must have, 0 for absent; `None`: any.
    pub expect: Option<u64>,
    /// The name of this operation, by which it is known again when it is repeated; from [`Session`].
    pub operation: Option<u64>,
}

/// A key to delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// `/state/…`, at most [`KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// The version that the key must have; `None`: any.
    pub expect: Option<u64>,
    /// As of [`Put`].
    pub operation: Option<u64>,
}

/// Several changes, all or none; [`Changes`] are lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Bytes of the changes, from the beginning of what is lent: at most [`BATCH_LENT_BYTES_MAX`].
    pub bytes: u32,
    /// As of [`Put`].
    pub operation: Option<u64>,
}

/// One change of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<'a> {
    /// The key, which no other change of the batch names.
    pub key: &'a str,
    /// The new value; `None` deletes.
    pub value: Option<&'a [u8]>,
    /// The version that the key must have, 0 for absent; `None`: any.
    pub expect: Option<u64>,
}

/// What a batch lends, in postcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changes<'a> {
    /// From 1 to [`BATCH_CHANGES_MAX`].
    pub changes: Vec<Change<'a>>,
}

/// Lent memory that holds no changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadChanges {
    /// The bytes are truncated, too many, or of something else.
    Malformed,
    /// More than [`BATCH_CHANGES_MAX`].
    TooMany,
}

impl<'a> Changes<'a> {
    /// The bytes to lend.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadChanges> {
        postcard::to_extend(self, Vec::new()).map_err(|_| BadChanges::Malformed)
    }

    /// The changes that these bytes are, all of them.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, BadChanges> {
        // One by one: memory is taken for as many as may be, not for as many as the bytes say.
        let count = postcard::take_from_bytes::<u32>(bytes);
        let (count, mut rest) = count.map_err(|_| BadChanges::Malformed)?;
        if count as usize > BATCH_CHANGES_MAX {
            return Err(BadChanges::TooMany);
        }
        let mut changes = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let taken = postcard::take_from_bytes(rest).map_err(|_| BadChanges::Malformed)?;
            changes.push(taken.0);
            rest = taken.1;
        }
        if rest.is_empty() { Ok(Changes { changes }) } else { Err(BadChanges::Malformed) }
    }
}

/// What a change was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Done {
    /// The version of the (last) key that was changed.
    pub version: u64,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Found {
    /// The global sequence of the last change.
    pub version: u64,
    /// Bytes of the value.
    pub bytes: u64,
}

/// Which keys are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// What they begin with: `/state/` and whatever follows.
    pub prefix: String,
    /// Only keys behind this one: the last of the page before.
    pub after: Option<String>,
    /// Keys at the most; 0: [`PAGE_KEYS_MAX`].
    pub limit: u32,
}

/// A key of a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// The global sequence of its last change; 0 where it is not known.
    pub version: u64,
    /// Bytes of its value.
    pub bytes: u64,
    /// What reading it would answer, if that is an error.
    pub error: Option<StateError>,
}

/// Keys, in the order of their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The keys.
    pub entries: Vec<Listed>,
    /// Whether more follow.
    pub has_more: bool,
    /// Whether groups are lost, so that keys may be missing here.
    pub is_uncertain: bool,
}

/// How full the store is, and what went through it since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Bytes in use, as quotas count them.
    pub bytes: u64,
    /// Their bound.
    pub bytes_max: u64,
    /// Keys.
    pub keys: u64,
    /// Their bound.
    pub keys_max: u64,
    /// Whether changes are refused.
    pub is_read_only: bool,
    /// Changes that were answered with their version.
    pub changes: u64,
    /// Flushes that they took together.
    pub flushes: u64,
    /// Findings of damage.
    pub damage: u64,
}

/// Names for operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Session {
    /// The first of 2^32 numbers that nobody else of the same service uses.
    pub first: u64,
}

/// Why there is no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoStore {
    /// The machine has no disk.
    NoDisk,
    /// The disk has no partition `state`, or one that cannot be used.
    NoPartition,
    /// The partition holds nothing.
    Blank,
    /// The partition holds something else.
    Foreign,
    /// The store was made by a newer system.
    NewerFormat,
    /// The store is longer than its partition.
    Truncated,
    /// What says where everything lies is damaged.
    SuperblockLost,
    /// The disk's blocks are larger than those that the store was made for.
    UnitTooSmall,
    /// There is no memory for it.
    TooLarge,
    /// The disk does not answer.
    DeviceFailed,
}

impl core::fmt::Display for NoStore {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            NoStore::NoDisk => "the machine has no disk",
            NoStore::NoPartition => "the disk has no usable partition `state`",
            NoStore::Blank => "the partition `state` is empty; `nx statefs format` makes a store on it",
            NoStore::Foreign => "the partition `state` holds something else; nothing is written to it",
            NoStore::NewerFormat => "the store was made by a newer system",
            NoStore::Truncated => "the store is longer than its partition",
            NoStore::SuperblockLost => "both superblocks of the store are damaged",
            NoStore::UnitTooSmall => "the disk's blocks are larger than those of the store",
            NoStore::TooLarge => "the store's segments are larger than the service has memory for",
            NoStore::DeviceFailed => "the disk does not answer",
        })
    }
}

/// Why something was not read or changed. Unless it is `OutcomeUnknown` or `DeviceFailed`, nothing is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateError {
    /// There is no store.
    NoStore(NoStore),
    /// The policy does not allow it.
    Denied,
    /// The policy gives no answer.
    Unavailable,
    /// The key is absent.
    NotFound,
    /// The key's value was acknowledged and is damaged.
    Corrupt,
    /// Something that is lost may have changed this key.
    Uncertain,
    /// The key has this version, and another was expected.
    VersionMismatch {
        /// 0: it is absent.
        actual: u64,
    },
    /// It is no key.
    KeyInvalid,
    /// The key has more than [`KEY_BYTES_MAX`] bytes.
    KeyTooLong,
    /// The value has more than [`VALUE_BYTES_MAX`] bytes.
    ValueTooLarge,
    /// The batch has more than [`BATCH_CHANGES_MAX`] changes or [`BATCH_BYTES_MAX`] bytes.
    BatchTooLarge,
    /// The batch has no changes, or two of one key.
    BatchInvalid,
    /// What is lent is missing, too short, cannot be read, or is no batch.
    BadLease,
    /// The value has so many bytes, more than were lent.
    TooShort {
        /// Bytes of the value.
        bytes: u64,
    },
    /// The store is full.
    NoSpace,
    /// The store, or the part that the key belongs to, has as many keys as it may.
    TooManyKeys,
    /// The part that the key belongs to has as many bytes as it may.
    QuotaBytes,
    /// Maintenance cannot keep up: ask again.
    Busy,
    /// The store takes no changes: it is damaged, or there is no entropy.
    ReadOnly,
    /// The device failed while this was written: it is done or not. Repeat it under the same name.
    OutcomeUnknown,
    /// The device does not answer.
    DeviceFailed,
}

impl core::fmt::Display for StateError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            StateError::NoStore(reason) => return write!(formatter, "there is no /state: {reason}"),
            StateError::Denied => "the policy does not allow it",
            StateError::Unavailable => "the policy gives no answer",
            StateError::NotFound => "there is no such key",
            StateError::Corrupt => "the value is damaged",
            StateError::Uncertain => "something that is lost may have changed this key",
            StateError::VersionMismatch { actual } => {
                return write!(formatter, "the key has the version {actual}");
            }
            StateError::KeyInvalid => "that is no key: `/state/` and parts between slashes",
            StateError::KeyTooLong => "the key is longer than 255 bytes",
            StateError::ValueTooLarge => "the value is larger than 64 KiB",
            StateError::BatchTooLarge => "the batch has too many changes or bytes",
            StateError::BatchInvalid => "the batch is empty, or names a key twice",
            StateError::BadLease => "what is lent cannot be used",
            StateError::TooShort { bytes } => return write!(formatter, "the value has {bytes} bytes"),
            StateError::NoSpace => "the store is full",
            StateError::TooManyKeys => "there are as many keys as there may be",
            StateError::QuotaBytes => "this part of the store has as many bytes as it may",
            StateError::Busy => "the store is busy cleaning up",
            StateError::ReadOnly => "the store takes no changes",
            StateError::OutcomeUnknown => "the device failed: it is done or not",
            StateError::DeviceFailed => "the disk does not answer",
        })
    }
}

register_message!(Done);
register_message!(Found);
register_message!(Session);
postcard_message!(Key, 260);
postcard_message!(Put, 300);
postcard_message!(Delete, 300);
postcard_message!(Batch, 16);
postcard_message!(List, REQUEST_BYTES_MAX);
postcard_message!(Page, PAGE_BYTES_MAX);
postcard_message!(Space, 96);
postcard_message!(StateError, 16);

nexus_ipc::service! {
    /// Keys and values that survive: what is answered is durable.
    endpoint "state", max_bytes REQUEST_BYTES_MAX, error StateError;
    /// Reads a value into the lent memory.
    deferred idempotent get(Key) lends 1 -> Found = 1;
    /// Sets a key to the lent value.
    deferred once put(Put) lends 1 -> Done = 2;
    /// Deletes a key, which must be there.
    deferred once delete(Delete) -> Done = 3;
    /// Makes several changes, which are lent: all or none.
    deferred once batch(Batch) lends 1 -> Done = 4;
    /// Tells version and length of a key.
    immediate idempotent stat(Key) -> Found = 5;
    /// Lists keys in their order, page by page.
    immediate idempotent list(List) -> Page = 6;
    /// Tells how full the store is.
    immediate idempotent space(()) -> Space = 7;
    /// Yields names for operations.
    immediate idempotent session(()) -> Session = 8;
}
