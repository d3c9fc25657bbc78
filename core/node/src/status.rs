//! What the node tells its operator's tools: the cluster as JSON would show it, and figures for metrics.

use skep_base::{GroupId, NodeId};
use skep_log::Membership;
use skep_peer::LinkStats;
use skep_placement::NodeRecord;

use crate::Node;
use crate::peers::{DOWN_MS, SUSPECT_MS};
use crate::shard::{Replica, Shard};

/// A snapshot of the node. Cheap enough to take every second.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub ready: bool,
    /// Why the node cannot serve every shard; empty if it can.
    pub reason: String,
    pub cluster_id: String,
    pub node: NodeId,
    pub nodes: Vec<NodeStatus>,
    pub shards: Vec<ShardStatus>,
    pub meta: MetaStatus,
    /// Copies of each shard that the cluster aims at; 0 before it is founded.
    pub copies: u32,
    /// Shards that this node leads.
    pub leading: u64,
    pub links: LinkStats,
    /// Answers and rejections given again since a link was lost with them.
    pub said_again: u64,
    pub uptime_ms: u64,
    pub clients: u64,
    pub clients_accepted: u64,
    pub clients_rejected: u64,
    pub commands: u64,
    pub errors: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub memory_used: u64,
    pub memory_peak: u64,
    pub memory_max: u64,
    pub keys: u64,
    pub keys_volatile: u64,
    pub expired_keys: u64,
    pub evicted_keys: u64,
    pub keyspace_hits: u64,
    pub keyspace_misses: u64,
    pub entries_applied: u64,
    pub persists: u64,
    pub disk_full: bool,
    pub checkpoint_active: bool,
    pub checkpoint_failed: bool,
    /// Wall time in ms; the start of the process before the first.
    pub checkpoint_saved: u64,
}

/// A node as this one sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeState {
    Up,
    /// Not heard for a moment.
    Suspect,
    Down,
    /// Everything on it is moving away.
    Draining,
}

/// A member of the cluster.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    pub id: NodeId,
    pub record: NodeRecord,
    pub state: NodeState,
}

/// The group that keeps the cluster's own state, as this node knows it; empty while it belongs to no cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MetaStatus {
    pub leader: Option<NodeId>,
    pub term: u64,
    pub applied: u64,
    pub voters: Vec<NodeId>,
    /// As in [`ShardStatus::settled`].
    pub settled: bool,
}

/// One shard as this node knows it.
#[derive(Clone, Debug)]
pub struct ShardStatus {
    pub id: GroupId,
    pub epoch: u64,
    /// The wanted nodes vote, and no membership before this one can count again. While it is false, the disk of a node that
    /// voted before may be needed as much as those of the voters.
    pub settled: bool,
    pub slots: Vec<(u16, u16)>,
    pub leader: Option<NodeId>,
    pub term: u64,
    pub keys: u64,
    pub replicas: Vec<ReplicaStatus>,
    /// The position of this node's own replica; 0 if it has none.
    pub applied: u64,
    /// Of the copies that differ no majority agrees, so which is right is not known.
    pub undecided: bool,
}

/// A copy of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaStatus {
    pub node: NodeId,
    /// It counts for each majority: in a change of members, for that before and that after.
    pub voter: bool,
    /// The last entry that it has applied, as it said last.
    pub applied: Option<u64>,
    /// Its state was not that of most replicas at a position of all; without a majority, not that of this node's.
    pub differs: bool,
    /// Its state is wrong, and is being replaced.
    pub rebuilding: bool,
}

impl Status {
    /// Adds what another cell of the same node says; this is the hub's.
    pub fn absorb(&mut self, other: Status) {
        self.ready &= other.ready;
        if self.reason.is_empty() {
            self.reason = other.reason;
        }
        self.shards.extend(other.shards);
        self.shards.sort_by_key(|shard| shard.id);
        self.leading += other.leading;
        self.clients += other.clients;
        self.clients_accepted += other.clients_accepted;
        self.clients_rejected += other.clients_rejected;
        self.commands += other.commands;
        self.errors += other.errors;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.memory_peak = self.memory_peak.max(other.memory_peak);
        self.keys += other.keys;
        self.keys_volatile += other.keys_volatile;
        self.expired_keys += other.expired_keys;
        self.evicted_keys += other.evicted_keys;
        self.keyspace_hits += other.keyspace_hits;
        self.keyspace_misses += other.keyspace_misses;
        self.entries_applied += other.entries_applied;
        self.persists += other.persists;
        self.disk_full |= other.disk_full;
        self.checkpoint_active |= other.checkpoint_active;
        self.checkpoint_failed |= other.checkpoint_failed;
        self.checkpoint_saved = self.checkpoint_saved.min(other.checkpoint_saved);
    }
}

