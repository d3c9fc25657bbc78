//! The HTTP side of a node: health, readiness, metrics and the JSON API.
//!
//! Owns a thread, a listener and what the answers look like. Knows nothing of the node but the [`NodeStatus`] that it
//! publishes on a [`StatusBoard`]; reading it never makes the node wait.

mod answer;
mod board;
mod metrics;
mod server;
mod status;

pub use board::StatusBoard;
pub use metrics::{Histogram, Labels, Metric, Samples};
pub use server::{HttpLimits, HttpServer, StatusSource};
pub use status::{ClusterStatus, NodeEntry, NodeState, NodeStatus, ReplicaEntry, ReplicaRole, ShardEntry};
