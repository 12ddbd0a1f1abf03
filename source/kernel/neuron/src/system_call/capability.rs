//! Capabilities: copy, hand over, query, close, revoke.

use super::{Caller, Outcome, Request, Stop};
use crate::arch::Arch;
use crate::kernel::{Hart, Kernel, StructureState};
use crate::memory::slab::Object;
use crate::memory::{Granule, Id, Memory};
use crate::object::capability::{Capability, CapabilitySlot, Use};
use crate::object::derivation::NodeOf;
use crate::object::{Device, Endpoint, Irq, Mapping, Notification, Process, Thread, Timer, Vmo};
use crate::sync::{Before, Held, Nothing, Structure};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::capability::Qos;
use nexus_abi::records::CapabilityInfo;
use nexus_abi::{Error, Handle, Kind, Rights};

/// Nodes of the tree that one step moves before interrupts are let in.
const NODES_A_STEP: usize = 8;
/// Capabilities, mappings or waiting calls that one step of a revocation ends.
const REVOKED_A_STEP: usize = 8;

impl<A: Arch> Kernel<A> {
    /// Creates an object in the caller's account and gives the caller the first capability to it.
    pub(crate) fn create_named<T: Object>(
        &self,
        request: Request<'_, '_, '_>,
        kind: Kind,
        value: T,
    ) -> Outcome
    where
        Nothing: Before<T::Level>,
        T::Level: Before<crate::sync::Process>,
    {
        let object = self.create(request.held, request.caller.process, value)?;
        let capability = Capability::new(kind, kind.rights(), object.raw());
        match self.insert(request.held, &request.caller, 0, capability) {
            Ok(handle) => Ok(handle.0),
            Err(error) => {
                if let Some((guard, mut held)) = self.lock(request.held, object) {
                    self.destroy(&mut held, object, guard);
                }
                Err(error.into())
            }
        }
    }

    /// Puts a capability into the caller's table, below `parent` in the tree (0: a root).
    pub(crate) fn insert(
        &self,
        held: &mut Held<'_, Nothing>,
        caller: &Caller<'_>,
        parent: Granule,
        capability: Capability,
    ) -> Result<Handle, Error> {
        self.insert_into(held, caller.process, parent, capability)
    }

    /// Puts a capability into a process's table, below `parent` in the tree (0: a root).
    pub(crate) fn insert_into(
        &self,
        held: &mut Held<'_, Nothing>,
        process: Id<Process>,
        parent: Granule,
        capability: Capability,
    ) -> Result<Handle, Error> {
        let (_structure, mut held) = self.structure(held);
        self.memory.may_derive_from(parent)?;
        let shared = self.memory.shared(process).ok_or(Error::PeerGone)?;
        let (mut body, _) = self.lock(&mut held, process).ok_or(Error::PeerGone)?;
        let granule = body.take_entry(&self.memory, shared, process.granule(), Use::Ordinary)?;
        let slot = self.memory.capability_slot(granule);
        slot.write(&capability);
        self.memory.node_link(granule, parent);
        self.count_reference(&capability);
        Ok(slot.handle())
    }

    /// Counts one more capability to an object (and to its session).
    pub(crate) fn count_reference(&self, capability: &Capability) {
        let raw = capability.object;
        match capability.kind {
            Kind::Process => self.count::<Process>(raw),
            Kind::Thread => self.count::<Thread>(raw),
            Kind::Endpoint => {
                self.count::<Endpoint>(raw);
                if let Some(session) = capability.session {
                    self.memory.reference(session);
                }
            }
            Kind::Notification => self.count::<Notification>(raw),
            Kind::Vmo => self.count::<Vmo>(raw),
            Kind::DeviceMmio => self.count::<Device>(raw),
            Kind::Irq => self.count::<Irq>(raw),
            Kind::Timer => self.count::<Timer>(raw),
            Kind::Reply
            | Kind::DeviceAuthority
            | Kind::ProcessAuthority
            | Kind::QosAuthority
            | Kind::SystemControl => {}
        }
    }

