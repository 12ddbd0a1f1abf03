//! `nx fuzz`: random input for so many minutes; whatever is odd ends it with the line that replays it.
//!
//! `syscalls` goes half of the time to the kernel's core on this machine, then to the real kernel in QEMU, where
//! the same grammar makes calls from an ordinary process. `statefs` opens random partitions.

use crate::guest::after_seconds;
use crate::image;
use crate::interactive::Session;
use crate::project::{Project, execute};
use crate::qemu::Machine;
use crate::script::Step;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

/// Calls of one run in QEMU.
const CALLS_A_RUN: u64 = 500_000;
/// Seconds that one run, or a boot, may take.
const STEP_SECONDS: u64 = 300;
/// What no console may say while calls are made.
const ODD: [&str; 4] = ["FAIL", "panic", "fault: ", "lines of syscall-fuzzer were lost"];

/// What is fuzzed, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// What
    what: What,
    /// Minutes
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// The first seed of `syscalls` (drawn from the clock when left out)
    #[arg(long)]
    seed: Option<u64>,
    /// Harts of the machine in QEMU
    #[arg(long, default_value_t = 1)]
    smp: usize,
    /// Leave this machine's half out: QEMU alone
    #[arg(long)]
    qemu_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// The system calls
    Syscalls,
    /// The replay of a state partition (needs cargo-fuzz and a nightly compiler)
    Statefs,
}

/// Fuzzes until the time is up; an error is a finding.
pub fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    match arguments.what {
        What::Syscalls => syscalls(project, arguments),
        What::Statefs => statefs(project, arguments.minutes),
    }
}

fn statefs(project: &Project, minutes: u64) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["+nightly", "fuzz", "run", "--fuzz-dir"]).arg(project.path("userspace/statefs/fuzz"));
    execute(cargo.args(["replay", "--", &format!("-max_total_time={}", minutes * 60)]))
}

fn syscalls(project: &Project, arguments: &Arguments) -> Result<()> {
    let from_clock =
        || std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs() % 1_000_000 * 1_000);
    let seed = arguments.seed.unwrap_or_else(from_clock);
    let seconds = arguments.minutes * 60;
    println!("fuzz syscalls: seeds from {seed} on");
    if !arguments.qemu_only {
        on_the_host(project, seed, seconds / 4, 1)?;
        on_the_host(project, seed, seconds / 4, arguments.smp.clamp(2, 7))?;
    }
    in_qemu(project, seed, if arguments.qemu_only { seconds } else { seconds / 2 }, arguments.smp)
}

/// One call after the other on one hart, or harts beside each other.
fn on_the_host(project: &Project, seed: u64, seconds: u64, harts: usize) -> Result<()> {
    let mut cargo = project.cargo();
    cargo.args(["run", "--quiet", "--profile", "host", "--package", "neuron-proofs", "--bin", "neuron-fuzz"]);
    let [seed, seconds, harts] = [seed, seconds, harts as u64].map(|number| number.to_string());
    execute(cargo.args(["--", "--seed", &seed, "--seconds", &seconds, "--harts", &harts]))
}

/// One boot, and one run of the fuzzer after the other at its prompt. After each, as much memory belongs to no
/// process as after the first.
fn in_qemu(project: &Project, seed: u64, seconds: u64, harts: usize) -> Result<()> {
    let built = image::build(project)?;
    let directory = project.path("build/qemu/fuzz-syscalls");
    let machine = Machine { harts, extra: vec!["-no-reboot".to_string()], ..Machine::new(&built) };
    let mut session = Session::start(&machine, &directory, false)?;
    let mut take = |step: &Step| {
        session.step(step, STEP_SECONDS).with_context(|| format!("{}\n{}", step.name(), session.excerpt()))
    };
    take(&expecting(None, &["init: ready", "nexus> "]))?;
    let end = after_seconds(seconds);
    let mut runs = 0;
    while runs == 0 || Instant::now() < end {
        let seed = seed + runs;
        let line = format!("run syscall-fuzzer {seed} {CALLS_A_RUN}");
        let told = format!("syscall-fuzzer: seed {seed}, {CALLS_A_RUN} calls, ");
        take(&expecting(Some(&line), &[&told, "syscall-fuzzer ended with code 0", "nexus> "]))
            .with_context(|| format!("again: `{line}` at the prompt"))?;
        take(&memory(runs == 0))?;
        runs += 1;
        println!("fuzz syscalls: QEMU, seed {seed}, {} calls in all", runs * CALLS_A_RUN);
    }
    println!(
        "fuzz syscalls: seeds {seed} to {}, {} calls in QEMU, each answer one that the table names; \
         memory as before",
        seed + runs - 1,
        runs * CALLS_A_RUN
    );
    Ok(())
}

/// A step that types a line, if there is one, and expects this.
fn expecting(line: Option<&str>, expect: &[&str]) -> Step {
    Step {
        line: line.map(str::to_string),
        expect: expect.iter().map(|text| text.to_string()).collect(),
        reject: ODD.iter().map(|text| text.to_string()).collect(),
        ..Step::default()
    }
}

/// How much memory belongs to no process: noted the first time, compared later.
fn memory(first: bool) -> Step {
    match first {
        true => Step {
            keep: BTreeMap::from([("lost".to_string(), r"of no process +\S+ \S+ +(\d+) pages".to_string())]),
            ..expecting(Some("mem"), &["of no process", "nexus> "])
        },
        false => expecting(Some("mem"), &["of no process", " {lost} pages", "nexus> "]),
    }
}
