//! `nx gate deny-check` where cargo-deny is not installed: licences and sources of every crate, and
//! crates that are linked into the machine in two versions. The rules are those of `deny.toml`.

use crate::project::{DEVICE_TARGET, Project, output};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

const RULES_FILE: &str = "deny.toml";
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Deserialize)]
struct Rules {
    licenses: LicenceRules,
}

#[derive(Deserialize)]
struct LicenceRules {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Checks every crate of the lock file, whatever the platform; an error lists what is refused.
pub fn run(project: &Project) -> Result<()> {
    let rules: Rules = toml::from_str(&project.read(RULES_FILE)?).context(RULES_FILE)?;
    let mut command = project.cargo();
    command.args(["metadata", "--format-version=1"]);
    let metadata: Metadata = serde_json::from_str(&output(&mut command)?)?;
    let mut findings: Vec<String> =
        metadata.packages.iter().filter_map(|each| refused(each, &rules.licenses.allow)).collect();
    findings.extend(duplicates(project)?);
    if !findings.is_empty() {
        bail!("{}", findings.join("\n  "));
    }
    println!(
        "licences: {} crates allowed by {RULES_FILE}; none linked in two versions",
        metadata.packages.len()
    );
    Ok(())
}

fn refused(each: &Crate, allowed: &BTreeSet<String>) -> Option<String> {
    let name = format!("{} {}", each.name, each.version);
    if each.source.as_deref().is_some_and(|source| source != REGISTRY) {
        return Some(format!("{name} does not come from crates.io"));
    }
    match &each.license {
        None => Some(format!("{name} names no licence")),
        Some(licence) if !is_allowed(licence, allowed) => Some(format!("{name} is under {licence}")),
        Some(_) => None,
    }
}

/// Whether an SPDX expression can be met by allowed licences: `OR` (or `/`) offers, `AND` demands.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    offers(&words, &mut at, allowed) && at == words.len()
}

fn offers(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = demands(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= demands(words, at, allowed);
    }
    met
}

fn demands(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let word = words.get(*at).copied().unwrap_or_default();
    *at += 1;
    if word == "(" {
        let met = offers(words, at, allowed);
        *at += 1;
        return met;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return allowed.contains(word) || allowed.contains(&format!("{word} WITH {exception}"));
    }
    allowed.contains(word)
}

/// Crates that a program of the machine links in more than one version.
fn duplicates(project: &Project) -> Result<Vec<String>> {
    let mut command = project.cargo();
    command.args(["tree", "--target", DEVICE_TARGET, "--edges", "normal,no-proc-macro"]);
    command.args(["--prefix", "none", "--format", "{p}"]);
    for package in project.packages()?.iter().filter(|package| package.folder.starts_with("source/")) {
        command.args(["--package", &package.name]);
    }
    Ok(repeated(&output(&mut command)?))
}

fn repeated(tree: &str) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name).or_default().insert(version);
        }
    }
    let repeated = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    repeated
        .map(|(name, versions)| {
            format!("{name} is linked in {}", versions.into_iter().collect::<Vec<_>>().join(" and "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(expression: &str) -> bool {
        is_allowed(expression, &["MIT", "Apache-2.0", "BSD-3-Clause"].map(str::to_string).into())
    }

    #[test]
    fn one_allowed_offer_is_enough() {
        for expression in
            ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "Apache-2.0 WITH LLVM-exception OR GPL-2.0"]
        {
            assert!(allowed(expression), "{expression}");
        }
        assert!(allowed("(MIT OR GPL-3.0) AND BSD-3-Clause"));
    }

    #[test]
    fn test_reject_what_no_offer_allows() {
        for expression in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-3.0", "", "MIT )"] {
            assert!(!allowed(expression), "{expression}");
        }
    }

    #[test]
    fn test_reject_foreign_sources_and_crates_without_licence() {
        let mut each = Crate {
            name: "a".to_string(),
            version: "1.0.0".to_string(),
            license: Some("MIT".to_string()),
            source: Some(REGISTRY.to_string()),
        };
        let allowed = ["MIT".to_string()].into();
        assert_eq!(refused(&each, &allowed), None);
        each.source = Some("git+https://example.org/a".to_string());
        assert_eq!(refused(&each, &allowed).unwrap(), "a 1.0.0 does not come from crates.io");
        each.source = None;
        each.license = None;
        assert_eq!(refused(&each, &allowed).unwrap(), "a 1.0.0 names no licence");
    }

    #[test]
    fn test_reject_a_crate_in_two_versions() {
        let tree = "pong v0.1.0\nspin v0.9.8\nspin v0.12.0 (*)\n";
        assert_eq!(repeated(tree), ["spin is linked in v0.12.0 and v0.9.8"]);
    }
}
