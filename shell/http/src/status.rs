//! What a node tells about itself. The names of the fields are those of the JSON in CONTRACT.md, and so promises.

use serde::Serialize;

use crate::Metric;

/// Everything that HTTP can tell, as of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStatus {
    /// `Err` holds why the node cannot serve every shard, in a few words: `shard 1 has no leader`.
    pub ready: Result<(), String>,
    pub cluster: ClusterStatus,
    pub metrics: Vec<Metric>,
}

/// `GET /api/v1/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    pub cluster_id: String,
    /// The node that answers.
    pub node_id: u64,
    pub nodes: Vec<NodeEntry>,
    pub shards: Vec<ShardEntry>,
}

/// One node of the cluster. Addresses are `ip:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeEntry {
    pub id: u64,
    pub name: String,
    pub client: String,
    pub peer: String,
    pub http: String,
    /// Empty: none.
    pub zone: String,
    pub state: NodeState,
    /// Of skep.
    pub version: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    Up,
    Suspect,
    Down,
    Draining,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardEntry {
    pub id: u64,
    pub epoch: u64,
    /// Ranges of slots, both ends included.
    pub slots: Vec<(u16, u16)>,
    /// 0 if there is none.
    pub leader: u64,
    pub term: u64,
    pub keys: u64,
    pub replicas: Vec<ReplicaEntry>,
}

/// One copy of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicaEntry {
    pub node: u64,
    pub role: ReplicaRole,
    /// The index of the last log entry that it has carried out.
    pub applied: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaRole {
    Voter,
    Learner,
}
