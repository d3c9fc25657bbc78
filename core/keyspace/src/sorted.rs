//! A sorted map in leaves that copies share.
//!
//! A sorted array cut into leaves of up to [`LEAF_MAX`] entries. A clone costs a pointer for each leaf, and whoever changes a
//! shared leaf copies that one first, so that a cut can hold a large map as it was while commands go on changing it. Made
//! for keys that mostly come in ascending order and go in any: a leaf at the end is filled before the next is begun. How
//! entries are spread over leaves is invisible.

use std::borrow::Borrow;
use std::sync::Arc;

/// Entries in a leaf. Shifting half of one takes about a microsecond; holding 10 million entries 20,000 pointers.
const LEAF_MAX: usize = 512;

#[derive(Clone)]
pub(crate) struct Sorted<K, V> {
    /// None is empty.
    leaves: Vec<Arc<Vec<(K, V)>>>,
    len: usize,
}

/// Where an entry lies, or would: a leaf and an index in it. Valid until the map is changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct Place {
    leaf: usize,
    index: usize,
}

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Sorted<K, V> {
        Sorted { leaves: Vec::new(), len: 0 }
    }
}

impl<K, V> Sorted<K, V> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// The entry at `place`; `None` behind the last.
    #[inline]
    pub fn at(&self, place: Place) -> Option<(&K, &V)> {
        self.leaves.get(place.leaf)?.get(place.index).map(|(key, value)| (key, value))
    }

    /// The place behind `place`, at which there is an entry.
    #[inline]
    pub fn after(&self, place: Place) -> Place {
        if place.index + 1 < self.leaves[place.leaf].len() {
            Place { index: place.index + 1, ..place }
        } else {
            Place { leaf: place.leaf + 1, index: 0 }
        }
    }

    /// The place in front of `place`, if there is one.
    #[inline]
    pub fn before(&self, place: Place) -> Option<Place> {
        if place.index > 0 {
            return Some(Place { index: place.index - 1, ..place });
        }
        let leaf = place.leaf.checked_sub(1)?;
        Some(Place { leaf, index: self.leaves[leaf].len() - 1 })
    }

    /// The place behind the last entry.
    pub fn end(&self) -> Place {
        Place { leaf: self.leaves.len(), index: 0 }
    }

    pub fn first(&self) -> Option<(&K, &V)> {
        self.at(Place::default())
    }

    pub fn last(&self) -> Option<(&K, &V)> {
        let (key, value) = self.leaves.last()?.last()?;
        Some((key, value))
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.leaves.iter().flat_map(|leaf| leaf.iter()).map(|(key, value)| (key, value))
    }

    /// The entries from `place` on.
    pub fn from(&self, place: Place) -> impl Iterator<Item = (&K, &V)> {
        let (head, rest) = match self.leaves.get(place.leaf) {
            Some(leaf) => (&leaf[place.index..], &self.leaves[place.leaf + 1..]),
            None => (&[][..], &[][..]),
        };
        head.iter().chain(rest.iter().flat_map(|leaf| leaf.iter())).map(|(key, value)| (key, value))
    }

    /// Bytes allocated, without what keys and values own: leaves are taken to be three quarters full.
    pub fn heap_bytes(&self) -> usize {
        let full = self.len * size_of::<(K, V)>();
        self.leaves.capacity() * size_of::<Arc<Vec<(K, V)>>>() + full + full / 3
    }
}

impl<K: Ord, V> Sorted<K, V> {
    /// The place of the first entry that is not below `key`.
    ///
    /// Cost: O(log n), as for everything that takes a key.
    pub fn lower_bound<Q: Ord + ?Sized>(&self, key: &Q) -> Place
    where
        K: Borrow<Q>,
    {
        let below = |entry: &(K, V)| entry.0.borrow() < key;
        let leaf = self.leaves.partition_point(|leaf| leaf.last().is_some_and(below));
        let index = self.leaves.get(leaf).map_or(0, |entries| entries.partition_point(below));
        Place { leaf, index }
    }

    /// The place of the last entry that is not above `key`.
    pub fn floor<Q: Ord + ?Sized>(&self, key: &Q) -> Option<Place>
    where
        K: Borrow<Q>,
    {
        let place = self.lower_bound(key);
        match self.at(place) {
            Some((found, _)) if found.borrow() == key => Some(place),
            _ => self.before(place),
        }
    }

    #[inline]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (found, value) = self.at(self.lower_bound(key))?;
        (found.borrow() == key).then_some(value)
    }
}

