//! How far an attempt has sent its request's body: who is waited for, the client or the upstream.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// One attempt's.
pub(crate) struct Progress {
    /// When the upstream last took something.
    moved: Cell<Instant>,
    /// All that the client has sent is on its way, or waits for the upstream to take it.
    waits_for_client: Cell<bool>,
    /// Something of it waits.
    holds: Cell<bool>,
    is_sent: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Progress {
    pub(crate) fn new() -> Rc<Progress> {
        Rc::new(Progress {
            moved: Cell::new(Instant::now()),
            waits_for_client: Cell::new(false),
            holds: Cell::new(false),
            is_sent: Cell::new(false),
            waker: RefCell::new(None),
        })
    }

    /// A part of what is there was taken.
    pub(crate) fn has_moved(&self) {
        self.moved.set(Instant::now());
    }

    /// The next piece is on its way; or, `is_there` being false, the client has not sent it yet.
    pub(crate) fn next(&self, is_there: bool) {
        self.waits_for_client.set(!is_there);
        // What joins something that waits is no word of the upstream's.
        if is_there && !self.holds.get() {
            self.has_moved();
        }
    }

    /// There is something that the upstream does not take; or, `holds` being false, no more.
    pub(crate) fn hold(&self, holds: bool) {
        self.holds.set(holds);
    }

    /// Nothing follows.
    pub(crate) fn end(&self) {
        if !self.is_sent.replace(true)
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Waits until all is sent.
    pub(crate) async fn sent(&self) {
        poll_fn(|cx| match self.is_sent.get() {
            true => Poll::Ready(()),
            false => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await;
    }

    /// Waits until the upstream has taken nothing for `time` of what is there.
    pub(crate) async fn stalled(&self, time: Duration) {
        loop {
            let until = match self.waits_for_client.get() && !self.holds.get() {
                true => Instant::now() + time,
                false => self.moved.get() + time,
            };
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}
