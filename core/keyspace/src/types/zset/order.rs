//! The order of a sorted set: scores with positions in the member array, sorted by (score, name), with ranks.
//!
//! A sorted array cut into leaves, and leaves gathered in groups: an order-statistic tree of fixed height. Scores lie in
//! the leaves, so that a search looks a name up only where scores are equal. Order depends on scores and names alone;
//! how the pairs are spread over leaves is invisible.

use std::cmp::Ordering;

/// Pairs in a leaf. 3 KiB to shift at an insertion; a set of up to so many members is a single leaf.
const LEAF_MAX: usize = 256;
/// Leaves in a group: 10 million members make about 200 groups.
const GROUP_MAX: usize = 256;

/// One member's place in the order.
#[derive(Clone, Copy)]
#[repr(C, packed(4))]
pub struct Pair {
    pub score: f64,
    /// Position in the member array.
    pub at: u32,
}

const _: () = assert!(size_of::<Pair>() == 12);

type Leaf = Vec<Pair>;

#[derive(Clone)]
struct Group {
    /// Pairs in all leaves.
    len: usize,
    /// None is empty.
    leaves: Vec<Leaf>,
}

/// All pairs in order.
#[derive(Clone)]
pub struct Order(Form);

#[derive(Clone)]
enum Form {
    Single(Leaf),
    /// No group is empty.
    Groups(Vec<Group>),
}

impl Default for Order {
    fn default() -> Order {
        Order(Form::Single(Vec::new()))
    }
}

/// Where a pair is, or where one could be put: group, leaf, index in the leaf.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    group: usize,
    leaf: usize,
    index: usize,
}

