//! The fast path: a call to a server that waits for it, and the answer to its caller, from the guards to the
//! commit. It takes only the locks of the objects that it touches, allocates nothing, walks no queue and skips
//! the scheduler: the other side runs on in the same turn.
//!
//! Each function first checks everything and says `None` while nothing has changed; the call then goes the
//! long way, through `system_call/message.rs`, which does the same for every case. A payload in registers stays
//! in `words`, which is what the sender's registers were and the receiver's will be. A lock that is taken is not
//! waited for: that, too, is the long way's. So locks need no order here, and nothing on the way calls a function
//! that comes back, except to copy. A wait, a wake and a yield take run queues' locks and budgets', which are held for
//! a few instructions each, in the order of `sync.rs`.
//!
//! A thread needs no lock here: it belongs to the hart that runs it; then, in an endpoint's queue, to whoever has that
//! endpoint's lock; then, with its call received, to whoever takes that call to answer it ([`hart_locks::Claim`]).
//!
//! The caller came into the kernel beside other harts, or alone ([`hart_locks::Entrance`]): so tables, mappings and
//! objects stay where they are meanwhile.
#![allow(unsafe_code)] // it reaches objects that are known to be alive without checking that they are

use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::memory::list::LinksOf;
use crate::memory::{Granule, Guard, Id, Links};
use crate::object::process::ProcessShared;
use crate::object::thread::{Context, Queue, State, ThreadShared};
use crate::object::{Endpoint, Process, Thread};
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::{FOREVER, HARTS_MAX, MESSAGE_BYTES_MAX, REGISTER_BYTES, REGISTER_WORDS};
use nexus_abi::{Handle, Kind, Rights};

/// All of a header but its label: what is no more than a payload may be is a payload, and nothing else.
const BUT_LABEL: u64 = (1 << 48) - 1;

/// The registers of a message that is sent, but its payload.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// `a0`: the endpoint's handle.
    pub target: u64,
    /// `a1`: the header.
    pub header: u64,
    /// `a2`: the Reply's handle.
    pub reply: u64,
    /// `a3`: the address of the buffers, or 0.
    pub buffers: u64,
    /// `t5`: the deadline.
    pub deadline: u64,
}

impl Sent {
    /// Bytes of the payload; more than there may be if the message is also something else.
    #[inline(always)]
    fn bytes(&self) -> u64 {
        self.header & BUT_LABEL
    }

    /// Whether the message has buffers, or needs them.
    #[inline(always)]
    pub fn is_long(&self) -> bool {
        self.buffers != 0 || self.bytes() > REGISTER_BYTES as u64
    }
}

/// Who runs next, and what its registers say beside the payload.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    /// Its other registers.
    pub context: NonNull<Context>,
    /// `a1`: the header.
    pub header: u64,
    /// `a2`: the Reply's handle, of a call.
    pub reply: u64,
    /// `a3`: the badge, of a call.
    pub badge: u64,
    /// `t5`: the sender's service id, of a call.
    pub service_id: u64,
    /// `t6`: the sender's process id, of a call.
    pub process_id: u64,
}

