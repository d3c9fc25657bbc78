//! One instant for each thing that waits for time.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::Micros;

/// When each of many wants to be woken. An entry may be early, never late: who is woken for nothing sets a new one.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    by_time: BTreeSet<(Micros, T)>,
    set: BTreeMap<T, Micros>,
}

impl<T> Default for Timers<T> {
    fn default() -> Timers<T> {
        Timers { by_time: BTreeSet::new(), set: BTreeMap::new() }
    }
}

impl<T: Copy + Ord> Timers<T> {
    pub(crate) fn next(&self) -> Option<Micros> {
        self.by_time.first().map(|(at, _)| *at).filter(|at| *at < Micros::NEVER)
    }

    /// Wakes `timer` at `at` at the latest. An earlier entry stays, so that moving one back costs nothing.
    pub(crate) fn wake(&mut self, timer: T, at: Micros) {
        match self.set.get(&timer) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => _ = self.by_time.remove(&(*later, timer)),
            None => {}
        }
        self.set.insert(timer, at);
        self.by_time.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, timer: T) {
        if let Some(at) = self.set.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// Takes out one that is due.
    pub(crate) fn due(&mut self, now: Micros) -> Option<T> {
        let (at, timer) = *self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.by_time.remove(&(at, timer));
        self.set.remove(&timer);
        Some(timer)
    }

    pub(crate) fn retain(&mut self, stays: impl Fn(&T) -> bool) {
        self.set.retain(|timer, _| stays(timer));
        self.by_time.retain(|(_, timer)| stays(timer));
    }
}