impl Order {
    /// Builds the order of pairs that are sorted already.
    pub fn from_sorted(pairs: Vec<Pair>) -> Order {
        if pairs.len() <= LEAF_MAX {
            return Order(Form::Single(pairs));
        }
        let fill = LEAF_MAX - LEAF_MAX / 8; // room for insertions before the first splits
        let leaves: Vec<Leaf> = pairs.chunks(fill).map(<[Pair]>::to_vec).collect();
        Order(Form::Groups(leaves.chunks(GROUP_MAX / 2).map(|l| Group::new(l.to_vec())).collect()))
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Single(leaf) => leaf.len(),
            Form::Groups(groups) => groups.iter().map(|g| g.len).sum(),
        }
    }

    /// How many leading pairs are `before` the place looked for; `before` must hold for a front part of the order only.
    ///
    /// Cost: O(log n) calls.
    pub fn rank_where(&self, before: impl Fn(Pair) -> bool) -> usize {
        match &self.0 {
            Form::Single(leaf) => leaf.partition_point(|p| before(*p)),
            Form::Groups(groups) => {
                let place = find(groups, before);
                let whole: usize = groups[..place.group].iter().map(|g| g.len).sum();
                let leaves = groups.get(place.group).map_or(&[][..], |g| &g.leaves[..place.leaf]);
                whole + leaves.iter().map(Vec::len).sum::<usize>() + place.index
            }
        }
    }

    /// The pair at the place that `before` leads to, if there is one.
    pub fn find_mut(&mut self, before: impl Fn(Pair) -> bool) -> Option<&mut Pair> {
        match &mut self.0 {
            Form::Single(leaf) => {
                let at = leaf.partition_point(|p| before(*p));
                leaf.get_mut(at)
            }
            Form::Groups(groups) => {
                let place = occupied(groups, find(groups, before))?;
                Some(&mut groups[place.group].leaves[place.leaf][place.index])
            }
        }
    }

    /// Puts `pair` behind the pairs that are `before` it.
    pub fn insert(&mut self, pair: Pair, before: impl Fn(Pair) -> bool) {
        match &mut self.0 {
            Form::Single(leaf) if leaf.len() < LEAF_MAX => {
                let at = leaf.partition_point(|p| before(*p));
                insert_into(leaf, at, pair);
            }
            Form::Single(leaf) => {
                let leaf = std::mem::take(leaf);
                self.0 = Form::Groups(vec![Group::new(vec![leaf])]);
                self.insert(pair, before);
            }
            Form::Groups(groups) => insert_into_groups(groups, pair, before),
        }
    }

    /// Removes the pair at the place that `before` leads to. Panics if that is the end.
    pub fn remove(&mut self, before: impl Fn(Pair) -> bool) -> Pair {
        match &mut self.0 {
            Form::Single(leaf) => {
                let at = leaf.partition_point(|p| before(*p));
                remove_from(leaf, at)
            }
            Form::Groups(groups) => {
                let place =
                    occupied(groups, find(groups, before)).expect("the caller looks for a pair in the order");
                let pair = remove_from_groups(groups, place);
                if groups.len() == 1 && groups[0].len <= LEAF_MAX / 2 {
                    self.0 = Form::Single(groups[0].leaves.concat());
                }
                pair
            }
        }
    }

    /// Pairs from `rank` on, in order. Cost: O(log n) and O(1) per pair.
    pub fn iter(&self, rank: usize) -> impl Iterator<Item = Pair> {
        let (leaf, groups, place) = match &self.0 {
            Form::Single(leaf) => (&leaf[rank.min(leaf.len())..], &[][..], None),
            Form::Groups(groups) => (&[][..], &groups[..], locate(groups, rank)),
        };
        let from = place.map(|place| {
            let first = groups[place.group].leaves[place.leaf][place.index..].iter();
            let rest = groups[place.group].leaves[place.leaf + 1..].iter().flatten();
            first.chain(rest).chain(groups[place.group + 1..].iter().flat_map(|g| g.leaves.iter().flatten()))
        });
        leaf.iter().chain(from.into_iter().flatten()).copied()
    }

    /// Pairs below `rank`, the last first. Cost: O(log n) and O(1) per pair.
    pub fn iter_back(&self, rank: usize) -> impl Iterator<Item = Pair> {
        let (leaf, groups, place) = match &self.0 {
            Form::Single(leaf) => (&leaf[..rank.min(leaf.len())], &[][..], None),
            Form::Groups(groups) => {
                (&[][..], &groups[..], rank.checked_sub(1).and_then(|r| locate(groups, r)))
            }
        };
        let from = place.map(|place| {
            let first = groups[place.group].leaves[place.leaf][..=place.index].iter().rev();
            let rest = groups[place.group].leaves[..place.leaf].iter().rev().flat_map(|l| l.iter().rev());
            let before = groups[..place.group].iter().rev();
            first.chain(rest).chain(before.flat_map(|g| g.leaves.iter().rev().flat_map(|l| l.iter().rev())))
        });
        leaf.iter().rev().chain(from.into_iter().flatten()).copied()
    }

    /// Bytes allocated. Cost: O(groups).
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Single(leaf) => leaf.capacity() * size_of::<Pair>(),
            Form::Groups(groups) => {
                let tables: usize = groups.iter().map(|g| g.leaves.capacity() * size_of::<Leaf>()).sum();
                // Leaves are given a quarter more than they hold when they grow, so an eighth on average.
                let pairs: usize = groups.iter().map(|g| g.len).sum();
                groups.capacity() * size_of::<Group>() + tables + pairs * size_of::<Pair>() * 9 / 8
            }
        }
    }

    /// Panics if pairs are out of order or counted wrongly.
    pub fn assert_invariants(&self, compare: impl Fn(Pair, Pair) -> Ordering) {
        if let Form::Groups(groups) = &self.0 {
            for group in groups {
                assert!(!group.leaves.is_empty() && group.leaves.len() <= GROUP_MAX, "leaves in a group");
                assert_eq!(
                    group.len,
                    group.leaves.iter().map(Vec::len).sum::<usize>(),
                    "pairs counted in a group"
                );
                assert!(group.leaves.iter().all(|l| !l.is_empty() && l.len() <= LEAF_MAX), "pairs in a leaf");
            }
        }
        let mut previous: Option<Pair> = None;
        for pair in self.iter(0) {
            if let Some(previous) = previous {
                assert_eq!(compare(previous, pair), Ordering::Less, "order of neighbours");
            }
            previous = Some(pair);
        }
    }
}

impl Group {
    fn new(leaves: Vec<Leaf>) -> Group {
        Group { len: leaves.iter().map(Vec::len).sum(), leaves }
    }
}

/// The place behind all pairs that are `before` it, in the leaf that holds the last of them (else in the first leaf), so
/// the index may be that leaf's length.
fn find(groups: &[Group], before: impl Fn(Pair) -> bool) -> Place {
    let group = groups.partition_point(|g| before(g.leaves[0][0])).saturating_sub(1);
    let leaves = &groups[group].leaves;
    let leaf = leaves.partition_point(|l| before(l[0])).saturating_sub(1);
    let index = leaves[leaf].partition_point(|p| before(*p));
    Place { group, leaf, index }
}

