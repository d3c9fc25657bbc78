//! What commands did to keys, in order: for notifications, caches of clients, and clients that wait for a key.
//!
//! Not state: no cut, digest or reply holds or shows any of it, and recording it or not changes nothing else. So each node
//! may record or not as its own clients need it. Names and classes of events, and when there is one, are those of Redis
//! (`notifyKeyspaceEvent` and `signalModifiedKey` in its source).
//!
//! Off, an event costs a look at one flag.
//!
//! A key that was looked for in vain is an event too (`keymiss`), if that is wanted. It is met by reads, which change nothing and
//! run on one node only; so it matters who tells ([`Misses`]).

mod classes;
mod misses;

use std::cell::{Cell, RefCell};

pub use classes::{Class, NotifyFlags};
pub use misses::Misses;

use crate::small::SmallBytes;

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A key was changed, came or went.
    Key { db: u8, class: Class, name: &'static str, key: SmallBytes },
    /// Any key of the database may have changed: it was flushed or swapped. Redis notifies nobody of that, but keys that
    /// are cached or watched count as changed.
    Database { db: u8, why: Whole },
    /// A read that only this node runs looked for a key in vain.
    Missed { db: u8, key: SmallBytes },
    /// A command that runs in an entry published a message.
    Published { kind: Channel, channel: Box<[u8]>, message: Box<[u8]> },
}

/// What happened to a whole database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whole {
    Flushed,
    Swapped,
}

/// Where a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// `PUBLISH`
    Plain,
    /// `SPUBLISH`
    Shard,
}

/// The events of a keyspace since they were last taken.
#[derive(Default)]
pub struct Events {
    records: bool,
    /// Whether keys that are looked for in vain are wanted.
    wants_misses: bool,
    misses: Cell<Misses>,
    /// Where in the list the read that runs began.
    read_from: Cell<usize>,
    /// Reads add to it.
    list: RefCell<Vec<Event>>,
}

impl Events {
    /// Whether keys' events are wanted. A new keyspace, and so one that was restored, records none. Turning it off drops
    /// what was not taken, but for published messages and what reads missed, which are kept whether this is on or off.
    pub fn record(&mut self, records: bool) {
        self.records = records;
        if !records {
            self.list.get_mut().retain(|event| !matches!(event, Event::Key { .. } | Event::Database { .. }));
        }
    }

    /// True if keys' events are wanted.
    #[inline]
    pub fn is_recording(&self) -> bool {
        self.records
    }

    /// How many there are to take.
    #[inline]
    pub fn count(&self) -> usize {
        self.list.borrow().len()
    }

    /// True if there is something to take.
    #[inline]
    pub fn has_any(&self) -> bool {
        !self.list.borrow().is_empty()
    }

    /// What happened since it was last taken, oldest first. To be called after each entry: what one entry does is limited,
    /// what a log does is not.
    pub fn take(&mut self) -> Vec<Event> {
        self.list.take()
    }

    /// As [`Events::take`], by exchange with `list`, which is empty: both keep their memory.
    pub fn take_into(&mut self, list: &mut Vec<Event>) {
        assert!(list.is_empty(), "{} events of before are not handled", list.len());
        std::mem::swap(self.list.get_mut(), list);
    }

    /// Notes that `name` happened to a key.
    #[inline]
    pub(crate) fn key(&mut self, db: u8, class: Class, name: &'static str, key: &[u8]) {
        if self.records {
            self.push_key(db, class, name, key);
        }
    }

    /// Notes that all keys of `db` are others.
    #[inline]
    pub(crate) fn database(&mut self, db: u8, why: Whole) {
        if self.records {
            self.list.get_mut().push(Event::Database { db, why });
        }
    }

    pub(crate) fn publish(&mut self, kind: Channel, channel: &[u8], message: &[u8]) {
        self.list.get_mut().push(Event::Published { kind, channel: channel.into(), message: message.into() });
    }

    #[cold]
    fn push_key(&mut self, db: u8, class: Class, name: &'static str, key: &[u8]) {
        self.list.get_mut().push(Event::Key { db, class, name, key: SmallBytes::new(key) });
    }
}

#[cfg(test)]
mod tests;