impl<K: Ord + Clone, V: Clone> Sorted<K, V> {
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.lower_bound(key);
        self.at(place).filter(|(found, _)| (*found).borrow() == key)?;
        Some(self.value_mut(place))
    }

    /// The value at `place`, which must be there.
    pub fn value_mut(&mut self, place: Place) -> &mut V {
        &mut Arc::make_mut(&mut self.leaves[place.leaf])[place.index].1
    }

    pub fn last_mut(&mut self) -> Option<&mut V> {
        let (_, value) = Arc::make_mut(self.leaves.last_mut()?).last_mut()?;
        Some(value)
    }

    /// Sets `key` to `value`; gives what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let mut place = self.lower_bound(&key);
        if let Some((found, _)) = self.at(place)
            && *found == key
        {
            return Some(std::mem::replace(self.value_mut(place), value));
        }
        self.len += 1;
        if place.leaf == self.leaves.len() {
            // Behind everything: into the last leaf while it has room.
            match self.leaves.last() {
                Some(last) if last.len() < LEAF_MAX => {
                    place = Place { leaf: place.leaf - 1, index: last.len() };
                }
                _ => {
                    self.leaves.push(Arc::new(vec![(key, value)]));
                    return None;
                }
            }
        }
        let leaf = Arc::make_mut(&mut self.leaves[place.leaf]);
        if leaf.len() < LEAF_MAX {
            leaf.insert(place.index, (key, value));
            return None;
        }
        let mut upper = leaf.split_off(LEAF_MAX / 2);
        match place.index.checked_sub(LEAF_MAX / 2) {
            Some(index) => upper.insert(index, (key, value)),
            None => leaf.insert(place.index, (key, value)),
        }
        self.leaves.insert(place.leaf + 1, Arc::new(upper));
        None
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.lower_bound(key);
        self.at(place).filter(|(found, _)| (*found).borrow() == key)?;
        Some(self.remove_at(place).1)
    }

    /// Removes the entry at `place`, which must be there. The next one, if there is one, is the first not below its key.
    pub fn remove_at(&mut self, place: Place) -> (K, V) {
        let leaf = Arc::make_mut(&mut self.leaves[place.leaf]);
        let entry = leaf.remove(place.index);
        self.len -= 1;
        if leaf.is_empty() {
            self.leaves.remove(place.leaf);
        } else if leaf.len() < LEAF_MAX / 4 {
            self.merge(place.leaf);
        }
        entry
    }

    /// Joins the leaf at `at`, which holds little, with a neighbour if both fit into half of one.
    fn merge(&mut self, at: usize) {
        let fits = |at: usize| {
            let both = self.leaves.get(at).zip(self.leaves.get(at + 1));
            both.is_some_and(|(one, other)| one.len() + other.len() <= LEAF_MAX / 2)
        };
        let Some(first) = [at.checked_sub(1), Some(at)].into_iter().flatten().find(|at| fits(*at)) else {
            return;
        };
        let second = Arc::unwrap_or_clone(self.leaves.remove(first + 1));
        Arc::make_mut(&mut self.leaves[first]).extend(second);
    }

    /// Panics if the order or a count is wrong.
    pub fn assert_invariants(&self)
    where
        K: std::fmt::Debug,
    {
        assert_eq!(self.leaves.iter().map(|l| l.len()).sum::<usize>(), self.len, "entries in leaves");
        assert!(self.leaves.iter().all(|l| (1..=LEAF_MAX).contains(&l.len())), "a leaf is empty or too long");
        let mut previous: Option<&K> = None;
        for (key, _) in self.iter() {
            assert!(previous.is_none_or(|p| p < key), "{previous:?} in front of {key:?}");
            previous = Some(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::Rng;
    use std::collections::BTreeMap;

    fn agrees(sorted: &Sorted<u64, u64>, model: &BTreeMap<u64, u64>) {
        sorted.assert_invariants();
        assert_eq!(sorted.len(), model.len());
        assert!(sorted.iter().eq(model.iter()));
    }

    #[test]
    fn behaves_as_a_map_while_copies_keep_what_they_hold() {
        for seed in 0..12 {
            let mut rng = Rng::new(seed);
            let (mut sorted, mut model) = (Sorted::default(), BTreeMap::new());
            let mut copies = Vec::new();
            let mut next = 0;
            for step in 0..12_000u64 {
                let shrinks = step / 3_000 % 2 == 1;
                let key = rng.below(next + 2);
                match rng.below(if shrinks { 8 } else { 4 }) {
                    0 | 1 => {
                        next += 1 + rng.below(3);
                        assert_eq!(sorted.insert(next, step), model.insert(next, step));
                    }
                    2 => assert_eq!(sorted.insert(key, step), model.insert(key, step)),
                    3 => {
                        assert_eq!(sorted.get(&key), model.get(&key));
                        assert_eq!(sorted.get_mut(&key).copied(), model.get(&key).copied());
                        let floor = sorted.floor(&key).and_then(|place| sorted.at(place));
                        assert_eq!(floor, model.range(..=key).next_back());
                        let place = sorted.lower_bound(&key);
                        assert!(sorted.from(place).take(700).eq(model.range(key..).take(700)));
                        if let Some(before) = sorted.before(place) {
                            assert_eq!(sorted.after(before), place);
                        }
                    }
                    4 => {
                        if let Some((first, _)) = sorted.first() {
                            assert_eq!(model.pop_first().map(|(k, _)| k), Some(*first));
                            sorted.remove_at(Place::default());
                        }
                    }
                    _ => assert_eq!(sorted.remove(&key), model.remove(&key)),
                }
                if rng.one_in(2_000) {
                    copies.push((sorted.clone(), model.clone()));
                }
            }
            agrees(&sorted, &model);
            assert_eq!(sorted.last(), model.last_key_value());
            copies.iter().for_each(|(sorted, model)| agrees(sorted, model));
        }
    }

    #[test]
    fn ascending_keys_fill_their_leaves() {
        let mut sorted = Sorted::default();
        for key in 0..10_000u64 {
            sorted.insert(key, ());
        }
        assert_eq!(sorted.leaves.len(), 10_000_usize.div_ceil(LEAF_MAX));
    }
}
