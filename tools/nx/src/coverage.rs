//! `just test-e2e --coverage`: which lines of the system's code the simulator runs.
//!
//! The simulator is built once more with the compiler's own counters, in a folder of its own, and run; the
//! tools that read the counters come with the compiler (`rustup component add llvm-tools`).

use crate::project::{Project, execute, output};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Seeds of each scenario: more change little.
const SEEDS: &str = "20";
/// Folders whose code is the system's.
const FOLDERS: [&str; 6] =
    ["source/init/", "source/services/", "source/apps/", "source/drivers/", "source/libs/", "userspace/"];

/// Builds, runs, and prints a line a package.
pub fn run(project: &Project) -> Result<()> {
    let tools = tools(project)?;
    let folder = project.path("build/coverage");
    // What an earlier run left would be counted too; that there is nothing is as good.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be created", folder.display()))?;
    let target = project.path("target/coverage");
    let mut build = project.cargo();
    build.args(["build", "--package", "nexus-sim", "--target-dir"]).arg(&target);
    execute(build.env("CARGO_ENCODED_RUSTFLAGS", "-Cinstrument-coverage"))?;
    let program = target.join("debug/nexus-sim");
    let counters = folder.join("counters-%p.profraw");
    execute(Command::new(&program).args(["test", "--seeds", SEEDS]).env("LLVM_PROFILE_FILE", counters))?;
    let merged = folder.join("counters.profdata");
    let mut merge = Command::new(tools.join("llvm-profdata"));
    merge.args(["merge", "--sparse", "--output"]).arg(&merged);
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "profraw") {
            merge.arg(path);
        }
    }
    execute(&mut merge)?;
    let mut export = Command::new(tools.join("llvm-cov"));
    export.args(["export", "--summary-only", "--instr-profile"]).arg(&merged).arg(&program);
    let export: Export = serde_json::from_str(&output(&mut export)?).context("what llvm-cov exports")?;
    print(project, &export)
}

/// Where the compiler's own tools are.
fn tools(project: &Project) -> Result<PathBuf> {
    let sysroot =
        output(Command::new("rustc").args(["--print", "target-libdir"]).current_dir(project.root()))?;
    let tools = PathBuf::from(sysroot.trim()).parent().map(|library| library.join("bin")).unwrap_or_default();
    ensure!(
        tools.join("llvm-cov").is_file(),
        "coverage needs the compiler's llvm-tools; `rustup component add llvm-tools` installs them"
    );
    Ok(tools)
}

fn print(project: &Project, export: &Export) -> Result<()> {
    let mut packages: BTreeMap<String, Lines> = BTreeMap::new();
    for file in export.data.iter().flat_map(|data| &data.files) {
        let Ok(relative) = file.filename.strip_prefix(project.root()) else { continue };
        let relative = relative.to_string_lossy();
        let ours = FOLDERS.iter().any(|folder| relative.starts_with(folder));
        if let Some((package, _)) = relative.split_once("/src/").filter(|_| ours) {
            let lines = packages.entry(package.to_string()).or_default();
            lines.count += file.summary.lines.count;
            lines.covered += file.summary.lines.covered;
        }
    }
    ensure!(!packages.is_empty(), "no file of the system was counted");
    // What the tools bring along but no program of the system runs.
    let idle: Vec<String> =
        packages.extract_if(.., |_, lines| lines.covered == 0).map(|(name, _)| name).collect();
    let all = packages.values().fold(Lines::default(), |sum, lines| Lines {
        count: sum.count + lines.count,
        covered: sum.covered + lines.covered,
    });
    println!("{:<36} {:>7} {:>8}", "lines run by the simulator", "of", "percent");
    for (package, lines) in packages.iter().map(|(name, lines)| (name.as_str(), lines)).chain([("all", &all)])
    {
        println!("{package:<36} {:>7} {:>7.1}%", lines.count, lines.percent());
    }
    println!("not run at all: {}", idle.join(", "));
    Ok(())
}

#[derive(Deserialize)]
struct Export {
    data: Vec<Data>,
}

#[derive(Deserialize)]
struct Data {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    filename: PathBuf,
    summary: Summary,
}

#[derive(Deserialize)]
struct Summary {
    lines: Lines,
}

#[derive(Default, Deserialize)]
struct Lines {
    count: u64,
    covered: u64,
}

impl Lines {
    fn percent(&self) -> f64 {
        100.0 * self.covered as f64 / self.count.max(1) as f64
    }
}
