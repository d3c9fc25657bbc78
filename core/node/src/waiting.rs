//! Commands that wait on the leader of their shard: by key, first come first served (INV-WAIT-1).
//!
//! Owns who waits for what and since when. Does not run anything: `blocked.rs` does. Nothing of it is logged; a leader that
//! is one no more forgets it, and each command goes to the next leader with the time that it has waited.
//!
//! INV-WAIT-1: of those who wait for a key, who has waited longest is tried first, and who comes goes to the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use skep_base::args::OwnedArgs;
use skep_base::{Args, Millis, NodeId};
use skep_command::CommandSpec;
use skep_keyspace::{Handler, WaitKind};

use crate::batch::{Asker, Call, Origin, Unblock};
use crate::copies::Target;

/// A place in the order: since when one has waited, by this node's monotonic clock, and a count of those who came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub since: Millis,
    count: u64,
}

/// A command that waits.
pub(crate) struct Waiter {
    pub call: Call,
    pub args: OwnedArgs,
    pub kind: WaitKind,
    keys: Vec<Box<[u8]>>,
    /// When it is answered that there was nothing.
    pub deadline: Option<Millis>,
    pub trying: Try,
    /// What copies are to hold, if it waits for that.
    pub copies: Option<Target>,
}

/// Whether a try of a command that waits is on its way through the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Try {
    None,
    /// Behind a write that brings what it is to get.
    Sure,
    /// In so manieth batch of the shard. There may be nothing for it; then it stands in the line of that entry (`line.rs`).
    InLine(u64),
}

/// Whose turn it is.
#[derive(Default)]
pub(crate) struct Turn {
    /// In their order.
    pub places: Vec<Place>,
    /// Somebody stands in the line of the batch that is being collected, and is to be tried behind so many of them.
    pub line: Option<usize>,
    /// Somebody who may get nothing is tried in another batch, and nobody behind him is named.
    pub held: bool,
}

type ByKey = BTreeMap<Box<[u8]>, BTreeSet<Place>>;

/// All that wait on one shard.
#[derive(Default)]
pub(crate) struct Waiting {
    order: BTreeMap<Place, Waiter>,
    /// By database and key.
    keys: BTreeMap<u8, ByKey>,
    askers: BTreeMap<Asker, Place>,
    /// Those who wait for copies.
    for_copies: BTreeSet<Place>,
    /// Of those that no try is on its way of.
    deadlines: BTreeSet<(Millis, Place)>,
    count: u64,
    /// Nodes whose clients were passed over, since they may be gone.
    passed_over: RefCell<BTreeSet<NodeId>>,
}

impl Waiter {
    /// The keys that it waits for.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(|key| &**key)
    }

    /// The group of which an XREADGROUP reads: each gets its own entries.
    fn group(&self) -> Option<&[u8]> {
        let args = self.args.args();
        let at = (1..args.len()).find(|at| args.is(*at, "group"))?;
        args.get(at + 1)
    }
}

impl Waiting {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True if somebody at one of `places` waits for several of `keys`, each with its database.
    pub fn waits_for_several(&self, places: &[Place], keys: &[(u8, &[u8])]) -> bool {
        let several = |waiter: &Waiter| {
            let db = waiter.call.db;
            waiter.keys().filter(|key| keys.contains(&(db, *key))).nth(1).is_some()
        };
        places.iter().filter_map(|place| self.order.get(place)).any(several)
    }

    /// True if somebody waits for `key`.
    pub fn holds_key(&self, db: u8, key: &[u8]) -> bool {
        self.keys.get(&db).is_some_and(|keys| keys.contains_key(key))
    }

    /// Adds a command behind those who have waited as long or longer. `deadline` is when it is given up.
    ///
    /// # Panics
    /// If it waits already.
    pub fn add(
        &mut self,
        asker: Asker,
        call: Call,
        args: OwnedArgs,
        (kind, keys): (WaitKind, Vec<Box<[u8]>>),
        deadline: Option<Millis>,
        trying: Try,
    ) -> Place {
        let since = call.wait.map_or(Millis(0), |wait| wait.since);
        self.count += 1;
        let place = Place { since, count: self.count };
        let before = self.askers.insert(asker, place);
        assert!(before.is_none(), "INV-WAIT-2: {asker:?} waits twice");
        for key in &keys {
            let of_db = self.keys.entry(call.db).or_default();
            match of_db.get_mut(key) {
                Some(places) => drop(places.insert(place)),
                None => {
                    // Not `from`, which sorts.
                    let mut places = BTreeSet::new();
                    places.insert(place);
                    of_db.insert(key.clone(), places);
                }
            }
        }
        if let Some(deadline) = deadline.filter(|_| trying == Try::None) {
            self.deadlines.insert((deadline, place));
        }
        let waiter = Waiter { call, args, kind, keys, deadline, trying, copies: None };
        self.order.insert(place, waiter);
        place
    }

