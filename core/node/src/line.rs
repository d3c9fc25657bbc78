//! Those who were tried in an entry and found nothing: they stay in line for its rest, in the order in which they were tried.
//!
//! Of many writes nobody knows beforehand whether they bring something: scripts, transactions, `RENAME`, `COPY`, `SORT STORE` and so
//! on. The leader puts those who wait for a key of theirs behind the first of them, and says behind each write to such a key
//! that follows ([`OpKind::Serve`](crate::entry::OpKind::Serve)) that who stands in line is to be tried again, so that no other
//! command of the entry comes between. Every replica does as the entry says; nothing of it stays when the entry is applied.

use std::collections::VecDeque;

use skep_base::args::OwnedArgs;
use skep_base::{Args, Unserved};
use skep_keyspace::{Brings, Keyspace, Wait, WaitKind, brings};

use crate::waiting::waited_keys;

/// A command that found nothing.
pub(crate) struct Member<W> {
    /// Whose it is.
    pub who: W,
    pub db: u8,
    pub args: OwnedArgs,
    kind: WaitKind,
    keys: Vec<Box<[u8]>>,
    /// The key to which it brings what it gets.
    target: Option<Box<[u8]>>,
    is_served: bool,
}

/// The line of an entry.
pub(crate) struct Line<W> {
    members: Vec<Member<W>>,
}

/// The keys whose line is being served, and how far.
pub(crate) struct Serving {
    keys: VecDeque<(u8, Box<[u8]>)>,
    from: usize,
}

impl Serving {
    pub fn of(db: u8, key: &[u8]) -> Serving {
        Serving { keys: VecDeque::from([(db, key.into())]), from: 0 }
    }
}

impl<W> Line<W> {
    pub fn new() -> Line<W> {
        Line { members: Vec::new() }
    }

    /// Adds a command that was run to the end, if it found nothing and waits.
    pub fn join(&mut self, who: W, db: u8, args: Args<'_>, unserved: Option<Unserved>) {
        let Some(unserved) = unserved else { return };
        let args = unserved.args.as_ref().map_or(args, |args| args.args());
        let Ok(command) = skep_command::resolve(args) else { return };
        let Some(wait) = Wait::of(command, args) else { return };
        let target = match brings(command, args) {
            Brings::To { place, .. } => args.get(place).map(Box::from),
            _ => None,
        };
        let keys = waited_keys(command, args, wait.first_key_only);
        let args = OwnedArgs::copy(args);
        self.members.push(Member { who, db, args, kind: wait.kind, keys, target, is_served: false });
    }

    /// The place of who is to be tried next, by what the keys have. `None` at the end.
    pub fn next(&self, serving: &mut Serving, keyspace: &Keyspace) -> Option<usize> {
        while let Some((db, key)) = serving.keys.front() {
            let rest = self.members.iter().enumerate().skip(serving.from);
            let mut waits =
                rest.filter(|(_, m)| !m.is_served && m.db == *db && m.keys.iter().any(|k| k == key));
            let found = waits.next().zip(keyspace.supply(*db, key, keyspace.stamp()));
            let Some(((at, member), (kind, _))) = found else {
                serving.keys.pop_front();
                serving.from = 0;
                continue;
            };
            serving.from = at + 1;
            if member.kind == kind {
                return Some(at);
            }
        }
        None
    }

    pub fn get(&self, at: usize) -> &Member<W> {
        &self.members[at]
    }

    /// Takes note that who stands at a place got something: who waits for what that brings is next.
    pub fn served(&mut self, at: usize, serving: &mut Serving) {
        let member = &mut self.members[at];
        member.is_served = true;
        serving.keys.extend(member.target.take().map(|key| (member.db, key)));
    }
}
