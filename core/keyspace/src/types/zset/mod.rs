//! Sorted set values: members by name in a dense array, and an order of (score, name) over it.
//!
//! The array's order is that of insertion with swap-removal, as in every collection; the order over it follows from
//! scores and names alone. Scores compare as numbers, so `-0` equals `0`; it is kept as `0`, as Redis does in small sets.

mod order;

use std::cmp::Ordering;
use std::ops::Range;

use skep_base::varint::{self, Malformed, Reader};

use self::order::{Order, Pair};
use crate::dense::{DenseMap, Keyed};
use crate::keyspace::Encodings;
use crate::pieces::{Element, Elements, Frozen};
use crate::small::SmallBytes;
use crate::value::{Typed, Value, typed_access};

/// How many members [`Typed::heap_bytes`] looks at to judge how much names own.
const SAMPLE_MAX: usize = 16;

/// One member with its score.
#[derive(Clone)]
pub struct Member {
    pub name: SmallBytes,
    /// Never NaN.
    pub score: f64,
}

impl Keyed for Member {
    fn key(&self) -> &[u8] {
        &self.name
    }
}

impl Element for Member {
    fn encode(&self, out: &mut Vec<u8>) {
        varint::put_bytes(out, &self.name);
        out.extend_from_slice(&self.score.to_bits().to_le_bytes());
    }
}

/// The fewest bytes that a member is encoded in.
const ENCODED_MIN: usize = 9;

impl Member {
    /// By score, then by name. This is the order of a sorted set.
    pub fn compare(&self, score: f64, name: &[u8]) -> Ordering {
        compare_scores(self.score, score).then_with(|| self.name.as_slice().cmp(name))
    }
}

fn compare_scores(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).expect("scores are never NaN")
}

fn positive_zero(score: f64) -> f64 {
    score + 0.0
}

/// Members by name, and in order of (score, name).
#[derive(Clone, Default)]
pub struct ZSet {
    members: DenseMap<Member>,
    order: Order,
}

#[allow(clippy::len_without_is_empty)] // Typed has it
impl ZSet {
    /// A sorted set of these members, in their dense order; `-0` is kept (see [`ZSet::canonical`]). Panics on NaN. Cost: O(n log n).
    pub fn from_members(members: DenseMap<Member>) -> ZSet {
        let mut pairs: Vec<Pair> =
            members.iter().enumerate().map(|(at, m)| Pair { score: m.score, at: at as u32 }).collect();
        assert!(pairs.iter().all(|p| !{ p.score }.is_nan()), "a score is not a number");
        let name = |p: &Pair| members.at(p.at as usize).expect("a position from above").name.as_slice();
        pairs.sort_unstable_by(|a, b| compare_scores(a.score, b.score).then_with(|| name(a).cmp(name(b))));
        ZSet { members, order: Order::from_sorted(pairs) }
    }

    /// Turns every `-0` into `0`, as in a set built by insertion: for results that are stored.
    pub fn canonical(mut self) -> ZSet {
        for at in 0..self.members.len() {
            let member = self.members.at_mut(at).expect("below the length");
            member.score = positive_zero(member.score);
        }
        self
    }