impl<A: Arch> Kernel<A> {
    /// A call to a server that waits. Yields who runs now: the server. `LONG`: the message has, or needs, buffers.
    #[inline(always)]
    pub fn fast_call<const LONG: bool>(
        &self,
        hart: &mut Hart,
        sent: &Sent,
        words: &mut [u64; REGISTER_WORDS],
    ) -> Option<Delivered> {
        let (me, memory) = (hart.current?, self.memory.view());
        let process = self.process_of_hart(hart);
        // SAFETY: the process of the thread that runs is alive.
        let entry = unsafe { memory.entry_of_live(process, Handle(sent.target)) };
        let (entry, _) = entry?;
        let endpoint = entry.plain::<Endpoint>(Kind::Endpoint, Rights::CALL)?;
        // SAFETY: a capability names what lives or has lived.
        let mut endpoint = unsafe { memory.try_lock_issued(endpoint) }?;
        let server_granule = endpoint.receivers.first_granule();
        if server_granule == 0 || endpoint.is_sealed() || endpoint.rank >= process.rank.load(Relaxed) {
            return None;
        }
        // SAFETY: a receiver is in this queue alone, which is locked, and no notification beside reaches it (signals to a
        // thread that is bound go the long way); once out of the queue it is this hart's.
        let mut server = unsafe { memory.owned::<Thread>(server_granule) };
        // SAFETY: this thread runs here, so it is this hart's, until its call can be answered.
        let mut caller = unsafe { memory.owned::<Thread>(me.granule()) };
        let (from, to) = (caller.shared(), server.shared());
        // SAFETY: the process of a live thread is alive.
        let target: &ProcessShared = unsafe { memory.shared_of_live::<Process>(server.process.granule()) };
        let class = to.urgency_number().max(from.urgency_number());
        let needs_timer = sent.deadline < from.heap_key.load(Relaxed);
        let is_known = to.is_known_on(hart.index);
        if !is_known || needs_timer || target.has_ended() || self.is_anybody_above(hart, class) {
            return None;
        }
        caller.message.has_buffers = false;
        if LONG {
            let room = endpoint.max_bytes.into();
            self.with_buffers((process, &mut caller), (target, &mut server), sent, words, room, me.raw())?;
        }

        endpoint.receivers.pop_known(Queue::links(to), |member| self.queue_links(member));
        drop(endpoint);
        let id = server.id_at(server_granule);
        let sequence = caller.wait_sequence.wrapping_add(1);
        caller.state = State::Called;
        caller.wait_sequence = sequence;
        caller.deadline = sent.deadline;
        caller.message.lease_count = 0;
        from.served_by.store(id.raw(), Relaxed);
        // SAFETY: a thread that waits for a call has an entry of its process's table reserved: `reply_entry` is not 0.
        let reply = unsafe { memory.entry_at_live(server.reply_entry) };
        reply.fill_reply(me.raw(), sequence);
        let owed = reply.handle();
        (server.reply_entry, server.owes) = (0, owed);
        server.state = State::Ready;
        server.deadline = FOREVER;
        server.wait_sequence = server.wait_sequence.wrapping_add(1);
        server.payer = caller.payer;
        to.raise_urgency(class);
        let context = self.switch(hart, &mut caller, &mut server, id, target);
        // From here on another hart may answer, and go on with the caller.
        from.open_call.put(sequence);
        Some(Delivered {
            context,
            header: sent.header,
            reply: owed.0,
            badge: entry.badge(),
            service_id: process.service_id.load(Relaxed),
            process_id: process.process_id.load(Relaxed),
        })
    }

