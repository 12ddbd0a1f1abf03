//! How a message comes from one thread to another.

use super::{Answer, CREDIT, CapId, Message, Model, Object, Post, Sent, Thread, Wait};
use alloc::vec::Vec;
use nexus_abi::capability::Qos;
use nexus_abi::{Error, Rights};

/// Room for a payload that every thread of the model gives.
pub(crate) const ROOM: u32 = 4_096;
const REGISTER_BYTES: u32 = 64;
/// Capabilities that one message may carry, as the contract has it.
const CAPS_MAX: usize = 4;

/// Why a message was not delivered.
enum Refused {
    Sender(Error),
    Receiver(Error),
}

impl Model {
    pub(super) fn call(
        &mut self,
        thread: usize,
        via: CapId,
        message: &Message,
        deadline: u64,
    ) -> Result<(), Error> {
        let endpoint = self.endpoint_of(thread, via, Rights::CALL)?;
        let cap = self.held(thread, via)?;
        let (badge, session, state) = (cap.badge, cap.session, &self.endpoints[endpoint]);
        if !state.alive {
            return Err(Error::StaleHandle);
        }
        if state.sealed {
            return Err(Error::Sealed);
        }
        if state.rank >= self.processes[self.threads[thread].process].rank {
            return Err(Error::WouldDeadlock);
        }
        if self.is_outlived(cap, endpoint) {
            return Err(Error::PeerGone);
        }
        if message.caps.len() > CAPS_MAX {
            return Err(Error::InvalidArgument);
        }
        Self::check_lease_count(&message.leases)?;
        if message.bytes > state.max_bytes.max(REGISTER_BYTES) || message.caps.len() > state.max_caps as usize
        {
            return Err(Error::TooLarge);
        }
        self.threads[thread].plain = message.plain;
        self.freeze(thread, None, &message.caps)?;
        if let Err(error) = self.lend(thread, &message.leases) {
            self.thaw(&message.caps);
            return Err(error);
        }
        while let Some(&receiver) = self.endpoints[endpoint].receivers.front() {
            self.leave(endpoint, receiver);
            match self.deliver(thread, receiver, message) {
                Ok((caps, handed_on)) => {
                    self.works_for(receiver, thread);
                    if handed_on {
                        self.fall_back(thread);
                    }
                    self.begin_wait(thread, Wait::Called, deadline);
                    self.received(thread, receiver, badge, message, caps);
                    return Ok(());
                }
                Err(Refused::Receiver(error)) => self.answer(receiver, Answer::Failed(error)),
                Err(Refused::Sender(error)) => {
                    self.endpoints[endpoint].receivers.push_front(receiver);
                    self.thaw(&message.caps);
                    return Err(error);
                }
            }
        }
        if deadline <= self.now {
            self.thaw(&message.caps);
            return Err(Error::TimedOut);
        }
        let wait = Wait::Calling { endpoint, message: message.clone(), via, badge, session };
        self.begin_wait(thread, wait, deadline);
        self.endpoints[endpoint].callers.push_back(thread);
        self.lend_urgency(self.threads[thread].urgency, self.endpoints[endpoint].server);
        Ok(())
    }

    /// The receiver has the message and owes the answer.
    fn received(&mut self, sender: usize, receiver: usize, badge: u64, message: &Message, caps: Vec<CapId>) {
        let process = self.threads[receiver].process;
        let owed = Object::Reply(sender, self.threads[sender].sequence);
        let reply = self.add_cap(process, owed, Rights::empty(), None);
        self.cap(reply).open_call = true;
        self.processes[process].used -= 1;
        self.threads[receiver].reserved = false;
        let from = self.threads[sender].process;
        let (tag, bytes) = (message.tag, message.bytes);
        self.answer(
            receiver,
            Answer::Call { from, badge, tag, bytes, caps, leases: message.leases.len(), reply },
        );
    }

    /// Freezes what a message carries; `answered` is the Reply that it answers, if it does.
    fn freeze(&mut self, thread: usize, answered: Option<CapId>, sent: &[Sent]) -> Result<(), Error> {
        for (index, one) in sent.iter().enumerate() {
            let checked = self.held(thread, one.cap).and_then(|cap| {
                let copied_reply = matches!(cap.object, Object::Reply(..)) && !one.moved;
                if cap.frozen || copied_reply || answered == Some(one.cap) {
                    return Err(Error::InvalidArgument);
                }
                if !cap.rights.contains(one.rights) {
                    return Err(Error::NotPermitted);
                }
                if one.moved && self.is_waited_through(one.cap) { Err(Error::Busy) } else { Ok(()) }
            });
            if let Err(error) = checked {
                self.thaw(&sent[..index]);
                return Err(error);
            }
            self.cap(one.cap).frozen = true;
        }
        Ok(())
    }

