//! What a call lends, and who may copy how much of it.

use super::{CapId, Model, Object, Wait};
use nexus_abi::{Error, Rights};

/// Leases that one call may carry, as the contract has it.
const LEASES_MAX: usize = 4;
/// Bytes that one copy may move.
const COPY_MAX: u64 = 65_536;

/// A lease that a call is to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lent {
    /// The Reply, index and offset of a lease of one's own caller that is lent on.
    pub(crate) on: Option<(CapId, usize, u64)>,
    pub(crate) bytes: u64,
    pub(crate) rights: Rights,
}

/// A lease of a call that was made.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// The thread and sequence of the call that lent it first.
    lender: (usize, u64),
    bytes: u64,
    rights: Rights,
}

/// A copy out of a lease, or into it.
#[derive(Clone, Copy, Debug)]
pub struct LeaseCopy {
    pub(crate) reply: CapId,
    pub(crate) index: usize,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) into: bool,
}

impl Model {
    pub(super) fn check_lease_count(leases: &[Lent]) -> Result<(), Error> {
        if leases.len() > LEASES_MAX { Err(Error::InvalidArgument) } else { Ok(()) }
    }

    /// Remembers what a call lends. It belongs to the sequence in which its answer will be waited for.
    pub(super) fn lend(&mut self, thread: usize, leases: &[Lent]) -> Result<(), Error> {
        let resolved = leases.iter().map(|lent| self.resolve(thread, lent)).collect::<Result<_, _>>()?;
        self.threads[thread].leases = resolved;
        Ok(())
    }

    fn resolve(&self, thread: usize, lent: &Lent) -> Result<Lease, Error> {
        if lent.rights.is_empty() || !(Rights::READ | Rights::WRITE).contains(lent.rights) {
            return Err(Error::InvalidArgument);
        }
        let Some((reply, index, offset)) = lent.on else {
            // Sequence 0: of the call that carries it, whichever that is.
            return Ok(Lease { lender: (thread, 0), bytes: lent.bytes, rights: lent.rights });
        };
        let lease = self.open_lease(thread, reply, index)?;
        if offset + lent.bytes > lease.bytes {
            return Err(Error::OutOfRange);
        }
        if !lease.rights.contains(lent.rights) {
            return Err(Error::NotPermitted);
        }
        Ok(Lease { bytes: lent.bytes, rights: lent.rights, ..lease })
    }

    fn open_lease(&self, thread: usize, reply: CapId, index: usize) -> Result<Lease, Error> {
        let is_reply = |object: &Object| matches!(object, Object::Reply(..));
        let Object::Reply(caller, sequence) = self.usable(thread, reply, is_reply, Rights::empty())?.object
        else {
            return Err(Error::WrongKind);
        };
        if !self.waits_for_answer((caller, sequence)) {
            return Err(Error::PeerGone);
        }
        let lease = *self.threads[caller].leases.get(index).ok_or(Error::InvalidArgument)?;
        let lender = if lease.lender.1 == 0 { (caller, sequence) } else { lease.lender };
        Ok(Lease { lender, ..lease })
    }

    /// How many bytes are lent, with bit 63 when they may be written and bit 62 when they may be read.
    pub(super) fn lease_query(&self, thread: usize, reply: CapId, index: usize) -> Result<u64, Error> {
        let lease = self.open_lease(thread, reply, index)?;
        if !self.waits_for_answer(lease.lender) {
            return Err(Error::PeerGone);
        }
        let bit = |right: Rights, bit: u32| u64::from(lease.rights.contains(right)) << bit;
        Ok(lease.bytes | bit(Rights::WRITE, 63) | bit(Rights::READ, 62))
    }

    fn waits_for_answer(&self, (thread, sequence): (usize, u64)) -> bool {
        let thread = &self.threads[thread];
        thread.alive && matches!(thread.wait, Wait::Called) && thread.sequence == sequence
    }

    pub(super) fn lease_copy(&self, thread: usize, copy: &LeaseCopy) -> Result<(), Error> {
        if copy.bytes > COPY_MAX {
            let is_reply = |object: &Object| matches!(object, Object::Reply(..));
            return self.usable(thread, copy.reply, is_reply, Rights::empty()).and(Err(Error::TooLarge));
        }
        let lease = self.open_lease(thread, copy.reply, copy.index)?;
        if copy.offset + copy.bytes > lease.bytes {
            return Err(Error::OutOfRange);
        }
        if !lease.rights.contains(if copy.into { Rights::WRITE } else { Rights::READ }) {
            return Err(Error::NotPermitted);
        }
        if self.waits_for_answer(lease.lender) { Ok(()) } else { Err(Error::PeerGone) }
    }
}
