//! Messages to whoever listens: delivered to the clients of this cell, given to the other cells, and by the hub to all nodes.
//!
//! A message is given to everybody, whether or not somebody is known to listen there: so one who was told that he is
//! subscribed gets all that is published afterwards wherever it can reach his node. Counts of subscribers only inform. At most
//! once: what is lost with a link, or does not fit in front of one, is not sent again.

use bytes::Bytes;
use skep_base::{ConnId, NodeId};
use skep_peer::PeerMessage;
use skep_pubsub::{Batch, Counts, Kind, Message, Source, Table, messages};
use skep_resp::{Protocol, Reply};
use skep_settings::ClassLimit;

use crate::cells::{HUB, Message as Mail};
use crate::client::{Client, Clients, Listed};
use crate::on_client::class_limit;
use crate::{Node, Output};

/// Bytes that may wait in front of a message on its way to another node, or to a cell if it comes from another node; with
/// more it is dropped for that receiver, and counted. Who publishes is not held up by one who is slow to take it.
pub(crate) const AHEAD_BYTES_MAX: u64 = 64 << 20;

/// What a cell has to do with messages.
#[derive(Default)]
pub(crate) struct PubSub {
    pub table: Table,
    /// Published in this turn, for the other cells and nodes.
    outgoing: Batch,
    /// A message in RESP2 and in RESP3; kept for their memory.
    forms: [Vec<u8>; 2],
    /// Pushes for the client whose command is being run, which follow the reply.
    own: Vec<u8>,
    /// Clients that are to be cut off, and what they would have been owed.
    doomed: Vec<(ConnId, usize)>,
    /// Of clients that listen.
    pub limit: ClassLimit,
    /// By cell: bytes that were given to it and that it has not taken, and bytes of it that were taken in this turn.
    ahead: Vec<u64>,
    taken: Vec<u64>,
    /// Messages, or batches of them, that were not given to a receiver since too much was in front of them.
    pub dropped: u64,
}

impl PubSub {
    pub fn new(cells: usize) -> PubSub {
        PubSub { ahead: vec![0; cells], taken: vec![0; cells], ..PubSub::default() }
    }

    /// Bytes that other cells have not taken.
    pub fn bytes_ahead(&self) -> u64 {
        self.ahead.iter().sum()
    }

    /// So many bytes are given to another cell.
    pub fn note_given(&mut self, cell: usize, bytes: usize) {
        self.ahead[cell] += bytes as u64;
    }

    /// So many bytes of another cell were taken in.
    pub fn note_taken(&mut self, cell: usize, bytes: usize) {
        self.taken[cell] += bytes as u64;
    }

    /// True if something waits for the end of the turn.
    pub fn has_news(&self) -> bool {
        !self.outgoing.is_empty() || self.table.has_changes()
    }
}

/// What it takes to push something to clients.
struct Pusher<'a> {
    clients: &'a mut Clients,
    with_pushes: &'a mut std::collections::VecDeque<ConnId>,
    grown: &'a mut Vec<ConnId>,
    forms: &'a mut [Vec<u8>; 2],
    own: &'a mut Vec<u8>,
    doomed: &'a mut Vec<(ConnId, usize)>,
    limit: ClassLimit,
}

impl Pusher<'_> {
    /// Pushes the same to all of `conns`.
    fn push(&mut self, conns: &[ConnId], running: Option<ConnId>, write: impl Fn(&mut Reply<'_>)) {
        self.forms.iter_mut().for_each(Vec::clear);
        for conn in conns {
            let Some(client) = self.clients.get_mut(*conn) else { continue };
            let form = &mut self.forms[usize::from(client.protocol == Protocol::Resp3)];
            if form.is_empty() {
                write(&mut Reply::new(form, client.protocol));
            }
            if running == Some(*conn) {
                self.own.extend_from_slice(form);
            } else if !client.closing {
                match push_to(client, form, self.limit) {
                    Pushed::Listed => {}
                    Pushed::First => self.with_pushes.push_back(*conn),
                    Pushed::AboveSoft => self.grown.push(*conn),
                    Pushed::TooMuch(owed) => self.doomed.push((*conn, owed)),
                }
            }
        }
    }
}

/// What became of a push to a client.
enum Pushed {
    /// It is named already among those with something to send.
    Listed,
    /// It is to be named.
    First,
    /// It is to be looked at.
    AboveSoft,
    /// It would be owed that much, which is over the limit. Nothing was written.
    TooMuch(usize),
}

