//! Has real processes make the sequences of `kernel-model` and compares every answer with the model's.
//!
//! What it is: the director. It creates four processes with two threads each, as the model has them, tells one
//! thread after the other which call to make, and looks at what the thread was answered and at what every
//! register held afterwards. The same numbers make the same events in the kernel's property test `lockstep`.
//! What it is not: a look into the kernel. Beyond the answers it sees who waits, and how many capabilities a
//! process has.
//!
//! `run lockstep SEED STEPS` at the prompt of a boot with `selftest`; with the word `tell` behind it each event
//! is a line. Where to start reading: [`run`], then `Processes`.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

#[cfg(target_os = "none")]
mod actor;
#[cfg(target_os = "none")]
mod processes;

use nexus_rt::{Environment, error};

/// Steps that are made when nobody says how many.
const STEPS: u64 = 4_000;

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    environment.ready();
    let mut words = environment.page().arguments().split_ascii_whitespace();
    let mut number = |default| words.next().map_or(Some(default), |word| word.parse().ok());
    let (Some(seed), Some(steps)) = (number(1), number(STEPS)) else {
        error!("lockstep: `run lockstep SEED STEPS` takes two numbers");
        return 1;
    };
    match compare(environment, seed, steps) {
        Ok(()) => 0,
        Err(reason) => {
            error!("lockstep: {reason}");
            1
        }
    }
}

#[cfg(target_os = "none")]
use processes::compare;

/// Only the machine has processes whose registers are the machine's.
#[cfg(not(target_os = "none"))]
fn compare(_: &Environment, _: u64, _: u64) -> Result<(), &'static str> {
    Err("the simulator has no registers to compare")
}
