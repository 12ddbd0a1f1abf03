//! `nx dep-gate`: what must never be linked into what runs on the machine.

use crate::project::{DEVICE_TARGET, KERNEL, Project, output};
use anyhow::{Result, bail, ensure};

/// Crates that bring locks or randomness of an operating system that is not there.
const FORBIDDEN: [&str; 3] = ["parking_lot", "parking_lot_core", "getrandom"];

/// Reads the tree of every package that runs on the machine; an error lists every forbidden crate.
pub fn run(project: &Project) -> Result<()> {
    let mut names = vec![KERNEL.to_string()];
    names.extend(project.programs()?.into_iter().map(|package| package.name));
    let mut findings = Vec::new();
    for name in &names {
        let mut command = project.cargo();
        command.args(["tree", "--target", DEVICE_TARGET, "--edges", "normal", "--prefix", "none"]);
        let tree = output(command.args(["--format", "{p}", "--package", name]))?;
        ensure!(tree.lines().next().is_some_and(|line| line.starts_with(name.as_str())), "no tree of {name}");
        findings.extend(forbidden(&tree).into_iter().map(|found| format!("{name} links {found}")));
    }
    if !findings.is_empty() {
        bail!("{}", findings.join("\n  "));
    }
    println!("dependencies: none of {} in {} packages", FORBIDDEN.join(", "), names.len());
    Ok(())
}

fn forbidden(tree: &str) -> Vec<&str> {
    let mut found: Vec<&str> = tree
        .lines()
        .filter(|line| line.split_whitespace().next().is_some_and(|name| FORBIDDEN.contains(&name)))
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_reject_a_forbidden_crate_anywhere_in_the_tree() {
        let tree = "pong v0.1.0 (/x)\nrand_core v0.6.4\ngetrandom v0.2.1\ngetrandom v0.2.1 (*)\n";
        assert_eq!(forbidden(tree), ["getrandom v0.2.1"]);
    }

    #[test]
    fn a_name_that_only_begins_alike_is_none() {
        assert!(forbidden("pong v0.1.0\ngetrandom_stub v1.0.0\nlock_api v0.4.1\n").is_empty());
    }
}
