//! What is laid out is read back, and a table that is missing, damaged or wrong is told as what it is.

use partitions::{
    BLOCK_BYTES, Extent, LayoutError, Partition, ReadError, Refused, Table, TableError, Why, lay_out, read,
};
use proptest::prelude::*;
use std::process::Command;

const DISK_BLOCKS: u64 = 32 * 2048;
const WANTED: &[(Partition, u64)] = &[
    (Partition::BootA, 8192),
    (Partition::BootB, 8192),
    (Partition::Bootctl, 2048),
    (Partition::State, 16384),
];

/// A disk with these partitions.
fn disk(wanted: &[(Partition, u64)]) -> Vec<u8> {
    let mut number = 0;
    let unique = || {
        number += 1;
        [number; 16]
    };
    let mut disk = vec![0; DISK_BLOCKS as usize * BLOCK_BYTES];
    for (first, bytes) in lay_out(DISK_BLOCKS, wanted, unique).unwrap() {
        let at = first as usize * BLOCK_BYTES;
        disk[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    disk
}

fn table(disk: &[u8]) -> Result<Table, TableError<&'static str>> {
    read((disk.len() / BLOCK_BYTES) as u64, |first, to| {
        let at = first as usize * BLOCK_BYTES;
        let blocks = disk.get(at..at + to.len()).ok_or(ReadError::Failed("beyond the end"))?;
        to.copy_from_slice(blocks);
        Ok(())
    })
}

/// The disk with the copies of the table changed as `change` says, each checksummed anew.
fn rewritten(wanted: &[(Partition, u64)], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut disk = disk(wanted);
    change(&mut disk[2 * BLOCK_BYTES..34 * BLOCK_BYTES]);
    let crc = gpt_disk_types::crc::Crc::<u32>::new(&gpt_disk_types::Crc32::ALGORITHM);
    let entries = crc.checksum(&disk[2 * BLOCK_BYTES..34 * BLOCK_BYTES]);
    let header = &mut disk[BLOCK_BYTES..BLOCK_BYTES + 92];
    header[88..92].copy_from_slice(&entries.to_le_bytes());
    header[16..20].fill(0);
    let own = crc.checksum(header);
    header[16..20].copy_from_slice(&own.to_le_bytes());
    disk
}

#[test]
fn what_is_laid_out_is_read_back() {
    let table = table(&disk(WANTED)).unwrap();
    let expected = [(2048, 8192), (10240, 8192), (18432, 2048), (20480, 16384)];
    let expected: Vec<_> = WANTED
        .iter()
        .zip(expected)
        .map(|(&(partition, _), (first, blocks))| (partition, Extent { first, blocks }))
        .collect();
    assert_eq!(table, Table { found: expected, ..Table::default() });
}

#[test]
fn the_second_copy_stands_in_for_the_first() {
    let whole = table(&disk(WANTED)).unwrap();
    for damaged in [BLOCK_BYTES, BLOCK_BYTES + 40, 2 * BLOCK_BYTES + 5] {
        let mut disk = disk(WANTED);
        disk[damaged] ^= 1;
        assert_eq!(table(&disk), Ok(Table { from_second_copy: true, ..whole.clone() }));
    }
}

/// The table of a disk of which these blocks cannot be read.
fn table_without(disk: &[u8], unreadable: &[u64]) -> Result<Table, TableError<()>> {
    read((disk.len() / BLOCK_BYTES) as u64, |first, to| {
        let blocks = first..first + (to.len() / BLOCK_BYTES) as u64;
        if unreadable.iter().any(|block| blocks.contains(block)) {
            return Err(ReadError::Unreadable);
        }
        let at = first as usize * BLOCK_BYTES;
        to.copy_from_slice(&disk[at..at + to.len()]);
        Ok(())
    })
}

/// A first copy on bad blocks once cost the whole disk, although the second one was whole.
#[test]
fn the_second_copy_stands_in_for_an_unreadable_first() {
    let disk = disk(WANTED);
    let whole = table(&disk).unwrap();
    for block in [1, 2, 33] {
        let found = table_without(&disk, &[block]);
        assert_eq!(found, Ok(Table { from_second_copy: true, ..whole.clone() }));
    }
    assert_eq!(table_without(&disk, &[DISK_BLOCKS - 1]), Ok(whole));
}

#[test]
fn test_reject_disks_of_which_no_copy_can_be_read() {
    assert_eq!(table_without(&disk(WANTED), &[1, DISK_BLOCKS - 1]), Err(TableError::Damaged));
    let failed = read(DISK_BLOCKS, |_, _: &mut [u8]| Err::<(), _>(ReadError::Failed("it hangs")));
    assert_eq!(failed, Err(TableError::Failed("it hangs")), "a device that is gone is not asked again");
}

#[test]
fn test_reject_disks_without_a_table() {
    assert_eq!(table(&vec![0; DISK_BLOCKS as usize * BLOCK_BYTES]), Err(TableError::Missing));
    assert_eq!(table(&vec![0xa5; DISK_BLOCKS as usize * BLOCK_BYTES]), Err(TableError::Missing));
    assert_eq!(table(&[0; 67 * BLOCK_BYTES]), Err(TableError::TooSmall(67)));
}

#[test]
fn test_reject_a_table_of_which_both_copies_are_damaged() {
    let mut disk = disk(WANTED);
    let last = disk.len() - BLOCK_BYTES;
    disk[BLOCK_BYTES + 60] ^= 4;
    disk[last + 60] ^= 4;
    assert_eq!(table(&disk), Err(TableError::Damaged));
}

#[test]
fn test_reject_partitions_that_cannot_be_used() {
    let refusal = |wanted: &[(Partition, u64)], change: &dyn Fn(&mut [u8])| {
        let table = table(&rewritten(wanted, change)).unwrap();
        assert!(!table.from_second_copy);
        (table.found.len(), table.refused)
    };
    let state = |why| Refused { partition: Partition::State, why };
    let wrong_type = refusal(WANTED, &|entries| entries[3 * 128] ^= 1);
    assert_eq!(wrong_type, (3, vec![state(Why::WrongType)]));
    let small = refusal(&[(Partition::State, 2047)], &|_| {});
    assert_eq!(small, (0, vec![state(Why::TooSmall(2047))]));
    let beyond = refusal(WANTED, &|entries| entries[3 * 128 + 46] = 1);
    assert_eq!(beyond, (3, vec![state(Why::Outside)]));
    let before = refusal(&WANTED[3..], &|entries| entries[32..40].copy_from_slice(&1u64.to_le_bytes()));
    assert_eq!(before, (0, vec![state(Why::Outside)]));
    let backwards = refusal(&WANTED[3..], &|entries| entries[40..48].copy_from_slice(&100u64.to_le_bytes()));
    assert_eq!(backwards, (0, vec![state(Why::Outside)]));
    let twice = refusal(&[(Partition::State, 4096), (Partition::State, 4096)], &|_| {});
    assert_eq!(twice, (0, vec![state(Why::Twice); 2]));
    let overlap =
        refusal(WANTED, &|entries| entries[3 * 128 + 32..][..8].copy_from_slice(&20479u64.to_le_bytes()));
    assert_eq!(overlap.0, 2);
    assert_eq!(overlap.1.iter().map(|refused| refused.why).collect::<Vec<_>>(), [Why::Twice; 2]);
}

#[test]
fn test_reject_a_disk_too_small_for_its_layout() {
    let refusal = lay_out(1000, WANTED, || [0; 16]).unwrap_err();
    assert_eq!(refusal, LayoutError::TooSmall(20480 + 16384 + 33));
}

#[test]
fn test_reject_blocks_outside_of_an_extent() {
    let extent = Extent { first: 100, blocks: 10 };
    assert_eq!(extent.part(0, 10), Some(extent));
    assert_eq!(extent.part(9, 1), Some(Extent { first: 109, blocks: 1 }));
    for (first, blocks) in [(0, 0), (0, 11), (10, 1), (9, 2), (u64::MAX, 1), (1, u64::MAX)] {
        assert_eq!(extent.part(first, blocks), None, "{first} {blocks}");
    }
}

/// Tools of the host read what is written here; one that is not installed is passed over.
#[test]
fn other_tools_read_the_table() {
    let path = std::env::temp_dir().join(format!("partitions-{}.img", std::process::id()));
    std::fs::write(&path, disk(WANTED)).unwrap();
    for (tool, arguments, expected) in
        [("sfdisk", &["--dump"][..], "name=\"state\""), ("sgdisk", &["--print"][..], "state")]
    {
        let Ok(output) = Command::new(tool).args(arguments).arg(&path).output() else { continue };
        let (told, complaint) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && told.contains(expected), "{tool}: {told}{complaint}");
    }
    std::fs::remove_file(&path).unwrap();
}

proptest! {
    #[test]
    fn any_entries_yield_extents_on_the_disk_that_share_no_block(
        changes in prop::collection::vec((0usize..16384, any::<u8>()), 0..12),
    ) {
        let disk = rewritten(WANTED, |entries| {
            for &(place, byte) in &changes {
                entries[place % 640] = byte;
            }
        });
        let table = table(&disk).unwrap();
        for (place, (_, extent)) in table.found.iter().enumerate() {
            prop_assert!(extent.first >= 34 && extent.first + extent.blocks <= DISK_BLOCKS - 33);
            for (_, other) in &table.found[..place] {
                prop_assert!(other.first + other.blocks <= extent.first || extent.first + extent.blocks <= other.first);
            }
        }
    }

    #[test]
    fn any_blocks_are_read_or_refused(seed in any::<u64>()) {
        let mut state = seed | 1;
        let _ = read(DISK_BLOCKS, |_, to: &mut [u8]| {
            for byte in to.iter_mut() {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                *byte = (state >> 56) as u8;
            }
            to[..8].copy_from_slice(b"EFI PART");
            Ok::<(), ReadError<()>>(())
        });
    }
}
