//! The manifest's bytes: eight bytes of magic and version, then [`Manifest`] in postcard.
//!
//! The initial image around it carries the checksum (and later the signature).

use crate::MANIFEST_BYTES_MAX;
use crate::check::{Problem, check};
use crate::model::Manifest;
use alloc::vec::Vec;

/// First bytes: a word and the version of this layout.
pub const MAGIC: [u8; 8] = *b"NXMANIF\x05";

/// Why bytes are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They do not begin with [`MAGIC`].
    BadMagic,
    /// There are more than [`MANIFEST_BYTES_MAX`].
    TooLarge,
    /// They are truncated, too long, or not of this layout.
    Malformed,
    /// They say something that may not be said; the first such thing.
    Refused(Problem),
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DecodeError::BadMagic => formatter.write_str("it does not begin with the magic of a manifest"),
            DecodeError::TooLarge => write!(formatter, "it has more than {MANIFEST_BYTES_MAX} bytes"),
            DecodeError::Malformed => formatter.write_str("its bytes are not of this layout"),
            DecodeError::Refused(problem) => write!(formatter, "{}: {}", problem.service, problem.message),
        }
    }
}

impl core::error::Error for DecodeError {}

/// The bytes of a manifest; refuses what [`decode`] would refuse.
pub fn encode(manifest: &Manifest) -> Result<Vec<u8>, DecodeError> {
    refuse_problems(manifest)?;
    let body = postcard::to_allocvec(manifest).map_err(|_| DecodeError::Malformed)?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&body);
    if bytes.len() > MANIFEST_BYTES_MAX { Err(DecodeError::TooLarge) } else { Ok(bytes) }
}

/// The manifest in these bytes, fully checked.
pub fn decode(bytes: &[u8]) -> Result<Manifest, DecodeError> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(DecodeError::TooLarge);
    }
    let body = bytes.strip_prefix(&MAGIC).ok_or(DecodeError::BadMagic)?;
    let (manifest, rest) = postcard::take_from_bytes::<Manifest>(body).map_err(|_| DecodeError::Malformed)?;
    if !rest.is_empty() {
        return Err(DecodeError::Malformed);
    }
    refuse_problems(&manifest)?;
    Ok(manifest)
}

fn refuse_problems(manifest: &Manifest) -> Result<(), DecodeError> {
    match check(manifest).into_iter().next() {
        Some(problem) => Err(DecodeError::Refused(problem)),
        None => Ok(()),
    }
}
