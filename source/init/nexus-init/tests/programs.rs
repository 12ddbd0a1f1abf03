//! Reading ELF files: what is mapped, and everything that is refused.

use nexus_abi::Rights;
use nexus_init::program::{Program, ProgramError};
use proptest::prelude::*;

#[derive(Clone, Copy)]
struct Part {
    flags: u32,
    offset: u64,
    address: u64,
    file_bytes: u64,
    memory_bytes: u64,
}

const READ: u32 = 4;
const WRITE: u32 = 2;
const EXECUTE: u32 = 1;
const TEXT: Part =
    Part { flags: READ | EXECUTE, offset: 0x200, address: 0x1_0200, file_bytes: 16, memory_bytes: 16 };
const DATA: Part =
    Part { flags: READ | WRITE, offset: 0x210, address: 0x1_1ff8, file_bytes: 16, memory_bytes: 0x1000 };

/// A 64-bit RISC-V executable with these segments and 0x300 bytes.
fn file(entry: u64, parts: &[Part]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
    bytes[16..18].copy_from_slice(&2u16.to_le_bytes());
    bytes[18..20].copy_from_slice(&243u16.to_le_bytes());
    bytes[20..24].copy_from_slice(&1u32.to_le_bytes());
    bytes[24..32].copy_from_slice(&entry.to_le_bytes());
    bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
    bytes[52..54].copy_from_slice(&64u16.to_le_bytes());
    bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&(parts.len() as u16).to_le_bytes());
    for part in parts {
        bytes.extend_from_slice(&1u32.to_le_bytes());
        bytes.extend_from_slice(&part.flags.to_le_bytes());
        for word in [part.offset, part.address, part.address, part.file_bytes, part.memory_bytes, 0x1000] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    bytes.resize(0x300, 0xaa);
    bytes
}

#[test]
fn segments_become_whole_pages_with_exactly_their_protection() {
    let bytes = file(0x1_0200, &[DATA, TEXT]);
    let program = Program::read(&bytes).unwrap();
    assert_eq!((program.entry, program.base()), (0x1_0200, 0x1_0000));
    let [text, data] = &program.segments[..] else { panic!("two segments") };
    assert_eq!((text.base, text.bytes, text.offset), (0x1_0000, 0x1000, 0x200));
    assert_eq!(text.protection, Rights::READ | Rights::EXECUTE);
    assert_eq!((data.base, data.bytes, data.offset), (0x1_1000, 0x2000, 0xff8));
    assert_eq!(data.protection, Rights::READ | Rights::WRITE);
    assert_eq!(data.contents, &bytes[0x210..0x220]);
}

#[test]
fn test_reject_writable_and_executable() {
    let wrong = Part { flags: READ | WRITE | EXECUTE, ..TEXT };
    assert_eq!(Program::read(&file(0x1_0200, &[wrong])), Err(ProgramError::SegmentProtection));
    let nothing = Part { flags: 0, ..DATA };
    assert_eq!(Program::read(&file(0x1_0200, &[TEXT, nothing])), Err(ProgramError::SegmentProtection));
}

#[test]
fn test_reject_bytes_outside_the_file_or_more_than_memory() {
    for (offset, file_bytes) in [(0x2f8, 16), (u64::MAX, 16), (0x200, 17), (0x200, u64::MAX)] {
        let wrong = Part { offset, file_bytes, ..TEXT };
        assert_eq!(Program::read(&file(0x1_0200, &[wrong])), Err(ProgramError::SegmentBytes));
    }
}

#[test]
fn test_reject_addresses_outside_programs_and_shared_pages() {
    for address in [0, 0xfff, 0x1000_0000, u64::MAX - 8] {
        let wrong = Part { address, ..TEXT };
        assert_eq!(Program::read(&file(address, &[wrong])), Err(ProgramError::SegmentAddress));
    }
    let shared = Part { address: 0x1_0800, ..DATA };
    assert_eq!(Program::read(&file(0x1_0200, &[TEXT, shared])), Err(ProgramError::SegmentAddress));
}

#[test]
fn test_reject_an_entry_that_is_not_code() {
    for entry in [0, 0x1_1ff8, 0x2_0000] {
        assert_eq!(Program::read(&file(entry, &[TEXT, DATA])), Err(ProgramError::Entry));
    }
}

#[test]
fn test_reject_other_machines_kinds_and_counts() {
    for (place, value) in [(18, 62), (16, 3), (16, 1)] {
        let mut wrong = file(0x1_0200, &[TEXT]);
        wrong[place] = value;
        assert_eq!(Program::read(&wrong), Err(ProgramError::WrongMachine));
    }
    assert_eq!(Program::read(&file(0x1_0200, &[])), Err(ProgramError::SegmentCount));
    let many: Vec<Part> = (0..9).map(|n| Part { address: 0x1_0200 + n * 0x1000, ..TEXT }).collect();
    assert_eq!(Program::read(&file(0x1_0200, &many)), Err(ProgramError::SegmentCount));
    assert_eq!(Program::read(b"#!/bin/sh"), Err(ProgramError::NotElf));
}

proptest! {
    #[test]
    fn any_damage_is_refused_or_still_obeys_the_rules(changes in prop::collection::vec((0usize..200, any::<u8>()), 1..8)) {
        let mut bytes = file(0x1_0200, &[TEXT, DATA]);
        for (place, value) in changes {
            bytes[place] = value;
        }
        if let Ok(program) = Program::read(&bytes) {
            for segment in &program.segments {
                prop_assert!(!segment.protection.contains(Rights::WRITE | Rights::EXECUTE));
                prop_assert!(segment.offset + segment.contents.len() <= segment.bytes);
                prop_assert!(segment.base >= 0x1000 && segment.base + segment.bytes as u64 <= 0x1000_0000);
            }
            for pair in program.segments.windows(2) {
                prop_assert!(pair[0].base + pair[0].bytes as u64 <= pair[1].base);
            }
        }
    }
}
