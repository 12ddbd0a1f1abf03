//! The first process: it starts the system from its manifest, hands out exactly the rights that stand
//! there, watches what runs and starts again what dies.
//!
//! What it is: [`supervisor`] (who runs, and what happens next), [`launch`] (making one process), and the
//! decisions below them as plain functions that a host tests: [`program`], [`devices`], [`schedule`],
//! [`report`]. What it is not: its supervising thread calls nobody, so nothing that it supervises can hold it up; the
//! policy is asked by a second one ([`permission`]).
//!
//! Invariants:
//! - init may not die (its death resets the machine): what it reads is refused, never trusted, and a failed
//!   start of a service is that service's failure;
//! - a service gets the capabilities of its manifest entry and nothing else; endpoints and rings are
//!   init's own, so they outlive every process that uses them;
//! - what a dead process leaves in init's table is closed before its successor starts.
//!
//! Where to start reading: [`supervisor::Supervisor::run`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod devices;
pub mod launch;
pub mod permission;
pub mod program;
pub mod report;
pub mod resources;
pub mod schedule;
pub mod start;
pub mod supervisor;
pub mod virtio;

/// The exit code of a process that was ended because somebody asked for it.
pub const KILLED_ON_REQUEST: u64 = 0x6b69_6c6c;
/// The exit code of a process that did not become ready in time.
pub const KILLED_AS_LATE: u64 = 0x6c61_7465;
/// The exit code of a process that gave no sign of life any more.
pub const KILLED_AS_SILENT: u64 = 0x6875_6e67;
