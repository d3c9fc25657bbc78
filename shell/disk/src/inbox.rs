//! A queue between two threads, with the wake-up that suits each side: a condition for a thread that waits, a closure for
//! an event loop that must not.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// A queue that a thread waits on. Its users bound what they put in.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    items: Mutex<VecDeque<T>>,
    ready: Condvar,
}

impl<T> Inbox<T> {
    pub fn new() -> Inbox<T> {
        Inbox { items: Mutex::new(VecDeque::new()), ready: Condvar::new() }
    }

    pub fn push(&self, item: T) {
        self.lock().push_back(item);
        self.ready.notify_one();
    }

    /// Moves all items into `out`, waiting for the first unless `patience` runs out; `None` waits for ever.
    pub fn drain(&self, patience: Option<Duration>, out: &mut VecDeque<T>) {
        let mut items = self.lock();
        if items.is_empty() {
            items = match patience {
                None => self.ready.wait_while(items, |i| i.is_empty()).expect(NO_PANIC),
                Some(patience) if patience.is_zero() => items,
                Some(patience) => {
                    self.ready.wait_timeout_while(items, patience, |i| i.is_empty()).expect(NO_PANIC).0
                }
            };
        }
        out.append(&mut items);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().expect(NO_PANIC)
    }
}

/// Events for an event loop, which is woken by a closure and then takes all there are.
pub(crate) struct Outbox<T> {
    events: Mutex<Vec<T>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl<T> Outbox<T> {
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Outbox<T> {
        Outbox { events: Mutex::new(Vec::new()), wake: Box::new(wake) }
    }

    /// Adds an event, and wakes the loop if it has none to take yet.
    pub fn push(&self, event: T) {
        let mut events = self.events.lock().expect(NO_PANIC);
        events.push(event);
        let first = events.len() == 1;
        drop(events);
        if first {
            (self.wake)();
        }
    }

    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.events.lock().expect(NO_PANIC))
    }
}

const NO_PANIC: &str = "no thread panics while it holds the queue";
