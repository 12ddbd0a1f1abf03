//! Every way in which the engine refuses, each with its own name.

use crate::device::DeviceError;
use core::fmt;

/// What is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFault {
    /// The key does not start with `/state/`.
    Prefix,
    /// A part between two slashes is empty, or the key ends with a slash.
    EmptyPart,
    /// A part is `.` or `..`.
    DotPart,
    /// The key is not UTF-8.
    NotUtf8,
    /// The key holds a control character.
    Control,
}

/// Why an operation, or an opening, was refused. The store is untouched unless `OutcomeUnknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The key is absent.
    NotFound,
    /// The key's acknowledged value is damaged and cannot be given.
    Corrupt,
    /// The key may have been changed by a group that is lost; see `fsck --accept`.
    Uncertain,
    /// The condition failed: this is the key's version (0 = absent).
    VersionMismatch {
        /// Version that the key has.
        actual: u64,
    },
    /// The key breaks the rules for keys.
    KeyInvalid(KeyFault),
    /// The key is longer than [`crate::KEY_BYTES_MAX`].
    KeyTooLong,
    /// The value is longer than [`crate::VALUE_BYTES_MAX`], or than this store's segments can take.
    ValueTooLarge,
    /// The batch has more than [`crate::BATCH_RECORDS_MAX`] records.
    BatchTooManyRecords,
    /// The batch has more than [`crate::BATCH_BYTES_MAX`] bytes, or than this store's segments can take.
    BatchTooLarge,
    /// The batch is empty.
    BatchEmpty,
    /// The batch names a key twice.
    DuplicateKey,
    /// The group under construction has no room for this: commit it, then stage again.
    GroupFull,
    /// The live bytes are at their bound; reads and deletes go on.
    NoSpace,
    /// The key count is at its bound ([`crate::Options::keys_max`]).
    TooManyKeys,
    /// The prefix has used its bytes.
    QuotaBytes,
    /// The prefix has used its keys.
    QuotaKeys,
    /// A checkpoint has to make progress first: call `maintain`, then try again.
    CheckpointNeeded,
    /// The store is read-only, because of damage or by request.
    ReadOnly,
    /// The device failed while the group was written: it may be durable or not. Retry with the same
    /// operation id, or read.
    OutcomeUnknown,
    /// The device failed.
    Device(DeviceError),
    /// No statefs on this device.
    Foreign,
    /// The store was made by a newer version of the format.
    NewerFormat {
        /// The version found.
        version: u32,
    },
    /// The device is shorter than the store on it.
    Truncated,
    /// No usable superblock is left.
    SuperblockLost,
    /// The device's physical block is larger than the unit of the store.
    UnitTooSmall,
    /// The device, or the geometry asked for, is out of the format's bounds.
    Geometry,
}

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Error {
        Error::Device(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound => out.write_str("not found"),
            Error::Corrupt => out.write_str("the value is damaged"),
            Error::Uncertain => out.write_str("a lost group may have changed this key (fsck --accept)"),
            Error::VersionMismatch { actual } => write!(out, "the version is {actual}"),
            Error::KeyInvalid(fault) => write!(out, "invalid key: {fault:?}"),
            Error::NewerFormat { version } => write!(out, "format version {version} is newer than this tool"),
            Error::Foreign => out.write_str("no statefs here"),
            Error::Truncated => out.write_str("the device is shorter than the store"),
            other => write!(out, "{other:?}"),
        }
    }
}

impl core::error::Error for Error {}
