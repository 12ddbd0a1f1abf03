//! Mappings: make, change, remove. Pages come when they are touched, and go in steps.

use super::memory::{PAGE, PAGES_A_STEP};
use super::{Outcome, Request, Stop};
use crate::arch::Arch;
use crate::kernel::{Kernel, StructureState};
use crate::memory::page_table::{LEVEL1_BYTES, LEVEL2_BYTES, Protection, tables_for};
use crate::memory::user::in_user_range;
use crate::memory::{Granule, Guard, Id};
use crate::object::mapping::Shows;
use crate::object::{Mapping, Process, Vmo};
use crate::sync::{Held, Nothing, Structure};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::{Error, Kind, Rights};

/// Mappings that one process can have: finding one must stay short.
pub const MAPPINGS_MAX: u32 = 256;
/// What a mapping can allow.
const PROTECTIONS: Rights = Rights::READ.union(Rights::WRITE).union(Rights::EXECUTE);

/// A mapping that is asked for.
pub(crate) struct Wanted {
    pub process: Id<Process>,
    pub base: u64,
    pub bytes: u64,
    pub shows: Shows,
    pub rights: Rights,
    pub rights_max: Rights,
    /// The capability that it derives from (0: none).
    pub parent: Granule,
}

/// The protection that a call asks for.
fn protection(bits: u64) -> Result<Rights, Error> {
    let rights = u32::try_from(bits).ok().and_then(Rights::from_bits).ok_or(Error::InvalidArgument)?;
    if rights.is_empty() || !PROTECTIONS.contains(rights) {
        return Err(Error::InvalidArgument);
    }
    Ok(rights)
}

fn page_aligned(values: &[u64]) -> Result<(), Error> {
    if values.iter().all(|value| value.is_multiple_of(PAGE)) { Ok(()) } else { Err(Error::Unaligned) }
}

impl<A: Arch> Kernel<A> {
    pub(super) fn vmo_map(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [process, vmo, base, offset, bytes, bits] = request.arguments;
        let process = self.process_or_self(&request.caller, process, Rights::MAP_INTO)?;
        let capability = self.memory.capability(request.caller.shared, vmo, Kind::Vmo, Rights::empty())?;
        let vmo = Id::<Vmo>::from_raw(capability.object).ok_or(Error::StaleHandle)?;
        if bytes == 0 {
            return Err(Error::InvalidArgument.into());
        }
        let rights = protection(bits)?;
        page_aligned(&[base, offset, bytes])?;
        if rights.contains(Rights::WRITE | Rights::EXECUTE) {
            return Err(Error::WriteExecute.into());
        }
        if !capability.rights.contains(rights) {
            return Err(Error::NotPermitted.into());
        }
        let size = self
            .lock(request.held, vmo)
            .filter(|(body, _)| !body.ending)
            .map(|(body, _)| body.page_count as u64 * PAGE)
            .ok_or(Error::StaleHandle)?;
        if offset.checked_add(bytes).is_none_or(|end| end > size) || !in_user_range(base, bytes) {
            return Err(Error::OutOfRange.into());
        }
        let shows = Shows::Memory(vmo, (offset / PAGE) as usize);
        let rights_max = capability.rights & PROTECTIONS;
        let parent = capability.granule;
        let wanted = Wanted { process, base, bytes, shows, rights, rights_max, parent };
        self.map(request.held, &wanted)?;
        Ok(0)
    }

    pub(super) fn mmio_map(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [device, base, offset, bytes, bits, _] = request.arguments;
        let capability =
            self.memory.capability(request.caller.shared, device, Kind::DeviceMmio, Rights::MAP)?;
        let device = Id::<crate::object::Device>::from_raw(capability.object).ok_or(Error::StaleHandle)?;
        let (window, window_bytes, retired) = self
            .lock(request.held, device)
            .map(|(device, _)| (device.base, device.bytes, device.retired))
            .ok_or(Error::StaleHandle)?;
        if retired {
            return Err(Error::Sealed.into());
        }
        let rights = protection(bits)?;
        if rights.contains(Rights::EXECUTE) {
            return Err(Error::WriteExecute.into());
        }
        if bytes == 0 {
            return Err(Error::InvalidArgument.into());
        }
        page_aligned(&[base, offset, bytes])?;
        if offset.checked_add(bytes).is_none_or(|end| end > window_bytes) || !in_user_range(base, bytes) {
            return Err(Error::OutOfRange.into());
        }
        let wanted = Wanted {
            process: request.caller.process,
            base,
            bytes,
            shows: Shows::Registers(window + offset),
            rights,
            rights_max: Rights::READ | Rights::WRITE,
            parent: capability.granule,
        };
        self.map(request.held, &wanted)?;
        Ok(0)
    }

