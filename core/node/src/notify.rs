//! What entries did to keys, told to the clients of this node: keyspace notifications, and what their caches are to forget
//! (`tracking.rs`).
//!
//! Each node tells its own clients, under the cluster's `notify-keyspace-events`, from its own applying of the log: the home of a shard
//! gives what happened there to its clients and to the other cells. A node without a replica is told by the leader, if it said
//! that its clients want to hear. What a command that runs in an entry publishes goes everywhere from the node that proposed
//! the entry; and so does what a read looked for in vain from the node that ran it, since reads are not in the log.

mod codec;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use skep_base::{ConnId, GroupId, Millis, NodeId, number};
use skep_keyspace::Keyspace;
use skep_keyspace::events::{Channel, Class, Event, NotifyFlags};
use skep_log::Membership;
use skep_peer::PeerMessage;
use skep_pubsub::{Kind, Message};

use crate::batch::Origin;
use crate::cells::Message as Mail;
use crate::peers::SUSPECT_MS;
use crate::pubsub::AHEAD_BYTES_MAX;
use crate::{Node, Output};
use codec::Seen;

/// Whose command did something: a client of this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Author {
    pub cell: u16,
    pub conn: ConnId,
}

/// From which event of an entry on who did what.
pub(crate) type Authors = Vec<(usize, Option<Author>)>;

/// What this cell has to do with events.
#[derive(Default)]
pub(crate) struct Notify {
    flags: NotifyFlags,
    /// Nodes whose clients want to hear of keys.
    wanting: BTreeSet<NodeId>,
    /// The hub: whether the other nodes know that clients here want to.
    told: bool,
    /// Nodes that were not told something since too much was in front of it.
    behind: BTreeSet<NodeId>,
    /// The hub: members that were not heard lately.
    silent: BTreeSet<NodeId>,
    /// Shards with a replica here whose leader is not heard, or not known.
    unled: BTreeMap<GroupId, Unled>,
    /// Events of the entries being applied, for the other cells and for nodes without a replica.
    for_cells: Vec<u8>,
    for_nodes: Vec<u8>,
    /// From which event of the entry on which client's command did what.
    pub authors: Authors,
    /// Channel and message being made; kept for their memory.
    channel: Vec<u8>,
}

/// Since when nobody is heard to lead a shard, and whether what happened to its keys since then counts as missed already.
#[derive(Clone, Copy)]
struct Unled {
    since: Millis,
    counted: bool,
}

/// Who is told.
#[derive(Clone, Copy)]
enum To {
    /// The clients of this cell: the others are told by their own nodes and cells.
    OwnClients,
    /// All clients of the cluster.
    Everybody,
}

impl Node {
    /// The settings have changed. True if clients want to hear of keys that are looked for in vain.
    pub(crate) fn configure_notify(&mut self) -> bool {
        let letters = self.settings.notify_keyspace_events();
        let flags =
            NotifyFlags::parse(letters.as_bytes()).expect("the settings hold letters of classes only");
        self.notify.flags = flags;
        flags.notifies() && flags.has(Class::Miss)
    }

    /// True if clients of this node want to hear what happens to keys.
    fn clients_want_events(&self) -> bool {
        self.notify.flags.notifies() || self.caching.is_used()
    }

    /// True if somebody wants to hear what an entry does to keys.
    pub(crate) fn wants_key_events(&self) -> bool {
        self.clients_want_events() || !self.notify.wanting.is_empty()
    }

    /// What follows in the list of events is done by this operation.
    pub(crate) fn note_author(authors: &mut Authors, keyspace: &Keyspace, origin: Origin) {
        if keyspace.events.is_recording() {
            let author = match origin {
                Origin::Client { cell, conn, .. } => Some(Author { cell, conn }),
                _ => None,
            };
            authors.push((keyspace.events.count(), author));
        }
    }

