//! Devices: capabilities for windows and lines, binding and acknowledging interrupts.

use super::{Outcome, Request};
use crate::arch::Arch;
use crate::kernel::{Hart, Kernel, StructureState};
use crate::memory::Id;
use crate::object::capability::Capability;
use crate::object::{Device, Irq, Notification, Timer};
use crate::sync::{Held, Structure};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::{Error, Kind, Rights};

const PAGE: u64 = PAGE_SIZE as u64;
/// The first address beyond what Sv39 can name physically (56 bits).
const PHYSICAL_END: u64 = 1 << 56;

impl<A: Arch> Kernel<A> {
    pub(super) fn device_cap_create(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [authority, base, bytes, dma_pages, ..] = request.arguments;
        let caller = &request.caller;
        self.memory.capability(caller.shared, authority, Kind::DeviceAuthority, Rights::CREATE)?;
        if bytes == 0 {
            return Err(Error::InvalidArgument.into());
        }
        if !base.is_multiple_of(PAGE) || !bytes.is_multiple_of(PAGE) {
            return Err(Error::Unaligned.into());
        }
        if base.checked_add(bytes).is_none_or(|end| end > PHYSICAL_END) {
            return Err(Error::OutOfRange.into());
        }
        if self.memory.overlaps(base, bytes) || self.arch.is_kernel_device(base, bytes) {
            return Err(Error::NotPermitted.into());
        }
        let device = {
            let (mut structure, mut held) = self.structure(request.held);
            for other in structure.devices.iter(&self.memory) {
                let Some((other, _)) = self.lock(&mut held, other) else { continue };
                if base < other.base + other.bytes && other.base < base + bytes {
                    return Err(Error::Overlap.into());
                }
            }
            let device = self.create(&mut held, caller.process, Device::new(base, bytes))?;
            structure.devices.push_back(&self.memory, device);
            device
        };
        let capability = Capability::new(Kind::DeviceMmio, Kind::DeviceMmio.rights(), device.raw());
        let promised = self.promise_memory(request.held, device, dma_pages);
        promised.and_then(|()| self.insert(request.held, caller, 0, capability)).map_or_else(
            |error| {
                let (mut structure, mut held) = self.structure(request.held);
                self.end_device(&mut structure, &mut held, device);
                Err(error.into())
            },
            |handle| Ok(handle.0),
        )
    }

    /// The last capability to a window is gone: so is the window, unless its device may still use memory.
    pub(crate) fn device_unreferenced(
        &self,
        structure: &mut StructureState,
        held: &mut Held<'_, Structure>,
        id: Id<Device>,
    ) {
        let kept = self.lock(held, id).is_some_and(|(device, _)| device.retired || device.dma_used > 0);
        if !kept {
            self.end_device(structure, held, id);
        }
    }

    /// A window that is over. Memory of its device went before it.
    pub(crate) fn end_device(
        &self,
        structure: &mut StructureState,
        held: &mut Held<'_, Structure>,
        id: Id<Device>,
    ) {
        if self.memory.shared(id).is_some() {
            structure.devices.remove(&self.memory, id);
        }
        let Some(owner) = self.owner_of(id) else { return };
        if let Some((mut guard, mut inner)) = self.lock(held, id) {
            self.memory.release_row(&mut guard.row);
            if let Some((mut owner, _)) = self.lock(&mut inner, owner) {
                owner.account.unreserve(guard.dma_pages);
            }
            self.destroy(&mut inner, id, guard);
        }
    }

    pub(super) fn irq_cap_create(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [authority, line, ..] = request.arguments;
        let caller = &request.caller;
        self.memory.capability(caller.shared, authority, Kind::DeviceAuthority, Rights::CREATE)?;
        let word = self.lines.get(line as usize).filter(|_| line > 0 && line <= self.arch.last_line().into());
        let word = word.ok_or(Error::InvalidArgument)?;
        if word.load(Relaxed) != 0 {
            return Err(Error::Busy.into());
        }
        let line = line as u32;
        let irq = self.create(request.held, caller.process, Irq { line, notification: None, bits: 0 })?;
        word.store(irq.raw(), Relaxed);
        let capability = Capability::new(Kind::Irq, Kind::Irq.rights(), irq.raw());
        self.insert(request.held, caller, 0, capability).map(|handle| handle.0).map_err(|error| {
            let (_structure, mut held) = self.structure(request.held);
            self.end_irq(&mut held, irq);
            error.into()
        })
    }

    /// A line that nobody holds any more: it is silenced.
    pub(crate) fn end_irq(&self, held: &mut Held<'_, Structure>, id: Id<Irq>) {
        if let Some((guard, mut inner)) = self.lock(held, id) {
            self.arch.mask(guard.line);
            self.lines[guard.line as usize].store(0, Relaxed);
            self.destroy(&mut inner, id, guard);
        }
    }

    pub(super) fn irq_bind(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [irq, notification, bits, ..] = request.arguments;
        let irq: Id<Irq> = self.object(&request.caller, irq, Kind::Irq, Rights::BIND)?;
        let notification = self.to_signal(&request.caller, notification)?;
        if bits == 0 {
            return Err(Error::InvalidArgument.into());
        }
        let (mut body, _) = self.lock(request.held, irq).ok_or(Error::StaleHandle)?;
        (body.notification, body.bits) = (Some(notification), bits);
        self.arch.unmask(body.line);
        Ok(0)
    }

    pub(super) fn irq_ack(&self, request: Request<'_, '_, '_>) -> Outcome {
        let irq: Id<Irq> =
            self.object(&request.caller, request.arguments[0], Kind::Irq, Rights::ACKNOWLEDGE)?;
        let (body, _) = self.lock(request.held, irq).ok_or(Error::StaleHandle)?;
        self.arch.unmask(body.line);
        Ok(0)
    }

    /// A notification that nobody holds any more.
    pub(crate) fn end_notification(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, Structure>,
        id: Id<Notification>,
    ) {
        self.empty_notification(hart, held, id);
        if let Some((guard, mut inner)) = self.lock(held, id) {
            self.destroy(&mut inner, id, guard);
        }
    }

    /// A timer that nobody holds any more: it is disarmed.
    pub(crate) fn end_timer(&self, held: &mut Held<'_, Structure>, id: Id<Timer>) {
        if let Some((guard, mut inner)) = self.lock(held, id) {
            let node = crate::deadline::Node::Timer(id.granule());
            self.forget_deadline(node);
            self.destroy(&mut inner, id, guard);
            self.counters.timers.fetch_sub(1, Relaxed);
        }
    }
}
