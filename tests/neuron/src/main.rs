//! `neuron-fuzz --calls N` or `--seconds N`: seed after seed until that is done; `--seed S` begins there.
//!
//! A line of progress a few times a minute; a failure ends the run with the line that replays it.

use anyhow::{Result, bail};
use clap::Parser;
use neuron_proofs::{Made, Plan, Tally, run_seed, run_side_by_side};
use nexus_abi::calls::SYSTEM_CALLS;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Calls that one seed makes: its machine stays in memory, and its replay must be short.
const CALLS_A_SEED: u64 = 5_000_000;
/// Calls that each of several harts makes of one seed.
const CALLS_A_HART: u64 = 200_000;
/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);
/// Time in which a batch must be done: a kernel that does not come back fails too.
const PATIENCE: Duration = Duration::from_secs(120);

/// Random system calls against the kernel's core
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Calls to make
    #[arg(long)]
    calls: Option<u64>,
    /// Seconds to go on, when no number of calls is given
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// So many harts beside each other, each with the calls of a seed; 1: one call after the other
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..8))]
    harts: u8,
    /// Print and audit each call of the first seed from this one on
    #[arg(long, default_value_t = u64::MAX)]
    look_from: u64,
    /// Tell how often each call was answered without an error
    #[arg(long)]
    figures: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.harts > 1 {
        side_by_side(&arguments);
        return Ok(());
    }
    let began = Instant::now();
    let end = began + Duration::from_secs(arguments.seconds);
    let watched = watch();
    let mut total = Tally::default();
    let mut last_line = Instant::now();
    for seed in arguments.seed.. {
        let left = arguments.calls.map_or(CALLS_A_SEED, |calls| calls - total.calls);
        let plan = Plan { seed, calls: left.min(CALLS_A_SEED), look_from: arguments.look_from };
        let before = total.calls;
        let outcome = run_seed(plan, |calls| {
            *watched.lock().unwrap_or_else(PoisonError::into_inner) = (seed, Instant::now());
            if last_line.elapsed() >= PROGRESS {
                last_line = Instant::now();
                tell(seed, before + calls, began);
            }
        });
        match outcome {
            Ok(tally) => {
                total.add(&tally);
            }
            Err(failure) => {
                for words in &failure.last {
                    eprintln!("  {words}");
                }
                let (seed, call) = (failure.seed, failure.call);
                bail!(
                    "seed {seed} failed at call {call}; again: neuron-fuzz --seed {seed} --calls {}",
                    call + 1
                );
            }
        }
        let is_over = match arguments.calls {
            Some(calls) => total.calls >= calls,
            None => Instant::now() >= end,
        };
        if is_over {
            tell(seed, total.calls, began);
            return report(&arguments, seed, &total);
        }
    }
    Ok(())
}

/// Seed after seed on several harts. What is wrong ends the program.
fn side_by_side(arguments: &Arguments) {
    let began = Instant::now();
    let watched = watch();
    let mut total = Made::default();
    for seed in arguments.seed.. {
        *watched.lock().unwrap_or_else(PoisonError::into_inner) = (seed, Instant::now());
        println!("neuron-fuzz: seed {seed} on {} harts, {} calls so far", arguments.harts, total.calls);
        total.add(&run_side_by_side(seed, arguments.harts.into(), CALLS_A_HART));
        let is_over = match arguments.calls {
            Some(calls) => total.calls >= calls,
            None => began.elapsed().as_secs() >= arguments.seconds,
        };
        if is_over {
            println!(
                "neuron-fuzz: seeds {} to {seed} on {} harts, {} calls, {} of them answered without an error, \
                 {} messages on the fast path, {} threads taken over; every count as before",
                arguments.seed, arguments.harts, total.calls, total.answered, total.fast, total.stolen
            );
            return;
        }
    }
}

/// The last line; a call that was never taken was not fuzzed.
fn report(arguments: &Arguments, last: u64, total: &Tally) -> Result<()> {
    if arguments.figures {
        for (call, answered) in SYSTEM_CALLS.iter().zip(total.answered) {
            println!("{:<20} {answered:>12}", call.name);
        }
    }
    let never = total.never_answered();
    if !never.is_empty() && total.calls >= CALLS_A_SEED {
        bail!("never answered without an error: {}", never.join(", "));
    }
    println!(
        "neuron-fuzz: seeds {} to {last}, {} calls, {} of them answered without an error, {} processes; \
         every count as before",
        arguments.seed,
        total.calls,
        total.answered.iter().sum::<u64>(),
        total.processes
    );
    Ok(())
}

fn tell(seed: u64, calls: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("neuron-fuzz: seed {seed}, {calls} calls, {:.0} a second", calls as f64 / seconds);
}

/// Ends this program when no batch is done in time.
fn watch() -> Arc<Mutex<(u64, Instant)>> {
    let state = Arc::new(Mutex::new((0, Instant::now())));
    let watched = Arc::clone(&state);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let (seed, since) = *watched.lock().unwrap_or_else(PoisonError::into_inner);
            if since.elapsed() > PATIENCE {
                eprintln!("neuron-fuzz: a call of seed {seed}, or of the one after it, does not come back");
                std::process::exit(2);
            }
        }
    });
    state
}
