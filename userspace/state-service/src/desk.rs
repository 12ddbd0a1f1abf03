//! The desk: takes changes on, makes them durable together, and says when there is something to do without being asked.

use crate::parts::Part;
use alloc::string::String;
use alloc::vec::Vec;
use statefs::{Batch, BlockDevice, Error, LIST_KEYS_MAX, Listed, Page, Space, Store};

/// Changes that wait for one flush.
pub const WAITING_MAX: usize = 32;
/// Checkpoints that one change waits for at the most.
const CHECKPOINTS_MAX: u64 = 4;

/// When something is to be done without a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Nothing is: all is sealed.
    Sealed,
    /// The last change was made at this tick.
    Since(u64),
}

/// The store, and who waits for it. `T` is the right to answer one client.
pub struct Desk<D, T> {
    store: Store<D>,
    waiting: Vec<T>,
    answered: Vec<(T, Result<u64, Error>)>,
    rest: Rest,
    /// Ticks without changes after which the last one is sealed.
    idle_ticks: u64,
    told: usize,
    changes: u64,
}

impl<D: BlockDevice, T> Desk<D, T> {
    /// A desk over an open store, which is sealed after `idle_ticks` without changes.
    pub fn new(store: Store<D>, idle_ticks: u64) -> Self {
        Desk {
            store,
            waiting: Vec::with_capacity(WAITING_MAX),
            answered: Vec::new(),
            rest: Rest::Sealed,
            idle_ticks,
            told: 0,
            changes: 0,
        }
    }

    /// The store, for what only reads.
    pub fn store(&mut self) -> &mut Store<D> {
        &mut self.store
    }

    /// Takes a change on. It is among [`Desk::answers`] at once if it is refused, otherwise after the next
    /// [`Desk::commit`]; when there is no room for more, that one is made here.
    pub fn change(&mut self, batch: &Batch<'_>, client: T) {
        if self.waiting.len() == WAITING_MAX {
            self.commit();
        }
        match self.stage(batch) {
            Ok(()) => self.waiting.push(client),
            Err(refusal) => self.answered.push((client, Err(refusal))),
        }
    }

    /// Stages a change, behind as much maintenance as it needs.
    fn stage(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        let last = self.store.counters().checkpoints + CHECKPOINTS_MAX;
        loop {
            match self.store.stage(batch) {
                Err(Error::GroupFull) => self.commit(),
                Err(Error::CheckpointNeeded) if self.store.counters().checkpoints < last => {
                    self.commit();
                    if !self.store.maintain()? {
                        return Err(Error::CheckpointNeeded);
                    }
                }
                staged => return staged.map(drop),
            }
        }
    }

    /// Whether changes wait for a flush.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Makes what waits durable, by one flush, and answers it.
    pub fn commit(&mut self) {
        let outcomes = self.store.commit();
        self.changes += outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        // The engine answers each that was staged; should it ever not, nobody is told of success.
        let outcomes = outcomes.into_iter().chain(core::iter::repeat(Err(Error::OutcomeUnknown)));
        self.answered.extend(self.waiting.drain(..).zip(outcomes));
    }

    /// What was answered since the last time, in order.
    pub fn answers(&mut self) -> impl Iterator<Item = (T, Result<u64, Error>)> + '_ {
        self.answered.drain(..)
    }

    /// Changes were made at this tick: the time of rest begins anew.
    pub fn stir(&mut self, now: u64) {
        self.rest = Rest::Since(now);
    }

    /// When there is something to do without a call, in ticks; `None`: never.
    pub fn due(&self) -> Option<u64> {
        match self.rest {
            Rest::Sealed => None,
            Rest::Since(last) => Some(last.saturating_add(self.idle_ticks)),
        }
    }

    /// Nothing came until something was due: does a share of maintenance, or else seals. While it yields `true` there
    /// is more to do.
    pub fn idle(&mut self) -> bool {
        if self.store.maintain() == Ok(true) {
            return true;
        }
        // What cannot be sealed now is proven by the next change, or by the next opening.
        let _ = self.store.seal();
        self.rest = Rest::Sealed;
        false
    }

    /// Lines about damage that was found since the last time.
    pub fn new_damage(&mut self) -> Vec<String> {
        let lines: Vec<String> = self.store.damage_lines().skip(self.told).collect();
        self.told += lines.len();
        lines
    }

    /// Changes that were answered with their version.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// How full the store is.
    pub fn space(&self) -> Space {
        self.store.space()
    }

    /// Keys with this prefix behind `after`, at most `limit`, without those of parts that the prefix's own part is
    /// not.
    pub fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Page {
        let shown = Part::of(prefix.as_bytes());
        let limit = limit.min(LIST_KEYS_MAX);
        let mut behind: Option<Vec<u8>> = after.map(|key| key.as_bytes().into());
        let mut keys: Vec<Listed> = Vec::new();
        loop {
            let page = self.store.list(prefix.as_bytes(), behind.as_deref(), limit - keys.len());
            let is_hidden = |listed: &Listed| Part::of(&listed.key) != shown;
            let Some(place) = page.keys.iter().position(is_hidden) else {
                keys.extend(page.keys);
                // What follows may be hidden, all of it: a page too many is empty, and tells nothing.
                return Page { keys, ..page };
            };
            let hidden = page.keys.get(place).map(|listed| Part::of(&listed.key)).unwrap_or(shown);
            keys.extend(page.keys.into_iter().take(place));
            // No key has a byte of this value.
            behind = Some([hidden.root().as_bytes(), &[0xff]].concat());
        }
    }
}
