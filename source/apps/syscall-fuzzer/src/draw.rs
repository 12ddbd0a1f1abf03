//! Random arguments by their form in the table: mostly sensible, often at a border, sometimes nonsense.

use alloc::vec;
use alloc::vec::Vec;
use nexus_abi::calls::Argument;
use nexus_abi::limits::{PAGE_SIZE, USER_END};
use nexus_abi::{Handle, Kind, Rights, system};

const PAGE: u64 = PAGE_SIZE as u64;
/// Where mappings are tried: nothing of the fuzzer's own is there.
const MAPS: u64 = 0x28_0000_0000;
/// Ticks that a wait may take.
const PATIENCE: u64 = 500;

/// A generator that is good enough to wander (xorshift64*).
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of several; there is at least one.
    pub fn one_of<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let place = self.below(from.len() as u64) as usize;
        &from[place]
    }

    /// A size of at most about `most`, often a small one or a border.
    pub fn size(&mut self, most: u64) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => *self.one_of(&[1, 63, 64, 65, 4095, 4096, 4097, 65_535, 65_536, 65_537]),
            2 => self.next(),
            3 | 4 => self.below(most),
            _ => self.below(64),
        }
    }

    /// A deadline that is over or comes soon.
    pub fn soon(&mut self) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => system::ticks(),
            _ => system::ticks() + self.below(PATIENCE),
        }
    }
}

/// Memory that calls may read and write as they like.
pub struct Arena {
    bytes: Vec<u8>,
}

impl Arena {
    /// Enough for the largest transfer, and a page.
    pub fn new() -> Self {
        Arena { bytes: vec![0; 64 * 1024 + PAGE_SIZE] }
    }

    /// An address: in the arena, or one that must be refused.
    pub fn address(&self, random: &mut Random) -> u64 {
        let base = self.bytes.as_ptr() as u64;
        match random.below(12) {
            0 => 0,
            1 => random.below(PAGE),
            2 => MAPS + random.below(64 * PAGE),
            3 => USER_END - random.below(128),
            4 => u64::MAX - random.below(256),
            5 => 0xffff_ffc0_0000_0000 + random.below(1 << 30),
            6 => 0xffff_ffff_8000_0000 + random.below(1 << 20),
            // The fuzzer's own code: readable, never writable.
            7 => argument as *const () as u64 & !7,
            _ => base + random.below(64) * 8,
        }
    }
}

/// A handle: mostly one that the fuzzer has or had.
pub fn handle(random: &mut Random, own: &[Handle], given: &[Handle]) -> Handle {
    match random.below(10) {
        0 => Handle(random.next()),
        1 => Handle::new(random.below(64) as u32, random.below(4) as u32),
        2 if !given.is_empty() => *random.one_of(given),
        _ if !own.is_empty() => *random.one_of(own),
        _ => Handle::NONE,
    }
}

/// Bits of rights: all, some, or none that exist.
pub fn rights(random: &mut Random) -> u32 {
    match random.below(4) {
        0 => Rights::all().bits() & random.next() as u32,
        1 => random.next() as u32,
        2 => (Rights::READ | Rights::WRITE).bits(),
        _ => Kind::ALL[random.below(Kind::ALL.len() as u64) as usize].rights().bits(),
    }
}

/// An argument of this form.
pub fn argument(random: &mut Random, arena: &Arena, form: Argument, own: &[Handle], given: &[Handle]) -> u64 {
    match form {
        Argument::Capability(..) | Argument::AnyCapability => handle(random, own, given).0,
        Argument::ProcessOrSelf(_) if random.below(3) != 0 => 0,
        Argument::ProcessOrSelf(_) => handle(random, own, given).0,
        Argument::In(_) | Argument::Out(_) | Argument::InBytes | Argument::OutBytes => arena.address(random),
        Argument::Bytes => random.size(64 * PAGE) & if random.below(2) == 0 { !(PAGE - 1) } else { u64::MAX },
        Argument::Address => match random.below(6) {
            0 => random.next(),
            1 => USER_END - PAGE * random.below(3),
            _ => MAPS + PAGE * random.below(96),
        },
        Argument::RightsBits => rights(random).into(),
        Argument::Deadline => random.soon(),
        Argument::Number => match random.below(3) {
            0 => random.next(),
            1 => random.below(4),
            _ => random.size(1 << 20),
        },
    }
}