#[inline]
fn push_to(client: &mut Client, form: &[u8], limit: ClassLimit) -> Pushed {
    let owed = client.owed_bytes() + form.len();
    if limit.hard_bytes > 0 && owed as u64 > limit.hard_bytes {
        return Pushed::TooMuch(owed);
    }
    client.compact_output();
    client.output.extend_from_slice(form);
    if limit.soft_bytes > 0 && owed as u64 > limit.soft_bytes {
        return Pushed::AboveSoft;
    }
    if client.listed != Listed::No {
        return Pushed::Listed;
    }
    client.listed = Listed::Pushed;
    Pushed::First
}

impl Node {
    /// A message of a client of this cell, or of an entry of the log that this cell applies first: delivers it here, and
    /// everywhere else at the end of the turn. What is for `running`, whose command is being run, waits for the end of that
    /// ([`Node::push_own`]). The number of receivers, as far as is known.
    pub(crate) fn publish(
        &mut self,
        message: Message<'_>,
        running: Option<ConnId>,
        out: &mut Vec<Output>,
    ) -> u64 {
        if self.is_heard_elsewhere() {
            self.pubsub.outgoing.push(message);
        }
        self.deliver(message, running, out)
    }

    /// Gives a message to the clients of this cell. The number of receivers here and elsewhere.
    pub(crate) fn deliver(
        &mut self,
        message: Message<'_>,
        running: Option<ConnId>,
        out: &mut Vec<Output>,
    ) -> u64 {
        let Node { clients, pubsub, with_pushes, grown, .. } = self;
        let PubSub { table, forms, own, doomed, limit, .. } = pubsub;
        let mut pusher = Pusher { clients, with_pushes, grown, forms, own, doomed, limit: *limit };
        let Message { kind, channel, payload } = message;
        let word: &[u8] = if kind == Kind::Shard { b"smessage" } else { b"message" };
        let (here, elsewhere) = table.listeners(kind, channel);
        let mut receivers = here.len() as u64 + elsewhere;
        pusher.push(here, running, |reply| {
            reply.push(3);
            [word, channel, payload].into_iter().for_each(|part| reply.bulk(part));
        });
        if kind == Kind::Channel && !table.has_no_patterns() {
            for (pattern, here, elsewhere) in table.matching(channel) {
                receivers += here.len() as u64 + elsewhere;
                pusher.push(here, running, |reply| {
                    reply.push(4);
                    [b"pmessage", &pattern[..], channel, payload]
                        .into_iter()
                        .for_each(|part| reply.bulk(part));
                });
            }
        }
        self.cut_off_doomed(out);
        receivers
    }

    /// The command of a client has been run and its reply is in the output: what was pushed to the client meanwhile follows.
    #[inline]
    pub(crate) fn push_own(&mut self, conn: ConnId) {
        if !self.pubsub.own.is_empty()
            && let Some(client) = self.clients.get_mut(conn)
        {
            client.output.append(&mut self.pubsub.own);
        }
        self.pubsub.own.clear();
    }

