//! The kernel's objects, one file each, and the capabilities that name them.

pub mod account;
pub mod capability;
pub mod derivation;
pub mod device;
pub mod endpoint;
pub mod mapping;
pub mod notification;
pub mod process;
pub mod thread;
pub mod timer;
pub mod vmo;

pub use capability::Capability;
pub use device::{Device, Irq};
pub use endpoint::{Endpoint, Post, Session};
pub use mapping::Mapping;
pub use notification::Notification;
pub use process::Process;
pub use thread::Thread;
pub use timer::Timer;
pub use vmo::Vmo;

/// Kinds of slab; the number of each is its [`crate::memory::Object::SLAB`].
pub const SLABS: usize = 11;