    /// Whether calls that came through a capability wait to be received.
    fn is_waited_through(&self, cap: CapId) -> bool {
        let waits = |thread: &Thread| matches!(thread.wait, Wait::Calling { via, .. } if via == cap);
        self.threads.iter().any(waits)
    }

    pub(super) fn thaw(&mut self, sent: &[Sent]) {
        for one in sent {
            if let Some(cap) = self.caps.get_mut(&one.cap) {
                cap.frozen = false;
            }
        }
    }

    /// The one step after which everything is the receiver's; before it nothing has changed.
    /// Yields the new capabilities, and whether the sender handed on what it owes somebody.
    fn deliver(
        &mut self,
        sender: usize,
        receiver: usize,
        message: &Message,
    ) -> Result<(Vec<CapId>, bool), Refused> {
        let room = if self.threads[receiver].plain { REGISTER_BYTES } else { ROOM };
        if message.bytes > room || (self.threads[receiver].plain && !message.caps.is_empty()) {
            return Err(Refused::Sender(Error::TooLarge));
        }
        let to = self.threads[receiver].process;
        let from = self.threads[sender].process;
        if message.caps.iter().any(|one| self.would_be_owed_upwards(self.caps[&one.cap].object, to)) {
            return Err(Refused::Sender(Error::WouldDeadlock));
        }
        for copied in message.caps.iter().filter(|one| !one.moved) {
            self.check_depth(copied.cap).map_err(Refused::Sender)?;
        }
        if self.processes[to].used + message.caps.len() as u32 > self.processes[to].used_max {
            return Err(Refused::Receiver(Error::NoSlots));
        }
        let (mut new, mut handed_on) = (Vec::new(), false);
        for one in &message.caps {
            self.cap(one.cap).frozen = false;
            let object = self.caps[&one.cap].object;
            let rights = self.caps[&one.cap].rights & one.rights;
            new.push(self.add_cap(to, object, rights, Some(one.cap)));
            if one.moved {
                if let Object::Reply(caller, sequence) = object {
                    handed_on = true;
                    let waiting = &self.threads[caller];
                    if matches!(waiting.wait, Wait::Called) && waiting.sequence == sequence {
                        self.works_for(receiver, caller);
                    }
                }
                let was_open_call = self.caps[&one.cap].open_call;
                self.take_place(one.cap, new[new.len() - 1]);
                if was_open_call {
                    self.open_call_freed(from);
                } else {
                    self.processes[from].used -= 1;
                }
            }
        }
        Ok((new, handed_on))
    }

    /// Whether an object is a Reply whose caller does not rank strictly above a process.
    fn would_be_owed_upwards(&self, object: Object, process: usize) -> bool {
        let Object::Reply(caller, _) = object else { return false };
        let caller = &self.threads[caller];
        caller.alive && self.processes[caller.process].rank <= self.processes[process].rank
    }

    /// A copy becomes what it was copied from: the same place in the tree, and the original is gone.
    fn take_place(&mut self, old: CapId, new: CapId) {
        let original = self.caps.remove(&old).expect("it is being moved");
        if let Some(session) = original.session {
            self.sessions[session].references -= 1;
        }
        let children: Vec<CapId> = original.children.into_iter().filter(|&child| child != new).collect();
        for &child in &children {
            self.cap(child).parent = Some(new);
        }
        let entry = self.cap(new);
        (entry.parent, entry.children) = (original.parent, children);
        if let Some(parent) = original.parent {
            let siblings = &mut self.cap(parent).children;
            siblings.retain(|&sibling| sibling != old);
            siblings.insert(0, new);
        }
    }

    pub(super) fn receive_call(&mut self, thread: usize, via: CapId, deadline: u64) -> Result<(), Error> {
        let endpoint = self.endpoint_of(thread, via, Rights::RECEIVE)?;
        self.threads[thread].receives_via = via;
        self.check_receive(thread, endpoint)?;
        self.receive(thread, endpoint, deadline)
    }

