//! A writer of the state while store and disk are killed and the power fails.

use crate::invariants::Rest;
use crate::run::Run;
use anyhow::{Result, bail, ensure};
use identity::RECORD_KEY;
use selftest_soak::steps::{Steps, apply};
use std::collections::BTreeMap;

/// The seed of the writer of the state, as in the scenario's boot arguments.
const STATE_SEED: u64 = 7;
/// Changes that the writer of the state makes in a boot.
const STATE_STEPS: usize = 120;

/// Tells it.
pub fn tell(run: &mut Run<'_>, _before: &Rest) -> Result<()> {
    run.restless();
    let mut base = Stored::new();
    for _ in 0..2 {
        run.until_shown("init: up selftest-soak")?;
        for _ in 0..run.draw(4) {
            let turns = run.draw(2_000);
            run.turns(turns)?;
            let victim = ["statefsd", "virtioblkd", "policyd"][run.draw(3) as usize];
            run.system().kill(victim);
        }
        let turns = run.draw(2_500);
        run.turns(turns)?;
        let shown = run.console();
        let failed =
            shown.lines().find(|line| line.contains("soak: FAIL") || line.contains("soak: state ended"));
        ensure!(failed.is_none(), "{}", failed.unwrap_or_default());
        let acknowledged = acknowledged(&shown);
        run.boot_again()?;
        base = is_among_states(run.setup.disk.0.borrow().stored()?, base, acknowledged)?;
    }
    run.until_shown("soak: state is written")?;
    run.settle()?;
    run.nobody_waits_too_long()
}

type Stored = BTreeMap<String, Vec<u8>>;

/// The last step of which the writer says that it was acknowledged.
fn acknowledged(shown: &str) -> usize {
    let mut steps = shown.lines().filter_map(|line| line.split_once("soak: state ")?.1.trim().parse().ok());
    steps.next_back().unwrap_or(0)
}

/// Demands that what is stored is what it was after some step, none before the last that was acknowledged.
fn is_among_states(mut found: Stored, mut state: Stored, acknowledged: usize) -> Result<Stored> {
    // That is not the writer's.
    found.remove(RECORD_KEY);
    let mut steps = Steps::new(STATE_SEED).take(STATE_STEPS);
    for number in 0..=STATE_STEPS {
        if number >= acknowledged && state == found {
            return Ok(found);
        }
        if let Some(step) = steps.next() {
            apply(&mut state, &step);
        }
    }
    bail!("what is stored is nothing that it ever was since the acknowledged step {acknowledged}")
}
