//! What the node tells its operator's tools: the cluster as JSON would show it, and figures for metrics.

use skep_base::{GroupId, NodeId};

use crate::{DATA, Node};
use skep_placement::NodeRecord;

/// A snapshot of the node. Cheap enough to take every second.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub ready: bool,
    /// Why the node cannot serve every shard; empty if it can.
    pub reason: String,
    pub cluster_id: String,
    pub node: NodeId,
    pub nodes: Vec<(NodeId, NodeRecord)>,
    pub shards: Vec<ShardStatus>,
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

/// One shard as this node knows it.
#[derive(Clone, Debug)]
pub struct ShardStatus {
    pub id: GroupId,
    pub epoch: u64,
    pub slots: Vec<(u16, u16)>,
    pub leader: Option<NodeId>,
    pub term: u64,
    pub keys: u64,
    pub replicas: Vec<NodeId>,
    pub applied: u64,
}

impl Node {
    /// A snapshot for dashboards, metrics and health checks.
    pub fn status(&self) -> Status {
        let keyspace = &self.shard.keyspace;
        let group = &self.shard.group;
        let shards = self.meta.shards.iter().filter(|(id, _)| **id == DATA).map(|(id, record)| ShardStatus {
            id: *id,
            epoch: record.epoch,
            slots: record.slots.clone(),
            leader: group.leader(),
            term: group.term().0,
            keys: keyspace.total_len() as u64,
            replicas: record.replicas.clone(),
            applied: self.shard.applied.index.0,
        });
        Status {
            ready: self.ready && !self.stopping,
            reason: match (self.ready, self.stopping) {
                (_, true) => "the node is stopping".into(),
                (false, _) => "the node is recovering its log".into(),
                _ => String::new(),
            },
            cluster_id: self.meta.cluster_id.clone(),
            node: self.id,
            nodes: self.meta.nodes.iter().map(|(id, member)| (*id, member.record.clone())).collect(),
            shards: shards.collect(),
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
            keys: keyspace.total_len() as u64,
            keys_volatile: keyspace.total_volatile_len() as u64,
            expired_keys: keyspace.stats().expired_keys,
            evicted_keys: self.memory.evicted_keys,
            keyspace_hits: keyspace.access.hits(),
            keyspace_misses: keyspace.access.misses(),
            entries_applied: group.stats().entries_applied,
            persists: self.persist.issued,
            disk_full: self.disk_full,
            checkpoint_active: self.checkpoints.is_active(),
            checkpoint_failed: self.checkpoints.last_failed,
            checkpoint_saved: self.checkpoints.last_saved,
        }
    }
}
