//! What callers did, added up by `soak-peer`, which nobody kills.

use nexus_abi::limits::{REGISTER_BYTES, REGISTER_WORDS};
use nexus_abi::message::{Header, Registers};
use nexus_abi::{Handle, Result, system};

/// The operation of `soak-peer` that adds counts up.
pub const TELL: u16 = 2;

/// What is counted.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum What {
    /// Calls that were answered.
    Calls = 0,
    /// Calls that ended otherwise, as they may: by a death, a deadline, a revocation.
    Cut = 1,
    /// Signals that somebody waited for.
    Signals = 2,
    /// Capabilities that were moved or copied to another process.
    Capabilities = 3,
    /// Calls that two threads answered.
    Races = 4,
    /// Revocations.
    Revocations = 5,
    /// Changes of mappings.
    Mappings = 6,
    /// Calls or leases that found memory unmapped.
    Unmapped = 7,
}

/// So many of each.
#[derive(Clone, Copy, Default)]
pub struct Counts(pub [u64; REGISTER_WORDS]);

impl Counts {
    /// How many of one.
    pub fn of(&self, what: What) -> u64 {
        self.0[what as usize]
    }

    /// So many more of one.
    pub fn more(&mut self, what: What, number: u64) {
        self.0[what as usize] += number;
    }

    /// Adds others.
    pub fn add(&mut self, others: &[u64; REGISTER_WORDS]) {
        for (sum, more) in self.0.iter_mut().zip(others) {
            *sum = sum.wrapping_add(*more);
        }
    }

    /// Tells these and begins anew; yields the sums of all.
    pub fn tell(&mut self, peer: Handle, deadline: u64) -> Result<Counts> {
        let header = Header::new(TELL, REGISTER_BYTES as u32, 0);
        let mut registers = Registers { header, words: self.0, ..Registers::default() };
        // SAFETY: without buffers.
        unsafe { system::call(peer, &mut registers, None, deadline)? };
        *self = Counts::default();
        Ok(Counts(registers.words))
    }
}
