//! Memory that a device reads and writes by itself: create it, learn where it is, take it back.
//!
//! It belongs to whoever created the device's window, within the pages that were promised then, and never
//! goes to the pool while the device may still use it: what nobody reaches any more waits in quarantine until
//! the holder of the window's `MANAGE` says that the device was reset and read back as reset.

use super::{Outcome, Request, Stop};
use crate::arch::Arch;
use crate::kernel::Kernel;
use crate::memory::frame::Row;
use crate::memory::{FrameKind, Id};
use crate::object::capability::Capability;
use crate::object::{Device, Vmo};
use crate::sync::{Held, Nothing, Structure};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::{DMA_PAGES_MAX, PAGE_SIZE};
use nexus_abi::{Error, Kind, Rights};

/// What `dma_release` is told of a device: it was reset, or it cannot be.
const RETIRE: u64 = 1;

impl<A: Arch> Kernel<A> {
    pub(super) fn dma_create(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [device, bytes, ..] = request.arguments;
        let caller = &request.caller;
        let via = self.memory.capability(caller.shared, device, Kind::DeviceMmio, Rights::MAP)?;
        let device = Id::<Device>::from_raw(via.object).ok_or(Error::StaleHandle)?;
        if bytes == 0 {
            return Err(Error::InvalidArgument.into());
        }
        let pages = bytes.div_ceil(PAGE_SIZE as u64);
        if pages > DMA_PAGES_MAX as u64 {
            return Err(Error::TooLarge.into());
        }
        let vmo = self.create_row(request.held, device, pages)?;
        // Derived from the window: whoever takes that back takes the memory back.
        let rights = Rights::READ | Rights::WRITE | Rights::PHYSICAL;
        let capability = Capability::new(Kind::Vmo, rights, vmo.raw());
        self.insert(request.held, caller, via.granule, capability).map(|handle| handle.0).map_err(|error| {
            // Nobody was told where it is, so no device can know.
            let (mut structure, mut held) = self.structure(request.held);
            if let Some((mut body, _)) = self.lock(&mut held, vmo) {
                body.exposed = false;
            }
            self.vmo_unreachable(&mut structure, &mut held, vmo);
            error.into()
        })
    }

    /// Promises a device's memory in the account of whoever created its window.
    pub(super) fn promise_memory(
        &self,
        held: &mut Held<'_, Nothing>,
        id: Id<Device>,
        pages: u64,
    ) -> Result<(), Error> {
        let owner = self.owner_of(id).ok_or(Error::StaleHandle)?;
        let (mut device, mut held) = self.lock(held, id).ok_or(Error::StaleHandle)?;
        let (mut owner, _) = self.lock(&mut held, owner).ok_or(Error::StaleHandle)?;
        owner.account.reserve(pages)?;
        device.dma_pages = pages;
        Ok(())
    }

    /// Creates memory for a device out of what it was promised, gathering the frames in steps.
    fn create_row(&self, held: &mut Held<'_, Nothing>, id: Id<Device>, pages: u64) -> Result<Id<Vmo>, Stop> {
        let owner = self.owner_of(id).ok_or(Error::StaleHandle)?;
        let (mut device, mut held) = self.lock(held, id).ok_or(Error::StaleHandle)?;
        if device.retired {
            return Err(Error::Sealed.into());
        }
        if pages > device.dma_pages - device.dma_used {
            return Err(Error::NoMemory.into());
        }
        let count = pages as u32;
        let gathered = self.memory.extend_row(&mut device.row, count, FrameKind::Data as u8)?;
        let first = gathered.ok_or(Stop::Again)?;
        let (mut body, _) = self.lock(&mut held, owner).ok_or(Error::StaleHandle)?;
        let vmo = Vmo::row(first, pages as usize, id);
        let created = body.account.create(&self.memory, owner.granule(), vmo).inspect_err(|_| {
            self.memory.release_row(&mut Row { first, count });
        })?;
        device.dma_used += pages;
        body.account.populated += pages;
        Ok(created)
    }

    pub(super) fn dma_address(&self, request: Request<'_, '_, '_>) -> Outcome {
        let vmo: Id<Vmo> = self.object(&request.caller, request.arguments[0], Kind::Vmo, Rights::PHYSICAL)?;
        let (body, _) = self.lock(request.held, vmo).ok_or(Error::StaleHandle)?;
        let (first, _) = body.device().ok_or(Error::NotPermitted)?;
        Ok(self.memory.address(first).0)
    }

    pub(super) fn dma_release(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [device, outcome, ..] = request.arguments;
        let device: Id<Device> = self.object(&request.caller, device, Kind::DeviceMmio, Rights::MANAGE)?;
        if outcome > RETIRE {
            return Err(Error::InvalidArgument.into());
        }
        let (mut structure, mut held) = self.structure(request.held);
        let first = {
            let (mut body, _) = self.lock(&mut held, device).ok_or(Error::StaleHandle)?;
            if body.retired {
                return Err(Error::Sealed.into());
            }
            body.retired = outcome == RETIRE;
            if body.retired { None } else { body.quarantine.first(&self.memory) }
        };
        let Some(vmo) = first else { return Ok(0) };
        if let Some((mut body, _)) = self.lock(&mut held, vmo) {
            body.exposed = false;
        }
        self.reclaim_vmo_step(&mut structure, &mut held, vmo);
        Err(Stop::Again)
    }

    /// Memory that nobody reaches any more but its device.
    pub(super) fn quarantine(
        &self,
        held: &mut Held<'_, Structure>,
        device: Id<Device>,
        vmo: Id<Vmo>,
        pages: u64,
    ) {
        if let Some((mut body, _)) = self.lock(held, device) {
            body.quarantine.push_back(&self.memory, vmo);
            body.quarantined += pages;
            self.counters.quarantined_pages.fetch_add(pages, Relaxed);
        }
    }

    /// Pages of a device's memory went back to the pool, or (`lost`) for good.
    pub(super) fn forget_row(
        &self,
        held: &mut Held<'_, Structure>,
        device: Id<Device>,
        vmo: Id<Vmo>,
        (pages, lost): (u64, bool),
    ) {
        let Some((mut body, _)) = self.lock(held, device) else { return };
        body.dma_used -= pages;
        if lost {
            body.dma_pages -= pages;
        }
        if self.memory.shared_at::<Vmo>(vmo.granule()).linked() {
            body.quarantine.remove(&self.memory, vmo);
            body.quarantined -= pages;
            self.counters.quarantined_pages.fetch_sub(pages, Relaxed);
        }
    }
}