    /// Takes note of what copies are to hold for a command that waits for that.
    pub fn set_copies(&mut self, place: Place, target: Target) {
        if let Some(waiter) = self.order.get_mut(&place) {
            waiter.copies = Some(target);
            self.for_copies.insert(place);
        }
    }

    pub fn has_for_copies(&self) -> bool {
        !self.for_copies.is_empty()
    }

    /// Those who wait for copies.
    pub fn for_copies(&self) -> Vec<Place> {
        self.for_copies.iter().copied().collect()
    }

    /// Where a command waits.
    pub fn place_of(&self, asker: Asker) -> Option<Place> {
        self.askers.get(&asker).copied()
    }

    pub fn get(&self, place: Place) -> Option<&Waiter> {
        self.order.get(&place)
    }

    /// The keys of a database that somebody waits for.
    pub fn keys_of(&self, db: u8) -> impl Iterator<Item = &[u8]> {
        self.keys.get(&db).into_iter().flat_map(|keys| keys.keys().map(|key| &**key))
    }

    /// Those who wait for `key`, who has waited longest first.
    pub fn of_key(&self, db: u8, key: &[u8]) -> impl Iterator<Item = (Place, &Waiter)> {
        let places = self.keys.get(&db).and_then(|keys| keys.get(key));
        places.into_iter().flatten().map(|place| (*place, &self.order[place]))
    }

    /// Whose turn it is when `key` gets something for `count` calls that wait for `kind`, or for anything: the first writes that no
    /// try is on its way of and that `may` names. If that is `in_all` what it has, those on their way get theirs of it. Of a
    /// stream each group gets its own. `batch` is the one that is being collected; those `named` have their turn in it for
    /// something else, and are named again where they stand, and not counted.
    pub fn next(
        &self,
        (db, key): (u8, &[u8]),
        kind: Option<WaitKind>,
        (count, in_all): (usize, bool),
        (batch, named): (u64, &BTreeSet<Place>),
        may: impl Fn(&Waiter) -> bool,
    ) -> Turn {
        let (mut groups, mut left) = (BTreeSet::new(), count);
        let mut turn = Turn::default();
        for (place, waiter) in self.of_key(db, key) {
            if left == 0 {
                break;
            }
            let is_meant = kind.is_none_or(|kind| waiter.kind == kind);
            if !is_meant || !matches!(waiter.call.handler, Handler::Write(_)) || !may(waiter) {
                continue;
            }
            let is_named = named.contains(&place);
            // Who is being tried stands for its group.
            if waiter.kind == WaitKind::Stream && !is_named && !groups.insert(waiter.group()) {
                continue;
            }
            match waiter.trying {
                Try::None => turn.places.push(place),
                Try::InLine(of) if of == batch && !in_all => {
                    turn.line.get_or_insert(turn.places.len());
                    continue;
                }
                // It is tried before those who are named here, and may get something else.
                Try::InLine(of) if of == batch && waiter.keys.len() > 1 => continue,
                Try::InLine(_) if !in_all && waiter.kind != WaitKind::Stream => {
                    turn.held = true;
                    break;
                }
                Try::Sure if !in_all => continue,
                Try::Sure | Try::InLine(_) => {}
            }
            if waiter.kind != WaitKind::Stream && !is_named {
                left -= 1;
            }
        }
        turn
    }

    /// Takes note whether a try is on its way.
    pub fn set_trying(&mut self, place: Place, trying: Try) {
        let Some(waiter) = self.order.get_mut(&place) else { return };
        waiter.trying = trying;
        if let Some(deadline) = waiter.deadline {
            match trying {
                Try::None => drop(self.deadlines.insert((deadline, place))),
                Try::Sure | Try::InLine(_) => drop(self.deadlines.remove(&(deadline, place))),
            }
        }
    }

