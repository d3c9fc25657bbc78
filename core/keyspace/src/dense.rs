//! A map whose order is part of its value: entries in a dense array, positions in a hash index beside it.
//!
//! Random choice by position, SCAN cursors and checkpoints all follow the array, which depends only on the operations
//! done, never on the hash. So two replicas that applied the same operations agree on every "random" member, and a
//! replica restored from a checkpoint (entries in order) goes on exactly as the original would.

use std::ops::Range;

use skep_base::hash;

use crate::index::Index;
use crate::segments::Segments;

pub use crate::segments::Iter;

/// Up to this many entries are found by a walk: no index, and two cache lines at most for the common small hash.
const UNINDEXED_MAX: usize = 8;

/// An entry of a [`DenseMap`]: it knows its key, which never changes while the entry is in the map.
pub trait Keyed {
    fn key(&self) -> &[u8];
}

/// Entries by key, in a dense array. Removal moves the last entry into the gap. No operation on one entry takes longer than
/// some hundred microseconds, however many there are: array and index grow in parts.
#[derive(Clone)]
pub struct DenseMap<E> {
    entries: Segments<E>,
    /// Positions by hash of the key; empty while the map is small.
    index: Index,
}

// Every slot of a used database has one.
const _: () = assert!(size_of::<DenseMap<u64>>() == 56);

impl<E> Default for DenseMap<E> {
    fn default() -> DenseMap<E> {
        DenseMap { entries: Segments::default(), index: Index::default() }
    }
}

impl<E: Keyed + Clone> DenseMap<E> {
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[inline]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.position(key).is_some()
    }

    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&E> {
        if self.index.is_empty() {
            return self.entries.short().iter().find(|e| e.key() == key);
        }
        self.entries.get(self.indexed_position(hash::of(key), key)?)
    }

    /// The caller must not change the entry's key.
    #[inline]
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut E> {
        let at = self.position(key)?;
        self.entries.get_mut(at)
    }

    /// Where `key` lies in the array. Holds until the next insertion or removal.
    #[inline]
    pub fn position(&self, key: &[u8]) -> Option<usize> {
        if self.index.is_empty() {
            return self.entries.short().iter().position(|e| e.key() == key);
        }
        self.indexed_position(hash::of(key), key)
    }

    /// The entry at `position`, or `None` past the end.
    #[inline]
    pub fn at(&self, position: usize) -> Option<&E> {
        self.entries.get(position)
    }

    /// The entry at `position`; the caller must not change its key.
    #[inline]
    pub fn at_mut(&mut self, position: usize) -> Option<&mut E> {
        self.entries.get_mut(position)
    }

    /// Entries in array order.
    pub fn iter(&self) -> Iter<'_, E> {
        self.entries.iter()
    }

    /// The entries at these positions, which must be there, in array order. Cost: O(1) before the first.
    pub fn range(&self, positions: Range<usize>) -> Iter<'_, E> {
        self.entries.range(positions)
    }

    /// The entries as they are, of which a copy is cheap when they are many.
    pub(crate) fn entries(&self) -> &Segments<E> {
        &self.entries
    }

    /// Puts `entry` in, in place of the one with its key if there is one, which is given back.
    pub fn insert(&mut self, entry: E) -> Option<E> {
        match self.get_mut(entry.key()) {
            Some(old) => Some(std::mem::replace(old, entry)),
            None => {
                self.insert_new(entry);
                None
            }
        }
    }

    /// The position of `key`, and whether it is new: then the entry that `make` gives was appended for it.
    #[inline]
    pub fn find_or_insert(&mut self, key: &[u8], make: impl FnOnce() -> E) -> (usize, bool) {
        if self.index.is_empty() {
            return match self.position(key) {
                Some(at) => (at, false),
                None => (self.insert_new(make()), true),
            };
        }
        let hash = hash::of(key);
        match self.indexed_position(hash, key) {
            Some(at) => (at, false),
            None => (self.append_indexed(make(), hash), true),
        }
    }

    /// Appends an entry whose key is not in the map, and gives its position.
    pub fn insert_new(&mut self, entry: E) -> usize {
        debug_assert!(!self.contains(entry.key()), "key inserted twice");
        if !self.index.is_empty() {
            let hash = hash::of(entry.key());
            return self.append_indexed(entry, hash);
        }
        let at = self.append(entry);
        if at >= UNINDEXED_MAX {
            self.index = Index::of(self.entries.len(), hash_in(&self.entries));
        }
        at
    }

    /// Removes the entry of `key`. The last entry takes its place.
    pub fn remove(&mut self, key: &[u8]) -> Option<E> {
        let at = self.position(key)?;
        Some(self.remove_at(at))
    }

    /// Removes the entry at `at`. The last entry takes its place. Panics past the end.
    pub fn remove_at(&mut self, at: usize) -> E {
        let indexed = !self.index.is_empty();
        if indexed {
            let hash_at = hash_in(&self.entries);
            let last = self.entries.len() - 1;
            self.index.remove(hash_at(at as u32), at as u32);
            if at != last {
                self.index.replace(hash_at(last as u32), last as u32, at as u32);
            }
        }
        let entry = self.entries.swap_remove(at);
        if self.entries.is_empty() {
            *self = DenseMap::default();
        } else if indexed {
            self.index.settle(hash_in(&self.entries));
        }
        entry
    }

    /// Bytes allocated for the array and the index, without what the entries own.
    pub fn heap_bytes(&self) -> usize {
        self.entries.heap_bytes() + self.index.heap_bytes()
    }

    /// Panics if array and index disagree.
    pub fn assert_invariants(&self) {
        if !self.index.is_empty() {
            assert_eq!(self.index.len(), self.entries.len(), "entries indexed");
            for (at, entry) in self.entries.iter().enumerate() {
                assert_eq!(self.position(entry.key()), Some(at), "position of {:?}", entry.key());
            }
        }
    }

    #[inline]
    fn indexed_position(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let is_it = |at| self.entries.get(at as usize).is_some_and(|e| e.key() == key);
        self.index.find(hash, is_it).map(|at| at as usize)
    }

    fn append_indexed(&mut self, entry: E, hash: u64) -> usize {
        let at = self.append(entry);
        self.index.insert(hash, at as u32, hash_in(&self.entries));
        at
    }

    fn append(&mut self, entry: E) -> usize {
        let at = self.entries.len();
        assert!(at < u32::MAX as usize, "a map of {at} entries is full");
        self.entries.push(entry);
        at
    }
}

