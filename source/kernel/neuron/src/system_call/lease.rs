//! Leases: memory of a caller that whoever holds its Reply may read or write until it is answered.
//!
//! A lease is named by the Reply and its index; what it lends is fixed when the call is made. A server lends
//! a part of it on in its own calls, and what is remembered then is whose memory it is in the end. Each page
//! is translated afresh, while the lender is locked, so nothing is touched once its call has ended.

use super::{Outcome, Request};
use crate::arch::Arch;
use crate::kernel::Kernel;
use crate::memory::Id;
use crate::memory::user::in_user_range;
use crate::object::capability::Capability;
use crate::object::process::ProcessShared;
use crate::object::thread::{Lease, State};
use crate::object::{Process, Thread};
use crate::sync::{self, Held, Nothing};
use nexus_abi::limits::{LEASES_MAX, PAGE_SIZE, TRANSFER_BYTES_MAX};
use nexus_abi::{Error, Kind, Rights, message};
use zerocopy::IntoBytes;

/// What a lease may allow.
const ACCESSES: Rights = Rights::READ.union(Rights::WRITE);

/// A lease that was looked up: what it says, and whose open call it hangs on.
struct Open {
    lease: Lease,
    lender: (Id<Thread>, u64),
}

impl<A: Arch> Kernel<A> {
    /// Remembers what a call that is about to be made lends, until it is answered.
    pub(super) fn lend(&self, request: &mut Request<'_, '_, '_>, count: usize) -> Result<(), Error> {
        let me = request.caller.thread;
        let address = self.lock(request.held, me).ok_or(Error::PeerGone)?.0.message.buffers.leases;
        let leases = self.read_leases(request, address, count)?;
        let (mut thread, _) = self.lock(request.held, me).ok_or(Error::PeerGone)?;
        (thread.message.leases, thread.message.lease_count) = (leases, count);
        Ok(())
    }

    fn read_leases(
        &self,
        request: &mut Request<'_, '_, '_>,
        address: u64,
        count: usize,
    ) -> Result<[Lease; LEASES_MAX], Error> {
        let mut leases = [Lease::default(); LEASES_MAX];
        let mut given = [message::Lease::default(); LEASES_MAX];
        let given = given.get_mut(..count).ok_or(Error::InvalidArgument)?;
        let process = request.caller.process;
        self.read_user(&mut request.user(), process, address, given.as_mut_bytes())?;
        for (lease, given) in leases.iter_mut().zip(given) {
            *lease = self.check_lease(request.held, request.caller.shared, given)?;
        }
        Ok(leases)
    }

    fn check_lease(
        &self,
        held: &mut Held<'_, Nothing>,
        caller: &ProcessShared,
        given: &message::Lease,
    ) -> Result<Lease, Error> {
        let access = Rights::from_bits_retain(given.rights);
        if access.is_empty() || !ACCESSES.contains(access) {
            return Err(Error::InvalidArgument);
        }
        let (address, bytes) = (given.address, given.bytes);
        if given.reply.is_none() {
            return match in_user_range(address, bytes) {
                true => Ok(Lease { lent: None, address, bytes, access }),
                false => Err(Error::Fault),
            };
        }
        let reply = self.memory.capability(caller, given.reply.0, Kind::Reply, Rights::empty())?;
        let open = self.open_lease(held, &reply, given.index.into())?;
        check_range(&open.lease, address, bytes)?;
        if !open.lease.access.contains(access) {
            return Err(Error::NotPermitted);
        }
        Ok(Lease { lent: Some(open.lender), address: open.lease.address + address, bytes, access })
    }

    /// The lease of a call that is open, by the Reply that is owed to it.
    fn open_lease(
        &self,
        held: &mut Held<'_, Nothing>,
        reply: &Capability,
        index: u64,
    ) -> Result<Open, Error> {
        let caller = Id::<Thread>::from_raw(reply.object).ok_or(Error::PeerGone)?;
        let (thread, _) = self.lock_called(held, (caller, reply.badge))?;
        let leases = &thread.message.leases[..thread.message.lease_count];
        let index = usize::try_from(index).map_err(|_| Error::InvalidArgument)?;
        let lease = *leases.get(index).ok_or(Error::InvalidArgument)?;
        Ok(Open { lease, lender: lease.lent.unwrap_or((caller, reply.badge)) })
    }

