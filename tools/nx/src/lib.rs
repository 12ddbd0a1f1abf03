//! `nx`, the one command-line tool of Open Nexus.
//!
//! What it is: everything that is done *to* the system from a developer's machine. Scripts, `Makefile`
//! and `justfile` are doors to it and hold no logic.
//!
//! What it is not: part of the device. Nothing here is linked into what runs there; it knows the
//! system only by `nexus-abi`, the files of the repository and the console.
//!
//! Invariants:
//! - a wait has a bound, and reaching it is an error that says what was waited for;
//! - a run of QEMU has a directory of its own, so that runs go side by side, and is ended with its owner;
//! - what is generated can be checked with `--check` and then writes nothing.
//!
//! Where to start reading: [`project`], then [`build`], [`image`] and [`run`] in that order.

pub mod architecture;
pub mod bench;
pub mod build;
pub mod command_line;
pub mod console;
pub mod coverage;
pub mod dependencies;
pub mod disk;
pub mod documents;
pub mod drift;
pub mod driver_campaign;
pub mod elf_file;
pub mod figures;
pub mod fuzz;
pub mod gates;
pub mod guest;
pub mod identity;
pub mod identity_campaign;
pub mod image;
pub mod interactive;
pub mod judge;
pub mod ladder;
pub mod licences;
pub mod os_test;
pub mod policy;
pub mod project;
pub mod qemu;
pub mod run;
pub mod script;
pub mod setup;
pub mod simulation;
pub mod sources;
pub mod storm_campaign;
