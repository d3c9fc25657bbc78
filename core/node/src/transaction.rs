//! `MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH`: commands of a client are kept, and become one operation.
//!
//! What the shard does with it is in `core/keyspace` (`transaction.rs`). Commands of the node within a transaction run when its
//! reply is there, and only if it was carried out, so that a watched key that has changed stops them as well.

mod exec;
mod queue;
mod watch;

use std::collections::BTreeMap;

use bytes::Bytes;
use skep_base::args::OwnedArgs;
use skep_base::{Args, ConnId, GroupId, Refusal};
use skep_command::{CommandId, CommandSpec, id_of};
use skep_keyspace::Seen;
use skep_keyspace::scripts::Sha;
use skep_resp::Reply;

use crate::local::Local;
use crate::on_client::Flow;
use crate::{Node, Output};
use exec::exec;
use watch::{unwatch, watch};

/// Commands that steer the queueing. They answer in the order of the client's replies, and need not wait for them.
pub(crate) const COMMANDS: &[(&str, Steer)] =
    &[("discard", discard), ("exec", exec), ("multi", multi), ("unwatch", unwatch), ("watch", watch)];

/// A command of [`COMMANDS`].
pub(crate) type Steer = fn(&mut Node, ConnId, Args<'_>, &mut Vec<Output>) -> Flow;

pub(crate) const EXEC: CommandId = id_of("exec");

/// The name in front of the arguments of an `exec`.
const NAME: &[u8] = b"exec";

/// What a client keeps until `EXEC`. Kept for its memory afterwards.
#[derive(Default)]
pub(crate) struct Transaction {
    /// Between `MULTI` and `EXEC`.
    open: bool,
    /// A command was refused: `EXEC` will be, too.
    failed: bool,
    /// By database and key.
    watched: BTreeMap<(u8, Vec<u8>), Seen>,
    watched_bytes: usize,
    /// The shard of its keys.
    shard: Option<GroupId>,
    /// The name and the commands on keys, encoded.
    keyed: Vec<u8>,
    keyed_count: usize,
    /// All commands on keys, for the counters.
    commands: Vec<&'static CommandSpec>,
    /// What is to be done, in order, if there is more than commands on keys.
    steps: Vec<Step>,
    writes: bool,
    grows: bool,
    runs_scripts: bool,
    /// The database that the next command uses.
    db: u8,
    /// Bytes of the commands of the node.
    own_bytes: usize,
    /// Scripts that the commands call by name, where there are several shards; with the source if the shard needs it.
    sought: BTreeMap<Sha, Option<Bytes>>,
    sought_bytes: usize,
}

/// A queued command, by who runs it.
pub(crate) enum Step {
    Keyed,
    Own { command: &'static CommandSpec, run: Local, args: OwnedArgs },
}

impl Transaction {
    /// True between `MULTI` and `EXEC`.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.open
    }

    pub fn watched_len(&self) -> usize {
        self.watched.len()
    }

    /// Commands queued.
    pub fn len(&self) -> usize {
        if self.steps.is_empty() { self.keyed_count } else { self.steps.len() }
    }

    /// Takes note that a command was refused. What was queued is of no use any more.
    pub fn fail(&mut self) {
        if self.open {
            self.clear_queue();
            self.failed = true;
        }
    }

    pub fn memory_bytes(&self) -> usize {
        size_of::<Transaction>()
            + self.keyed.capacity()
            + self.own_bytes
            + self.sought_bytes
            + self.watched_bytes
            + self.commands.capacity() * size_of::<usize>()
            + self.steps.capacity() * size_of::<Step>()
    }

    fn bytes(&self) -> usize {
        self.keyed.len() + self.own_bytes + self.sought_bytes
    }

    fn clear_queue(&mut self) {
        const KEPT_BYTES_MAX: usize = 64 * 1024;
        if self.keyed.capacity() > KEPT_BYTES_MAX {
            self.keyed = Vec::new();
            self.commands = Vec::new();
        }
        self.keyed.clear();
        self.commands.clear();
        self.steps = Vec::new();
        self.sought = BTreeMap::new();
        (self.keyed_count, self.own_bytes, self.sought_bytes) = (0, 0, 0);
        (self.writes, self.grows, self.runs_scripts) = (false, false, false);
    }

    /// Ends the transaction and forgets the watched keys.
    fn end(&mut self) {
        self.clear_queue();
        self.watched = BTreeMap::new();
        self.watched_bytes = 0;
        (self.open, self.failed, self.shard) = (false, false, None);
    }
}

impl Node {
    /// Answers a command that need not wait for those before it, in its place in the order of replies.
    pub(crate) fn answer_in_order(
        &mut self,
        conn: ConnId,
        command: Option<&'static CommandSpec>,
        write: impl FnOnce(&mut Reply),
    ) -> Flow {
        let Some(client) = self.clients.get_mut(conn) else { return Flow::Done };
        if let Some(command) = command {
            self.stats.called(command);
            client.last_command = command.name;
            client.commands += 1;
        }
        if client.begin_silence() {
            return Flow::Done;
        }
        if client.pending() == 0 {
            write(&mut Reply::new(&mut client.output, client.protocol));
        } else {
            let mut bytes = Vec::new();
            write(&mut Reply::new(&mut bytes, client.protocol));
            let op = client.begin_op(false);
            client.park(op, bytes);
        }
        Flow::Done
    }

    /// As [`Node::answer_in_order`], with an error.
    fn answer_error(&mut self, conn: ConnId, command: CommandId, refusal: &Refusal) -> Flow {
        self.stats.failed(command.spec(), refusal);
        self.answer_in_order(conn, Some(command.spec()), |reply| reply.refusal(refusal))
    }
}

fn multi(node: &mut Node, conn: ConnId, _: Args<'_>, _: &mut Vec<Output>) -> Flow {
    const MULTI: CommandId = id_of("multi");
    let client = node.client(conn);
    let db = client.db;
    let tx = client.transaction.get_or_insert_default();
    if tx.open {
        return node.answer_error(conn, MULTI, &Refusal::text("ERR MULTI calls can not be nested"));
    }
    (tx.open, tx.db) = (true, db);
    node.answer_in_order(conn, Some(MULTI.spec()), |reply| reply.ok())
}

fn discard(node: &mut Node, conn: ConnId, _: Args<'_>, _: &mut Vec<Output>) -> Flow {
    const DISCARD: CommandId = id_of("discard");
    match &mut node.client(conn).transaction {
        Some(tx) if tx.open => tx.end(),
        _ => return node.answer_error(conn, DISCARD, &Refusal::text("ERR DISCARD without MULTI")),
    }
    node.answer_in_order(conn, Some(DISCARD.spec()), |reply| reply.ok())
}

#[cfg(test)]
mod tests;
