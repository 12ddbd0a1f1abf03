//! The proofs find faults: each deliberate fault of the engine is found, by power cuts or by damage.

use statefs::Mutant;
use statefs_proofs::campaign::runs_until_found;
use statefs_proofs::damage::without_newest_superblock;

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

#[test]
fn a_segment_reused_before_its_checkpoint_is_durable_is_found() {
    found_by_power_cuts(Mutant::SegmentReusedBeforeFreed);
}

#[test]
fn an_opening_that_builds_on_what_is_not_durable_is_found() {
    found_by_power_cuts(Mutant::OpenedWithoutFlush);
}

#[test]
fn an_opening_that_serves_before_it_settled_what_it_dropped_is_found() {
    found_by_power_cuts(Mutant::OpenedUnsettled);
}

/// No power cut alone needs the superblock before the newest: this one shows when the newest is damaged.
#[test]
fn a_segment_reused_while_the_superblock_before_needs_it_is_found() {
    let costs_an_answer = |seed: &u64| {
        without_newest_superblock(*seed, Mutant::SegmentReusedTooEarly).is_ok_and(|(good, all)| good < all)
    };
    let found = (0..SCENARIOS).filter(costs_an_answer).count();
    println!("{:?}: {found} of {SCENARIOS} runs", Mutant::SegmentReusedTooEarly);
    assert!(found > 0, "not found in {SCENARIOS} runs");
}
