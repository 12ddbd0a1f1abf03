//! Random system calls of many processes and threads against the kernel's core on a simulated machine.
//!
//! What it is: a [`World`] that one seed makes and moves, call by call, by the grammar of `nexus-abi`, which the
//! fuzzer in QEMU uses too. Each answer must be one that the table names; after each batch the kernel is
//! audited, and at the end of a seed everybody is killed and every count must be what it was.
//! What it is not: it knows no right answers. The lockstep of kernel and model does.
//!
//! Where to start reading: [`run_seed`], then [`World::step`].

mod harts;
mod world;

pub use harts::{Made, run_side_by_side};
pub use world::World;

use nexus_abi::SystemCall;
use nexus_abi::calls::SYSTEM_CALLS;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls between two audits.
pub const BATCH: u64 = 10_000;

/// How a seed's run is to go.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Calls to make.
    pub calls: u64,
    /// Calls after which each one is audited and printed (`u64::MAX`: none), to come close to a failure.
    pub look_from: u64,
}

/// What a seed's run made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Calls made.
    pub calls: u64,
    /// Of these, answered without an error, by the place of the call in the table.
    pub answered: [u64; SYSTEM_CALLS.len()],
    /// Processes that began.
    pub processes: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Tally { calls: 0, answered: [0; SYSTEM_CALLS.len()], processes: 0 }
    }
}

impl Tally {
    /// Adds what another seed made.
    pub fn add(&mut self, other: &Tally) {
        self.calls += other.calls;
        self.processes += other.processes;
        for (sum, more) in self.answered.iter_mut().zip(other.answered) {
            *sum += more;
        }
    }

    /// Names of calls that were never answered without an error, of those that can be.
    pub fn never_answered(&self) -> Vec<&'static str> {
        let ends = [SystemCall::ThreadExit, SystemCall::ProcessExit, SystemCall::SystemReset];
        let never = SYSTEM_CALLS.iter().zip(self.answered).filter(|(_, answered)| *answered == 0);
        never.filter(|(call, _)| !ends.contains(&call.call)).map(|(call, _)| call.name).collect()
    }
}

/// What went wrong, and when.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The call after which it showed.
    pub call: u64,
    /// The last calls.
    pub last: Vec<String>,
}

/// Makes a fresh machine and lets a seed's calls happen on it. `progress` is told of each batch.
///
/// # Errors
/// The first answer that the table does not name, and whatever stops the kernel or its audit. The words of
/// the panic are on standard error already.
pub fn run_seed(plan: Plan, mut progress: impl FnMut(u64)) -> Result<Tally, Box<Failure>> {
    let mut world = World::new(plan.seed);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        while world.tally().calls < plan.calls {
            let end = (world.tally().calls + BATCH).min(plan.calls);
            while world.tally().calls < end {
                world.step();
                if world.tally().calls >= plan.look_from {
                    eprintln!("{}", world.last_words().last().map_or("", String::as_str));
                    world.audit();
                }
            }
            world.audit();
            progress(world.tally().calls);
        }
        world.end();
    }));
    match outcome {
        Ok(()) => Ok(world.tally().clone()),
        Err(_) => {
            let last = world.last_words();
            Err(Box::new(Failure { seed: plan.seed, call: world.tally().calls, last }))
        }
    }
}
