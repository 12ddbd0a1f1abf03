//! Memory that is lent for the time of one call: of any size, copied where the server picks.
//!
//! The borrow in a [`Lent`] lasts until the call returns, answered or not, and the kernel ends what was lent
//! with the call. So nobody writes to memory that its owner believes to be its own again. The lender may change
//! what it lent at any time: a server reads a byte once and decides on the copy.

use core::marker::PhantomData;
use core::ops::Range;
use nexus_abi::limits::TRANSFER_BYTES_MAX;
use nexus_abi::message::Lease;
use nexus_abi::{Error, Handle, Rights, system};

/// One range of memory that a call lends: of the caller's own, or of what was lent to it.
#[repr(transparent)]
pub struct Lent<'a> {
    lease: Lease,
    marker: PhantomData<&'a mut [u8]>,
}

impl<'a> Lent<'a> {
    /// To be read.
    pub fn read(memory: &'a [u8]) -> Self {
        Lent { lease: Lease::of(memory), marker: PhantomData }
    }

    /// To be read and written.
    pub fn write(memory: &'a mut [u8]) -> Self {
        Lent { lease: Lease::of_writable(memory), marker: PhantomData }
    }
}

/// What the caller of an open call lends.
pub struct Leases<'a> {
    reply: Handle,
    marker: PhantomData<&'a ()>,
}

impl<'a> Leases<'a> {
    /// Of the call that this Reply is owed to; borrowed from whoever owes it.
    pub(crate) fn new(reply: Handle) -> Self {
        Leases { reply, marker: PhantomData }
    }

    /// The range with this number. `InvalidArgument`: the call lends none; `PeerGone`: it has ended.
    pub fn get(&self, index: u32) -> Result<LentMemory<'a>, Error> {
        let (bytes, rights) = system::lease_query(self.reply, index)?;
        Ok(LentMemory { reply: self.reply, index, bytes, rights, marker: PhantomData })
    }
}

/// One range that a caller lends, as the kernel tells it. A hole in it is `Fault`, an ended call `PeerGone`,
/// what lies beyond it `OutOfRange`, what it does not allow `NotPermitted`; the call itself stays open.
#[derive(Clone, Copy, Debug)]
pub struct LentMemory<'a> {
    reply: Handle,
    index: u32,
    bytes: u64,
    rights: Rights,
    marker: PhantomData<&'a ()>,
}

impl<'a> LentMemory<'a> {
    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it may be written.
    pub fn is_writable(&self) -> bool {
        self.rights.contains(Rights::WRITE)
    }

    /// Copies out of it, from `offset` on, as much as `to` holds.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), Error> {
        let mut at = offset;
        for part in to.chunks_mut(TRANSFER_BYTES_MAX) {
            system::lease_read(self.reply, self.index, at, part)?;
            at = at.saturating_add(part.len() as u64);
        }
        Ok(())
    }

    /// Copies into it, from `offset` on.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), Error> {
        let mut at = offset;
        for part in from.chunks(TRANSFER_BYTES_MAX) {
            system::lease_write(self.reply, self.index, at, part)?;
            at = at.saturating_add(part.len() as u64);
        }
        Ok(())
    }

    /// Lends a part of it on, to be read.
    pub fn lend(&self, range: Range<u64>) -> Lent<'a> {
        self.lend_with(range, Rights::READ)
    }

    /// Lends a part of it on, to be read and written.
    pub fn lend_writable(&self, range: Range<u64>) -> Lent<'a> {
        self.lend_with(range, Rights::READ.union(Rights::WRITE))
    }

    fn lend_with(&self, range: Range<u64>, rights: Rights) -> Lent<'a> {
        let (reply, address, index) = (self.reply, range.start, self.index);
        let bytes = range.end.saturating_sub(range.start);
        Lent { lease: Lease { reply, address, bytes, rights: rights.bits(), index }, marker: PhantomData }
    }
}
