//! Lines of many rings in the order of their clocks.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// One line of one author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was written, in ticks, by its author's word: it decides the order and nothing else.
    pub ticks: u64,
    /// Who wrote it.
    pub author: String,
    /// Its text, escaped.
    pub text: String,
}

/// Holds one line of each source at a time and yields the earliest.
#[derive(Debug, Default)]
pub struct Merge {
    fronts: Vec<Option<Line>>,
}

impl Merge {
    /// A merge of so many sources.
    pub fn new(sources: usize) -> Self {
        Merge { fronts: vec![None; sources] }
    }

    /// The earliest line, and its source; `take` gets the next line of the source with this number.
    pub fn next(&mut self, mut take: impl FnMut(usize) -> Option<Line>) -> Option<(usize, Line)> {
        // Sources are looked at one after the other. What made somebody write the line that came may have been written
        // to one that was found empty just before: it is there by now.
        if self.look(&mut take) {
            self.look(&mut take);
        }
        let fronts = self.fronts.iter_mut().enumerate().filter(|(_, front)| front.is_some());
        let (source, front) = fronts.min_by_key(|(_, front)| front.as_ref().map(|line| line.ticks))?;
        Some((source, front.take()?))
    }

    /// Looks once at every source of which there is no line; whether one came.
    fn look(&mut self, take: &mut impl FnMut(usize) -> Option<Line>) -> bool {
        let mut came = false;
        for (source, front) in self.fronts.iter_mut().enumerate().filter(|(_, front)| front.is_none()) {
            *front = take(source);
            came |= front.is_some();
        }
        came
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(ticks: u64) -> Line {
        Line { ticks, author: String::new(), text: ticks.to_string() }
    }

    proptest! {
        #[test]
        fn honest_sources_come_out_sorted_and_complete(
            mut sources in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..20), 0..5),
        ) {
            let mut expected: Vec<u64> = sources.concat();
            expected.sort_unstable();
            for source in &mut sources {
                source.sort_unstable_by(|a, b| b.cmp(a));
            }
            let mut merge = Merge::new(sources.len());
            let merged: Vec<u64> =
                std::iter::from_fn(|| merge.next(|source| sources[source].pop().map(line))).map(|(_, line)| line.ticks).collect();
            prop_assert_eq!(merged, expected);
        }
    }

    #[test]
    fn a_cause_comes_before_its_consequence_also_when_its_source_was_empty_a_moment_ago() {
        let mut merge = Merge::new(3);
        let (mut cause, mut consequence) = (None, Some(line(2)));
        let order: Vec<u64> = std::iter::from_fn(|| {
            merge.next(|source| match source {
                0 => cause.take(),
                // Both are written after the first source was looked at.
                1 => consequence.take().inspect(|_| cause = Some(line(1))),
                _ => None,
            })
        })
        .map(|(_, line)| line.ticks)
        .collect();
        assert_eq!(order, [1, 2]);
    }

    #[test]
    fn a_lying_clock_only_moves_its_own_lines() {
        let mut liar = vec![line(5), line(u64::MAX)];
        let mut honest = vec![line(7), line(6)];
        let mut merge = Merge::new(2);
        let order: Vec<u64> =
            std::iter::from_fn(|| merge.next(|source| if source == 0 { liar.pop() } else { honest.pop() }))
                .map(|(_, line)| line.ticks)
                .collect();
        assert_eq!(order, [6, 7, u64::MAX, 5]);
    }
}
