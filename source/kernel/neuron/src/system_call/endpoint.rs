//! Endpoints: create, mint, seal, and `post`, which leaves a message without waiting.

use super::message::{answer_event, answer_post};
use super::{Outcome, Request, Stop};
use crate::arch::Arch;
use crate::kernel::{Hart, Kernel, StructureState};
use crate::memory::list::LinksOf;
use crate::memory::{Granule, Guard, Id};
use crate::object::capability::Capability;
use crate::object::endpoint::Ending;
use crate::object::thread::State;
use crate::object::{Endpoint, Post, Process, Session, Thread};
use crate::sync::{self, Held};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::{MESSAGE_BYTES_MAX, MESSAGE_CAPABILITIES_MAX, POST_CREDIT, RANK_MAX, REGISTER_BYTES};
use nexus_abi::message::{Arrival, Header};
use nexus_abi::{Error, Kind, Rights};

/// Waits, posts or ends of badges that one step ends.
const WAITS_A_STEP: usize = 8;

impl<A: Arch> Kernel<A> {
    pub(super) fn return_credit(&self, (entry, generation): (Granule, u32)) {
        let slot = self.memory.capability_slot_if(entry);
        if let Some(slot) = slot.filter(|slot| slot.generation() == generation) {
            slot.end_post();
        }
    }

    pub(super) fn post(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [target, header, ..] = request.arguments;
        let header = Header(header);
        let caller = &request.caller;
        let capability = self.memory.capability(caller.shared, target, Kind::Endpoint, Rights::POST)?;
        let endpoint = Id::<Endpoint>::from_raw(capability.object).ok_or(Error::StaleHandle)?;
        if header.leases() > 0 {
            return Err(Error::InvalidArgument.into());
        }
        if header.bytes() > REGISTER_BYTES || header.capabilities() > 0 {
            return Err(Error::TooLarge.into());
        }
        let session = {
            let (body, mut inner) = self.lock(request.held, endpoint).ok_or(Error::StaleHandle)?;
            if body.is_sealed() {
                return Err(Error::Sealed.into());
            }
            self.session_of(&mut inner, &capability, body.generation)?
        };
        let slot = self.memory.capability_slot(capability.granule);
        if slot.posts() >= POST_CREDIT {
            return Err(Error::NoCredit.into());
        }
        let words = self.lock(request.held, caller.thread).ok_or(Error::PeerGone)?.0.context.words();
        let post = Post {
            endpoint,
            header: Header::new(header.label(), header.bytes() as u32, 0).with_arrival(Arrival::Post),
            words,
            badge: capability.badge,
            session,
            service_id: caller.shared.service_id.load(Relaxed),
            process_id: caller.shared.process_id.load(Relaxed),
            via: (capability.granule, slot.generation()),
        };
        let (mut body, mut held) = self.lock(request.held, endpoint).ok_or(Error::StaleHandle)?;
        if !self.pass_over_the_ended(&mut held, &mut body) {
            return Err(Stop::Again);
        }
        if let Some(receiver) = body.pop_any(&self.memory)
            && let Some((mut thread, _)) = self.lock(&mut held, receiver)
        {
            answer_post(&mut thread, post.header, post.words, post.badge);
            thread.context.set_sender(post.service_id, post.process_id);
            thread.wait_sequence += 1;
            self.counters.messages.fetch_add(1, Relaxed);
            self.make_ready(request.hart, receiver, &mut thread);
            return Ok(0);
        }
        let post = self.create(&mut held, caller.process, post)?;
        body.posts.push_back(&self.memory, post);
        slot.begin_post();
        Ok(0)
    }

    pub(super) fn endpoint_create(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [rank, max_bytes, max_capabilities, ..] = request.arguments;
        let own_rank = u64::from(request.caller.shared.rank.load(Relaxed));
        if rank > own_rank.min(u64::from(RANK_MAX)) || max_capabilities > MESSAGE_CAPABILITIES_MAX as u64 {
            return Err(Error::InvalidArgument.into());
        }
        if max_bytes > MESSAGE_BYTES_MAX as u64 {
            return Err(Error::TooLarge.into());
        }
        let endpoint = Endpoint::new(rank as u32, max_bytes as u32, max_capabilities as u32);
        self.create_named(request, Kind::Endpoint, endpoint)
    }

