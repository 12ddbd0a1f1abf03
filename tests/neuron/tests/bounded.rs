//! A bounded run of the fuzzer, with the same seeds each time: long runs are `just fuzz syscalls MINUTES`.

use neuron_proofs::{Plan, Tally, run_seed};

const SEEDS: u64 = 4;
const CALLS: u64 = 100_000;

fn run(seed: u64) -> Tally {
    let plan = Plan { seed, calls: CALLS, look_from: u64::MAX };
    run_seed(plan, |_| {}).unwrap_or_else(|failure| panic!("{failure:#?}"))
}

#[test]
fn the_kernel_stands_random_calls_and_loses_nothing() {
    let mut total = Tally::default();
    for seed in 1..=SEEDS {
        total.add(&run(seed));
    }
    assert_eq!(total.calls, SEEDS * CALLS);
    assert!(total.never_answered().len() < 4, "never taken: {:?}", total.never_answered());
}

#[test]
fn a_seed_makes_the_same_calls_each_time() {
    assert_eq!(run(7), run(7));
}
