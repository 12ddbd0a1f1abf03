//! A small sorted list, for what has a low bound: less code than another tree.

use alloc::vec::Vec;

/// Pairs in the order of their keys.
#[derive(Debug, Clone)]
pub(crate) struct Sorted<K, V> {
    pairs: Vec<(K, V)>,
}

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Sorted<K, V> {
        Sorted { pairs: Vec::new() }
    }
}

impl<K, V> Sorted<K, V> {
    /// Where the key is, or where it belongs.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: core::borrow::Borrow<Q>,
    {
        self.pairs.binary_search_by(|(known, _)| known.borrow().cmp(key))
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: core::borrow::Borrow<Q>,
    {
        self.pairs.get(self.place(key).ok()?).map(|(_, value)| value)
    }

    /// Sets a key; returns whether it is new.
    pub fn insert<Q: Ord + ?Sized>(&mut self, key: K, value: V) -> bool
    where
        K: core::borrow::Borrow<Q>,
    {
        match self.place(key.borrow()) {
            Ok(at) => {
                self.pairs[at].1 = value;
                false
            }
            Err(at) => {
                self.pairs.insert(at, (key, value));
                true
            }
        }
    }

    /// The value of a key, made if there is none.
    pub fn entry(&mut self, key: K) -> &mut V
    where
        K: Ord,
        V: Default,
    {
        let at = self.place(&key).unwrap_or_else(|at| {
            self.pairs.insert(at, (key, V::default()));
            at
        });
        &mut self.pairs[at].1
    }

    /// The first pair with a key above this one.
    pub fn after(&self, key: Option<&K>) -> Option<&(K, V)>
    where
        K: Ord,
    {
        let at = key.map_or(0, |key| self.pairs.partition_point(|(known, _)| known <= key));
        self.pairs.get(at)
    }

    pub fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.pairs.iter()
    }

    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    pub fn retain(&mut self, keep: impl FnMut(&(K, V)) -> bool) {
        self.pairs.retain(keep);
    }

    pub fn clear(&mut self) {
        self.pairs.clear();
    }
}
