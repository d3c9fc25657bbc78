//! The table of names: who of the own clients listens to each, and how many do elsewhere.
//!
//! INV-PUBSUB-1: a client is among the subscribers of a name exactly if the name is among its own. INV-PUBSUB-2: a name is in
//! the table exactly as long as somebody listens to it, here or elsewhere, or a change of its count waits to be told.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hashbrown::HashTable;
use skep_base::{ConnId, glob, hash};

use crate::{CLIENT_BYTES_MAX, Kind, NAME_BYTES_EXTRA, NAME_BYTES_MAX, Source};

/// The subscriptions of a cell's clients, and the counts of others.
#[derive(Default)]
pub struct Table {
    names: [HashTable<Name>; Kind::COUNT],
    /// The patterns among the names, in order, since messages go through all of them.
    patterns: BTreeSet<Bytes>,
    subscribers: BTreeMap<ConnId, Subscriber>,
    /// Names whose count here is another than was told last.
    pub(crate) changed: Vec<(Kind, Bytes)>,
    /// Who has told counts: its run, and the version of what it told last.
    pub(crate) sources: BTreeMap<Source, (u64, u64)>,
    /// Of the counts here: how often they were told.
    pub(crate) version: u64,
}

pub(crate) struct Name {
    pub name: Bytes,
    /// In order.
    pub here: Vec<ConnId>,
    pub elsewhere: Vec<(Source, u64)>,
    /// It is in the list of changes.
    pub is_changed: bool,
}

/// What one client listens to.
#[derive(Default)]
struct Subscriber {
    names: [BTreeSet<Bytes>; Kind::COUNT],
    bytes: usize,
}

/// Why a client may not listen. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The name has that many bytes, more than [`NAME_BYTES_MAX`].
    Long(usize),
    /// The client's names would have that many bytes, more than [`CLIENT_BYTES_MAX`].
    Many(usize),
}

