//! The steps by which an identity is found, made, or given up.

use crate::{
    ANCHOR_BYTES, Copies, Finding, Identity, Kept, MachineId, RECORD_BYTES, Refusal, RootSecret, judge,
};
use zeroize::Zeroizing;

/// Times that what is stored is looked at: before the record is made, before the anchor, and when both are there.
const LOOKS_MAX: usize = 3;

/// Where an identity is stored, and what a new one is made of. An error says that nothing is known.
pub trait Places {
    /// Why something was not done, or it is not known whether it was.
    type Error;

    /// Random bytes that nobody else gets.
    fn random<const BYTES: usize>(&mut self) -> Result<Zeroizing<[u8; BYTES]>, Self::Error>;

    /// What stands in the record's place.
    fn record(&mut self) -> Result<Kept, Self::Error>;

    /// Stores the record where none is. It is durable when this returns.
    fn keep_record(&mut self, record: &[u8; RECORD_BYTES]) -> Result<(), Self::Error>;

    /// Removes the record, if there is one. That is durable when this returns.
    fn forget_record(&mut self) -> Result<(), Self::Error>;

    /// The copies of the anchor.
    fn anchors(&mut self) -> Result<Copies, Self::Error>;

    /// Writes a copy of the anchor. It is durable when this returns.
    fn keep_anchor(&mut self, copy: usize, anchor: &[u8; ANCHOR_BYTES]) -> Result<(), Self::Error>;
}

/// Why there is no identity now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// It is refused, until a person resets it.
    Refused(Refusal),
    /// Something did not answer, or could not: it may be tried again.
    Place(E),
}

impl<E> From<E> for Failure<E> {
    fn from(error: E) -> Self {
        Failure::Place(error)
    }
}

/// The identity of this machine, which is made if there never was one; its record is wrapped with the secret of the board,
/// if that has one. What is made is durable, anchored and read back before it is yielded.
pub fn open<P: Places>(
    places: &mut P,
    machine: MachineId,
    root: Option<&RootSecret>,
) -> Result<Identity, Failure<P::Error>> {
    for _ in 0..LOOKS_MAX {
        let (record, copies) = (places.record()?, places.anchors()?);
        match judge(&record, &copies, machine, root).map_err(Failure::Refused)? {
            Finding::Whole(identity) => return Ok(identity),
            Finding::Unanchored(identity, wanted) => {
                let anchor = identity.anchor().to_bytes();
                for (copy, _) in wanted.iter().enumerate().filter(|(_, is_wanted)| **is_wanted) {
                    places.keep_anchor(copy, &anchor)?;
                }
            }
            Finding::Blank => {
                let identity = Identity::new(&*places.random()?, machine);
                let record = match root {
                    Some(root) => identity.to_wrapped_record(root, &*places.random()?),
                    None => Some(identity.to_record()),
                };
                places.keep_record(&*record.ok_or(Failure::Refused(Refusal::Damaged))?)?;
            }
        }
    }
    // What was written and acknowledged is not there.
    Err(Failure::Refused(Refusal::Damaged))
}

/// Gives up whatever identity there is: the next [`open`] makes another. The record goes first: as long as an anchor is
/// left, nothing new is made without a word.
pub fn reset<P: Places>(places: &mut P) -> Result<(), P::Error> {
    places.forget_record()?;
    for (copy, _) in places.anchors()?.iter().enumerate() {
        places.keep_anchor(copy, &[0; ANCHOR_BYTES])?;
    }
    Ok(())
}
