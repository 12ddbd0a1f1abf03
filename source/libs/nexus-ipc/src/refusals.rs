//! What a server refuses before its service sees it: counted by class, and told of once in a while.

use crate::{Caller, Status};
use alloc::boxed::Box;
use core::fmt;
use core::time::Duration;

/// Time in which a class of refusals is told of once.
pub const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// Why a message never became a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its bytes are not what its operation takes.
    Malformed = 0,
    /// There is no operation of its number.
    UnknownOperation = 1,
    /// Its sender may not ask for its operation.
    NotPermitted = 2,
}

impl Refused {
    const COUNT: usize = 3;

    fn of(status: Status) -> Option<Self> {
        match status {
            Status::Malformed => Some(Refused::Malformed),
            Status::UnknownOperation => Some(Refused::UnknownOperation),
            Status::NotPermitted => Some(Refused::NotPermitted),
            Status::Ok | Status::ServiceError | Status::AnswerTooLarge => None,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Refused::Malformed => "malformed",
            Refused::UnknownOperation => "unknown_operation",
            Refused::NotPermitted => "not_permitted",
        })
    }
}

/// How often each of so many classes came; each is told of once in [`TELL_INTERVAL`], with how often it came since.
#[derive(Clone, Copy, Debug)]
pub struct Tally<const CLASSES: usize>([Count; CLASSES]);

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    all: u64,
    untold: u64,
    /// When it is told of again, in ticks.
    due: u64,
}

impl<const CLASSES: usize> Default for Tally<CLASSES> {
    fn default() -> Self {
        Tally([Count::default(); CLASSES])
    }
}

impl<const CLASSES: usize> Tally<CLASSES> {
    /// Counts one of a class (a number that there is not counts nothing); yields how many came since it was told of
    /// last, when it is to be told of. `interval` is [`TELL_INTERVAL`] in ticks.
    pub fn count(&mut self, class: usize, now: u64, interval: u64) -> Option<u64> {
        let count = self.0.get_mut(class)?;
        count.all = count.all.saturating_add(1);
        count.untold = count.untold.saturating_add(1);
        if now < count.due {
            return None;
        }
        count.due = now.saturating_add(interval);
        Some(core::mem::take(&mut count.untold))
    }

    /// How often a class came in all.
    pub fn all(&self, class: usize) -> u64 {
        self.0.get(class).map_or(0, |count| count.all)
    }
}

/// Whoever tells of a refusal: its class, its last sender, and how many came since it was told of last.
pub type Teller = Box<dyn Fn(Refused, Caller, u64)>;

/// The refusals of one receiver.
#[derive(Default)]
pub(crate) struct Refusals {
    tally: Tally<{ Refused::COUNT }>,
    interval: u64,
    teller: Option<Teller>,
}

impl Refusals {
    /// Has them told of.
    pub(crate) fn tell(&mut self, interval: u64, teller: Teller) {
        (self.interval, self.teller) = (interval, Some(teller));
    }

    /// Counts a message that was answered with this status, if that refuses it.
    #[cold]
    pub(crate) fn count(&mut self, status: Status, caller: Caller) {
        let Some(refused) = Refused::of(status) else { return };
        let due = self.tally.count(refused as usize, nexus_abi::system::ticks(), self.interval);
        if let (Some(times), Some(teller)) = (due, &self.teller) {
            teller(refused, caller, times);
        }
    }

    /// How many there were of a class.
    pub(crate) fn all(&self, refused: Refused) -> u64 {
        self.tally.all(refused as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_told_of_once_in_an_interval_with_its_count() {
        let mut tally = Tally::<2>::default();
        assert_eq!(tally.count(0, 5, 100), Some(1));
        assert_eq!(tally.count(0, 6, 100), None);
        assert_eq!(tally.count(1, 7, 100), Some(1));
        assert_eq!(tally.count(0, 104, 100), None);
        assert_eq!(tally.count(0, 105, 100), Some(3));
        assert_eq!((tally.all(0), tally.all(1)), (4, 1));
    }

    #[test]
    fn test_reject_a_class_that_there_is_not() {
        let mut tally = Tally::<2>::default();
        assert_eq!((tally.count(2, 5, 100), tally.all(2)), (None, 0));
    }
}
