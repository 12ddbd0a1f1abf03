//! The ordered index in memory: what each key is known to be, and the operations that were answered.
//!
//! Keys stand in sorted pages, and pages in one list. Beside each key stands its *rank*, by which nearly all
//! comparisons are decided without looking at the key itself: an opening spends most of its time here.

use crate::key::ROOT;
use crate::limits::{OPERATION_CLIENTS_MAX, OPERATIONS_PER_CLIENT};
use crate::sorted::Sorted;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::Bound;

/// Keys of a page at the most.
const PAGE_KEYS_MAX: usize = 64;

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It has a value.
    Live,
    /// It is absent since its version. Kept while a group is applied, and while there is a hole.
    Deleted,
    /// Its acknowledged value is damaged.
    Corrupt,
}

/// Where a key's value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub version: u64,
    pub payload_crc: u32,
    pub length: u32,
    pub offset: u32,
    /// A store has at most 30,000 segments.
    pub segment: u16,
    pub state: State,
    /// A lost group may have changed the key since.
    pub uncertain: bool,
}

impl Entry {
    /// Bytes that the key keeps occupied in its segment.
    pub fn live_bytes(&self, key: &[u8]) -> Option<(u32, u64)> {
        (self.state == State::Live)
            .then(|| (self.segment.into(), crate::quota::segment_bytes(key.len(), self.length as usize)))
    }
}

/// The first bytes of a key behind [`ROOT`], as a number: keys with a lower one are lower.
fn rank(key: &[u8]) -> u64 {
    let Some(rest) = key.strip_prefix(ROOT.as_bytes()) else {
        return if key < ROOT.as_bytes() { 0 } else { u64::MAX };
    };
    let mut first = [0; 8];
    for (byte, known) in first.iter_mut().zip(rest) {
        *byte = *known;
    }
    u64::from_be_bytes(first)
}

/// A key's place in its page, and what is known of it.
#[derive(Debug, Clone, Copy)]
struct Slot {
    rank: u64,
    entry: Entry,
    /// Where the key starts among the page's keys: 64 keys of 255 bytes have less than 65,536.
    start: u16,
    length: u8,
}

/// Slots in order, at least one. Their keys stand in one buffer, in the order in which they came: a key costs no
/// allocation of its own.
#[derive(Debug)]
struct Page {
    /// Of the first slot.
    rank: u64,
    slots: Vec<Slot>,
    keys: Vec<u8>,
}

impl Page {
    /// A page of these slots, whose keys stand in `keys`.
    fn of(slots: &[Slot], keys: &[u8]) -> Page {
        let mut page = Page { rank: 0, slots: Vec::with_capacity(PAGE_KEYS_MAX), keys: Vec::new() };
        page.keys.reserve_exact(slots.iter().map(|slot| usize::from(slot.length)).sum());
        for slot in slots {
            page.insert(page.slots.len(), slot.rank, key_of(slot, keys), slot.entry);
        }
        page
    }

    fn key(&self, slot: &Slot) -> &[u8] {
        key_of(slot, &self.keys)
    }

    fn order(&self, slot: &Slot, rank: u64, key: &[u8]) -> Ordering {
        slot.rank.cmp(&rank).then_with(|| self.key(slot).cmp(key))
    }

    /// Whether its first key is this one or lower.
    fn begins_at(&self, rank: u64, key: &[u8]) -> bool {
        self.rank < rank
            || (self.rank == rank && self.slots.first().is_some_and(|first| self.key(first) <= key))
    }

    /// The slot of a key, or where that would be.
    fn find(&self, rank: u64, key: &[u8]) -> Result<usize, usize> {
        match self.slots.last().map(|last| self.order(last, rank, key)) {
            Some(Ordering::Less) | None => Err(self.slots.len()),
            _ => self.slots.binary_search_by(|slot| self.order(slot, rank, key)),
        }
    }