/// The hash of the key of the entry at a position.
fn hash_in<E: Keyed>(entries: &Segments<E>) -> impl Fn(u32) -> u64 {
    |at| hash::of(entries.get(at as usize).expect("the index holds positions of entries").key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::Rng;
    use std::collections::BTreeMap;

    impl Keyed for (Vec<u8>, u64) {
        fn key(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn behaves_as_a_map_under_random_operations() {
        // Small maps, and some that pass through all forms and back.
        for seed in 0..54 {
            let mut rng = Rng::new(seed);
            let mut map = DenseMap::default();
            let mut model = BTreeMap::new();
            let (keys, steps) = if seed < 50 { (1 + rng.below(200), 2_000) } else { (40_000, 60_000) };
            for step in 0..steps {
                let key = format!("k{}", rng.below(keys)).into_bytes();
                match rng.below(3) {
                    _ if steps > 2_000 && step > 40_000 => {
                        let at = rng.below(map.len() as u64 + 1) as usize;
                        if at < map.len() {
                            let (key, value): (Vec<u8>, u64) = map.remove_at(at);
                            assert_eq!(model.remove(&key), Some(value));
                        }
                    }
                    0 => assert_eq!(map.remove(&key), model.remove(&key).map(|v| (key.clone(), v))),
                    1 if rng.one_in(2) => {
                        let (at, is_new) = map.find_or_insert(&key, || (key.clone(), step));
                        assert_eq!(is_new, !model.contains_key(&key));
                        assert_eq!(map.at(at).map(|e| e.1), Some(*model.entry(key).or_insert(step)));
                    }
                    1 => assert_eq!(map.get(&key).map(|e| e.1), model.get(&key).copied()),
                    _ => {
                        let before = model.insert(key.clone(), step);
                        assert_eq!(map.insert((key, step)).map(|e| e.1), before);
                    }
                }
            }
            map.assert_invariants();
            assert_eq!(map.len(), model.len());
            assert!(map.iter().all(|(key, value)| model.get(key) == Some(value)));
        }
    }
}
