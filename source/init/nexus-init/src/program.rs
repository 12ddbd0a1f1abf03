//! A program's ELF file, turned into a plan of what to map where. 64-bit RISC-V, static, `PT_LOAD` only.

use alloc::vec::Vec;
use elf::ElfBytes;
use elf::abi::{EM_RISCV, ET_EXEC, PF_R, PF_W, PF_X, PT_INTERP, PT_LOAD};
use elf::endian::LittleEndian;
use nexus_abi::Rights;
use nexus_abi::limits::{PAGE_SIZE, USER_BASE};

/// The first address that a program may not occupy: the start page lies there.
pub const PROGRAM_END: u64 = 0x1000_0000;
/// Segments that a program may have.
pub const SEGMENTS_MAX: usize = 8;

/// Why a file is not a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramError {
    /// It is not an ELF file, or its tables point outside of it.
    NotElf,
    /// It is not a static little-endian 64-bit RISC-V executable.
    WrongMachine,
    /// It has no segment, or more than [`SEGMENTS_MAX`].
    SegmentCount,
    /// A segment's bytes lie outside the file, or are more than its memory.
    SegmentBytes,
    /// A segment lies outside user memory below [`PROGRAM_END`], or two share a page.
    SegmentAddress,
    /// A segment is writable and executable, or nothing at all.
    SegmentProtection,
    /// The entry is not in an executable segment.
    Entry,
}

impl ProgramError {
    /// In words.
    pub const fn message(self) -> &'static str {
        match self {
            ProgramError::NotElf => "it is not an ELF file, or a damaged one",
            ProgramError::WrongMachine => "it is not a static 64-bit RISC-V executable",
            ProgramError::SegmentCount => "it has no segment, or too many",
            ProgramError::SegmentBytes => "a segment's bytes lie outside the file",
            ProgramError::SegmentAddress => "a segment's addresses are not allowed, or two share a page",
            ProgramError::SegmentProtection => "a segment is writable and executable",
            ProgramError::Entry => "its entry is not in executable memory",
        }
    }
}

/// What to map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program<'a> {
    /// The first instruction.
    pub entry: u64,
    /// The segments, by address.
    pub segments: Vec<Segment<'a>>,
}

/// One piece of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Its first page.
    pub base: u64,
    /// Its bytes: whole pages.
    pub bytes: usize,
    /// Where the contents begin in it.
    pub offset: usize,
    /// The contents; the rest is zero.
    pub contents: &'a [u8],
    /// Of READ, WRITE, EXECUTE; never the last two together.
    pub protection: Rights,
}

impl<'a> Program<'a> {
    /// Checks a file and plans it.
    pub fn read(file: &'a [u8]) -> Result<Self, ProgramError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ProgramError::NotElf)?;
        let header = elf.ehdr;
        if header.class != elf::file::Class::ELF64 || header.e_machine != EM_RISCV || header.e_type != ET_EXEC
        {
            return Err(ProgramError::WrongMachine);
        }
        let mut segments = Vec::new();
        for part in elf.segments().ok_or(ProgramError::SegmentCount)? {
            match part.p_type {
                PT_INTERP => return Err(ProgramError::WrongMachine),
                PT_LOAD if part.p_memsz > 0 => segments.push(segment(file, &part)?),
                _ => {}
            }
            if segments.len() > SEGMENTS_MAX {
                return Err(ProgramError::SegmentCount);
            }
        }
        segments.sort_by_key(|segment: &Segment<'_>| segment.base);
        if segments.is_empty() {
            return Err(ProgramError::SegmentCount);
        }
        if segments.windows(2).any(|pair| pair[0].base + pair[0].bytes as u64 > pair[1].base) {
            return Err(ProgramError::SegmentAddress);
        }
        let program = Program { entry: header.e_entry, segments };
        let entered = program.segment_at(program.entry);
        if entered.is_some_and(|segment| segment.protection.contains(Rights::EXECUTE)) {
            Ok(program)
        } else {
            Err(ProgramError::Entry)
        }
    }

    /// The lowest address, from which offsets in reports count.
    pub fn base(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.base)
    }

    /// The segment that holds this address.
    pub fn segment_at(&self, address: u64) -> Option<&Segment<'a>> {
        self.segments
            .iter()
            .find(|segment| address >= segment.base && address - segment.base < segment.bytes as u64)
    }
}

fn segment<'a>(file: &'a [u8], part: &elf::segment::ProgramHeader) -> Result<Segment<'a>, ProgramError> {
    let end = part.p_vaddr.checked_add(part.p_memsz).ok_or(ProgramError::SegmentAddress)?;
    if part.p_vaddr < USER_BASE || end > PROGRAM_END {
        return Err(ProgramError::SegmentAddress);
    }
    let file_end = part.p_offset.checked_add(part.p_filesz).ok_or(ProgramError::SegmentBytes)?;
    let range = part.p_offset as usize..file_end as usize;
    let contents =
        file.get(range).filter(|_| part.p_filesz <= part.p_memsz).ok_or(ProgramError::SegmentBytes)?;
    let mut protection = Rights::empty();
    for (flag, right) in [(PF_R, Rights::READ), (PF_W, Rights::WRITE), (PF_X, Rights::EXECUTE)] {
        if part.p_flags & flag != 0 {
            protection |= right;
        }
    }
    if protection.is_empty() || protection.contains(Rights::WRITE.union(Rights::EXECUTE)) {
        return Err(ProgramError::SegmentProtection);
    }
    let base = part.p_vaddr & !(PAGE_SIZE as u64 - 1);
    Ok(Segment {
        base,
        bytes: ((end - base) as usize).next_multiple_of(PAGE_SIZE),
        offset: (part.p_vaddr - base) as usize,
        contents,
        protection,
    })
}
