//! The fast path: a call to a server that waits for it, and the answer to its caller, from the guards to the
//! commit. It takes only the locks of the objects that it touches, allocates nothing, walks no queue and skips
//! the scheduler: the other side runs on in the same turn.
//!
//! Each function first checks everything and says `None` while nothing has changed; the call then goes the
//! long way, through `system_call/message.rs`, which does the same for every case. The payload travels in
//! `message`, which is what the sender's registers were and the receiver's will be. Locks are taken in the
//! order of `sync`: endpoint, then both threads in the order of their places.
#![allow(unsafe_code)] // it reaches objects that are known to be alive without checking that they are

use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::memory::{Granule, Guard, Id};
use crate::object::process::ProcessShared;
use crate::object::thread::{Context, State};
use crate::object::{Endpoint, Notification, Process, Thread};
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::{FOREVER, REGISTER_BYTES};
use nexus_abi::message::Registers;
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall};

/// All of a header but its label: a value of at most 64 is a payload in registers, and nothing else.
const BUT_LABEL: u64 = (1 << 48) - 1;

impl<A: Arch> Kernel<A> {
    /// A call of register size to a server that waits. Yields the context of the server, which runs now with
    /// `message` as its registers.
    #[inline]
    pub fn fast_call(&self, hart: &mut Hart, message: &mut Registers) -> Option<NonNull<Context>> {
        let me = hart.current?;
        if message.header.0 & BUT_LABEL > REGISTER_BYTES as u64 || message.buffers != 0 {
            return None;
        }
        let process = self.process_of_hart(hart);
        // SAFETY: the process of the thread that runs is alive.
        let entry = unsafe { self.memory.entry_of_live(process, Handle(message.target)) };
        let (entry, _) = entry?;
        let endpoint = entry.plain::<Endpoint>(Kind::Endpoint, Rights::CALL)?;
        let mut endpoint = self.memory.lock_slot(endpoint)?;
        let server_granule = endpoint.receivers.first_granule();
        if server_granule == 0 || endpoint.is_sealed() || endpoint.rank >= process.rank.load(Relaxed) {
            return None;
        }
        // SAFETY: this thread runs and that one is in a queue, so both are alive; see the head for the order.
        let (mut caller, mut server) = unsafe { self.lock_both(me.granule(), server_granule) };
        let (from, to) = (caller.shared(), server.shared());
        let class = to.urgency().max(from.urgency());
        // SAFETY: the process of a live thread is alive.
        let target: &ProcessShared =
            unsafe { self.memory.shared_of_live::<Process>(server.process.granule()) };
        let needs_timer = message.deadline < from.heap_key.load(Relaxed);
        let is_known = to.known_on.load(Relaxed) >> hart.index & 1 != 0;
        if !is_known || needs_timer || target.has_ended() || self.is_somebody_above(hart.index, class) {
            return None;
        }

        let id = server.id_at(server_granule);
        endpoint.receivers.pop_known(&self.memory, &server, id);
        drop(endpoint);
        caller.state = State::Called;
        caller.wait_sequence = caller.wait_sequence.wrapping_add(1);
        caller.deadline = message.deadline;
        (caller.message.has_buffers, caller.message.lease_count) = (false, 0);
        from.served_by.store(id.raw(), Relaxed);
        // SAFETY: a thread that waits for a call has an entry of its process's table reserved.
        let reply = unsafe { self.memory.entry_at_live(server.reply_entry) };
        reply.fill_reply(me.raw(), caller.wait_sequence);
        server.reply_entry = 0;
        server.state = State::Ready;
        server.deadline = FOREVER;
        server.wait_sequence = server.wait_sequence.wrapping_add(1);
        server.payer = caller.payer;
        to.set_urgency(class);
        message.target = 0;
        message.reply = reply.handle();
        message.buffers = entry.badge();
        message.deadline = process.service_id.load(Relaxed);
        message.process_id = process.process_id.load(Relaxed);
        Some(self.switch(hart, &mut caller, &mut server, id, target))
    }

    /// An answer of register size to a caller that waits for it, by a server that then waits for the next call
    /// and finds nothing there. Yields the context of the caller, which runs now with `message` as its registers.
    #[inline]
    pub fn fast_reply_receive(&self, hart: &mut Hart, message: &mut Registers) -> Option<NonNull<Context>> {
        let me = hart.current?;
        let is_long = message.header.0 & BUT_LABEL > REGISTER_BYTES as u64 || message.buffers != 0;
        if is_long || message.deadline != FOREVER {
            return None;
        }
        let process = self.process_of_hart(hart);
        // SAFETY: the process of the thread that runs is alive.
        let served = unsafe { self.memory.entry_of_live(process, Handle(message.target)) };
        let (served, _) = served?;
        // SAFETY: as above.
        let reply = unsafe { self.memory.entry_of_live(process, message.reply) };
        let (reply, reply_granule) = reply?;
        let endpoint_id = served.plain::<Endpoint>(Kind::Endpoint, Rights::RECEIVE)?;
        let (caller_id, sequence) = reply.open_call()?;
        let mut endpoint = self.memory.lock_slot(endpoint_id)?;
        if !endpoint.is_quiet() || process.rank.load(Relaxed) > endpoint.rank {
            return None;
        }
        let (mut server, mut caller) = self.lock_me_and(me, caller_id)?;
        let (from, to) = (server.shared(), caller.shared());
        let is_owed = caller.state == State::Called && caller.wait_sequence == sequence;
        if !is_owed || server.bound.is_some() || server.reply_entry != 0 || hart.payer != Some(caller.payer) {
            return None;
        }
        // SAFETY: the process of a live thread is alive.
        let target: &ProcessShared =
            unsafe { self.memory.shared_of_live::<Process>(caller.process.granule()) };
        let is_known = to.known_on.load(Relaxed) >> hart.index & 1 != 0;
        if !is_known || target.has_ended() || self.is_somebody_above(hart.index, to.urgency()) {
            return None;
        }

        reply.renew_reservation();
        server.reply_entry = reply_granule;
        server.state = State::Receiving(endpoint_id);
        server.deadline = FOREVER;
        server.wait_sequence = server.wait_sequence.wrapping_add(1);
        (server.serves, server.payer) = (Some(endpoint_id), server.process);
        server.message.has_buffers = false;
        from.set_urgency(server.qos);
        endpoint.shared().server.store(me.raw(), Relaxed);
        endpoint.receivers.push_known(&self.memory, &server, me);
        drop(endpoint);
        caller.state = State::Ready;
        caller.deadline = FOREVER;
        caller.wait_sequence = caller.wait_sequence.wrapping_add(1);
        (message.target, message.reply, message.buffers) = (0, Handle::NONE, 0);
        (message.deadline, message.process_id) = (0, 0);
        Some(self.switch(hart, &mut server, &mut caller, caller_id, target))
    }