    /// Members in dense order.
    pub fn members(&self) -> &DenseMap<Member> {
        &self.members
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    #[inline]
    pub fn score(&self, name: &[u8]) -> Option<f64> {
        self.members.get(name).map(|m| m.score)
    }

    /// Gives `name` the score, and its previous one back. An equal score leaves everything. Panics on NaN.
    ///
    /// Cost: O(log n).
    pub fn insert(&mut self, name: &[u8], score: f64) -> Option<f64> {
        match self.members.position(name) {
            Some(at) => Some(self.set_score(at, score)),
            None => {
                self.insert_new(name, score);
                None
            }
        }
    }

    /// Adds a member that is not in the set. Panics on NaN.
    pub fn insert_new(&mut self, name: &[u8], score: f64) {
        let score = positive_zero(score);
        assert!(!score.is_nan(), "score of {:?} is not a number", name.escape_ascii());
        let at = self.members.insert_new(Member { name: SmallBytes::new(name), score });
        let members = &self.members;
        self.order.insert(Pair { score, at: at as u32 }, |p| is_before(members, p, score, name));
    }

    /// Gives the member at a dense position the score, and its previous one back.
    pub fn set_score(&mut self, at: usize, score: f64) -> f64 {
        let score = positive_zero(score);
        assert!(!score.is_nan(), "score of member {at} is not a number");
        let member = self.members.at_mut(at).expect("the caller found the position");
        let old = member.score;
        if old == score {
            return old;
        }
        let members = &self.members;
        let name = &members.at(at).expect("found above").name;
        let pair = self.order.remove(|p| is_before(members, p, old, name));
        assert_eq!({ pair.at }, at as u32, "position of {name:?} in the order");
        self.order.insert(Pair { score, at: at as u32 }, |p| is_before(members, p, score, name));
        self.members.at_mut(at).expect("found above").score = score;
        old
    }

    /// Removes `name` and gives its score. Cost: O(log n).
    pub fn remove(&mut self, name: &[u8]) -> Option<f64> {
        let at = self.members.position(name)?;
        Some(self.remove_at(at).score)
    }

    /// Removes the member at `rank` in the order. Panics past the end. Cost: O(log n).
    pub fn remove_rank(&mut self, rank: usize) -> Member {
        let pair = self.order.iter(rank).next().expect("the rank lies within the set");
        self.remove_at(pair.at as usize)
    }

    /// How many members come before `name`. Cost: O(log n).
    pub fn rank(&self, name: &[u8]) -> Option<usize> {
        let score = self.score(name)?;
        Some(self.order.rank_where(|p| is_before(&self.members, p, score, name)))
    }

    /// How many members have scores that are `before`, which must hold for the low scores only. Cost: O(log n).
    pub fn rank_by_score(&self, before: impl Fn(f64) -> bool) -> usize {
        self.order.rank_where(|p| before(p.score))
    }

    /// How many members have names that are `before`, which must hold for the first ones only; meant for sets whose
    /// scores are all equal. Cost: O(log n).
    pub fn rank_by_name(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        self.order.rank_where(|p| before(&self.member(p).name))
    }

    /// Members of these ranks, in order, or the last first. Cost: O(log n) and O(1) per member.
    pub fn range(&self, ranks: Range<usize>, reverse: bool) -> impl Iterator<Item = &Member> {
        let forward = (!reverse).then(|| self.order.iter(ranks.start));
        let backward = reverse.then(|| self.order.iter_back(ranks.end));
        let pairs = forward.into_iter().flatten().chain(backward.into_iter().flatten());
        pairs.take(ranks.len()).map(|p| self.member(p))
    }

    /// What Redis would call the encoding of this value. Cost: O(1) for large sets.
    pub fn encoding(&self, limits: &Encodings) -> &'static str {
        let small = self.len() <= limits.zset_max_listpack_entries
            && self.members.iter().all(|m| m.name.len() <= limits.zset_max_listpack_value);
        if small { "listpack" } else { "skiplist" }
    }

    /// Panics if array and order disagree. Cost: O(n).
    pub fn assert_invariants(&self) {
        self.members.assert_invariants();
        assert_eq!(self.order.len(), self.members.len(), "members in the order");
        for pair in self.order.iter(0) {
            assert_eq!({ pair.score }, self.member(pair).score, "score of {:?}", self.member(pair).name);
        }
        self.order.assert_invariants(|a, b| self.member(a).compare(b.score, &self.member(b).name));
    }

    fn member(&self, pair: Pair) -> &Member {
        self.members.at(pair.at as usize).expect("the order holds positions of members")
    }

    /// Removes the member at a dense position; the last one moves there.
    fn remove_at(&mut self, at: usize) -> Member {
        let members = &self.members;
        let gone = members.at(at).expect("the caller found the position");
        self.order.remove(|p| is_before(members, p, gone.score, &gone.name));
        let last = members.len() - 1;
        if at != last {
            let moved = members.at(last).expect("the last of several");
            let pair = self.order.find_mut(|p| is_before(members, p, moved.score, &moved.name));
            pair.expect("every member is in the order").at = at as u32;
        }
        self.members.remove_at(at)
    }
}

