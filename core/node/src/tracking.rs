//! Client-side caching: clients that are told which of the keys that they have read, or that begin as they said, have changed.
//!
//! The table belongs to the client's cell. A key enters it before the read is sent on, and leaves it when the client is told. What
//! a script reads beside the keys that its call names enters it as the script runs, if it runs in the client's cell; else it
//! counts as changed behind the reply.
//! What changes keys comes as their events do (`notify.rs`), so a client hears of what its node applies; a node without a
//! replica from the shard's leader. Where events may have been missed, and where another node is not heard any more, all keys
//! count as changed. Told early is harmless, never told is not: a client that waits for replies is told again behind them,
//! since they may show what the key was before.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::{Args, ConnId};
use skep_command::{CommandId, CommandSpec, id_of};
use skep_pubsub::{Touched, Tracking};
use skep_resp::{Protocol, Reply};

use crate::cells::Message as Mail;
use crate::client::Client;
use crate::local::Route;
use crate::script_notes::Ran;
use crate::scripting::is_scripting;
use crate::{Node, Output};

const DISCARD: CommandId = id_of("discard");
const EXEC: CommandId = id_of("exec");
const MULTI: CommandId = id_of("multi");

/// Keys that a client is told again behind the replies it waits for; of more it is told that all have changed.
const AGAIN_MAX: usize = 1_000;

/// The channel of a client that speaks RESP2 and is told for another.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// What a cell knows of its clients' caches.
#[derive(Default)]
pub(crate) struct Caching {
    pub table: Tracking,
    /// Keys in the table at the most; 0 for no limit.
    pub keys_max: usize,
    /// Own clients that are told.
    pub clients: BTreeSet<ConnId>,
    /// Other cells with such clients.
    cells: BTreeSet<usize>,
    /// Clients that are to be told something again.
    again: BTreeSet<ConnId>,
    /// Somebody is to be told of a prefix.
    touched: bool,
    /// Keys that clients have read by scripts that ran elsewhere; `None` for any key.
    read_elsewhere: BTreeMap<ConnId, Option<Vec<Box<[u8]>>>>,
}

/// How one client is told.
pub(crate) struct ClientTracking {
    pub mode: Mode,
    /// Not of what it changed itself.
    pub noloop: bool,
    /// `CLIENT CACHING` was called for the next command.
    pub caching: bool,
    /// Who is told in its place.
    pub redirect: Option<Target>,
    /// That one is gone.
    pub broken: bool,
    /// Of [`Mode::Broadcast`].
    pub prefixes: Vec<Box<[u8]>>,
    /// Keys read by the transaction that is being queued.
    queued: Vec<Box<[u8]>>,
    /// Keys to be told again when the operations before this number are answered; `None` for all keys.
    again: Option<Vec<Box<[u8]>>>,
    again_at: u64,
}

/// What was so of a client before a command that may have to wait.
pub(crate) struct BeforeCommand {
    caching: bool,
    /// What EXEC has taken, and how much there was.
    queued: Vec<Box<[u8]>>,
    queued_len: usize,
}

/// Of which keys a client is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Those it has read.
    Read,
    /// Those it has read by commands behind `CLIENT CACHING YES`.
    OptIn,
    /// Those it has read but by commands behind `CLIENT CACHING NO`.
    OptOut,
    /// Those with its prefixes.
    Broadcast,
}

/// A client of this node, wherever it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    pub number: u64,
    pub cell: usize,
    pub conn: ConnId,
}

/// What a client is told.
pub(crate) enum Changed<'a> {
    Keys(&'a [&'a [u8]]),
    /// Any key.
    All,
}

impl ClientTracking {
    pub fn new(mode: Mode) -> ClientTracking {
        ClientTracking {
            mode,
            noloop: false,
            caching: false,
            redirect: None,
            broken: false,
            prefixes: Vec::new(),
            queued: Vec::new(),
            again: Some(Vec::new()),
            again_at: 0,
        }
    }
}

impl Caching {
    /// True if clients of this node are to be told of keys.
    pub fn is_used(&self) -> bool {
        !self.clients.is_empty() || !self.cells.is_empty()
    }

