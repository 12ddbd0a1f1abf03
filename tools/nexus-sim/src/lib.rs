//! The whole system on a host: the same services over the kernel's own core, as one deterministic program.
//!
//! What it is: `nexus-abi` for the host. Processes run one at a time, as coroutines whose memory is pages of
//! simulated RAM behind the kernel's page tables ([`ram`], [`task`], [`door`]); the kernel's core decides who
//! runs ([`system`]); a seed decides everything else ([`random`], [`faults`]). On top of it [`scenarios`] say
//! what must be true, [`invariants`] what must hold, and [`campaign`] runs many seeds of them.
//! What it is not: a second kernel. It shows one hart, and nothing between two system calls.
//!
//! Invariants:
//! - one seed is one run: nothing but the seed decides anything, not the host's clock, addresses or threads;
//! - what a process can reach is what the kernel's tables say, and it goes with the process;
//! - every wait is bounded, in virtual time and in turns.
//!
//! Where to start reading: [`system::System::step`], then [`scenarios`]; `docs/simulation.md` for use.
#![deny(unsafe_code)]
// Each module that may is allowed by name, with what for.

pub mod block;
pub mod campaign;
pub mod crowd;
pub mod door;
pub mod entropy;
pub mod faults;
pub mod image;
pub mod invariants;
pub mod machine;
pub mod mutants;
pub mod probe;
pub mod ram;
pub mod random;
pub mod run;
pub mod scenarios;
pub mod shell;
pub mod system;
pub mod task;
pub mod trace;
pub mod traps;
pub mod uart;
