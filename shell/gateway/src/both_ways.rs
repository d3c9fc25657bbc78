//! [`protect::both_ways`](skep_gate::protect::both_ways) by the clock, for the two that share it: a request's body and its reply.

use std::cell::Cell;
use std::time::Duration;

use skep_base::Micros;
use skep_gate::protect::both_ways;
use skep_gate::resilience::retry::Failure;
use tokio::time::Instant;

/// The two directions of a request with a body.
#[derive(Debug)]
pub(crate) struct BothWays {
    ways: Cell<both_ways::BothWays>,
    origin: Instant,
}

impl BothWays {
    pub(crate) fn new() -> BothWays {
        BothWays { ways: Cell::default(), origin: Instant::now() }
    }

    fn now(&self) -> Micros {
        Micros(self.origin.elapsed().as_micros() as u64)
    }

    fn change(&self, change: impl FnOnce(&mut both_ways::BothWays)) {
        let mut ways = self.ways.get();
        change(&mut ways);
        self.ways.set(ways);
    }

    pub(crate) fn fail(&self) {
        self.change(both_ways::BothWays::fail);
    }

    pub(crate) fn hold(&self, holds: bool) {
        self.change(|ways| ways.hold(holds));
    }

    pub(crate) fn client_is_late(&self) {
        self.change(both_ways::BothWays::client_is_late);
    }

    pub(crate) fn begin(&self, idle: Duration) {
        self.change(|ways| ways.begin(self.now(), Micros(idle.as_micros() as u64)));
    }

    pub(crate) fn ask(&self) {
        self.change(both_ways::BothWays::ask);
    }

    /// Reads the clock only where that counts.
    fn now_if_it_counts(&self) -> Micros {
        if self.ways.get().is_conversation() { self.now() } else { Micros(0) }
    }

    pub(crate) fn client_says(&self) {
        self.change(|ways| ways.client_says(self.now_if_it_counts()));
    }

    pub(crate) fn upstream_says(&self) {
        self.change(|ways| ways.upstream_says(self.now_if_it_counts()));
    }

    pub(crate) fn end(&self) {
        self.change(both_ways::BothWays::end);
    }

    pub(crate) fn patience(&self) -> Option<Instant> {
        let until = self.ways.get().patience(self.now())?;
        Some(self.origin + Duration::from_micros(until.0))
    }

    pub(crate) fn blames_upstream(&self, failure: Failure) -> bool {
        self.ways.get().blames_upstream(failure)
    }
}