    /// True if somebody is to be told something at the end of the turn.
    pub fn has_news(&self) -> bool {
        self.touched || !self.read_elsewhere.is_empty()
    }
}

impl Node {
    /// A client is told from here on.
    pub(crate) fn begin_tracking(&mut self, conn: ConnId) {
        if self.caching.clients.is_empty() {
            self.tell_all(|| Mail::Tracks { is_on: true });
        }
        self.caching.clients.insert(conn);
    }

    /// A client is told no more, or is gone.
    pub(crate) fn end_tracking(&mut self, conn: ConnId, tracking: &ClientTracking) {
        for prefix in &tracking.prefixes {
            self.caching.table.remove_prefix(conn, prefix);
        }
        if self.caching.clients.remove(&conn) && self.caching.clients.is_empty() {
            self.caching.table.clear();
            self.tell_all(|| Mail::Tracks { is_on: false });
        }
        self.caching.again.remove(&conn);
    }

    /// Another cell has clients that are told, or none any more.
    pub(crate) fn on_tracks(&mut self, cell: usize, is_on: bool) {
        match is_on {
            true => self.caching.cells.insert(cell),
            false => self.caching.cells.remove(&cell),
        };
    }

    /// A command of a client that is told of keys is about to run, or to be queued: notes what it reads, and gives what was so
    /// before.
    #[cold]
    pub(crate) fn track_reads(
        &mut self,
        conn: ConnId,
        (command, route): (&'static CommandSpec, Route),
        args: Args<'_>,
        out: &mut Vec<Output>,
    ) -> Option<BeforeCommand> {
        let client = self.clients.get_mut(conn).expect("a client stays while its command runs");
        let queues = client.transaction.as_ref().is_some_and(|transaction| transaction.is_open());
        let tracking = client.tracking.as_deref_mut()?;
        let caching = tracking.caching;
        let caches = match tracking.mode {
            Mode::Read => true,
            Mode::OptIn => tracking.caching,
            Mode::OptOut => !tracking.caching,
            Mode::Broadcast => false,
        };
        if !queues && command.id() != MULTI && !command.name.starts_with("client|") || command.id() == EXEC {
            tracking.caching = false;
        }
        let mut queued = std::mem::take(&mut tracking.queued);
        let mut before = BeforeCommand { caching, queued: Vec::new(), queued_len: queued.len() };
        if caches
            && matches!(route, Route::Keyspace(_))
            && (!command.is_write() || is_scripting(command))
            && let Ok(keys) = command.keys(args)
        {
            for key in keys.iter() {
                match queues {
                    true => queued.push(args[key.index].into()),
                    false => self.caching.table.remember(conn, &args[key.index]),
                }
            }
        }
        match command.id() {
            EXEC => {
                queued.iter().for_each(|key| self.caching.table.remember(conn, key));
                before.queued = queued;
            }
            DISCARD => {}
            _ if queues => {
                let tracking = client.tracking.as_deref_mut().expect("it was there");
                tracking.queued = queued;
            }
            _ => {}
        }
        self.keep_tracked_keys_few(out);
        Some(before)
    }

    /// The command has to wait and comes by again: what was so before is so still. Keys that it reads may have changed by then,
    /// and left the table.
    pub(crate) fn track_again(&mut self, conn: ConnId, before: BeforeCommand) {
        let tracking = self.clients.get_mut(conn).and_then(|client| client.tracking.as_mut());
        let Some(tracking) = tracking else { return };
        tracking.caching = before.caching;
        if !before.queued.is_empty() {
            tracking.queued = before.queued;
        }
        tracking.queued.truncate(before.queued_len);
    }

    /// A script of a client has read a key that its call does not name, or (`None`) more such keys than are told. Where it ran
    /// elsewhere, what has changed the key since then may have been heard before this; so it counts as changed behind the reply.
    pub(crate) fn on_script_read(&mut self, conn: ConnId, key: Option<Box<[u8]>>, ran: Ran) {
        if !self.clients.get(conn).is_some_and(Client::caches_reads) {
            return;
        }
        match (key, ran) {
            (Some(key), Ran::Here) => self.caching.table.remember(conn, &key),
            (Some(key), Ran::Elsewhere) => {
                if let Some(keys) = self.caching.read_elsewhere.entry(conn).or_insert(Some(Vec::new())) {
                    keys.push(key);
                }
            }
            (None, _) => drop(self.caching.read_elsewhere.insert(conn, None)),
        }
    }

    /// Makes room in the table: who has read the keys that go is told that they have changed.
    pub(crate) fn keep_tracked_keys_few(&mut self, out: &mut Vec<Output>) {
        while let Some((key, clients)) = self.caching.table.evict(self.caching.keys_max) {
            for conn in clients {
                self.tell_changed(conn, Changed::Keys(&[&key]), out);
            }
        }
    }

    /// A key has changed, by a command of `by` if that is known and a client of this cell.
    pub(crate) fn invalidate(&mut self, key: &[u8], by: Option<ConnId>, out: &mut Vec<Output>) {
        for conn in self.caching.table.take(key) {
            if by != Some(conn) || !self.ignores_own(conn) {
                self.tell_changed(conn, Changed::Keys(&[key]), out);
            }
        }
        self.caching.touched |= self.caching.table.touch(key, by);
    }

    /// Any key may have changed.
    pub(crate) fn invalidate_all(&mut self, out: &mut Vec<Output>) {
        if self.caching.clients.is_empty() {
            return;
        }
        self.caching.table.clear();
        let clients: Vec<ConnId> = self.caching.clients.iter().copied().collect();
        for conn in clients {
            self.tell_changed(conn, Changed::All, out);
        }
    }

    fn ignores_own(&self, conn: ConnId) -> bool {
        let tracking = self.clients.get(conn).and_then(|client| client.tracking.as_deref());
        tracking.is_some_and(|tracking| tracking.noloop)
    }

    /// The end of a turn: tells who wants to hear of prefixes, and again who waited for replies that have come.
    pub(crate) fn flush_tracking(&mut self, out: &mut Vec<Output>) {
        if std::mem::take(&mut self.caching.touched) {
            for (clients, keys) in self.caching.table.take_touched() {
                for conn in clients {
                    self.tell_touched(conn, &keys, out);
                }
            }
        }
        for (conn, keys) in std::mem::take(&mut self.caching.read_elsewhere) {
            match keys.as_ref().map(|keys| keys.iter().map(|key| &key[..]).collect::<Vec<&[u8]>>()) {
                Some(keys) => self.tell_changed(conn, Changed::Keys(&keys), out),
                None => self.tell_changed(conn, Changed::All, out),
            }
        }
        for conn in std::mem::take(&mut self.caching.again) {
            self.tell_again(conn, out);
        }
        self.keep_tracked_keys_few(out);
    }

    fn tell_touched(&mut self, conn: ConnId, touched: &Touched, out: &mut Vec<Output>) {
        let ignores_own = self.ignores_own(conn);
        let others = touched.iter().filter(|(_, by)| !ignores_own || **by != Some(conn));
        let keys: Vec<&[u8]> = others.map(|(key, _)| &key[..]).collect();
        if !keys.is_empty() {
            self.tell_changed(conn, Changed::Keys(&keys), out);
        }
    }

    fn tell_again(&mut self, conn: ConnId, out: &mut Vec<Output>) {
        let Some(client) = self.clients.get_mut(conn) else { return };
        let answered = client.answered_before();
        let Some(tracking) = client.tracking.as_deref_mut() else { return };
        if answered < tracking.again_at {
            self.caching.again.insert(conn);
            return;
        }
        match tracking.again.replace(Vec::new()) {
            Some(keys) => {
                let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                self.send_changed(conn, &Changed::Keys(&keys), out);
            }
            None => self.send_changed(conn, &Changed::All, out),
        }
    }

    /// Tells a client that keys have changed, and plans to tell it again behind the replies that it waits for.
    fn tell_changed(&mut self, conn: ConnId, changed: Changed<'_>, out: &mut Vec<Output>) {
        let Some(client) = self.clients.get_mut(conn) else { return };
        let (pending, begun) = (client.pending(), client.begun());
        let Some(tracking) = client.tracking.as_deref_mut() else { return };
        if pending > 0 {
            tracking.again_at = begun;
            match (&mut tracking.again, &changed) {
                (Some(again), Changed::Keys(keys)) if again.len() + keys.len() <= AGAIN_MAX => {
                    again.extend(keys.iter().map(|key| Box::from(*key)));
                }
                (again, _) => *again = None,
            }
            self.caching.again.insert(conn);
        }
        self.send_changed(conn, &changed, out);
    }

    /// Sends it to the client, or to the one that is told in its place.
    fn send_changed(&mut self, conn: ConnId, changed: &Changed<'_>, out: &mut Vec<Output>) {
        let Some(client) = self.clients.get(conn) else { return };
        let Some(tracking) = client.tracking.as_deref().filter(|tracking| !tracking.broken) else { return };
        match tracking.redirect {
            None if client.protocol == Protocol::Resp2 => {}
            None => self.push_one(conn, |reply| put_changed(reply, changed), out),
            Some(Target { cell, conn: to, .. }) if cell == self.cells.me => {
                if !self.send_redirected(to, changed, out) {
                    self.on_redirect_broken(conn, out);
                }
            }
            Some(Target { cell, conn: to, .. }) => {
                let keys = match changed {
                    Changed::Keys(keys) => Some(keys.iter().map(|key| key.to_vec()).collect()),
                    Changed::All => None,
                };
                self.cells.send(cell, Mail::Redirected { from: conn, to, keys });
            }
        }
    }

    /// Another cell's client is told by way of one here.
    pub(crate) fn on_redirected(
        &mut self,
        cell: usize,
        (from, to): (ConnId, ConnId),
        keys: Option<Vec<Vec<u8>>>,
        out: &mut Vec<Output>,
    ) {
        let told = match keys {
            Some(keys) => {
                let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                self.send_redirected(to, &Changed::Keys(&keys), out)
            }
            None => self.send_redirected(to, &Changed::All, out),
        };
        if !told {
            self.cells.send(cell, Mail::RedirectBroken { conn: from });
        }
    }

    /// Tells a client of this cell in the place of another. False if it is gone.
    fn send_redirected(&mut self, to: ConnId, changed: &Changed<'_>, out: &mut Vec<Output>) -> bool {
        let Some(client) = self.clients.get(to) else { return false };
        if client.protocol == Protocol::Resp3 {
            self.push_one(to, |reply| put_changed(reply, changed), out);
        } else if client.subscribed {
            let write = |reply: &mut Reply<'_>| {
                reply.push(3);
                reply.bulk(b"message");
                reply.bulk(CHANNEL);
                put_keys(reply, changed);
            };
            self.push_one(to, write, out);
        }
        true
    }

    /// The client that was told in the place of another is gone.
    pub(crate) fn on_redirect_broken(&mut self, conn: ConnId, out: &mut Vec<Output>) {
        let Some(client) = self.clients.get_mut(conn) else { return };
        let Some(tracking) = client.tracking.as_deref_mut().filter(|tracking| !tracking.broken) else {
            return;
        };
        tracking.broken = true;
        let number = tracking.redirect.map_or(0, |target| target.number);
        if client.protocol == Protocol::Resp3 {
            let write = |reply: &mut Reply<'_>| {
                reply.push(2);
                reply.bulk(b"tracking-redir-broken");
                reply.int(number as i64);
            };
            self.push_one(conn, write, out);
        }
    }
}

fn put_changed(reply: &mut Reply<'_>, changed: &Changed<'_>) {
    reply.push(2);
    reply.bulk(b"invalidate");
    put_keys(reply, changed);
}

fn put_keys(reply: &mut Reply<'_>, changed: &Changed<'_>) {
    match changed {
        Changed::Keys(keys) => {
            reply.array(keys.len());
            keys.iter().for_each(|key| reply.bulk(key));
        }
        Changed::All => reply.null(),
    }
}

#[cfg(test)]
mod tests;
