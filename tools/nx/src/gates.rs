//! The gates: what `make test` and the recipes of the justfile prove, one name each.
//!
//! `nx gate NAME` runs one with its output on the terminal. `nx test all` runs all of them, each with its
//! output in `build/test/NAME.log`, and ends with a line that counts them.

use crate::documents::undocumented_unsafe;
use crate::interactive;
use crate::project::{Project, execute, output};
use crate::{architecture, dependencies, drift, figures, image, licences, os_test, simulation};
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Lines of a failed gate's output that are shown.
const EXCERPT_LINES_MAX: usize = 240;
/// Address space of one process of a gate: a test that runs away must not take the computer with it.
const PROCESS_BYTES_MAX: u64 = 8 << 30;
/// Packages that must also be free of warnings for the machine stand below this folder.
const DEVICE_FOLDER: &str = "source/";

/// One thing that is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Gate {
    /// The sources are formatted as rustfmt.toml says
    FmtCheck,
    /// clippy has no warning, on the host and for the machine
    Lint,
    /// Nothing forbidden is linked into what runs on the machine
    DepGate,
    /// Dependencies run one way, and no service calls itself through others
    ArchCheck,
    /// Licences and sources are allowed, nothing is linked in two versions
    DenyCheck,
    /// Unit, property and negative tests on the host
    TestHost,
    /// The whole system on the simulator: every scenario with many seeds, and faults
    TestE2e,
    /// Every order in which harts can meet in the shared structures
    TestLoom,
    /// Kernel, programs and image can be built
    Build,
    /// The whole ladder on one hart
    TestOs,
    /// The whole ladder on two harts, then on four
    TestOsSmp,
    /// A few power cuts under the whole system, compared from outside
    TestPower,
    /// People's sessions at the prompt, and boots that must be refused
    TestInteractive,
    /// Documents agree with the sources
    Drift,
}

impl Gate {
    /// Every gate, in the order in which they run.
    pub const ALL: [Gate; 14] = [
        Gate::FmtCheck,
        Gate::Drift,
        Gate::ArchCheck,
        Gate::DepGate,
        Gate::DenyCheck,
        Gate::Lint,
        Gate::TestHost,
        Gate::TestE2e,
        Gate::TestLoom,
        Gate::Build,
        Gate::TestOs,
        Gate::TestOsSmp,
        Gate::TestPower,
        Gate::TestInteractive,
    ];

    /// Its name, as on the command line.
    pub fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// Seconds after which it is ended as failed.
    const fn seconds(self) -> u64 {
        match self {
            Gate::Lint | Gate::TestHost | Gate::TestInteractive => 2400,
            Gate::TestE2e | Gate::TestLoom | Gate::Build | Gate::TestPower => 1200,
            _ => 400,
        }
    }
}

/// Runs one gate with its output here.
pub fn run(project: &Project, gate: Gate, doors: &drift::Doors) -> Result<()> {
    match gate {
        Gate::FmtCheck => execute(project.cargo().args(["fmt", "--all", "--check"])),
        Gate::Lint => lint(project),
        Gate::DepGate => dependencies::run(project),
        Gate::ArchCheck => architecture::run(project),
        Gate::DenyCheck => deny(project),
        Gate::TestHost => execute(project.cargo().args(["test", "--workspace"])),
        Gate::TestE2e => simulation::test(project, &simulation::Arguments::default()),
        Gate::TestLoom => loom(project),
        Gate::Build => image::build(project).map(drop),
        Gate::TestOs => os_test::run(project, &os_test::Arguments::for_harts(1)),
        Gate::TestOsSmp => {
            os_test::run(project, &os_test::Arguments::for_harts(2))?;
            os_test::run(project, &os_test::Arguments::for_harts(4))
        }
        Gate::TestPower => simulation::power(project),
        Gate::TestInteractive => interactive::run(project, &interactive::Arguments::default()),
        Gate::Drift => drift::run(project, doors),
    }
}

fn lint(project: &Project) -> Result<()> {
    execute(project.cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    let mut device = project.device_cargo("clippy");
    for package in project.packages()?.iter().filter(|package| package.folder.starts_with(DEVICE_FOLDER)) {
        device.args(["--package", &package.name]);
    }
    execute(device.args(["--", "-D", "warnings"]))?;
    let missing = undocumented_unsafe(project)?;
    ensure!(missing.is_empty(), "unsafe without SAFETY: {}", missing.join(", "));
    figures::run(project)
}

/// Runs the tests of every package that knows the model checker, in a build of their own.
fn loom(project: &Project) -> Result<()> {
    let mut command = project.cargo();
    command.args(["test", "--profile", "tool", "--tests", "--target-dir", "target/loom"]);
    for package in project.packages()? {
        if project.read(&format!("{}/Cargo.toml", package.folder))?.contains("cfg(loom)") {
            command.args(["--package", &package.name]);
        }
    }
    execute(command.env("CARGO_ENCODED_RUSTFLAGS", "--cfg\x1floom"))
}

fn deny(project: &Project) -> Result<()> {
    licences::run(project)?;
    if output(project.cargo().args(["deny", "--version"])).is_err() {
        println!("cargo-deny is not installed; its advisories were not looked at");
        return Ok(());
    }
    execute(project.cargo().args(["deny", "check", "licenses", "bans", "sources"]))
}

/// Runs every gate, tells each result, and counts them in the last line.
pub fn run_all(project: &Project) -> Result<()> {
    let folder = project.path("build/test");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be created", folder.display()))?;
    let mut failed = 0;
    for gate in Gate::ALL {
        let name = gate.name();
        let log = folder.join(format!("{name}.log"));
        let began = Instant::now();
        let result = run_apart(gate, &log);
        let seconds = began.elapsed().as_secs_f32();
        match result {
            Ok(()) => println!("gate {name}: passed ({seconds:.1} s)"),
            Err(error) => {
                failed += 1;
                println!(
                    "gate {name}: FAILED ({seconds:.1} s): {error:#}; all of it in build/test/{name}.log"
                );
                println!("{}", tail(&log));
            }
        }
    }
    println!("{} passed, {failed} failed", Gate::ALL.len() - failed);
    if failed > 0 {
        std::process::exit(1);
    }
    Ok(())
}

/// Runs a gate as a process of its own, which ends with everything that it started when time is up.
fn run_apart(gate: Gate, log: &Path) -> Result<()> {
    let output = File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let mut command = Command::new("setpriv");
    // When this process ends in whatever way, `timeout` ends the gate with all that it started.
    command.args(["--pdeathsig", "TERM", "timeout", "--kill-after=10", &gate.seconds().to_string()]);
    command.args(["prlimit", &format!("--as={PROCESS_BYTES_MAX}")]).arg(program).args(["gate", &gate.name()]);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let progress = ProgressBar::new_spinner().with_message(gate.name());
    progress.set_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}")?);
    progress.enable_steady_tick(Duration::from_millis(200));
    let status = command.status().context("setpriv cannot be started");
    progress.finish_and_clear();
    match status?.code() {
        Some(0) => Ok(()),
        Some(124 | 137) => bail!("not done after {} s", gate.seconds()),
        _ => bail!("it found something"),
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(EXCERPT_LINES_MAX)..].join("\n")
}