    /// Takes note that who asked is told that it waits here, and gives the call as it was.
    pub fn set_parked(&mut self, place: Place) -> Option<Call> {
        let call = &mut self.order.get_mut(&place)?.call;
        let before = *call;
        if let Some(wait) = &mut call.wait {
            (wait.parked, wait.again) = (true, true);
        }
        if let Origin::Client { weight, .. } = &mut call.origin {
            *weight = 0;
        }
        Some(before)
    }

    /// Takes note that a command is to be answered as soon as it is known that it has got nothing.
    pub fn set_end(&mut self, place: Place, end: Unblock) {
        if let Some(wait) = self.order.get_mut(&place).and_then(|waiter| waiter.call.wait.as_mut()) {
            wait.end = Some(end);
        }
    }

    /// Takes out who waits at a place.
    pub fn remove(&mut self, place: Place) -> Option<Waiter> {
        let waiter = self.order.remove(&place)?;
        self.for_copies.remove(&place);
        if let Some(asker) = waiter.call.origin.asker() {
            self.askers.remove(&asker);
        }
        if let Some(deadline) = waiter.deadline {
            self.deadlines.remove(&(deadline, place));
        }
        let Some(of_db) = self.keys.get_mut(&waiter.call.db) else { return Some(waiter) };
        for key in &waiter.keys {
            if let Some(places) = of_db.get_mut(key) {
                places.remove(&place);
                if places.is_empty() {
                    of_db.remove(key);
                }
            }
        }
        Some(waiter)
    }

    /// Takes note that it was not the turn of a node's clients, since it may be gone.
    pub fn note_passed_over(&self, node: NodeId) {
        self.passed_over.borrow_mut().insert(node);
    }

    /// True if clients of a node were passed over since the last time.
    pub fn take_passed_over(&self, node: NodeId) -> bool {
        self.passed_over.borrow_mut().remove(&node)
    }

    /// Forgets clients of earlier runs of a node, and gives the keys that those of its run `run` wait for.
    pub fn forget_runs(&mut self, node: NodeId, run: Option<u64>) -> BTreeSet<(u8, Box<[u8]>)> {
        let (mut gone, mut keys) = (Vec::new(), BTreeSet::new());
        for (place, waiter) in &self.order {
            match waiter.call.origin {
                Origin::Peer { node: of, incarnation, .. } if of == node && Some(incarnation) == run => {
                    keys.extend(waiter.keys.iter().map(|key| (waiter.call.db, key.clone())));
                }
                Origin::Peer { node: of, .. } if of == node && run.is_some() => gone.push(*place),
                _ => {}
            }
        }
        gone.into_iter().for_each(|place| drop(self.remove(place)));
        keys
    }

    /// When the next one is given up, if nothing comes of a try.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out who is to be given up by `now`.
    pub fn take_overdue(&mut self, now: Millis) -> Option<Waiter> {
        let (deadline, place) = *self.deadlines.first()?;
        if deadline <= now { self.remove(place) } else { None }
    }

    /// Takes out who waits for copies and is to be given up by `now`.
    pub fn take_overdue_for_copies(&mut self, now: Millis) -> Option<Waiter> {
        let mut overdue = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        let (_, place) = *overdue.find(|(_, place)| self.for_copies.contains(place))?;
        self.remove(place)
    }

    /// Takes out all, who has waited longest first.
    pub fn take_all(&mut self) -> impl Iterator<Item = Waiter> {
        let count = self.count;
        let all = std::mem::take(self);
        self.count = count;
        all.order.into_values()
    }

    /// Panics, naming the broken rule, if the state is impossible.
    pub fn assert_invariants(&self) {
        let keys: usize = self.order.values().map(|w| w.keys.iter().collect::<BTreeSet<_>>().len()).sum();
        let listed: usize = self.keys.values().flat_map(BTreeMap::values).map(BTreeSet::len).sum();
        assert_eq!(keys, listed, "INV-WAIT-2: who waits for a key is listed under it");
        assert_eq!(self.order.len(), self.askers.len(), "INV-WAIT-2: each asker waits once");
    }
}

/// The keys that a call waits for, each once.
pub(crate) fn waited_keys(command: &CommandSpec, args: Args<'_>, first_only: bool) -> Vec<Box<[u8]>> {
    let Ok(keys) = command.keys(args) else { return Vec::new() };
    let count = if first_only { 1 } else { keys.len() };
    let mut waited: Vec<Box<[u8]>> = Vec::with_capacity(count);
    for key in keys.iter().take(count) {
        let key = &args[key.index];
        if !waited.iter().any(|other| **other == *key) {
            waited.push(key.into());
        }
    }
    waited
}
