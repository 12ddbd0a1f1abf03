//! The clock and deadlines: points in time that every call must end by.

use core::time::Duration;
use nexus_abi::limits::FOREVER;
use nexus_abi::system;

/// The machine's clock: read without a system call, counted in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    ticks_per_second: u64,
}

/// A point in time by which a call or a wait ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Clock {
    /// A clock of this many ticks a second (as the start page says); 0 counts as 1.
    pub const fn new(ticks_per_second: u64) -> Self {
        Clock { ticks_per_second: if ticks_per_second == 0 { 1 } else { ticks_per_second } }
    }

    /// The clock now, in ticks.
    pub fn now(&self) -> u64 {
        system::ticks()
    }

    /// So many ticks as a duration.
    pub fn duration(&self, ticks: u64) -> Duration {
        let seconds = ticks / self.ticks_per_second;
        let rest = u128::from(ticks % self.ticks_per_second) * 1_000_000_000;
        Duration::new(seconds, (rest / u128::from(self.ticks_per_second)) as u32)
    }

    /// A duration in ticks, rounded up so that a deadline is never early.
    pub fn ticks(&self, duration: Duration) -> u64 {
        // In 64 bits, for every call computes one: what a nanosecond has of whole ticks, and the rest.
        let (whole, rest) = (self.ticks_per_second / 1_000_000_000, self.ticks_per_second % 1_000_000_000);
        let nanos = u64::from(duration.subsec_nanos());
        let part = nanos.saturating_mul(whole).saturating_add((nanos * rest).div_ceil(1_000_000_000));
        duration.as_secs().saturating_mul(self.ticks_per_second).saturating_add(part)
    }
}

impl Deadline {
    /// It never comes. For servers that wait for work; a call always has a real deadline.
    pub const NEVER: Deadline = Deadline(FOREVER);

    /// This long from now.
    pub fn after(clock: &Clock, duration: Duration) -> Self {
        Deadline(clock.now().saturating_add(clock.ticks(duration)))
    }

    /// At this tick of the clock.
    pub const fn at(ticks: u64) -> Self {
        Deadline(ticks)
    }

    /// The tick of the clock.
    pub const fn ticks(self) -> u64 {
        self.0
    }

    /// Whether it has passed.
    pub fn has_passed(self) -> bool {
        self.0 != FOREVER && system::ticks() >= self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_become_ticks_rounded_up_and_back() {
        let clock = Clock::new(10_000_000);
        assert_eq!(clock.ticks(Duration::from_millis(3)), 30_000);
        assert_eq!(clock.ticks(Duration::from_nanos(1)), 1);
        assert_eq!(clock.duration(30_000), Duration::from_millis(3));
        assert_eq!(clock.ticks(Duration::MAX), FOREVER);
    }

    proptest::proptest! {
        #[test]
        fn ticks_are_the_exact_product_rounded_up(rate in 1u64.., seconds: u64, nanos in 0..1_000_000_000u32) {
            for seconds in [seconds, seconds % 1000] {
                let duration = Duration::new(seconds, nanos);
                let exact = duration.as_nanos().checked_mul(rate.into()).map(|it| it.div_ceil(1_000_000_000));
                let exact = exact.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(FOREVER);
                proptest::prop_assert_eq!(Clock::new(rate).ticks(duration), exact);
            }
        }
    }
}
