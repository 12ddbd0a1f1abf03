//! When services start and start again, as plain decisions.

use alloc::collections::VecDeque;
use core::time::Duration;
use nexus_proto::init::ServiceState;
use system_manifest::{Manifest, Restart, Service};

/// Two starts of one service are at least this far apart: at most 20 a second.
pub const RESTART_SPACING: Duration = Duration::from_millis(50);
/// The time in which a budget of restarts counts.
pub const BUDGET_WINDOW: Duration = Duration::from_secs(60);

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
    fn who_is_not_to_be_restarted_stays_ended() {
        assert_eq!(History::default().decide(Restart::Never, 0, 1, 50, 6000), Decision::Stay);
    }
}
