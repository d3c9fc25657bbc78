//! Operations whose replies are not the client's reply yet: it is made of them when all have come. The client waits for that
//! and runs nothing else; to the order of its replies they are one operation.

use skep_base::{Args, ConnId, GroupId};
use skep_command::CommandSpec;
use skep_keyspace::{Handler, ReadCx};
use skep_resp::Reply;

use crate::batch::Call;
use crate::cells::Message;
use crate::client::Client;
use crate::copies::least_copies;
use crate::on_client::BATCH_BYTES_MAX;
use crate::run::{Asked, call_of};
use crate::scripting::reply_of_all;
use crate::transaction::Step;
use crate::{Node, Output};

/// Replies that are waited for, and what becomes of them.
pub(crate) struct Joined {
    left: usize,
    /// Each with the number of its operation, or with its place among those asked.
    replies: Vec<(u64, Vec<u8>)>,
    /// `None` for what shards know of a script, which is for this cell: no reply is made of it.
    becomes: Option<Becomes>,
    command: &'static CommandSpec,
    silent: bool,
}

/// What the client's reply is made of.
pub(crate) enum Becomes {
    /// What is seen of keys that the client watches from then on.
    Watched { db: u8, keys: Vec<Vec<u8>> },
    /// The same was asked of all shards.
    OfAll,
    /// The replies of a transaction's commands on keys, between which the node runs its own.
    Transaction(Vec<Step>),
    /// How many copies each shard has of what the client wrote.
    LeastCopies,
}

impl Joined {
    /// Takes a reply; true if it was the last.
    pub fn take(&mut self, seq: u64, reply: &[u8]) -> bool {
        self.replies.push((seq, reply.to_vec()));
        self.left -= 1;
        self.left == 0
    }

    /// True if the client asked for it, and not this cell for its sake.
    pub fn is_asked_for(&self) -> bool {
        self.becomes.is_some()
    }
}

impl Client {
    /// The replies of `count` operations, which begin now, become one, or are for this cell.
    pub(crate) fn join_replies(
        &mut self,
        count: usize,
        becomes: Option<Becomes>,
        command: &'static CommandSpec,
        silent: bool,
    ) {
        self.joined = Some(Box::new(Joined { left: count, replies: Vec::new(), becomes, command, silent }));
    }
}

impl Node {
    /// Gives operations, the same for all of `groups`, to their shards; the client waits for the replies. Nothing of it may be
    /// pending.
    pub(crate) fn join(
        &mut self,
        asked: Asked<'_>,
        groups: &[GroupId],
        becomes: Becomes,
        out: &mut Vec<Output>,
    ) {
        let Asked { conn, command, handler, args } = asked;
        let client = self.client(conn);
        assert_eq!(client.pending(), 0, "INV-NODE-1: replies are joined when nothing else is waited for");
        let silent = client.begin_command(command.name);
        client.join_replies(groups.len(), Some(becomes), command, silent);
        if let (Handler::Read(_), [group]) = (handler, groups)
            && self.join_read(asked, *group, out)
        {
            return;
        }
        let (me, one_shard) = (self.cells.me, self.cells.one_shard);
        let client = self.client(conn);
        client.waiting = true;
        let call = call_of(client, me, asked, false);
        if matches!(handler, Handler::Write(_)) && !one_shard {
            groups.iter().for_each(|group| client.written.add(*group));
        }
        for group in groups {
            self.give(*group, call, args, out);
        }
    }

    /// Puts an operation into the batch of its shard, or gives it to the cell that is its home.
    pub(crate) fn give(&mut self, group: GroupId, call: Call, args: Args<'_>, out: &mut Vec<Output>) {
        match self.shard_of_group(group) {
            Some(at) => {
                if self.shards[at].batch.bytes() + args.bytes() > BATCH_BYTES_MAX {
                    self.drive_shard(at, out);
                }
                match call.handler {
                    Handler::Write(_) => self.push_write(at, call, args),
                    Handler::Read(_) if call.wait.is_some() => self.push_read(at, call, args),
                    Handler::Read(_) => self.shards[at].batch.push_read(call, args),
                }
            }
            None => self.cells.give(self.cells.home(group), group, call, args),
        }
    }

    /// Runs a read at once, under the lease. False if it has to wait.
    fn join_read(&mut self, asked: Asked<'_>, group: GroupId, out: &mut Vec<Output>) -> bool {
        let Asked { conn, command, handler, args } = asked;
        let now = self.now;
        let Some(at) = self.shard_of_group(group) else { return false };
        let Some(client) = self.clients.get_mut(conn) else { return false };
        let Some(replica) = self.shards[at].replica.as_mut().filter(|r| r.may_read(now.mono)) else {
            return false;
        };
        let time = replica.time(now);
        let keyspace = &replica.keyspace;
        keyspace.access.set_paused(client.no_touch);
        let mut bytes = Vec::new();
        let mut cx = ReadCx { keyspace, db: client.db, now: time, rng: &mut self.rng };
        handler.read(&mut cx, args, &mut Reply::new(&mut bytes, client.protocol));
        if keyspace.take_saw_due() && !self.disk_full {
            self.shards[at].batch.want_entry();
            return false;
        }
        self.stats.called(command);
        if let Some(joined) = &mut client.joined {
            joined.take(0, &bytes);
        }
        self.answer_joined(conn, out);
        true
    }

    /// All replies that a client waited for have come, if it waited for some: makes its reply of them.
    pub(crate) fn answer_joined(&mut self, conn: ConnId, out: &mut Vec<Output>) {
        let Some(client) = self.clients.get_mut(conn) else { return };
        let Some(joined) = client.joined.take() else { return };
        let Joined { replies, becomes, command, silent, .. } = *joined;
        let Some(becomes) = becomes else { return self.take_source(conn, &replies) };
        let replies: Vec<Vec<u8>> = replies.into_iter().map(|(_, reply)| reply).collect();
        let mut output = std::mem::take(&mut client.output);
        let mark = output.len();
        match becomes {
            Becomes::Watched { db, keys } => {
                self.begin_watching(conn, db, keys, &replies[0], &mut output);
            }
            Becomes::OfAll => {
                let protocol = self.client(conn).protocol;
                reply_of_all(command, &replies, &mut Reply::new(&mut output, protocol));
                if command.name == "script|flush" {
                    self.forget_scripts();
                    self.tell_all(|| Message::ScriptsFlushed);
                }
            }
            Becomes::LeastCopies => {
                let protocol = self.client(conn).protocol;
                least_copies(&replies, &mut Reply::new(&mut output, protocol));
            }
            Becomes::Transaction(steps) => {
                self.finish_transaction(conn, steps, &replies[0], &mut output, out);
            }
        }
        if output.get(mark) == Some(&b'-') {
            self.stats.failed_reply(command, &output[mark..]);
        }
        if silent {
            output.truncate(mark);
        }
        if let Some(client) = self.clients.get_mut(conn) {
            client.output = output;
        }
        self.push_own(conn);
    }
}
