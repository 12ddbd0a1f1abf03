//! `call`, `recv`, `reply`, `reply_recv`, `post`, and endpoints.
//!
//! A message is delivered by whoever comes second: the caller when a receiver waits, the receiver when
//! a caller waits. Both go through [`Kernel::meet`]. Long because the life of a call is read here from its
//! beginning to its end.

use super::{Caller, Outcome, Request, Stop};
use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::memory::{Granule, Guard, Id};
use crate::message::{Delivery, Pair};
use crate::object::capability::{Capability, Use};
use crate::object::thread::State;
use crate::object::{Endpoint, Thread};
use crate::sync::{self, Held, Nothing};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::capability::Qos;
use nexus_abi::limits::{LEASES_MAX, MESSAGE_BYTES_MAX, MESSAGE_CAPABILITIES_MAX, REGISTER_BYTES};
use nexus_abi::message::{Arrival, Header};
use nexus_abi::{Error, Handle, Kind, Rights};
use zerocopy::IntoBytes;

impl<A: Arch> Kernel<A> {
    pub(super) fn call(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        let [target, header, _, buffers, ..] = request.arguments;
        let header = Header(header);
        let capability =
            self.memory.capability(request.caller.shared, target, Kind::Endpoint, Rights::CALL)?;
        let endpoint = Id::<Endpoint>::from_raw(capability.object).ok_or(Error::StaleHandle)?;
        let session = self.check_call(request.held, &request.caller, endpoint, &capability, header)?;
        self.begin_message(&mut request, buffers, header, (&capability, session))?;
        if header.leases() > 0
            && let Err(error) = self.lend(&mut request, header.leases())
        {
            self.thaw_current(&mut request);
            return Err(error.into());
        }
        let outcome = self.call_until_taken(&mut request, endpoint);
        if header.capabilities() > 0 {
            self.open_call_freed(request.hart, request.held, request.caller.process);
        }
        outcome
    }

    fn call_until_taken(&self, request: &mut Request<'_, '_, '_>, endpoint: Id<Endpoint>) -> Outcome {
        loop {
            let outcome = self.call_once(request, endpoint);
            if matches!(outcome, Err(Stop::Error(_) | Stop::Again)) {
                self.thaw_current(request);
            }
            // A receiver that could not take the message was told so; the next one is tried.
            if outcome != Ok(0) {
                return outcome;
            }
            if let Err(again) = self.give_way(request) {
                self.thaw_current(request);
                return Err(again);
            }
        }
    }

    /// Yields the generation of the session that the call belongs to.
    fn check_call(
        &self,
        held: &mut Held<'_, Nothing>,
        caller: &Caller<'_>,
        endpoint: Id<Endpoint>,
        capability: &Capability,
        header: Header,
    ) -> Result<u32, Error> {
        let (body, mut inner) = self.lock(held, endpoint).ok_or(Error::StaleHandle)?;
        if body.is_sealed() {
            return Err(Error::Sealed);
        }
        if body.rank >= caller.shared.rank.load(Relaxed) {
            return Err(Error::WouldDeadlock);
        }
        let session = self.session_of(&mut inner, capability, body.generation)?;
        let room = (body.max_bytes as usize).max(REGISTER_BYTES);
        if header.capabilities() > MESSAGE_CAPABILITIES_MAX || header.leases() > LEASES_MAX {
            return Err(Error::InvalidArgument);
        }
        if header.bytes() > room || header.capabilities() > body.max_capabilities as usize {
            return Err(Error::TooLarge);
        }
        Ok(session)
    }

    /// Remembers buffers and capabilities of the message that the caller is about to send.
    fn begin_message(
        &self,
        request: &mut Request<'_, '_, '_>,
        buffers: u64,
        header: Header,
        (via, session): (&Capability, u32),
    ) -> Result<(), Error> {
        let needs_buffers =
            header.bytes() > REGISTER_BYTES || header.capabilities() > 0 || header.leases() > 0;
        let (mut thread, mut held) = self.lock(request.held, request.caller.thread).ok_or(Error::PeerGone)?;
        self.load_buffers(&mut held, &mut thread, buffers)?;
        if needs_buffers && !thread.message.has_buffers {
            return Err(Error::Fault);
        }
        let generation = self.memory.capability_slot(via.granule).generation();
        (thread.message.badge, thread.message.via) = (via.badge, (via.granule, generation));
        (thread.message.session, thread.message.lease_count) = (session, 0);
        match header.capabilities() {
            0 => Ok(()),
            count => self.freeze(request.caller.thread, &mut thread, count),
        }
    }

