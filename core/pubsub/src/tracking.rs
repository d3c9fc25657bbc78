//! Which clients of a cell have read which keys, or want to hear of all keys with some prefix: client-side caching.
//!
//! INV-TRACKING-1: there are no more keys than the limit. INV-TRACKING-2: a prefix is known exactly as long as a client has it.
//!
//! A key that changed is forgotten, since those who were told have it no more. A client that is gone stays in the entries of
//! its keys until they change; its id is never used again.

use std::collections::BTreeMap;
use std::ops::Bound;

use skep_base::ConnId;

type Key = Box<[u8]>;

/// Keys that have changed, each with who changed it, if that was one client.
pub type Touched = BTreeMap<Key, Option<ConnId>>;

/// The tables of a cell.
#[derive(Default)]
pub struct Tracking {
    keys: BTreeMap<Key, Vec<ConnId>>,
    items: usize,
    /// The key that made room last: the next one behind it does so next.
    evicted: Key,
    prefixes: BTreeMap<Key, Prefix>,
}

#[derive(Default)]
struct Prefix {
    clients: Vec<ConnId>,
    /// Since the clients were told.
    touched: Touched,
}

impl Tracking {
    /// A client has read a key, or is about to. Cost: O(log n) in the keys.
    pub fn remember(&mut self, conn: ConnId, key: &[u8]) {
        let clients = match self.keys.get_mut(key) {
            Some(clients) => clients,
            None => self.keys.entry(key.into()).or_default(),
        };
        if let Err(at) = clients.binary_search(&conn) {
            clients.insert(at, conn);
            self.items += 1;
        }
    }

    /// A key has changed: who has read it. It is forgotten.
    pub fn take(&mut self, key: &[u8]) -> Vec<ConnId> {
        let clients = self.keys.remove(key).unwrap_or_default();
        self.items -= clients.len();
        clients
    }

    /// A key that is to make room if there are more than `keys_max` (0: no limit), and who has read it.
    pub fn evict(&mut self, keys_max: usize) -> Option<(Box<[u8]>, Vec<ConnId>)> {
        if keys_max == 0 || self.keys.len() <= keys_max {
            return None;
        }
        let behind = (Bound::Excluded(&self.evicted), Bound::Unbounded);
        let next = self.keys.range::<Key, _>(behind).next().or_else(|| self.keys.iter().next());
        let key = next.map(|(key, _)| key.clone())?;
        let clients = self.take(&key);
        self.evicted.clone_from(&key);
        Some((key, clients))
    }

    /// Forgets all keys.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.items = 0;
        self.prefixes.values_mut().for_each(|prefix| prefix.touched.clear());
    }

    /// A client wants to hear of all keys that begin with `prefix`.
    pub fn add_prefix(&mut self, conn: ConnId, prefix: &[u8]) {
        let clients = &mut self.prefixes.entry(prefix.into()).or_default().clients;
        if let Err(at) = clients.binary_search(&conn) {
            clients.insert(at, conn);
        }
    }

    /// A client does not want to hear of a prefix any more.
    pub fn remove_prefix(&mut self, conn: ConnId, prefix: &[u8]) {
        if let Some(of) = self.prefixes.get_mut(prefix) {
            of.clients.retain(|client| *client != conn);
            if of.clients.is_empty() {
                self.prefixes.remove(prefix);
            }
        }
    }

    /// A key has changed, by a command of `by` if that is known: whoever wants to hear of one of its prefixes is told at the
    /// end of the turn. True if somebody is to be told. Cost: O(prefixes).
    pub fn touch(&mut self, key: &[u8], by: Option<ConnId>) -> bool {
        let mut is_wanted = false;
        for (prefix, of) in &mut self.prefixes {
            if key.starts_with(prefix) {
                is_wanted = true;
                match of.touched.get_mut(key) {
                    Some(known) if *known != by => *known = None,
                    Some(_) => {}
                    None => drop(of.touched.insert(key.into(), by)),
                }
            }
        }
        is_wanted
    }

    /// What was touched, by prefixes: who wants to hear of it, and the keys.
    pub fn take_touched(&mut self) -> Vec<(Vec<ConnId>, Touched)> {
        let touched = self.prefixes.values_mut().filter(|prefix| !prefix.touched.is_empty());
        touched.map(|prefix| (prefix.clients.clone(), std::mem::take(&mut prefix.touched))).collect()
    }

    /// Keys that somebody has read.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Keys that somebody has read, counted for each client.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Prefixes that somebody wants to hear of.
    pub fn prefixes(&self) -> usize {
        self.prefixes.len()
    }

    /// Panics, naming the broken rule, if the state is impossible. Cost: O(keys).
    pub fn assert_invariants(&self, keys_max: usize) {
        let is_within = keys_max == 0 || self.keys.len() <= keys_max;
        assert!(is_within, "INV-TRACKING-1: {} keys, limit is {keys_max}", self.keys.len());
        let items: usize = self.keys.values().map(Vec::len).sum();
        assert_eq!(items, self.items, "INV-TRACKING-1: items");
        let is_used = self.prefixes.values().all(|prefix| !prefix.clients.is_empty());
        assert!(is_used, "INV-TRACKING-2: a prefix without a client");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_read_a_key_is_told_once() {
        let mut table = Tracking::default();
        for conn in [2, 1, 2] {
            table.remember(ConnId(conn), b"k");
        }
        assert_eq!((table.keys(), table.items()), (1, 2));
        assert_eq!(table.take(b"k"), [ConnId(1), ConnId(2)]);
        assert_eq!(table.take(b"k"), []);
        table.assert_invariants(1);
    }

    #[test]
    fn keys_make_room_in_turn() {
        let mut table = Tracking::default();
        for key in [b"a", b"b", b"c", b"d"] {
            table.remember(ConnId(1), key);
        }
        let mut evicted = Vec::new();
        while let Some((key, clients)) = table.evict(2) {
            assert_eq!(clients, [ConnId(1)]);
            evicted.push(key);
        }
        assert_eq!(evicted, [b"a".to_vec().into(), b"b".to_vec().into()]);
        table.remember(ConnId(1), b"a");
        assert_eq!(table.evict(2).unwrap().0[..], *b"c", "the one that came last is not the next to go");
        assert_eq!(table.evict(0), None);
        table.assert_invariants(2);
    }

    #[test]
    fn prefixes_gather_what_was_touched_and_by_whom() {
        let mut table = Tracking::default();
        table.add_prefix(ConnId(1), b"");
        table.add_prefix(ConnId(2), b"user:");
        table.add_prefix(ConnId(3), b"user:");
        assert!(table.touch(b"user:1", Some(ConnId(2))));
        assert!(table.touch(b"user:1", Some(ConnId(3))));
        assert!(table.touch(b"other", Some(ConnId(2))));
        let touched = table.take_touched();
        assert_eq!(touched[0].0, [ConnId(1)]);
        assert_eq!(touched[0].1.get(&b"other"[..]), Some(&Some(ConnId(2))));
        assert_eq!(touched[1].0, [ConnId(2), ConnId(3)]);
        assert_eq!(touched[1].1.get(&b"user:1"[..]), Some(&None), "two have changed it");
        assert!(table.take_touched().is_empty());
        table.remove_prefix(ConnId(1), b"");
        table.remove_prefix(ConnId(1), b"user:");
        assert!(!table.touch(b"other", None));
        table.assert_invariants(0);
    }
}
