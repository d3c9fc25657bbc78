//! What an entry did to keys, for those who want to know: taken after each entry, on every replica that applies it.

use std::collections::BTreeSet;

use skep_keyspace::events::{Class, Event};

use crate::{Node, Output};

impl Node {
    /// True if somebody wants to hear what entries of the shard do to keys. Asked before each entry.
    pub(crate) fn wants_events(&self, at: usize) -> bool {
        !self.shards[at].waiting.is_empty() || self.wants_key_events()
    }

    /// An entry was applied: hands on what it did; `is_own` if this node proposed it.
    pub(crate) fn take_events(&mut self, at: usize, is_own: bool, out: &mut Vec<Output>) {
        let Some(replica) = &mut self.shards[at].replica else { return };
        if replica.keyspace.events.has_any() {
            let events = replica.keyspace.events.take();
            self.on_events(at, &events, is_own, out);
        }
        self.offer_what_is_left(at);
    }

    fn on_events(&mut self, at: usize, events: &[Event], is_own: bool, out: &mut Vec<Output>) {
        self.offer_touched(at, events);
        self.on_key_events(events, is_own, out);
    }

    /// Gives those who wait for keys that were touched their turn.
    fn offer_touched(&mut self, at: usize, events: &[Event]) {
        let waiting = &self.shards[at].waiting;
        if waiting.is_empty() {
            return;
        }
        let mut touched: BTreeSet<(u8, Box<[u8]>)> = BTreeSet::new();
        let mut in_order = Vec::new();
        for event in events {
            match event {
                Event::Key { class: Class::Miss, .. } => {}
                Event::Key { db, name, key, .. } if waiting.holds_key(*db, key) => {
                    if touched.insert((*db, Box::from(&**key))) {
                        in_order.push((*db, Box::from(&**key), false));
                    }
                    if *name == "xgroup-destroy" {
                        in_order.push((*db, Box::from(&**key), true));
                    }
                }
                Event::Database { db, .. } => {
                    in_order.extend(waiting.keys_of(*db).map(|key| (*db, Box::from(key), false)));
                }
                _ => {}
            }
        }
        for (db, key, all) in in_order {
            self.offer(at, db, &key, all);
        }
    }

    /// Where somebody was served there may be something for the next.
    fn offer_what_is_left(&mut self, at: usize) {
        if self.shards[at].served.is_empty() {
            return;
        }
        for (db, key) in std::mem::take(&mut self.shards[at].served) {
            if self.shards[at].waiting.holds_key(db, &key) {
                self.offer(at, db, &key, false);
            }
        }
    }
}
