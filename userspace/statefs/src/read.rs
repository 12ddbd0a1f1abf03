//! Reads: of durable state only, each value verified.

use crate::device::BlockDevice;
use crate::error::Error;
use crate::index::{Entry, State};
use crate::key::validate_key;
use crate::limits::LIST_KEYS_MAX;
use crate::store::{Mode, Store};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Bound;

/// What is known of a key without reading its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The global sequence of the last change.
    pub version: u64,
    /// Bytes of the value.
    pub length: u32,
}

/// A key in a listing. A damaged key is listed, with the error that reading it gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: Box<[u8]>,
    /// What is known of it.
    pub stat: Result<Stat, Error>,
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Keys in byte order.
    pub keys: Vec<Listed>,
    /// Whether keys may follow; the next page starts after the last key of this one.
    pub more: bool,
    /// Whether a lost group may have added or removed keys: what is missing here is not certainly absent.
    pub uncertain: bool,
}

impl<D: BlockDevice> Store<D> {
    fn entry(&self, key: &[u8]) -> Result<Entry, Error> {
        let Some(entry) = self.index.get(key) else {
            validate_key(key)?;
            return Err(if self.hole { Error::Uncertain } else { Error::NotFound });
        };
        check(entry).map(|()| *entry)
    }

    /// Version and length of a key.
    pub fn stat(&self, key: &[u8]) -> Result<Stat, Error> {
        self.entry(key).map(|entry| Stat { version: entry.version, length: entry.length })
    }

    /// Replaces the contents of `value` by the key's value; returns its version.
    pub fn get_into(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<u64, Error> {
        let entry = self.entry(key)?;
        value.clear();
        let mut sectors = core::mem::take(&mut self.sectors);
        let read = self.read_value(&entry, &mut sectors).map(|found| value.extend_from_slice(found));
        self.sectors = sectors;
        if read == Err(Error::Corrupt) {
            self.mark_corrupt(key);
        }
        read.map(|()| entry.version)
    }

    /// The key's value.
    pub fn get(&mut self, key: &[u8]) -> Result<Vec<u8>, Error> {
        let mut value = Vec::new();
        self.get_into(key, &mut value).map(|_| value)
    }

    /// Keys with a prefix, in byte order, those after `after` only; at most `limit` and at most
    /// [`LIST_KEYS_MAX`].
    pub fn list(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Page {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let limit = limit.min(LIST_KEYS_MAX);
        let mut matching = self
            .index
            .starting(from)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, entry)| entry.state != State::Deleted);
        let keys = matching
            .by_ref()
            .take(limit)
            .map(|(key, entry)| Listed {
                key: key.into(),
                stat: check(entry).map(|()| Stat { version: entry.version, length: entry.length }),
            })
            .collect();
        Page { keys, more: matching.next().is_some(), uncertain: self.hole }
    }

    /// Whether a write or flush failed and the next change will replay first.
    pub fn needs_replay(&self) -> bool {
        self.mode == Mode::NeedsReplay
    }
}

/// Whether a key's value may be given at all.
pub(crate) fn check(entry: &Entry) -> Result<(), Error> {
    match entry {
        Entry { uncertain: true, .. } => Err(Error::Uncertain),
        Entry { state: State::Corrupt, .. } => Err(Error::Corrupt),
        Entry { state: State::Deleted, .. } => Err(Error::NotFound),
        Entry { state: State::Live, .. } => Ok(()),
    }
}