    /// What an entry did, in order; `is_own` if this node proposed it.
    pub(crate) fn on_key_events(&mut self, events: &[Event], is_own: bool, out: &mut Vec<Output>) {
        let authors = std::mem::take(&mut self.notify.authors);
        let mut by = None;
        let mut next = 0;
        for (at, event) in events.iter().enumerate() {
            while let Some((_, author)) = authors.get(next).filter(|(first, _)| *first <= at) {
                by = *author;
                next += 1;
            }
            let seen = match event {
                Event::Published { kind, channel, message } if is_own => {
                    let kind = match kind {
                        Channel::Plain => Kind::Channel,
                        Channel::Shard => Kind::Shard,
                    };
                    self.publish(Message { kind, channel, payload: message }, None, out);
                    continue;
                }
                Event::Published { .. } => continue,
                Event::Missed { db, key } => {
                    self.publish_missed(*db, key, out);
                    continue;
                }
                Event::Key { db, class, name, key } => Seen::Key { db: *db, class: *class, name, key, by },
                // FLUSHALL is one for each database; once is enough.
                Event::Database { .. } if matches!(events[..at].last(), Some(Event::Database { .. })) => {
                    continue;
                }
                Event::Database { db, .. } => Seen::Database { db: *db },
            };
            self.on_seen(seen, out);
            if !self.cells.is_only() {
                codec::put(&mut self.notify.for_cells, seen);
            }
            if !self.notify.wanting.is_empty() {
                codec::put(&mut self.notify.for_nodes, seen.of_nobody());
            }
        }
        self.notify.authors = authors;
    }

    /// Entries of a shard were applied: the other cells and the nodes without a replica hear of it.
    pub(crate) fn flush_key_events(&mut self, at: usize) {
        if !self.notify.for_cells.is_empty() {
            let batch = Bytes::copy_from_slice(&self.notify.for_cells);
            self.notify.for_cells.clear();
            if self.clients_want_events() && self.asks_cells() {
                self.cells.others().for_each(|cell| self.mail_events(cell, &batch));
            }
        }
        if !self.notify.for_nodes.is_empty() {
            let batch = Bytes::copy_from_slice(&self.notify.for_nodes);
            self.notify.for_nodes.clear();
            if self.shards[at].leads() {
                for node in self.wanting_without_replica(at) {
                    self.send_events(node, &batch);
                }
            }
        }
    }

    /// The nodes that whoever leads a shard tells of it.
    fn wanting_without_replica(&self, at: usize) -> Vec<NodeId> {
        let Some(replica) = &self.shards[at].replica else { return Vec::new() };
        let members = replica.group.membership();
        self.notify.wanting.iter().filter(|node| !has_replica(members, **node)).copied().collect()
    }

    /// This node leads a shard from here on: what the leader before it did not tell, nobody will. Or it leads it no more: the
    /// next leader may reach only some of those whom it told.
    pub(crate) fn tell_missed(&mut self, at: usize) {
        for node in self.wanting_without_replica(at) {
            self.peers.send(node, PeerMessage::KeyEvents { batch: codec::missed() });
        }
    }

    /// What entries did to keys was not seen here: the state of a replica was replaced, or the replica is gone.
    pub(crate) fn on_key_events_missed(&mut self, out: &mut Vec<Output>) {
        self.on_key_events_of(&codec::missed(), out);
    }

    /// The hub: these members were not heard lately. What they write, or write with each other while nobody reaches this node, is
    /// not seen here, and nobody says when it will be: caches must not outlive that. Once is enough, since reads fail meanwhile.
    pub(crate) fn note_silent(&mut self, silent: BTreeSet<NodeId>, out: &mut Vec<Output>) {
        let more = !silent.is_subset(&self.notify.silent);
        self.notify.silent = silent;
        if more {
            self.on_key_events_missed(out);
        }
    }