    pub(super) fn endpoint_mint(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [target, badge, rights, ..] = request.arguments;
        let caller = &request.caller;
        let source = self.memory.capability(caller.shared, target, Kind::Endpoint, Rights::MINT)?;
        let endpoint = Id::<Endpoint>::from_raw(source.object).ok_or(Error::StaleHandle)?;
        let rights = u32::try_from(rights).ok().and_then(Rights::from_bits).ok_or(Error::NotPermitted)?;
        if badge == 0 || source.badge != 0 || !(Rights::CALL | Rights::POST).contains(rights) {
            return Err(Error::InvalidArgument.into());
        }
        if !source.rights.contains(rights) {
            return Err(Error::NotPermitted.into());
        }
        let generation = self.lock(request.held, endpoint).ok_or(Error::StaleHandle)?.0.generation;
        let session = self.create(request.held, caller.process, Session { endpoint, badge, generation })?;
        let mut capability = Capability::new(Kind::Endpoint, rights, source.object);
        (capability.badge, capability.session) = (badge, Some(session));
        match self.insert(request.held, caller, source.granule, capability) {
            Ok(handle) => Ok(handle.0),
            Err(error) => {
                if let Some((guard, mut held)) = self.lock(request.held, session) {
                    self.destroy(&mut held, session, guard);
                }
                Err(error.into())
            }
        }
    }

    /// The generation of a capability's session: 0 if it has no badge.
    ///
    /// # Errors
    ///
    /// `PeerGone`: the session is over, because a receiver's process died since.
    pub(super) fn session_of(
        &self,
        held: &mut Held<'_, sync::Object>,
        capability: &Capability,
        generation: u32,
    ) -> Result<u32, Error> {
        let Some(session) = capability.session else { return Ok(0) };
        let is_current =
            self.lock(held, session).is_some_and(|(session, _)| session.generation == generation);
        if is_current { Ok(generation) } else { Err(Error::PeerGone) }
    }

    /// The last capability with a badge is gone: whoever receives is told, now or next time.
    pub(crate) fn session_ended(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, sync::Structure>,
        id: Id<Session>,
    ) {
        let Some((endpoint, badge, session)) =
            self.lock(held, id).map(|(session, _)| (session.endpoint, session.badge, session.generation))
        else {
            return;
        };
        // A successor knows nothing of the sessions before it, and may have given the same badge to somebody else.
        if self.lock(held, endpoint).is_none_or(|(body, _)| body.is_over(session)) {
            if let Some((guard, mut held)) = self.lock(held, id) {
                self.destroy(&mut held, id, guard);
            }
            return;
        }
        let Some((mut body, mut held)) = self.lock(held, endpoint) else { return };
        while !self.pass_over_the_ended(&mut held, &mut body) {}
        let Some(receiver) = body.pop_any(&self.memory) else {
            body.gone.push_back(&self.memory, id);
            return;
        };
        if let Some((guard, mut inner)) = self.lock(&mut held, id) {
            self.destroy(&mut inner, id, guard);
        }
        if let Some((mut thread, _)) = self.lock(&mut held, receiver) {
            answer_event(&mut thread, Arrival::BadgeGone, 0, badge);
            thread.wait_sequence += 1;
            self.make_ready(hart, receiver, &mut thread);
        }
    }

    /// Threads that wait here first, and whose process has ended, wait no longer: what comes is not for them, and the
    /// teardown finds them wherever they are. Yields whether those were all.
    pub(super) fn pass_over_the_ended(
        &self,
        held: &mut Held<'_, sync::Object>,
        body: &mut Guard<'_, Endpoint>,
    ) -> bool {
        for _ in 0..WAITS_A_STEP {
            let mut more = false;
            if let Some(first) = body.listeners.first(&self.memory).filter(|&id| self.has_ended(id)) {
                body.listeners.remove(&self.memory, first);
                more |= self.lock(held, first).map(|(mut thread, _)| thread.state = State::Ready).is_some();
            }
            if let Some(first) = body.receivers.first(&self.memory).filter(|&id| self.has_ended(id)) {
                body.receivers.remove(&self.memory, first);
                more |= self.lock(held, first).map(|(mut thread, _)| thread.state = State::Ready).is_some();
            }
            if !more {
                return true;
            }
        }
        false
    }

    /// Whether a thread's process has ended, and the teardown has not come to the thread yet.
    fn has_ended(&self, thread: Id<Thread>) -> bool {
        let process = self.memory.shared_at::<Thread>(thread.granule()).process.load(Relaxed);
        self.memory.shared_at::<Process>(process).has_ended()
    }

