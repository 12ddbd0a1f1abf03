//! `nx test os`: one boot with self-tests, judged by the ladder while it runs.

use crate::console::{Lines, shown};
use crate::disk;
use crate::guest::{Event, Guest, after_seconds};
use crate::image;
use crate::judge::{Failure, Goal, Judge, Verdict};
use crate::ladder::{LADDER_FILE, Ladder};
use crate::project::Project;
use crate::qemu::Machine;
use anyhow::{Result, bail, ensure};
use std::collections::VecDeque;
use std::time::Instant;

/// Lines of the console that a failure shows at the most.
const EXCERPT_LINES_MAX: usize = 220;

/// Seconds that a boot may take when nothing else is said.
const TIMEOUT_SECONDS: u64 = 180;

/// Which boot, and how far.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Name of the run: its files are in build/qemu/NAME (`os-smpN` when left out)
    #[arg(long)]
    pub profile: Option<String>,
    /// Harts of the machine
    #[arg(long, env = "SMP", default_value_t = 1)]
    pub smp: usize,
    /// Require the markers of the other harts (`1`; needs more than one)
    #[arg(long, env = "REQUIRE_SMP", default_value = "0")]
    pub require_smp: String,
    /// RAM of the machine
    #[arg(long, default_value = "128M")]
    pub memory: String,
    /// End with success after this phase
    #[arg(long, env = "RUN_PHASE")]
    pub phase: Option<String>,
    /// End with success at this marker
    #[arg(long, env = "RUN_UNTIL_MARKER")]
    pub until_marker: Option<String>,
    /// Seconds that the whole boot may take
    #[arg(long, env = "RUN_TIMEOUT", default_value_t = TIMEOUT_SECONDS)]
    pub timeout: u64,
    /// Boot what build/image holds, without compiling
    #[arg(long)]
    pub no_build: bool,
    /// Print the console while it comes
    #[arg(long, short)]
    pub verbose: bool,
}

impl Arguments {
    /// The whole ladder on so many harts.
    pub fn for_harts(harts: usize) -> Self {
        Arguments {
            profile: None,
            smp: harts,
            require_smp: if harts > 1 { "1" } else { "0" }.to_string(),
            memory: "128M".to_string(),
            phase: None,
            until_marker: None,
            timeout: TIMEOUT_SECONDS,
            no_build: false,
            verbose: false,
        }
    }
}

/// Boots and judges; an error is a failed run.
pub fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    let ladder = Ladder::parse(&project.read(LADDER_FILE)?)?;
    let goal = goal(&ladder, arguments)?;
    let built = if arguments.no_build { image::last_built(project)? } else { image::build(project)? };
    let name = arguments.profile.clone().unwrap_or_else(|| format!("os-smp{}", arguments.smp));
    let directory = format!("build/qemu/{name}");
    let machine = Machine {
        harts: arguments.smp,
        memory: arguments.memory.clone(),
        append: "selftest drill machine=ladder console.origin=1".to_string(),
        disk: Some(disk::of_test(&project.path(&directory), disk::Condition::New)?),
        devices: vec!["virtio-rng-device".to_string(); 2],
        extra: vec!["-no-reboot".to_string()],
        ..Machine::new(&built)
    };
    let guest = Guest::start(&machine, &project.path(&directory))?;
    let mut boot = Boot::new(&ladder, goal, arguments);
    boot.watch(guest);
    boot.report(&directory)
}

fn goal(ladder: &Ladder, arguments: &Arguments) -> Result<Goal> {
    let mut goal = Goal::default();
    match arguments.require_smp.as_str() {
        "" | "0" => {}
        "1" => {
            ensure!(arguments.smp > 1, "REQUIRE_SMP=1 needs SMP of at least 2; it is {}", arguments.smp);
            goal.profiles.push("smp".to_string());
        }
        other => bail!("REQUIRE_SMP is `{other}`; it must be 0 or 1"),
    }
    if let Some(name) = arguments.phase.as_deref().filter(|name| !name.is_empty()) {
        goal.phase = Some(ladder.phase_index(name)?);
    }
    if let Some(text) = arguments.until_marker.as_deref().filter(|text| !text.is_empty()) {
        ensure!(ladder.marker(text).is_some(), "{LADDER_FILE} has no marker `{text}`");
        goal.marker = Some(text.to_string());
    }
    Ok(goal)
}

