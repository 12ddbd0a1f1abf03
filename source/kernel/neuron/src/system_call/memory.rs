//! Memory objects: create, resize, read and write, give back.

use super::{Outcome, Request, Stop};
use crate::arch::Arch;
use crate::kernel::{Kernel, StructureState};
use crate::memory::Id;
use crate::object::capability::Capability;
use crate::object::mapping::Shows;
use crate::object::vmo::pages_charged;
use crate::object::{Mapping, Process, Vmo};
use crate::sync::{Held, Nothing, Structure};
use nexus_abi::limits::{PAGE_SIZE, TRANSFER_BYTES_MAX, VMO_PAGES_MAX};
use nexus_abi::{Error, Kind, Rights};

pub(super) const PAGE: u64 = PAGE_SIZE as u64;
/// Pages by which one step of a resize shrinks memory, with the structure lock held.
const SHRUNK_A_STEP: usize = 32;
/// Pages that one step unmaps or gives back before interrupts are let in.
pub(super) const PAGES_A_STEP: usize = 64;

/// Rights of whoever creates ordinary memory: it never tells where it is.
pub const ORDINARY: Rights = Kind::Vmo.rights().difference(Rights::PHYSICAL);

impl<A: Arch> Kernel<A> {
    pub(super) fn vmo_create(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [process, bytes, ..] = request.arguments;
        let owner = self.process_or_self(&request.caller, process, Rights::MANAGE)?;
        if bytes == 0 {
            return Err(Error::InvalidArgument.into());
        }
        let pages = bytes.div_ceil(PAGE);
        if pages > VMO_PAGES_MAX as u64 {
            return Err(Error::TooLarge.into());
        }
        let vmo = self.create_vmo(request.held, owner, pages as usize)?;
        let capability = Capability::new(Kind::Vmo, ORDINARY, vmo.raw());
        match self.insert(request.held, &request.caller, 0, capability) {
            Ok(handle) => Ok(handle.0),
            Err(error) => {
                let (mut structure, mut held) = self.structure(request.held);
                self.vmo_unreachable(&mut structure, &mut held, vmo);
                Err(error.into())
            }
        }
    }

    /// Creates memory in a process's account, all of it promised.
    pub(crate) fn create_vmo(
        &self,
        held: &mut Held<'_, Nothing>,
        owner: Id<Process>,
        pages: usize,
    ) -> Result<Id<Vmo>, Error> {
        let (mut body, _) = self.lock(held, owner).ok_or(Error::PeerGone)?;
        body.account.reserve(pages_charged(pages))?;
        let created = body.account.create(&self.memory, owner.granule(), Vmo::new(pages));
        if created.is_err() {
            body.account.unreserve(pages_charged(pages));
        }
        created
    }

    pub(super) fn vmo_resize(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [target, bytes, ..] = request.arguments;
        let vmo: Id<Vmo> = self.object(&request.caller, target, Kind::Vmo, Rights::RESIZE)?;
        if bytes == 0 {
            return Err(Error::InvalidArgument.into());
        }
        let pages = bytes.div_ceil(PAGE);
        if pages > VMO_PAGES_MAX as u64 {
            return Err(Error::TooLarge.into());
        }
        let pages = pages as usize;
        let (_structure, mut held) = self.structure(request.held);
        let owner = self.owner_of(vmo).ok_or(Error::StaleHandle)?;
        let (ordinary, shrinks, mut mappings) = self
            .lock(&mut held, vmo)
            .filter(|(body, _)| !body.ending)
            .map(|(body, _)| (body.charged() > 0, pages < body.page_count, body.mappings.iter(&self.memory)))
            .ok_or(Error::StaleHandle)?;
        if !ordinary {
            return Err(Error::NotPermitted.into());
        }
        if shrinks && mappings.any(|id| self.needs_beyond(&mut held, id, owner, pages)) {
            return Err(Error::Busy.into());
        }
        let (mut body, mut held) = self.lock(&mut held, vmo).ok_or(Error::StaleHandle)?;
        let (mut owner, _) = self.lock(&mut held, owner).ok_or(Error::StaleHandle)?;
        if !shrinks {
            owner.account.reserve(pages_charged(pages) - body.charged())?;
            body.grow(&self.memory, &mut owner.account, pages).ok_or(Error::NoMemory)?;
            return Ok(0);
        }
        self.shrink_step(&mut owner, &mut body, pages, SHRUNK_A_STEP);
        if body.page_count > pages { Err(Stop::Again) } else { Ok(0) }
    }

    /// Whether a mapping keeps memory from shrinking: it is another process's, or shows what would go.
    fn needs_beyond(
        &self,
        held: &mut Held<'_, Structure>,
        id: Id<Mapping>,
        owner: Id<Process>,
        pages: usize,
    ) -> bool {
        let bytes = self.memory.shared_at::<Mapping>(id.granule()).bytes();
        self.lock(held, id).is_some_and(|(mapping, _)| match mapping.shows {
            Shows::Memory(_, first) => mapping.process != owner || first + (bytes / PAGE) as usize > pages,
            Shows::Registers(_) => false,
        })
    }

    /// Gives back up to `limit` pages at the end of memory, and what was promised for them.
    fn shrink_step(&self, owner: &mut Process, body: &mut Vmo, pages: usize, limit: usize) -> u64 {
        let before = body.charged();
        let released = body.shrink(&self.memory, pages, limit);
        owner.account.populated -= released;
        owner.account.unreserve(before - body.charged());
        released
    }

