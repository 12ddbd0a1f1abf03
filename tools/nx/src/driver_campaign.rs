//! `nx soak drivers`: one driver is killed under load, thousands of times, the store and the driver of its disk as
//! well, another driver is killed at work, faults and hangs, in one boot after the other.

use crate::disk;
use crate::guest::after_seconds;
use crate::image;
use crate::interactive::Session;
use crate::project::Project;
use crate::qemu::Machine;
use crate::script::Step;
use anyhow::{Context, Result};
use std::time::Instant;

/// Kills in one boot.
const KILLS_A_BOOT: u64 = 250;
/// Kills of the store or its driver in one boot.
const LOSSES_A_BOOT: u64 = 250;
/// As often a driver is killed at work, and faults, in one boot: below its budget of restarts within a minute.
const FAILURES_A_BOOT: u64 = 100;
/// As often it hangs: each time it takes seconds to be missed.
const HANGS_A_BOOT: u64 = 10;
/// Seconds that a boot may take.
const BOOT_SECONDS: u64 = 1200;

/// Boots with new seeds, on one hart and on two in turn, for so many minutes, at least once.
pub fn run(project: &Project, minutes: u64) -> Result<()> {
    let built = image::build(project)?;
    let directory = project.path("build/qemu/soak-drivers");
    let end = after_seconds(minutes * 60);
    let mut boots = 0;
    while boots == 0 || Instant::now() < end {
        let (seed, harts) = (boots + 1, 1 + boots as usize % 2);
        let machine = Machine {
            harts,
            append: format!(
                "soak drill losses={LOSSES_A_BOOT} drivers={KILLS_A_BOOT} failures={FAILURES_A_BOOT} \
                 hangs={HANGS_A_BOOT} seed={seed}"
            ),
            disk: Some(disk::of_test(&directory, disk::Condition::New)?),
            devices: vec!["virtio-rng-device".to_string(); 2],
            extra: clock(harts).iter().map(|word| word.to_string()).collect(),
            ..Machine::new(&built)
        };
        let lost = format!("soak: {LOSSES_A_BOOT} times the store or its driver was killed under load");
        let told = format!("soak: {FAILURES_A_BOOT} times each a driver was killed at work and faulted");
        let mut session = Session::start(&machine, &directory, false)?;
        // One after the other: what came long before is not looked at any more.
        for expected in [lost, told] {
            let step = Step {
                expect: vec![expected],
                reject: ["soak: FAIL", "neuron: panic", "fault: rngd", "fault: selftest-soak", "gave up"]
                    .map(str::to_string)
                    .to_vec(),
                ..Step::default()
            };
            session
                .step(&step, BOOT_SECONDS)
                .with_context(|| format!("seed {seed} on {harts} harts\n{}", session.excerpt()))?;
        }
        boots += 1;
        let [kills, losses, failures, hangs] =
            [KILLS_A_BOOT, LOSSES_A_BOOT, FAILURES_A_BOOT, HANGS_A_BOOT].map(|count| boots * count);
        println!(
            "soak drivers: {kills} kills under load, {losses} of the store or its driver, {failures} kills at work and \
             as many faults, {hangs} hangs in {boots} boots"
        );
    }
    Ok(())
}

/// One hart counts its time in instructions, so a busy computer makes no deadline pass; while nobody works there, it goes
/// as the computer's own, or a disk would have no time to answer. Two run side by side, as the computer's own clock goes.
fn clock(harts: usize) -> &'static [&'static str] {
    match harts {
        1 => &["-no-reboot", "-icount", "shift=3"],
        _ => &["-no-reboot"],
    }
}
