//! The continuous health tests of NIST SP 800-90B, section 4.4, over bytes.
//!
//! A sample is a byte and is taken to hold [`ASSUMED_BITS`] bits of entropy at least: half of what a good source
//! promises. Each test is wrong about a source that keeps this promise once in 2^[`FALSE_ALARM_BITS`] at the most.

/// Bits of min-entropy that a byte is taken to hold.
pub const ASSUMED_BITS: u32 = 4;
/// A false alarm is as rare as once in two to this.
pub const FALSE_ALARM_BITS: u32 = 20;
/// So many equal bytes in a row fail (4.4.1: 1 + ⌈20 / 4⌉).
pub const REPETITION_CUTOFF: u32 = 1 + FALSE_ALARM_BITS.div_ceil(ASSUMED_BITS);
/// Bytes in a window of the adaptive proportion test (4.4.2, for samples that are not bits).
pub const WINDOW_BYTES: u32 = 512;
/// So many bytes in a window that are equal to its first fail (4.4.2; a test computes it anew).
pub const PROPORTION_CUTOFF: u32 = 62;

/// Why a source cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthFailure {
    /// One byte came [`REPETITION_CUTOFF`] times in a row.
    Repetition,
    /// One byte came [`PROPORTION_CUTOFF`] times within a window.
    Proportion,
}

impl core::fmt::Display for HealthFailure {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            HealthFailure::Repetition => "one byte came again and again",
            HealthFailure::Proportion => "one byte came far too often",
        })
    }
}

/// Both tests, under way.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// The last byte, and how often it came in a row.
    run: Option<(u8, u32)>,
    /// The window's first byte, how often it came in it, and the window's bytes so far.
    window: Option<(u8, u32, u32)>,
}

impl Health {
    /// Tests one more byte.
    pub fn test(&mut self, byte: u8) -> Result<(), HealthFailure> {
        let in_a_row = match self.run {
            Some((last, count)) if last == byte => count.saturating_add(1),
            _ => 1,
        };
        self.run = Some((byte, in_a_row));
        let (first, equal, seen) = match self.window {
            Some((first, equal, seen)) if seen < WINDOW_BYTES => {
                (first, equal + u32::from(first == byte), seen + 1)
            }
            _ => (byte, 1, 1),
        };
        self.window = Some((first, equal, seen));
        if in_a_row >= REPETITION_CUTOFF {
            return Err(HealthFailure::Repetition);
        }
        if equal >= PROPORTION_CUTOFF { Err(HealthFailure::Proportion) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn first_failure(bytes: impl IntoIterator<Item = u8>) -> Option<(usize, HealthFailure)> {
        let mut health = Health::default();
        bytes
            .into_iter()
            .enumerate()
            .find_map(|(place, byte)| health.test(byte).err().map(|why| (place, why)))
    }

    /// The least count whose probability, for the binomial of a window and a byte of the assumed entropy, is at
    /// most that of a false alarm.
    #[test]
    fn the_cutoff_of_the_proportion_is_the_standards() {
        let (count, chance) = (f64::from(WINDOW_BYTES), (-f64::from(ASSUMED_BITS)).exp2());
        let mut term = count * (1.0 - chance).ln();
        let mut at_most = 0.0;
        let allowed = (-f64::from(FALSE_ALARM_BITS)).exp2();
        let mut quantile = 0.0;
        while 1.0 - (at_most + term.exp()) > allowed {
            at_most += term.exp();
            term += ((count - quantile) / (quantile + 1.0) * chance / (1.0 - chance)).ln();
            quantile += 1.0;
        }
        assert_eq!(f64::from(PROPORTION_CUTOFF), 1.0 + quantile);
    }

    #[test]
    fn test_reject_a_byte_that_repeats() {
        let cutoff = REPETITION_CUTOFF as usize;
        assert_eq!(first_failure([7; 100]), Some((cutoff - 1, HealthFailure::Repetition)));
        let broken_runs =
            (0..1000).map(|place| if place % cutoff == 0 { (place / cutoff) as u8 } else { 255 });
        assert_eq!(first_failure(broken_runs.take(cutoff)), None);
    }

    #[test]
    fn test_reject_a_byte_that_comes_too_often() {
        // Every eighth byte is the same one: 64 in a window, where 32 are assumed at the most.
        let biased = (0..4096usize).map(|place| if place % 8 == 0 { 0 } else { (place % 251) as u8 | 1 });
        let (place, why) = first_failure(biased).unwrap();
        assert_eq!((place, why), (8 * (PROPORTION_CUTOFF as usize - 1), HealthFailure::Proportion));
    }

    #[test]
    fn a_new_window_counts_anew() {
        // Thirty of one byte at the end of a window and the beginning of the next are in no window too many.
        let bytes = (0..1024usize)
            .map(|place| if (480..544).contains(&place) && place % 2 == 0 { 9 } else { place as u8 });
        assert_eq!(first_failure(bytes), None);
    }

    proptest! {
        #[test]
        fn what_has_no_run_and_no_favourite_passes(seed in any::<u64>()) {
            let mut state = seed | 1;
            let bytes = (0..8192).map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            });
            prop_assert_eq!(first_failure(bytes), None);
        }
    }
}
