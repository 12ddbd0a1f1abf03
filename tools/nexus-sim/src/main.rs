//! The command line of the simulator. `just test-e2e`, `just soak sim` and `nx sim` lead here.

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use nexus_sim::campaign::{Report, Stage};
use nexus_sim::mutants::Mutant;
use nexus_sim::scenarios::{SCENARIOS, Scenario};
use nexus_sim::shell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Runs the whole system on this computer, with a seed that decides everything
#[derive(Parser)]
#[command(name = "nexus-sim", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every scenario with many seeds, or one of them with one
    Test(TestArguments),
    /// Boot and give the prompt to this terminal; Ctrl-C or `poweroff` ends it
    Shell {
        /// Boot arguments, for example `selftest console.origin=1`
        #[arg(long, default_value = "")]
        append: String,
    },
    /// As `test`, with new seeds for so many minutes
    Soak {
        /// How long
        #[arg(long)]
        minutes: u64,
        /// The first seed; by default one that the clock gives
        #[arg(long)]
        seed: Option<u64>,
    },
}

#[derive(clap::Args)]
struct TestArguments {
    /// Seeds of each scenario
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Only this scenario
    #[arg(long)]
    scenario: Option<String>,
    /// Only this seed
    #[arg(long, value_parser = number)]
    seed: Option<u64>,
    /// With a bug planted
    #[arg(long)]
    mutant: Option<Mutant>,
    /// Tell how soon each planted bug is found
    #[arg(long)]
    mutants: bool,
    /// Write a trace of the run for Perfetto to this file
    #[arg(long)]
    trace: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nexus-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments = Arguments::parse();
    let stage = Stage::new(Path::new(ROOT))?;
    match arguments.command {
        Command::Test(test) if test.mutants => mutants(&stage),
        Command::Test(test) if test.seed.is_some() || test.trace.is_some() => one(&stage, &test),
        Command::Test(test) => campaign(&stage, &chosen(&test)?, 0, test.seeds, None),
        Command::Shell { append } => shell::run(&stage, &append),
        Command::Soak { minutes, seed } => {
            let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
            let first = seed.unwrap_or(clock.as_secs() << 16);
            let time = Some(Duration::from_secs(60 * minutes));
            campaign(&stage, &every(), first, u64::MAX, time)
        }
    }
}

/// The repository that this program was built from.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Seeds within which every planted bug is found.
const MUTANT_SEEDS_MAX: u64 = 100;

fn campaign(
    stage: &Stage,
    scenarios: &[&Scenario],
    first: u64,
    seeds: u64,
    time: Option<Duration>,
) -> Result<()> {
    let began = Instant::now();
    let Report { runs, failures } = stage.campaign(scenarios, first, seeds, time);
    for failure in &failures {
        println!("FAILED {} with seed {:#x}: {}", failure.scenario, failure.seed, failure.finding);
        println!("replay: {}", failure.replay());
    }
    let seconds = began.elapsed().as_secs_f32();
    println!(
        "simulation: {runs} runs of {} scenarios in {seconds:.1} s, {} failed",
        scenarios.len(),
        failures.len()
    );
    if failures.is_empty() { Ok(()) } else { bail!("the simulation found something") }
}

fn one(stage: &Stage, test: &TestArguments) -> Result<()> {
    let seed = test.seed.unwrap_or(0);
    let mut failed = false;
    for scenario in chosen(test)? {
        let outcome = match &test.trace {
            None => stage.run(scenario, seed, test.mutant).map(|digest| format!("digest {digest:#018x}")),
            Some(path) => {
                let (outcome, trace) = stage.traced(scenario, seed, test.mutant)?;
                std::fs::write(path, serde_json::to_vec(&trace)?)
                    .with_context(|| format!("{} cannot be written", path.display()))?;
                outcome.map(|()| format!("traced to {}", path.display()))
            }
        };
        match outcome {
            Ok(text) => println!("passed {} with seed {seed:#x}: {text}", scenario.name),
            Err(finding) => {
                failed = true;
                println!("FAILED {} with seed {seed:#x}: {finding:#}", scenario.name);
            }
        }
    }
    if failed { bail!("the simulation found something") } else { Ok(()) }
}

fn every() -> Vec<&'static Scenario> {
    SCENARIOS.iter().collect()
}

fn chosen(test: &TestArguments) -> Result<Vec<&'static Scenario>> {
    let Some(name) = &test.scenario else {
        let only = if test.trace.is_some() { 1 } else { SCENARIOS.len() };
        return Ok(every().into_iter().take(only).collect());
    };
    let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    Ok(vec![
        found.with_context(|| format!("no scenario is called `{name}`; there are {}", names.join(", ")))?,
    ])
}

fn mutants(stage: &Stage) -> Result<()> {
    let mut missed = 0;
    for mutant in Mutant::ALL {
        match stage.hunt(mutant, MUTANT_SEEDS_MAX) {
            Some(found) => {
                let finding = found.finding.lines().next().unwrap_or_default().to_string();
                println!("{mutant:?}: seed {} of {}: {finding}", found.seed, found.scenario);
            }
            None => {
                missed += 1;
                println!("{mutant:?}: NOT FOUND in {MUTANT_SEEDS_MAX} seeds");
            }
        }
    }
    if missed == 0 { Ok(()) } else { bail!("{missed} planted bugs were not found") }
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("`{text}` is no number: {error}"))
}
