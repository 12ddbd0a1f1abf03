//! Random calls of many processes on several harts at once.

use neuron_proofs::run_side_by_side;

#[test]
fn harts_beside_each_other_leave_the_kernel_whole() {
    for (seed, harts) in [(1, 2), (2, 3), (3, 4)] {
        let made = run_side_by_side(seed, harts, 40_000);
        println!("{harts} harts: {made:?}");
        assert!(made.calls > 4_000 * harts as u64, "{made:?}");
        assert!(made.answered > 500 && made.fast > 20, "{made:?}");
    }
}
