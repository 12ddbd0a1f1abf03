//! `nx setup` and `nx doctor`. What is needed, and how it is had, only `scripts/setup.sh` knows: it must
//! run where no compiler is yet.

use crate::project::{Project, Toolchain, execute};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::process::{Command, Stdio};

/// What to install.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Only what running needs
    #[arg(long, conflicts_with = "test")]
    pub run: bool,
    /// What running and testing need (the default)
    #[arg(long)]
    pub test: bool,
    /// Force one way to a compiler
    #[arg(long)]
    pub toolchain: Option<Toolchain>,
}

/// How to tell.
#[derive(Clone, Debug, clap::Args)]
pub struct DoctorArguments {
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

/// One need and whether it is met.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Need {
    name: String,
    met: bool,
    needed_by: String,
    reason: String,
    mended_by: Option<String>,
}

/// Installs what is missing.
pub fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    let mut command = script(project);
    if let Some(toolchain) = arguments.toolchain {
        command.env("NEXUS_TOOLCHAIN", toolchain.name());
    }
    execute(command.arg(if arguments.run { "run" } else { "test" }))
}

/// Tells what is missing, with the command that mends it; an error when something is.
pub fn doctor(project: &Project, arguments: &DoctorArguments) -> Result<()> {
    if !arguments.json {
        return execute(script(project).arg("doctor")).context("something is missing");
    }
    let output =
        script(project).args(["doctor", "--plain"]).output().context("scripts/setup.sh cannot be run")?;
    let needs = parse(&String::from_utf8_lossy(&output.stdout))?;
    println!("{}", serde_json::to_string_pretty(&serde_json::json!({ "needs": needs }))?);
    if needs.iter().any(|need| !need.met) {
        bail!("something is missing");
    }
    Ok(())
}

fn script(project: &Project) -> Command {
    let mut command = Command::new(project.path("scripts/setup.sh"));
    command.current_dir(project.root()).stdin(Stdio::null());
    command
}

fn parse(text: &str) -> Result<Vec<Need>> {
    let need = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [state, name, needed_by, reason, mend] = fields[..] else {
            bail!("scripts/setup.sh said something unexpected: {line}");
        };
        Ok(Need {
            name: name.to_string(),
            met: state == "ok",
            needed_by: needed_by.to_string(),
            reason: reason.to_string(),
            mended_by: (!mend.is_empty()).then(|| mend.to_string()),
        })
    };
    text.lines().map(need).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_script_is_a_need() {
        let needs = parse(
            "ok\tqemu\tmake run\tthe machine\t\nmissing\tjust\tmake test\trecipes\tapt-get install just\n",
        );
        let needs = needs.unwrap();
        assert!(needs[0].met && needs[0].mended_by.is_none());
        assert_eq!(needs[1].mended_by.as_deref(), Some("apt-get install just"));
        assert!(parse("nonsense").is_err());
    }
}
