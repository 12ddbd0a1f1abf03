//! The whole system on a host: the same services over the kernel's own core, one deterministic program.
#![deny(unsafe_code)]

pub mod door;
pub mod image;
pub mod machine;
pub mod ram;
pub mod random;
pub mod system;
pub mod task;
pub mod uart;