    /// Each 100 ms: where nobody is heard to lead a shard of which there is a replica here, others may write what does not come
    /// here while some of them are heard. Nothing is read of it meanwhile, so once is enough.
    pub(crate) fn watch_leaders(&mut self, out: &mut Vec<Output>) {
        let now = self.now.mono;
        let before = std::mem::take(&mut self.notify.unled);
        let (mut unled, mut missed) = (BTreeMap::new(), false);
        for shard in &self.shards {
            let Some(replica) = &shard.replica else { continue };
            let leader = replica.group.leader();
            if leader.is_some_and(|leader| self.is_alive(leader)) {
                continue;
            }
            let mut of = before.get(&shard.id).copied().unwrap_or(Unled { since: now, counted: false });
            if !of.counted && (leader.is_some() || now.since(of.since) >= SUSPECT_MS) {
                (of.counted, missed) = (true, true);
            }
            unled.insert(shard.id, of);
        }
        self.notify.unled = unled;
        if missed {
            self.on_key_events_missed(out);
        }
    }

    fn mail_events(&mut self, cell: usize, batch: &Bytes) {
        self.pubsub.note_given(cell, batch.len());
        self.cells.send(cell, Mail::KeyEvents { batch: batch.clone() });
    }

    /// Tells a node what happened; if it is too far behind it is told later that it missed something.
    fn send_events(&mut self, node: NodeId, batch: &Bytes) {
        let is_behind =
            self.notify.behind.contains(&node) || self.peers.unsent_to(node) as u64 > AHEAD_BYTES_MAX;
        if is_behind {
            self.notify.behind.insert(node);
            self.pubsub.dropped += 1;
        } else {
            self.peers.send(node, PeerMessage::KeyEvents { batch: batch.clone() });
        }
    }

    /// The end of a turn: tells nodes that missed something so, and others whether clients here want to hear.
    pub(crate) fn flush_notify(&mut self) {
        for node in std::mem::take(&mut self.notify.behind) {
            if self.peers.unsent_to(node) as u64 > AHEAD_BYTES_MAX {
                self.notify.behind.insert(node);
            } else {
                self.peers.send(node, PeerMessage::KeyEvents { batch: codec::missed() });
            }
        }
        let wanted = self.clients_want_events();
        if self.cells.is_hub() && std::mem::replace(&mut self.notify.told, wanted) != wanted {
            let nodes: Vec<NodeId> = self.peers.linked().collect();
            for node in nodes {
                self.peers.send(node, PeerMessage::KeyEventsWanted { wanted });
            }
        }
    }

    /// What is sent to a node takes another way than before.
    pub(crate) fn tell_wanted(&mut self, node: NodeId) {
        if self.cells.is_hub() && self.notify.told {
            self.peers.send(node, PeerMessage::KeyEventsWanted { wanted: true });
        }
        if self.notify.wanting.contains(&node) {
            self.peers.send(node, PeerMessage::KeyEvents { batch: codec::missed() });
        }
    }

    // ---- what others say ---------------------------------------------------------------------------------------------

    /// The hub: a node's clients want to hear of keys, or do no more. All homes do the telling.
    pub(crate) fn on_key_events_wanted(&mut self, node: NodeId, wanted: bool) {
        self.tell_all(|| Mail::KeyEventsWanted { node, wanted });
        self.note_wanting(node, wanted);
    }

    /// Takes note that a node wants to be told, or that it does not or is gone.
    pub(crate) fn note_wanting(&mut self, node: NodeId, wanted: bool) {
        match wanted {
            true => self.notify.wanting.insert(node),
            false => self.notify.wanting.remove(&node),
        };
        self.notify.behind.remove(&node);
        // What happened before this was not told.
        if wanted && (0..self.shards.len()).any(|at| self.wanting_without_replica(at).contains(&node)) {
            self.peers.send(node, PeerMessage::KeyEvents { batch: codec::missed() });
        }
    }