    /// An answer to a caller that waits for it, by a server that then waits for the next call and finds nothing
    /// there. Yields who runs now: the caller. `LONG`: the message has, or needs, buffers.
    #[inline(always)]
    pub fn fast_reply_receive<const LONG: bool>(
        &self,
        hart: &mut Hart,
        sent: &Sent,
        words: &mut [u64; REGISTER_WORDS],
    ) -> Option<Delivered> {
        let (me, memory) = (hart.current?, self.memory.view());
        // SAFETY: this thread runs here, so it is this hart's, until it is seen to wait at the endpoint.
        let mut server = unsafe { memory.owned::<Thread>(me.granule()) };
        if sent.deadline != FOREVER && self.needs_timer(&server, sent.deadline) {
            return None;
        }
        // Somebody else's Reply may change while it is looked at: that is the long way's.
        if server.owes.0 != sent.reply || server.bound.is_some() || server.reply_entry != 0 {
            return None;
        }
        let process = self.process_of_hart(hart);
        // SAFETY: the process of the thread that runs is alive.
        let served = unsafe { memory.entry_of_live(process, Handle(sent.target)) };
        let endpoint_id = served?.0.plain::<Endpoint>(Kind::Endpoint, Rights::RECEIVE)?;
        // SAFETY: as above.
        let reply = unsafe { memory.entry_of_live(process, Handle(sent.reply)) };
        let (reply, reply_granule) = reply?;
        let (caller_id, sequence) = reply.open_call()?;
        // SAFETY: capabilities name what lives or has lived.
        let mut endpoint = unsafe { memory.try_lock_issued(endpoint_id) }?;
        let needs_buffers = !LONG && endpoint.is_long();
        if needs_buffers || !endpoint.is_quiet() || process.rank.load(Relaxed) > endpoint.rank {
            return None;
        }
        // SAFETY: the Reply is this thread's own, so it names the thread that called.
        let to = unsafe { memory.shared_of_issued(caller_id) }?;
        let owed = Owed::take(to, sequence)?;
        // SAFETY: it waits for the answer to this call, which beside others only this thread may give.
        let mut caller = unsafe { memory.owned::<Thread>(caller_id.granule()) };
        let from = server.shared();
        if hart.payer != Some(caller.payer) {
            return None;
        }
        // SAFETY: the process of a live thread is alive.
        let target: &ProcessShared = unsafe { memory.shared_of_live::<Process>(caller.process.granule()) };
        let is_known = to.is_known_on(hart.index);
        if !is_known || target.has_ended() || self.is_anybody_above(hart, to.urgency_number()) {
            return None;
        }
        server.message.has_buffers = false;
        if LONG {
            let ends = ((process, &mut **server), (target, &mut **caller));
            self.with_buffers(ends.0, ends.1, sent, words, MESSAGE_BYTES_MAX as u64, me.raw())?;
            self.check_room(hart, &server, &endpoint)?;
        }

        owed.give();
        reply.renew_reservation();
        server.reply_entry = reply_granule;
        server.state = State::Receiving(endpoint_id);
        server.deadline = sent.deadline;
        server.wait_sequence = server.wait_sequence.wrapping_add(1);
        (server.serves, server.payer) = (Some(endpoint_id), server.process);
        from.set_urgency(server.qos);
        endpoint.shared().server.store(me.raw(), Relaxed);
        endpoint.receivers.push_known(me.granule(), Queue::links(from), |member| self.queue_links(member));
        caller.state = State::Ready;
        caller.deadline = FOREVER;
        caller.wait_sequence = sequence.wrapping_add(1);
        let context = self.switch(hart, &mut server, &mut caller, caller_id, target);
        // From here on another hart may call the server, and go on with it.
        drop(endpoint);
        Some(Delivered { context, header: sent.header, reply: 0, badge: 0, service_id: 0, process_id: 0 })
    }

    /// Whether a wait until then has to be told to the timer, or is over.
    #[inline(always)]
    pub(crate) fn needs_timer(&self, thread: &Guard<'_, Thread>, deadline: u64) -> bool {
        deadline < thread.shared().heap_key.load(Relaxed) || deadline <= self.arch.now()
    }

    /// Takes note of the sender's buffers, and copies a payload that is too long for registers. `None`: nothing was
    /// delivered, whatever the receiver's buffer holds.
    #[inline(always)]
    fn with_buffers(
        &self,
        (from, sender): (&ProcessShared, &mut Thread),
        (to, receiver): (&ProcessShared, &mut Thread),
        sent: &Sent,
        words: &mut [u64; REGISTER_WORDS],
        room: u64,
        sent_by: u64,
    ) -> Option<()> {
        let ours = &mut sender.message;
        if sent.buffers != 0 {
            let [send_address, receive_address, receive_bytes] = self.words_present(from, sent.buffers)?;
            ours.buffers.send_address = send_address;
            ours.buffers.receive_address = receive_address;
            ours.buffers.receive_bytes = receive_bytes;
            ours.has_buffers = true;
            // Capabilities that come are told there.
            sender.context.set_argument(3, sent.buffers);
        }
        let (ours, theirs, bytes) = (&sender.message, &mut receiver.message, sent.bytes());
        if bytes > REGISTER_BYTES as u64 {
            let fits = bytes <= room && bytes <= theirs.buffers.receive_bytes;
            if !fits || !ours.has_buffers || !theirs.has_buffers {
                return None;
            }
            // Whoever's message stands there in part, unless it is this one: not any more.
            if theirs.part_of != sent_by {
                theirs.part_of = 0;
            }
            let source = (from, ours.buffers.send_address);
            self.copy_present(source, (to, theirs.buffers.receive_address), bytes as usize)?;
            *words = [0; REGISTER_WORDS];
        }
        Some(())
    }

