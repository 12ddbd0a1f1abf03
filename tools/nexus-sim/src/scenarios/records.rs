//! Critical decisions outlive journal, store, driver and machine.

use crate::invariants::Rest;
use crate::run::Run;
use anyhow::{Result, anyhow, ensure};
use journal::segment::{self, INDEX_KEY, SEGMENT_PREFIX};
use std::collections::BTreeMap;

/// Two boots in which anything dies until the power fails, and one in which nothing does.
pub fn tell(run: &mut Run<'_>, _before: &Rest) -> Result<()> {
    run.restless();
    for boot in 1..=2 {
        run.until_shown("init: up selftest-soak")?;
        for _ in 0..run.draw(4) {
            let turns = run.draw(1_500);
            run.turns(turns)?;
            let victim = ["logd", "statefsd", "virtioblkd"][run.draw(3) as usize];
            run.system().kill(victim);
        }
        let turns = run.draw(4_000);
        run.turns(turns)?;
        let shown = run.console();
        run.boot_again()?;
        are_in_the_store(&run.setup.disk.0.borrow().stored()?, boot, &shown)?;
    }
    run.until_shown(" of 20 records were durable")?;
    run.settle()?;
    let shown = run.console();
    ensure!(!shown.contains("is refused"), "a segment was refused");
    ensure!(!shown.contains("soak: 0 of 20"), "with nothing in its way, none was durable");
    are_in_the_store(&run.setup.disk.0.borrow().stored()?, 3, &shown)?;
    run.nobody_waits_too_long()
}

/// Demands that each decision of this boot that was told as durable is in the store: a share has room for all of them.
fn are_in_the_store(stored: &BTreeMap<String, Vec<u8>>, boot: u64, shown: &str) -> Result<()> {
    let numbers =
        shown.lines().filter_map(|line| line.split_once("soak: record ")?.1.strip_suffix(" is durable"));
    let told: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
    let mut kept = Vec::new();
    for (key, bytes) in stored.iter().filter(|(key, _)| *key != INDEX_KEY) {
        let Some(place) = key.strip_prefix(SEGMENT_PREFIX) else { continue };
        let segment = segment::decode(place.parse()?, bytes);
        let segment = segment.map_err(|refusal| anyhow!("{key}: {refusal}"))?;
        for record in
            segment.records.iter().filter(|record| record.message.starts_with("allow identity.soak "))
        {
            let number = record.message.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok());
            kept.extend(number.filter(|_| record.boot == boot));
        }
    }
    let missing = told.iter().find(|number| !kept.contains(number));
    ensure!(missing.is_none(), "{missing:?} of boot {boot} was told as durable and is not there: {kept:?}");
    Ok(())
}