    pub(super) fn vmo_read(&self, request: Request<'_, '_, '_>) -> Outcome {
        self.vmo_transfer(request, Rights::READ)
    }

    pub(super) fn vmo_write(&self, request: Request<'_, '_, '_>) -> Outcome {
        self.vmo_transfer(request, Rights::WRITE)
    }

    /// Copies between memory and the caller, page by page. An interrupt comes between two of them; the call
    /// is then made again for what is left.
    fn vmo_transfer(&self, mut request: Request<'_, '_, '_>, right: Rights) -> Outcome {
        let [target, offset, address, bytes, ..] = request.arguments;
        let vmo: Id<Vmo> = self.object(&request.caller, target, Kind::Vmo, right)?;
        if bytes > TRANSFER_BYTES_MAX as u64 {
            return Err(Error::TooLarge.into());
        }
        let size = {
            let (body, _) = self.lock(request.held, vmo).ok_or(Error::StaleHandle)?;
            if body.ending {
                return Err(Error::StaleHandle.into());
            }
            if right == Rights::WRITE && body.is_fixed() {
                return Err(Error::NotPermitted.into());
            }
            body.page_count as u64 * PAGE
        };
        if offset.checked_add(bytes).is_none_or(|end| end > size) {
            return Err(Error::OutOfRange.into());
        }
        let process = request.caller.process;
        let access = if right == Rights::READ { Rights::WRITE } else { Rights::READ };
        let mut done = 0;
        while done < bytes {
            let mut held = request.user();
            let user = self.user_page(&mut held, process, address.wrapping_add(done), access)?;
            let place = offset + done;
            let frame = self.vmo_page(&mut held, vmo, (place / PAGE) as usize)?;
            let own = (frame, (place % PAGE) as usize);
            let chunk = (bytes - done).min(PAGE - own.1 as u64).min(PAGE - user.1 as u64);
            let (from, to) = if right == Rights::READ { (own, user) } else { (user, own) };
            self.memory.copy(from, to, chunk as usize);
            done += chunk;
            if done < bytes && self.interrupt_pending(request.hart.index) {
                let left = [(1, place + chunk), (2, address + done), (3, bytes - done)];
                return Err(self.again_with(request.held, request.caller.thread, &left));
            }
        }
        Ok(0)
    }

    /// The last capability to memory is gone: it goes too, unless something is still mapped from it.
    pub(crate) fn vmo_unreferenced(
        &self,
        structure: &mut StructureState,
        held: &mut Held<'_, Structure>,
        vmo: Id<Vmo>,
    ) {
        let mapped = self.lock(held, vmo).is_some_and(|(body, _)| !body.mappings.is_empty());
        if !mapped {
            self.vmo_unreachable(structure, held, vmo);
        }
    }

    /// Memory that nobody can reach goes back in steps, or waits until its device cannot reach it either.
    pub(super) fn vmo_unreachable(
        &self,
        structure: &mut StructureState,
        held: &mut Held<'_, Structure>,
        vmo: Id<Vmo>,
    ) {
        if self.memory.shared_at::<Vmo>(vmo.granule()).linked() {
            return;
        }
        let Some((device, exposed, pages)) =
            self.lock(held, vmo).map(|(body, _)| (body.device(), body.exposed, body.page_count as u64))
        else {
            return;
        };
        match device {
            Some((_, device)) if exposed => self.quarantine(held, device, vmo, pages),
            Some(_) => drop(self.reclaim_vmo_step(structure, held, vmo)),
            None => {
                structure.unreachable.push_back(&self.memory, vmo);
                self.begin_reclaiming();
            }
        }
    }

    /// Gives back some pages of memory that nobody can reach; yields whether it is all gone. What a device
    /// may still write is lost instead: its owner, who alone could have had the device reset, has ended.
    pub(crate) fn reclaim_vmo_step(
        &self,
        structure: &mut StructureState,
        held: &mut Held<'_, Structure>,
        vmo: Id<Vmo>,
    ) -> bool {
        let first = self.lock(held, vmo).and_then(|(body, _)| body.mappings.first(&self.memory));
        if let Some(mapping) = first {
            self.unmap_step(structure, held, mapping);
            return false;
        }
        let Some(owner) = self.owner_of(vmo) else { return true };
        let Some((mut body, mut inner)) = self.lock(held, vmo) else { return true };
        body.ending = true;
        let (device, lost) = (body.device(), body.exposed);
        let mut pages = body.page_count as u64;
        if let Some((mut owner, _)) = self.lock(&mut inner, owner) {
            if lost {
                owner.account.lose(pages);
                body.page_count = 0;
            } else {
                pages = self.shrink_step(&mut owner, &mut body, 0, PAGES_A_STEP);
            }
        }
        let done = body.page_count == 0;
        drop(body);
        if let Some((_, device)) = device {
            self.forget_row(held, device, vmo, (pages, lost));
        }
        if !done {
            return false;
        }
        if device.is_none() && self.memory.shared_at::<Vmo>(vmo.granule()).linked() {
            structure.unreachable.remove(&self.memory, vmo);
        }
        if let Some((body, mut inner)) = self.lock(held, vmo) {
            self.destroy(&mut inner, vmo, body);
        }
        true
    }
}
