//! The anchor: which key this device has and on which machine, remembered where the store is not.
//!
//! ```text
//!   0   8  magic with the version of the layout
//!   8   8  zeroes
//!  16  64  the machine's id, filled up with zeroes
//!  80  32  SHA-256 of the public key
//! 112  32  SHA-256 of bytes 0 to 111
//! 144 368  zeroes
//! ```
//! Two copies, in the last two stretches of [`ANCHOR_SPACING`] bytes of the partition `bootctl`: no device damages both
//! with one write that the power cuts.

use crate::{MACHINE_BYTES_MAX, MachineId};
use sha2::{Digest, Sha256};

/// Bytes of a copy: a block.
pub const ANCHOR_BYTES: usize = 512;
/// Copies that there are.
pub const ANCHOR_COPIES: usize = 2;
/// Bytes between the beginnings of two copies, and from that of the last to the end of the partition.
pub const ANCHOR_SPACING: u64 = 64 * 1024;
const MAGIC: [u8; 8] = *b"NXANCHR\x01";
const MACHINE_AT: usize = 16;
const FINGERPRINT_AT: usize = MACHINE_AT + MACHINE_BYTES_MAX;
const HASH_AT: usize = FINGERPRINT_AT + 32;
const HASH_END: usize = HASH_AT + 32;

/// A copy as it was read; `None`: it cannot be read at all.
pub type Copy = Option<[u8; ANCHOR_BYTES]>;
/// All copies.
pub type Copies = [Copy; ANCHOR_COPIES];

/// Where a copy begins in a partition of so many bytes; `None` where there is no room for it.
pub const fn anchor_place(partition_bytes: u64, copy: usize) -> Option<u64> {
    partition_bytes.checked_sub((ANCHOR_COPIES - copy) as u64 * ANCHOR_SPACING)
}

/// Which key it is, and on which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The machine.
    pub machine: MachineId,
    /// The public key's name.
    pub fingerprint: [u8; 32],
}

impl Anchor {
    /// A copy of it.
    pub fn to_bytes(&self) -> [u8; ANCHOR_BYTES] {
        let mut bytes = [0; ANCHOR_BYTES];
        let (head, tail) = bytes.split_at_mut(HASH_AT);
        let parts = MAGIC.iter().chain(&[0; MACHINE_AT - MAGIC.len()]).chain(self.machine.padded());
        head.iter_mut().zip(parts.chain(&self.fingerprint)).for_each(|(to, from)| *to = *from);
        tail.iter_mut().zip(Sha256::digest(head)).for_each(|(to, from)| *to = from);
        bytes
    }

    /// The anchor that a copy holds; `None` for bytes that are not exactly one.
    pub fn from_bytes(bytes: &[u8; ANCHOR_BYTES]) -> Option<Self> {
        let machine = MachineId::from_padded(bytes.get(MACHINE_AT..FINGERPRINT_AT)?.first_chunk()?)?;
        let fingerprint = *bytes.get(FINGERPRINT_AT..HASH_AT)?.first_chunk()?;
        let anchor = Anchor { machine, fingerprint };
        // All of it is as this anchor would be written, its hash included.
        (anchor.to_bytes() == *bytes).then_some(anchor)
    }
}

/// What the copies together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remembered {
    /// Nothing was ever written.
    Nothing,
    /// Something was begun to be written, or is damaged; nothing can be read of it.
    Garbled,
    /// This, in the copies that are `true`.
    One(Anchor, [bool; ANCHOR_COPIES]),
    /// Two different things.
    Two,
}

pub(crate) fn remembered(copies: &Copies) -> Remembered {
    let read = copies.map(|copy| copy.as_ref().and_then(Anchor::from_bytes));
    let mut found = read.iter().flatten();
    match found.next() {
        Some(first) if found.all(|other| other == first) => {
            Remembered::One(*first, read.map(|copy| copy.is_some()))
        }
        Some(_) => Remembered::Two,
        None if copies.iter().all(|copy| *copy == Some([0; ANCHOR_BYTES])) => Remembered::Nothing,
        None => Remembered::Garbled,
    }
}

const _: () = assert!(HASH_END <= ANCHOR_BYTES);