/// True if the member of `pair` comes before (score, name). Looks at its name only if the scores are equal.
#[inline]
fn is_before(members: &DenseMap<Member>, pair: Pair, score: f64, name: &[u8]) -> bool {
    let other = pair.score;
    if other != score {
        return other < score;
    }
    members.at(pair.at as usize).is_some_and(|m| m.name.as_slice() < name)
}

impl FromIterator<Member> for ZSet {
    /// The first member of a name wins. Panics on NaN. Cost: O(n log n), faster than insertion one by one.
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> ZSet {
        let mut map: DenseMap<Member> = DenseMap::default();
        for member in members {
            if !map.contains(&member.name) {
                map.insert_new(member);
            }
        }
        ZSet::from_members(map)
    }
}

impl Typed for ZSet {
    typed_access!(ZSet, boxed);

    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn elements(&self) -> &dyn Elements {
        self.members.entries()
    }

    fn decode_elements(&mut self, count: usize, input: &mut Reader<'_>) -> Result<(), Malformed> {
        let mut members = Vec::with_capacity(count.min(input.left() / ENCODED_MIN));
        for _ in 0..count {
            let name = SmallBytes::new(input.bytes()?);
            let score = input.f64()?;
            if score.is_nan() {
                return input.malformed("a score that is a number");
            }
            members.push(Member { name, score });
        }
        if self.len() == 0 {
            *self = members.into_iter().collect();
            let all = self.len() == count;
            return if all { Ok(()) } else { input.malformed("no member twice in a sorted set") };
        }
        for Member { name, score } in members {
            if self.members.contains(&name) {
                return input.malformed("a member that is not in the sorted set yet");
            }
            let at = self.len();
            self.insert_new(&name, score);
            // As it was, even if it was -0.
            self.members.at_mut(at).expect("inserted above").score = score;
        }
        Ok(())
    }

    fn freeze(&mut self) -> Frozen {
        Box::new(self.members.entries().clone())
    }

    fn heap_bytes(&self) -> usize {
        let len = self.len();
        let step = (len / SAMPLE_MAX).max(1);
        let sample = self.members.iter().step_by(step);
        let (seen, owned) = sample.fold((0, 0), |(n, bytes), m| (n + 1, bytes + m.name.heap_bytes()));
        self.members.heap_bytes() + self.order.heap_bytes() + (owned * len).checked_div(seen).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::Rng;
    use std::collections::BTreeMap;

    /// The obvious sorted set.
    #[derive(Default)]
    struct Model(BTreeMap<Vec<u8>, f64>);

    impl Model {
        fn sorted(&self) -> Vec<(Vec<u8>, f64)> {
            let mut all: Vec<_> = self.0.iter().map(|(name, score)| (name.clone(), *score)).collect();
            all.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap());
            all
        }
    }

