//! `virtioblkd`: the partitions of the disk, each opened by itself.
//!
//! Who may open which partition stands in the recipe: every partition has an operation of its own. What opening
//! yields is a session, which reaches that partition alone. It ends with the driver, whose successor answers it
//! `PeerGone`: so nobody goes on, without noticing, on a device that was reset. The contract of reads, writes and
//! flushes is `docs/block-device.md`.

use nexus_ipc::{postcard_message, register_message};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a block: what numbers of blocks count, and the least that is read or written.
pub const BLOCK_BYTES: usize = 512;
/// Blocks that one call may read or write.
pub const TRANSFER_BLOCKS_MAX: u64 = 2048;

/// What there is to know of an open partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Geometry {
    /// Its blocks.
    pub blocks: u64,
    /// Bytes that a write under way may damage when the power fails: 4096, or the device's physical block if that
    /// is larger. Each unit begins at a multiple of this within the partition.
    pub unit_bytes: u64,
    /// Bits of [`HAS_CACHE`] and [`READ_ONLY`].
    pub flags: u64,
}

/// The device keeps writes in a cache until a flush. Without it the driver takes every write for durable.
pub const HAS_CACHE: u64 = 1;
/// The device cannot be written.
pub const READ_ONLY: u64 = 2;

/// Blocks of an open partition. The lease of the call is exactly as long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Extent {
    /// The first block, counted from the partition's beginning.
    pub first: u64,
    /// How many: from 1 to [`TRANSFER_BLOCKS_MAX`].
    pub blocks: u64,
}

/// Why a partition was not opened, read, written or flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockError {
    /// The disk has no such partition, or one that cannot be used; the driver's log says which.
    NoPartition,
    /// Somebody has it open, or what they began is not finished yet.
    Busy,
    /// The call came through no session.
    NotOpen,
    /// The blocks are not all in the partition.
    OutOfRange,
    /// No blocks, or more than [`TRANSFER_BLOCKS_MAX`].
    BadLength,
    /// The lease is missing, of another length, or does not allow it.
    BadLease,
    /// The device cannot be written.
    ReadOnly,
    /// The device failed. After a write or a flush that failed, nothing since the last good flush counts as
    /// written.
    Io,
    /// A write or a flush of this session failed before: nothing more is written until the partition is opened
    /// anew.
    Broken,
}

register_message!(Geometry);
register_message!(Extent);
postcard_message!(BlockError, 8);

nexus_ipc::service! {
    /// The partitions of the disk. The first five operations open one, for one process at a time; all others go to
    /// what they yield.
    endpoint "block", max_bytes 64, error BlockError;
    /// Opens `boot_a`, the first slot of the system.
    immediate once boota(()) opens Client -> () = 1;
    /// Opens `boot_b`, the second slot of the system.
    immediate once bootb(()) opens Client -> () = 2;
    /// Opens `bootctl`, which says which slot is to be started.
    immediate once bootctl(()) opens Client -> () = 3;
    /// Opens `state`, which the store of keys and values lives on.
    immediate once state(()) opens Client -> () = 4;
    /// Opens `scratch`, which only disks of tests have.
    immediate once scratch(()) opens Client -> () = 5;
    /// Tells what there is to know of the open partition.
    immediate once geometry(()) -> Geometry = 6;
    /// Reads blocks into the lent memory.
    deferred once read(Extent) lends 1 -> () = 7;
    /// Writes blocks out of the lent memory. They are durable after the next flush that succeeds.
    deferred once write(Extent) lends 1 -> () = 8;
    /// Makes durable every write that was answered before this call was made.
    deferred once flush(()) -> () = 9;
}