    fn count<T>(&self, raw: u64)
    where
        T: Object,
    {
        if let Some(id) = Id::<T>::from_raw(raw) {
            self.memory.reference(id);
        }
    }

    pub(super) fn cap_dup(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [source, rights, ..] = request.arguments;
        let copy = self.attenuated(&request.caller, source, rights)?;
        Ok(self.insert(request.held, &request.caller, copy.granule, copy)?.0)
    }

    pub(super) fn authority_narrow(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [source, first, last, ..] = request.arguments;
        let caller = &request.caller;
        let (_, found) = self.memory.find_capability(caller.shared, Handle(source))?;
        if !matches!(found.kind, Kind::ProcessAuthority | Kind::QosAuthority) {
            return Err(Error::WrongKind.into());
        }
        let mut copy = self.attenuated(caller, source, found.rights.bits().into())?;
        let is_no_class = found.kind == Kind::QosAuthority && Qos::from_number(last).is_none();
        if first > last || (found.kind == Kind::QosAuthority && first != 0) || is_no_class {
            return Err(Error::InvalidArgument.into());
        }
        if first < copy.object || last > copy.badge {
            return Err(Error::NotPermitted.into());
        }
        (copy.object, copy.badge) = (first, last);
        Ok(self.insert(request.held, caller, copy.granule, copy)?.0)
    }

    pub(super) fn cap_transfer_to(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [process, source, rights, ..] = request.arguments;
        let caller = &request.caller;
        let target: Id<Process> = self.object(caller, process, Kind::Process, Rights::MANAGE)?;
        if self.memory.shared(target).ok_or(Error::StaleHandle)?.has_ended() {
            return Err(Error::PeerGone.into());
        }
        let copy = self.attenuated(caller, source, rights)?;
        Ok(self.insert_into(request.held, target, copy.granule, copy)?.0)
    }

    /// A capability of the caller with at most the given rights, still standing where the original is.
    fn attenuated(&self, caller: &Caller<'_>, handle: u64, rights: u64) -> Result<Capability, Error> {
        let (slot, mut capability) = self.memory.find_capability(caller.shared, Handle(handle))?;
        if slot.frozen() {
            return Err(Error::StaleHandle);
        }
        if capability.kind == Kind::Reply {
            return Err(Error::InvalidArgument);
        }
        let rights = u32::try_from(rights).ok().and_then(Rights::from_bits).ok_or(Error::NotPermitted)?;
        if !capability.rights.contains(rights) {
            return Err(Error::NotPermitted);
        }
        if !self.is_alive(&capability) {
            return Err(Error::StaleHandle);
        }
        capability.rights = rights;
        Ok(capability)
    }

    /// Whether the object that a capability names is still there.
    pub(crate) fn is_alive(&self, capability: &Capability) -> bool {
        let raw = capability.object;
        match capability.kind {
            Kind::Process => self.lives::<Process>(raw),
            Kind::Thread | Kind::Reply => self.lives::<Thread>(raw),
            Kind::Endpoint => self.lives::<Endpoint>(raw),
            Kind::Notification => self.lives::<Notification>(raw),
            Kind::Vmo => self.lives::<Vmo>(raw),
            Kind::DeviceMmio => self.lives::<Device>(raw),
            Kind::Irq => self.lives::<Irq>(raw),
            Kind::Timer => self.lives::<Timer>(raw),
            Kind::DeviceAuthority | Kind::ProcessAuthority | Kind::QosAuthority | Kind::SystemControl => true,
        }
    }

    fn lives<T: Object>(&self, raw: u64) -> bool {
        Id::<T>::from_raw(raw).is_some_and(|id| self.memory.shared(id).is_some())
    }

    pub(super) fn cap_query(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        let [handle, to, ..] = request.arguments;
        let (_, capability) = self.memory.find_capability(request.caller.shared, Handle(handle))?;
        let info = self.describe(request.held, &capability).ok_or(Error::StaleHandle)?;
        let process = request.caller.process;
        self.write_record(&mut request.user(), process, to, &info)?;
        Ok(0)
    }