    fn insert(&mut self, at: usize, rank: u64, key: &[u8], entry: Entry) {
        let slot = Slot { rank, entry, start: self.keys.len() as u16, length: key.len() as u8 };
        self.keys.extend_from_slice(key);
        self.slots.insert(at, slot);
        if at == 0 {
            self.rank_again();
        }
    }

    /// Keeps the slots that are wanted; the keys of the others leave the buffer.
    fn retain(&mut self, mut wanted: impl FnMut(usize, &Slot) -> bool) {
        let mut keys = Vec::with_capacity(self.keys.len());
        let mut at = 0;
        self.slots.retain_mut(|slot| {
            let keep = wanted(at, slot);
            at += 1;
            if keep {
                let start = keys.len() as u16;
                keys.extend_from_slice(key_of(slot, &self.keys));
                slot.start = start;
            }
            keep
        });
        self.keys = keys;
        self.rank_again();
    }

    /// After a change at the front.
    fn rank_again(&mut self) {
        self.rank = self.slots.first().map_or(0, |first| first.rank);
    }
}

/// The key of a slot, among the keys of its page.
fn key_of<'a>(slot: &Slot, keys: &'a [u8]) -> &'a [u8] {
    let start = usize::from(slot.start);
    keys.get(start..start + usize::from(slot.length)).unwrap_or(&[])
}

/// Keys in order.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pages: Vec<Page>,
    /// The page that was last set in: what a checkpoint wrote comes back in order.
    newest: usize,
    /// Whether a key may be known to be absent.
    has_deleted: bool,
}

impl Index {
    /// The page of a key, and its slot there, or where that would be.
    fn find(&self, rank: u64, key: &[u8]) -> (usize, Result<usize, usize>) {
        let begins = |page: usize| self.pages.get(page).is_some_and(|page| page.begins_at(rank, key));
        let page = if begins(self.newest) && !begins(self.newest + 1) {
            self.newest
        } else {
            self.pages.partition_point(|page| page.begins_at(rank, key)).saturating_sub(1)
        };
        (page, self.pages.get(page).map_or(Err(0), |found| found.find(rank, key)))
    }

