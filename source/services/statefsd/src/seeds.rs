//! Random words: salts for the store, and names for operations.

use core::time::Duration;
use nexus_abi::Error;
use nexus_ipc::CallError;
use nexus_proto::rng::{Client, Request, RngError};
use nexus_rt::Environment;

/// Time that random bytes may take, with whatever passes until they come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// Words that are drawn at once.
const WORDS: usize = 32;

/// Words that nobody can guess.
pub struct Seeds<'a> {
    environment: &'a Environment,
    source: Client,
    words: [u64; WORDS],
    left: usize,
}

impl<'a> Seeds<'a> {
    /// The first words; `None` where there is no entropy.
    pub fn draw(environment: &'a Environment) -> Option<Self> {
        let source = Client::new(environment.to_call(nexus_proto::rng::REFERENCE.endpoint).ok()?);
        let mut seeds = Seeds { environment, source, words: [0; WORDS], left: 0 };
        seeds.refill()?;
        Some(seeds)
    }

    fn refill(&mut self) -> Option<()> {
        let request = Request { bytes: size_of_val(&self.words) as u64 };
        let due = self.environment.deadline(PATIENCE);
        let ask = || self.source.entropy(&request, due);
        let goes_on = || {
            self.environment.sleep(PAUSE);
            !due.has_passed()
        };
        let bytes = insist(ask, goes_on).ok()?.0;
        for (word, bytes) in self.words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        self.left = bytes.len() / size_of::<u64>();
        (self.left > 0).then_some(())
    }

    /// A word that nobody else has; `None` where there is no entropy any more.
    pub fn next(&mut self) -> Option<u64> {
        if self.left == 0 {
            self.refill()?;
        }
        self.left -= 1;
        self.words.get_mut(self.left).map(core::mem::take)
    }
}

/// Asks until there is an answer that stays, or it may not go on: a store that took what passes for an answer would be
/// read alone for its whole life.
fn insist<T>(
    mut ask: impl FnMut() -> Result<T, CallError<RngError>>,
    mut goes_on: impl FnMut() -> bool,
) -> Result<T, CallError<RngError>> {
    loop {
        match ask() {
            Err(reason) if passes(&reason) && goes_on() => {}
            outcome => return outcome,
        }
    }
}

/// Whether it may be otherwise a moment later: the policy or the source is starting again, or the source has yet to see
/// what it has pass its tests.
fn passes(reason: &CallError<RngError>) -> bool {
    matches!(
        reason,
        CallError::Service(RngError::NoPolicy | RngError::Unavailable)
            | CallError::Kernel(Error::PeerGone | Error::TimedOut)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSING: [CallError<RngError>; 4] = [
        CallError::Service(RngError::NoPolicy),
        CallError::Kernel(Error::PeerGone),
        CallError::Service(RngError::Unavailable),
        CallError::Kernel(Error::TimedOut),
    ];

    #[test]
    fn what_passes_is_waited_for() {
        let mut outcomes = PASSING.into_iter().map(Err).chain([Ok(7)]);
        assert_eq!(insist(|| outcomes.next().unwrap(), || true), Ok(7));
        for reason in PASSING {
            let mut left = 3;
            let goes_on = || {
                left -= 1;
                left > 0
            };
            assert_eq!(insist::<u64>(|| Err(reason), goes_on), Err(reason), "not for ever");
        }
    }

    #[test]
    fn test_reject_at_once_where_there_is_no_entropy_to_wait_for() {
        for reason in [CallError::Kernel(Error::Sealed), CallError::Service(RngError::Denied)] {
            let never = || unreachable!("it was asked again");
            assert_eq!(insist::<u64>(|| Err(reason), never), Err(reason));
        }
    }
}
