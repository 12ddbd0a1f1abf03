//! statefs: a journaled key-value store over a block device. Nothing acknowledged is lost.
//!
//! What it is: paths as keys, values up to 64 KiB, batches that are all or nothing, one flush for all
//! writers that wait. What it is not: a file system, an access control (the service decides who may
//! call), an authentication of the medium.
//!
//! Invariants:
//! - An `Ok` for a change is given after the flush that made it durable; reads see only durable state.
//! - One group is in flight at a time; its header carries epoch and CRC of the one before.
//! - A live acknowledged block is never written again.
//! - Damage answers `Corrupt` or `Uncertain`, never an older value and never absence.
//!
//! The format and its rules are RFC-0001. Start reading at [`Store`] (`store.rs`), then `write.rs` (the
//! commit, top-down on one page), `replay.rs` (opening) and `checkpoint.rs`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "host")]
extern crate std;

mod apply;
mod checkpoint;
mod checksum;
mod damage;
mod device;
mod error;
mod fault;
#[cfg(feature = "host")]
mod file;
mod format;
mod fsck;
mod group;
mod index;
mod key;
mod limits;
#[cfg(feature = "mutants")]
mod mutants;
mod pending;
mod quota;
mod read;
mod replay;
mod scan;
mod segments;
#[cfg(feature = "host")]
mod shared;
mod sorted;
mod store;
mod write;

pub use damage::{Damage, DamageLog};
pub use device::{BlockDevice, DeviceError, MemoryDevice, SECTOR};
pub use error::{Error, KeyFault};
pub use fault::{Fault, FaultDevice};
#[cfg(feature = "host")]
pub use file::FileDevice;
pub use format::Geometry;
pub use fsck::{CheckReport, FoundKey, GroupSummary, KeyState};
pub use key::{key_prefix_is_valid, validate_key};
pub use limits::*;
pub use quota::Quota;
pub use read::{Listed, Page, Stat};
#[cfg(feature = "host")]
pub use shared::SharedStore;
#[cfg(feature = "mutants")]
pub use store::Mutant;
pub use store::{Counters, Entropy, Options, Space, Store};
pub use write::{Batch, OperationId, Write};