    /// What is known of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        let (page, slot) = self.find(rank(key), key);
        Some(&self.pages.get(page)?.slots.get(slot.ok()?)?.entry)
    }

    /// What is known of a key, to be changed.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let (page, slot) = self.find(rank(key), key);
        Some(&mut self.pages.get_mut(page)?.slots.get_mut(slot.ok()?)?.entry)
    }

    /// Sets a key unless something newer is known; returns what was there and whether it was set.
    pub fn set(&mut self, key: &[u8], entry: Entry) -> (Option<Entry>, bool) {
        let rank = rank(key);
        let (page, slot) = self.find(rank, key);
        self.newest = page;
        self.has_deleted |= entry.state == State::Deleted;
        match slot {
            Ok(slot) => {
                let known = &mut self.pages[page].slots[slot].entry;
                if known.version > entry.version {
                    (Some(*known), false)
                } else {
                    (Some(core::mem::replace(known, entry)), true)
                }
            }
            Err(slot) => {
                self.insert((page, slot), rank, key, entry);
                (None, true)
            }
        }
    }

    /// Inserts a key where it belongs. A full page is cut in half; behind its end, where rising keys go, the
    /// next page takes the key if it has few, or else a fresh one.
    fn insert(&mut self, (page, at): (usize, usize), rank: u64, key: &[u8], entry: Entry) {
        if let Some(found) = self.pages.get_mut(page).filter(|page| page.slots.len() < PAGE_KEYS_MAX) {
            found.insert(at, rank, key, entry);
        } else if at < PAGE_KEYS_MAX
            && let Some(found) = self.pages.get_mut(page)
        {
            let (lower, upper) = found.slots.split_at(PAGE_KEYS_MAX / 2);
            let (mut lower, mut upper) = (Page::of(lower, &found.keys), Page::of(upper, &found.keys));
            match at.checked_sub(PAGE_KEYS_MAX / 2) {
                Some(at) => upper.insert(at, rank, key, entry),
                None => lower.insert(at, rank, key, entry),
            }
            *found = lower;
            self.pages.insert(page + 1, upper);
        } else if let Some(next) =
            self.pages.get_mut(page + 1).filter(|page| page.slots.len() < PAGE_KEYS_MAX / 2)
        {
            next.insert(0, rank, key, entry);
        } else {
            let place = self.pages.len().min(page + 1);
            self.newest = place;
            let mut fresh = Page::of(&[], &[]);
            // Its keys will be about as long as those before.
            fresh.keys.reserve_exact(self.pages.get(page).map_or(0, |before| before.keys.len()));
            fresh.insert(0, rank, key, entry);
            self.pages.insert(place, fresh);
        }
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &[u8]) {
        let (page, Ok(slot)) = self.find(rank(key), key) else { return };
        self.pages[page].retain(|at, _| at != slot);
        self.join(page);
        self.join(page.saturating_sub(1));
    }

    /// Joins a page with the next where few keys are left: few keys must not hold much memory.
    fn join(&mut self, page: usize) {
        let Some([found, next, ..]) = self.pages.get_mut(page..) else {
            self.pages.pop_if(|last| last.slots.is_empty());
            return;
        };
        let both = found.slots.len() + next.slots.len();
        if both <= PAGE_KEYS_MAX / 2 || found.slots.is_empty() {
            for slot in &next.slots {
                found.insert(found.slots.len(), slot.rank, next.key(slot), slot.entry);
            }
            self.pages.remove(page + 1);
        }
    }

    /// Keys from here on, in order.
    pub fn starting(&self, from: Bound<&[u8]>) -> impl Iterator<Item = (&[u8], &Entry)> {
        let (page, skipped) = match from {
            Bound::Unbounded => (0, 0),
            Bound::Included(key) => {
                let (page, slot) = self.find(rank(key), key);
                (page, slot.unwrap_or_else(|at| at))
            }
            Bound::Excluded(key) => {
                let (page, slot) = self.find(rank(key), key);
                (page, slot.map_or_else(|at| at, |at| at + 1))
            }
        };
        let pages = self.pages.iter().skip(page);
        let slots = pages.flat_map(|page| page.slots.iter().map(|slot| (page.key(slot), &slot.entry)));
        slots.skip(skipped)
    }

    /// All keys, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.starting(Bound::Unbounded)
    }

    /// What is known of all keys, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.pages.iter_mut().flat_map(|page| &mut page.slots).map(|slot| &mut slot.entry)
    }

    /// Everything known so far, absence included, may have been changed by a lost group.
    pub fn mark_uncertain(&mut self) {
        self.values_mut().for_each(|entry| entry.uncertain = true);
    }

    /// Forgets the keys that are known to be absent.
    pub fn drop_deleted(&mut self) {
        if !core::mem::take(&mut self.has_deleted) {
            return;
        }
        for page in (0..self.pages.len()).rev() {
            let found = &mut self.pages[page];
            if found.slots.iter().any(|slot| slot.entry.state == State::Deleted) {
                found.retain(|_, slot| slot.entry.state != State::Deleted);
            }
            self.join(page);
        }
    }
}

/// The last operations of each client, with the version that was answered.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    /// By client: operation and answer, in the order of the answers.
    pub clients: Sorted<u64, Vec<(u64, u64)>>,
}

impl Operations {
    /// The answer that was given to this operation, if it is remembered.
    pub fn answer(&self, client: u64, operation: u64) -> Option<u64> {
        let remembered = self.clients.get(&client)?;
        remembered.iter().find(|(id, _)| *id == operation).map(|(_, version)| *version)
    }

