//! A map whose order is part of its value: entries in a dense array, positions in a hash index beside it.
//!
//! Random choice by position, SCAN cursors and checkpoints all follow the array, which depends only on the operations
//! done, never on the hash. So two replicas that applied the same operations agree on every "random" member, and a
//! replica restored from a checkpoint (entries in order) goes on exactly as the original would.

use hashbrown::HashTable;
use skep_base::hash;

/// Up to this many entries are found by a walk: no index, and two cache lines at most for the common small hash.
const UNINDEXED_MAX: usize = 8;

/// An entry of a [`DenseMap`]: it knows its key, which never changes while the entry is in the map.
pub trait Keyed {
    fn key(&self) -> &[u8];
}

/// Entries by key, in a dense array. Removal moves the last entry into the gap.
#[derive(Clone)]
pub struct DenseMap<E> {
    entries: Vec<E>,
    /// Positions by hash of the key; empty while the map is small.
    index: HashTable<u32>,
}

impl<E> Default for DenseMap<E> {
    fn default() -> DenseMap<E> {
        DenseMap { entries: Vec::new(), index: HashTable::new() }
    }
}

impl<E: Keyed> DenseMap<E> {
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
        self.position(key).map(|at| &self.entries[at])
    }

    /// The caller must not change the entry's key.
    #[inline]
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut E> {
        self.position(key).map(|at| &mut self.entries[at])
    }

    /// Where `key` lies in the array. Holds until the next insertion or removal.
    #[inline]
    pub fn position(&self, key: &[u8]) -> Option<usize> {
        if self.index.is_empty() {
            return self.entries.iter().position(|e| e.key() == key);
        }
        self.index.find(hash::of(key), |at| self.entries[*at as usize].key() == key).map(|at| *at as usize)
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
    pub fn iter(&self) -> std::slice::Iter<'_, E> {
        self.entries.iter()
    }

    /// Puts `entry` in, in place of the one with its key if there is one, which is given back.
    pub fn insert(&mut self, entry: E) -> Option<E> {
        match self.position(entry.key()) {
            Some(at) => Some(std::mem::replace(&mut self.entries[at], entry)),
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
        match self.index.find(hash, |at| self.entries[*at as usize].key() == key) {
            Some(at) => (*at as usize, false),
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
            self.rebuild_index();
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
        let last = self.entries.len() - 1;
        if !self.index.is_empty() {
            let gone = hash::of(self.entries[at].key());
            match self.index.find_entry(gone, |p| *p as usize == at) {
                Ok(found) => drop(found.remove()),
                Err(_) => panic!("position {at} is not in the index"),
            }
            if at != last {
                let moved = hash::of(self.entries[last].key());
                match self.index.find_mut(moved, |p| *p as usize == last) {
                    Some(position) => *position = at as u32,
                    None => panic!("position {last} is not in the index"),
                }
            }
        }
        let entry = self.entries.swap_remove(at);
        self.give_back_memory();
        entry
    }

    /// Bytes allocated for the array and the index, without what the entries own.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<E>() + self.index.allocation_size()
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

    fn append_indexed(&mut self, entry: E, hash: u64) -> usize {
        let at = self.append(entry);
        let entries = &self.entries;
        self.index.insert_unique(hash, at as u32, |p| hash::of(entries[*p as usize].key()));
        at
    }

    fn append(&mut self, entry: E) -> usize {
        let at = self.entries.len();
        assert!(at < u32::MAX as usize, "a map of {at} entries is full");
        if at == self.entries.capacity() {
            // A quarter more, not double: for most keys the table is the memory, and a slot is small.
            self.entries.reserve_exact((at / 4).max(4));
        }
        self.entries.push(entry);
        at
    }

    fn rebuild_index(&mut self) {
        let entries = &self.entries;
        let mut index = HashTable::with_capacity(entries.len() + 1);
        for (at, entry) in entries.iter().enumerate() {
            index.insert_unique(hash::of(entry.key()), at as u32, |p: &u32| {
                hash::of(entries[*p as usize].key())
            });
        }
        self.index = index;
    }

    /// After a removal: drops the index of a map that became empty, shrinks an array that is mostly air.
    fn give_back_memory(&mut self) {
        let len = self.entries.len();
        if len == 0 {
            *self = DenseMap::default();
        } else if self.entries.capacity() > 64 && len < self.entries.capacity() / 4 {
            self.entries.shrink_to(len + len / 4);
            let entries = &self.entries;
            self.index.shrink_to(len + len / 4, |p| hash::of(entries[*p as usize].key()));
        }
    }
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
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let mut map = DenseMap::default();
            let mut model = BTreeMap::new();
            let keys = 1 + rng.below(200);
            for step in 0..2_000 {
                let key = format!("k{}", rng.below(keys)).into_bytes();
                match rng.below(3) {
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
        }
    }
}
