//! Messages: how one thread's message reaches another, and what stops it.
//!
//! Delivery is one step. Before it nothing has changed: the sender's capabilities are frozen, the
//! receiver's registers untouched; long payloads are copied into the receiver's buffer ahead of it, in
//! steps of a page that interrupts may come between. After it everything is the receiver's.

use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::memory::{Granule, Guard, Id};
use crate::object::capability::{Capability, Use};
use crate::object::thread::{Progress, State};
use crate::object::{Process, Thread};
use crate::sync::{self, Held};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::{MESSAGE_CAPABILITIES_MAX, PAGE_SIZE, REGISTER_BYTES};
use nexus_abi::message::{Arrival, CAP_MOVE, Header, RECEIVED_CAPABILITIES_OFFSET};
use nexus_abi::{Error, Handle, Kind, Rights};

/// How a delivery ended. Unless it is done, nothing has changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The message is the receiver's.
    Done,
    /// It is the sender's fault.
    SenderFailed(Error),
    /// It is the receiver's fault.
    ReceiverFailed(Error),
    /// An interrupt is pending and must be taken before the copy goes on.
    Interrupted,
}

/// Two locked threads, and who they are.
pub struct Pair<'g, 'k> {
    /// Who sends.
    pub sender: &'g mut Guard<'k, Thread>,
    /// The sender's id.
    pub sender_id: Id<Thread>,
    /// Who receives.
    pub receiver: &'g mut Guard<'k, Thread>,
    /// The receiver's id.
    pub receiver_id: Id<Thread>,
    /// The hart that does it.
    pub hart: usize,
    /// Whether the sender is the one that runs (and keeps the copy's progress).
    pub sender_runs: bool,
    /// Whether the sender has handed the answer to a call on.
    pub handed_on: bool,
}

impl<A: Arch> Kernel<A> {
    /// Moves header, payload and capabilities from one thread to the other.
    pub(crate) fn deliver(
        &self,
        held: &mut Held<'_, sync::Thread>,
        pair: &mut Pair<'_, '_>,
        arrival: Arrival,
    ) -> Delivery {
        let header = Header(pair.sender.context.argument(1));
        if header.bytes() > REGISTER_BYTES {
            match self.copy_payload(held, pair, header.bytes()) {
                Delivery::Done => {}
                other => return other,
            }
        }
        let count = header.capabilities();
        if count > 0 {
            match self.move_capabilities(held, pair, count) {
                Ok(()) => {}
                Err(other) => return other,
            }
        }
        let words = pair.sender.context.words();
        let receiver = &mut pair.receiver.context;
        if header.bytes() <= REGISTER_BYTES {
            receiver.set_words(words);
        }
        let clean = Header::new(header.label(), header.bytes() as u32, count as u8);
        let clean = clean.with_leases(header.leases() as u8);
        receiver.set_argument(0, 0);
        receiver.set_argument(1, clean.with_arrival(arrival).0);
        self.counters.messages.fetch_add(1, Relaxed);
        Delivery::Done
    }

    /// Copies a long payload, going on where an earlier attempt with the same peer was interrupted, unless somebody
    /// else wrote into the receiver's buffer meanwhile. Then all of it is copied anew, and other harts wait until that
    /// is done: or two that copy to one receiver would undo each other's work for ever.
    fn copy_payload(
        &self,
        held: &mut Held<'_, sync::Thread>,
        pair: &mut Pair<'_, '_>,
        bytes: usize,
    ) -> Delivery {
        let room =
            if pair.receiver.message.has_buffers { pair.receiver.message.buffers.receive_bytes } else { 0 };
        if bytes as u64 > room {
            return Delivery::SenderFailed(Error::TooLarge);
        }
        let source = pair.sender.message.buffers.send_address;
        let target = pair.receiver.message.buffers.receive_address;
        let (runner, peer_id, peer) = if pair.sender_runs {
            (&mut *pair.sender, pair.receiver_id, &mut *pair.receiver)
        } else {
            (&mut *pair.receiver, pair.sender_id, &mut *pair.sender)
        };
        let mut progress = Progress { peer: peer_id.raw(), sequence: peer.wait_sequence, bytes: 0 };
        let before = core::mem::take(&mut runner.message.progress);
        let had_begun = (before.peer, before.sequence) == (progress.peer, progress.sequence);
        let part_of = core::mem::replace(&mut pair.receiver.message.part_of, pair.sender_id.raw());
        let was_undone = had_begun && part_of != pair.sender_id.raw();
        if had_begun && !was_undone {
            progress.bytes = before.bytes.min(bytes);
        }
        let (from, to) = (pair.sender.process, pair.receiver.process);
        while progress.bytes < bytes {
            let done = progress.bytes as u64;
            let left = bytes - progress.bytes;
            // Who runs may have named other buffers since the copy was interrupted: any address may stand here.
            let (source, target) = (source.wrapping_add(done), target.wrapping_add(done));
            let chunk = match self.copy_chunk(held, (from, source), (to, target), left) {
                Ok(chunk) => chunk,
                Err(delivery) => return delivery,
            };
            progress.bytes += chunk;
            let gives_way = || match was_undone {
                true => self.arch.interrupt_pending(),
                false => self.interrupt_pending(pair.hart),
            };
            if progress.bytes < bytes && gives_way() {
                let runner = if pair.sender_runs { &mut pair.sender } else { &mut pair.receiver };
                runner.message.progress = progress;
                return Delivery::Interrupted;
            }
        }
        Delivery::Done
    }

