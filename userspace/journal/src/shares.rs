//! What outlives the journal: decisions, a share for each subject, and errors, a share for each author.
//!
//! A share has a place, and the place is its name in the store. Nobody's records make another's go: what makes room is
//! of the same share, and is counted there.

use crate::Record;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Subjects of decisions, and authors of errors, that have a share of their own; all others have one together.
pub const SUBJECTS_MAX: usize = 32;
/// Decisions that are kept of one subject.
pub const SHARE_RECORDS_MAX: usize = 24;
/// Errors that are kept of one author.
pub const SHARE_ERRORS_MAX: usize = 8;
/// Shares of one kind: those of somebody, and the common one, which has the last place.
const SHARES_A_KIND: usize = SUBJECTS_MAX + 1;
/// Places of shares.
pub const PLACES_MAX: usize = 2 * SHARES_A_KIND;

/// Whose records a share has; `None`: those of everybody without a share of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// Decisions about this subject.
    Decisions(Option<u64>),
    /// Errors of this author.
    Errors(Option<u64>),
}

impl Owner {
    /// Whose share a record belongs to; `None`: it is none that is kept apart.
    pub fn of(record: &Record) -> Option<Owner> {
        match (record.subject, record.level) {
            (Some(subject), _) => Some(Owner::Decisions(Some(subject))),
            (None, 0) => Some(Owner::Errors(Some(record.service_id))),
            _ => None,
        }
    }

    fn common(self) -> Owner {
        match self {
            Owner::Decisions(_) => Owner::Decisions(None),
            Owner::Errors(_) => Owner::Errors(None),
        }
    }

    /// Where shares of this kind lie.
    fn places(self) -> core::ops::Range<usize> {
        match self {
            Owner::Decisions(_) => 0..SHARES_A_KIND,
            Owner::Errors(_) => SHARES_A_KIND..PLACES_MAX,
        }
    }

    /// Whether such a share may lie there.
    pub(crate) fn may_lie_at(self, place: usize) -> bool {
        let places = self.places();
        let is_last = place + 1 == places.end;
        places.contains(&place) && is_last == (self == self.common())
    }

    /// Whether a record may be in such a share.
    pub(crate) fn holds(self, record: &Record) -> bool {
        Owner::of(record).is_some_and(|owner| owner == self || owner.common() == self)
    }

    /// Records that such a share has.
    pub(crate) const fn records_max(self) -> usize {
        match self {
            Owner::Decisions(_) => SHARE_RECORDS_MAX,
            Owner::Errors(_) => SHARE_ERRORS_MAX,
        }
    }
}

/// One share.
#[derive(Debug)]
pub struct Share {
    pub(crate) owner: Owner,
    pub(crate) records: VecDeque<Record>,
    /// Records of it that made room, in all boots.
    pub(crate) made_room: u64,
    /// The number of the newest record that is in the store.
    pub(crate) written: u64,
    /// The number of the newest record for whose sake it is written.
    wanted: u64,
}

impl Share {
    fn new(owner: Owner) -> Self {
        let records = VecDeque::with_capacity(owner.records_max());
        Share { owner, records, made_room: 0, written: 0, wanted: 0 }
    }

    /// Records that are not in the store yet.
    fn unwritten(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.id > self.written)
    }
}

/// What made room for a record.
#[derive(Clone, Copy, Debug, Default)]
pub struct MadeRoom {
    /// Records.
    pub records: u64,
    /// Of them, those that were not in the store yet.
    pub unwritten: u64,
}

/// All shares, by place. It takes the memory of its places at once.
#[derive(Debug)]
pub struct Shares {
    places: Vec<Share>,
    bytes: usize,
    /// Records that are not in the store yet.
    unwritten: u64,
}

impl Default for Shares {
    fn default() -> Self {
        let kind = |owner: Owner| owner.places().map(move |_| Share::new(owner));
        let places = kind(Owner::Decisions(None)).chain(kind(Owner::Errors(None))).collect();
        Shares { places, bytes: 0, unwritten: 0 }
    }
}