impl Node {
    /// A snapshot for dashboards, metrics and health checks.
    pub fn status(&self) -> Status {
        let sum = |of: fn(&Replica) -> u64| self.replicas().map(of).sum::<u64>();
        let nodes = self.meta.state.nodes.iter().map(|(id, member)| NodeStatus {
            id: *id,
            record: member.record.clone(),
            state: self.state_of(*id, member.draining),
        });
        Status {
            ready: self.ready && self.why_not_ready().is_empty(),
            reason: self.why_not_ready(),
            cluster_id: self.meta.state.cluster_id.clone(),
            node: self.id,
            nodes: nodes.collect(),
            shards: self.shards.iter().map(|shard| self.shard_status(shard)).collect(),
            meta: self.meta.group.as_ref().map_or_else(MetaStatus::default, |group| MetaStatus {
                leader: group.leader(),
                term: group.term().0,
                applied: self.meta.applied.index.0,
                voters: full_voters(group.membership()).collect(),
                settled: self.meta.state.group(GroupId::META).is_some_and(|record| record.settled),
            }),
            copies: self.meta.state.replicas,
            leading: self.shards.iter().filter(|shard| shard.leads()).count() as u64,
            uptime_ms: self.now.mono.since(self.started.mono),
            clients: self.clients.len() as u64,
            clients_accepted: self.clients.accepted(),
            clients_rejected: self.stats.rejected_connections,
            commands: self.stats.commands,
            errors: self.stats.errors,
            bytes_in: self.stats.bytes_in,
            bytes_out: self.stats.bytes_out,
            memory_used: self.memory.used,
            memory_peak: self.memory.peak,
            memory_max: self.memory.limit,
            keys: sum(|r| r.keyspace.total_len() as u64),
            keys_volatile: sum(|r| r.keyspace.total_volatile_len() as u64),
            expired_keys: sum(|r| r.keyspace.stats().expired_keys),
            evicted_keys: self.memory.evicted_keys,
            keyspace_hits: sum(|r| r.keyspace.access.hits()),
            keyspace_misses: sum(|r| r.keyspace.access.misses()),
            entries_applied: sum(|r| r.group.stats().entries_applied),
            links: self.peers.links.stats(),
            said_again: self.peers.said_again,
            persists: self.persist.issued,
            disk_full: self.disk_full,
            checkpoint_active: self.checkpoints.is_active(),
            checkpoint_failed: self.checkpoints.last_failed,
            checkpoint_saved: self.checkpoints.last_saved,
        }
    }

    fn state_of(&self, node: NodeId, draining: bool) -> NodeState {
        let silent_ms = match node == self.id {
            true => 0,
            false => self.now.mono.since(self.peers.heard(node).unwrap_or(self.started.mono)),
        };
        match silent_ms {
            DOWN_MS.. => NodeState::Down,
            _ if draining => NodeState::Draining,
            SUSPECT_MS.. => NodeState::Suspect,
            _ => NodeState::Up,
        }
    }

    /// Why the node cannot serve every shard; empty if it can.
    fn why_not_ready(&self) -> String {
        if self.stopping || self.handing_over.is_some() {
            return "the node is stopping".into();
        }
        if self.id == NodeId(0) {
            return format!("the node belongs to no cluster yet: {}", self.join.why());
        }
        match self.shards.iter().find(|shard| shard.leader().is_none()) {
            Some(shard) if self.ready => format!("shard {} has no leader", shard.id),
            _ if !self.ready => "the node is recovering its log or waiting for its cluster".into(),
            _ => String::new(),
        }
    }

    fn shard_status(&self, shard: &Shard) -> ShardStatus {
        let record = self.meta.state.shards.get(&shard.id);
        let leader = shard.leader();
        let replicas = match &shard.replica {
            Some(replica) => {
                let of = replica.group.membership();
                let votes = |node: NodeId| full_voters(of).any(|voter| voter == node);
                let all = of.voters.iter().chain(&of.learners).map(|node| (*node, votes(*node)));
                let applied = |node: NodeId| match node == self.id {
                    true => Some(replica.applied.index.0),
                    false => self.peers.applied(node, shard.id).map(|index| index.0),
                };
                let status = |(node, voter)| ReplicaStatus {
                    node,
                    voter,
                    applied: applied(node),
                    differs: shard.digests.differing.contains_key(&node),
                    rebuilding: match node == self.id {
                        true => replica.rebuild.is_some(),
                        false => self.peers.is_rebuilding(node, shard.id),
                    },
                };
                all.map(status).collect()
            }
            None => {
                let nodes = record.map(|record| &record.replicas[..]).unwrap_or_default();
                let applied = |node: NodeId| self.peers.applied(node, shard.id).map(|index| index.0);
                let status = |node: &NodeId| ReplicaStatus {
                    node: *node,
                    voter: true,
                    applied: applied(*node),
                    differs: false,
                    rebuilding: self.peers.is_rebuilding(*node, shard.id),
                };
                nodes.iter().map(status).collect()
            }
        };
        ShardStatus {
            id: shard.id,
            epoch: record.map_or(0, |record| record.epoch),
            settled: record.is_some_and(|record| record.settled),
            slots: record.map(|record| record.slots.clone()).unwrap_or_default(),
            leader: leader.map(|(leader, _)| leader),
            term: leader.map_or(0, |(_, term)| term.0),
            keys: shard.replica.as_ref().map_or(0, |r| r.keyspace.total_len() as u64),
            replicas,
            applied: shard.replica.as_ref().map_or(0, |r| r.applied.index.0),
            undecided: shard.digests.undecided,
        }
    }
}

/// Who counts for each majority that is needed.
fn full_voters(of: &Membership) -> impl Iterator<Item = NodeId> {
    of.voters.iter().copied().filter(|node| of.outgoing.is_empty() || of.outgoing.contains(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_votes_only_after_a_change_that_is_under_way_is_no_voter_yet() {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let of = Membership { voters: nodes(&[1, 2, 3]), outgoing: nodes(&[1, 2]), ..Membership::default() };
        assert_eq!(full_voters(&of).collect::<Vec<_>>(), nodes(&[1, 2]));
        let of = Membership { voters: nodes(&[1, 2, 3]), ..Membership::default() };
        assert_eq!(full_voters(&of).count(), 3);
    }
}
