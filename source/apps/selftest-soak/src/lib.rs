//! Many rounds of everything that comes and goes, after which every count must be what it was: processes that
//! init starts and that end or are killed, calls that carry a capability there and back, and a driver that is killed
//! at any moment; lines and decisions in a storm, of which each decision must be there or counted; and changes of the
//! state, of which none that was acknowledged may be lost.
//!
//! One program for several services: who counts (`selftest-soak`), who hands capabilities back (`soak-peer`), who is
//! started and ended (`soak-child`), and those of the [`storm`]. Boot arguments: `soak spawns=200 calls=20000 drivers=100
//! drill failures=10 hangs=3 logs=6 records=20 state=7 steps=40 writers=2 losses=100 ends=1000`, or
//! `soak storm storm=60 seed=1`.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod calls;
mod chance;
mod drivers;
mod endless;
mod ends;
mod figures;
mod logs;
mod losses;
mod records;
mod spawns;
mod state;
pub mod steps;
mod storm;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use nexus_abi::{Error, Handle, Kind, system};
use nexus_ipc::CallError;
use nexus_proto::init::{self, InitError, Target};
use nexus_rt::{Environment, error, info};

/// Time that one thing may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Rounds before counting begins: slabs, tables and heaps grow to the size that they keep, and the console
/// keeps 512 lines and the journal 768, of which a round makes three.
const WARM_UP: u64 = 300;
/// Counts that are the same at so many looks, so far apart, stay.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// Heaps have found their size before something was done so often.
const TIMES_MAX: u32 = 3;
/// Pages by which a heap grows at the least.
const HEAP_STEP_PAGES: u64 = 16;

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
        "soak-child" if environment.has_argument("second") => {
            environment.ready();
            state::write_beside(environment, asked_for(environment, "state"), asked_for(environment, "steps"))
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
    let decisions = asked_for(environment, "records");
    if decisions > 0 {
        records::decide(environment, decisions)?;
    }
    let bursts = asked_for(environment, "logs");
    if bursts > 0 {
        logs::storm(environment, bursts)?;
    }
    let seed = asked_for(environment, "state");
    if seed > 0 {
        let (steps, writers) = (asked_for(environment, "steps"), asked_for(environment, "writers"));
        state::write(environment, init, seed, steps, writers)?;
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

/// Has a service ended; yields whether there was one. On a computer that is too busy the policy's answer may be late, and
/// late is no: then it is asked again, for it proves nothing here.
fn kill(environment: &Environment, init: &init::Client, name: &str) -> Result<bool, String> {
    let end = environment.deadline(PATIENCE);
    loop {
        match init.kill(&Target::Name(name.into()), environment.deadline(PATIENCE)) {
            Ok(()) => return Ok(true),
            // Between two lives there is nobody.
            Err(CallError::Service(InitError::NotRunning)) => return Ok(false),
            Err(CallError::Service(InitError::NoPolicy)) if !end.has_passed() => {}
            Err(error) => return Err(format!("{error}")),
        }
    }
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
    let mut before = Counts::settled(environment, control)?;
    let mut took = Duration::ZERO;
    leave_counts(environment, control, &mut before, &format!("{number} {what}"), || {
        let begun = environment.clock().now();
        rounds(number)?;
        took = environment.clock().duration(environment.clock().now().saturating_sub(begun));
        Ok(())
    })?;
    info!("soak: {number} {what} in {} ms leave every count as it was", took.as_millis());
    Ok(())
}

/// Does something after which every count is as it was before, and takes the counts after it. The heap of a service
/// that was busier than ever may find its size only now, which a slow machine makes likelier, but not each time that it
/// is done again: that would be a leak.
fn leave_counts(
    environment: &Environment,
    control: Handle,
    before: &mut Counts,
    what: &str,
    mut deed: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    for time in 1.. {
        deed()?;
        let after = Counts::settled(environment, control)?;
        match before.same_as(&after) {
            Ok(()) => break,
            Err(reason) if time == TIMES_MAX || !before.differ_in_heaps_alone(&after) => {
                return Err(format!("{what} {reason}"));
            }
            Err(reason) => info!("soak: {what}, the {time}. time, {reason}"),
        }
        *before = after;
    }
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
    of_each: Vec<Account>,
}

/// Of a process: its service, capabilities in its table, pages that it has reserved.
type Account = (u64, u32, u64);

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

    /// The counts, once they stay: a server that is up may not yet have received for the first time.
    fn settled(environment: &Environment, control: Handle) -> Result<Self, String> {
        let mut counts = Counts::now(control)?;
        let mut same = 0;
        while same < LOOKS {
            environment.sleep(BETWEEN_LOOKS);
            let now = Counts::now(control)?;
            same = if now == counts { same + 1 } else { 0 };
            counts = now;
        }
        Ok(counts)
    }

    /// Whether others differ in nothing but memory by which services' heaps grew, or had grown in an earlier life.
    fn differ_in_heaps_alone(&self, after: &Counts) -> bool {
        let mut pairs = self.of_each.iter().zip(&after.of_each);
        self.totals() == after.totals()
            && self.of_each.len() == after.of_each.len()
            && pairs.all(|(one, other)| one == other || has_grown(one, other) || has_grown(other, one))
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

/// Whether a process's account grew by what its heap grows by, and by nothing else: a heap holds no capability.
fn has_grown(before: &Account, after: &Account) -> bool {
    let pages = after.2.saturating_sub(before.2);
    (before.0, before.1) == (after.0, after.1) && pages >= HEAP_STEP_PAGES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of_each: &[Account]) -> Counts {
        let of_each = of_each.to_vec();
        Counts { processes: 2, threads: 3, unaccounted: 4, quarantined: 0, of_each }
    }

    #[test]
    fn heaps_that_grow_are_excused() {
        let before = counts(&[(1, 10, 100), (2, 20, 200)]);
        for after in [[(1, 10, 116), (2, 20, 200)], [(1, 10, 132), (2, 20, 240)]] {
            assert!(before.differ_in_heaps_alone(&counts(&after)), "{after:?}");
            assert!(counts(&after).differ_in_heaps_alone(&before), "{after:?} as an earlier life");
        }
    }

    #[test]
    fn test_reject_whatever_else_changed() {
        let before = counts(&[(1, 10, 100), (2, 20, 200)]);
        for after in [
            // A capability, with or without pages; fewer pages than a step.
            [(1, 11, 100), (2, 20, 200)],
            [(1, 11, 117), (2, 20, 200)],
            [(1, 10, 115), (2, 20, 200)],
            // Another service.
            [(1, 10, 100), (3, 20, 200)],
        ] {
            assert!(!before.differ_in_heaps_alone(&counts(&after)), "{after:?}");
        }
        assert!(!before.differ_in_heaps_alone(&counts(&[(1, 10, 100)])));
        let more = Counts { unaccounted: 5, ..counts(&[(1, 10, 117), (2, 20, 200)]) };
        assert!(!before.differ_in_heaps_alone(&more));
    }
}
