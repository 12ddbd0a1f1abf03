//! The device tree reader on trees of QEMU's `virt` machine, whole and cut.

use neuron::boot::device_tree::{Machine, TreeError};
use proptest::prelude::*;

const ONE_HART: &[u8] = include_bytes!("../data/virt-1.dtb");
const FOUR_HARTS: &[u8] = include_bytes!("../data/virt-4.dtb");

#[test]
fn the_machine_is_read_from_its_tree() {
    for (tree, harts) in [(ONE_HART, 1), (FOUR_HARTS, 4)] {
        let machine = Machine::read(tree).expect("a tree of QEMU");
        assert_eq!((machine.ram.base, machine.ram.end), (0x8000_0000, 0x8800_0000));
        assert_eq!(machine.ticks_per_second, 10_000_000);
        assert_eq!((machine.controller.base, machine.controller.end), (0xc00_0000, 0xc60_0000));
        assert_eq!(machine.last_line, 96);
        assert_eq!(machine.hart_count, harts);
        for (number, hart) in machine.harts[..harts].iter().enumerate() {
            // A hart has two contexts: machine mode, then supervisor mode.
            assert_eq!((hart.id, hart.context), (number as u64, 2 * number as u32 + 1));
            assert!(hart.has_supervisor_timer);
        }
        assert!(machine.has_argument("selftest") && machine.has_argument("console.origin"));
        assert!(!machine.has_argument("self") && !machine.has_argument("console"));
        let image = machine.initial_image.expect("QEMU was given one");
        assert_eq!((image.base, image.end), (0x8420_0000, 0x8420_0003));
        assert_eq!(machine.tree_bytes, tree.len());
    }
}

#[test]
fn test_reject_what_is_no_tree() {
    for bytes in [&[][..], &[0; 64], &ONE_HART[..16], &ONE_HART[4..]] {
        assert_eq!(Machine::read(bytes).map(|_| ()), Err(TreeError::NotATree));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn test_reject_a_tree_that_is_cut(length in 0..ONE_HART.len()) {
        prop_assert_eq!(Machine::read(&ONE_HART[..length]).map(|_| ()), Err(TreeError::NotATree));
    }
}
