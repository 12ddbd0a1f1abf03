//! Asking the policy.
//!
//! What it is: [`Policy`] asks `policyd` whether somebody may do something, and keeps what stays true for as long as
//! the epoch does; [`Board`] is the memory in which the epoch stands, [`OwnBoard`]
//! the same in the hands of `policyd`. What it is not: it decides nothing.
//!
//! Invariants:
//! - no answer within the deadline, and any that is not exactly "allowed", is a denial;
//! - what is kept is used only while the board shows the epoch that it was decided in;
//! - only what `policyd` says lasts is kept: what must be recorded or counted each time is asked each time.
//!
//! Where to start reading: [`Policy::may`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod board;
mod cache;

pub use board::{Board, OwnBoard};
use cache::Cache;
use core::fmt;
use core::time::Duration;
use nexus_ipc::{CallError, Deadline};
use nexus_proto::policy::{ALLOWED, Client, DENIED, PolicyError, Question, Verdict, Why};
use nexus_rt::{Environment, SetupError};
use policy::Action;

/// Time that an answer may take.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// Why something may not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The policy says so; the reason, where it is a known one.
    Denied(Option<Why>),
    /// It does not answer questions of this kind from this service, or takes them for malformed.
    Refused(PolicyError),
    /// There is no answer, or none that can be read.
    NoAnswer,
}

impl fmt::Display for Denial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denial::Denied(Some(why)) => write!(formatter, "the policy denies it ({why:?})"),
            Denial::Denied(None) => formatter.write_str("the policy denies it"),
            Denial::Refused(error) => write!(formatter, "the policy does not answer that: {error}"),
            Denial::NoAnswer => formatter.write_str("the policy gives no answer"),
        }
    }
}

/// What an answer comes to. Whatever is not exactly "allowed" is a denial.
pub fn outcome(answer: Result<Verdict, CallError<PolicyError>>) -> Result<Verdict, Denial> {
    match answer {
        Ok(verdict) if verdict.decision == ALLOWED => Ok(verdict),
        Ok(verdict) if verdict.decision == DENIED => Err(Denial::Denied(Why::from_number(verdict.why))),
        Err(CallError::Service(error)) => Err(Denial::Refused(error)),
        Ok(_) | Err(_) => Err(Denial::NoAnswer),
    }
}

/// A client of the policy, with what it was told and may still use.
pub struct Policy {
    client: Client,
    own: u64,
    board: Board,
    cache: Cache,
}

impl Policy {
    /// The client of a service whose recipe entry lets it call `policy`.
    pub fn open(environment: &Environment) -> Result<Self, SetupError> {
        let client = Client::new(environment.to_call(nexus_proto::policy::REFERENCE.endpoint)?);
        let board = Board::open(environment)?;
        Ok(Policy { client, own: environment.page().service_id, board, cache: Cache::default() })
    }

    /// Whether `subject` may do something to a resource (an empty one is none in particular). About itself any
    /// service may ask; about another, one that holds `policy.delegate`.
    pub fn may(
        &mut self,
        subject: u64,
        action: Action,
        resource: &str,
        deadline: Deadline,
    ) -> Result<(), Denial> {
        let Some(question) = Question::new(subject, action.number(), resource) else {
            return Err(Denial::Refused(PolicyError::Malformed));
        };
        if self.cache.holds(&question, self.board.epoch()) {
            return Ok(());
        }
        let verdict = outcome(match subject == self.own {
            true => self.client.check(&question, deadline),
            false => self.client.decide(&question, deadline),
        })?;
        if verdict.lasts == 1 {
            self.cache.keep(question, verdict.epoch);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_abi::Error;

    const VERDICT: Verdict = Verdict { decision: ALLOWED, epoch: 1, why: 1, lasts: 1 };

    #[test]
    fn only_exactly_allowed_is_yes() {
        assert_eq!(outcome(Ok(VERDICT)), Ok(VERDICT));
        let denied = Verdict { decision: DENIED, why: Why::NoLine as u32, ..VERDICT };
        assert_eq!(outcome(Ok(denied)), Err(Denial::Denied(Some(Why::NoLine))));
    }

    #[test]
    fn test_reject_any_flipped_bits_of_a_decision() {
        for bit in 0..64 {
            for other in 0..64 {
                for decision in [ALLOWED, DENIED] {
                    let decision = decision ^ (1 << bit) ^ (1 << other);
                    if decision == ALLOWED || decision == DENIED {
                        continue;
                    }
                    assert_eq!(outcome(Ok(Verdict { decision, ..VERDICT })), Err(Denial::NoAnswer));
                }
            }
        }
        assert_eq!((ALLOWED ^ DENIED).count_ones(), 64);
    }

    #[test]
    fn test_reject_where_there_is_no_answer() {
        for error in [Error::TimedOut, Error::PeerGone, Error::Sealed] {
            assert_eq!(outcome(Err(CallError::Kernel(error))), Err(Denial::NoAnswer));
        }
        assert_eq!(outcome(Err(CallError::NotPermitted)), Err(Denial::NoAnswer));
        let refused = PolicyError::NotDelegated;
        assert_eq!(outcome(Err(CallError::Service(refused))), Err(Denial::Refused(refused)));
    }
}