    /// Reads the buffers that a call names into the thread's message, where they stay while it waits.
    fn load_buffers(
        &self,
        held: &mut Held<'_, sync::Thread>,
        thread: &mut Thread,
        address: u64,
    ) -> Result<(), Error> {
        thread.message.has_buffers = false;
        if address != 0 {
            let process = thread.process;
            self.read_user(held, process, address, thread.message.buffers.as_mut_bytes())?;
            thread.message.has_buffers = true;
        }
        Ok(())
    }

    fn thaw_current(&self, request: &mut Request<'_, '_, '_>) {
        if let Some((mut thread, _)) = self.lock(request.held, request.caller.thread) {
            self.thaw(&mut thread);
        }
    }

    /// Tries the first waiting receiver, or queues. `Ok(0)`: that receiver failed, try again.
    fn call_once(&self, request: &mut Request<'_, '_, '_>, endpoint: Id<Endpoint>) -> Outcome {
        let (mut body, mut held) = self.lock(request.held, endpoint).ok_or(Error::StaleHandle)?;
        let caller = request.caller.thread;
        if !self.pass_over_the_ended(&mut held, &mut body) {
            return Err(Stop::Again);
        }
        let Some(receiver) = body.receivers.first(&self.memory) else {
            return self.queue_call(request.hart, &mut held, body, endpoint, caller);
        };
        let (sender, receiver_guard, mut held) =
            self.lock_pair(&mut held, caller, receiver).ok_or(Error::PeerGone)?;
        let (mut sender, mut receiver_guard) = (sender, receiver_guard);
        let mut pair = Pair {
            sender: &mut sender,
            sender_id: caller,
            receiver: &mut receiver_guard,
            receiver_id: receiver,
            hart: request.hart.index,
            sender_runs: true,
            handed_on: false,
        };
        match self.meet(&mut held, &mut pair) {
            Delivery::Done => {
                if pair.handed_on {
                    self.fall_back(request.hart, &sender);
                }
                body.receivers.remove(&self.memory, receiver);
                let deadline = sender.context.deadline();
                self.stop_running(request.hart, &mut sender);
                self.arm(request.hart, caller, &mut sender, deadline);
                receiver_guard.wait_sequence += 1;
                self.make_ready(request.hart, receiver, &mut receiver_guard);
                request.hart.handoff = Some(receiver);
                Err(Stop::Waits)
            }
            Delivery::SenderFailed(error) => Err(error.into()),
            Delivery::Interrupted => Err(Stop::Again),
            Delivery::ReceiverFailed(error) => {
                body.receivers.remove(&self.memory, receiver);
                receiver_guard.wait_sequence += 1;
                self.wake(request.hart, receiver, &mut receiver_guard, Err(error));
                Ok(0)
            }
        }
    }

    /// The call waits to be received, and its urgency goes to whoever it waits for.
    fn queue_call(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, sync::Object>,
        mut body: Guard<'_, Endpoint>,
        endpoint: Id<Endpoint>,
        caller: Id<Thread>,
    ) -> Outcome {
        let (mut thread, _) = self.lock(held, caller).ok_or(Error::PeerGone)?;
        let deadline = thread.context.deadline();
        if deadline <= self.arch.now() {
            return Err(Error::TimedOut.into());
        }
        thread.state = State::Calling(endpoint);
        thread.wait_sequence += 1;
        self.stop_running(hart, &mut thread);
        let class = thread.shared().urgency();
        body.shared().count(class);
        body.callers.push_back(&self.memory, caller);
        self.memory.join_users(thread.message.via, caller);
        self.arm(hart, caller, &mut thread, deadline);
        drop(thread);
        let server = body.shared().server.load(Relaxed);
        drop(body);
        self.lend_urgency(hart, held, class, server);
        Err(Stop::Waits)
    }