    /// What there is to tell of a capability; `None` when its object is gone.
    pub(crate) fn describe(
        &self,
        held: &mut Held<'_, Nothing>,
        capability: &Capability,
    ) -> Option<CapabilityInfo> {
        if !self.is_alive(capability) {
            return None;
        }
        let mut info = CapabilityInfo {
            handle: self.memory.capability_slot(capability.granule).handle(),
            kind: capability.kind as u32,
            rights: capability.rights.bits(),
            ..CapabilityInfo::default()
        };
        match capability.kind {
            Kind::Endpoint => info.badge = capability.badge,
            Kind::Process => {
                let process = Id::<Process>::from_raw(capability.object)?;
                info.badge = self.memory.shared(process)?.process_id.load(Relaxed);
            }
            Kind::Irq => info.badge = self.lock(held, Id::<Irq>::from_raw(capability.object)?)?.0.line.into(),
            Kind::Vmo => {
                let (vmo, _) = self.lock(held, Id::<Vmo>::from_raw(capability.object)?)?;
                info.bytes = (vmo.page_count * nexus_abi::limits::PAGE_SIZE) as u64;
            }
            Kind::DeviceMmio => {
                let (device, _) = self.lock(held, Id::<Device>::from_raw(capability.object)?)?;
                (info.base, info.bytes, info.badge) = (device.base, device.bytes, device.quarantined);
            }
            Kind::ProcessAuthority => (info.base, info.badge) = (capability.object, capability.badge),
            Kind::QosAuthority => info.badge = capability.badge,
            _ => {}
        }
        Some(info)
    }

    pub(super) fn cap_close(&self, request: Request<'_, '_, '_>) -> Outcome {
        let handle = Handle(request.arguments[0]);
        let (slot, capability) = self.memory.find_capability(request.caller.shared, handle)?;
        if slot.frozen() {
            return Err(Error::Busy.into());
        }
        let done = self.close_entry(request.hart, request.held, request.caller.process, capability.granule);
        if done { Ok(0) } else { Err(Stop::Again) }
    }

    /// Drops the capability of an entry and frees it; its children go to its parent. `false`: that takes another step.
    /// A revocation that was begun from it, and whose caller died, is carried to its end first.
    pub(crate) fn close_entry(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, Nothing>,
        process: Id<Process>,
        granule: Granule,
    ) -> bool {
        let slot = self.memory.capability_slot(granule);
        let Some(capability) = slot.read(granule) else { return true };
        if slot.revoking() && !self.revoke_step(hart, held, granule) {
            return false;
        }
        let (mut structure, mut held) = self.structure(held);
        for _ in 0..NODES_A_STEP {
            if self.memory.node_dissolve_step(granule) {
                // The entry is out of the tree.
                if let Some((mut body, _)) = self.lock(&mut held, process) {
                    body.free_entry(&self.memory, granule);
                }
                self.release_object(hart, &mut structure, &mut held, &capability);
                if capability.kind == Kind::Reply {
                    self.open_call_freed(hart, &mut held, process);
                }
                return true;
            }
        }
        false
    }

    /// One capability to an object is gone; with the last, so is the object (or its session).
    fn release_object(
        &self,
        hart: &mut Hart,
        structure: &mut StructureState,
        held: &mut Held<'_, Structure>,
        capability: &Capability,
    ) {
        let raw = capability.object;
        match capability.kind {
            Kind::Reply => self.fail_call(hart, &mut held.above(), capability),
            Kind::Process => {
                self.release_last::<Process>(raw, |id| self.process_unreferenced(structure, held, id))
            }
            Kind::Endpoint => {
                if let Some(session) = capability.session
                    && self.memory.dereference(session)
                {
                    self.session_ended(hart, held, session);
                }
                self.release_last::<Endpoint>(raw, |id| {
                    self.end_endpoint(hart, structure, held, id);
                });
            }
            Kind::Notification => {
                self.release_last::<Notification>(raw, |id| self.end_notification(hart, held, id));
            }
            Kind::Vmo => self.release_last::<Vmo>(raw, |id| self.vmo_unreferenced(structure, held, id)),
            Kind::DeviceMmio => self.release_last::<Device>(raw, |id| {
                self.device_unreferenced(structure, held, id);
            }),
            Kind::Irq => self.release_last::<Irq>(raw, |id| self.end_irq(held, id)),
            Kind::Timer => self.release_last::<Timer>(raw, |id| self.end_timer(held, id)),
            // A thread nobody holds goes on until it ends; the roots have no object.
            Kind::Thread => self.release_last::<Thread>(raw, |_| {}),
            Kind::DeviceAuthority | Kind::ProcessAuthority | Kind::QosAuthority | Kind::SystemControl => {}
        }
    }

