//! What outlives the journal, in the store: read once at the start, then written at most once a second, and at once when
//! somebody waits for it.
//!
//! ```text
//! Reading ── index, places ───► AtRest ◄──────── durable ──────── Writing
//!    │  the store fails            │  something is to be written     │  the store fails
//!    └─► tried again later ◄───────┴────────────────────────────────►┘
//! ```
//! Nobody who logs waits for any of it. A store that fails is asked again after a while, longer each time; after
//! [`ATTEMPTS_MAX`] times, or when it says that it will not, only when there is something new to write.

use crate::courier::{BATCH_BYTES_MAX, Courier, Failure};
use crate::sources::Sources;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use journal::segment::{ALL_PLACES, INDEX_KEY, decode, decode_index, key};
use journal::{Batch, Journal, Segment, SegmentError, Stored};
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
const ATTEMPTS_MAX: u32 = 4;

/// What is being done.
enum State {
    /// The index is read next, or, where there is one, the lowest of these places.
    Reading(Option<u128>, Stored),
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
        let state = State::Reading(None, Stored::default());
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
            State::Reading(left, _) => read(*left, outcome),
            _ => outcome.map(|_| Found::Nothing).map_err(|failure| *failure),
        });
        self.state = match (state, heard) {
            (state, None) => state,
            (state, Some(Err(failure))) => {
                self.fail(&failure, journal.last());
                sources.audits.set_keeping(false);
                state.again()
            }
            (State::Reading(left, mut stored), Some(Ok(found))) => {
                // Of the places that are left, this one was read.
                let mut left = left.map_or(0, |left| left & left.wrapping_sub(1));
                match found {
                    Found::Index(places) => (left, stored.index) = (places, places),
                    Found::NoIndex => {
                        (left, stored.index, stored.is_index_lost) = (ALL_PLACES, ALL_PLACES, true);
                    }
                    Found::Segment(place, segment) => stored.segments.push((place, segment)),
                    Found::Refused => stored.refused += 1,
                    Found::Nothing => {}
                }
                self.read_on(left, stored, journal, sources)
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

    fn read_on(&mut self, left: u128, stored: Stored, journal: &mut Journal, sources: &mut Sources) -> State {
        if left != 0 {
            self.failures = 0;
            return State::Reading(Some(left), stored);
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
            State::Reading(left, _) => self.courier.read(&key_of(*left)),
            _ => {
                let Some(batch) = journal.batch(BATCH_BYTES_MAX) else { return Deadline::NEVER };
                let index = batch.index().map(|bytes| (String::from(INDEX_KEY), bytes));
                let segments = batch.segments().map(|(place, bytes)| (key(place), bytes));
                let segments: Vec<_> = segments.chain(index).collect();
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

/// What a key holds.
enum Found {
    Index(u128),
    /// One that was refused: any place may have a segment.
    NoIndex,
    Segment(usize, Segment),
    Refused,
    Nothing,
}

/// The key that is read while these places are left.
fn key_of(left: Option<u128>) -> String {
    left.map_or_else(|| INDEX_KEY.into(), |left| key(left.trailing_zeros() as usize))
}

/// What reading the index, or the lowest of the places that are left, came to, unless the store fails.
fn read(left: Option<u128>, outcome: Result<&[u8], &Failure>) -> Result<Found, Failure> {
    let refused = |reason: &dyn fmt::Display| {
        warning!("logd: what is kept at {} is refused: {reason}", key_of(left));
        Ok(if left.is_some() { Found::Refused } else { Found::NoIndex })
    };
    match outcome {
        Ok(bytes) => decoded(left, bytes).or_else(|reason| refused(&reason)),
        Err(CallError::Service(StateError::NotFound)) => Ok(Found::Nothing),
        Err(CallError::Service(
            reason @ (StateError::Corrupt | StateError::Uncertain | StateError::TooShort { .. }),
        )) => refused(reason),
        Err(failure) => Err(*failure),
    }
}

fn decoded(left: Option<u128>, bytes: &[u8]) -> Result<Found, SegmentError> {
    let Some(left) = left else { return decode_index(bytes).map(Found::Index) };
    let place = left.trailing_zeros() as usize;
    decode(place, bytes).map(|segment| Found::Segment(place, segment))
}
