//! Many rounds of everything that comes and goes, after which every count must be what it was: processes that
//! init starts and that end or are killed, calls that carry a capability there and back, and a driver that is killed
//! at any moment; lines and decisions in a storm, of which each decision must be there or counted; and changes of the
//! state, of which none that was acknowledged may be lost.
//!
//! One program for several services: who counts (`selftest-soak`), who hands capabilities back (`soak-peer`), who is
//! started and ended (`soak-child`), and those of the [`storm`]. Boot arguments: `soak spawns=200 calls=20000 drivers=100
//! drill failures=10 hangs=3 logs=6 state=7 steps=40 losses=100
//! ends=1000`, or `soak storm storm=60 seed=1`.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod calls;
mod chance;
mod drivers;
mod ends;
mod figures;
mod logs;
mod losses;
mod spawns;
mod state;
pub mod steps;
mod storm;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use nexus_abi::{Error, Handle, Kind, system};
use nexus_proto::init;
use nexus_rt::{Environment, error, info};

/// Time that one thing may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Rounds before counting begins: slabs, tables and heaps grow to the size that they keep, and the console
/// keeps 512 lines and the journal 768, of which a round makes three.
const WARM_UP: u64 = 300;

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    match environment.name() {
        "soak-child" if environment.has_argument("draw") => {
            environment.ready();
            drivers::draw_without_end(environment)
        }
        "soak-child" if environment.has_argument("write") => {
            environment.ready();
            losses::write_without_end(environment)
        }
        "soak-child" => spawns::child(environment),
        "soak-peer" => calls::peer(environment),
        "storm-gust" | "storm-gale" => storm::server::serve(environment),
        "storm-mapper" => storm::mapper::run(environment),
        name if name.starts_with("storm-caller") => storm::caller::run(environment),
        _ => soak(environment),
    }
}

fn soak(environment: &Environment) -> u64 {
    environment.ready();
    match rounds(environment) {
        Ok(()) => 0,
        Err(reason) => {
            error!("soak: FAIL {reason}");
            1
        }
    }
}

fn rounds(environment: &Environment) -> Result<(), String> {
    let control = environment.needed("system", Kind::SystemControl).map_err(|error| format!("{error}"))?;
    let init = environment.to_call("init").map_err(|error| format!("{error}"))?;
    let init = init::Client::new(init);
    init.ready(&(), environment.deadline(PATIENCE)).map_err(|error| format!("the system: {error}"))?;
    let bursts = asked_for(environment, "logs");
    if bursts > 0 {
        logs::storm(environment, bursts)?;
    }
    let seed = asked_for(environment, "state");
    if seed > 0 {
        state::write(environment, seed, asked_for(environment, "steps"))?;
    }
    let (puts, signatures) = (asked_for(environment, "puts"), asked_for(environment, "signatures"));
    if signatures > 0 {
        figures::signatures(environment, signatures)?;
    }
    if puts > 0 {
        figures::puts(environment, control, puts)?;
    }
    let threads = asked_for(environment, "ends");
    if threads > 0 {
        ends::measure(environment, control, threads)?;
        info!("soak: ends are measured");
    }
    let losses = asked_for(environment, "losses");
    if losses > 0 {
        losses::rounds(environment, init, losses, asked_for(environment, "seed"))?;
        info!("soak: {losses} times the store or its driver was killed under load, and nothing was lost");
    }
    let mut spawns = spawns::Spawns { environment, init };
    keep_counts(environment, control, "spawns", |count| spawns.rounds(count))?;
    let mut calls = calls::Calls::new(environment)?;
    keep_counts(environment, control, "calls", |count| calls.rounds(count))?;
    let (kills, seconds) = (asked_for(environment, "drivers"), asked_for(environment, "storm"));
    if seconds > 0 {
        let seed = asked_for(environment, "seed");
        return storm::director::Director::new(environment, control, init, seed)?.storm(seconds);
    }
    if kills > 0 {
        let mut drivers = drivers::Drivers::new(environment, control, init, asked_for(environment, "seed"))?;
        drivers.rounds(kills)?;
        info!("soak: {kills} times a driver was killed under load, its device reset, its clients answered");
        let (failures, hangs) = (asked_for(environment, "failures"), asked_for(environment, "hangs"));
        if failures > 0 || hangs > 0 {
            drivers.failures(failures, hangs)?;
            info!(
                "soak: {failures} times each a driver was killed at work and faulted, {hangs} times it hung, and came back"
            );
        }
    }
    Ok(())
}

