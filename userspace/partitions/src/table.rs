//! What a disk's table says.

use crate::{BLOCK_BYTES, ENTRIES, ENTRIES_BLOCKS, ENTRY_BYTES, Extent, Partition};
use alloc::vec;
use alloc::vec::Vec;
use gpt_disk_types::{Crc32, GptHeader, GptPartitionEntry, U32Le};

/// Blocks that a disk must have to hold a table and its copy.
const DISK_BLOCKS_MIN: u64 = 2 * (1 + ENTRIES_BLOCKS) + 2;

/// The partitions of this system on a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Those that can be used.
    pub found: Vec<(Partition, Extent)>,
    /// Those that bear one of our names and cannot be used.
    pub refused: Vec<Refused>,
    /// Whether the first copy of the table was damaged and the second one was read.
    pub from_second_copy: bool,
}

/// A partition that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub partition: Partition,
    /// Why.
    pub why: Why,
}

/// Why a partition cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It has the name, but another type.
    WrongType,
    /// It has so many blocks, fewer than it needs.
    TooSmall(u64),
    /// It does not lie between the two copies of the table.
    Outside,
    /// Another partition has the same name, or shares blocks with it.
    Twice,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "the partition `{}` ", self.partition.name())?;
        match self.why {
            Why::WrongType => formatter.write_str("is of another type"),
            Why::TooSmall(blocks) => {
                let least = self.partition.blocks_min();
                write!(formatter, "is too small: {blocks} blocks, and {least} are needed")
            }
            Why::Outside => formatter.write_str("does not lie on the disk"),
            Why::Twice => formatter.write_str("stands there twice, or shares blocks with another"),
        }
    }
}

/// Why blocks could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError<E> {
    /// The disk says that it cannot read these; others it may.
    Unreadable,
    /// Nothing can be read any more.
    Failed(E),
}

/// Why a disk has no table that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError<E> {
    /// Nothing can be read any more.
    Failed(E),
    /// So many blocks are too few for a table.
    TooSmall(u64),
    /// Neither place has a table: another format, or an empty disk.
    Missing,
    /// There may be one, and neither of its copies is whole and can be read.
    Damaged,
}

impl<E: core::fmt::Display> core::fmt::Display for TableError<E> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            TableError::Failed(error) => write!(formatter, "it cannot be read: {error}"),
            TableError::TooSmall(blocks) => {
                write!(formatter, "it has {blocks} blocks, too few for a partition table")
            }
            TableError::Missing => formatter.write_str("it has no partition table (GPT)"),
            TableError::Damaged => {
                formatter.write_str("both copies of its partition table are damaged or cannot be read")
            }
        }
    }
}

/// Why one copy of the table cannot be used.
enum CopyError<E> {
    Failed(E),
    Missing,
    /// Or unreadable.
    Damaged,
}

impl<E> From<ReadError<E>> for CopyError<E> {
    fn from(error: ReadError<E>) -> Self {
        match error {
            ReadError::Unreadable => CopyError::Damaged,
            ReadError::Failed(error) => CopyError::Failed(error),
        }
    }
}

/// Reads the table of a disk of so many blocks. `read_blocks` fills its second argument, whole blocks, from the
/// block of its first argument on.
pub fn read<E>(
    disk_blocks: u64,
    mut read_blocks: impl FnMut(u64, &mut [u8]) -> Result<(), ReadError<E>>,
) -> Result<Table, TableError<E>> {
    if disk_blocks < DISK_BLOCKS_MIN {
        return Err(TableError::TooSmall(disk_blocks));
    }
    match read_copy(disk_blocks, 1, &mut read_blocks) {
        Ok(entries) => Ok(table(disk_blocks, &entries, false)),
        Err(CopyError::Failed(error)) => Err(TableError::Failed(error)),
        Err(first) => match read_copy(disk_blocks, disk_blocks - 1, &mut read_blocks) {
            Ok(entries) => Ok(table(disk_blocks, &entries, true)),
            Err(CopyError::Failed(error)) => Err(TableError::Failed(error)),
            Err(CopyError::Missing) if matches!(first, CopyError::Missing) => Err(TableError::Missing),
            Err(_) => Err(TableError::Damaged),
        },
    }
}

