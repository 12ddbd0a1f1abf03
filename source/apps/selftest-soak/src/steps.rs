//! The changes that a writer of the state makes: the same ones for the same seed, so that whoever looks from outside
//! knows what is there after each of them.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Keys that are changed.
const KEYS: u64 = 24;
/// Bytes of a value, most often, and once in a while.
const SMALL: u64 = 300;
const LARGE: u64 = 20_000;

/// Changes that happen together: several keys and their new values, or one key that is deleted.
pub type Step = BTreeMap<String, Option<Vec<u8>>>;

/// Where a writer's keys are: writers that work side by side change different ones.
pub const FOLDERS: [&str; 2] = ["/state/selftest/", "/state/selftest/second/"];

/// The steps of one seed, without end.
#[derive(Clone, Debug)]
pub struct Steps {
    state: u64,
    folder: &'static str,
}

impl Steps {
    /// The steps of this seed, in the first writer's folder.
    pub fn new(seed: u64) -> Self {
        Steps { state: seed, folder: FOLDERS[0] }
    }

    /// The steps that the second writer makes beside those of this seed.
    pub fn second(seed: u64) -> Self {
        Steps { state: !seed, folder: FOLDERS[1] }
    }

    /// A number below a bound (SplitMix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }

    fn key(&mut self) -> String {
        let number = self.below(KEYS);
        format!("{}{number:02}", self.folder)
    }

    fn value(&mut self) -> Vec<u8> {
        let most = if self.below(8) == 0 { LARGE } else { SMALL };
        let length = self.below(most);
        let salt = self.below(251);
        (0..length).map(|at| (at.wrapping_mul(salt + 1) >> 3) as u8).collect()
    }
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.below(5) == 0 {
            return Some(Step::from([(self.key(), None)]));
        }
        let count = 1 + self.below(3);
        Some((0..count).map(|_| (self.key(), Some(self.value()))).collect())
    }
}

/// What keys and values are after a step.
pub fn apply(state: &mut BTreeMap<String, Vec<u8>>, step: &Step) {
    for (key, change) in step {
        match change {
            Some(value) => drop(state.insert(key.clone(), value.clone())),
            None => drop(state.remove(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_steps_each_time_and_another_one_others() {
        let steps = |seed| Steps::new(seed).take(50).collect::<Vec<_>>();
        assert_eq!(steps(3), steps(3));
        assert_ne!(steps(3), steps(4));
        assert!(steps(3).iter().all(|step| !step.is_empty()));
    }

    #[test]
    fn two_writers_of_a_seed_change_no_key_of_each_other() {
        let keys = |steps: Steps| steps.take(50).flat_map(|step| step.into_keys()).collect::<Vec<_>>();
        let (first, second) = (keys(Steps::new(3)), keys(Steps::second(3)));
        assert!(first.iter().all(|key| key.starts_with(FOLDERS[0]) && !second.contains(key)));
        assert!(second.iter().all(|key| key.starts_with(FOLDERS[1])));
    }
}
