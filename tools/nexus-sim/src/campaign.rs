//! Many seeds of many scenarios, side by side; a failure is one line that replays it.

use crate::image::{Built, build};
use crate::invariants::Rest;
use crate::mutants::Mutant;
use crate::run::Run;
use crate::scenarios::{SCENARIOS, Scenario};
use crate::system::Setup;
use anyhow::{Context, Result};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Who exists in the system, relative to the repository.
pub const RECIPE_FILE: &str = "recipes/system.toml";
/// Failures that a campaign shows.
const FAILURES_MAX: usize = 5;

/// What every run of a campaign shares.
pub struct Stage {
    built: Built,
    rest: Rest,
}

/// A run that found something.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The scenario.
    pub scenario: &'static str,
    /// The seed.
    pub seed: u64,
    /// What it found.
    pub finding: String,
}

impl Failure {
    /// The command that does it again.
    pub fn replay(&self) -> String {
        format!("just test-e2e --scenario {} --seed {:#x}", self.scenario, self.seed)
    }
}

/// How a campaign went.
#[derive(Debug, Default)]
pub struct Report {
    /// Runs that were made.
    pub runs: u64,
    /// What they found, the first few.
    pub failures: Vec<Failure>,
}

impl Stage {
    /// Builds the image of this repository and looks at a system to which nothing happens.
    pub fn new(root: &Path) -> Result<Self> {
        let built = build(root, RECIPE_FILE)?;
        let mut run = Run::boot(&built, Setup::default())?;
        run.until_prompt().context("a system to which nothing happens does not come up")?;
        let rest = run.rest().inspect_err(|_| eprintln!("{}", run.console()))?;
        drop(run);
        Ok(Stage { built, rest })
    }

    /// What is booted.
    pub fn built(&self) -> &Built {
        &self.built
    }

    /// One run; yields its digest.
    pub fn run(&self, scenario: &Scenario, seed: u64, mutant: Option<Mutant>) -> Result<u64> {
        let mut run = self.begin(scenario, seed, mutant, false)?;
        (scenario.tell)(&mut run, &self.rest)?;
        Ok(run.digest())
    }

    /// One run, with its trace, whatever it came to.
    pub fn traced(
        &self,
        scenario: &Scenario,
        seed: u64,
        mutant: Option<Mutant>,
    ) -> Result<(Result<()>, serde_json::Value)> {
        let mut run = self.begin(scenario, seed, mutant, true)?;
        let outcome = (scenario.tell)(&mut run, &self.rest);
        let trace = run.system().trace().map(crate::trace::Trace::json).unwrap_or_default();
        Ok((outcome, trace))
    }

    fn begin(&self, scenario: &Scenario, seed: u64, mutant: Option<Mutant>, trace: bool) -> Result<Run<'_>> {
        let arguments = scenario.arguments.to_string();
        let is_bare = scenario.is_bare;
        Run::boot(&self.built, Setup { arguments, seed, mutant, trace, is_bare, ..Setup::default() })
    }

    /// Seeds from `first` on, each in these scenarios, until as many were run or the time is over; each
    /// eighth is run twice, and must go the same way.
    pub fn campaign(
        &self,
        scenarios: &[&Scenario],
        first: u64,
        seeds: u64,
        time: Option<Duration>,
    ) -> Report {
        let began = Instant::now();
        let next = AtomicU64::new(first);
        let runs = AtomicU64::new(0);
        let enough = AtomicBool::new(false);
        let failures = Mutex::new(Vec::new());
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Relaxed);
                        let over = time.is_some_and(|time| began.elapsed() >= time);
                        if seed >= first.saturating_add(seeds) || over || enough.load(Relaxed) {
                            return;
                        }
                        for &scenario in scenarios {
                            runs.fetch_add(1, Relaxed);
                            let Err(finding) = self.once_or_twice(scenario, seed) else { continue };
                            let finding = format!("{finding:#}");
                            let mut failures = failures.lock().expect("no run panics while it holds this");
                            failures.push(Failure { scenario: scenario.name, seed, finding });
                            enough.store(failures.len() >= FAILURES_MAX, Relaxed);
                        }
                    }
                });
            }
        });
        let failures = failures.into_inner().expect("no run panics while it holds this");
        Report { runs: runs.into_inner(), failures }
    }

    fn once_or_twice(&self, scenario: &Scenario, seed: u64) -> Result<()> {
        let digest = self.run(scenario, seed, None)?;
        if seed.is_multiple_of(8) {
            let again = self.run(scenario, seed, None)?;
            anyhow::ensure!(digest == again, "the same seed went two ways: {digest:#x} and {again:#x}");
        }
        Ok(())
    }

    /// The first seed, of so many, and the scenario in which a planted bug is found.
    pub fn hunt(&self, mutant: Mutant, seeds: u64) -> Option<Failure> {
        (0..seeds).find_map(|seed| {
            SCENARIOS.iter().find_map(|scenario| {
                let finding = self.run(scenario, seed, Some(mutant)).err()?;
                Some(Failure { scenario: scenario.name, seed, finding: format!("{finding:#}") })
            })
        })
    }
}