impl Shares {
    /// The share of this owner, or the one that becomes its own, or else the common one.
    fn share(&mut self, owner: Owner) -> Option<&mut Share> {
        let places = owner.places();
        let shares = self.places.get(places.clone())?;
        let own = shares.iter().position(|share| share.owner == owner);
        // The last place is the common one's, and no other place is taken by it for good.
        let free = || shares.iter().take(SUBJECTS_MAX).position(|share| share.owner == owner.common());
        let place = places.start + own.or_else(free).unwrap_or(SUBJECTS_MAX);
        let share = self.places.get_mut(place)?;
        if own.is_none() && place + 1 < places.end {
            share.owner = owner;
        }
        Some(share)
    }

    /// Keeps a record of this owner, which has its number; yields what made room. `is_wanted`: for its sake the share
    /// is written.
    pub fn push(&mut self, owner: Owner, record: Record, is_wanted: bool) -> MadeRoom {
        let (id, bytes) = (record.id, record.bytes());
        let Some(share) = self.share(owner) else { return MadeRoom::default() };
        let is_full = share.records.len() >= owner.records_max();
        let oldest = if is_full { share.records.pop_front() } else { None };
        share.records.push_back(record);
        share.wanted = if is_wanted { id } else { share.wanted };
        share.made_room += u64::from(oldest.is_some());
        let unwritten = oldest.as_ref().is_some_and(|oldest| oldest.id > share.written);
        self.unwritten = (self.unwritten + 1).saturating_sub(u64::from(unwritten));
        self.bytes = (self.bytes + bytes).saturating_sub(oldest.as_ref().map_or(0, Record::bytes));
        MadeRoom { records: u64::from(oldest.is_some()), unwritten: u64::from(unwritten) }
    }

    /// Takes over a share that was in the store; `false`: its owner has another place, or the place another owner.
    pub fn restore(&mut self, place: usize, owner: Owner, records: Vec<Record>, made_room: u64) -> bool {
        let is_elsewhere = self.places.iter().any(|share| share.owner == owner && owner != owner.common());
        let Some(share) = self.places.get_mut(place).filter(|_| !is_elsewhere) else { return false };
        share.owner = owner;
        share.written = records.last().map_or(0, |last| last.id);
        share.made_room = made_room;
        self.bytes += records.iter().map(Record::bytes).sum::<usize>();
        share.records.extend(records);
        true
    }

    /// Every share and its place.
    pub fn places(&self) -> impl Iterator<Item = (usize, &Share)> {
        self.places.iter().enumerate()
    }

    /// Every record, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.places.iter().flat_map(|share| &share.records)
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.places.iter().map(|share| share.records.len()).sum()
    }

    /// The bytes of their text.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records that made room, in all boots.
    pub fn made_room(&self) -> u64 {
        self.places.iter().map(|share| share.made_room).sum()
    }

    /// Records that are not in the store yet.
    pub fn unwritten(&self) -> u64 {
        self.unwritten
    }

    /// Whether something behind this number is to be written for its own sake.
    pub fn want_writing(&self, behind: u64) -> bool {
        self.places.iter().any(|share| share.wanted > share.written.max(behind))
    }

    /// The places that have something unwritten, the one that waits longest first.
    pub fn unwritten_places(&self) -> Vec<usize> {
        let oldest = |share: &Share| share.unwritten().next().map(|record| record.id);
        let mut waiting: Vec<(u64, usize)> =
            self.places().filter_map(|(place, share)| Some((oldest(share)?, place))).collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, place)| place).collect()
    }

    /// The share at a place.
    pub fn at(&self, place: usize) -> Option<&Share> {
        self.places.get(place)
    }

    /// What the share at this place has up to this number is in the store.
    pub fn set_written(&mut self, place: usize, until: u64) {
        let Some(share) = self.places.get_mut(place) else { return };
        let before = share.unwritten().count();
        share.written = share.written.max(until);
        let written = before - share.unwritten().count();
        self.unwritten = self.unwritten.saturating_sub(written as u64);
    }
}
