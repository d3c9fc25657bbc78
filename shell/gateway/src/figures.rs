//! What a gateway counts. Each core counts for itself and leaves a copy where others can read it, once a second.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use skep_gate::resolve::Stats as NameCounts;

/// Upper bounds of the times of requests, in microseconds; one more counts the rest.
pub const TIME_BOUNDS: [u64; 13] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// Routes, and upstreams, that are counted apart; the rest is counted as [`OTHERS`].
pub(crate) const NAMES_MAX: usize = 1_000;
/// The name of what is not counted apart.
pub const OTHERS: &str = "(others)";
/// The name of requests that no route took.
pub const NO_ROUTE: &str = "(none)";

/// Of one route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouteCounts {
    /// By the first digit of the status, from 1 to 5; at 0 those whose client was gone first.
    pub statuses: [u64; 6],
    /// Requests by time, see [`TIME_BOUNDS`].
    pub times: [u64; TIME_BOUNDS.len() + 1],
    /// The sum of times.
    pub micros: u64,
    /// Bytes of bodies that were sent to clients.
    pub bytes_sent: u64,
}

/// Of one upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UpstreamCounts {
    pub attempts: u64,
    /// Attempts without a reply.
    pub failures: u64,
    /// Replies of 500 and above.
    pub errors: u64,
    /// Under way.
    pub in_flight: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Cores that may send it something.
    pub fit: u64,
}

/// Of a core, or of all cores of a node together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// The version of the configuration in force; of several cores the oldest.
    pub version: u64,
    pub routes: BTreeMap<String, RouteCounts>,
    /// By pool and address.
    pub upstreams: BTreeMap<(String, String), UpstreamCounts>,
    /// Clients' connections by listener, of those that are open.
    pub connections: BTreeMap<String, u64>,
    /// Connections that were closed at once, since there were too many.
    pub turned_away: u64,
    /// Requests that were no good HTTP.
    pub malformed: u64,
    /// Requests that a limit refused.
    pub limited: u64,
    /// Requests whose caller did not prove who it is, or may not.
    pub not_let_in: u64,
    pub retries: u64,
    pub hedges: u64,
    pub over_budget: u64,
    pub shed: u64,
    pub ejected: u64,
    pub breakers_opened: u64,
    /// Lines of the access log that were lost, since nobody took them.
    pub log_lines_lost: u64,
    /// Questions about cluster-wide rates to the store.
    pub rate_asks: u64,
    /// Of those, the ones without an answer.
    pub rate_asks_unanswered: u64,
    pub keyed: KeyedCounts,
    /// Of the node's names of upstreams.
    pub names: NameCounts,
}

/// Of requests with an idempotency key, on routes that keep replies.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyedCounts {
    /// Answers by kind: `first`, `replayed`, or the `Idempotency-Status` of a refusal.
    pub answers: BTreeMap<&'static str, u64>,
    /// Attempts of which it is not known whether they ran.
    pub unknown: u64,
    /// Under way.
    pub in_flight: u64,
}

impl Figures {
    /// Adds those of another core.
    pub(crate) fn add(&mut self, other: &Figures) {
        self.version = self.version.min(other.version);
        for (name, counts) in &other.routes {
            let own = self.routes.entry(name.clone()).or_default();
            own.statuses.iter_mut().zip(counts.statuses).for_each(|(a, b)| *a += b);
            own.times.iter_mut().zip(counts.times).for_each(|(a, b)| *a += b);
            own.micros += counts.micros;
            own.bytes_sent += counts.bytes_sent;
        }
        for (name, counts) in &other.upstreams {
            let own = self.upstreams.entry(name.clone()).or_default();
            own.attempts += counts.attempts;
            own.failures += counts.failures;
            own.errors += counts.errors;
            own.in_flight += counts.in_flight;
            own.connections += counts.connections;
            own.fit += counts.fit;
        }
        for (name, count) in &other.connections {
            *self.connections.entry(name.clone()).or_default() += count;
        }
        self.turned_away += other.turned_away;
        self.malformed += other.malformed;
        self.limited += other.limited;
        self.not_let_in += other.not_let_in;
        self.retries += other.retries;
        self.hedges += other.hedges;
        self.over_budget += other.over_budget;
        self.shed += other.shed;
        self.ejected += other.ejected;
        self.breakers_opened += other.breakers_opened;
        self.log_lines_lost += other.log_lines_lost;
        self.rate_asks += other.rate_asks;
        self.rate_asks_unanswered += other.rate_asks_unanswered;
        for (kind, count) in &other.keyed.answers {
            *self.keyed.answers.entry(kind).or_default() += count;
        }
        self.keyed.unknown += other.keyed.unknown;
        self.keyed.in_flight += other.keyed.in_flight;
    }
}

/// Where cores leave their figures, and control those of names.
#[derive(Clone, Debug, Default)]
pub struct Board {
    cores: Arc<Vec<Mutex<Arc<Figures>>>>,
    names: Arc<Mutex<NameCounts>>,
}

impl Board {
    pub(crate) fn new(cores: usize) -> Board {
        Board { cores: Arc::new((0..cores).map(|_| Mutex::default()).collect()), names: Arc::default() }
    }

    pub(crate) fn leave_names(&self, counts: NameCounts) {
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    pub(crate) fn leave(&self, core: usize, figures: Figures) {
        *self.cores[core].lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(figures);
    }

    /// The figures of all cores together, at most a second old.
    pub fn read(&self) -> Figures {
        let mut all = Figures { version: u64::MAX, ..Figures::default() };
        for core in self.cores.iter() {
            let one = Arc::clone(&core.lock().unwrap_or_else(PoisonError::into_inner));
            all.add(&one);
        }
        all.names = *self.names.lock().unwrap_or_else(PoisonError::into_inner);
        all
    }
}

/// What a core counts of a route while it runs.
#[derive(Debug, Default)]
pub(crate) struct RouteFigures(RefCell<RouteCounts>);

impl RouteFigures {
    pub(crate) fn add(&self, status: u16, micros: u64, bytes_sent: u64) {
        let mut counts = self.0.borrow_mut();
        counts.statuses[usize::from(status / 100).min(5)] += 1;
        counts.times[TIME_BOUNDS.partition_point(|bound| *bound < micros)] += 1;
        counts.micros += micros;
        counts.bytes_sent += bytes_sent;
    }

    pub(crate) fn counts(&self) -> RouteCounts {
        *self.0.borrow()
    }
}

/// What a core counts of an upstream while it runs.
#[derive(Debug, Default)]
pub(crate) struct UpstreamFigures {
    pub(crate) attempts: Cell<u64>,
    pub(crate) failures: Cell<u64>,
    pub(crate) errors: Cell<u64>,
}

pub(crate) fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_cores_are_added_and_the_oldest_version_counts() {
        let board = Board::new(2);
        let route = RouteFigures::default();
        route.add(200, 600, 10);
        route.add(504, 60_000_000, 0);
        for (core, version) in [(0, 7), (1, 8)] {
            let routes = BTreeMap::from([("api".to_owned(), route.counts())]);
            board.leave(core, Figures { version, routes, retries: 2, ..Figures::default() });
        }
        let all = board.read();
        assert_eq!((all.version, all.retries), (7, 4));
        let api = all.routes["api"];
        assert_eq!((api.statuses[2], api.statuses[5], api.bytes_sent), (2, 2, 20));
        assert_eq!((api.times[1], api.times[TIME_BOUNDS.len()]), (2, 2));
    }
}