    /// A call meets a receiver: the message is delivered, the caller waits for the answer, the receiver
    /// has the Reply and the caller's urgency.
    fn meet(&self, held: &mut Held<'_, sync::Thread>, pair: &mut Pair<'_, '_>) -> Delivery {
        let delivery = self.deliver(held, pair, Arrival::Call);
        if delivery != Delivery::Done {
            return delivery;
        }
        let sender = &mut *pair.sender;
        sender.state = State::Called;
        sender.wait_sequence += 1;
        sender.shared().open_call.put(sender.wait_sequence);
        let mut reply = Capability::new(Kind::Reply, Rights::empty(), pair.sender_id.raw());
        reply.badge = sender.wait_sequence;
        let entry = pair.receiver.reply_entry;
        let slot = self.memory.capability_slot(entry);
        (pair.receiver.reply_entry, pair.receiver.owes) = (0, slot.handle());
        slot.write(&reply);
        let from = self.memory.shared(sender.process);
        let (service_id, process_id) = from
            .map_or((0, 0), |process| (process.service_id.load(Relaxed), process.process_id.load(Relaxed)));
        let receiver = &mut *pair.receiver;
        receiver.context.set_argument(2, slot.handle().0);
        receiver.context.set_argument(3, sender.message.badge);
        receiver.context.set_sender(service_id, process_id);
        let (lent, worker) = (sender.shared(), receiver.shared());
        lent.served_by.store(pair.receiver_id.raw(), Relaxed);
        worker.set_urgency(worker.urgency().max(lent.urgency()));
        pair.receiver.payer = pair.sender.payer;
        Delivery::Done
    }

    pub(super) fn recv(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        let outcome = self.recv_checked(&mut request);
        self.leave_open_call(&mut request, outcome)
    }

    fn recv_checked(&self, request: &mut Request<'_, '_, '_>) -> Outcome {
        let [target, _, _, buffers, ..] = request.arguments;
        let endpoint = self.object(&request.caller, target, Kind::Endpoint, Rights::RECEIVE)?;
        self.check_receive(request, endpoint, buffers)?;
        self.prepare_receive(request, endpoint)?;
        self.receive(request, endpoint)
    }

    /// A receive that failed may have been one that was made anew because an open call is free: that is left
    /// to another thread.
    fn leave_open_call(&self, request: &mut Request<'_, '_, '_>, outcome: Outcome) -> Outcome {
        if matches!(outcome, Err(Stop::Error(_))) {
            self.open_call_freed(request.hart, request.held, request.caller.process);
        }
        outcome
    }

    /// Checks that whatever the endpoint may deliver will fit into the caller's buffers, and remembers them.
    fn check_receive(
        &self,
        request: &mut Request<'_, '_, '_>,
        endpoint: Id<Endpoint>,
        buffers: u64,
    ) -> Result<(), Error> {
        let caller = &request.caller;
        let room = {
            let (mut thread, mut held) = self.lock(request.held, caller.thread).ok_or(Error::PeerGone)?;
            self.load_buffers(&mut held, &mut thread, buffers)?;
            thread.message.has_buffers.then_some(thread.message.buffers.receive_bytes)
        };
        let (max_bytes, max_capabilities) = {
            let (body, _) = self.lock(request.held, endpoint).ok_or(Error::StaleHandle)?;
            if body.is_sealed() {
                return Err(Error::Sealed);
            }
            if caller.shared.rank.load(Relaxed) > body.rank {
                return Err(Error::WouldDeadlock);
            }
            (u64::from(body.max_bytes), body.max_capabilities)
        };
        let too_small = max_bytes > REGISTER_BYTES as u64 && room.unwrap_or(0) < max_bytes;
        if too_small || (max_capabilities > 0 && room.is_none()) {
            return Err(Error::BufferTooSmall);
        }
        let (process, _) = self.lock(request.held, caller.process).ok_or(Error::PeerGone)?;
        if !process.has_room(max_capabilities) {
            return Err(Error::NoSlots);
        }
        Ok(())
    }

    /// Reserves the entry of the next call's Reply; the caller works for nobody any more but whoever waits.
    fn prepare_receive(
        &self,
        request: &mut Request<'_, '_, '_>,
        endpoint: Id<Endpoint>,
    ) -> Result<(), Error> {
        let caller = &request.caller;
        let (mut thread, mut held) = self.lock(request.held, caller.thread).ok_or(Error::PeerGone)?;
        let (mut process, _) = self.lock(&mut held, caller.process).ok_or(Error::PeerGone)?;
        if thread.reply_entry == 0 {
            let owner = caller.process.granule();
            thread.reply_entry = match process.take_entry(&self.memory, caller.shared, owner, Use::OpenCall) {
                Ok(entry) => entry,
                // It owes as many answers as it may: only notifications and posts are yielded.
                Err(_) if process.table.open_calls >= process.table.open_calls_max => 0,
                // The table cannot grow: nobody would tell a thread that waits when it can.
                Err(_) => return Err(Error::NoSlots),
            };
        }
        (thread.serves, thread.payer) = (Some(endpoint), thread.process);
        self.charge_from_now(request.hart, thread.payer);
        self.memory.shared(endpoint).ok_or(Error::StaleHandle)?.server.store(caller.thread.raw(), Relaxed);
        self.fall_back(request.hart, &thread);
        Ok(())
    }

