//! Memory: frames, the slabs of kernel objects in them, lists of objects, page tables, user memory.

pub mod frame;
pub mod list;
pub mod page_table;
mod present;
pub mod slab;
pub mod user;

pub use frame::{FrameKind, FrameNumber, Memory, PhysicalAddress};
pub use list::{Links, List};
pub use slab::{Granule, Guard, Id, Object};
