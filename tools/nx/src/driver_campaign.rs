//! `nx soak drivers`: a driver is killed under load, thousands of times, in one boot after the other.

use crate::guest::after_seconds;
use crate::image;
use crate::interactive::Session;
use crate::project::Project;
use crate::qemu::Machine;
use crate::script::Step;
use anyhow::{Context, Result};
use std::time::Instant;

/// Kills in one boot.
const KILLS_A_BOOT: u64 = 500;
/// Seconds that a boot may take.
const BOOT_SECONDS: u64 = 400;

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
            append: format!("soak drivers={KILLS_A_BOOT} seed={seed}"),
            extra: vec!["-no-reboot".to_string()],
            ..Machine::new(&built)
        };
        let told = format!("soak: {KILLS_A_BOOT} times a driver was killed under load");
        let step = Step {
            expect: vec![told],
            reject: ["soak: FAIL", "panic", "fault:", "gave up"].map(str::to_string).to_vec(),
            ..Step::default()
        };
        let mut session = Session::start(&machine, &directory, false)?;
        session
            .step(&step, BOOT_SECONDS)
            .with_context(|| format!("seed {seed} on {harts} harts\n{}", session.excerpt()))?;
        boots += 1;
        println!("soak drivers: {} kills in {boots} boots", boots * KILLS_A_BOOT);
    }
    Ok(())
}