    /// Makes a mapping: promises its page tables, lists it; pages come when they are touched.
    pub(crate) fn map(&self, held: &mut Held<'_, Nothing>, wanted: &Wanted) -> Result<(), Error> {
        let protection = Protection::user(wanted.rights).ok_or(Error::WriteExecute)?;
        let (_structure, mut held) = self.structure(held);
        self.memory.derivations(wanted.parent)?;
        let tables = tables_for(wanted.base, wanted.bytes);
        let mapping = Mapping {
            process: wanted.process,
            shows: wanted.shows,
            rights: wanted.rights,
            protection,
            rights_max: wanted.rights_max,
            tables,
            removed: 0,
        };
        let id = {
            let (mut process, _) = self.lock(&mut held, wanted.process).ok_or(Error::PeerGone)?;
            if process.region_count >= MAPPINGS_MAX {
                return Err(Error::NoMemory);
            }
            let before = self.place_for(&process, wanted.base, wanted.base + wanted.bytes)?;
            process.account.reserve(tables)?;
            let created = process.account.create(&self.memory, wanted.process.granule(), mapping);
            let id = match created {
                Ok(id) => id,
                Err(error) => {
                    process.account.unreserve(tables);
                    return Err(error);
                }
            };
            self.memory.shared_at::<Mapping>(id.granule()).place(wanted.base, wanted.bytes);
            match before {
                Some(next) => process.regions.insert_before(&self.memory, id, next),
                None => process.regions.push_back(&self.memory, id),
            }
            process.region_count += 1;
            id
        };
        self.memory.node_link(id.granule(), wanted.parent);
        if let Shows::Memory(vmo, _) = wanted.shows
            && let Some((mut vmo, _)) = self.lock(&mut held, vmo)
        {
            vmo.mappings.push_back(&self.memory, id);
        }
        if wanted.rights.contains(Rights::EXECUTE) {
            self.flush_instructions_everywhere(wanted.process);
        }
        Ok(())
    }

    /// The mapping before which a range belongs (none: at the end), if nothing overlaps it.
    fn place_for(
        &self,
        process: &Guard<'_, Process>,
        base: u64,
        end: u64,
    ) -> Result<Option<Id<Mapping>>, Error> {
        let next = process.regions.find(&self.memory, |other| base < other.end());
        match next.map(|next| self.memory.shared_at::<Mapping>(next.granule()).base()) {
            Some(other) if other < end => Err(Error::Overlap),
            _ => Ok(next),
        }
    }

    pub(super) fn vmo_unmap(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        let [process, base, ..] = request.arguments;
        let process = self.process_or_self(&request.caller, process, Rights::MAP_INTO)?;
        let mapping = self.mapping_with_base(&mut request, process, base)?;
        let (mut structure, mut held) = self.structure(request.held);
        if self.unmap_step(&mut structure, &mut held, mapping) { Ok(0) } else { Err(Stop::Again) }
    }

    fn mapping_with_base(
        &self,
        request: &mut Request<'_, '_, '_>,
        process: Id<Process>,
        base: u64,
    ) -> Result<Id<Mapping>, Error> {
        self.mapping_at(&mut request.user(), process, base)
            .filter(|id| self.memory.shared_at::<Mapping>(id.granule()).base() == base)
            .ok_or(Error::InvalidArgument)
    }

    pub(super) fn vmo_protect(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        let [process, base, bits, ..] = request.arguments;
        let process = self.process_or_self(&request.caller, process, Rights::MAP_INTO)?;
        let rights = protection(bits)?;
        let mapping = self.mapping_with_base(&mut request, process, base)?;
        let protection = Protection::user(rights).ok_or(Error::WriteExecute)?;
        {
            let (mut body, _) = self.lock(request.held, mapping).ok_or(Error::InvalidArgument)?;
            let shared = self.memory.shared_at::<Mapping>(mapping.granule());
            if matches!(body.shows, Shows::Registers(_)) || shared.removing.load(Relaxed) != 0 {
                return Err(Error::InvalidArgument.into());
            }
            if !body.rights_max.contains(rights) {
                return Err(Error::NotPermitted.into());
            }
            if body.protection != protection {
                // Somebody else's change that is half done went by other bits: all pages once more.
                (body.rights, body.protection, body.removed) = (rights, protection, 0);
            }
            // Pages are put in again, with the new protection, when they are next touched.
            if !self.clear_pages(process, &mut body, shared.base(), shared.end()) {
                return Err(Stop::Again);
            }
            body.removed = 0;
        }
        if rights.contains(Rights::EXECUTE) {
            self.flush_instructions_everywhere(process);
        }
        Ok(0)
    }

