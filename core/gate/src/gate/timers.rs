//! One instant for each thing that waits for time.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::Micros;

use super::RequestId;
use crate::names::{PoolId, RouteId};

/// Who wants to be woken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    Request(RequestId),
    Pool(PoolId),
    Route(RouteId),
}

/// When each wants it. An entry may be early, never late: who is woken for nothing sets a new one.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Micros, Timer)>,
    set: BTreeMap<Timer, Micros>,
}

impl Timers {
    pub(super) fn next(&self) -> Option<Micros> {
        self.by_time.first().map(|(at, _)| *at).filter(|at| *at < Micros::NEVER)
    }

    /// Wakes `timer` at `at` at the latest. An earlier entry stays, so that moving one back costs nothing.
    pub(super) fn wake(&mut self, timer: Timer, at: Micros) {
        match self.set.get(&timer) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => _ = self.by_time.remove(&(*later, timer)),
            None => {}
        }
        self.set.insert(timer, at);
        self.by_time.insert((at, timer));
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.set.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// Takes out one that is due.
    pub(super) fn due(&mut self, now: Micros) -> Option<Timer> {
        let (at, timer) = *self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.by_time.remove(&(at, timer));
        self.set.remove(&timer);
        Some(timer)
    }

    pub(super) fn clear_pools_and_routes(&mut self) {
        self.set.retain(|timer, _| matches!(timer, Timer::Request(_)));
        self.by_time.retain(|(_, timer)| matches!(timer, Timer::Request(_)));
    }
}
