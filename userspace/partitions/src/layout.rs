//! How a new disk is laid out.

use crate::table::checksum;
use crate::{ALIGNMENT_BLOCKS, BLOCK_BYTES, ENTRIES, ENTRIES_BLOCKS, ENTRY_BYTES, Extent, Partition};
use alloc::vec;
use alloc::vec::Vec;
use gpt_disk_types::{
    GptHeader, GptHeaderRevision, GptHeaderSignature, GptPartitionEntry, GptPartitionType, Guid, LbaLe,
    MasterBootRecord, U32Le,
};

/// Why a disk cannot be laid out so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// It has too few blocks; so many are needed.
    TooSmall(u64),
}

impl core::fmt::Display for LayoutError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            LayoutError::TooSmall(blocks) => {
                write!(formatter, "the disk is too small: {blocks} blocks are needed")
            }
        }
    }
}

/// What is to be written to a disk of so many blocks that shall have these partitions, one behind the other: pieces
/// of whole blocks, each with the number of its first. `unique` yields other random bytes each time.
pub fn lay_out(
    disk_blocks: u64,
    wanted: &[(Partition, u64)],
    mut unique: impl FnMut() -> [u8; 16],
) -> Result<Vec<(u64, Vec<u8>)>, LayoutError> {
    let mut entries = vec![0; ENTRIES_BLOCKS as usize * BLOCK_BYTES];
    let mut next = ALIGNMENT_BLOCKS;
    let places = entries.as_chunks_mut::<{ ENTRY_BYTES as usize }>().0;
    for (place, &(partition, blocks)) in places.iter_mut().zip(wanted) {
        let extent = Extent { first: next, blocks };
        place.copy_from_slice(bytemuck::bytes_of(&entry(partition, extent, random_guid(unique()))));
        next = next.saturating_add(blocks).next_multiple_of(ALIGNMENT_BLOCKS);
    }
    let least = next.saturating_add(1 + ENTRIES_BLOCKS);
    if disk_blocks < least {
        return Err(LayoutError::TooSmall(least));
    }
    let last = disk_blocks - 1;
    let mut header = GptHeader {
        signature: GptHeaderSignature::EFI_COMPATIBLE_PARTITION_TABLE_HEADER,
        revision: GptHeaderRevision::VERSION_1_0,
        my_lba: LbaLe::from_u64(1),
        alternate_lba: LbaLe::from_u64(last),
        first_usable_lba: LbaLe::from_u64(2 + ENTRIES_BLOCKS),
        last_usable_lba: LbaLe::from_u64(last - ENTRIES_BLOCKS - 1),
        disk_guid: random_guid(unique()),
        partition_entry_lba: LbaLe::from_u64(2),
        number_of_partition_entries: U32Le::from_u32(ENTRIES as u32),
        size_of_partition_entry: U32Le::from_u32(ENTRY_BYTES as u32),
        partition_entry_array_crc32: checksum(&entries),
        ..GptHeader::default()
    };
    header.update_header_crc32();
    let mut copy = GptHeader {
        my_lba: LbaLe::from_u64(last),
        alternate_lba: LbaLe::from_u64(1),
        partition_entry_lba: LbaLe::from_u64(last - ENTRIES_BLOCKS),
        ..header
    };
    copy.update_header_crc32();
    let record = MasterBootRecord::protective_mbr(disk_blocks);
    Ok(vec![
        (0, block(bytemuck::bytes_of(&record))),
        (1, block(bytemuck::bytes_of(&header))),
        (2, entries.clone()),
        (last - ENTRIES_BLOCKS, entries),
        (last, block(bytemuck::bytes_of(&copy))),
    ])
}

/// The GUID of these random bytes.
fn random_guid(bytes: [u8; 16]) -> Guid {
    Guid::from_random_bytes(bytes)
}

fn entry(partition: Partition, extent: Extent, unique: Guid) -> GptPartitionEntry {
    let mut entry = GptPartitionEntry {
        partition_type_guid: GptPartitionType(partition.kind()),
        unique_partition_guid: unique,
        starting_lba: LbaLe::from_u64(extent.first),
        ending_lba: LbaLe::from_u64(extent.first + extent.blocks - 1),
        ..GptPartitionEntry::default()
    };
    let mut name = { entry.name };
    for (place, letter) in partition.name().bytes().enumerate() {
        // UTF-16, of which our names need the lower half.
        name.0[2 * place] = letter;
    }
    entry.name = name;
    entry
}

/// A whole block that begins with these bytes.
fn block(bytes: &[u8]) -> Vec<u8> {
    let mut block = bytes.to_vec();
    block.resize(BLOCK_BYTES, 0);
    block
}
