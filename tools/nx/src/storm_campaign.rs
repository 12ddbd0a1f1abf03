//! `nx soak storm`: calls, kills, revocations and mappings at once on several harts, in one boot after the other.

use crate::guest::after_seconds;
use crate::image;
use crate::interactive::Session;
use crate::project::Project;
use crate::qemu::Machine;
use crate::script::Step;
use anyhow::{Context, Result};
use clap::Parser;
use std::time::Instant;

/// Seconds of storm in one boot, by the machine's clock.
const STORM_SECONDS: u64 = 60;
/// Seconds that a boot may take: the computer may be busy, and harts that wait for each other go on one by one.
const BOOT_SECONDS: u64 = 600;
/// What no storm may leave on the console.
const REJECTED: [&str; 4] = ["soak: FAIL", "neuron: panic", "fault: storm", "fault: selftest-soak"];

/// What the campaign takes besides its minutes.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
pub struct Options {
    /// Harts of the machine
    #[arg(long, default_value_t = 4)]
    smp: usize,
    /// The seed of the first boot; each one after it has the next
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Boots with new seeds for so many minutes, at least once. `rest` is [`Options`].
pub fn run(project: &Project, minutes: u64, rest: &[String]) -> Result<()> {
    let options = Options::try_parse_from(rest)?;
    let built = image::build(project)?;
    let directory = project.path("build/qemu/soak-storm");
    let end = after_seconds(minutes * 60);
    let mut seed = options.seed;
    while seed == options.seed || Instant::now() < end {
        let machine = Machine {
            harts: options.smp,
            append: format!("soak storm storm={STORM_SECONDS} seed={seed}"),
            extra: vec!["-no-reboot".to_string()],
            ..Machine::new(&built)
        };
        let step = Step {
            expect: vec![format!("soak: storm of {STORM_SECONDS} s on")],
            reject: REJECTED.map(str::to_string).to_vec(),
            ..Step::default()
        };
        let mut session = Session::start(&machine, &directory, false)?;
        let told = session.step(&step, BOOT_SECONDS);
        told.with_context(|| format!("seed {seed} on {} harts\n{}", options.smp, session.excerpt()))?;
        println!("soak storm: seed {seed} on {} harts passed", options.smp);
        session.excerpt().lines().filter(|line| line.contains("soak: ")).for_each(|line| println!("{line}"));
        seed += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Option<(usize, u64)> {
        Options::try_parse_from(words).ok().map(|options| (options.smp, options.seed))
    }

    #[test]
    fn four_harts_and_the_first_seed_unless_told_otherwise() {
        assert_eq!(parsed(&[]), Some((4, 1)));
        assert_eq!(parsed(&["--smp", "2", "--seed", "9"]), Some((2, 9)));
    }

    #[test]
    fn test_reject_options_that_are_none() {
        assert_eq!(parsed(&["--harts", "2"]), None);
        assert_eq!(parsed(&["--seed", "x"]), None);
    }
}
