//! The long campaign: `statefs-soak --minutes N` cuts fresh scenarios until the time is up, each without and with
//! processes that die before the power goes; `--seed S` runs one.

use statefs::Mutant;
use statefs_proofs::campaign::{Campaign, SOAK, Seen};
use std::time::{Duration, Instant};

fn argument(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.parse().ok()
}

fn main() -> std::process::ExitCode {
    let mut seen = Seen::default();
    let end = Instant::now() + Duration::from_secs(60 * argument("--minutes").unwrap_or(1));
    let single = argument("--seed");
    let mut seed = single.unwrap_or_else(|| argument("--from").unwrap_or(1_000));
    loop {
        let mut campaign = Campaign { seen: &mut seen, effort: SOAK, mutant: Mutant::None };
        if let Err(failure) = campaign.scenario(seed).and_then(|()| campaign.scenario_with_deaths(seed)) {
            eprintln!("{failure:?}; again: statefs-soak --seed {seed}");
            return std::process::ExitCode::FAILURE;
        }
        if single.is_some() || Instant::now() >= end {
            break;
        }
        seed += 1;
        if seed.is_multiple_of(50) {
            println!("{} scenarios, {} distinct images", seen.scenarios, seen.images.len());
        }
    }
    println!("{} scenarios, {} distinct images, no promise broken", seen.scenarios, seen.images.len());
    for ((phase, second), count) in &seen.by_phase {
        println!("  {phase:?}{}: {count}", if *second { ", second cut" } else { "" });
    }
    std::process::ExitCode::SUCCESS
}
