//! The doors to the simulator, `tools/nexus-sim`: `nx sim`, `nx test e2e`, `nx soak`.

use crate::project::{Project, execute};
use crate::{coverage, driver_campaign, identity_campaign, image, storm_campaign};
use anyhow::{Result, bail};
use std::process::{Command, Stdio};

/// What is handed on to the simulator as it is.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Whatever the simulator takes; `--help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<String>,
}

/// A campaign without a fixed end.
#[derive(Clone, Debug, clap::Args)]
pub struct Soak {
    /// `sim`, `statefs`, `power`, `drivers`, `identity` or `storm`
    pub what: String,
    /// How long
    pub minutes: u64,
    /// Whatever the campaign takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<String>,
}

/// The whole system on this terminal, without QEMU.
pub fn shell(project: &Project, arguments: &Arguments) -> Result<()> {
    let mut command = simulator(project, "tool");
    execute(command.arg("shell").args(&arguments.rest).stdin(Stdio::inherit()))
}

/// Every scenario with many seeds, or what the arguments say; `--coverage` is ours.
pub fn test(project: &Project, arguments: &Arguments) -> Result<()> {
    if arguments.rest.iter().any(|word| word == "--coverage") {
        return coverage::run(project);
    }
    execute(simulator(project, "dev").arg("test").args(&arguments.rest))
}

/// New seeds for as long as was asked.
pub fn soak(project: &Project, soak: &Soak) -> Result<()> {
    if soak.what == "drivers" {
        return driver_campaign::run(project, soak.minutes);
    }
    if soak.what == "identity" {
        return identity_campaign::run(project, soak.minutes);
    }
    if soak.what == "storm" {
        return storm_campaign::run(project, soak.minutes, &soak.rest);
    }
    let minutes = soak.minutes.to_string();
    let mut command = match soak.what.as_str() {
        "sim" => {
            let mut command = simulator(project, "host");
            command.arg("soak");
            command
        }
        "statefs" => campaign(project, "host", "statefs-proofs", "statefs-soak"),
        "power" => {
            let asks = |word: &str| soak.rest.iter().any(|other| other == word);
            match (asks("--machine"), asks("--faults")) {
                (_, true) => drop(image::build_with_mutants(project)?),
                (true, _) => drop(image::build(project)?),
                _ => {}
            }
            campaign(project, "host", "power-proofs", "power-soak")
        }
        other => bail!(
            "`{other}` cannot be soaked; `sim`, `statefs`, `power`, `drivers`, `identity` and `storm` can"
        ),
    };
    execute(command.arg("--minutes").arg(minutes).args(&soak.rest))
}

/// Boots whose power is cut, which `nx test all` makes.
const POWER_LIVES: &str = "5";

/// A few power cuts under a machine in QEMU.
pub fn power(project: &Project) -> Result<()> {
    image::build(project)?;
    // As the other tests are compiled, so that little is compiled anew.
    let mut command = campaign(project, "dev", "power-proofs", "power-soak");
    execute(command.args(["--machine", "--lives", POWER_LIVES]))
}

fn campaign(project: &Project, profile: &str, package: &str, program: &str) -> Command {
    let mut command = project.cargo();
    command.args(["run", "--profile", profile, "--package", package, "--bin", program, "--"]);
    command
}

fn simulator(project: &Project, profile: &str) -> Command {
    let mut command = project.cargo();
    command.args(["run", "--quiet", "--profile", profile, "--package", "nexus-sim", "--"]);
    command
}