    /// Copies as much as both pages hold.
    fn copy_chunk(
        &self,
        held: &mut Held<'_, sync::Thread>,
        from: (Id<Process>, u64),
        to: (Id<Process>, u64),
        bytes: usize,
    ) -> Result<usize, Delivery> {
        let source = self.user_page(held, from.0, from.1, Rights::READ).map_err(Delivery::SenderFailed)?;
        let target = self.user_page(held, to.0, to.1, Rights::WRITE).map_err(Delivery::ReceiverFailed)?;
        let chunk = bytes.min(PAGE_SIZE - source.1).min(PAGE_SIZE - target.1);
        self.memory.copy(source, target, chunk);
        Ok(chunk)
    }

    /// Puts the sender's capabilities into the receiver's table and tells it their handles.
    fn move_capabilities(
        &self,
        held: &mut Held<'_, sync::Thread>,
        pair: &mut Pair<'_, '_>,
        count: usize,
    ) -> Result<(), Delivery> {
        if !pair.receiver.message.has_buffers {
            return Err(Delivery::SenderFailed(Error::TooLarge));
        }
        let to = pair.receiver.process;
        self.check_replies(pair, count).map_err(Delivery::SenderFailed)?;
        self.check_copies(pair, count).map_err(Delivery::SenderFailed)?;
        let granules = self.take_entries(&mut held.above(), to, count)?;
        let mut handles = [Handle::NONE; MESSAGE_CAPABILITIES_MAX];
        for (handle, &granule) in handles.iter_mut().zip(&granules[..count]) {
            *handle = self.memory.capability_slot(granule).handle();
        }
        // The last thing that can fail, so that what follows is the commit.
        let buffers = pair.receiver.context.argument(3) + RECEIVED_CAPABILITIES_OFFSET;
        if let Err(error) = self.write_record(held, to, buffers, &handles) {
            self.return_entries(&mut held.above(), to, &granules[..count]);
            return Err(Delivery::ReceiverFailed(error));
        }
        for (index, &granule) in granules[..count].iter().enumerate() {
            self.hand_over(held, pair, index, granule);
        }
        pair.sender.message.capabilities = Default::default();
        Ok(())
    }

    /// Checks that nobody comes to owe an answer to who may be waited for by nobody like it: whoever holds a
    /// Reply ranks strictly below its caller, so that calls go on making no circle.
    fn check_replies(&self, pair: &Pair<'_, '_>, count: usize) -> Result<(), Error> {
        let rank = |granule: Granule| self.memory.shared_at::<Process>(granule).rank.load(Relaxed);
        for &granule in &pair.sender.message.capabilities[..count] {
            let Some(capability) = self.memory.capability_slot(granule).read(granule) else { continue };
            if capability.kind == Kind::Reply
                && let Some(caller) = Id::<Thread>::from_raw(capability.object)
                && let Some(caller) = self.memory.shared(caller)
                && rank(caller.process.load(Relaxed)) <= rank(pair.receiver.process.granule())
            {
                return Err(Error::WouldDeadlock);
            }
        }
        Ok(())
    }

    /// Checks that copies may derive from what is sent: what is being revoked grows no further.
    fn check_copies(&self, pair: &Pair<'_, '_>, count: usize) -> Result<(), Error> {
        let message = &pair.sender.message;
        let sent = message.buffers.send_capabilities.iter().zip(&message.capabilities).take(count);
        for (transfer, &granule) in sent {
            if transfer.mode != CAP_MOVE {
                self.memory.may_derive_from(granule)?;
            }
        }
        Ok(())
    }

    fn take_entries(
        &self,
        held: &mut Held<'_, sync::Backing>,
        process: Id<Process>,
        count: usize,
    ) -> Result<[Granule; MESSAGE_CAPABILITIES_MAX], Delivery> {
        let gone = || Delivery::ReceiverFailed(Error::PeerGone);
        let shared = self.memory.shared(process).ok_or_else(gone)?;
        let mut granules = [0; MESSAGE_CAPABILITIES_MAX];
        for index in 0..count {
            let (mut body, _) = self.lock(held, process).ok_or_else(gone)?;
            match body.take_entry(&self.memory, shared, process.granule(), Use::Ordinary) {
                Ok(granule) => granules[index] = granule,
                // Whether its bound or its quota is reached: the table has no room.
                Err(_) => {
                    drop(body);
                    self.return_entries(held, process, &granules[..index]);
                    return Err(Delivery::ReceiverFailed(Error::NoSlots));
                }
            }
        }
        Ok(granules)
    }