impl Table {
    /// A client begins to listen. False if it did already. Cost: O(log n) in its names, and a move of the name's subscribers.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn subscribe(&mut self, conn: ConnId, kind: Kind, name: &[u8]) -> Result<bool, Refused> {
        if name.len() > NAME_BYTES_MAX {
            return Err(Refused::Long(name.len()));
        }
        let of = self.subscribers.get(&conn);
        if of.is_some_and(|of| of.names[kind as usize].contains(name)) {
            return Ok(false);
        }
        let bytes = of.map_or(0, |of| of.bytes) + name.len() + NAME_BYTES_EXTRA;
        if bytes > CLIENT_BYTES_MAX {
            return Err(Refused::Many(bytes));
        }
        let entry = self.name(kind, name);
        let at = entry.here.binary_search(&conn).expect_err("INV-PUBSUB-1: a subscriber without the name");
        entry.here.insert(at, conn);
        let name = entry.name.clone();
        self.note_change(kind, &name);
        let of = self.subscribers.entry(conn).or_default();
        of.names[kind as usize].insert(name);
        of.bytes = bytes;
        Ok(true)
    }

    /// A client ends listening. False if it did not listen. Cost: as [`Table::subscribe`].
    pub fn unsubscribe(&mut self, conn: ConnId, kind: Kind, name: &[u8]) -> bool {
        let Some(of) = self.subscribers.get_mut(&conn) else { return false };
        let Some(name) = of.names[kind as usize].take(name) else { return false };
        of.bytes -= name.len() + NAME_BYTES_EXTRA;
        if of.names.iter().all(BTreeSet::is_empty) {
            self.subscribers.remove(&conn);
        }
        self.remove_here(conn, kind, &name);
        true
    }

    /// A client is gone. Cost: as that many calls of [`Table::unsubscribe`].
    pub fn forget(&mut self, conn: ConnId) {
        let Some(of) = self.subscribers.remove(&conn) else { return };
        for (kind, names) in [Kind::Channel, Kind::Pattern, Kind::Shard].into_iter().zip(of.names) {
            names.iter().for_each(|name| self.remove_here(conn, kind, name));
        }
    }

    /// Names of a kind that a client listens to.
    pub fn count_of(&self, conn: ConnId, kind: Kind) -> usize {
        self.subscribers.get(&conn).map_or(0, |of| of.names[kind as usize].len())
    }

    /// The names of a kind that a client listens to, in order.
    pub fn names_of(&self, conn: ConnId, kind: Kind) -> Vec<Bytes> {
        self.subscribers
            .get(&conn)
            .map_or_else(Vec::new, |of| of.names[kind as usize].iter().cloned().collect())
    }

    /// Memory of a client's subscriptions, about.
    pub fn bytes_of(&self, conn: ConnId) -> usize {
        self.subscribers.get(&conn).map_or(0, |of| of.bytes)
    }

    /// Own clients that listen to something.
    pub fn clients(&self) -> usize {
        self.subscribers.len()
    }

    /// The own clients that listen to a name, and how many do elsewhere.
    #[inline]
    pub fn listeners(&self, kind: Kind, name: &[u8]) -> (&[ConnId], u64) {
        self.find(kind, name).map_or((&[], 0), Name::listeners)
    }

    /// The patterns that match a channel, in order, with who listens.
    pub fn matching<'a>(&'a self, channel: &'a [u8]) -> impl Iterator<Item = (&'a Bytes, &'a [ConnId], u64)> {
        let matches = |pattern: &&Bytes| glob::matches(pattern, channel);
        self.patterns.iter().filter(matches).filter_map(|pattern| {
            let (here, elsewhere) = self.find(Kind::Pattern, pattern)?.listeners();
            Some((pattern, here, elsewhere))
        })
    }

    /// True if nobody listens to a pattern, here or elsewhere.
    #[inline]
    pub fn has_no_patterns(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Clients that listen to a name, wherever they are.
    pub fn count(&self, kind: Kind, name: &[u8]) -> u64 {
        self.find(kind, name).map_or(0, Name::count)
    }

    /// Names of a kind that somebody listens to, wherever.
    pub fn distinct(&self, kind: Kind) -> usize {
        self.names[kind as usize].iter().filter(|name| name.count() > 0).count()
    }

    /// Those of them that match a pattern, in order.
    pub fn names(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Bytes> {
        let wanted = |name: &&Name| {
            name.count() > 0 && pattern.is_none_or(|pattern| glob::matches(pattern, &name.name))
        };
        let mut names: Vec<Bytes> =
            self.names[kind as usize].iter().filter(wanted).map(|name| name.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Panics, naming the broken rule, if the state is impossible. Cost: O(subscriptions).
    pub fn assert_invariants(&self) {
        let mut here = 0;
        for (kind, names) in [Kind::Channel, Kind::Pattern, Kind::Shard].into_iter().zip(&self.names) {
            for name in names {
                let own = |conn: &ConnId| {
                    self.subscribers.get(conn).is_some_and(|of| of.names[kind as usize].contains(&name.name))
                };
                assert!(name.here.iter().all(own), "INV-PUBSUB-1: {:?} is not its subscriber's", name.name);
                assert!(name.here.is_sorted(), "INV-PUBSUB-1: subscribers of {:?} out of order", name.name);
                here += name.here.len();
                let is_used = !name.here.is_empty() || !name.elsewhere.is_empty() || name.is_changed;
                assert!(is_used, "INV-PUBSUB-2: nobody listens to {:?}", name.name);
            }
        }
        let all: usize = self.subscribers.values().flat_map(|of| &of.names).map(BTreeSet::len).sum();
        assert_eq!(here, all, "INV-PUBSUB-1: subscriptions of clients and of names");
        let patterns = self.names[Kind::Pattern as usize].len();
        assert_eq!(patterns, self.patterns.len(), "INV-PUBSUB-2: patterns in order and in the table");
    }

    // ---- names -------------------------------------------------------------------------------------------------------

    #[inline]
    pub(crate) fn find(&self, kind: Kind, name: &[u8]) -> Option<&Name> {
        self.names[kind as usize].find(hash::of(name), |of| of.name == name)
    }

    pub(crate) fn all(&self, kind: Kind) -> impl Iterator<Item = &Name> {
        self.names[kind as usize].iter()
    }

    pub(crate) fn find_mut(&mut self, kind: Kind, name: &[u8]) -> Option<&mut Name> {
        self.names[kind as usize].find_mut(hash::of(name), |of| of.name == name)
    }

    /// The entry of a name, made if there is none.
    pub(crate) fn name(&mut self, kind: Kind, name: &[u8]) -> &mut Name {
        let hash_of = |of: &Name| hash::of(&of.name);
        let entry = self.names[kind as usize].entry(hash::of(name), |of| of.name == name, hash_of);
        let patterns = &mut self.patterns;
        let entry = entry.or_insert_with(|| {
            let name = Bytes::copy_from_slice(name);
            if kind == Kind::Pattern {
                patterns.insert(name.clone());
            }
            Name { name, here: Vec::new(), elsewhere: Vec::new(), is_changed: false }
        });
        entry.into_mut()
    }

    /// Forgets a name if nothing is known of it any more.
    pub(crate) fn tidy(&mut self, kind: Kind, name: &[u8]) {
        let is_it = |of: &Name| of.name == name;
        let Ok(entry) = self.names[kind as usize].find_entry(hash::of(name), is_it) else { return };
        let of = entry.get();
        if of.here.is_empty() && of.elsewhere.is_empty() && !of.is_changed {
            entry.remove();
            self.patterns_forget(kind, name);
        }
    }

    fn patterns_forget(&mut self, kind: Kind, name: &[u8]) {
        if kind == Kind::Pattern {
            self.patterns.remove(name);
        }
    }

    fn remove_here(&mut self, conn: ConnId, kind: Kind, name: &Bytes) {
        let entry =
            self.find_mut(kind, name).expect("INV-PUBSUB-1: a client's name that is not in the table");
        let at = entry.here.binary_search(&conn).expect("INV-PUBSUB-1: a name without its subscriber");
        entry.here.remove(at);
        self.note_change(kind, name);
    }

    fn note_change(&mut self, kind: Kind, name: &Bytes) {
        let entry = self.find_mut(kind, name).expect("what has changed is in the table");
        if !std::mem::replace(&mut entry.is_changed, true) {
            self.changed.push((kind, name.clone()));
        }
    }
}

impl Name {
    #[inline]
    fn listeners(&self) -> (&[ConnId], u64) {
        (&self.here, self.elsewhere.iter().map(|(_, count)| count).sum())
    }

    fn count(&self) -> u64 {
        let (here, elsewhere) = self.listeners();
        here.len() as u64 + elsewhere
    }
}
