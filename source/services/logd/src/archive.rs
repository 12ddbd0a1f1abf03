//! What outlives the journal, in the store: read once at the start, then written at most once a second, and at once when
//! somebody waits for it.
//!
//! ```text
//! Reading ── place by place ──► AtRest ◄──────── durable ──────── Writing
//!    │  the store fails            │  something is to be written     │  the store fails
//!    └─► tried again later ◄───────┴────────────────────────────────►┘
//! ```
//! Nobody who logs waits for any of it. A store that fails is asked again after a while, longer each time; after
//! [`ATTEMPTS_MAX`] times, or when it says that it will not, only when there is something new to write.

use crate::courier::{BATCH_BYTES_MAX, Courier, Failure};
use crate::sources::Sources;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use journal::segment::{decode, key};
use journal::{Batch, Journal, PLACES_MAX, Segment, Stored};
use nexus_ipc::{CallError, Clock, Deadline};
use nexus_proto::state::StateError;
use nexus_rt::{info, warning};

/// Time between two writes, unless somebody waits.
const SPACING: Duration = Duration::from_secs(1);
/// Time after which a store that failed is asked again, at first.
const AGAIN: Duration = Duration::from_secs(1);
/// How often that time doubles.
const DOUBLINGS_MAX: u32 = 6;
/// Attempts in a row before a store that fails is left alone until there is something new.
const ATTEMPTS_MAX: u32 = 8;

/// What is being done.
enum State {
    /// The places below this one were read.
    Reading(usize, Stored),
    AtRest,
    Writing(Batch),
}

/// The store's side of the journal.
pub struct Archive {
    courier: Courier,
    clock: Clock,
    state: State,
    /// When the store may be asked next, in ticks.
    next: u64,
    /// Failures in a row.
    failures: u32,
    /// It is left alone until there is a record behind this number.
    rests_behind: u64,
    is_told: bool,
}

/// Whether the store may do it when it is asked again: not where it says that there is none, or that this service may
/// not.
fn may_pass(failure: &Failure) -> bool {
    match failure {
        CallError::Service(refusal) => matches!(
            refusal,
            StateError::OutcomeUnknown
                | StateError::Busy
                | StateError::DeviceFailed
                | StateError::Unavailable
        ),
        CallError::Kernel(_) => true,
        _ => false,
    }
}

impl Archive {
    /// An archive that has read nothing yet.
    pub fn new(courier: Courier, clock: Clock) -> Self {
        let state = State::Reading(0, Stored::default());
        Archive { courier, clock, state, next: 0, failures: 0, rests_behind: 0, is_told: false }
    }

    /// Whether what was in the store is there, or the store has failed for now.
    pub fn is_settled(&self) -> bool {
        !matches!(self.state, State::Reading(..)) || self.failures > 0
    }

    /// Hears of an errand that is back.
    pub fn hear(&mut self, journal: &mut Journal, sources: &mut Sources) {
        let state = core::mem::replace(&mut self.state, State::AtRest);
        let heard = self.courier.back(|outcome| match &state {
            State::Reading(place, _) => read(*place, outcome),
            _ => outcome.map(|_| Found::Nothing).map_err(|failure| *failure),
        });
        self.state = match (state, heard) {
            (state, None) => state,
            (state, Some(Err(failure))) => {
                self.fail(&failure, journal.last());
                sources.audits.set_keeping(false);
                state.again()
            }
            (State::Reading(place, mut stored), Some(Ok(found))) => {
                match found {
                    Found::Segment(segment) => stored.segments.push((place, segment)),
                    Found::Refused => stored.refused += 1,
                    Found::Nothing => {}
                }
                self.read_on(place + 1, stored, journal, sources)
            }
            (State::Writing(batch), Some(Ok(_))) => {
                journal.written(&batch);
                self.succeed(sources);
                self.next = self.clock.now().saturating_add(self.clock.ticks(SPACING));
                sources.audits.tell_kept(journal);
                State::AtRest
            }
            (State::AtRest, Some(Ok(_))) => State::AtRest,
        };
    }

    fn read_on(
        &mut self,
        place: usize,
        stored: Stored,
        journal: &mut Journal,
        sources: &mut Sources,
    ) -> State {
        if place < PLACES_MAX {
            self.failures = 0;
            return State::Reading(place, stored);
        }
        let of_earlier: usize = stored.segments.iter().map(|(_, segment)| segment.records.len()).sum();
        journal.restore(stored);
        self.succeed(sources);
        info!("logd: boot {}, {of_earlier} decisions and errors are kept", journal.boot());
        State::AtRest
    }

    fn succeed(&mut self, sources: &mut Sources) {
        if self.is_told {
            info!("logd: decisions and errors are kept again");
        }
        (self.failures, self.is_told, self.rests_behind) = (0, false, 0);
        if !sources.audits.are_kept() {
            sources.audits.set_keeping(true);
        }
    }

    fn fail(&mut self, failure: &Failure, last: u64) {
        if !core::mem::replace(&mut self.is_told, true) {
            let reason: &dyn fmt::Display = match failure {
                CallError::Service(refusal) => refusal,
                other => other,
            };
            warning!("logd: decisions and errors are not kept for now: {reason}");
        }
        let pause = self.clock.ticks(AGAIN) << self.failures.min(DOUBLINGS_MAX);
        self.next = self.clock.now().saturating_add(pause);
        self.failures = self.failures.saturating_add(1);
        if !may_pass(failure) || self.failures >= ATTEMPTS_MAX {
            self.rests_behind = last;
        }
    }

    /// Begins what is due; yields until when nothing is.
    pub fn go_on(&mut self, journal: &Journal, sources: &Sources) -> Deadline {
        if self.courier.is_away() {
            return Deadline::NEVER;
        }
        let is_first = matches!(self.state, State::Reading(..)) && self.failures == 0;
        if !is_first && !journal.wants_writing(self.rests_behind) {
            return Deadline::NEVER;
        }
        let is_urgent = is_first || (self.failures == 0 && sources.audits.have_critical());
        if !is_urgent && self.clock.now() < self.next {
            return Deadline::at(self.next);
        }
        match &self.state {
            State::Reading(place, _) => self.courier.read(&key(*place)),
            _ => {
                let Some(batch) = journal.batch(BATCH_BYTES_MAX) else { return Deadline::NEVER };
                let segments: Vec<_> = batch.segments().map(|(place, bytes)| (key(place), bytes)).collect();
                self.courier.write(&segments);
                drop(segments);
                self.state = State::Writing(batch);
            }
        }
        Deadline::NEVER
    }
}

impl State {
    /// Where it begins again after a failure.
    fn again(self) -> State {
        match self {
            State::Writing(_) => State::AtRest,
            other => other,
        }
    }
}

/// What a place holds.
enum Found {
    Segment(Segment),
    Refused,
    Nothing,
}

/// What reading a place came to, unless the store fails.
fn read(place: usize, outcome: Result<&[u8], &Failure>) -> Result<Found, Failure> {
    let refused = |reason: &dyn fmt::Display| {
        warning!("logd: what is kept at {} is refused: {reason}", key(place));
        Ok(Found::Refused)
    };
    match outcome {
        Ok(bytes) => match decode(place, bytes) {
            Ok(segment) => Ok(Found::Segment(segment)),
            Err(reason) => refused(&reason),
        },
        Err(CallError::Service(StateError::NotFound)) => Ok(Found::Nothing),
        Err(CallError::Service(
            reason @ (StateError::Corrupt | StateError::Uncertain | StateError::TooShort { .. }),
        )) => refused(reason),
        Err(failure) => Err(*failure),
    }
}
