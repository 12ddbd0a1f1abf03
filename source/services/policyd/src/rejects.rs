//! What is refused is said once per class and interval, with how often it happened.

use core::fmt;
use core::time::Duration;
use nexus_ipc::Clock;

/// Time in which a class is told of once.
const INTERVAL: Duration = Duration::from_secs(10);

/// A class of what is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A message or a question that is none.
    Malformed,
    /// A question in somebody else's name.
    Spoofed,
    /// A question on behalf of another, without the right to.
    NotDelegated,
    /// An overlay.
    Overlay,
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Class::Malformed => "malformed",
            Class::Spoofed => "spoofed",
            Class::NotDelegated => "not_delegated",
            Class::Overlay => "overlay",
        })
    }
}

/// How often each class came since it was told of, and when it is told of again.
#[derive(Debug, Default)]
pub struct Rejects([(u64, u64); 4]);

impl Rejects {
    /// Counts one; yields how often it came when it is to be told.
    pub fn tell(&mut self, class: Class, now: u64, clock: &Clock) -> Option<u64> {
        let (count, next) = self.0.get_mut(class as usize)?;
        *count = count.saturating_add(1);
        if now < *next {
            return None;
        }
        *next = now.saturating_add(clock.ticks(INTERVAL));
        Some(core::mem::take(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_told_of_once_in_an_interval_with_its_count() {
        let (clock, mut rejects) = (Clock::new(10), Rejects::default());
        assert_eq!(rejects.tell(Class::Spoofed, 5, &clock), Some(1));
        assert_eq!(rejects.tell(Class::Spoofed, 6, &clock), None);
        assert_eq!(rejects.tell(Class::Malformed, 7, &clock), Some(1));
        assert_eq!(rejects.tell(Class::Spoofed, 104, &clock), None);
        assert_eq!(rejects.tell(Class::Spoofed, 105, &clock), Some(3));
    }
}
