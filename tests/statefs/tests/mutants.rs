//! The proofs find faults: each deliberate fault of the engine is found by the power-cut campaign.

use statefs::Mutant;
use statefs_proofs::campaign::runs_until_found;

/// Scenarios that each mutant gets.
const SCENARIOS: u64 = 40;

fn found_by_power_cuts(mutant: Mutant) {
    let (found, first) = runs_until_found(mutant, SCENARIOS);
    println!("{mutant:?}: {found} of {SCENARIOS} runs, first in run {first:?}");
    assert!(found > 0, "{mutant:?} was not found in {SCENARIOS} runs");
}

#[test]
fn the_engine_as_it_is_passes_where_mutants_fail() {
    assert_eq!(runs_until_found(Mutant::None, 3), (0, None));
}

#[test]
fn a_dropped_flush_is_found() {
    found_by_power_cuts(Mutant::FlushDropped);
}

#[test]
fn an_answer_before_the_flush_is_found() {
    found_by_power_cuts(Mutant::AcknowledgedBeforeFlush);
}

#[test]
fn a_superblock_before_its_data_is_found() {
    found_by_power_cuts(Mutant::SuperblockBeforeData);
}

#[test]
fn a_tombstone_dropped_early_is_found() {
    found_by_power_cuts(Mutant::TombstoneDroppedEarly);
}