    /// The hub: the leader of a shard without a replica here tells what happened there. Or any cell: something was missed.
    pub(crate) fn on_key_events_of(&mut self, batch: &Bytes, out: &mut Vec<Output>) {
        if self.asks_cells() {
            self.cells.others().for_each(|cell| self.mail_events(cell, batch));
        }
        self.on_seen_batch(batch, out);
    }

    /// Another cell of this node tells what happened.
    pub(crate) fn on_key_events_mail(&mut self, from: usize, batch: &Bytes, out: &mut Vec<Output>) {
        self.pubsub.note_taken(from, batch.len());
        self.on_seen_batch(batch, out);
    }

    /// What is malformed counts as missed: no correct node sends it.
    fn on_seen_batch(&mut self, batch: &[u8], out: &mut Vec<Output>) {
        for seen in codec::seen(batch) {
            self.on_seen(seen.unwrap_or(Seen::Missed), out);
        }
    }

    // ---- telling clients ---------------------------------------------------------------------------------------------

    /// Tells the clients of this cell.
    fn on_seen(&mut self, seen: Seen<'_>, out: &mut Vec<Output>) {
        if matches!(seen, Seen::Missed) {
            self.notify.unled.values_mut().for_each(|of| of.counted = true);
        }
        let Seen::Key { db, class, name, key, by } = seen else { return self.invalidate_all(out) };
        if self.notify.flags.has(class) {
            if self.notify.flags.by_key() {
                self.notify_of("__keyspace@", db, (key, name.as_bytes()), To::OwnClients, out);
            }
            if self.notify.flags.by_event() {
                self.notify_of("__keyevent@", db, (name.as_bytes(), key), To::OwnClients, out);
            }
        }
        if !self.caching.clients.is_empty() && class != Class::Miss {
            let by = by.filter(|author| usize::from(author.cell) == self.cells.me).map(|author| author.conn);
            self.invalidate(key, by, out);
        }
    }

    /// The end of a turn: tells everywhere what reads of this cell have looked for in vain. Nobody else knows.
    pub(crate) fn publish_all_missed(&mut self, out: &mut Vec<Output>) {
        if !self.notify.flags.has(Class::Miss) {
            return;
        }
        for at in 0..self.shards.len() {
            let Some(replica) = &mut self.shards[at].replica else { continue };
            if replica.keyspace.events.has_any() {
                for event in replica.keyspace.events.take_missed() {
                    let Event::Missed { db, key } = event else { continue };
                    self.publish_missed(db, &key, out);
                }
            }
        }
    }

    fn publish_missed(&mut self, db: u8, key: &[u8], out: &mut Vec<Output>) {
        const NAME: &[u8] = b"keymiss";
        if self.notify.flags.has(Class::Miss) {
            if self.notify.flags.by_key() {
                self.notify_of("__keyspace@", db, (key, NAME), To::Everybody, out);
            }
            if self.notify.flags.by_event() {
                self.notify_of("__keyevent@", db, (NAME, key), To::Everybody, out);
            }
        }
    }

    fn notify_of(
        &mut self,
        space: &str,
        db: u8,
        (of, payload): (&[u8], &[u8]),
        to: To,
        out: &mut Vec<Output>,
    ) {
        let mut channel = std::mem::take(&mut self.notify.channel);
        channel.clear();
        channel.extend_from_slice(space.as_bytes());
        number::write_i64(&mut channel, i64::from(db));
        channel.extend_from_slice(b"__:");
        channel.extend_from_slice(of);
        let message = Message { kind: Kind::Channel, channel: &channel, payload };
        match to {
            To::OwnClients => self.deliver(message, None, out),
            To::Everybody => self.publish(message, None, out),
        };
        self.notify.channel = channel;
    }
}

fn has_replica(members: &Membership, node: NodeId) -> bool {
    let Membership { voters, learners, outgoing, learners_next, .. } = members;
    [voters, learners, outgoing, learners_next].into_iter().any(|nodes| nodes.contains(&node))
}