    /// Whether what the endpoint may deliver fits into the buffers and the table of who is about to receive from it.
    #[inline]
    fn check_room(&self, hart: &Hart, server: &Thread, endpoint: &Endpoint) -> Option<()> {
        let room = if server.message.has_buffers { server.message.buffers.receive_bytes } else { 0 };
        if endpoint.max_bytes > REGISTER_BYTES as u32 && room < u64::from(endpoint.max_bytes) {
            return None;
        }
        if endpoint.max_capabilities == 0 {
            return Some(());
        }
        // SAFETY: the process of the thread that runs is alive.
        let process = unsafe { self.memory.view().try_lock_live::<Process>(hart.process) }?;
        (server.message.has_buffers && process.has_room(endpoint.max_capabilities)).then_some(())
    }

    #[inline(always)]
    pub(crate) fn process_of_hart(&self, hart: &Hart) -> &ProcessShared {
        // SAFETY: it is the process of the thread that this hart runs, and so alive.
        unsafe { self.memory.view().shared_of_live::<Process>(hart.process) }
    }

    /// The process of a thread that lives, as its guard shows.
    #[inline(always)]
    pub(crate) fn process_of(&self, thread: &Guard<'_, Thread>) -> &ProcessShared {
        // SAFETY: a process ends after its threads: the teardown goes stage by stage.
        unsafe { self.memory.view().shared_of_live::<Process>(thread.process.granule()) }
    }

    /// The links of a thread that is in a queue, which keeps it alive.
    #[inline(always)]
    fn queue_links(&self, member: Granule) -> &Links {
        // SAFETY: members of a queue are alive, and its lock is held.
        Queue::links(unsafe { self.memory.view().shared_of_live::<Thread>(member) })
    }

    /// Whether somebody above the class of a number is ready here.
    #[inline(always)]
    fn is_anybody_above(&self, hart: &Hart, class: u32) -> bool {
        self.harts[hart.index % HARTS_MAX].ready.load(Relaxed).wrapping_shr(class) > 1
    }

    /// The hart goes on with another thread, in the turn of the one before.
    #[inline(always)]
    fn switch(
        &self,
        hart: &mut Hart,
        from: &mut Thread,
        to: &mut Thread,
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
            (hart.process, hart.loaded) = (granule, space);
        }
        self.note_running(hart, Some(id));
        hart.messages = hart.messages.wrapping_add(1);
        NonNull::from(&mut to.context)
    }
}

/// An answer that this hart alone may give: if it does not, whoever has the Reply may, as before.
struct Owed<'k> {
    caller: &'k ThreadShared,
    sequence: u64,
}

impl<'k> Owed<'k> {
    #[inline(always)]
    fn take(caller: &'k ThreadShared, sequence: u64) -> Option<Self> {
        // Made only if it was there: one that is dropped puts it there.
        caller.open_call.take(sequence).then(|| Owed { caller, sequence })
    }

    /// There is no way back.
    #[inline(always)]
    fn give(self) {
        core::mem::forget(self);
    }
}

impl Drop for Owed<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.caller.open_call.put(self.sequence);
    }
}
