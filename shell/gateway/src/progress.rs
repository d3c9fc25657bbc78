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
    /// All that the client has sent is on its way.
    waits_for_client: Cell<bool>,
    is_sent: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Progress {
    pub(crate) fn new() -> Rc<Progress> {
        Rc::new(Progress {
            moved: Cell::new(Instant::now()),
            waits_for_client: Cell::new(false),
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
        if is_there {
            self.has_moved();
        }
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
            let until = match self.waits_for_client.get() {
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
