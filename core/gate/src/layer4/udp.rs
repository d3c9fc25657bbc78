//! Sessions of UDP of which only the first datagram has come.
//!
//! Whoever can send a datagram can send it in anybody's name, and each begins a session that holds a socket and a place at an
//! upstream. A second one from the same address tells nothing for certain, but those who write addresses at random send none. So
//! newcomers live for a short time, and where places are short the oldest of them makes room; a session that goes on is never ended
//! for another.

use std::collections::BTreeMap;

use skep_base::Micros;

/// How long a newcomer lives after a datagram in either direction: as long as who asks one question waits for its answer.
const FIRST_LIFE: Micros = Micros::from_secs(5);

/// A newcomer's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Newcomer(u64);

/// The newcomers of a listener, by age. Cost: O(log n) for each change.
#[derive(Debug)]
pub struct Newcomers<K> {
    next: u64,
    by_age: BTreeMap<Newcomer, K>,
}

impl<K> Default for Newcomers<K> {
    fn default() -> Newcomers<K> {
        Newcomers { next: 0, by_age: BTreeMap::new() }
    }
}

impl<K> Newcomers<K> {
    /// A session has begun.
    pub fn begin(&mut self, session: K) -> Newcomer {
        let number = Newcomer(self.next);
        self.next += 1;
        self.by_age.insert(number, session);
        number
    }

    /// A second datagram has come, or the session has ended.
    pub fn settle(&mut self, number: Newcomer) {
        self.by_age.remove(&number);
    }

    /// The one that is to end where another wants its place, if there is one.
    pub fn make_room(&mut self) -> Option<K> {
        self.by_age.pop_first().map(|(_, session)| session)
    }
}

/// How long a session lives after a datagram in either direction, at a listener with this `idle`.
pub fn life(is_newcomer: bool, idle: Micros) -> Micros {
    if is_newcomer { idle.min(FIRST_LIFE) } else { idle }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_newcomer_makes_room_and_who_goes_on_does_not() {
        let mut newcomers = Newcomers::default();
        let numbers: Vec<Newcomer> = ["a", "b", "c", "d"].map(|name| newcomers.begin(name)).into();
        newcomers.settle(numbers[0]);
        newcomers.settle(numbers[0]);
        assert_eq!(newcomers.make_room(), Some("b"));
        newcomers.settle(numbers[2]);
        newcomers.settle(numbers[1]);
        newcomers.begin("e");
        let rest: Vec<_> = std::iter::from_fn(|| newcomers.make_room()).collect();
        assert_eq!(rest, ["d", "e"]);
    }

    #[test]
    fn a_newcomer_lives_for_a_short_time() {
        let long = Micros::from_secs(75);
        assert_eq!((life(true, long), life(false, long)), (FIRST_LIFE, long));
        assert_eq!(life(true, Micros(7)), Micros(7));
    }
}
