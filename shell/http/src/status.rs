//! What a node tells about itself. The names of the fields are those of the JSON in CONTRACT.md, and so promises.

use std::fmt;

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    pub cluster_id: String,
    /// The node that answers; 0 while it belongs to no cluster.
    pub node_id: u64,
    pub state: ClusterState,
    /// What is not as it should be, each in a few words: `n3 is down`. Empty if the state is `ok`.
    pub problems: Vec<String>,
    pub nodes: Vec<NodeEntry>,
    pub shards: Vec<ShardEntry>,
    #[serde(default)]
    pub gateway: GatewayEntry,
}

/// The gateway's configuration at the node that answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayEntry {
    /// The version that the cluster wants in force, as this node knows; 0 for none.
    pub wanted: u64,
    /// The version that this node works by; 0 for none.
    pub in_force: u64,
    /// Why they differ; empty if they do not, or in the moment before they are the same.
    pub problem: String,
}

/// How the cluster is, as far as the node that answers can see.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterState {
    Ok,
    /// Everything is served, but one more failure may be too much.
    Degraded,
    /// Some shard is not served.
    #[default]
    Unavailable,
}

impl fmt::Display for ClusterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClusterState::Ok => "ok",
            ClusterState::Degraded => "degraded",
            ClusterState::Unavailable => "unavailable",
        })
    }
}

impl ClusterStatus {
    /// Reads what `GET /api/v1/cluster` answered.
    ///
    /// # Errors
    /// It is something else; the text says what was expected where.
    pub fn parse(json: &[u8]) -> Result<ClusterStatus, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }

    /// As it is sent.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("our structs have text keys and nothing that cannot be written")
    }
}

/// One node of the cluster. Addresses are `ip:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What the node itself says; absent where it was not asked, or did not answer. A node knows only its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayEntry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    Up,
    /// Not heard of for a moment.
    Suspect,
    Down,
    /// Its copies are on their way to others.
    Draining,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NodeState::Up => "up",
            NodeState::Suspect => "suspect",
            NodeState::Down => "down",
            NodeState::Draining => "draining",
        })
    }
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaEntry {
    pub node: u64,
    pub role: ReplicaRole,
    /// The index of the last log entry that it has carried out.
    pub applied: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaRole {
    Voter,
    Learner,
}

/// A list of nodes alone, as JSON.
pub fn nodes_to_json(nodes: &[NodeEntry]) -> String {
    serde_json::to_string(nodes).expect("our structs have text keys and nothing that cannot be written")
}