    fn listed<'a>(members: impl Iterator<Item = &'a Member>) -> Vec<(Vec<u8>, f64)> {
        members.map(|m| (m.name.to_vec(), m.score)).collect()
    }

    fn check(zset: &ZSet, model: &Model, rng: &mut Rng) {
        zset.assert_invariants();
        let sorted = model.sorted();
        assert_eq!(listed(zset.range(0..zset.len(), false)), sorted);
        let from = rng.below(sorted.len() as u64 + 1) as usize;
        let to = from + rng.below((sorted.len() - from) as u64 + 1) as usize;
        assert_eq!(listed(zset.range(from..to, false)), sorted[from..to]);
        let mut back = listed(zset.range(from..to, true));
        back.reverse();
        assert_eq!(back, sorted[from..to]);
        for (rank, (name, score)) in sorted.iter().enumerate() {
            assert_eq!(zset.rank(name), Some(rank));
            assert_eq!(zset.score(name), Some(*score));
        }
        let bound = rng.below(12) as f64 - 1.0;
        assert_eq!(zset.rank_by_score(|s| s < bound), sorted.iter().filter(|m| m.1 < bound).count());
    }

    #[test]
    fn behaves_as_a_sorted_list_under_random_operations() {
        for seed in 0..30 {
            let mut rng = Rng::new(seed);
            let mut zset = ZSet::default();
            let mut model = Model::default();
            let names = [20, 300, 3_000][seed as usize % 3];
            let scores = [1, 10, 1_000_000][(seed / 3) as usize % 3];
            for step in 0..6_000 {
                // Grows for a while, then shrinks.
                let removing = if step < 4_000 { rng.one_in(4) } else { !rng.one_in(5) };
                let name = format!("member-{}", rng.below(names)).into_bytes();
                let score = rng.below(scores) as f64;
                if removing && rng.one_in(2) && zset.len() > 0 {
                    let rank = rng.below(zset.len() as u64) as usize;
                    let gone = zset.remove_rank(rank);
                    assert_eq!(model.0.remove(gone.name.as_slice()), Some(gone.score));
                } else if removing {
                    assert_eq!(zset.remove(&name), model.0.remove(&name));
                } else {
                    assert_eq!(zset.insert(&name, score), model.0.insert(name, score));
                }
                if step % 500 == 0 {
                    check(&zset, &model, &mut rng);
                }
            }
            check(&zset, &model, &mut rng);
            let mut bytes = Vec::new();
            zset.encode(&mut bytes);
            let back = ZSet::decode(&mut Reader::new(&bytes)).unwrap();
            check(&back, &model, &mut rng);
            let mut again = Vec::new();
            back.encode(&mut again);
            assert_eq!(again, bytes, "dense order survives");
        }
    }

    #[test]
    fn large_sets_split_into_groups_and_join_again() {
        for descending in [false, true] {
            let count = 200_000u32;
            let mut zset = ZSet::default();
            for i in 0..count {
                let i = if descending { count - 1 - i } else { i };
                zset.insert(&i.to_be_bytes(), f64::from(i / 10));
            }
            zset.assert_invariants();
            assert_eq!(zset.rank(&123_456u32.to_be_bytes()), Some(123_456));
            let mut rng = Rng::new(1);
            while zset.len() > 100 {
                let rank = rng.below(zset.len() as u64) as usize;
                zset.remove_rank(rank);
                if zset.len() % 40_000 == 0 {
                    zset.assert_invariants();
                }
            }
            zset.assert_invariants();
        }
    }

    #[test]
    fn negative_zero_equals_zero_and_is_kept_as_zero() {
        let mut zset = ZSet::default();
        zset.insert(b"b", -0.0);
        zset.insert(b"a", 0.0);
        assert_eq!(zset.rank(b"a"), Some(0));
        assert_eq!(zset.insert(b"a", -0.0), Some(0.0));
        assert!(zset.members().iter().all(|m| m.score.is_sign_positive()));
        let minus = || Member { name: SmallBytes::new(b"a"), score: -0.0 };
        let made: ZSet = [minus()].into_iter().collect();
        assert!(made.score(b"a").is_some_and(f64::is_sign_negative));
        assert!(made.canonical().score(b"a").is_some_and(f64::is_sign_positive));
    }

    #[test]
    fn a_set_read_in_pieces_is_the_set_read_at_once() {
        let member =
            |i: u8| Member { name: SmallBytes::new(&[i]), score: [2.0, -0.0, 1.0, 0.0][usize::from(i % 4)] };
        let zset: ZSet = (0..9).map(member).collect();
        let (mut front, mut back, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        let next = zset.elements().encode_from(0, 20, &mut front);
        assert_eq!(zset.elements().encode_from(next, usize::MAX, &mut back), 9);
        let mut copy = ZSet::default();
        copy.decode_elements(next, &mut Reader::new(&front)).unwrap();
        copy.decode_elements(9 - next, &mut Reader::new(&back)).unwrap();
        copy.assert_invariants();
        copy.elements().encode_from(0, usize::MAX, &mut whole);
        assert_eq!(whole, [front.clone(), back.clone()].concat());
        assert!(copy.decode_elements(9 - next, &mut Reader::new(&back)).is_err(), "members come once");
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let zset: ZSet =
            (0..5u8).map(|i| Member { name: SmallBytes::new(&[i]), score: f64::from(i) }).collect();
        let mut bytes = Vec::new();
        zset.encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(ZSet::decode(&mut Reader::new(&bytes[..cut])).is_err(), "cut at {cut}");
        }
        let twice = [2, 1, b'a', 0, 0, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(ZSet::decode(&mut Reader::new(&twice)).is_err());
    }
}
