//! The one way to user memory: translate page by page, populate what was promised, never fault.
//!
//! A page's translation is used at once and never kept over a step boundary. Whatever is missing or
//! forbidden is [`Error::Fault`] for who named the address.

use super::frame::{FrameNumber, PhysicalAddress};
use super::slab::Id;
use crate::arch::Arch;
use crate::kernel::Kernel;
use crate::object::mapping::Shows;
use crate::object::{Mapping, Process, Vmo};
use crate::sync::{self, Held};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::{PAGE_SIZE, USER_BASE, USER_END};
use nexus_abi::{Error, Rights};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Permission to reach user memory: no lock above a thread's is held.
pub type UserHeld<'h> = Held<'h, sync::Thread>;

/// Whether a range lies in user addresses.
#[inline]
pub fn in_user_range(address: u64, bytes: u64) -> bool {
    address >= USER_BASE && address.checked_add(bytes).is_some_and(|end| end <= USER_END)
}

impl<A: Arch> Kernel<A> {
    /// Makes sure that a page of user memory is there and allows this access; yields where it is.
    pub(crate) fn touch(
        &self,
        held: &mut UserHeld<'_>,
        process: Id<Process>,
        address: u64,
        access: Rights,
    ) -> Result<PhysicalAddress, Error> {
        if !in_user_range(address, 1) {
            return Err(Error::Fault);
        }
        let table = self.memory.shared(process).ok_or(Error::Fault)?.page_table();
        let leaf = match table.walk(&self.memory, address) {
            Some(leaf) => leaf,
            None => {
                self.populate(held, process, address)?;
                table.walk(&self.memory, address).ok_or(Error::Fault)?
            }
        };
        if leaf.protection.allows(access) { Ok(leaf.address) } else { Err(Error::Fault) }
    }

    /// The frame behind a page of user memory that allows this access, and the offset into it.
    pub(crate) fn user_page(
        &self,
        held: &mut UserHeld<'_>,
        process: Id<Process>,
        address: u64,
        access: Rights,
    ) -> Result<(FrameNumber, usize), Error> {
        let page = self.touch(held, process, address, access)?;
        // A device's registers are no memory: nothing is copied to or from them.
        let frame = self.memory.frame(page).ok_or(Error::Fault)?;
        Ok((frame, (address % PAGE_SIZE as u64) as usize))
    }

    /// Copies bytes out of a process's memory.
    pub fn read_user(
        &self,
        held: &mut UserHeld<'_>,
        process: Id<Process>,
        mut address: u64,
        mut to: &mut [u8],
    ) -> Result<(), Error> {
        while !to.is_empty() {
            let (frame, offset) = self.user_page(held, process, address, Rights::READ)?;
            let chunk = to.len().min(PAGE_SIZE - offset);
            let (now, later) = to.split_at_mut(chunk);
            self.memory.read(frame, offset, now);
            to = later;
            address += chunk as u64;
        }
        Ok(())
    }

    /// Copies bytes into a process's memory. When it fails, pages before the missing one were written.
    pub fn write_user(
        &self,
        held: &mut UserHeld<'_>,
        process: Id<Process>,
        mut address: u64,
        mut from: &[u8],
    ) -> Result<(), Error> {
        while !from.is_empty() {
            let (frame, offset) = self.user_page(held, process, address, Rights::WRITE)?;
            let chunk = from.len().min(PAGE_SIZE - offset);
            self.memory.write(frame, offset, &from[..chunk]);
            from = &from[chunk..];
            address += chunk as u64;
        }
        Ok(())
    }

    /// Reads a structure from a process's memory.
    pub fn read_record<T: FromBytes + FromZeros + IntoBytes>(
        &self,
        held: &mut UserHeld<'_>,
        process: Id<Process>,
        address: u64,
    ) -> Result<T, Error> {
        let mut record = T::new_zeroed();
        self.read_user(held, process, address, record.as_mut_bytes())?;
        Ok(record)
    }

    /// Writes a structure into a process's memory.
    pub fn write_record<T: IntoBytes + Immutable>(
        &self,
        held: &mut UserHeld<'_>,
        process: Id<Process>,
        address: u64,
        record: &T,
    ) -> Result<(), Error> {
        self.write_user(held, process, address, record.as_bytes())
    }

    /// The mapping of a process that holds an address.
    pub(crate) fn mapping_at(
        &self,
        held: &mut UserHeld<'_>,
        process: Id<Process>,
        address: u64,
    ) -> Option<Id<Mapping>> {
        let (body, _) = self.lock(held, process)?;
        let id = body.regions.find(&self.memory, |mapping| address < mapping.end())?;
        (self.memory.shared_at::<Mapping>(id.granule()).base() <= address).then_some(id)
    }

    /// Puts the page of a mapping that was promised into the page table.
    pub(crate) fn populate(
        &self,
        held: &mut UserHeld<'_>,
        process: Id<Process>,
        address: u64,
    ) -> Result<(), Error> {
        let page_base = address & !(PAGE_SIZE as u64 - 1);
        let mapping = self.mapping_at(held, process, address).ok_or(Error::Fault)?;
        let shared = self.memory.shared(mapping).ok_or(Error::Fault)?;
        if shared.removing.load(Relaxed) != 0 {
            return Err(Error::Fault);
        }
        let (shows, protection) = {
            let (body, _) = self.lock(held, mapping).ok_or(Error::Fault)?;
            (body.shows, body.protection)
        };
        let offset = page_base - shared.base();
        let physical = match shows {
            Shows::Registers(base) => PhysicalAddress(base + offset),
            Shows::Memory(vmo, first) => {
                let frame = self.vmo_page(held, vmo, first + (offset / PAGE_SIZE as u64) as usize)?;
                self.memory.address(frame)
            }
        };
        let (mut body, _) = self.lock(held, process).ok_or(Error::Fault)?;
        let mut taken = 0;
        let table = body.page_table;
        let mapped = table.map(&self.memory, page_base, physical, protection, || taken += 1);
        body.account.populated += taken;
        mapped.map_err(|_| Error::Fault)
    }

    /// The frame of a page of memory, populated from the owner's promise.
    pub(crate) fn vmo_page(
        &self,
        held: &mut UserHeld<'_>,
        vmo: Id<Vmo>,
        page: usize,
    ) -> Result<FrameNumber, Error> {
        let owner = self.owner_of(vmo).ok_or(Error::Fault)?;
        let (mut body, mut held) = self.lock(held, vmo).ok_or(Error::Fault)?;
        if let Some(frame) = body.frame(&self.memory, page) {
            return Ok(frame);
        }
        let (mut owner, _) = self.lock(&mut held, owner).ok_or(Error::Fault)?;
        body.populate(&self.memory, &mut owner.account, page).ok_or(Error::Fault)
    }
}
