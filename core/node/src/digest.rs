//! Replicas of equal position must be equal. Now and then a leader logs a mark; each replica computes a digest of its state
//! at that position, while writes go on, and tells the others. A difference is an alarm, never silence; where a majority of
//! the voters agrees, the others are wrong, and are rebuilt (`rebuild.rs`).
//!
//! A replica that is writing a checkpoint when the mark comes leaves this one out.

use std::collections::BTreeMap;

use skep_base::{GroupId, LogId, Millis, NodeId};
use skep_log::Membership;
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
    /// The newest position whose digest was computed here, by the present state.
    own: Option<LogId>,
    /// Nodes whose last digest was not the majority's; without a majority, not this node's.
    pub differing: BTreeMap<NodeId, LogId>,
    /// There is no majority, so which of those that differ are right is not known.
    pub undecided: bool,
    /// A replica says that it was rebuilt.
    soon: bool,
}

impl Digests {
    /// True if a digest is being computed here, which needs turns.
    pub fn is_computing(&self) -> bool {
        self.computing.is_some()
    }

    /// Takes note that the next mark shall not wait.
    pub fn ask_soon(&mut self) {
        self.soon = true;
    }

    /// The state here is being replaced: what it came to says nothing of the next.
    pub fn forget_own(&mut self) {
        (self.computing, self.own) = (None, None);
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
            let written =
                replica.applied.index.0 > position.index.0 + 1 || !shard.digests.differing.is_empty();
            if std::mem::take(&mut shard.digests.soon) || written && now.since(since) >= EVERY_MS {
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
        let Some(members) = self.group(group).map(|of| of.membership().clone()) else { return };
        let digests = &mut self.shards[place].digests;
        digests.learn(at, node, digest);
        if node == me {
            digests.own = Some(at);
        }
        let Some(all) = digests.known.get(&at) else { return };
        let Some(own) = all.get(&me).copied() else { return };
        let right = majority(&members, all);
        for (other, theirs) in all {
            if *theirs == right.unwrap_or(own) {
                digests.differing.remove(other);
            } else if digests.differing.insert(*other, at) != Some(at) && *other != me {
                out.push(Output::Note(Note::Diverged { group, at, node: *other }));
            }
        }
        digests.differing.retain(|node, _| members.voters.contains(node) || members.learners.contains(node));
        digests.undecided = right.is_none() && !digests.differing.is_empty();
        // By an older position nobody judges itself: INV-NODE-3 counts on it.
        if let Some(right) = right.filter(|right| *right != own && digests.own == Some(at)) {
            let agreed = all.iter().filter(|(_, theirs)| **theirs == right).map(|(node, _)| *node).collect();
            self.distrust(place, at, agreed, out);
        }
    }
}

/// The digest that more than half of the voters have; within a change of members, of both the old and the new ones.
fn majority(members: &Membership, digests: &BTreeMap<NodeId, u64>) -> Option<u64> {
    let has_most = |digest: u64| {
        let halves = [&members.voters, &members.outgoing].into_iter().filter(|half| !half.is_empty());
        halves.into_iter().all(|half| {
            let agree = half.iter().filter(|node| digests.get(node) == Some(&digest)).count();
            agree > half.len() / 2
        })
    };
    digests.values().copied().find(|digest| has_most(*digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_one_of_all_voters_and_in_a_change_of_members_of_both_halves() {
        let nodes = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect::<Vec<_>>();
        let of = |voters: &[u64], outgoing: &[u64], digests: &[(u64, u64)]| {
            let members =
                Membership { voters: nodes(voters), outgoing: nodes(outgoing), ..Membership::default() };
            let digests = digests.iter().map(|(node, digest)| (NodeId(*node), *digest)).collect();
            majority(&members, &digests)
        };
        assert_eq!(of(&[1, 2, 3], &[], &[(1, 7), (2, 7), (3, 8)]), Some(7));
        assert_eq!(of(&[1, 2, 3], &[], &[(1, 7), (3, 8)]), None, "one is silent");
        assert_eq!(of(&[1, 2, 3], &[], &[(1, 7), (2, 8), (3, 9)]), None);
        assert_eq!(of(&[1, 2], &[], &[(1, 7), (2, 8)]), None, "of two nobody knows which");
        assert_eq!(of(&[1, 2, 3], &[], &[(1, 7), (2, 8), (4, 8), (5, 8)]), None, "learners do not count");
        assert_eq!(of(&[1, 2, 3, 4], &[], &[(1, 7), (2, 7), (3, 8), (4, 8)]), None);
        assert_eq!(of(&[1, 2, 4], &[1, 2, 3], &[(1, 7), (3, 7), (4, 8), (2, 8)]), None, "each half another");
        assert_eq!(of(&[1, 2, 4], &[1, 2, 3], &[(1, 7), (2, 7), (3, 8), (4, 8)]), Some(7));
    }
}