    /// Pushes something to one client, which may be one that does not listen.
    pub(crate) fn push_one(&mut self, conn: ConnId, write: impl Fn(&mut Reply<'_>), out: &mut Vec<Output>) {
        let Some(client) = self.clients.get(conn) else { return };
        let limit = class_limit(client, &self.settings);
        let Node { clients, pubsub, with_pushes, grown, .. } = self;
        let PubSub { forms, own, doomed, .. } = pubsub;
        Pusher { clients, with_pushes, grown, forms, own, doomed, limit }.push(&[conn], None, write);
        self.cut_off_doomed(out);
    }

    /// Cuts off clients that do not read what is pushed to them.
    fn cut_off_doomed(&mut self, out: &mut Vec<Output>) {
        while let Some((conn, owed)) = self.pubsub.doomed.pop() {
            self.stats.output_limit_disconnections += 1;
            self.drop_client(conn, format!("{owed} bytes of messages are unread"), out);
        }
    }

    /// True if there are other cells with clients, or other nodes.
    fn is_heard_elsewhere(&self) -> bool {
        self.asks_cells() || self.peers.linked().next().is_some()
    }

    // ---- the end of a turn -------------------------------------------------------------------------------------------

    /// Gives to the other cells and nodes what was published here, and how the counts have changed.
    pub(crate) fn flush_pubsub(&mut self, out: &mut Vec<Output>) {
        self.publish_all_missed(out);
        self.flush_tracking(out);
        for (cell, taken) in self.pubsub.taken.iter_mut().enumerate().filter(|(_, taken)| **taken > 0) {
            self.cells.send(cell, Mail::PublishedTaken { bytes: std::mem::take(taken) });
        }
        self.flush_notify();
        if !self.pubsub.has_news() {
            return;
        }
        let is_heard = self.is_heard_elsewhere();
        for counts in self.pubsub.table.take_changes(is_heard) {
            let source = Source::own(self.cells.me);
            self.tell_all(|| Mail::Subscribers { source, run: 0, counts: counts.clone() });
            if self.cells.is_hub() {
                self.tell_nodes_counts(HUB as u16, &counts);
            }
        }
        for batch in self.pubsub.outgoing.take() {
            self.cells.others().for_each(|cell| self.mail_batch(cell, &batch));
            if self.cells.is_hub() {
                self.send_batch(&batch);
            }
        }
    }

    fn mail_batch(&mut self, cell: usize, batch: &Bytes) {
        self.pubsub.note_given(cell, batch.len());
        self.cells.send(cell, Mail::Published { batch: batch.clone() });
    }

    /// The hub sends messages to all nodes that are linked.
    fn send_batch(&mut self, batch: &Bytes) {
        let nodes: Vec<NodeId> = self.peers.linked().collect();
        for node in nodes {
            if self.peers.unsent_to(node) as u64 <= AHEAD_BYTES_MAX {
                self.peers.send(node, PeerMessage::Published { batch: batch.clone() });
            } else {
                self.pubsub.dropped += 1;
            }
        }
    }

    fn tell_nodes_counts(&mut self, cell: u16, counts: &Counts) {
        let nodes: Vec<NodeId> = self.peers.linked().collect();
        for node in nodes {
            self.peers.send(node, of_counts(cell, counts.clone()));
        }
    }

    // ---- what others say ---------------------------------------------------------------------------------------------

    /// Another cell of this node has published, or the hub was given it by a node.
    pub(crate) fn on_published_mail(&mut self, from: usize, batch: &Bytes, out: &mut Vec<Output>) {
        self.pubsub.note_taken(from, batch.len());
        if self.cells.is_hub() {
            self.send_batch(batch);
        }
        self.deliver_batch(batch, out);
    }

    pub(crate) fn on_published_taken(&mut self, by: usize, bytes: u64) {
        self.pubsub.ahead[by] -= bytes;
    }

    /// The hub: another node has published.
    pub(crate) fn on_published(&mut self, batch: &Bytes, out: &mut Vec<Output>) {
        for cell in self.cells.others() {
            match self.pubsub.ahead[cell] <= AHEAD_BYTES_MAX {
                true => self.mail_batch(cell, batch),
                false => self.pubsub.dropped += 1,
            }
        }
        self.deliver_batch(batch, out);
    }

    /// What is malformed is passed over: no correct node sends it, and nobody waits for it.
    fn deliver_batch(&mut self, batch: &[u8], out: &mut Vec<Output>) {
        for message in messages(batch).map_while(Result::ok) {
            self.deliver(message, None, out);
        }
    }

    /// Another cell, of this node or by way of the hub of another, tells how many listen there.
    pub(crate) fn on_subscribers_mail(&mut self, source: Source, run: u64, counts: &Counts) {
        self.hear_counts(source, run, counts);
        if self.cells.is_hub() {
            self.tell_nodes_counts(source.cell, counts);
        }
    }

    /// The hub: another node tells how many listen there.
    pub(crate) fn on_subscribers(&mut self, node: NodeId, run: u64, cell: u16, counts: &Counts) {
        // An earlier run of that node may be read to its end when there is a link to the next one.
        if self.peers.incarnation_of(node) != Some(run) {
            return;
        }
        let source = Source { node, cell };
        self.tell_all(|| Mail::Subscribers { source, run, counts: counts.clone() });
        self.hear_counts(source, run, counts);
    }

    fn hear_counts(&mut self, source: Source, run: u64, counts: &Counts) {
        let table = &mut self.pubsub.table;
        if table.run_of(source.node).is_some_and(|known| known != run) {
            table.drop_node(source.node);
        }
        // What no correct node says is passed over.
        let _ = table.hear(source, run, counts);
    }

    /// What is sent to a node takes another way than before: it is told all counts, since changes may be lost.
    pub(crate) fn tell_all_counts(&mut self, node: NodeId) {
        if !self.cells.is_hub() {
            return;
        }
        self.tell_wanted(node);
        for cell in 0..self.cells.count {
            let of = (cell != self.cells.me).then(|| Source::own(cell));
            for counts in self.pubsub.table.all_counts(of).unwrap_or_default() {
                self.peers.send(node, of_counts(cell as u16, counts));
            }
        }
    }

    /// There is no way to a node any more: nobody is known to listen there.
    pub(crate) fn forget_counts(&mut self, node: NodeId) {
        self.pubsub.table.drop_node(node);
        self.note_wanting(node, false);
    }
}

fn of_counts(cell: u16, counts: Counts) -> PeerMessage {
    let Counts { version, is_first, bytes } = counts;
    PeerMessage::Subscribers { cell, version, is_first, counts: bytes }
}

#[cfg(test)]
mod tests;