    /// Yields what is there: bits of the bound notification, ends of badges, then posts and calls in
    /// turn. Otherwise the caller waits.
    fn receive(&self, request: &mut Request<'_, '_, '_>, endpoint: Id<Endpoint>) -> Outcome {
        if self.take_bound_bits(request) {
            return Err(Stop::Answered);
        }
        self.take_gone(request, endpoint)?;
        loop {
            let (mut body, mut held) = self.lock(request.held, endpoint).ok_or(Error::StaleHandle)?;
            let me = request.caller.thread;
            let can_take_calls = self.lock(&mut held, me).is_some_and(|(t, _)| t.reply_entry != 0);
            let calls = can_take_calls && !body.callers.is_empty();
            let posts = !body.posts.is_empty();
            if posts && !(calls && body.calls_first) {
                body.calls_first = true;
                drop(body);
                if self.take_post(request, endpoint) {
                    return Err(Stop::Answered);
                }
                self.give_way(request)?;
                continue;
            }
            if !calls {
                return self.wait_for_arrival(request.hart, &mut held, &mut body, endpoint, me);
            }
            body.calls_first = false;
            let Some(caller) = body.callers.first(&self.memory) else { continue };
            match self.take_call(request.hart, &mut held, &mut body, caller, me)? {
                Delivery::Done => {
                    drop(body);
                    if let Some(sender) = self.memory.shared(caller)
                        && let Some(process) = self.memory.id_at(sender.process.load(Relaxed))
                    {
                        self.open_call_freed(request.hart, request.held, process);
                    }
                    return Err(Stop::Answered);
                }
                Delivery::Interrupted => return Err(Stop::Again),
                Delivery::ReceiverFailed(error) => return Err(error.into()),
                // That caller was told; the next one is tried.
                Delivery::SenderFailed(_) => {
                    drop(body);
                    self.give_way(request)?;
                }
            }
        }
    }

    fn wait_for_arrival(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, sync::Object>,
        body: &mut Guard<'_, Endpoint>,
        endpoint: Id<Endpoint>,
        me: Id<Thread>,
    ) -> Outcome {
        let (mut thread, mut inner) = self.lock(held, me).ok_or(Error::PeerGone)?;
        let deadline = thread.context.deadline();
        if deadline <= self.arch.now() {
            return Err(Error::TimedOut.into());
        }
        thread.wait_sequence += 1;
        self.stop_running(hart, &mut thread);
        if thread.reply_entry != 0 {
            thread.state = State::Receiving(endpoint);
            body.receivers.push_back(&self.memory, me);
        } else {
            thread.state = State::Listening(endpoint);
            body.listeners.push_back(&self.memory, me);
            let (mut process, _) = self.lock(&mut inner, thread.process).ok_or(Error::PeerGone)?;
            process.listeners.push_back(&self.memory, me);
        }
        self.arm(hart, me, &mut thread, deadline);
        Err(Stop::Waits)
    }

    fn take_call(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, sync::Object>,
        body: &mut Guard<'_, Endpoint>,
        caller: Id<Thread>,
        me: Id<Thread>,
    ) -> Result<Delivery, Stop> {
        let (mut sender, mut receiver, mut held) = self.lock_pair(held, caller, me).ok_or(Error::PeerGone)?;
        let mut pair = Pair {
            sender: &mut sender,
            sender_id: caller,
            receiver: &mut receiver,
            receiver_id: me,
            hart: hart.index,
            sender_runs: false,
            handed_on: false,
        };
        let delivery = if body.is_over(pair.sender.message.session) {
            Delivery::SenderFailed(Error::PeerGone)
        } else {
            self.meet(&mut held, &mut pair)
        };
        match delivery {
            Delivery::Done => {
                self.remove_caller(body, caller);
                if pair.handed_on {
                    self.fall_back(hart, &sender);
                }
                self.charge_from_now(hart, receiver.payer);
                let worker = receiver.shared();
                let waiting = body.shared().most_urgent().unwrap_or(Qos::Idle);
                worker.set_urgency(worker.urgency().max(waiting));
            }
            Delivery::SenderFailed(error) => {
                self.remove_caller(body, caller);
                self.thaw(&mut sender);
                sender.wait_sequence += 1;
                self.wake(hart, caller, &mut sender, Err(error));
            }
            _ => {}
        }
        Ok(delivery)
    }