/// Does so many rounds as the argument `what=` says, and demands that counts are the same before and after.
fn keep_counts(
    environment: &Environment,
    control: Handle,
    what: &str,
    mut rounds: impl FnMut(u64) -> Result<(), String>,
) -> Result<(), String> {
    let number = asked_for(environment, what);
    if number == 0 {
        return Ok(());
    }
    rounds(WARM_UP)?;
    let before = Counts::now(control)?;
    let begun = environment.clock().now();
    rounds(number)?;
    let took = environment.clock().duration(environment.clock().now().saturating_sub(begun));
    before.same_as(&Counts::now(control)?).map_err(|reason| format!("{number} {what} {reason}"))?;
    info!("soak: {number} {what} in {} ms leave every count as it was", took.as_millis());
    Ok(())
}

fn asked_for(environment: &Environment, what: &str) -> u64 {
    let mut words = environment.page().arguments().split_ascii_whitespace();
    let number = words.find_map(|word| word.strip_prefix(what)?.strip_prefix('=')?.parse().ok());
    number.unwrap_or(0)
}

/// What must come back to what it was.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    processes: u64,
    threads: u64,
    /// Pages in use that no process's account shows.
    unaccounted: u64,
    quarantined: u64,
    /// Of each process: its service, capabilities in its table, pages that it has reserved.
    of_each: Vec<(u64, u32, u64)>,
}

impl Counts {
    fn now(control: Handle) -> Result<Self, String> {
        let info = system::system_info(control).map_err(|error| format!("the machine's figures: {error}"))?;
        let (mut populated, mut after, mut of_each) = (0, 0, Vec::new());
        loop {
            let status = match system::process_list(control, after) {
                Ok(status) => status,
                Err(Error::WouldBlock) => break,
                Err(error) => return Err(format!("the list of processes: {error}")),
            };
            after = status.process_id;
            populated += status.populated_pages;
            of_each.push((status.service_id, status.capabilities, status.reserved_pages));
        }
        // One that was restarted has a higher number than before.
        of_each.sort_unstable();
        Ok(Counts {
            processes: info.processes,
            threads: info.threads,
            unaccounted: info.used_pages.saturating_sub(populated),
            quarantined: info.quarantined_pages,
            of_each,
        })
    }

    fn totals(&self) -> [u64; 4] {
        [self.processes, self.threads, self.unaccounted, self.quarantined]
    }

    /// Whether others differ in nothing but what services reserve in their own accounts.
    fn differ_in_heaps_alone(&self, after: &Counts) -> bool {
        let services = |counts: &Counts| -> Vec<u64> { counts.of_each.iter().map(|of| of.0).collect() };
        self.totals() == after.totals() && services(self) == services(after)
    }

    /// Whether others are these; if not, those that differ.
    fn same_as(&self, after: &Counts) -> Result<(), String> {
        if self == after {
            return Ok(());
        }
        let only = |these: &Counts, those: &Counts| -> Vec<_> {
            these.of_each.iter().filter(|one| !those.of_each.contains(one)).copied().collect()
        };
        // Short, for a line holds little.
        Err(format!(
            "changed the counts: {:?} {:?} became {:?} {:?}",
            self.totals(),
            only(self, after),
            after.totals(),
            only(after, self)
        ))
    }
}