    pub(super) fn endpoint_seal(&self, request: Request<'_, '_, '_>) -> Outcome {
        let endpoint: Id<Endpoint> =
            self.object(&request.caller, request.arguments[0], Kind::Endpoint, Rights::MANAGE)?;
        self.memory.shared(endpoint).ok_or(Error::StaleHandle)?;
        let (mut structure, mut held) = self.structure(request.held);
        if self.seal_step(request.hart, &mut structure, &mut held, endpoint) {
            Ok(0)
        } else {
            Err(Stop::Again)
        }
    }

    /// One step of what follows when an endpoint is sealed; yields whether it was the last. While more are needed it is on
    /// the list of those that end, for whoever sealed it may end before that, or lose its capability.
    fn seal_step(
        &self,
        hart: &mut Hart,
        structure: &mut StructureState,
        held: &mut Held<'_, sync::Structure>,
        id: Id<Endpoint>,
    ) -> bool {
        let is_empty = self.empty_endpoint(hart, held, id, Error::Sealed);
        let Some((mut guard, _)) = self.lock(held, id) else { return true };
        let is_listed = Ending::links(guard.shared()).linked();
        match (is_empty, is_listed) {
            (false, false) => {
                guard.set_sealing(true);
                structure.ending.push_back(&self.memory, id);
                self.begin_reclaiming();
            }
            (true, true) if guard.is_sealing() => {
                guard.set_sealing(false);
                structure.ending.remove(&self.memory, id);
            }
            _ => {}
        }
        is_empty
    }

    /// One step of whatever an endpoint is on the list of those that end for.
    pub(crate) fn ending_step(
        &self,
        hart: &mut Hart,
        structure: &mut StructureState,
        held: &mut Held<'_, sync::Structure>,
        id: Id<Endpoint>,
    ) {
        if self.lock(held, id).is_some_and(|(guard, _)| guard.is_sealing()) {
            self.seal_step(hart, structure, held, id);
        } else {
            self.end_endpoint(hart, structure, held, id);
        }
    }

    /// Seals an endpoint and ends a few of the waits at it; yields whether that was all of them.
    fn empty_endpoint(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, sync::Structure>,
        endpoint: Id<Endpoint>,
        error: Error,
    ) -> bool {
        let Some((mut body, mut held)) = self.lock(held, endpoint) else { return true };
        body.seal();
        for _ in 0..WAITS_A_STEP {
            let caller = body.callers.first(&self.memory);
            if let Some(caller) = caller {
                self.remove_caller(&mut body, caller);
            }
            if let Some(id) = caller.or_else(|| body.pop_any(&self.memory)) {
                if let Some((mut thread, _)) = self.lock(&mut held, id) {
                    self.thaw(&mut thread);
                    thread.wait_sequence += 1;
                    self.wake(hart, id, &mut thread, Err(error));
                }
            } else if let Some(post) = body.posts.pop_front(&self.memory) {
                if let Some((guard, mut inner)) = self.lock(&mut held, post) {
                    let via = guard.via;
                    self.destroy(&mut inner, post, guard);
                    self.return_credit(via);
                }
            } else {
                return true;
            }
        }
        false
    }

    /// One step of the end of an endpoint. While more are needed it is on the list of those that end.
    pub(crate) fn end_endpoint(
        &self,
        hart: &mut Hart,
        structure: &mut StructureState,
        held: &mut Held<'_, sync::Structure>,
        id: Id<Endpoint>,
    ) {
        let is_cleared = self.clear_endpoint(hart, held, id);
        let Some((mut guard, mut inner)) = self.lock(held, id) else { return };
        guard.set_sealing(false);
        let is_listed = Ending::links(guard.shared()).linked();
        match (is_cleared, is_listed) {
            (false, true) => {}
            (false, false) => {
                structure.ending.push_back(&self.memory, id);
                self.begin_reclaiming();
            }
            (true, _) => {
                if is_listed {
                    structure.ending.remove(&self.memory, id);
                }
                self.destroy(&mut inner, id, guard);
            }
        }
    }

    /// One step of what comes before an endpoint's end: nobody waits there any more, and no end of a badge. Yields
    /// whether that is so.
    fn clear_endpoint(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, sync::Structure>,
        id: Id<Endpoint>,
    ) -> bool {
        if !self.empty_endpoint(hart, held, id, Error::PeerGone) {
            return false;
        }
        let Some((mut guard, mut inner)) = self.lock(held, id) else { return true };
        for _ in 0..WAITS_A_STEP {
            let Some(session) = guard.gone.pop_front(&self.memory) else { return true };
            if let Some((session_guard, mut leaf)) = self.lock(&mut inner, session) {
                self.destroy(&mut leaf, session, session_guard);
            }
        }
        false
    }
}