    /// A thread whose call of this sequence waits for its answer.
    fn lock_called<'a>(
        &'a self,
        held: &'a mut Held<'_, Nothing>,
        (thread, sequence): (Id<Thread>, u64),
    ) -> Result<(crate::memory::Guard<'a, Thread>, Held<'a, sync::Thread>), Error> {
        let locked = self.lock(held, thread);
        let open = |(thread, _): &(crate::memory::Guard<'_, Thread>, _)| {
            thread.state == State::Called && thread.wait_sequence == sequence
        };
        locked.filter(open).ok_or(Error::PeerGone)
    }

    pub(super) fn lease_query(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [reply, index, ..] = request.arguments;
        let reply = self.memory.capability(request.caller.shared, reply, Kind::Reply, Rights::empty())?;
        let open = self.open_lease(request.held, &reply, index)?;
        self.lock_called(request.held, open.lender)?;
        let bit = |right: Rights, bit: u32| u64::from(open.lease.access.contains(right)) << bit;
        Ok(open.lease.bytes | bit(Rights::WRITE, 63) | bit(Rights::READ, 62))
    }

    /// Goes on where it stopped when interrupts come between: the arguments move along with it.
    pub(super) fn lease_copy(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [reply, index, offset, address, bytes, into] = request.arguments;
        let reply = self.memory.capability(request.caller.shared, reply, Kind::Reply, Rights::empty())?;
        let right = match into {
            0 => Rights::READ,
            1 => Rights::WRITE,
            _ => return Err(Error::InvalidArgument.into()),
        };
        if bytes > TRANSFER_BYTES_MAX as u64 {
            return Err(Error::TooLarge.into());
        }
        let open = self.open_lease(request.held, &reply, index)?;
        check_range(&open.lease, offset, bytes)?;
        if !open.lease.access.contains(right) {
            return Err(Error::NotPermitted.into());
        }
        let mut done = 0;
        while done < bytes {
            let theirs = open.lease.address + offset + done;
            let own = (request.caller.process, address.wrapping_add(done));
            done += self.copy_leased(request.held, open.lender, theirs, own, right, bytes - done)?;
            if done < bytes && self.interrupt_pending(request.hart.index) {
                let left = [(2, offset + done), (3, address.wrapping_add(done)), (4, bytes - done)];
                return Err(self.again_with(request.held, request.caller.thread, &left));
            }
        }
        // A copy of nothing tells whether the call is still open, as any other does.
        self.lock_called(request.held, open.lender)?;
        Ok(0)
    }

    /// Copies as much as both pages hold; yields how much that was.
    fn copy_leased(
        &self,
        held: &mut Held<'_, Nothing>,
        lender: (Id<Thread>, u64),
        theirs: u64,
        own: (Id<Process>, u64),
        right: Rights,
        bytes: u64,
    ) -> Result<u64, Error> {
        let (lender, mut held) = self.lock_called(held, lender)?;
        let access = if right == Rights::READ { Rights::WRITE } else { Rights::READ };
        let theirs = self.user_page(&mut held, lender.process, theirs, right)?;
        let own = self.user_page(&mut held, own.0, own.1, access)?;
        let chunk = (bytes as usize).min(PAGE_SIZE - theirs.1).min(PAGE_SIZE - own.1);
        let (from, to) = if right == Rights::READ { (theirs, own) } else { (own, theirs) };
        self.memory.copy(from, to, chunk);
        Ok(chunk as u64)
    }
}

fn check_range(lease: &Lease, offset: u64, bytes: u64) -> Result<(), Error> {
    match offset.checked_add(bytes) {
        Some(end) if end <= lease.bytes => Ok(()),
        _ => Err(Error::OutOfRange),
    }
}
