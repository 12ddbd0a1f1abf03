//! What goes wrong, and when: drawn from the seed before it happens, so that a seed is a run.

use crate::random::Random;
use nexus_abi::{Error, SystemCall};

/// How often small things happen: once in so many system calls; 0: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// The thread loses its turn before its call is made.
    pub preempt: u64,
    /// Up to [`DELAY_TICKS_MAX`] pass before its call is made, and others run meanwhile.
    pub delay: u64,
    /// A long copy finds an interrupt pending, once in so many steps of it.
    pub hurry: u64,
}

/// The longest delay, in ticks: 20 ms, far below every deadline that a service has.
pub const DELAY_TICKS_MAX: u64 = 200_000;
/// Calls among which a harm's moment is drawn.
const STORM_CALLS: u64 = 1_500;
/// Harms in one storm at the most: fewer than any restart budget.
const HARMS_MAX: u64 = 3;

/// What is done to a process, other than init, at one of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// It is killed before the call is made.
    Kill,
    /// The call, one that needs memory, is refused as if the quota were used up.
    Refuse,
    /// The message that it sends has some of its payload's bits flipped.
    Corrupt,
}

/// What happens in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Small things.
    pub rates: Rates,
    /// Harms that are to come: the number of the call from which on, and what. The last comes first.
    pub harms: Vec<(u64, Harm)>,
    calls: u64,
}

impl Faults {
    /// Nothing goes wrong and nobody is interrupted.
    pub fn none() -> Self {
        Faults::default()
    }

    /// Interruptions of every kind, and no harm.
    pub fn restless(chance: &mut Random) -> Self {
        let one_of = |chance: &mut Random, rates: [u64; 4]| rates[chance.below(4) as usize];
        let rates = Rates {
            preempt: one_of(chance, [0, 2, 8, 50]),
            delay: one_of(chance, [0, 20, 100, 500]),
            hurry: one_of(chance, [0, 2, 4, 16]),
        };
        Faults { rates, ..Faults::default() }
    }

    /// Interruptions, and a few harms within the next calls.
    pub fn storm(chance: &mut Random) -> Self {
        let count = 1 + chance.below(HARMS_MAX);
        let kinds = [Harm::Kill, Harm::Kill, Harm::Refuse, Harm::Corrupt];
        let mut harms: Vec<_> = (0..count)
            .map(|_| (chance.below(STORM_CALLS), kinds[chance.below(kinds.len() as u64) as usize]))
            .collect();
        harms.sort_by_key(|&(from, _)| std::cmp::Reverse(from));
        Faults { harms, ..Self::restless(chance) }
    }

    /// The harm that is due at this call of a process that may be harmed.
    pub fn due(&mut self, call: SystemCall) -> Option<Harm> {
        self.calls += 1;
        let &(from, harm) = self.harms.last()?;
        let fits = match harm {
            Harm::Kill => true,
            Harm::Refuse => refusal(call).is_some(),
            Harm::Corrupt => matches!(call, SystemCall::Call | SystemCall::Reply | SystemCall::ReplyReceive),
        };
        (self.calls > from && fits).then_some(())?;
        self.harms.pop();
        Some(harm)
    }
}

/// How a call is refused that needs memory of the caller's quota.
pub fn refusal(call: SystemCall) -> Option<Error> {
    let takes_memory = matches!(
        call,
        SystemCall::VmoCreate | SystemCall::VmoMap | SystemCall::NotificationCreate | SystemCall::MmioMap
    );
    takes_memory.then_some(Error::NoMemory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_storm_each_time() {
        assert_eq!(Faults::storm(&mut Random::new(5)), Faults::storm(&mut Random::new(5)));
        assert!(
            (0..20).any(|seed| Faults::storm(&mut Random::new(seed)) != Faults::storm(&mut Random::new(5)))
        );
    }

    #[test]
    fn a_harm_waits_for_a_call_that_it_fits_and_comes_once() {
        let mut faults = Faults { harms: vec![(1, Harm::Refuse)], ..Faults::none() };
        assert_eq!(faults.due(SystemCall::VmoCreate), None);
        assert_eq!(faults.due(SystemCall::Call), None);
        assert_eq!(faults.due(SystemCall::VmoCreate), Some(Harm::Refuse));
        assert_eq!(faults.due(SystemCall::VmoCreate), None);
    }
}
