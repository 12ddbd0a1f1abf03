//! The long campaign: `power-soak --minutes N [--seed S]` cuts the power until the time is up; a failure names the
//! seed of its machine. With `--machine` it is one in QEMU that boots what build/image holds. `power-soak writer` is
//! the program whose power is cut without QEMU.

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use nx::image::{last_built, last_built_with_mutants};
use nx::project::Project;
use nx_disk::Ended;
use power_proofs::{Boots, Fault, Machine, Mutant, writer};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Lives of one machine, then comes the next.
const ROUNDS: u64 = 50;
/// The reader in Python, which takes its time, looks after one cut in so many.
const PYTHON_EACH: u64 = 10;
/// Lives of a machine in QEMU within which each deliberate fault is found.
const FOUND_WITHIN: u64 = 20;
/// Seeds with which each is looked for.
const SEEDS: u64 = 3;
/// Where the files of machines in QEMU are.
const FOLDER: &str = "build/qemu/power";

/// Cuts the power, again and again, and compares what is there with what was acknowledged
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    writer: Option<Writer>,
    /// How long
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    /// As many lives at the least
    #[arg(long, default_value_t = 1)]
    lives: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Boot the whole system in QEMU
    #[arg(long)]
    machine: bool,
    /// Tell after how many lives of a machine each deliberate fault is found; the image is that with planted faults
    #[arg(long, requires = "machine")]
    faults: bool,
}

#[derive(Subcommand)]
enum Writer {
    /// Write to the store on a served disk, and say what was tried and acknowledged
    Writer {
        /// Where the disk is served
        socket: PathBuf,
        /// What decides about the changes
        seed: u64,
        /// Answer before the flush: a deliberate fault
        #[arg(long)]
        acknowledges_early: bool,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.writer {
        Some(Writer::Writer { socket, seed, acknowledges_early }) => {
            let mutant = if acknowledges_early { Mutant::AcknowledgedBeforeFlush } else { Mutant::None };
            writer::run(&socket, seed, mutant)
        }
        None if arguments.faults => faults(&arguments),
        None => soak(&arguments),
    }
}

/// What a campaign counted.
#[derive(Default)]
struct Seen {
    lives: u64,
    cuts: u64,
    acknowledged: u64,
    unanswered: u64,
}

fn soak(arguments: &Arguments) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60 * arguments.minutes);
    let is_over = |seen: &Seen| seen.lives >= arguments.lives && Instant::now() >= end;
    let mut seen = Seen::default();
    for seed in arguments.seed.. {
        let again = || format!("again: power-soak --lives {ROUNDS} --seed {seed}");
        match arguments.machine {
            true => boots(seed, &mut seen, &is_over)
                .with_context(|| format!("{} --machine, with the same image", again()))?,
            false => lives(seed, &mut seen).with_context(again)?,
        }
        let Seen { cuts, acknowledged, .. } = seen;
        println!("seed {seed}: {cuts} cuts, {acknowledged} acknowledged commits, all there");
        if is_over(&seen) {
            break;
        }
    }
    let Seen { lives, cuts, acknowledged, unanswered } = seen;
    // Without either nothing was tried.
    ensure!(
        cuts > 0 && acknowledged > 0,
        "{lives} lives with {cuts} power cuts and {acknowledged} acknowledged commits"
    );
    println!(
        "{lives} lives, {cuts} power cuts, {acknowledged} acknowledged commits, no promise broken; \
         {unanswered} commits without an answer are there whole"
    );
    Ok(())
}

/// Lives of one machine without QEMU.
fn lives(seed: u64, seen: &mut Seen) -> Result<()> {
    let mut machine = Machine::new(&std::env::current_exe()?, seed, Mutant::None)?;
    for _ in 0..ROUNDS {
        let round = machine.round(seen.lives.is_multiple_of(PYTHON_EACH))?;
        seen.lives += 1;
        seen.cuts += u64::from(matches!(round.ended, Ended::Cut(_)));
        seen.acknowledged += round.acknowledged;
        seen.unanswered += u64::from(round.in_flight_applied);
    }
    Ok(())
}

/// Lives of one machine in QEMU.
fn boots(seed: u64, seen: &mut Seen, is_over: &impl Fn(&Seen) -> bool) -> Result<()> {
    let project = Project::find()?;
    let built = last_built(&project)?;
    let mut boots = Boots::new(&built, &project.path(FOLDER), seed, None)?;
    for _ in 0..ROUNDS {
        let life = boots.life(seen.lives.is_multiple_of(PYTHON_EACH))?;
        seen.lives += 1;
        seen.cuts += u64::from(matches!(life.ended, Ended::Cut(_)));
        seen.acknowledged += life.acknowledged as u64;
        seen.unanswered += (life.found - life.acknowledged) as u64;
        if is_over(seen) {
            break;
        }
    }
    Ok(())
}

/// Looks for each fault with several seeds; the same image without one is no finding, which one seed shows.
fn faults(arguments: &Arguments) -> Result<()> {
    let project = Project::find()?;
    let built = last_built_with_mutants(&project)?;
    let mut missed = 0;
    for fault in [None].into_iter().chain(Fault::ALL.map(Some)) {
        let about = fault.map_or("no fault", Fault::about);
        for seed in arguments.seed..arguments.seed + fault.map_or(1, |_| SEEDS) {
            let mut boots = Boots::new(&built, &project.path(FOLDER), seed, fault)?;
            let found =
                (1..=FOUND_WITHIN).find_map(|life| boots.life(false).err().map(|finding| (life, finding)));
            match &found {
                Some((life, finding)) => println!("{about}, seed {seed}: found in life {life}: {finding:#}"),
                None => println!("{about}, seed {seed}: not found in {FOUND_WITHIN} lives"),
            }
            missed += u64::from(found.is_some() != fault.is_some());
        }
    }
    ensure!(missed == 0, "{missed} times a fault was not found, or one that is none");
    Ok(())
}