    /// Removes a mapping, at most [`PAGES_A_STEP`] pages now; yields whether it is gone.
    pub(crate) fn unmap_step(
        &self,
        structure: &mut StructureState,
        held: &mut Held<'_, Structure>,
        id: Id<Mapping>,
    ) -> bool {
        let Some(shared) = self.memory.shared(id) else { return true };
        let Some((mut mapping, _)) = self.lock(held, id) else { return true };
        if shared.removing.swap(1, Relaxed) == 0 {
            // A change of protection that is half done let pages come back behind it.
            mapping.removed = 0;
        }
        let (process, shows) = (mapping.process, mapping.shows);
        if !self.is_torn_down(process)
            && !self.clear_pages(process, &mut mapping, shared.base(), shared.end())
        {
            return false;
        }
        drop(mapping);
        self.forget_mapping(held, id, process);
        if let Shows::Memory(vmo, _) = shows {
            let unmapped = self.lock(held, vmo).is_some_and(|(mut body, _)| {
                body.mappings.remove(&self.memory, id);
                body.mappings.is_empty()
            });
            if unmapped && self.memory.references(vmo) == 0 {
                self.vmo_unreachable(structure, held, vmo);
            }
        }
        self.memory.node_dissolve_step(id.granule());
        if let Some((guard, mut inner)) = self.lock(held, id) {
            self.destroy(&mut inner, id, guard);
        }
        true
    }

    fn is_torn_down(&self, process: Id<Process>) -> bool {
        self.memory.shared(process).is_none_or(|shared| shared.root.load(Relaxed) == 0)
    }

    fn clear_pages(
        &self,
        process: Id<Process>,
        mapping: &mut Guard<'_, Mapping>,
        base: u64,
        end: u64,
    ) -> bool {
        let Some(shared) = self.memory.shared(process) else { return true };
        let table = shared.page_table();
        let asid = shared.asid.load(Relaxed) as u16;
        let mut page = base + mapping.removed;
        for _ in 0..PAGES_A_STEP {
            if page >= end {
                break;
            }
            if table.table(&self.memory, page, 0).is_none() {
                // Nothing of these 2 MiB was ever touched.
                page = (page / LEVEL1_BYTES + 1) * LEVEL1_BYTES;
                continue;
            }
            if table.unmap(&self.memory, page) {
                self.arch.flush_page(asid, page);
            }
            page += PAGE;
        }
        let others = self.others_that_know(shared);
        if others != 0 {
            self.arch.flush_space_of(others, asid);
        }
        mapping.removed = page.min(end) - base;
        page >= end
    }

    /// Takes a mapping whose pages are gone off its process: tables that only it needed go back.
    fn forget_mapping(&self, held: &mut Held<'_, Structure>, id: Id<Mapping>, process: Id<Process>) {
        let Some(tables) = self.lock(held, id).map(|(mapping, _)| mapping.tables) else { return };
        let shared = self.memory.shared_at::<Mapping>(id.granule());
        let (base, end) = (shared.base(), shared.end());
        let Some((mut body, _)) = self.lock(held, process) else { return };
        let shared_of = |id: Id<Mapping>| self.memory.shared_at::<Mapping>(id.granule());
        let below = body.regions.before(&self.memory, id).map_or(0, |other| shared_of(other).end());
        let above = body.regions.after(&self.memory, id).map_or(u64::MAX, |other| shared_of(other).base());
        if !self.is_torn_down(process) {
            let released = self.release_tables(body.page_table, (base, end), (below, above));
            body.account.populated -= released;
            if let Some(shared) = self.memory.shared(process) {
                self.flush_everywhere(shared);
            }
        }
        body.regions.remove(&self.memory, id);
        body.region_count -= 1;
        body.account.unreserve(tables);
    }

    /// Gives back the tables of `range` that neither neighbour (ending at `below`, beginning at `above`)
    /// needs.
    fn release_tables(
        &self,
        table: crate::memory::page_table::PageTable,
        (base, end): (u64, u64),
        (below, above): (u64, u64),
    ) -> u64 {
        let mut released = 0;
        for (level, span) in [(0, LEVEL1_BYTES), (1, LEVEL2_BYTES)] {
            for start in (base / span * span..end).step_by(span as usize) {
                let needed = below > start || above < start + span;
                if !needed && table.release_table(&self.memory, start, level) {
                    released += 1;
                }
            }
        }
        released
    }
}