    fn take_bound_bits(&self, request: &mut Request<'_, '_, '_>) -> bool {
        let me = request.caller.thread;
        let Some(bound) = self.lock(request.held, me).and_then(|(thread, _)| thread.bound) else {
            return false;
        };
        let Some((mut body, mut held)) = self.lock(request.held, bound) else { return false };
        if body.bits == 0 {
            return false;
        }
        let bits = core::mem::take(&mut body.bits);
        let Some((mut thread, _)) = self.lock(&mut held, me) else { return false };
        answer_event(&mut thread, Arrival::Bits, bits, 0);
        true
    }

    /// Tells of a session's end. Those of a generation before are passed over: who receives knows nothing of them.
    fn take_gone(&self, request: &mut Request<'_, '_, '_>, endpoint: Id<Endpoint>) -> Result<(), Stop> {
        loop {
            let Some((mut body, mut held)) = self.lock(request.held, endpoint) else { return Ok(()) };
            let Some(session) = body.gone.pop_front(&self.memory) else { return Ok(()) };
            let Some((guard, mut inner)) = self.lock(&mut held, session) else { return Ok(()) };
            let (badge, is_over) = (guard.badge, body.is_over(guard.generation));
            self.destroy(&mut inner, session, guard);
            if !is_over {
                let Some((mut thread, _)) = self.lock(&mut held, request.caller.thread) else {
                    return Ok(());
                };
                answer_event(&mut thread, Arrival::BadgeGone, 0, badge);
                return Err(Stop::Answered);
            }
            drop(body);
            self.give_way(request)?;
        }
    }

    /// Between two of many things: an interrupt that is pending, or somebody more urgent, comes first, and the call is
    /// made again.
    fn give_way(&self, request: &Request<'_, '_, '_>) -> Result<(), Stop> {
        let is_awaited = self.interrupt_pending(request.hart.index) || request.hart.reschedule;
        if is_awaited { Err(Stop::Again) } else { Ok(()) }
    }

    fn take_post(&self, request: &mut Request<'_, '_, '_>, endpoint: Id<Endpoint>) -> bool {
        let Some((mut body, mut held)) = self.lock(request.held, endpoint) else { return false };
        let Some(post) = body.posts.pop_front(&self.memory) else { return false };
        let Some((guard, mut inner)) = self.lock(&mut held, post) else { return false };
        let (header, words, badge) = (guard.header, guard.words, guard.badge);
        let (service_id, process_id, via) = (guard.service_id, guard.process_id, guard.via);
        let is_over = body.is_over(guard.session);
        self.destroy(&mut inner, post, guard);
        self.return_credit(via);
        if is_over {
            return false;
        }
        let Some((mut thread, _)) = self.lock(&mut held, request.caller.thread) else { return false };
        answer_post(&mut thread, header, words, badge);
        thread.context.set_sender(service_id, process_id);
        self.counters.messages.fetch_add(1, Relaxed);
        true
    }

    pub(super) fn reply(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        let [_, header, reply, buffers, ..] = request.arguments;
        let outcome = self.answer(&mut request, Header(header), reply, buffers);
        self.open_call_freed(request.hart, request.held, request.caller.process);
        outcome
    }

    pub(super) fn reply_recv(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        let outcome = self.reply_recv_checked(&mut request);
        self.leave_open_call(&mut request, outcome)
    }

