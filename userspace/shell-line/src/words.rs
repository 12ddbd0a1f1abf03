//! The words of a line, and what was probably meant by one that nobody knows.

use alloc::vec::Vec;

/// The words of a line.
pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The known word that is nearest to this one, if it is near enough to be a slip of the finger: at most one
/// change in three characters.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.into_iter().map(|candidate| (distance(word, candidate), candidate));
    distances
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().div_ceil(3))
        .min()
        .map(|(_, word)| word)
}

/// Insertions, removals and replacements that turn one word into the other (Levenshtein's distance).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, left) in from.chars().enumerate() {
        let mut diagonal = index;
        let mut before = index + 1;
        for (place, right) in row.iter_mut().skip(1).zip(to.chars()) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *place;
            *place = replaced.min(diagonal + 1).min(before + 1);
            before = *place;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slips_are_recognized_and_other_words_are_not() {
        let known = ["help", "ps", "poweroff", "reboot"];
        assert_eq!(nearest("hlep", known), Some("help"));
        assert_eq!(nearest("halp", known), Some("help"));
        assert_eq!(nearest("powerof", known), Some("poweroff"));
        assert_eq!(nearest("xyzzy", known), None);
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_bounded(a in "\\PC{0,12}", b in "\\PC{0,12}") {
            let both = distance(&a, &b);
            prop_assert_eq!(both, distance(&b, &a));
            prop_assert!(both <= a.chars().count().max(b.chars().count()));
            prop_assert_eq!(both == 0, a == b);
        }
    }
}
