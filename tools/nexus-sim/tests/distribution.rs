//! What init refuses because the policy does: every way in which it denies a device, a start or an end, in a system
//! that runs with lines of its policy missing.

use nexus_abi::records::STATE_ALIVE;
use nexus_abi::service_id;
use nexus_sim::image::{Built, assemble};
use nexus_sim::run::Run;
use nexus_sim::system::Setup;
use policy::{Action, Table};
use std::path::{Path, PathBuf};
use system_manifest::Manifest;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn manifest() -> Manifest {
    let recipe = std::fs::read_to_string(root().join("recipes/system.toml")).unwrap();
    system_manifest::decode(&system_manifest::compile(&recipe, "recipes/system.toml").unwrap()).unwrap()
}

/// The system without the lines about these services and actions.
fn without(lines: &[(&str, Action)]) -> Built {
    let manifest = manifest();
    let mut files = nx::policy::entries(&root(), &manifest).unwrap();
    let table = files.iter_mut().find(|file| file.name == "policy.table").unwrap();
    let mut changed: Table = policy::decode(&table.bytes).unwrap();
    let before = changed.rules.len();
    let subjects = changed.subjects.clone();
    changed.rules.retain(|rule| {
        let subject = subjects[usize::from(rule.subject)].id;
        !lines.iter().any(|(name, action)| (service_id(name), *action) == (subject, rule.action))
    });
    assert_eq!(changed.rules.len() + lines.len(), before, "each line was there");
    table.bytes = policy::encode(&changed).unwrap();
    assemble(manifest, files).unwrap()
}

/// Who is alive, by service id.
fn alive(run: &mut Run<'_>) -> Vec<u64> {
    let kernel = run.system().kernel();
    let ids: Vec<_> = kernel.processes().into_iter().collect();
    let statuses = ids.into_iter().filter_map(|id| kernel.status(id));
    statuses.filter(|status| status.state == STATE_ALIVE).map(|status| status.service_id).collect()
}

fn boot(built: &Built) -> Run<'_> {
    Run::boot(built, Setup::default()).unwrap()
}

#[test]
fn test_reject_a_device_that_no_line_allows_and_start_all_others() {
    let built = without(&[("rngd", Action::DeviceRng)]);
    let mut run = boot(&built);
    run.until_shown("init: refused device.mmio.rng (virtio:entropy) to rngd: the policy does not allow it")
        .unwrap();
    run.until_shown("init: incomplete: rngd is not up").unwrap();
    run.settle().unwrap();
    assert!(!run.console().contains("init: start rngd") && run.console().contains("init: up virtioblkd"));
    run.answers().unwrap();
    // It is in the record under its own name.
    run.types("log --audit --service rngd");
    run.until_shown("deny device.mmio.rng virtio:entropy").unwrap();
    run.nobody_waits_too_long().unwrap();
}

#[test]
fn test_reject_every_device_when_init_may_not_ask_for_others() {
    let built = without(&[("nexus-init", Action::PolicyDelegate)]);
    let mut run = boot(&built);
    // The terminal has no device either: init's own ring and the kernel tell.
    run.turns(200_000).unwrap();
    let alive = alive(&mut run);
    for name in ["consoled", "rngd", "virtioblkd"] {
        assert!(!alive.contains(&service_id(name)), "{name} has a device that nobody allowed");
    }
    assert!(alive.contains(&service_id("policyd")) && alive.contains(&service_id("pong")));
}

#[test]
fn test_reject_ending_what_no_line_allows_to_end() {
    let built = without(&[("nexus-shell", Action::ProcKill)]);
    let mut run = boot(&built);
    run.until_prompt().unwrap();
    run.types("kill pong");
    run.until_shown("the policy does not allow it").unwrap();
    run.answers().unwrap();
    assert!(!run.console().contains("init: ended pong"));
}

#[test]
fn test_reject_starting_what_no_line_allows_to_start() {
    let built = without(&[("nexus-shell", Action::ProcSpawn)]);
    let mut run = boot(&built);
    run.until_prompt().unwrap();
    run.types("run ping");
    run.until_shown("the policy does not allow it").unwrap();
    run.settle().unwrap();
    assert!(!run.console().contains("init: start ping"));
}

#[test]
fn test_reject_what_is_not_there_or_not_to_be_started_before_the_policy_is_asked() {
    let built = without(&[]);
    let mut run = boot(&built);
    run.until_prompt().unwrap();
    for line in ["kill nobody", "kill ping", "kill 9999", "run nobody", "run pong"] {
        run.types(line);
        let (_, word) = line.split_once(' ').unwrap();
        run.until_shown(&format!("`{word}`: ")).unwrap();
        run.settle().unwrap();
    }
    run.types("log --audit --service nexus-shell");
    run.settle().unwrap();
    assert!(!run.console().contains("allow proc.kill") && !run.console().contains("allow proc.spawn"));
}