    fn reply_recv_checked(&self, request: &mut Request<'_, '_, '_>) -> Outcome {
        let [target, header, reply, buffers, ..] = request.arguments;
        let endpoint = self.object(&request.caller, target, Kind::Endpoint, Rights::RECEIVE)?;
        let checked = self.check_receive(request, endpoint, buffers);
        // Nothing comes from a sealed endpoint any more, but the answer is owed all the same.
        if !matches!(checked, Ok(_) | Err(Error::Sealed)) {
            checked?;
        }
        if !Handle(reply).is_none() {
            self.answer(request, Header(header), reply, buffers)?;
            // The answer is given: should the call be made again, it must only receive.
            if let Some((mut thread, _)) = self.lock(request.held, request.caller.thread) {
                thread.context.set_argument(2, 0);
            }
        }
        checked?;
        self.prepare_receive(request, endpoint)?;
        // Another thread is told of the open call that the answer freed only if this one has not taken it again.
        self.open_call_freed(request.hart, request.held, request.caller.process);
        self.receive(request, endpoint)
    }

    /// Delivers the answer to the caller that a Reply stands for, and frees the Reply; nobody is told that an open call is
    /// free.
    fn answer(&self, request: &mut Request<'_, '_, '_>, header: Header, reply: u64, buffers: u64) -> Outcome {
        let caller = &request.caller;
        let capability = self.memory.capability(caller.shared, reply, Kind::Reply, Rights::empty())?;
        if header.leases() > 0 {
            return Err(Error::InvalidArgument.into());
        }
        if header.bytes() > MESSAGE_BYTES_MAX {
            return Err(Error::TooLarge.into());
        }
        let waiting = Id::<Thread>::from_raw(capability.object).ok_or(Error::StaleHandle)?;
        self.begin_message(request, buffers, header, (&capability, 0))?;
        let outcome = self.answer_caller(request, waiting, capability.badge);
        if outcome != Ok(0) {
            self.thaw_current(request);
        }
        if matches!(outcome, Ok(_) | Err(Stop::Error(Error::PeerGone))) {
            self.free_reply(request, capability.granule);
        }
        outcome
    }

    fn answer_caller(
        &self,
        request: &mut Request<'_, '_, '_>,
        waiting: Id<Thread>,
        sequence: u64,
    ) -> Outcome {
        let me = request.caller.thread;
        let (mut sender, mut receiver, mut held) =
            self.lock_pair(request.held, me, waiting).ok_or(Error::PeerGone)?;
        if receiver.state != State::Called || receiver.wait_sequence != sequence {
            return Err(Error::PeerGone.into());
        }
        let mut pair = Pair {
            sender: &mut sender,
            sender_id: me,
            receiver: &mut receiver,
            receiver_id: waiting,
            hart: request.hart.index,
            sender_runs: true,
            handed_on: false,
        };
        match self.deliver(&mut held, &mut pair, Arrival::Call) {
            Delivery::Done => {}
            Delivery::Interrupted => return Err(Stop::Again),
            Delivery::SenderFailed(error) => return Err(error.into()),
            Delivery::ReceiverFailed(Error::NoSlots) => return Err(Error::NoSlots.into()),
            Delivery::ReceiverFailed(error) => {
                // The caller's own buffers are at fault: it is told, and the server is done with it.
                receiver.wait_sequence += 1;
                self.wake(request.hart, waiting, &mut receiver, Err(error));
                return Err(Error::PeerGone.into());
            }
        }
        receiver.wait_sequence += 1;
        self.fall_back(request.hart, &sender);
        sender.payer = sender.process;
        self.charge_from_now(request.hart, sender.payer);
        self.make_ready(request.hart, waiting, &mut receiver);
        request.hart.handoff = Some(waiting);
        Ok(0)
    }

    fn free_reply(&self, request: &mut Request<'_, '_, '_>, entry: Granule) {
        if let Some((mut process, _)) = self.lock(request.held, request.caller.process) {
            process.free_entry(&self.memory, entry);
        }
    }
}

/// What a `recv` yields that is not a message.
pub(crate) fn answer_event(thread: &mut Thread, arrival: Arrival, bits: u64, badge: u64) {
    let context = &mut thread.context;
    context.set_argument(0, 0);
    context.set_argument(1, Header::default().with_arrival(arrival).0);
    context.set_argument(2, 0);
    context.set_argument(3, badge);
    context.set_words([bits, 0, 0, 0, 0, 0, 0, 0]);
    context.set_sender(0, 0);
}

pub(crate) fn answer_post(thread: &mut Thread, header: Header, words: [u64; 8], badge: u64) {
    let context = &mut thread.context;
    context.set_argument(0, 0);
    context.set_argument(1, header.0);
    context.set_argument(2, 0);
    context.set_argument(3, badge);
    context.set_words(words);
}
