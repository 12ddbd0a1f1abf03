//! `nx arch-check`: the dependency arrows between packages run one way.
//!
//! services → nexus-ipc, nexus-proto → nexus-abi; services → userspace libraries; userspace libraries know
//! nothing of nexus-abi; the kernel knows nexus-abi and its own parts alone of ours. No service calls itself through others.

use crate::image::RECIPE_FILE;
use crate::project::{Package, Project};
use anyhow::{Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// Where a package stands, by the first folder that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Contract,
    Kernel,
    Boot,
    Library,
    Kit,
    Driver,
    Program,
    Logic,
    Tool,
}

const LAYERS: [(&str, Layer); 12] = [
    ("source/libs/nexus-abi", Layer::Contract),
    ("source/kernel/", Layer::Kernel),
    ("source/boot/", Layer::Boot),
    ("source/libs/", Layer::Library),
    ("source/drivers/kit", Layer::Kit),
    ("source/drivers/", Layer::Driver),
    ("source/init/", Layer::Program),
    ("source/services/", Layer::Program),
    ("source/apps/", Layer::Program),
    ("userspace/", Layer::Logic),
    ("tools/", Layer::Tool),
    ("tests/", Layer::Tool),
];

impl Layer {
    fn of(package: &Package) -> Option<Layer> {
        LAYERS.iter().find(|(folder, _)| package.folder.starts_with(folder)).map(|(_, layer)| *layer)
    }

    /// Whether a package here may depend on one there.
    fn may_use(self, other: Layer) -> bool {
        match self {
            Layer::Contract => false,
            Layer::Kernel => matches!(other, Layer::Contract | Layer::Kernel),
            Layer::Boot => matches!(other, Layer::Contract | Layer::Driver | Layer::Logic),
            Layer::Library => matches!(other, Layer::Contract | Layer::Library | Layer::Logic),
            Layer::Kit => {
                matches!(other, Layer::Contract | Layer::Library | Layer::Driver | Layer::Logic)
            }
            Layer::Driver => matches!(other, Layer::Driver | Layer::Logic),
            Layer::Program => {
                matches!(other, Layer::Contract | Layer::Library | Layer::Kit | Layer::Driver | Layer::Logic)
            }
            Layer::Logic => other == Layer::Logic,
            Layer::Tool => true,
        }
    }
}

/// Checks the packages and the recipe; an error lists every arrow that runs the wrong way.
pub fn run(project: &Project) -> Result<()> {
    let packages = project.packages()?;
    let mut findings = wrong_arrows(&packages);
    match system_manifest::compile(&project.read(RECIPE_FILE)?, RECIPE_FILE) {
        Ok(bytes) => findings.extend(cycle(&bytes)),
        Err(error) => findings.push(error.to_string()),
    }
    if !findings.is_empty() {
        bail!("{} findings\n  {}", findings.len(), findings.join("\n  "));
    }
    println!("architecture: {} packages depend as they may; no cycle in {RECIPE_FILE}", packages.len());
    Ok(())
}

fn wrong_arrows(packages: &[Package]) -> Vec<String> {
    let mut findings = Vec::new();
    for package in packages {
        let Some(layer) = Layer::of(package) else {
            findings.push(format!("{}: the folder {} belongs to no layer", package.name, package.folder));
            continue;
        };
        let ours = packages.iter().filter(|other| package.dependencies.contains(&other.name));
        for other in ours {
            if Layer::of(other).is_some_and(|there| !layer.may_use(there)) {
                let (from, to) = (&package.folder, &other.folder);
                findings.push(format!("{} ({from}) must not depend on {} ({to})", package.name, other.name));
            }
        }
    }
    findings
}

