//! What both directions of a request know of each other: whether the client's has failed, and when either last said something.
//!
//! While a reply is under way the two are one conversation, as over a WebSocket: a client of gRPC that only listens is not too slow, nor
//! is an upstream that only takes.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// The two directions of a request with a body.
#[derive(Debug)]
pub(crate) struct BothWays {
    /// The client's side has failed.
    failed: Cell<bool>,
    said: Cell<Instant>,
    /// How long both may be silent, while a reply is under way and the client has not said all.
    idle: Cell<Option<Duration>>,
    ended: Cell<bool>,
}

impl BothWays {
    pub(crate) fn new() -> BothWays {
        let (failed, ended) = (Cell::new(false), Cell::new(false));
        BothWays { failed, said: Cell::new(Instant::now()), idle: Cell::new(None), ended }
    }

    pub(crate) fn fail(&self) {
        self.failed.set(true);
        self.end();
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// A reply is under way, which with the request may be silent for `idle`.
    pub(crate) fn begin(&self, idle: Duration) {
        self.said.set(Instant::now());
        self.idle.set(Some(idle).filter(|_| !self.ended.get()));
    }

    /// One of the two said something.
    pub(crate) fn say(&self) {
        // Before, each counts its own time.
        if self.idle.get().is_some() {
            self.said.set(Instant::now());
        }
    }

    /// One of the two has said all: the other is alone.
    pub(crate) fn end(&self) {
        self.ended.set(true);
        self.idle.set(None);
    }

    /// Until when one that is silent may be so, because the other was not; none if its time is over.
    pub(crate) fn patience(&self) -> Option<Instant> {
        let until = self.said.get() + self.idle.get()?;
        (until > Instant::now()).then_some(until)
    }
}
