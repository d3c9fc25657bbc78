//! The HTTP side of a node: health, readiness, metrics and the JSON API; and one request, for the commands that ask it.
//!
//! Owns a thread, a listener and what the answers look like. Knows nothing of the node but the [`NodeStatus`] that it
//! publishes on a [`StatusBoard`]; reading it never makes the node wait.

mod answer;
mod board;
mod fetch;
mod metrics;
mod server;
mod status;

pub use board::StatusBoard;
pub use fetch::{FetchFault, fetch};
pub use metrics::{Histogram, Labels, Metric, Samples};
pub use server::{HttpLimits, HttpServer, StatusSource};
pub use status::{
    ClusterState, ClusterStatus, GatewayEntry, NodeEntry, NodeState, NodeStatus, ReplicaEntry, ReplicaRole,
    ShardEntry, nodes_to_json,
};
