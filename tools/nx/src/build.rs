//! `nx build`: the compiler is called once for the kernel and once for all programs.

use crate::project::{KERNEL, Project, execute};
use anyhow::{Result, bail};

/// What to compile.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// `kernel`, `userland` or the name of a package; everything when left out
    pub what: Option<String>,
}

/// Compiles what was asked for.
pub fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    match arguments.what.as_deref() {
        None => everything(project),
        Some("kernel") => kernel(project),
        Some("userland") => userland(project),
        Some(name) => package(project, name),
    }
}

/// Compiles the kernel and every program.
pub fn everything(project: &Project) -> Result<()> {
    kernel(project)?;
    userland(project)
}

/// Compiles the kernel.
pub fn kernel(project: &Project) -> Result<()> {
    if !project.packages()?.iter().any(|package| package.name == KERNEL) {
        bail!("the workspace has no package `{KERNEL}`");
    }
    let mut command = project.device_cargo("build");
    execute(command.args(["--release", "--package", KERNEL]))
}

/// Compiles every program, in one call of cargo.
pub fn userland(project: &Project) -> Result<()> {
    let names: Vec<String> = project.programs()?.into_iter().map(|package| package.name).collect();
    programs(project, &names)
}

fn package(project: &Project, name: &str) -> Result<()> {
    let packages = project.packages()?;
    if name == KERNEL {
        return kernel(project);
    }
    if packages.iter().any(|package| package.name == name) {
        return programs(project, &[name.to_string()]);
    }
    let mut known: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    known.sort_unstable();
    bail!("no package `{name}`; there are: kernel, userland, {}", known.join(", "))
}

/// Compiles every program anew that has planted faults, for the proof that the proofs find them.
pub fn with_mutants(project: &Project) -> Result<()> {
    let names = MUTANTS.map(str::to_string);
    let features = MUTANTS.map(|name| format!("{name}/mutants")).join(",");
    programs_with(project, &names, &["--features", &features])
}

/// Programs with planted faults, which a boot argument chooses.
pub const MUTANTS: [&str; 2] = ["statefsd", "virtioblkd"];

/// Compiles the programs of these packages, in one call of cargo.
pub fn programs(project: &Project, names: &[String]) -> Result<()> {
    programs_with(project, names, &[])
}

fn programs_with(project: &Project, names: &[String], more: &[&str]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut command = project.device_cargo("build");
    command.arg("--release").args(more);
    for name in names {
        command.args(["--package", name]);
    }
    // A fault report walks the frames of the program that faulted.
    execute(command.env("CARGO_ENCODED_RUSTFLAGS", "-Cforce-frame-pointers=yes"))
}