    fn check_receive(&self, thread: usize, endpoint: usize) -> Result<(), Error> {
        let (state, process) = (&self.endpoints[endpoint], &self.processes[self.threads[thread].process]);
        match state {
            _ if !state.alive => Err(Error::StaleHandle),
            _ if state.sealed => Err(Error::Sealed),
            _ if process.rank > state.rank => Err(Error::WouldDeadlock),
            _ if self.threads[thread].plain && (state.max_bytes > REGISTER_BYTES || state.max_caps > 0) => {
                Err(Error::BufferTooSmall)
            }
            _ if process.used + state.max_caps > process.used_max => Err(Error::NoSlots),
            _ => Ok(()),
        }
    }

    fn reserve_open_call(&mut self, thread: usize) {
        let process = &mut self.processes[self.threads[thread].process];
        if !self.threads[thread].reserved && process.open_calls < process.open_calls_max {
            process.open_calls += 1;
            self.threads[thread].reserved = true;
        }
    }

    fn receive(&mut self, thread: usize, endpoint: usize, deadline: u64) -> Result<(), Error> {
        self.threads[thread].serves = Some(endpoint);
        self.endpoints[endpoint].server = Some(thread);
        self.fall_back(thread);
        self.reserve_open_call(thread);
        if let Some(bound) = self.threads[thread].bound
            && self.notifications[bound].bits != 0
        {
            let bits = core::mem::take(&mut self.notifications[bound].bits);
            self.answer(thread, Answer::Bits(bits));
            return Ok(());
        }
        while let Some(session) = self.endpoints[endpoint].gone.pop_front() {
            self.sessions[session].alive = false;
            if !self.is_over(Some(session), endpoint) {
                self.answer(thread, Answer::BadgeGone(self.sessions[session].badge));
                return Ok(());
            }
        }
        let reserved = self.threads[thread].reserved;
        loop {
            let state = &mut self.endpoints[endpoint];
            let calls = reserved && !state.callers.is_empty();
            let call_is_due = calls && state.calls_first;
            let is_taken = match state.posts.front() {
                Some(_) if !call_is_due => self.take_post(thread, endpoint),
                _ if calls => self.take_call(thread, endpoint)?,
                _ => break,
            };
            if is_taken {
                return Ok(());
            }
        }
        if deadline <= self.now {
            return Err(Error::TimedOut);
        }
        let wait = if reserved { Wait::Receiving(endpoint) } else { Wait::Listening(endpoint) };
        let state = &mut self.endpoints[endpoint];
        let queue = if reserved { &mut state.receivers } else { &mut state.listeners };
        queue.push_back(thread);
        if !reserved {
            let process = self.threads[thread].process;
            self.processes[process].listeners.push_back(thread);
        }
        self.begin_wait(thread, wait, deadline);
        Ok(())
    }

    /// Takes the oldest post; yields whether there was anybody whom it may come from.
    fn take_post(&mut self, thread: usize, endpoint: usize) -> bool {
        let state = &mut self.endpoints[endpoint];
        state.calls_first = true;
        let Some(post) = state.posts.pop_front() else { return false };
        self.return_credit(post.via);
        if self.is_over(post.session, endpoint) {
            return false;
        }
        self.answer(thread, Answer::Post { from: post.from, badge: post.badge, tag: post.tag });
        true
    }

    /// Takes the oldest call; yields whether it was received, and its caller not told that it cannot be.
    fn take_call(&mut self, thread: usize, endpoint: usize) -> Result<bool, Error> {
        self.endpoints[endpoint].calls_first = false;
        let caller = self.endpoints[endpoint].callers[0];
        let Wait::Calling { message, badge, session, .. } = self.threads[caller].wait.clone() else {
            unreachable!("callers call")
        };
        let delivered = if self.is_over(session, endpoint) {
            Err(Refused::Sender(Error::PeerGone))
        } else {
            self.deliver(caller, thread, &message)
        };
        match delivered {
            Ok((caps, handed_on)) => {
                self.leave(endpoint, caller);
                self.works_for(thread, caller);
                if handed_on {
                    self.fall_back(caller);
                }
                let waiting = self.most_urgent(endpoint).unwrap_or(Qos::Idle);
                self.at_least(thread, waiting);
                let deadline = self.threads[caller].deadline;
                self.begin_wait(caller, Wait::Called, deadline);
                self.received(caller, thread, badge, &message, caps);
                Ok(true)
            }
            Err(Refused::Sender(error)) => {
                self.leave(endpoint, caller);
                self.thaw(&message.caps);
                self.answer(caller, Answer::Failed(error));
                Ok(false)
            }
            Err(Refused::Receiver(error)) => Err(error),
        }
    }