/// The entries that the header in this block leads to.
fn read_copy<E>(
    disk_blocks: u64,
    at: u64,
    read_blocks: &mut impl FnMut(u64, &mut [u8]) -> Result<(), ReadError<E>>,
) -> Result<Vec<u8>, CopyError<E>> {
    let mut block = [0; BLOCK_BYTES];
    read_blocks(at, &mut block)?;
    let header: GptHeader = bytemuck::pod_read_unaligned(&block[..size_of::<GptHeader>()]);
    if !header.is_signature_valid() {
        return Err(CopyError::Missing);
    }
    let first = header.partition_entry_lba.to_u64();
    let fits = first.checked_add(ENTRIES_BLOCKS).is_some_and(|end| first >= 2 && end <= disk_blocks);
    let is_ours = header.header_size.to_u32() as usize == size_of::<GptHeader>()
        && u64::from(header.number_of_partition_entries.to_u32()) == ENTRIES
        && u64::from(header.size_of_partition_entry.to_u32()) == ENTRY_BYTES;
    if !is_ours
        || !fits
        || header.my_lba.to_u64() != at
        || header.calculate_header_crc32() != header.header_crc32
    {
        return Err(CopyError::Damaged);
    }
    let mut entries = vec![0; ENTRIES_BLOCKS as usize * BLOCK_BYTES];
    read_blocks(first, &mut entries)?;
    if checksum(&entries) != header.partition_entry_array_crc32 {
        return Err(CopyError::Damaged);
    }
    Ok(entries)
}

/// The checksum of the entries.
pub(crate) fn checksum(bytes: &[u8]) -> Crc32 {
    let crc = gpt_disk_types::crc::Crc::<u32>::new(&Crc32::ALGORITHM);
    Crc32(U32Le(crc.checksum(bytes).to_le_bytes()))
}

/// What these entries say.
fn table(disk_blocks: u64, entries: &[u8], from_second_copy: bool) -> Table {
    let used: Vec<GptPartitionEntry> = entries
        .as_chunks::<{ ENTRY_BYTES as usize }>()
        .0
        .iter()
        .map(|bytes| bytemuck::pod_read_unaligned(bytes))
        .filter(GptPartitionEntry::is_used)
        .collect();
    let mut table = Table { from_second_copy, ..Table::default() };
    for (place, entry) in used.iter().enumerate() {
        let Some(partition) = named(entry) else { continue };
        let others = used.iter().enumerate().filter(|(other, _)| *other != place);
        match judge(disk_blocks, partition, entry, others.map(|(_, other)| other)) {
            Ok(extent) => table.found.push((partition, extent)),
            Err(why) => table.refused.push(Refused { partition, why }),
        }
    }
    table
}

/// Which of our partitions bears this entry's name.
fn named(entry: &GptPartitionEntry) -> Option<Partition> {
    let name = { entry.name };
    Partition::ALL.into_iter().find(|partition| name.chars().eq(partition.name().chars()))
}

fn extent(entry: &GptPartitionEntry) -> Option<Extent> {
    let (first, last) = ({ entry.starting_lba }.to_u64(), { entry.ending_lba }.to_u64());
    let blocks = last.checked_sub(first)?.checked_add(1)?;
    Some(Extent { first, blocks })
}

fn judge<'a>(
    disk_blocks: u64,
    partition: Partition,
    entry: &GptPartitionEntry,
    mut others: impl Iterator<Item = &'a GptPartitionEntry>,
) -> Result<Extent, Why> {
    let kind = { entry.partition_type_guid };
    if kind.0 != partition.kind() {
        return Err(Why::WrongType);
    }
    let behind_table = 2 + ENTRIES_BLOCKS;
    let before_copy = disk_blocks.saturating_sub(1 + ENTRIES_BLOCKS);
    let found = extent(entry).filter(|found| {
        let end = found.first.checked_add(found.blocks);
        found.first >= behind_table && end.is_some_and(|end| end <= before_copy)
    });
    let found = found.ok_or(Why::Outside)?;
    if found.blocks < partition.blocks_min() {
        return Err(Why::TooSmall(found.blocks));
    }
    let clashes = |other: &GptPartitionEntry| {
        named(other) == Some(partition) || extent(other).is_some_and(|other| other.meets(found))
    };
    if others.any(clashes) { Err(Why::Twice) } else { Ok(found) }
}
