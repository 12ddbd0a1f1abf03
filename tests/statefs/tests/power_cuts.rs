//! A power cut at any instant, a second one during recovery included, loses nothing acknowledged.

use statefs::Mutant;
use statefs_proofs::campaign::{Campaign, Seen, TEST};
use statefs_proofs::scenario::Phase;

/// Scenarios of the campaign.
const SCENARIOS: u64 = 200;
/// Distinct images that it must open.
const IMAGES_MIN: usize = 25_000;

#[test]
fn nothing_acknowledged_is_lost_at_any_power_cut() {
    let mut seen = Seen::default();
    for seed in 0..SCENARIOS {
        let mut campaign = Campaign { seen: &mut seen, effort: TEST, mutant: Mutant::None };
        if let Err(failure) = campaign.scenario(seed) {
            panic!("{failure:?}; again: statefs-soak --seed {seed}");
        }
    }
    println!("{} scenarios, {} distinct images", seen.scenarios, seen.images.len());
    for ((phase, second), count) in &seen.by_phase {
        println!("  {phase:?}{}: {count}", if *second { ", second cut" } else { "" });
    }
    println!("  group in flight applied: {}, tails dropped: {}", seen.in_flight_applied, seen.tails_dropped);
    assert!(seen.images.len() >= IMAGES_MIN, "the campaign became too small");
    for phase in [Phase::Commit, Phase::Checkpoint, Phase::Compaction, Phase::Recovery] {
        assert!(seen.by_phase.contains_key(&(phase, false)), "no cut in {phase:?}");
    }
    assert!(seen.by_phase.keys().any(|(_, second)| *second), "no second cut");
}