    pub(super) fn reply(&mut self, thread: usize, reply: CapId, message: &Message) -> Result<(), Error> {
        let outcome = self.give_answer(thread, reply, message);
        self.wake_listener(self.threads[thread].process);
        outcome
    }

    /// Whoever waits for a free open call is not told: the thread may take it again at once.
    fn give_answer(&mut self, thread: usize, reply: CapId, message: &Message) -> Result<(), Error> {
        let is_reply = |object: &Object| matches!(object, Object::Reply(..));
        let Object::Reply(caller, sequence) = self.usable(thread, reply, is_reply, Rights::empty())?.object
        else {
            return Err(Error::WrongKind);
        };
        if message.caps.len() > CAPS_MAX {
            return Err(Error::InvalidArgument);
        }
        self.freeze(thread, Some(reply), &message.caps)?;
        let waiting = &self.threads[caller];
        if !waiting.alive || !matches!(waiting.wait, Wait::Called) || waiting.sequence != sequence {
            self.thaw(&message.caps);
            self.drop_reply(reply);
            return Err(Error::PeerGone);
        }
        match self.deliver(thread, caller, message) {
            Ok((caps, _)) => {
                self.fall_back(thread);
                self.drop_reply(reply);
                self.answer(caller, Answer::Reply { tag: message.tag, bytes: message.bytes, caps });
                Ok(())
            }
            Err(Refused::Sender(error) | Refused::Receiver(error)) => {
                self.thaw(&message.caps);
                Err(error)
            }
        }
    }

    fn drop_reply(&mut self, reply: CapId) {
        let Some(cap) = self.caps.remove(&reply) else { return };
        let holder = &mut self.processes[cap.holder];
        if cap.open_call {
            holder.open_calls -= 1;
        } else {
            holder.used -= 1;
        }
    }

    /// Should it fail, whoever waits for a free open call is still to be told ([`Model::wake_listener`]).
    pub(super) fn reply_receive(
        &mut self,
        thread: usize,
        via: CapId,
        reply: CapId,
        message: &Message,
        deadline: u64,
    ) -> Result<(), Error> {
        let endpoint = self.endpoint_of(thread, via, Rights::RECEIVE)?;
        self.threads[thread].plain = message.plain;
        let checked = self.check_receive(thread, endpoint);
        if !matches!(checked, Ok(()) | Err(Error::Sealed)) {
            return checked;
        }
        self.give_answer(thread, reply, message)?;
        checked?;
        self.reserve_open_call(thread);
        self.wake_listener(self.threads[thread].process);
        self.threads[thread].receives_via = via;
        self.receive(thread, endpoint, deadline)
    }

    pub(super) fn post(&mut self, thread: usize, via: CapId, message: &Message) -> Result<(), Error> {
        let endpoint = self.endpoint_of(thread, via, Rights::POST)?;
        let cap = self.held(thread, via)?;
        if message.bytes > REGISTER_BYTES || !message.caps.is_empty() {
            return Err(Error::TooLarge);
        }
        let state = &self.endpoints[endpoint];
        if !state.alive {
            return Err(Error::StaleHandle);
        }
        if state.sealed {
            return Err(Error::Sealed);
        }
        if self.is_outlived(cap, endpoint) {
            return Err(Error::PeerGone);
        }
        if cap.posts >= CREDIT {
            return Err(Error::NoCredit);
        }
        let (from, badge, session) = (self.threads[thread].process, cap.badge, cap.session);
        let tag = message.tag;
        match self.pop_any(endpoint) {
            Some(receiver) => self.answer(receiver, Answer::Post { from, badge, tag }),
            None => {
                self.endpoints[endpoint].posts.push_back(Post { from, via, badge, session, tag });
                self.cap(via).posts += 1;
            }
        }
        Ok(())
    }

    /// A thread that waits for an arrival: one that cannot take calls first.
    pub(super) fn pop_any(&mut self, endpoint: usize) -> Option<usize> {
        let state = &mut self.endpoints[endpoint];
        state.listeners.pop_front().or_else(|| state.receivers.pop_front())
    }

    pub(super) fn return_credit(&mut self, via: CapId) {
        if let Some(cap) = self.caps.get_mut(&via) {
            cap.posts = cap.posts.saturating_sub(1);
        }
    }
}
