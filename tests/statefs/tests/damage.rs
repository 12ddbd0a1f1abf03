//! Damage answers `Corrupt` or `Uncertain`, never an older value and never absence.

use statefs::Mutant;
use statefs_proofs::damage::{Seen, scenario, without_newest_superblock};

/// Scenarios, and images of each.
const SCENARIOS: u64 = 60;
const IMAGES: usize = 250;

#[test]
fn damage_is_seen_and_never_answered_by_something_older() {
    let mut seen = Seen::default();
    for seed in 500..500 + SCENARIOS {
        if let Err(what) = scenario(seed, IMAGES, &mut seen) {
            panic!("{what}");
        }
    }
    println!("{} distinct damaged images, answers {:?}", seen.images.len(), seen.answers);
    println!("undecidable {}, read-only {}, lost {}", seen.undecidable, seen.read_only, seen.lost);
    assert!(seen.images.len() >= 10_000, "the campaign became too small");
    assert!(seen.answers.contains_key("corrupt") && seen.answers.contains_key("uncertain"));
}

#[test]
fn a_lost_superblock_costs_no_answer() {
    for seed in 0..30 {
        let (good, all) = without_newest_superblock(seed, Mutant::None).expect("opens");
        assert_eq!(good, all, "seed {seed}");
    }
}
