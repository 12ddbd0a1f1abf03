//! When services start and start again, as plain decisions.

use alloc::collections::VecDeque;
use core::time::Duration;
use nexus_ipc::{ALIVE_LABEL, RESTING_LABEL};
use nexus_proto::init::ServiceState;
use nexus_rt::READY_LABEL;
use system_manifest::{Manifest, Restart, Service};

/// Two starts of one service are at least this far apart: at most 20 a second.
pub const RESTART_SPACING: Duration = Duration::from_millis(50);
/// The time in which a budget of restarts counts.
pub const BUDGET_WINDOW: Duration = Duration::from_secs(60);

/// Calls, posts and deaths that are heard before the silent are looked for: more than can wait at once.
pub const HEARD_MAX: u32 = 1024;

/// What happens to a service that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stays ended, as its manifest entry says.
    Stay,
    /// It starts again at this tick of the clock.
    RestartAt(u64),
    /// It ended too often: nothing more is tried.
    GiveUp,
}

/// How often a service was started again, and when.
#[derive(Debug, Default)]
pub struct History {
    restarts: VecDeque<u64>,
}

impl History {
    /// Decides about a service that was started at `started` and ended at `now`; all times and durations in
    /// ticks. `spacing` and `window` are [`RESTART_SPACING`] and [`BUDGET_WINDOW`].
    ///
    /// The budget is for deaths of its own: one that was asked for is answered by [`restart_at`] alone.
    pub fn decide(&mut self, policy: Restart, started: u64, now: u64, spacing: u64, window: u64) -> Decision {
        let Restart::Always { budget } = policy else { return Decision::Stay };
        while self.restarts.front().is_some_and(|&oldest| now.saturating_sub(oldest) > window) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= budget as usize {
            return Decision::GiveUp;
        }
        self.restarts.push_back(now);
        restart_at(started, now, spacing)
    }
}

/// A restart as soon as the spacing allows.
pub fn restart_at(started: u64, now: u64, spacing: u64) -> Decision {
    Decision::RestartAt(now.max(started.saturating_add(spacing)))
}

/// When a service that is up is next looked at, after a post with this label at `now`: `allowed` ticks later when it is
/// ready or works, never when it rests, and never when its recipe asks for no sign of life (`allowed` is 0). `None`:
/// the post is none of these.
pub fn silent_at(label: u16, now: u64, allowed: u64) -> Option<u64> {
    match label {
        READY_LABEL | ALIVE_LABEL if allowed > 0 => Some(now.saturating_add(allowed)),
        RESTING_LABEL if allowed > 0 => Some(u64::MAX),
        READY_LABEL => Some(u64::MAX),
        _ => None,
    }
}

/// What becomes of a service that said nothing until it was to be looked at, `doubted` or not: when it is looked at
/// again, or `None` for the end. The first silence is only doubted: on a machine that stood still, or was too busy,
/// its sign may be as late as whoever looks, and then it has as much time again.
pub fn after_silence(doubted: bool, now: u64, allowed: u64) -> Option<u64> {
    (!doubted).then(|| now.saturating_add(allowed))
}

/// Counts what is heard while a sign of life is overdue. What had waited before is heard first; but who never stops
/// calling must not keep the silent alive.
#[derive(Debug, Default)]
pub struct Overdue {
    heard: u32,
}

impl Overdue {
    /// Something was heard, and a deadline had passed by then or not. Whether so much was heard since it passed that
    /// every sign which had waited was among it: then whoever is silent is looked for.
    pub fn heard(&mut self, has_passed: bool) -> bool {
        self.heard = if has_passed { self.heard + 1 } else { 0 };
        let is_enough = self.heard == HEARD_MAX;
        if is_enough {
            self.heard = 0;
        }
        is_enough
    }
}

/// Whether everyone whom this service calls is up, or will not come up any more.
pub fn may_start(manifest: &Manifest, service: &Service, state: impl Fn(&str) -> ServiceState) -> bool {
    service.calls.iter().all(|access| match manifest.endpoint(&access.endpoint) {
        Some((Some(server), _)) => !state(&server.name).is_under_way(),
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: Restart = Restart::Always { budget: 3 };

    #[test]
    fn starts_are_never_closer_than_the_spacing() {
        let mut history = History::default();
        assert_eq!(history.decide(ALWAYS, 1000, 1010, 50, 6000), Decision::RestartAt(1050));
        assert_eq!(history.decide(ALWAYS, 1050, 2000, 50, 6000), Decision::RestartAt(2000));
    }

    #[test]
    fn a_budget_that_is_used_up_within_its_window_ends_it() {
        let mut history = History::default();
        for now in [100, 200, 300] {
            assert!(matches!(history.decide(ALWAYS, 0, now, 50, 6000), Decision::RestartAt(_)));
        }
        assert_eq!(history.decide(ALWAYS, 0, 400, 50, 6000), Decision::GiveUp);
    }

    #[test]
    fn restarts_older_than_the_window_are_forgotten() {
        let mut history = History::default();
        for now in [100, 200, 300, 6150, 6250, 6350] {
            assert!(matches!(history.decide(ALWAYS, 0, now, 50, 6000), Decision::RestartAt(_)));
        }
    }

    #[test]
    fn who_works_is_to_say_so_in_time_and_who_rests_is_not_waited_for() {
        assert_eq!(silent_at(READY_LABEL, 1000, 400), Some(1400));
        assert_eq!(silent_at(ALIVE_LABEL, 1200, 400), Some(1600));
        assert_eq!(silent_at(RESTING_LABEL, 1300, 400), Some(u64::MAX));
        assert_eq!(silent_at(READY_LABEL, 1000, 0), Some(u64::MAX), "nothing is asked of it");
    }

    #[test]
    fn the_first_silence_is_doubted_and_the_second_is_the_end() {
        assert_eq!(after_silence(false, 9000, 200), Some(9200));
        assert_eq!(after_silence(true, 9200, 200), None);
    }

    #[test]
    fn the_silent_are_looked_for_also_while_others_never_stop_calling() {
        let mut overdue = Overdue::default();
        let looks = |overdue: &mut Overdue, events: u32, has_passed: bool| {
            (0..events).filter(|_| overdue.heard(has_passed)).count()
        };
        assert_eq!(looks(&mut overdue, 10 * HEARD_MAX, false), 0, "nobody's sign is overdue");
        assert_eq!(looks(&mut overdue, HEARD_MAX - 1, true), 0, "its sign may be among them");
        assert_eq!(looks(&mut overdue, 1, true), 1);
        assert_eq!(looks(&mut overdue, 3 * HEARD_MAX, true), 3);
        looks(&mut overdue, HEARD_MAX - 1, true);
        assert_eq!(
            looks(&mut overdue, 1, false) + looks(&mut overdue, HEARD_MAX - 1, true),
            0,
            "it was heard"
        );
    }

    #[test]
    fn test_reject_signs_that_nobody_asked_for_and_other_labels() {
        assert_eq!(silent_at(ALIVE_LABEL, 1000, 0), None);
        assert_eq!(silent_at(RESTING_LABEL, 1000, 0), None);
        assert_eq!(silent_at(99, 1000, 400), None);
    }

    #[test]
    fn who_is_not_to_be_restarted_stays_ended() {
        assert_eq!(History::default().decide(Restart::Never, 0, 1, 50, 6000), Decision::Stay);
    }
}
