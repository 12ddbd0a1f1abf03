//! A bounded number of power cuts from outside, and the faults that they must find.

use nx_disk::Ended;
use power_proofs::{Machine, Mutant};
use std::path::Path;

const WRITER: &str = env!("CARGO_BIN_EXE_power-soak");

/// Lives within which a deliberate fault has to be found.
const FOUND_WITHIN: usize = 25;

fn machine(seed: u64, mutant: Mutant) -> Machine {
    Machine::new(Path::new(WRITER), seed, mutant).expect("a disk with an empty store")
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_is_cut_from_outside() {
    let mut machine = machine(1, Mutant::None);
    let (mut cuts, mut acknowledged) = (0, 0);
    for life in 0..12 {
        let round = machine.round(life % 3 == 0).unwrap_or_else(|broken| panic!("life {life}: {broken:?}"));
        cuts += u64::from(matches!(round.ended, Ended::Cut(_)));
        acknowledged += round.acknowledged;
    }
    println!("{cuts} power cuts, {acknowledged} acknowledged commits");
    assert!(cuts >= 5 && acknowledged >= 50, "{cuts} cuts, {acknowledged} commits say little");
}

fn found_after(seed: u64, mutant: Mutant) -> Option<usize> {
    let mut machine = machine(seed, mutant);
    (1..=FOUND_WITHIN).find(|_| machine.round(false).is_err())
}

#[test]
fn a_disk_that_does_not_flush_is_found() {
    let found = [1, 2, 3].map(|seed| found_after(seed, Mutant::FlushDoesNothing));
    println!("found in life {found:?}");
    assert!(found.iter().all(Option::is_some), "{found:?}");
}

#[test]
fn an_engine_that_answers_before_the_flush_is_found() {
    let found = [1, 2, 3].map(|seed| found_after(seed, Mutant::AcknowledgedBeforeFlush));
    println!("found in life {found:?}");
    assert!(found.iter().all(Option::is_some), "{found:?}");
}
