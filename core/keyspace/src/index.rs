//! Positions by hash, in tables of which none is large: growing or shrinking moves a few thousand positions at once.
//!
//! Up to [`ONE_MAX`] positions are one table. More are spread over many by linear hashing (Litwin 1980): with every so many
//! positions one table more is made, of half of the table whose turn it is, so that no step looks at all of them.

use hashbrown::HashTable;

/// The most positions in a single table.
const ONE_MAX: usize = 4096;
/// Positions for each of many tables, on average. None has many more than twice as many.
const EACH: usize = 256;
/// The bits of a hash that choose the table: neither the lowest, which choose the place in it, nor the highest seven, by which
/// hashbrown tells neighbours apart.
const CHOOSING_BITS_FROM: u32 = 24;

/// Positions in an array by the hash of what lies there. The hash of what is inside is asked for when tables grow.
#[derive(Clone)]
pub(crate) struct Index(Form);

#[derive(Clone)]
enum Form {
    One(HashTable<u32>),
    Many(Box<Many>),
}

#[derive(Clone)]
struct Many {
    /// From `ONE_MAX / EACH` on.
    tables: Vec<HashTable<u32>>,
    len: usize,
}

const _: () = assert!(size_of::<Index>() == size_of::<HashTable<u32>>());

impl Default for Index {
    fn default() -> Index {
        Index(Form::One(HashTable::new()))
    }
}

impl Index {
    /// An index of the positions below `len`.
    pub fn of(len: usize, hash_at: impl Fn(u32) -> u64) -> Index {
        let mut index = Index(Form::One(HashTable::with_capacity(len.min(ONE_MAX) + 1)));
        (0..len as u32).for_each(|at| index.insert(hash_at(at), at, &hash_at));
        index
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Form::One(table) => table.is_empty(),
            Form::Many(_) => false,
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::One(table) => table.len(),
            Form::Many(many) => many.len,
        }
    }

    /// The position under `hash` that `is_it`.
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let table = match &self.0 {
            Form::One(table) => table,
            Form::Many(many) => &many.tables[many.choose(hash)],
        };
        table.find(hash, |at| is_it(*at)).copied()
    }

    /// Adds a position that is not in the index.
    #[inline]
    pub fn insert(&mut self, hash: u64, at: u32, hash_at: impl Fn(u32) -> u64) {
        match &mut self.0 {
            Form::One(table) if table.len() < ONE_MAX => {
                table.insert_unique(hash, at, |at| hash_at(*at));
            }
            Form::One(table) => {
                let mut many = Many::of(std::mem::take(table), &hash_at);
                many.insert(hash, at, &hash_at);
                self.0 = Form::Many(Box::new(many));
            }
            Form::Many(many) => many.insert(hash, at, &hash_at),
        }
    }

    /// Puts `new` in the place of the position `old`. Panics if that is not there.
    #[inline]
    pub fn replace(&mut self, hash: u64, old: u32, new: u32) {
        match self.table_mut(hash).find_mut(hash, |at| *at == old) {
            Some(at) => *at = new,
            None => panic!("position {old} is not in the index"),
        }
    }

    /// Removes a position. Panics if it is not there. What is left must not include it for `hash_at`.
    #[inline]
    pub fn remove(&mut self, hash: u64, at: u32) {
        match self.table_mut(hash).find_entry(hash, |other| *other == at) {
            Ok(found) => drop(found.remove()),
            Err(_) => panic!("position {at} is not in the index"),
        }
        if let Form::Many(many) = &mut self.0 {
            many.len -= 1;
        }
    }

    /// Gives memory back after removals, a little at a time.
    #[inline]
    pub fn settle(&mut self, hash_at: impl Fn(u32) -> u64) {
        match &mut self.0 {
            Form::One(table) => {
                if table.capacity() > 64 && table.len() < table.capacity() / 4 {
                    table.shrink_to(table.len() + table.len() / 4, |at| hash_at(*at));
                }
            }
            Form::Many(many) if many.len <= ONE_MAX / 2 => {
                let mut one = HashTable::with_capacity(ONE_MAX / 2 + ONE_MAX / 8);
                for at in many.tables.iter().flatten() {
                    one.insert_unique(hash_at(*at), *at, |at| hash_at(*at));
                }
                self.0 = Form::One(one);
            }
            Form::Many(many) => many.settle(&hash_at),
        }
    }

    /// Bytes allocated.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::One(table) => table.allocation_size(),
            Form::Many(many) => {
                // All tables are alike, and there may be thousands.
                const SAMPLES: usize = 8;
                let sample = many.tables.iter().take(SAMPLES).map(HashTable::allocation_size).sum::<usize>();
                let tables = many.tables.len() * sample / many.tables.len().min(SAMPLES);
                size_of::<Many>() + many.tables.capacity() * size_of::<HashTable<u32>>() + tables
            }
        }
    }

    #[inline]
    fn table_mut(&mut self, hash: u64) -> &mut HashTable<u32> {
        match &mut self.0 {
            Form::One(table) => table,
            Form::Many(many) => {
                let chosen = many.choose(hash);
                &mut many.tables[chosen]
            }
        }
    }
}

