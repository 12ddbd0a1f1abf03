//! The long campaign: `power-soak --minutes N [--seed S]` cuts the power until the time is up; a failure names the
//! seed of its machine. `power-soak writer SOCKET SEED [--acknowledges-early]` is the program whose power is cut.

use anyhow::{Context, Result, bail};
use nx_disk::Ended;
use power_proofs::{Machine, Mutant, writer};
use std::path::Path;
use std::time::{Duration, Instant};

/// Lives of one machine, then comes the next.
const ROUNDS: u64 = 50;
/// The reader in Python, which takes its time, looks after one cut in so many.
const PYTHON_EACH: u64 = 10;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["writer", socket, seed] => writer::run(Path::new(socket), seed.parse()?, Mutant::None),
        ["writer", socket, seed, "--acknowledges-early"] => {
            writer::run(Path::new(socket), seed.parse()?, Mutant::AcknowledgedBeforeFlush)
        }
        ["--minutes", minutes] => soak(minutes.parse()?, 1),
        ["--minutes", minutes, "--seed", seed] => soak(minutes.parse()?, seed.parse()?),
        _ => bail!("power-soak --minutes N [--seed S]"),
    }
}

fn soak(minutes: u64, first_seed: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let program = std::env::current_exe()?;
    let (mut rounds, mut cuts, mut acknowledged, mut applied) = (0u64, 0u64, 0u64, 0u64);
    for seed in first_seed.. {
        let mut machine = Machine::new(&program, seed, Mutant::None)?;
        for _ in 0..ROUNDS {
            let round = machine
                .round(rounds.is_multiple_of(PYTHON_EACH))
                .with_context(|| format!("again: power-soak --minutes 1 --seed {seed}"))?;
            rounds += 1;
            cuts += u64::from(matches!(round.ended, Ended::Cut(_)));
            acknowledged += round.acknowledged;
            applied += u64::from(round.in_flight_applied);
        }
        println!("seed {seed}: {cuts} cuts, {acknowledged} acknowledged commits, all there");
        if Instant::now() >= end {
            break;
        }
    }
    println!(
        "{rounds} lives, {cuts} power cuts, {acknowledged} acknowledged commits, no promise broken; \
         {applied} commits without an answer are there whole"
    );
    Ok(())
}
