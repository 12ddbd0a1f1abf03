//! When there is entropy enough, and when there is not.

use crate::drbg::Drbg;
use crate::health::{Health, HealthFailure};
use sha2::{Digest, Sha256};

/// Bytes that one request may ask for.
pub const REQUEST_BYTES_MAX: usize = 256;
/// Bytes that pass the tests before the first one comes out, at the start and after a failure (SP 800-90B, 4.3).
pub const STARTUP_BYTES: usize = 1024;
/// Bytes of raw entropy that go into one reseed: twice 256 bits and a half, by what a byte is taken to hold.
pub const SEED_BYTES: usize = 160;
/// After so many bytes fresh entropy is wanted.
pub const RESEED_AFTER_BYTES: u64 = 64 * 1024;
/// After so many bytes without fresh entropy nothing comes out any more.
pub const REFUSE_AFTER_BYTES: u64 = 1024 * 1024;

/// Why no bytes come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// More than [`REQUEST_BYTES_MAX`] were asked for.
    Oversized,
    /// None were asked for.
    Empty,
    /// There is no entropy that passed its tests, or too long ago.
    Unavailable,
}

/// Random bytes out of what it is fed.
pub struct Generator {
    health: Health,
    /// What passed the tests since the last seed, and how much.
    gathered: (Sha256, usize),
    drbg: Drbg,
    seeded: bool,
    /// Bytes that came out since the last seed.
    given: u64,
}

impl Default for Generator {
    fn default() -> Self {
        Self::new()
    }
}

impl Generator {
    /// One that was fed nothing yet.
    pub fn new() -> Self {
        Generator {
            health: Health::default(),
            gathered: (Sha256::new(), 0),
            drbg: Drbg::new(),
            seeded: false,
            given: 0,
        }
    }

    /// Whether it would give bytes now.
    pub fn is_ready(&self) -> bool {
        self.seeded && self.given < REFUSE_AFTER_BYTES
    }

    /// Whether it should be fed.
    pub fn wants_entropy(&self) -> bool {
        !self.seeded || self.given >= RESEED_AFTER_BYTES
    }

    /// Takes raw entropy. A failed test makes everything gathered void, and nothing comes out until as much as
    /// at the start has passed anew.
    pub fn feed(&mut self, raw: &[u8]) -> Result<(), HealthFailure> {
        if let Err(failure) = raw.iter().try_for_each(|&byte| self.health.test(byte)) {
            // The key stays mixed in: it can only help.
            (self.seeded, self.gathered, self.health) = (false, (Sha256::new(), 0), Health::default());
            return Err(failure);
        }
        self.gathered.0.update(raw);
        self.gathered.1 = self.gathered.1.saturating_add(raw.len());
        let needed = if self.seeded { SEED_BYTES } else { STARTUP_BYTES };
        if self.gathered.1 >= needed {
            let (fresh, _) = core::mem::replace(&mut self.gathered, (Sha256::new(), 0));
            self.drbg.reseed(fresh);
            (self.seeded, self.given) = (true, 0);
        }
        Ok(())
    }

    /// Fills `into` with bytes that nobody else gets. On refusal it is left as it was.
    pub fn fill(&mut self, into: &mut [u8]) -> Result<(), Refusal> {
        if into.len() > REQUEST_BYTES_MAX {
            return Err(Refusal::Oversized);
        }
        if into.is_empty() {
            return Err(Refusal::Empty);
        }
        if !self.is_ready() {
            return Err(Refusal::Unavailable);
        }
        self.drbg.generate(into);
        self.given = self.given.saturating_add(into.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Bytes that pass the tests, another sequence for each `salt`.
    fn raw(salt: u8, count: usize) -> Vec<u8> {
        (0..count).map(|place| (place * 7 + place / 256) as u8 ^ salt).collect()
    }

    fn ready(salt: u8) -> Generator {
        let mut generator = Generator::new();
        generator.feed(&raw(salt, STARTUP_BYTES)).unwrap();
        generator
    }

    fn draw(generator: &mut Generator) -> Result<[u8; 32], Refusal> {
        let mut bytes = [0; 32];
        generator.fill(&mut bytes).map(|()| bytes)
    }

    #[test]
    fn test_reject_requests_before_the_start_up_test_has_passed() {
        let mut generator = Generator::new();
        assert_eq!(draw(&mut generator), Err(Refusal::Unavailable));
        generator.feed(&raw(0, STARTUP_BYTES - 1)).unwrap();
        assert_eq!(draw(&mut generator), Err(Refusal::Unavailable));
        generator.feed(&[0xaa]).unwrap();
        assert!(draw(&mut generator).is_ok());
    }

    #[test]
    fn test_reject_oversized_and_empty_requests() {
        let mut generator = ready(0);
        assert_eq!(generator.fill(&mut [0; REQUEST_BYTES_MAX + 1]), Err(Refusal::Oversized));
        assert_eq!(generator.fill(&mut []), Err(Refusal::Empty));
        assert_eq!(generator.fill(&mut [0; REQUEST_BYTES_MAX]), Ok(()));
    }

    #[test]
    fn test_reject_everything_after_a_failed_test_until_the_start_up_test_passes_anew() {
        let mut generator = ready(0);
        assert_eq!(generator.feed(&[3; 64]), Err(HealthFailure::Repetition));
        assert_eq!(draw(&mut generator), Err(Refusal::Unavailable));
        generator.feed(&raw(1, SEED_BYTES)).unwrap();
        assert_eq!(draw(&mut generator), Err(Refusal::Unavailable));
        generator.feed(&raw(2, STARTUP_BYTES)).unwrap();
        assert!(draw(&mut generator).is_ok());
    }

    #[test]
    fn test_reject_requests_too_long_after_the_last_entropy() {
        let mut generator = ready(0);
        let mut block = [0; REQUEST_BYTES_MAX];
        for given in (0..REFUSE_AFTER_BYTES).step_by(REQUEST_BYTES_MAX) {
            assert_eq!(generator.wants_entropy(), given >= RESEED_AFTER_BYTES);
            generator.fill(&mut block).unwrap();
        }
        assert_eq!(generator.fill(&mut block), Err(Refusal::Unavailable));
        generator.feed(&raw(1, SEED_BYTES)).unwrap();
        assert!(!generator.wants_entropy());
        assert!(draw(&mut generator).is_ok());
    }

    #[test]
    fn no_two_requests_and_no_two_seeds_yield_the_same() {
        let (mut one, mut other) = (ready(1), ready(2));
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            seen.insert(draw(&mut one).unwrap());
            seen.insert(draw(&mut other).unwrap());
        }
        assert_eq!(seen.len(), 200);
    }

    proptest! {
        #[test]
        fn feeding_in_pieces_is_feeding_at_once(cuts in prop::collection::vec(1usize..200, 1..40)) {
            let whole = raw(5, STARTUP_BYTES);
            let mut generator = Generator::new();
            let mut rest = whole.as_slice();
            for cut in cuts {
                let (piece, later) = rest.split_at(cut.min(rest.len()));
                generator.feed(piece).unwrap();
                rest = later;
            }
            generator.feed(rest).unwrap();
            prop_assert_eq!(draw(&mut generator), draw(&mut ready(5)));
        }
    }
}
