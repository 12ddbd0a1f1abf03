//! What keys cost, what prefixes may use, what is kept for some of them.

use crate::error::Error;
use crate::group::{RECORD, pad8};
use alloc::vec;
use alloc::vec::Vec;

/// The share of one prefix. A key belongs to the first quota in the list whose prefix it has.
#[derive(Debug, Clone)]
pub struct Quota {
    /// Keys that start with this.
    pub prefix: Vec<u8>,
    /// Bytes it may use at the most, as [`crate::Store::space`] counts them.
    pub bytes_max: u64,
    /// Keys it may use at the most.
    pub keys_max: u64,
    /// Bytes that no other prefix can take from it, nor the keys that fit in them. With any, it may also use the last
    /// free segments.
    pub bytes_reserved: u64,
}

impl Quota {
    /// Keys that no other prefix can take from it: as many as its reserve holds, and it may use.
    fn keys_reserved(&self) -> u64 {
        self.keys_max.min(self.bytes_reserved / cost(self.prefix.len() + 1, 0))
    }
}

/// Bytes that a key counts for: the value, and eight times header and key, which is what its commit
/// records and the checkpoints that can exist at once take at the most.
pub(crate) fn cost(key: usize, value: usize) -> u64 {
    (pad8(value) + 8 * (RECORD + pad8(key))) as u64
}

/// Bytes that a live record keeps occupied in its segment.
pub(crate) fn segment_bytes(key: usize, value: usize) -> u64 {
    (pad8(value) + 3 * (RECORD + pad8(key))) as u64
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    bytes: u64,
    keys: u64,
}

/// A change of one key, as usage sees it: lengths of its key, of the old and of the new value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Difference<'a> {
    pub key: &'a [u8],
    pub old: Option<usize>,
    pub new: Option<usize>,
}

/// What is used, in all and by each quota.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    total: Used,
    /// Bytes of one table with an entry for every key.
    pub table_bytes: u64,
    shares: Vec<Used>,
}

impl Usage {
    pub fn new(quotas: &[Quota]) -> Usage {
        Usage { total: Used::default(), table_bytes: 0, shares: vec![Used::default(); quotas.len()] }
    }

    /// Bytes and keys in use.
    pub fn total(&self) -> (u64, u64) {
        (self.total.bytes, self.total.keys)
    }

    /// Takes a change into account, or back.
    pub fn apply(&mut self, quotas: &[Quota], change: Difference<'_>) {
        let table = (RECORD + pad8(change.key.len())) as u64;
        let share = quota_of(quotas, change.key);
        if let Some(old) = change.old {
            self.table_bytes = self.table_bytes.saturating_sub(table);
            for used in
                [Some(&mut self.total), share.and_then(|at| self.shares.get_mut(at))].into_iter().flatten()
            {
                used.bytes = used.bytes.saturating_sub(cost(change.key.len(), old));
                used.keys = used.keys.saturating_sub(1);
            }
        }
        if let Some(new) = change.new {
            self.table_bytes += table;
            for used in
                [Some(&mut self.total), share.and_then(|at| self.shares.get_mut(at))].into_iter().flatten()
            {
                used.bytes += cost(change.key.len(), new);
                used.keys += 1;
            }
        }
    }

    /// Whether the store and the prefix may grow by this change. What shrinks is always allowed.
    pub fn check(&self, quotas: &[Quota], bounds: Bounds, change: Difference<'_>) -> Result<(), Error> {
        let cost_of = |length: Option<usize>| length.map_or(0, |length| cost(change.key.len(), length));
        let more = cost_of(change.new).saturating_sub(cost_of(change.old));
        let more_keys = u64::from(change.new.is_some() && change.old.is_none());
        if more == 0 && more_keys == 0 {
            return Ok(());
        }
        let own = quota_of(quotas, change.key);
        if let Some((quota, used)) = own.and_then(|at| quotas.get(at).zip(self.shares.get(at))) {
            if used.bytes + more > quota.bytes_max {
                return Err(Error::QuotaBytes);
            }
            if used.keys + more_keys > quota.keys_max {
                return Err(Error::QuotaKeys);
            }
        }
        let others = quotas.iter().zip(&self.shares).enumerate().filter(|(at, _)| Some(*at) != own);
        let (mut kept, mut kept_keys) = (0u64, 0u64);
        for (_, (quota, used)) in others {
            kept = kept.saturating_add(quota.bytes_reserved.saturating_sub(used.bytes));
            kept_keys = kept_keys.saturating_add(quota.keys_reserved().saturating_sub(used.keys));
        }
        if more_keys > 0 && (self.total.keys + more_keys).saturating_add(kept_keys) > bounds.keys {
            return Err(Error::TooManyKeys);
        }
        if (self.total.bytes + more).saturating_add(kept) > bounds.bytes {
            Err(Error::NoSpace)
        } else {
            Ok(())
        }
    }
}

/// Bounds of the whole store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub bytes: u64,
    pub keys: u64,
}

/// The quota that a key belongs to.
pub(crate) fn quota_of(quotas: &[Quota], key: &[u8]) -> Option<usize> {
    quotas.iter().position(|quota| key.starts_with(&quota.prefix))
}
