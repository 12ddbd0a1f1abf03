//! Signed overlays: lines that take the place of the image's, until the next boot.
//!
//! ```text
//! 0        magic with the version of the layout, 8 bytes
//! 8        Overlay in postcard: sequence, then a table
//! end-64   Ed25519 signature of everything before it, by the key that the image's table names
//! ```

use crate::{Action, OVERLAY_BYTES_MAX, Rule, Subject, Table, TableError};
use alloc::vec::Vec;
use core::fmt;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

/// First bytes of an overlay.
const MAGIC: [u8; 8] = *b"NXPOLOV\x01";
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;

/// What an overlay says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Higher than that of every overlay before it.
    pub sequence: u64,
    /// Its lines. All lines of the image about a subject and an action go where the overlay has one about both.
    pub table: Table,
}

/// Why an overlay is refused. The table in force stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayError {
    /// The image names no key: no overlay is ever taken.
    NoKey,
    /// It is longer than [`OVERLAY_BYTES_MAX`], or not of this layout.
    Malformed,
    /// The signature is not of the image's key over these bytes.
    BadSignature,
    /// Its sequence is not above that of the last one: it, or one after it, was taken already.
    Replayed,
    /// It has a line about the policy itself, or a key.
    Forbidden,
    /// Its table, or what comes of it and the image's, breaks a rule.
    Table(TableError),
}

impl fmt::Display for OverlayError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            OverlayError::NoKey => "the image names no key for overlays",
            OverlayError::Malformed => "it is too long or its bytes are not of this layout",
            OverlayError::BadSignature => "the signature is not of the image's key",
            OverlayError::Replayed => "its sequence is not above that of the last one",
            OverlayError::Forbidden => "it has a line about the policy itself, or a key",
            OverlayError::Table(error) => return write!(formatter, "its table: {error}"),
        })
    }
}

impl core::error::Error for OverlayError {}

impl From<TableError> for OverlayError {
    fn from(error: TableError) -> Self {
        OverlayError::Table(error)
    }
}

impl Overlay {
    /// Verifies an overlay's signature first and everything else after; `above` is the last one's sequence.
    pub fn open(bytes: &[u8], key: Option<&[u8; 32]>, above: u64) -> Result<Overlay, OverlayError> {
        let key = key.ok_or(OverlayError::NoKey)?;
        if bytes.len() > OVERLAY_BYTES_MAX {
            return Err(OverlayError::Malformed);
        }
        let signed = bytes.len().checked_sub(SIGNATURE_BYTES).ok_or(OverlayError::Malformed)?;
        let (signed, signature) = bytes.split_at(signed);
        let signature = Signature::from_slice(signature).map_err(|_| OverlayError::Malformed)?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| OverlayError::NoKey)?;
        key.verify_strict(signed, &signature).map_err(|_| OverlayError::BadSignature)?;
        let body = signed.strip_prefix(&MAGIC).ok_or(OverlayError::Malformed)?;
        let (overlay, rest) =
            postcard::take_from_bytes::<Overlay>(body).map_err(|_| OverlayError::Malformed)?;
        if !rest.is_empty() {
            return Err(OverlayError::Malformed);
        }
        if overlay.sequence <= above {
            return Err(OverlayError::Replayed);
        }
        overlay.table.check()?;
        let forbidden = |rule: &Rule| rule.action.is_of_the_policy();
        if overlay.table.overlay_key.is_some() || overlay.table.rules.iter().any(forbidden) {
            return Err(OverlayError::Forbidden);
        }
        Ok(overlay)
    }

    /// What is in force with this overlay over the image's table.
    pub fn over(&self, base: &Table) -> Result<Table, OverlayError> {
        let touches = |subject: u64, action: Action| !self.table.lines(subject, action).1.is_empty();
        let id = |table: &Table, rule: &Rule| {
            table.subjects.get(usize::from(rule.subject)).map_or(0, |subject| subject.id)
        };
        let mut merged =
            Table { overlay_key: base.overlay_key, files: base.files.clone(), ..Table::default() };
        merged.subjects = base.subjects.iter().chain(&self.table.subjects).cloned().collect::<Vec<Subject>>();
        merged.subjects.sort_by_key(|subject| subject.id);
        merged.subjects.dedup_by_key(|subject| subject.id);
        let first_file = merged.files.len();
        merged.files.extend(self.table.files.iter().cloned());
        let kept = base.rules.iter().filter(|rule| !touches(id(base, rule), rule.action));
        let kept = kept.map(|rule| (id(base, rule), rule, 0));
        let new = self.table.rules.iter().map(|rule| (id(&self.table, rule), rule, first_file));
        for (subject, rule, files) in kept.chain(new) {
            let place = merged.subjects.binary_search_by_key(&subject, |known| known.id);
            let subject =
                place.ok().and_then(|place| u16::try_from(place).ok()).ok_or(TableError::OverLimit)?;
            let file = u16::try_from(usize::from(rule.file) + files).map_err(|_| TableError::OverLimit)?;
            merged.rules.push(Rule { subject, file, ..rule.clone() });
        }
        merged.rules.sort();
        merged.check()?;
        Ok(merged)
    }
}

/// Signs an overlay with the key of this seed.
#[cfg(feature = "compile")]
pub fn sign(overlay: &Overlay, seed: &[u8; 32]) -> Result<Vec<u8>, OverlayError> {
    use ed25519_dalek::{Signer, SigningKey};
    overlay.table.check()?;
    let mut bytes = postcard::to_extend(overlay, MAGIC.to_vec()).map_err(|_| OverlayError::Malformed)?;
    bytes.extend(SigningKey::from_bytes(seed).sign(&bytes).to_bytes());
    if bytes.len() > OVERLAY_BYTES_MAX { Err(OverlayError::Malformed) } else { Ok(bytes) }
}

/// The public key of a seed.
#[cfg(feature = "compile")]
pub fn public_key(seed: &[u8; 32]) -> [u8; 32] {
    ed25519_dalek::SigningKey::from_bytes(seed).verifying_key().to_bytes()
}
