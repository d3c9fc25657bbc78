//! First in, first out, as clients can tell: what was there before something else was added is not taken after it (INV-SIM-25).

use std::collections::{BTreeMap, BTreeSet};

/// What is known of the elements of one queue. Times are those of the simulated world.
#[derive(Default)]
pub struct Order {
    elements: BTreeMap<Vec<u8>, Element>,
}

struct Element {
    /// Greater is taken first.
    rank: u8,
    added_from: u64,
    /// `u64::MAX` if no answer says that it was added, or it is not to be taken at once.
    added_by: u64,
    /// Of its first taking, when that began and when it was answered; `None` as long as nobody was told of one.
    taken: Option<(u64, u64)>,
    /// It may have been taken before that, by somebody who was not told.
    perhaps_before: bool,
    /// Two began to add it, and which of them did nobody knows.
    is_unsure: bool,
}

impl Order {
    /// Somebody begins to add an element.
    pub fn on_adding(&mut self, element: &[u8], rank: u8, at: u64) {
        let new = Element {
            rank,
            added_from: at,
            added_by: u64::MAX,
            taken: None,
            perhaps_before: false,
            is_unsure: self.elements.contains_key(element),
        };
        self.elements.insert(element.to_vec(), new);
    }

    /// An answer says that it is there, and may be taken from now on.
    pub fn on_added(&mut self, element: &[u8], at: u64) {
        if let Some(known) = self.elements.get_mut(element) {
            known.added_by = at;
        }
    }

    /// It was not added and will not be.
    pub fn on_refused(&mut self, element: &[u8]) {
        self.elements.remove(element);
    }

    /// Somebody was given it, who asked at `from`; `first` if nobody can have had it before.
    pub fn on_taken(&mut self, element: &[u8], (from, by): (u64, u64), first: bool) {
        let Some(known) = self.elements.get_mut(element) else { return };
        if known.taken.is_none() {
            known.taken = Some((from, by));
            known.perhaps_before |= !first;
        }
    }

    /// Looks for two that were taken in the wrong order. `left` tells of an element that nobody was given whether it is there to
    /// the end. Cost: O(n log n).
    ///
    /// # Errors
    /// The older and the younger one.
    pub fn check(&self, left: impl Fn(&[u8]) -> bool) -> Result<(), (Vec<u8>, Vec<u8>)> {
        // Of those that are to be taken first: until when they were added, and since when they may be gone.
        let mut older: Vec<(u64, u64, u8, &[u8])> = Vec::new();
        let sure = || self.elements.iter().filter(|(_, known)| !known.is_unsure);
        for (element, known) in sure() {
            let gone = match known.taken {
                Some((from, _)) => from,
                None if left(element) => u64::MAX,
                None => continue,
            };
            if known.added_by < u64::MAX && !known.perhaps_before {
                older.push((known.added_by, gone, known.rank, element));
            }
        }
        older.sort_unstable();
        let ranks: BTreeSet<u8> = self.elements.values().map(|known| known.rank).collect();
        for rank in ranks {
            // The one that stayed longest of those added until then.
            let mut longest: Vec<(u64, u64, &[u8])> = Vec::new();
            for (added_by, gone, _, element) in older.iter().filter(|one| one.2 >= rank) {
                let last = longest.last().map_or((0, *element), |last| (last.1, last.2));
                let (gone, element) = if *gone > last.0 { (*gone, *element) } else { last };
                longest.push((*added_by, gone, element));
            }
            for (element, known) in sure().filter(|(_, known)| known.rank == rank) {
                let Some((_, by)) = known.taken else { continue };
                let before = longest.partition_point(|one| one.0 < known.added_from);
                if let Some((_, gone, first)) = longest[..before].last()
                    && *gone > by
                {
                    return Err((first.to_vec(), element.clone()));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements `a` and `b`, added and taken at these times.
    fn order(a: [u64; 4], b: [u64; 4], ranks: [u8; 2]) -> Order {
        let mut order = Order::default();
        for (name, [from, by, take, taken], rank) in [(b"a", a, ranks[0]), (b"b", b, ranks[1])] {
            order.on_adding(name, rank, from);
            order.on_added(name, by);
            if taken > 0 {
                order.on_taken(name, (take, taken), true);
            }
        }
        order
    }

    #[test]
    fn what_was_there_before_and_is_taken_after_is_found_and_what_overlaps_is_not() {
        let wrong = Err((b"a".to_vec(), b"b".to_vec()));
        let nothing_left = |_: &[u8]| false;
        assert_eq!(order([1, 2, 7, 8], [3, 4, 5, 6], [0, 0]).check(nothing_left), wrong);
        assert_eq!(order([1, 2, 5, 6], [3, 4, 7, 8], [0, 0]).check(nothing_left), Ok(()));
        assert_eq!(order([1, 3, 7, 8], [3, 4, 5, 6], [0, 0]).check(nothing_left), Ok(()), "added at once");
        assert_eq!(order([1, 2, 6, 8], [3, 4, 5, 6], [0, 0]).check(nothing_left), Ok(()), "taken at once");
        assert_eq!(order([1, 2, 7, 8], [3, 4, 5, 6], [0, 1]).check(nothing_left), Ok(()), "b goes first");
        assert_eq!(order([1, 2, 7, 8], [3, 4, 5, 6], [1, 0]).check(nothing_left), wrong);
        let mut left = order([1, 2, 0, 0], [3, 4, 5, 6], [0, 0]);
        assert_eq!(left.check(nothing_left), Ok(()), "somebody may have it who was not told");
        assert_eq!(left.check(|element| element == b"a"), wrong);
        left.on_adding(b"a", 0, 9);
        assert_eq!(left.check(|_| true), Ok(()), "added by either of two");
    }
}