    fn return_entries(&self, held: &mut Held<'_, sync::Backing>, process: Id<Process>, granules: &[Granule]) {
        if let Some((mut body, _)) = self.lock(held, process) {
            for &granule in granules {
                body.free_entry(&self.memory, granule);
            }
        }
    }

    /// One capability changes hands: moved with its place in the tree, or copied below it.
    fn hand_over(
        &self,
        held: &mut Held<'_, sync::Thread>,
        pair: &mut Pair<'_, '_>,
        index: usize,
        target: Granule,
    ) {
        let transfer = pair.sender.message.buffers.send_capabilities[index];
        let source = pair.sender.message.capabilities[index];
        let slot = self.memory.capability_slot(source);
        slot.thaw(pair.sender.process.granule());
        let Some(mut capability) = slot.read(source) else { return };
        capability.rights &= Rights::from_bits_truncate(transfer.rights);
        self.memory.capability_slot(target).write(&capability);
        if transfer.mode == CAP_MOVE {
            if self.memory.node_replace(source, target) {
                if let Some((mut body, _)) = self.lock(held, pair.sender.process) {
                    body.free_entry(&self.memory, source);
                }
            } else {
                slot.make_husk(self.husks.swap(source, Relaxed));
                self.begin_reclaiming();
            }
            if capability.kind == Kind::Reply {
                self.hand_on(pair, &capability);
            }
        } else {
            self.memory.node_link(target, source);
            self.count_reference(&capability);
        }
    }

    /// The answer to a call is owed by the receiver now, which works for that caller.
    fn hand_on(&self, pair: &mut Pair<'_, '_>, reply: &Capability) {
        pair.handed_on = true;
        let Some(caller) = Id::<Thread>::from_raw(reply.object) else { return };
        // It ranks above both of the pair, so it is neither; whoever gave up waits for others now, or for nobody.
        let waits = self
            .memory
            .lock_slot(caller)
            .is_some_and(|caller| caller.state == State::Called && caller.wait_sequence == reply.badge);
        let Some(caller) = self.memory.shared(caller).filter(|_| waits) else { return };
        caller.served_by.store(pair.receiver_id.raw(), Relaxed);
        let receiver = pair.receiver.shared();
        receiver.set_urgency(receiver.urgency().max(caller.urgency()));
    }

    /// Freezes the capabilities that a message is to carry and remembers their entries.
    pub(crate) fn freeze(
        &self,
        carrier: Id<Thread>,
        thread: &mut Guard<'_, Thread>,
        count: usize,
    ) -> Result<(), Error> {
        if count > MESSAGE_CAPABILITIES_MAX {
            return Err(Error::InvalidArgument);
        }
        let process = self.memory.shared(thread.process).ok_or(Error::PeerGone)?;
        for index in 0..count {
            let transfer = thread.message.buffers.send_capabilities[index];
            let outcome =
                self.memory.find_capability(process, transfer.handle).and_then(|(slot, capability)| {
                    if capability.granule == thread.message.via.0 && capability.kind == Kind::Reply {
                        return Err(Error::InvalidArgument);
                    }
                    check_transfer(slot.frozen(), &capability, transfer.rights, transfer.mode)?;
                    // Else a revocation would not find them.
                    if transfer.mode == CAP_MOVE && slot.has_users() {
                        return Err(Error::Busy);
                    }
                    slot.freeze(carrier.granule());
                    Ok(capability.granule)
                });
            match outcome {
                Ok(granule) => thread.message.capabilities[index] = granule,
                Err(error) => {
                    self.thaw(thread);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Thaws what a message that was not delivered would have carried.
    pub(crate) fn thaw(&self, thread: &mut Guard<'_, Thread>) {
        for granule in core::mem::take(&mut thread.message.capabilities) {
            if granule != 0 {
                self.memory.capability_slot(granule).thaw(thread.process.granule());
            }
        }
    }

    /// Gives the answer that a Reply stands for, or the news that there will be none.
    pub(crate) fn fail_call(&self, hart: &mut Hart, held: &mut Held<'_, sync::Object>, reply: &Capability) {
        let Some(caller) = Id::<Thread>::from_raw(reply.object) else { return };
        let Some((mut thread, _)) = self.lock(held, caller) else { return };
        if thread.state == State::Called && thread.wait_sequence == reply.badge {
            thread.wait_sequence += 1;
            self.wake(hart, caller, &mut thread, Err(Error::PeerGone));
        }
    }
}

/// Whether a capability may go into a message as asked. A Reply moves and never copies.
fn check_transfer(frozen: bool, capability: &Capability, rights: u32, mode: u32) -> Result<(), Error> {
    if frozen || mode > CAP_MOVE || (capability.kind == Kind::Reply && mode != CAP_MOVE) {
        return Err(Error::InvalidArgument);
    }
    let rights = Rights::from_bits(rights).ok_or(Error::NotPermitted)?;
    if !capability.rights.contains(rights) {
        return Err(Error::NotPermitted);
    }
    Ok(())
}
