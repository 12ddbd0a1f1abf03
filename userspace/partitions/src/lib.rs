//! The disk's partition table (GPT): what is read from it, and how a disk is laid out.
//!
//! What it is: [`read`] finds the partitions of this system on a disk, and [`lay_out`] yields the blocks of a new
//! table. What it is not: it owns no disk; blocks are read through a function, and writing is its caller's.
//!
//! Invariants: no bytes of a disk make it panic; what it yields lies inside the disk, behind the table, and no two
//! of its extents share a block. The table's second copy, at the end of the disk, stands in for the
//! first, damaged or unreadable.
//!
//! Where to start reading: [`Partition`], then [`read`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod layout;
mod table;

pub use layout::{LayoutError, lay_out};
pub use table::{ReadError, Refused, Table, TableError, Why, read};

use gpt_disk_types::{Guid, guid};

/// Bytes of a block, which is the unit of every number here.
pub const BLOCK_BYTES: usize = 512;
/// A new partition begins at a multiple of so many blocks (1 MiB), and so does the first.
pub const ALIGNMENT_BLOCKS: u64 = 2048;
/// Entries of a partition table.
pub const ENTRIES: u64 = 128;
/// Bytes of an entry.
pub const ENTRY_BYTES: u64 = 128;
/// Blocks of the entries together.
pub const ENTRIES_BLOCKS: u64 = ENTRIES * ENTRY_BYTES / BLOCK_BYTES as u64;

/// A partition of this system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Partition {
    /// The first slot of the system.
    BootA,
    /// The second slot of the system.
    BootB,
    /// Which slot is to be started.
    Bootctl,
    /// The store of keys and values.
    State,
    /// For tests to write on.
    Scratch,
}

impl Partition {
    /// Every one.
    pub const ALL: [Partition; 5] =
        [Partition::BootA, Partition::BootB, Partition::Bootctl, Partition::State, Partition::Scratch];

    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Partition::BootA => "boot_a",
            Partition::BootB => "boot_b",
            Partition::Bootctl => "bootctl",
            Partition::State => "state",
            Partition::Scratch => "scratch",
        }
    }

    /// Its type in the table. One of another type is somebody else's, whatever it is called.
    pub const fn kind(self) -> Guid {
        match self {
            Partition::BootA | Partition::BootB => guid!("e0dbbc27-c5c6-4e84-a7ed-ba1f1ef1c0f1"),
            Partition::Bootctl => guid!("66b1a0b0-43e2-44c9-b53a-0b8f9a2a3f62"),
            Partition::State => guid!("7a3f6c52-2f0e-4d6b-9df7-51bb3c1d6a93"),
            Partition::Scratch => guid!("3d2ef1c4-8a55-4c0f-8f3e-6b9f2c7e1d04"),
        }
    }

    /// Blocks that it must have to be of use.
    pub const fn blocks_min(self) -> u64 {
        match self {
            Partition::BootA | Partition::BootB => 2 * 1024 * 1024 / BLOCK_BYTES as u64,
            // Two stretches of 64 KiB at its end are for the anchor of the device's identity.
            Partition::Bootctl => 256 * 1024 / BLOCK_BYTES as u64,
            Partition::State => 1024 * 1024 / BLOCK_BYTES as u64,
            Partition::Scratch => 64 * 1024 / BLOCK_BYTES as u64,
        }
    }
}

/// Blocks in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first.
    pub first: u64,
    /// How many; never 0.
    pub blocks: u64,
}

impl Extent {
    /// Where `blocks` from `first` on, counted from the beginning of this extent, are on the disk; `None` when they
    /// are not all in it, or none.
    pub fn part(self, first: u64, blocks: u64) -> Option<Extent> {
        first.checked_add(blocks).filter(|&end| blocks > 0 && end <= self.blocks)?;
        Some(Extent { first: self.first.checked_add(first)?, blocks })
    }

    /// Whether the two share a block.
    fn meets(self, other: Extent) -> bool {
        self.first < other.first.saturating_add(other.blocks)
            && other.first < self.first.saturating_add(self.blocks)
    }
}