    /// Remembers an answer; forgets the client's oldest, or the client that was quiet for longest.
    pub fn remember(&mut self, client: u64, operation: u64, version: u64) {
        if self.answer(client, operation).is_some() {
            return;
        }
        let remembered = self.clients.entry(client);
        let place = remembered.partition_point(|(_, known)| *known < version);
        remembered.insert(place, (operation, version));
        if remembered.len() > OPERATIONS_PER_CLIENT {
            remembered.remove(0);
        }
        if self.clients.len() > OPERATION_CLIENTS_MAX {
            let last_answer = |answers: &[(u64, u64)]| answers.last().map_or(0, |last| last.1);
            let quietest = self.clients.iter().min_by_key(|(_, answers)| last_answer(answers));
            let quietest = quietest.map(|(client, _)| *client);
            self.clients.retain(|(client, _)| Some(*client) != quietest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::format;

    fn entry(version: u64, state: State) -> Entry {
        Entry { version, payload_crc: 0, length: 0, offset: 0, segment: 0, state, uncertain: false }
    }

    /// Keys of every kind of rank: with and without the root, short, long behind a common start, of any bytes.
    fn key(bits: u64) -> Vec<u8> {
        let number = bits >> 8 & 0xFFF;
        match bits % 6 {
            0 => format!("/state/{number:x}").into_bytes(),
            1 => format!("/state/a-long-common-start/{number}").into_bytes(),
            2 => [b"/state/", &number.to_be_bytes()[6..]].concat(),
            3 => [b"/state/\xff\xff\xff\xff\xff\xff\xff\xff", &number.to_be_bytes()[7..]].concat(),
            4 => number.to_be_bytes()[6..].to_vec(),
            _ => format!("/state0{number}").into_bytes(),
        }
    }

    fn assert_same(index: &Index, model: &BTreeMap<Vec<u8>, Entry>, from: &[u8]) {
        for from in [Bound::Unbounded, Bound::Included(from), Bound::Excluded(from)] {
            let listed = index.starting(from).map(|(key, entry)| (key, *entry));
            let wanted = model.range::<[u8], _>((from, Bound::Unbounded));
            assert!(listed.eq(wanted.map(|(key, entry)| (&key[..], *entry))), "from {from:?}");
        }
        let kept = index.pages.iter().map(|page| page.slots.len());
        assert!(kept.clone().all(|kept| (1..=PAGE_KEYS_MAX).contains(&kept)));
        let few = kept.clone().zip(kept.skip(1)).filter(|(one, next)| one + next <= PAGE_KEYS_MAX / 2);
        assert_eq!(few.count(), 0, "neighbours that should be one page");
    }

    #[test]
    fn the_index_answers_like_a_map() {
        let (mut index, mut model, mut bits) = (Index::default(), BTreeMap::new(), 7u64);
        for version in 0..60_000u64 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = key(bits >> 16);
            // Mostly growing, mostly shrinking, in turn.
            let removes = (bits >> 61) < if version / 10_000 % 2 == 0 { 2 } else { 6 };
            if removes {
                index.remove(&key);
                model.remove(&key);
            } else {
                let new = entry(version ^ (bits >> 60 & 1), State::Live);
                let old = model.get(&key).copied();
                let is_newer = old.is_none_or(|old: Entry| old.version <= new.version);
                assert_eq!(index.set(&key, new), (old, is_newer));
                if is_newer {
                    model.insert(key.clone(), new);
                }
            }
            assert_eq!(index.get(&key), model.get(&key));
            assert_eq!(index.get_mut(&key).copied(), model.get(&key).copied());
            if version % 1_000 == 0 {
                assert_same(&index, &model, &key);
            }
        }
        let gone = index.iter().enumerate().filter(|(at, _)| at / 100 % 2 == 0 || at % 40 == 0);
        let gone: Vec<Vec<u8>> = gone.map(|(_, (key, _))| key.to_vec()).collect();
        for key in &gone {
            index.set(key, entry(u64::MAX, State::Deleted));
        }
        let kept: Vec<Vec<u8>> = index
            .iter()
            .filter(|(_, entry)| entry.state == State::Live)
            .map(|(key, _)| key.to_vec())
            .collect();
        model.retain(|key, _| kept.contains(key));
        index.drop_deleted();
        assert_same(&index, &model, b"/state/a");
        kept.iter().for_each(|key| index.remove(key));
        assert_eq!(index.iter().count() + index.pages.len(), 0);
    }
}
