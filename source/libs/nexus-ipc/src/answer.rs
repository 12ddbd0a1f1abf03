//! The right to answer, kept for later.

use crate::receiver::Pending;
use crate::{Leases, Message, Status};
use core::marker::PhantomData;
use nexus_abi::limits::REGISTER_BYTES;
use nexus_abi::message::{Buffers, Registers};
use nexus_abi::{Error, Handle, Kind, system};

/// The right to answer one caller, once, whenever. Dropped unused it ends the call with `PeerGone`.
pub struct Answer<A, E> {
    reply: Handle,
    marker: PhantomData<fn(A, E)>,
}

impl<A, E> Answer<A, E> {
    /// By this Reply.
    #[inline(always)]
    pub(crate) fn new(reply: Handle) -> Self {
        Answer { reply, marker: PhantomData }
    }

    /// What the caller lends, until it is answered.
    pub fn leases(&self) -> Leases<'_> {
        Leases::new(self.reply)
    }

    /// The right that this capability is; `None` where it is no Reply (any more).
    pub(crate) fn of_reply(reply: Handle) -> Option<Self> {
        let is_reply = system::cap_query(reply).is_ok_and(|info| info.kind == Kind::Reply as u32);
        is_reply.then(|| Answer::new(reply))
    }

    /// The capability.
    pub(crate) fn into_reply(mut self) -> Handle {
        core::mem::take(&mut self.reply)
    }
}

impl<A: Message, E: Message> Answer<A, E> {
    /// Answers now. `PeerGone` tells that the caller gave up meanwhile.
    pub fn send(mut self, outcome: Result<A, E>) -> Result<(), Error> {
        let mut pending = Pending::default();
        match outcome {
            Ok(answer) => pending.set(self.reply, Status::Ok, answer),
            Err(error) => pending.set(self.reply, Status::ServiceError, error),
        }
        let Pending { reply, header, words, bytes, .. } = pending;
        let mut registers = Registers { header, reply, words, ..Registers::default() };
        let mut buffers = Buffers { send_address: bytes.as_ptr() as u64, ..Buffers::default() };
        let buffers = if header.bytes() <= REGISTER_BYTES { None } else { Some(&mut buffers) };
        // SAFETY: the one address is that of `bytes`, which live until after it.
        let outcome = unsafe { system::reply(&mut registers, buffers) };
        if outcome.is_ok() {
            self.reply = Handle::NONE;
        }
        outcome
    }
}

impl<A, E> Drop for Answer<A, E> {
    fn drop(&mut self) {
        close(self.reply);
    }
}

/// Closing a Reply answers its caller with `PeerGone`; what is gone already needs nothing more.
#[inline(always)]
pub(crate) fn close(capability: Handle) {
    if !capability.is_none() {
        let _ = system::cap_close(capability);
    }
}
