//! What the engine refuses, in the words of the service.

use alloc::string::String;
use nexus_proto::state::{Listed, Page, StateError};
use statefs::Error;

/// The engine's refusal as it is answered.
pub fn refusal(error: Error) -> StateError {
    match error {
        Error::NotFound => StateError::NotFound,
        Error::Corrupt => StateError::Corrupt,
        Error::Uncertain => StateError::Uncertain,
        Error::VersionMismatch { actual } => StateError::VersionMismatch { actual },
        Error::KeyInvalid(_) => StateError::KeyInvalid,
        Error::KeyTooLong => StateError::KeyTooLong,
        Error::ValueTooLarge => StateError::ValueTooLarge,
        Error::BatchTooManyRecords | Error::BatchTooLarge => StateError::BatchTooLarge,
        Error::BatchEmpty | Error::DuplicateKey => StateError::BatchInvalid,
        Error::NoSpace => StateError::NoSpace,
        Error::TooManyKeys | Error::QuotaKeys => StateError::TooManyKeys,
        Error::QuotaBytes => StateError::QuotaBytes,
        Error::GroupFull | Error::CheckpointNeeded => StateError::Busy,
        Error::ReadOnly => StateError::ReadOnly,
        Error::OutcomeUnknown => StateError::OutcomeUnknown,
        Error::Device(_)
        | Error::Foreign
        | Error::NewerFormat { .. }
        | Error::Truncated
        | Error::SuperblockLost
        | Error::UnitTooSmall
        | Error::Geometry => StateError::DeviceFailed,
    }
}

/// A page as it is answered.
pub fn page(page: statefs::Page) -> Page {
    let entry = |listed: statefs::Listed| Listed {
        key: String::from_utf8_lossy(&listed.key).into_owned(),
        version: listed.stat.map_or(0, |stat| stat.version),
        bytes: listed.stat.map_or(0, |stat| stat.length.into()),
        error: listed.stat.err().map(refusal),
    };
    Page {
        entries: page.keys.into_iter().map(entry).collect(),
        has_more: page.more,
        is_uncertain: page.uncertain,
    }
}