/// A boot under way.
struct Boot<'a> {
    ladder: &'a Ladder,
    judge: Judge<'a>,
    verdict: Verdict,
    /// The last lines of the console since the present phase began.
    phase_lines: VecDeque<String>,
    phase: Option<&'a str>,
    phase_began: Instant,
    total_seconds: u64,
    verbose: bool,
}

impl<'a> Boot<'a> {
    fn new(ladder: &'a Ladder, goal: Goal, arguments: &Arguments) -> Self {
        let judge = Judge::new(ladder, goal);
        let phase = judge.expected().map(|marker| marker.phase.as_str());
        Boot {
            ladder,
            judge,
            verdict: Verdict::Going,
            phase_lines: VecDeque::new(),
            phase,
            phase_began: Instant::now(),
            total_seconds: arguments.timeout,
            verbose: arguments.verbose,
        }
    }

    /// Takes lines until the verdict is known.
    fn watch(&mut self, mut guest: Guest) {
        let end = after_seconds(self.total_seconds);
        let mut lines = Lines::default();
        let mut silence_ends = after_seconds(self.silence_seconds());
        while self.verdict == Verdict::Going {
            let failure = match guest.next(silence_ends.min(end)) {
                Event::Bytes(bytes) => {
                    let before = self.judge.expected().map(|marker| &marker.text);
                    for line in lines.push(&bytes) {
                        self.line(line);
                    }
                    if self.judge.expected().map(|marker| &marker.text) != before {
                        silence_ends = after_seconds(self.silence_seconds());
                    }
                    continue;
                }
                Event::Quiet if Instant::now() >= end => Failure::TimedOut { seconds: self.total_seconds },
                Event::Quiet => Failure::Silence { seconds: self.silence_seconds() },
                Event::Ended(reason) => Failure::Ended { reason },
            };
            self.verdict = Verdict::Failed(failure);
        }
    }

    fn line(&mut self, line: String) {
        if self.verdict != Verdict::Going {
            return;
        }
        if self.verbose {
            println!("{line}");
        }
        self.verdict = self.judge.line(&line);
        if self.phase_lines.len() == EXCERPT_LINES_MAX {
            self.phase_lines.pop_front();
        }
        self.phase_lines.push_back(line);
        let phase = self.judge.expected().map(|marker| marker.phase.as_str());
        if phase != self.phase && !matches!(self.verdict, Verdict::Failed(_)) {
            self.end_phase(phase);
        }
    }

    fn end_phase(&mut self, next: Option<&'a str>) {
        let seconds = self.phase_began.elapsed().as_secs_f32();
        println!("phase {}: passed ({seconds:.1} s)", self.phase.unwrap_or("none"));
        self.phase = next;
        self.phase_began = Instant::now();
        self.phase_lines.clear();
    }

    fn silence_seconds(&self) -> u64 {
        let name = self.phase.unwrap_or_default();
        self.ladder
            .phases
            .iter()
            .find(|phase| phase.name == name)
            .map_or(self.total_seconds, |phase| phase.seconds)
    }

    fn report(&self, directory: &str) -> Result<()> {
        let Verdict::Failed(failure) = &self.verdict else {
            println!("ladder: passed; console in {directory}/console.log");
            return Ok(());
        };
        println!("--- console of phase {} ---", self.phase.unwrap_or("none"));
        for line in &self.phase_lines {
            println!("{}", shown(line));
        }
        println!("--- end ---");
        println!("first_failed_phase={}", self.phase.unwrap_or("none"));
        println!("missing_marker={}", self.judge.expected().map_or("none", |marker| marker.text.as_str()));
        bail!("the boot failed: {failure}; console in {directory}/console.log")
    }
}
