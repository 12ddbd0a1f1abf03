//! What was allowed and stays so for as long as the epoch does.

use nexus_proto::policy::Question;

/// Questions that are kept; the oldest makes room.
const KEPT_MAX: usize = 16;
/// Words of a question.
const WORDS: usize = size_of::<Question>() / size_of::<u64>();

/// Questions whose answer was "allowed", all of one epoch.
#[derive(Debug, Default)]
pub struct Cache {
    epoch: u64,
    /// In words.
    kept: [Option<[u64; WORDS]>; KEPT_MAX],
    next: usize,
}

impl Cache {
    /// Whether this was allowed in the epoch that it is now.
    pub fn holds(&self, question: &Question, epoch: u64) -> bool {
        let words = question.words();
        let differs =
            |kept: &[u64; WORDS]| kept.iter().zip(&words).fold(0, |all, (one, other)| all | one ^ other);
        self.epoch == epoch && self.kept.iter().flatten().any(|kept| differs(kept) == 0)
    }

    /// Keeps what was allowed in an epoch; what is of another one goes.
    pub fn keep(&mut self, question: Question, epoch: u64) {
        if self.epoch != epoch {
            *self = Cache { epoch, ..Cache::default() };
        }
        if let Some(place) = self.kept.get_mut(self.next) {
            *place = Some(question.words());
        }
        self.next = (self.next + 1) % KEPT_MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(subject: u64) -> Question {
        Question::new(subject, 1, "x").unwrap()
    }

    #[test]
    fn what_was_allowed_is_held_for_its_epoch() {
        let mut cache = Cache::default();
        cache.keep(question(1), 7);
        assert!(cache.holds(&question(1), 7) && !cache.holds(&question(2), 7));
        assert!(!cache.holds(&question(1), 8));
        cache.keep(question(2), 8);
        assert!(
            cache.holds(&question(2), 8) && !cache.holds(&question(1), 8) && !cache.holds(&question(1), 7)
        );
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut cache = Cache::default();
        for subject in 0..=KEPT_MAX as u64 {
            cache.keep(question(subject), 1);
        }
        assert!(!cache.holds(&question(0), 1));
        assert!((1..=KEPT_MAX as u64).all(|subject| cache.holds(&question(subject), 1)));
    }

    #[test]
    fn test_reject_what_differs_in_anything() {
        let mut cache = Cache::default();
        cache.keep(question(1), 1);
        assert!(!cache.holds(&Question::new(1, 2, "x").unwrap(), 1));
        assert!(!cache.holds(&Question::new(1, 1, "y").unwrap(), 1));
        assert!(!cache.holds(&Question::new(1, 1, "").unwrap(), 1));
    }
}