    fn release_last<T: Object>(&self, raw: u64, end: impl FnOnce(Id<T>)) {
        if let Some(id) = Id::<T>::from_raw(raw)
            && self.memory.dereference(id)
        {
            end(id);
        }
    }

    pub(super) fn cap_revoke(&self, request: Request<'_, '_, '_>) -> Outcome {
        let handle = Handle(request.arguments[0]);
        let (slot, capability) = self.memory.find_capability(request.caller.shared, handle)?;
        slot.set_revoking(true);
        if self.revoke_step(request.hart, request.held, capability.granule) {
            Ok(0)
        } else {
            Err(Stop::Again)
        }
    }

    /// Takes back a few of what derives from a capability that is being revoked; yields whether that was all.
    fn revoke_step(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>, root: Granule) -> bool {
        let mut place = root;
        for _ in 0..REVOKED_A_STEP {
            place = self.memory.deepest(place);
            if place == root {
                self.memory.capability_slot(root).set_revoking(false);
                return true;
            }
            let parent = self.memory.node(place).parent();
            let is_gone = match self.memory.node_of(place) {
                NodeOf::Capability => self.revoke_entry_step(hart, held, place),
                NodeOf::Mapping => self.memory.id_at::<Mapping>(place).is_none_or(|mapping| {
                    let (mut structure, mut held) = self.structure(held);
                    self.unmap_step(&mut structure, &mut held, mapping)
                }),
            };
            if is_gone {
                place = parent;
            }
        }
        false
    }

    /// Takes one derived capability back, after the calls that wait through it, or carry it, have failed: one a step.
    /// Yields whether it is out of the tree.
    fn revoke_entry_step(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>, granule: Granule) -> bool {
        let slot = self.memory.capability_slot(granule);
        let user = match slot.frozen() {
            true => self.memory.id_at::<Thread>(slot.owner()),
            false => self.memory.user_of(slot),
        };
        if let Some(user) = user {
            // New ones would otherwise come as fast as they go.
            slot.take_back();
            self.end_wait(hart, held, user, Err(Error::Revoked));
            return false;
        }
        if slot.is_husk() {
            // Nothing derives from it any more; its entry is freed with the other husks.
            self.memory.node_unlink(granule);
            return true;
        }
        let process = self.memory.id_at::<Process>(slot.owner());
        process.is_none_or(|process| self.close_entry(hart, held, process, granule))
    }

    /// One step of what is left of capabilities that were handed over; yields whether there was something to do.
    pub(crate) fn dissolve_husks_step(&self, held: &mut Held<'_, Nothing>) -> bool {
        let husk = self.husks.load(Relaxed);
        if husk == 0 {
            return false;
        }
        let (_structure, mut held) = self.structure(held);
        if (0..NODES_A_STEP).any(|_| self.memory.node_dissolve_step(husk)) {
            let slot = self.memory.capability_slot(husk);
            self.husks.store(slot.next_husk(), Relaxed);
            if let Some(process) = self.memory.id_at::<Process>(slot.owner())
                && let Some((mut body, _)) = self.lock(&mut held, process)
            {
                body.free_entry(&self.memory, husk);
            }
        }
        true
    }
}

impl Memory {
    /// The entry at a granule, if that is (still) one of a capability table.
    pub fn capability_slot_if(&self, granule: Granule) -> Option<&CapabilitySlot> {
        let kind = self.info(Memory::frame_of(granule)).kind();
        (kind == crate::memory::FrameKind::Capabilities as u8).then(|| self.capability_slot(granule))
    }
}
