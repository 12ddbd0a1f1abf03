//! What record and anchor together come to.

use crate::anchor::{ANCHOR_COPIES, Anchor, Copies, Remembered, remembered};
use crate::{Identity, MachineId, NotOpened, RootSecret};
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// What stands in the record's place. It is never printed.
#[derive(Clone)]
pub enum Kept {
    /// Nothing, and that is certain.
    Absent,
    /// These bytes.
    Bytes(Zeroizing<Vec<u8>>),
    /// Something that is damaged.
    Damaged,
}

/// What there is to do.
#[derive(Debug)]
pub enum Finding {
    /// Nothing: this is the identity.
    Whole(Identity),
    /// To write the anchor of this identity into the copies that are `true`; only then it is one.
    Unanchored(Identity, [bool; ANCHOR_COPIES]),
    /// To make one: there never was any.
    Blank,
}

/// Why there is no identity, and none is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This device has an identity, whose key is missing.
    Lost,
    /// What is stored belongs to another machine.
    Foreign,
    /// What is stored is damaged, or of a layout that this system does not know.
    Damaged,
    /// What is stored does not open with what this board has: a secret, another, or none.
    OtherRoot,
}

/// What a machine finds that has stored this, and whose board has this secret.
///
/// | record | anchor | comes to |
/// | --- | --- | --- |
/// | damaged | any | `Damaged` |
/// | not opened by this board's secret, of another machine | any | `Foreign` |
/// | not opened by this board's secret | any | `OtherRoot` |
/// | any | two different ones | `Damaged` |
/// | of another machine | any other | `Foreign` |
/// | any other | of another machine | `Foreign` |
/// | absent | nothing | `Blank` |
/// | absent | one, or garbled | `Lost` |
/// | good | nothing, or garbled | `Unanchored`: the power was cut before the anchor was whole |
/// | good | of another key | `Lost` |
/// | good | its own | `Whole`, or `Unanchored` where a copy is missing |
pub fn judge(
    record: &Kept,
    copies: &Copies,
    machine: MachineId,
    root: Option<&RootSecret>,
) -> Result<Finding, Refusal> {
    let is_foreign = |other: MachineId| other != machine;
    let identity = match record {
        Kept::Absent => None,
        Kept::Bytes(bytes) => match Identity::from_record(bytes, root) {
            Ok(identity) => Some(identity),
            Err(NotOpened::OtherRoot(there)) if is_foreign(there) => return Err(Refusal::Foreign),
            Err(NotOpened::OtherRoot(_)) => return Err(Refusal::OtherRoot),
            Err(NotOpened::Damaged) => return Err(Refusal::Damaged),
        },
        Kept::Damaged => return Err(Refusal::Damaged),
    };
    let anchor = remembered(copies);
    match (identity, anchor) {
        (_, Remembered::Two) => Err(Refusal::Damaged),
        (Some(identity), _) if is_foreign(identity.machine()) => Err(Refusal::Foreign),
        (_, Remembered::One(anchor, _)) if is_foreign(anchor.machine) => Err(Refusal::Foreign),
        (None, Remembered::Nothing) => Ok(Finding::Blank),
        (None, Remembered::One(..) | Remembered::Garbled) => Err(Refusal::Lost),
        (Some(identity), Remembered::Nothing | Remembered::Garbled) => {
            Ok(Finding::Unanchored(identity, [true; ANCHOR_COPIES]))
        }
        (Some(identity), Remembered::One(anchor, good)) => {
            if anchor.fingerprint != identity.fingerprint() {
                Err(Refusal::Lost)
            } else if good == [true; ANCHOR_COPIES] {
                Ok(Finding::Whole(identity))
            } else {
                Ok(Finding::Unanchored(identity, good.map(|is_good| !is_good)))
            }
        }
    }
}

impl Identity {
    /// Its anchor.
    pub fn anchor(&self) -> Anchor {
        Anchor { machine: self.machine(), fingerprint: self.fingerprint() }
    }
}