/// A cycle in who calls whom, told as the names along it.
fn cycle(manifest: &[u8]) -> Option<String> {
    let manifest = match system_manifest::decode(manifest) {
        Ok(manifest) => manifest,
        Err(error) => return Some(format!("{RECIPE_FILE}: {error}")),
    };
    let mut servers = BTreeMap::from([(manifest.init.endpoint.name.as_str(), "nexus-init")]);
    for service in &manifest.services {
        servers
            .extend(service.endpoints.iter().map(|endpoint| (endpoint.name.as_str(), service.name.as_str())));
    }
    let mut calls: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for service in &manifest.services {
        let called = service.calls.iter().filter_map(|access| servers.get(access.endpoint.as_str()).copied());
        calls.insert(&service.name, called.collect());
    }
    find_cycle(&calls).map(|names| format!("{RECIPE_FILE}: a cycle of calls: {}", names.join(" → ")))
}

fn find_cycle<'a>(calls: &BTreeMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let mut finished = BTreeSet::new();
    calls.keys().find_map(|start| follow(start, calls, &mut Vec::new(), &mut finished))
}

/// Follows calls in depth; `path` is the way here.
fn follow<'a>(
    at: &'a str,
    calls: &BTreeMap<&'a str, Vec<&'a str>>,
    path: &mut Vec<&'a str>,
    finished: &mut BTreeSet<&'a str>,
) -> Option<Vec<&'a str>> {
    if let Some(start) = path.iter().position(|name| *name == at) {
        let mut cycle = path[start..].to_vec();
        cycle.push(at);
        return Some(cycle);
    }
    if finished.contains(at) {
        return None;
    }
    path.push(at);
    let found = calls.get(at).into_iter().flatten().find_map(|next| follow(next, calls, path, finished));
    path.pop();
    finished.insert(at);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, folder: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.to_string(),
            folder: folder.to_string(),
            binaries: Vec::new(),
            dependencies: dependencies.iter().map(|name| name.to_string()).collect(),
        }
    }

    #[test]
    fn a_daemon_may_use_libraries_and_logic() {
        let packages = [
            package("nexus-abi", "source/libs/nexus-abi", &["zerocopy"]),
            package("nexus-ipc", "source/libs/nexus-ipc", &["nexus-abi"]),
            package("statefs", "userspace/statefs", &["crc"]),
            package("statefsd", "source/services/statefsd", &["nexus-ipc", "nexus-abi", "statefs"]),
        ];
        assert!(wrong_arrows(&packages).is_empty());
    }

    #[test]
    fn test_reject_arrows_that_run_the_wrong_way() {
        let packages = [
            package("nexus-abi", "source/libs/nexus-abi", &["statefs"]),
            package("statefs", "userspace/statefs", &["nexus-abi"]),
            package("neuron", "source/kernel/neuron", &["nexus-abi", "statefs"]),
            package("pong", "source/apps/pong", &["ping"]),
            package("ping", "source/apps/ping", &["nx"]),
            package("nx", "tools/nx", &["nexus-abi"]),
            package("stray", "elsewhere/stray", &[]),
        ];
        let expected = [
            "nexus-abi (source/libs/nexus-abi) must not depend on statefs (userspace/statefs)",
            "statefs (userspace/statefs) must not depend on nexus-abi (source/libs/nexus-abi)",
            "neuron (source/kernel/neuron) must not depend on statefs (userspace/statefs)",
            "pong (source/apps/pong) must not depend on ping (source/apps/ping)",
            "ping (source/apps/ping) must not depend on nx (tools/nx)",
            "stray: the folder elsewhere/stray belongs to no layer",
        ];
        assert_eq!(wrong_arrows(&packages), expected);
    }

    #[test]
    fn test_reject_a_cycle_of_calls() {
        let calls =
            BTreeMap::from([("a", vec!["b"]), ("b", vec!["c", "d"]), ("c", vec![]), ("d", vec!["b"])]);
        assert_eq!(find_cycle(&calls), Some(vec!["b", "d", "b"]));
        let straight = BTreeMap::from([("a", vec!["b", "c"]), ("b", vec!["c"]), ("c", vec![])]);
        assert_eq!(find_cycle(&straight), None);
    }
}
