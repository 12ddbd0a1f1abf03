//! The ordered index in memory: what each key is known to be, and the operations that were answered.

use crate::limits::{OPERATION_CLIENTS_MAX, OPERATIONS_PER_CLIENT};
use crate::sorted::Sorted;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

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
    pub segment: u32,
    pub offset: u32,
    pub state: State,
    /// A lost group may have changed the key since.
    pub uncertain: bool,
}

impl Entry {
    /// Bytes that the key keeps occupied in its segment.
    pub fn live_bytes(&self, key: &[u8]) -> Option<(u32, u64)> {
        (self.state == State::Live)
            .then(|| (self.segment, crate::quota::segment_bytes(key.len(), self.length as usize)))
    }
}

/// Keys in order.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub entries: BTreeMap<Box<[u8]>, Entry>,
}

impl Index {
    /// Sets a key unless something newer is known; returns what was there and whether it was set.
    pub fn set(&mut self, key: &[u8], entry: Entry) -> (Option<Entry>, bool) {
        match self.entries.get_mut(key) {
            Some(known) if known.version > entry.version => (Some(*known), false),
            Some(known) => (Some(core::mem::replace(known, entry)), true),
            None => {
                self.entries.insert(key.into(), entry);
                (None, true)
            }
        }
    }

    /// Everything known so far, absence included, may have been changed by a lost group.
    pub fn mark_uncertain(&mut self) {
        for entry in self.entries.values_mut() {
            entry.uncertain = true;
        }
    }

    /// Forgets the keys that are known to be absent.
    pub fn drop_deleted(&mut self) {
        self.entries.retain(|_, entry| entry.state != State::Deleted);
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
