//! `nx soak identity`: new disks have new keys, and a disk has one key through many boots, each a QEMU of its own that
//! is ended without a word.

use crate::disk;
use crate::guest::after_seconds;
use crate::image;
use crate::interactive::Session;
use crate::project::Project;
use crate::qemu::Machine;
use crate::script::Step;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

/// New disks of one round.
const DISKS: usize = 20;
/// Boots of the last of them.
const BOOTS: usize = 50;
/// Seconds that a boot may take.
const BOOT_SECONDS: u64 = 60;
/// What a boot's key is kept under, and what finds it.
const KEY: (&str, &str) = ("key", "keystored: device key ([0-9a-f]{64})");

/// Rounds for so many minutes, at least one.
pub fn run(project: &Project, minutes: u64) -> Result<()> {
    let built = image::build(project)?;
    let directory = project.path("build/qemu/soak-identity");
    let end = after_seconds(minutes * 60);
    let (mut keys, mut disks, mut boots) = (BTreeSet::new(), 0, 0);
    while disks == 0 || Instant::now() < end {
        for number in 1..=DISKS {
            let machine = Machine {
                append: "machine=soak".to_string(),
                disk: Some(disk::of_test(&directory, disk::Condition::New)?),
                extra: vec!["-no-reboot".to_string()],
                ..Machine::new(&built)
            };
            let key = booted(&machine, &directory)?;
            ensure!(keys.insert(key.clone()), "two disks have the key {key}");
            disks += 1;
            let again = if number == DISKS { BOOTS } else { 1 };
            for boot in 1..again {
                let found = booted(&machine, &directory)?;
                ensure!(found == key, "boot {} of disk {disks} has the key {found}, not {key}", boot + 1);
            }
            boots += again;
        }
        println!(
            "soak identity: {disks} new disks, {} keys; {boots} boots, {BOOTS} of every {DISKS}th disk, each with its key",
            keys.len()
        );
    }
    Ok(())
}

/// The key that a boot says.
fn booted(machine: &Machine, directory: &Path) -> Result<String> {
    let mut session = Session::start(machine, directory, false)?;
    let step = Step {
        expect: vec!["keystored: device key ".into(), "keystored: ready".into()],
        reject: vec!["there is no device key".into(), "neuron: panic".into()],
        keep: BTreeMap::from([(KEY.0.to_string(), KEY.1.to_string())]),
        ..Step::default()
    };
    session.step(&step, BOOT_SECONDS).with_context(|| session.excerpt())?;
    session.kept(KEY.0).context("the key was not kept")
}
