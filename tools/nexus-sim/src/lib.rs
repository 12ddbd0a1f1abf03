//! The whole system on a host: the same services over the kernel's own core, one deterministic program.
#![deny(unsafe_code)]

pub mod campaign;
pub mod door;
pub mod faults;
pub mod image;
pub mod invariants;
pub mod machine;
pub mod mutants;
pub mod ram;
pub mod random;
pub mod run;
pub mod scenarios;
pub mod shell;
pub mod system;
pub mod task;
pub mod trace;
pub mod uart;
