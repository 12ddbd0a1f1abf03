//! The device tree reader on trees of QEMU's `virt` machine: whole, cut, with every bit flipped, and on bytes that
//! are no tree at all. Whatever it is given, it yields a machine that boot can use or one error in words.

use neuron::boot::device_tree::{ADDRESS_END, Machine, RAM_ALIGNMENT, TreeError};
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
    for bytes in [&[][..], &[0; 64], &ONE_HART[..3], &ONE_HART[4..]] {
        assert_eq!(Machine::read(bytes).map(|_| ()), Err(TreeError::NotATree));
    }
}

/// Reads a tree, and checks what boot relies on without looking again.
fn read(bytes: &[u8]) -> Result<(), TreeError> {
    let machine = Machine::read(bytes).inspect_err(|error| assert!(!error.to_string().is_empty()))?;
    let ram = machine.ram;
    assert!(ram.base < ram.end && ram.end <= ADDRESS_END && ram.base % RAM_ALIGNMENT == 0);
    let image = machine.initial_image.unwrap_or(ram);
    assert!(ram.base <= image.base && image.base < image.end && image.end <= ram.end);
    assert!(machine.ticks_per_second > 0 && (1..=8).contains(&machine.hart_count));
    let registers = machine.controller.end - machine.controller.base;
    assert!(u64::from(machine.last_line) * 4 + 4 <= registers);
    for hart in &machine.harts[..machine.hart_count] {
        assert!(0x20_0000 + u64::from(hart.context) * 0x1000 + 8 <= registers);
    }
    Ok(())
}

/// Puts the tree's own length into its header.
fn with_length(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// Where in the tree some bytes are that come once.
fn place_of(wanted: &[u8]) -> usize {
    ONE_HART.windows(wanted.len()).position(|bytes| bytes == wanted).expect("it is in the tree")
}

#[test]
fn test_reject_every_tree_that_is_cut() {
    let header = |place: usize| u32::from_be_bytes(ONE_HART[place..place + 4].try_into().unwrap()) as usize;
    let strings_end = header(12) + header(32);
    assert!(strings_end + 8 > ONE_HART.len());
    for length in 0..ONE_HART.len() {
        assert!(read(&ONE_HART[..length]).is_err(), "cut to {length} bytes");
        // Neither does it help that the header says so, where more than padding is lost.
        if (8..strings_end).contains(&length) {
            assert!(
                read(&with_length(ONE_HART[..length].to_vec())).is_err(),
                "honestly cut to {length} bytes"
            );
        }
    }
}

#[test]
fn every_flipped_bit_is_a_machine_or_an_error() {
    let mut refused = 0;
    for place in 0..ONE_HART.len() {
        for bit in 0..8 {
            let mut tree = ONE_HART.to_vec();
            tree[place] ^= 1 << bit;
            refused += usize::from(read(&tree).is_err());
        }
    }
    // Many bits are of nodes that the kernel does not look at.
    assert!(refused > ONE_HART.len(), "{refused} were refused");
}

#[test]
fn test_reject_damage_by_what_and_where() {
    let mut tree = ONE_HART.to_vec();
    let place = place_of(b"linux,initrd-start\0");
    tree[place + 5] = b' ';
    let error = read(&tree).unwrap_err().to_string();
    assert!(error.starts_with("the device tree is damaged: Invalid property name at offset "), "{error}");
}

#[test]
fn test_reject_values_that_boot_cannot_use() {
    let changed = |wanted: &[u8], at: usize, value: &[u8]| {
        let (mut tree, place) = (ONE_HART.to_vec(), place_of(wanted) + at);
        tree[place..place + value.len()].copy_from_slice(value);
        read(&tree).unwrap_err()
    };
    // RAM begins at an odd address; its end is beyond what there can be.
    let ram = &[0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x08, 0, 0, 0];
    assert!(matches!(changed(ram, 7, &[1]), TreeError::BadMemory(_)));
    assert!(matches!(changed(ram, 8, &[0, 0, 0x7f]), TreeError::BadMemory(_)));
    // The initial image begins behind RAM.
    assert!(matches!(changed(&[0x84, 0x20, 0, 0], 0, &[0x98]), TreeError::BadInitialImage(_)));
    // The interrupt controller is too small for its contexts.
    let controller = &[0, 0, 0, 0, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0x60, 0, 0];
    assert!(matches!(changed(controller, 13, &[0x20]), TreeError::BadInterruptController(_)));
}

/// A tree whose nodes stand in each other, as deep as two megabytes allow.
#[test]
fn test_reject_a_tree_that_is_all_depth() {
    let nested = (2 << 20) / 12 - 8;
    let mut structure = vec![0, 0, 0, 1, 0, 0, 0, 0];
    structure.extend([0, 0, 0, 1, b'n', 0, 0, 0].repeat(nested));
    structure.extend([0, 0, 0, 2].repeat(nested + 1));
    structure.extend([0, 0, 0, 9]);
    let words = [0xd00d_feed, 0, 56, 56 + structure.len() as u32, 40, 17, 16, 0, 0, structure.len() as u32];
    let mut tree: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
    tree.extend([0; 16]);
    tree.extend(structure);
    assert_eq!(read(&with_length(tree)), Err(TreeError::NoHarts));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn any_bytes_are_a_machine_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = read(&bytes);
        let mut tree = [0xd0, 0x0d, 0xfe, 0xed].into_iter().chain([0; 4]).chain(bytes).collect::<Vec<u8>>();
        let _ = read(&tree);
        tree = with_length(tree);
        prop_assert!(read(&tree).is_err());
    }

    #[test]
    fn a_tree_with_many_changes_is_a_machine_or_an_error(
        changes in proptest::collection::vec((8..FOUR_HARTS.len(), any::<u8>()), 1..24),
        word in proptest::option::of((10..FOUR_HARTS.len() / 4, any::<u32>())),
    ) {
        let mut tree = FOUR_HARTS.to_vec();
        for (place, byte) in changes {
            tree[place] = byte;
        }
        if let Some((place, word)) = word {
            tree[place * 4..][..4].copy_from_slice(&word.to_be_bytes());
        }
        let _ = read(&tree);
    }
}
