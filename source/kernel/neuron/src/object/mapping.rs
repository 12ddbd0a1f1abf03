//! A mapping: a range of a process's addresses that shows memory or a device's window.
//!
//! Invariants: mappings of one process do not overlap and are listed by address; each is a node of the
//! derivation tree below the capability that it was made with, and of its memory's list; the page tables
//! that it can need were promised when it was made.

use super::derivation::{NODE_OFFSET, Node};
use super::process::Process;
use super::vmo::Vmo;
use crate::memory::list::LinksOf;
use crate::memory::page_table::Protection;
use crate::memory::{Id, Links, Object};
use crate::sync;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use nexus_abi::Rights;

/// What a mapping shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// Pages of memory, beginning with this one.
    Memory(Id<Vmo>, usize),
    /// Registers, beginning at this physical address.
    Registers(u64),
}

/// What a mapping is made of.
pub struct Mapping {
    /// Whose addresses.
    pub process: Id<Process>,
    /// What it shows.
    pub shows: Shows,
    /// What it allows, as rights and as page table bits.
    pub rights: Rights,
    /// See `rights`.
    pub protection: Protection,
    /// The most that it may be changed to: the rights of the capability it was made with.
    pub rights_max: Rights,
    /// Page tables that were promised for it.
    pub tables: u64,
    /// Bytes from the base on whose pages are already gone, while it is being removed.
    pub removed: u64,
}

/// What is reached without the lock.
#[derive(Default)]
#[repr(C)]
pub struct MappingShared {
    pub(super) node: Node,
    in_process: Links,
    in_vmo: Links,
    /// 1 once it is being removed: its pages are not populated any more.
    pub removing: AtomicU32,
    base: AtomicU64,
    bytes: AtomicU64,
}

impl MappingShared {
    /// First address.
    pub fn base(&self) -> u64 {
        self.base.load(Relaxed)
    }

    /// Bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// First address beyond it.
    pub fn end(&self) -> u64 {
        self.base() + self.bytes()
    }

    /// Says where the mapping is, before it is on any list.
    pub fn place(&self, base: u64, bytes: u64) {
        self.base.store(base, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }
}

// The slot's head is 16 bytes, so that the node stands where the tree expects it.
const _: () = assert!(core::mem::offset_of!(MappingShared, node) + 16 == NODE_OFFSET);

/// The links of a process's mappings.
pub struct InProcess;
impl LinksOf<Mapping> for InProcess {
    fn links(shared: &MappingShared) -> &Links {
        &shared.in_process
    }
}

/// The links of a memory object's mappings.
pub struct InVmo;
impl LinksOf<Mapping> for InVmo {
    fn links(shared: &MappingShared) -> &Links {
        &shared.in_vmo
    }
}

impl Object for Mapping {
    const SLAB: u8 = 5;
    const NAME: &'static str = "mapping";
    type Level = sync::Backing;
    type Shared = MappingShared;

    fn reset(shared: &MappingShared) {
        shared.node.reset();
        shared.in_process.reset();
        shared.in_vmo.reset();
        shared.removing.store(0, Relaxed);
        shared.place(0, 0);
    }
}
