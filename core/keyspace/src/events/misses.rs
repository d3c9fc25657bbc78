//! Keys that were looked for in vain, as Redis's `keymiss` tells of them.

use super::{Class, Event, Events};
use crate::small::SmallBytes;

/// Who tells of keys that are looked for in vain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Misses {
    /// Only this node knows of them: [`Event::Missed`].
    #[default]
    OfRead,
    /// Each replica, since what runs is in the log: [`Event::Key`] with [`Class::Miss`].
    OfLog,
    /// Another node, which runs the same read.
    Untold,
}

impl Events {
    /// Whether keys that are looked for in vain are wanted. A new keyspace, and so one that was restored, wants none.
    pub fn want_misses(&mut self, wants: bool) {
        self.wants_misses = wants;
    }

    /// Says what runs next.
    #[inline]
    pub fn set_misses(&self, of: Misses) {
        self.misses.set(of);
    }

    /// What reads have missed since it was last taken, oldest first.
    pub fn take_missed(&mut self) -> Vec<Event> {
        let (missed, rest) =
            self.list.take().into_iter().partition(|event| matches!(event, Event::Missed { .. }));
        *self.list.get_mut() = rest;
        missed
    }

    /// A read begins, which [`Events::forget_read`] may take back.
    #[inline]
    pub(crate) fn begin_read(&self) {
        if self.wants_misses {
            self.read_from.set(self.count());
        }
    }

    /// The read that ran last will run again, and tell then.
    pub(crate) fn forget_read(&self) {
        if self.wants_misses {
            self.list.borrow_mut().truncate(self.read_from.get());
        }
    }

    /// Notes that there is no such key.
    #[inline]
    pub(crate) fn miss(&self, db: u8, key: &[u8]) {
        if self.wants_misses {
            self.push_miss(db, key);
        }
    }

    #[cold]
    fn push_miss(&self, db: u8, key: &[u8]) {
        let key = SmallBytes::new(key);
        let event = match self.misses.get() {
            Misses::OfRead => Event::Missed { db, key },
            Misses::OfLog if self.records => Event::Key { db, class: Class::Miss, name: "keymiss", key },
            Misses::OfLog | Misses::Untold => return,
        };
        self.list.borrow_mut().push(event);
    }
}