    #[inline]
    fn process_of_hart(&self, hart: &Hart) -> &ProcessShared {
        // SAFETY: it is the process of the thread that this hart runs, and so alive.
        unsafe { self.memory.shared_of_live::<Process>(hart.process) }
    }

    /// Locks two different threads, in the order of their places.
    ///
    /// # Safety
    /// Both are alive, and no lock of a thread or of a later level is held.
    #[inline(always)]
    unsafe fn lock_both(&self, first: Granule, second: Granule) -> (Guard<'_, Thread>, Guard<'_, Thread>) {
        // SAFETY: the caller's, for each of the four.
        unsafe {
            if first < second {
                let first = self.memory.lock_live(first);
                (first, self.memory.lock_live(second))
            } else {
                let second = self.memory.lock_live(second);
                (self.memory.lock_live(first), second)
            }
        }
    }

    /// Locks the thread that runs and one that may be gone.
    #[inline(always)]
    fn lock_me_and(
        &self,
        me: Id<Thread>,
        other: Id<Thread>,
    ) -> Option<(Guard<'_, Thread>, Guard<'_, Thread>)> {
        if me.granule() < other.granule() {
            // SAFETY: this thread runs, so it is alive; its place comes first.
            let me = unsafe { self.memory.lock_live(me.granule()) };
            Some((me, self.memory.lock_slot(other)?))
        } else if me.granule() > other.granule() {
            let other = self.memory.lock_slot(other)?;
            // SAFETY: this thread runs, so it is alive; its place comes second.
            Some((unsafe { self.memory.lock_live(me.granule()) }, other))
        } else {
            None
        }
    }

    /// The hart goes on with another thread, in the turn of the one before.
    #[inline(always)]
    fn switch(
        &self,
        hart: &mut Hart,
        from: &mut Guard<'_, Thread>,
        to: &mut Guard<'_, Thread>,
        id: Id<Thread>,
        process: &ProcessShared,
    ) -> NonNull<Context> {
        self.arch.leave_float(&mut from.context);
        if to.context.float_used != 0 {
            self.arch.enter_float(&to.context);
        }
        let granule = to.process.granule();
        if granule != hart.process {
            let space = process.space();
            self.arch.load(space);
            (hart.process, hart.loaded) = (granule, Some(space));
        }
        self.note_running(hart, Some(id));
        hart.messages = hart.messages.wrapping_add(1);
        NonNull::from(&mut to.context)
    }

    /// Calls that answer at once and save no register: a poll, a signal that nobody waits for, a yield. `None`:
    /// nothing was done, and it has to go the long way.
    #[inline]
    pub fn short_call(
        &self,
        hart: &mut Hart,
        number: u64,
        [target, second]: [u64; 2],
    ) -> Option<Result<u64, Error>> {
        if number == SystemCall::NotificationPoll as u64 {
            let mut notification = self.short_notification(hart, target, Rights::WAIT)?;
            let taken = notification.bits & second;
            notification.bits &= !taken;
            return Some(if taken == 0 { Err(Error::WouldBlock) } else { Ok(taken) });
        }
        if number == SystemCall::NotificationSignal as u64 {
            let mut notification = self.short_notification(hart, target, Rights::SIGNAL)?;
            if notification.waiter.is_some() || notification.bound.is_some() {
                return None;
            }
            notification.bits |= second;
            return Some(Ok(0));
        }
        if number == SystemCall::ThreadYield as u64 {
            hart.reschedule = self.ready[hart.index].load(Relaxed) != 0;
            return Some(Ok(0));
        }
        None
    }

    #[inline]
    fn short_notification(&self, hart: &Hart, handle: u64, right: Rights) -> Option<Guard<'_, Notification>> {
        // SAFETY: the process of the thread that runs is alive, and so is its table.
        let entry = unsafe {
            let process = self.memory.shared_of_live::<Process>(hart.process);
            self.memory.entry_of_live(process, Handle(handle))
        };
        self.memory.lock_slot(entry?.0.plain(Kind::Notification, right)?)
    }
}
