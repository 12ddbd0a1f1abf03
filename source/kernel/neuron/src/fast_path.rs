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
use crate::sync::{Held, Nothing};
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::{FOREVER, MESSAGE_BYTES_MAX, REGISTER_BYTES};
use nexus_abi::message::Registers;
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall};

/// All of a header but its label: what is no more than a payload may be is a payload, and nothing else.
const BUT_LABEL: u64 = (1 << 48) - 1;

/// Whether a message has buffers, or needs them.
#[inline(always)]
fn is_long(message: &Registers) -> bool {
    message.buffers != 0 || message.header.0 & BUT_LABEL > REGISTER_BYTES as u64
}

impl<A: Arch> Kernel<A> {
    /// A call of register size to a server that waits. Yields the context of the server, which runs now with
    /// `message` as its registers.
    #[inline]
    pub fn fast_call(&self, hart: &mut Hart, message: &mut Registers) -> Option<NonNull<Context>> {
        let me = hart.current?;
        if message.header.0 & BUT_LABEL > MESSAGE_BYTES_MAX as u64 {
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
        caller.message.has_buffers = false;
        if is_long(message) {
            let room = endpoint.max_bytes.into();
            self.with_buffers((process, &mut caller), (target, &server), message, room)?;
        }

        let id = server.id_at(server_granule);
        endpoint.receivers.pop_known(&self.memory, &server, id);
        drop(endpoint);
        caller.state = State::Called;
        caller.wait_sequence = caller.wait_sequence.wrapping_add(1);
        caller.deadline = message.deadline;
        caller.message.lease_count = 0;
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
        if message.header.0 & BUT_LABEL > MESSAGE_BYTES_MAX as u64 || message.deadline != FOREVER {
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
        server.message.has_buffers = false;
        if is_long(message) || endpoint.is_long() {
            self.with_buffers((process, &mut server), (target, &caller), message, MESSAGE_BYTES_MAX as u64)?;
            self.check_room(hart, &server, &endpoint)?;
        }

        reply.renew_reservation();
        server.reply_entry = reply_granule;
        server.state = State::Receiving(endpoint_id);
        server.deadline = FOREVER;
        server.wait_sequence = server.wait_sequence.wrapping_add(1);
        (server.serves, server.payer) = (Some(endpoint_id), server.process);
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

    /// Takes note of the sender's buffers, and copies a payload that is too long for registers. `None`: nothing was
    /// delivered, whatever the receiver's buffer holds.
    #[inline(never)]
    fn with_buffers(
        &self,
        (from, sender): (&ProcessShared, &mut Thread),
        (to, receiver): (&ProcessShared, &Thread),
        message: &mut Registers,
        room: u64,
    ) -> Option<()> {
        if message.buffers != 0 {
            let [send_address, receive_address, receive_bytes, _] =
                self.words_present(from, message.buffers)?;
            let head = &mut sender.message.buffers;
            (head.send_address, head.receive_address, head.receive_bytes) =
                (send_address, receive_address, receive_bytes);
            sender.message.has_buffers = true;
            // Capabilities that come are told there.
            sender.context.set_argument(3, message.buffers);
        }
        let bytes = message.header.0 & BUT_LABEL;
        if bytes > REGISTER_BYTES as u64 {
            let (ours, theirs) = (&sender.message, &receiver.message);
            let fits = bytes <= room && bytes <= theirs.buffers.receive_bytes;
            if !fits || !ours.has_buffers || !theirs.has_buffers {
                return None;
            }
            let source = (from, ours.buffers.send_address);
            self.copy_present(source, (to, theirs.buffers.receive_address), bytes as usize)?;
            message.words = Default::default();
        }
        Some(())
    }

    /// Whether what the endpoint may deliver fits into the buffers and the table of who is about to receive from it.
    #[inline(never)]
    fn check_room(&self, hart: &Hart, server: &Thread, endpoint: &Endpoint) -> Option<()> {
        let room = if server.message.has_buffers { server.message.buffers.receive_bytes } else { 0 };
        let needs_bytes = endpoint.max_bytes > REGISTER_BYTES as u32;
        if needs_bytes && room < u64::from(endpoint.max_bytes) {
            return None;
        }
        if endpoint.max_capabilities == 0 {
            return Some(());
        }
        // SAFETY: the process of the thread that runs is alive; tables come last in the order of locks.
        let process = unsafe { self.memory.lock_live::<Process>(hart.process) };
        (server.message.has_buffers && process.has_room(endpoint.max_capabilities)).then_some(())
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
            if let Some(waiter) = notification.waiter {
                return self.signal_waiter(hart, &mut notification, waiter, second);
            }
            if notification.bound.is_some() {
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

    /// A signal to a notification that somebody waits for.
    #[inline(never)]
    fn signal_waiter(
        &self,
        hart: &mut Hart,
        notification: &mut Guard<'_, Notification>,
        waiter: Id<Thread>,
        bits: u64,
    ) -> Option<Result<u64, Error>> {
        let mut thread = self.memory.lock_slot(waiter)?;
        let State::Waiting(_, mask) = thread.state else { return None };
        notification.bits |= bits;
        let taken = notification.bits & mask;
        if taken != 0 {
            notification.bits &= !taken;
            notification.waiter = None;
            thread.wait_sequence = thread.wait_sequence.wrapping_add(1);
            self.wake(hart, waiter, &mut thread, Ok(taken));
            self.end_turn_in_time(hart);
        }
        Some(Ok(0))
    }

    /// A wait for bits of a notification. `None`: nothing was done, and it has to go the long way.
    #[inline]
    pub fn fast_wait(&self, hart: &mut Hart, [target, mask, deadline]: [u64; 3]) -> Option<Wait> {
        let me = hart.current?;
        let id = self.short_notification_id(hart, target, Rights::WAIT)?;
        let mut notification = self.memory.lock_slot(id)?;
        if mask == 0 || notification.waiter.is_some() || notification.bound.is_some() {
            return None;
        }
        let taken = notification.bits & mask;
        if taken != 0 {
            notification.bits &= !taken;
            return Some(Wait::Bits(taken));
        }
        // SAFETY: this thread runs, so it is alive; a notification comes before a thread.
        let mut thread = unsafe { self.memory.lock_live::<Thread>(me.granule()) };
        if deadline < thread.shared().heap_key.load(Relaxed) || deadline <= self.arch.now() {
            return None;
        }
        thread.state = State::Waiting(id, mask);
        thread.wait_sequence = thread.wait_sequence.wrapping_add(1);
        thread.deadline = deadline;
        notification.waiter = Some(me);
        self.stop_running(hart, &mut thread);
        Some(Wait::Waits)
    }

    /// After a thread has stopped running: whoever is ready goes on. `false`: there is something else to do first, or
    /// nobody.
    #[inline]
    pub fn go_on(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) -> bool {
        if hart.handoff.is_some() || self.reclaiming.load(Relaxed) != 0 {
            return false;
        }
        let next = self.with_queue(hart.index, |queue| queue.pop(&self.memory));
        hart.reschedule = false;
        next.is_some_and(|next| {
            self.run(hart, held, next);
            self.end_turn_in_time(hart);
            hart.current.is_some()
        })
    }

    /// Makes sure that the timer ends the turn if somebody else is ready. One that is set too early does no harm.
    #[inline]
    fn end_turn_in_time(&self, hart: &mut Hart) {
        if hart.turn_ends < hart.timer && self.ready[hart.index].load(Relaxed) != 0 {
            hart.timer = hart.turn_ends;
            self.arch.set_timer(hart.timer);
        }
    }

    #[inline]
    fn short_notification(&self, hart: &Hart, handle: u64, right: Rights) -> Option<Guard<'_, Notification>> {
        self.memory.lock_slot(self.short_notification_id(hart, handle, right)?)
    }

    #[inline]
    fn short_notification_id(&self, hart: &Hart, handle: u64, right: Rights) -> Option<Id<Notification>> {
        // SAFETY: the process of the thread that runs is alive, and so is its table.
        let entry = unsafe { self.memory.entry_of_live(self.process_of_hart(hart), Handle(handle)) };
        entry?.0.plain(Kind::Notification, right)
    }
}

/// What became of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// These bits were there.
    Bits(u64),
    /// The thread waits and has stopped running.
    Waits,
}