/// The same place as that of an existing pair: the end of a leaf is the start of the next.
fn occupied(groups: &[Group], mut place: Place) -> Option<Place> {
    if place.index == groups[place.group].leaves[place.leaf].len() {
        place = Place { leaf: place.leaf + 1, index: 0, ..place };
        if place.leaf == groups[place.group].leaves.len() {
            place = Place { group: place.group + 1, leaf: 0, index: 0 };
        }
    }
    (place.group < groups.len()).then_some(place)
}

fn locate(groups: &[Group], mut rank: usize) -> Option<Place> {
    for (group, content) in groups.iter().enumerate() {
        if rank >= content.len {
            rank -= content.len;
            continue;
        }
        for (leaf, pairs) in content.leaves.iter().enumerate() {
            if rank < pairs.len() {
                return Some(Place { group, leaf, index: rank });
            }
            rank -= pairs.len();
        }
    }
    None
}

fn insert_into(leaf: &mut Leaf, at: usize, pair: Pair) {
    if leaf.len() == leaf.capacity() {
        leaf.reserve_exact((leaf.len() / 4).max(4));
    }
    leaf.insert(at, pair);
}

/// Keeps the sizes: a full leaf is cut in two, then a full group. At the very end a new leaf is begun instead, so that
/// scores that only grow (times, ids) leave full leaves behind.
fn insert_into_groups(groups: &mut Vec<Group>, pair: Pair, before: impl Fn(Pair) -> bool) {
    let place = find(groups, before);
    let last_group = place.group + 1 == groups.len();
    let group = &mut groups[place.group];
    group.len += 1;
    let last_leaf = last_group && place.leaf + 1 == group.leaves.len();
    let leaf = &mut group.leaves[place.leaf];
    if leaf.len() < LEAF_MAX {
        return insert_into(leaf, place.index, pair);
    }
    if last_leaf && place.index == leaf.len() {
        leaf.shrink_to_fit();
        group.leaves.push(vec![pair]);
    } else {
        let mut back = leaf.split_off(LEAF_MAX / 2);
        leaf.shrink_to(LEAF_MAX * 5 / 8);
        if place.index <= LEAF_MAX / 2 {
            insert_into(leaf, place.index, pair);
        } else {
            insert_into(&mut back, place.index - LEAF_MAX / 2, pair);
        }
        group.leaves.insert(place.leaf + 1, back);
    }
    if group.leaves.len() > GROUP_MAX {
        let keep = if last_group { GROUP_MAX - 1 } else { GROUP_MAX / 2 };
        let back = Group::new(group.leaves.split_off(keep));
        group.len -= back.len;
        groups.insert(place.group + 1, back);
    }
}

/// Keeps the sizes: a leaf that is mostly air joins a neighbour with room, then a group likewise.
fn remove_from_groups(groups: &mut Vec<Group>, place: Place) -> Pair {
    let group = &mut groups[place.group];
    group.len -= 1;
    let leaf = &mut group.leaves[place.leaf];
    let pair = remove_from(leaf, place.index);
    if leaf.len() >= LEAF_MAX / 4 {
        return pair;
    }
    if leaf.is_empty() {
        group.leaves.remove(place.leaf);
    } else if let Some(at) = join_with(&group.leaves, place.leaf, LEAF_MAX * 3 / 4, Vec::len) {
        let back = group.leaves.remove(at + 1);
        let front = &mut group.leaves[at];
        front.reserve_exact(back.len());
        front.extend_from_slice(&back);
    }
    if group.leaves.is_empty() {
        groups.remove(place.group);
    } else if group.leaves.len() < GROUP_MAX / 4
        && let Some(at) = join_with(groups, place.group, GROUP_MAX * 3 / 4, |g| g.leaves.len())
    {
        let mut back = groups.remove(at + 1);
        groups[at].len += back.len;
        groups[at].leaves.append(&mut back.leaves);
    }
    pair
}

/// The first of two neighbours, one of them `at`, that together have at most `max`.
fn join_with<T>(all: &[T], at: usize, max: usize, len: impl Fn(&T) -> usize) -> Option<usize> {
    [at.checked_sub(1), Some(at)]
        .into_iter()
        .flatten()
        .find(|front| all.get(front + 1).is_some_and(|back| len(&all[*front]) + len(back) <= max))
}

fn remove_from(leaf: &mut Leaf, at: usize) -> Pair {
    let pair = leaf.remove(at);
    if leaf.len() < leaf.capacity() / 2 {
        leaf.shrink_to(leaf.len() + leaf.len() / 4);
    }
    pair
}