impl Many {
    fn of(one: HashTable<u32>, hash_at: &impl Fn(u32) -> u64) -> Many {
        let tables = vec![HashTable::with_capacity(EACH * 5 / 4); ONE_MAX / EACH];
        let mut many = Many { tables, len: one.len() };
        many.distribute(one, hash_at);
        many
    }

    /// The table for `hash`: by as many bits as number all tables, or by one less where that table is not made yet.
    #[inline]
    fn choose(&self, hash: u64) -> usize {
        let bits = (hash >> CHOOSING_BITS_FROM) as usize;
        let round = self.tables.len().next_power_of_two();
        match bits & (round - 1) {
            made if made < self.tables.len() => made,
            not_made => not_made & (round / 2 - 1),
        }
    }

    fn insert(&mut self, hash: u64, at: u32, hash_at: &impl Fn(u32) -> u64) {
        if self.len >= self.tables.len() * EACH {
            // The table whose number is the same without the highest bit.
            let origin = self.tables.len() - (1 << self.tables.len().ilog2());
            let half = self.tables[origin].len() * 5 / 8;
            let divided = std::mem::replace(&mut self.tables[origin], HashTable::with_capacity(half));
            self.tables.push(HashTable::with_capacity(half));
            self.distribute(divided, hash_at);
        }
        let chosen = self.choose(hash);
        self.tables[chosen].insert_unique(hash, at, |at| hash_at(*at));
        self.len += 1;
    }

    /// Joins the last table with its origin when there are more tables than needed.
    fn settle(&mut self, hash_at: &impl Fn(u32) -> u64) {
        if self.len < self.tables.len() * EACH / 2
            && self.tables.len() > ONE_MAX / EACH
            && let Some(last) = self.tables.pop()
        {
            self.distribute(last, hash_at);
        }
    }

    fn distribute(&mut self, positions: HashTable<u32>, hash_at: &impl Fn(u32) -> u64) {
        for at in positions {
            let hash = hash_at(at);
            let chosen = self.choose(hash);
            self.tables[chosen].insert_unique(hash, at, |at| hash_at(*at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::hash;

    fn hash_at(at: u32) -> u64 {
        hash::seeded(1, &at.to_le_bytes())
    }

    fn holds(index: &Index, positions: std::ops::Range<u32>) {
        assert_eq!(index.len(), positions.len());
        for at in positions.clone() {
            assert_eq!(index.find(hash_at(at), |found| found == at), Some(at));
        }
        assert_eq!(index.find(hash_at(positions.end), |found| found == positions.end), None);
    }

    fn tables(index: &Index) -> &[HashTable<u32>] {
        match &index.0 {
            Form::One(table) => std::slice::from_ref(table),
            Form::Many(many) => &many.tables,
        }
    }

    #[test]
    fn grows_and_shrinks_by_one_table_at_a_time() {
        const COUNT: u32 = 100_000;
        let mut index = Index::default();
        for at in 0..COUNT {
            let before = tables(&index).len();
            index.insert(hash_at(at), at, hash_at);
            let after = tables(&index).len();
            assert!(after <= before + 1 || before == 1, "{before} tables, then {after}");
            if at.is_multiple_of(9_973) {
                holds(&index, 0..at + 1);
            }
        }
        holds(&index, 0..COUNT);
        assert_eq!(tables(&index).len(), COUNT.div_ceil(EACH as u32) as usize);
        let largest = tables(&index).iter().map(HashTable::len).max();
        assert!(largest < Some(5 * EACH / 2), "{largest:?} positions in one table");
        for at in (0..COUNT).rev() {
            index.remove(hash_at(at), at);
            index.settle(hash_at);
            if at.is_multiple_of(9_973) {
                holds(&index, 0..at);
            }
        }
        assert!(index.is_empty() && tables(&index).len() == 1);
    }

    #[test]
    fn a_position_may_be_replaced() {
        for count in [10, 20_000u32] {
            let mut index = Index::of(count as usize, hash_at);
            let fresh = count + 5;
            index.replace(hash_at(3), 3, fresh);
            assert_eq!(index.find(hash_at(3), |found| found == fresh), Some(fresh));
            assert_eq!(index.find(hash_at(3), |found| found == 3), None);
            assert_eq!(index.len(), count as usize);
        }
    }
}
