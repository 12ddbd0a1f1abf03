//! ELF files of the machine: the kernel made flat, programs made small.

use anyhow::{Context, Result, bail, ensure};
use elf::ElfBytes;
use elf::abi::{EM_RISCV, ET_EXEC, PT_LOAD};
use elf::endian::LittleEndian;
use elf::segment::ProgramHeader;

/// Bytes of a flat kernel at the most: a gap that large is a mistake in the linker script.
const FLAT_BYTES_MAX: u64 = 32 << 20;
/// Where the head of a 64-bit ELF file says where its section headers are.
const SECTION_OFFSET_FIELD: std::ops::Range<usize> = 40..48;
/// Where it says how large they are, how many, and which one holds the names.
const SECTION_COUNT_FIELDS: std::ops::Range<usize> = 58..64;

/// The bytes of the loaded segments at their physical addresses, gaps zero. The first one is the entry.
pub fn flatten(bytes: &[u8]) -> Result<Vec<u8>> {
    let (entry, segments) = loaded_segments(bytes)?;
    let filled: Vec<&ProgramHeader> = segments.iter().filter(|segment| segment.p_filesz > 0).collect();
    let first = filled.iter().min_by_key(|segment| segment.p_paddr).context("it has nothing to load")?;
    ensure!(
        entry == first.p_paddr || entry == first.p_vaddr,
        "its entry {entry:#x} is not its first byte, which is loaded at {:#x}",
        first.p_paddr
    );
    let start = first.p_paddr;
    let end = filled.iter().map(|segment| segment.p_paddr.saturating_add(segment.p_filesz)).max();
    let length = end.unwrap_or(start) - start;
    ensure!(length <= FLAT_BYTES_MAX, "its segments are {length} bytes apart; at most {FLAT_BYTES_MAX}");
    let mut flat = vec![0; length as usize];
    for segment in filled {
        let at = (segment.p_paddr - start) as usize;
        flat[at..at + segment.p_filesz as usize].copy_from_slice(contents(bytes, segment)?);
    }
    Ok(flat)
}

/// The file without what is not loaded: head, program headers and segments stay where they are.
pub fn strip(bytes: &[u8]) -> Result<Vec<u8>> {
    let (_, segments) = loaded_segments(bytes)?;
    let mut end = 0;
    for segment in &segments {
        contents(bytes, segment)?;
        end = end.max((segment.p_offset + segment.p_filesz) as usize);
    }
    ensure!(end > SECTION_COUNT_FIELDS.end, "none of its segments holds its head");
    let mut stripped = bytes[..end].to_vec();
    stripped[SECTION_OFFSET_FIELD].fill(0);
    stripped[SECTION_COUNT_FIELDS].fill(0);
    Ok(stripped)
}

fn contents<'a>(bytes: &'a [u8], segment: &ProgramHeader) -> Result<&'a [u8]> {
    let end = segment.p_offset.checked_add(segment.p_filesz);
    let range = end.and_then(|end| bytes.get(segment.p_offset as usize..end as usize));
    range.context("a segment reaches beyond the end of the file")
}

fn loaded_segments(bytes: &[u8]) -> Result<(u64, Vec<ProgramHeader>)> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).context("it is not a 64-bit ELF file")?;
    ensure!(file.ehdr.e_machine == EM_RISCV, "it is not for RISC-V");
    ensure!(file.ehdr.e_type == ET_EXEC, "it is not linked to fixed addresses");
    let headers = file.segments().context("it has no program headers")?;
    let segments: Vec<_> = headers.iter().filter(|segment| segment.p_type == PT_LOAD).collect();
    if segments.is_empty() {
        bail!("it has nothing to load");
    }
    Ok((file.ehdr.e_entry, segments))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One segment: where it stands in the file, where it is loaded, its bytes.
    pub(crate) struct Segment {
        pub offset: u64,
        pub address: u64,
        pub bytes: &'static [u8],
    }

    /// A minimal ELF file with these segments and `tail` bytes of symbols after them.
    pub(crate) fn file(entry: u64, segments: &[Segment], tail: usize) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        bytes.extend(ET_EXEC.to_le_bytes());
        bytes.extend(EM_RISCV.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(entry.to_le_bytes());
        bytes.extend(64u64.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        for half in [64u16, 56, segments.len() as u16, 64, 0, 0] {
            bytes.extend(half.to_le_bytes());
        }
        for segment in segments {
            bytes.extend(PT_LOAD.to_le_bytes());
            bytes.extend(5u32.to_le_bytes());
            let length = segment.bytes.len() as u64;
            for word in [segment.offset, segment.address, segment.address, length, length + 32, 4096] {
                bytes.extend(word.to_le_bytes());
            }
        }
        for segment in segments {
            let end = segment.offset as usize + segment.bytes.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[segment.offset as usize..end].copy_from_slice(segment.bytes);
        }
        bytes.resize(bytes.len() + tail, 0xee);
        bytes
    }

    #[test]
    fn flattening_puts_segments_at_their_addresses_and_zeroes_between() {
        let segments = [
            Segment { offset: 512, address: 0x8020_0000, bytes: b"code" },
            Segment { offset: 520, address: 0x8020_0008, bytes: b"data" },
        ];
        let flat = flatten(&file(0x8020_0000, &segments, 100)).unwrap();
        assert_eq!(flat, b"code\0\0\0\0data");
    }

    #[test]
    fn test_reject_flattening_when_the_entry_is_not_the_first_byte() {
        let segments = [Segment { offset: 512, address: 0x8020_0000, bytes: b"code" }];
        let error = flatten(&file(0x8020_0002, &segments, 0)).unwrap_err();
        assert!(error.to_string().contains("not its first byte"), "{error}");
    }

    #[test]
    fn test_reject_flattening_when_segments_are_far_apart() {
        let segments = [
            Segment { offset: 512, address: 0x1000, bytes: b"a" },
            Segment { offset: 513, address: 0x8020_0000, bytes: b"b" },
        ];
        let error = flatten(&file(0x1000, &segments, 0)).unwrap_err();
        assert!(error.to_string().contains("apart"), "{error}");
    }

    #[test]
    fn stripping_keeps_what_is_loaded_and_drops_the_rest() {
        let segments = [Segment { offset: 512, address: 0x10200, bytes: b"code" }];
        let stripped = strip(&file(0x10200, &segments, 1000)).unwrap();
        assert_eq!(stripped.len(), 516);
        assert_eq!(&stripped[512..], b"code");
        let (entry, kept) = loaded_segments(&stripped).unwrap();
        assert_eq!((entry, kept.len()), (0x10200, 1));
    }

    #[test]
    fn test_reject_what_is_not_an_elf_file_or_is_cut() {
        assert!(strip(b"#!/bin/sh\n").is_err());
        let whole = file(0x10200, &[Segment { offset: 512, address: 0x10200, bytes: b"code" }], 0);
        assert!(strip(&whole[..514]).unwrap_err().to_string().contains("beyond the end"));
    }
}
