//! Replicas of equal position must be equal. Now and then a leader logs a mark; each replica computes a digest of its state
//! at that position, while writes go on, and tells the others. A difference is an alarm, never silence.
//!
//! A replica that is writing a checkpoint when the mark comes leaves this one out.

use std::collections::BTreeMap;

use skep_base::{GroupId, LogId, Millis, NodeId};
use skep_peer::PeerMessage;

use crate::{Node, Note, Output};

/// How often a shard's leader asks for digests, if anything was written since.
const EVERY_MS: u64 = 60_000;
/// Bytes of the state digested in a turn: about 100 us of work.
const STEP_BYTES: usize = 128 << 10;
/// Positions remembered for a shard, in case digests come late.
const POSITIONS_MAX: usize = 4;

/// The digests of one shard.
#[derive(Default)]
pub(crate) struct Digests {
    /// When the leader asked last, and for which position.
    asked: Option<(Millis, LogId)>,
    /// The position whose digest is being computed here.
    computing: Option<LogId>,
    /// Digests by position and node.
    known: BTreeMap<LogId, BTreeMap<NodeId, u64>>,
    /// Nodes whose last digest differed from this node's.
    pub differing: BTreeMap<NodeId, LogId>,
}

impl Digests {
    /// True if a digest is being computed here, which needs turns.
    pub fn is_computing(&self) -> bool {
        self.computing.is_some()
    }

    fn learn(&mut self, at: LogId, node: NodeId, digest: u64) {
        self.known.entry(at).or_default().insert(node, digest);
        while self.known.len() > POSITIONS_MAX {
            self.known.pop_first();
        }
    }
}

impl Node {
    /// Logs a mark in each shard that this node leads, when it is time.
    pub(crate) fn ask_for_digests(&mut self) {
        let now = self.now.mono;
        for at in 0..self.shards.len() {
            if self.is_alone(self.shards[at].id) || !self.shards[at].leads() {
                continue;
            }
            let shard = &mut self.shards[at];
            let Some(replica) = &shard.replica else { continue };
            let (since, position) = *shard.digests.asked.get_or_insert((now, LogId::default()));
            // The mark itself is an entry.
            let written = replica.applied.index.0 > position.index.0 + 1;
            if written && now.since(since) >= EVERY_MS {
                shard.digests.asked = Some((now, replica.applied));
                shard.batch.push_digest();
            }
        }
    }

    /// A mark was applied: the state of this position is wanted.
    pub(crate) fn begin_digest(&mut self, at: usize, position: LogId) {
        let shard = &mut self.shards[at];
        let Some(replica) = &mut shard.replica else { return };
        if !replica.keyspace.is_cutting() {
            replica.keyspace.begin_digest();
            shard.digests.computing = Some(position);
        }
    }

    /// Goes on computing; tells the others when it is done.
    pub(crate) fn step_digests(&mut self, out: &mut Vec<Output>) {
        for at in 0..self.shards.len() {
            let shard = &mut self.shards[at];
            let (Some(position), Some(replica)) = (shard.digests.computing, &mut shard.replica) else {
                continue;
            };
            if !replica.keyspace.is_cutting() {
                // Another node's checkpoint took the place of the state.
                shard.digests.computing = None;
            } else if replica.keyspace.cut_step(&mut Vec::new(), STEP_BYTES) {
                shard.digests.computing = None;
                if let Some(digest) = replica.keyspace.cut_digest() {
                    let group = shard.id;
                    self.tell_digest(group, position, digest);
                    self.on_digest(self.id, group, position, digest, out);
                }
            }
        }
    }

    /// True while a digest keeps a shard's state busy, so that no checkpoint of it can begin.
    pub(crate) fn is_digesting(&self, group: GroupId) -> bool {
        self.shard_of_group(group).is_some_and(|at| self.shards[at].digests.is_computing())
    }

    fn tell_digest(&mut self, group: GroupId, at: LogId, digest: u64) {
        let Some(of) = self.group(group).map(|of| of.membership().clone()) else { return };
        let others = of.voters.iter().chain(&of.learners).filter(|node| **node != self.id);
        for node in others {
            self.peers.send(*node, PeerMessage::StateDigest { group, at, digest });
        }
    }

    /// What a replica's state came to.
    pub(crate) fn on_digest(
        &mut self,
        node: NodeId,
        group: GroupId,
        at: LogId,
        digest: u64,
        out: &mut Vec<Output>,
    ) {
        let me = self.id;
        let Some(place) = self.shard_of_group(group) else { return };
        let digests = &mut self.shards[place].digests;
        digests.learn(at, node, digest);
        let Some(all) = digests.known.get(&at) else { return };
        let Some(own) = all.get(&me).copied() else { return };
        for (other, theirs) in all.clone() {
            if theirs == own {
                digests.differing.remove(&other);
            } else if digests.differing.insert(other, at) != Some(at) {
                out.push(Output::Note(Note::Diverged { group, at, node: other }));
            }
        }
    }
}
