//! The node's status as the HTTP server shows it: JSON for the cluster, figures for Prometheus.

use skep_http::{
    ClusterStatus, Metric, NodeEntry, NodeState, NodeStatus, ReplicaEntry, ReplicaRole, ShardEntry,
};
use skep_node::Status;

/// Turns a snapshot of the node into what is published.
pub fn report(status: &Status) -> NodeStatus {
    let ready = if status.ready { Ok(()) } else { Err(status.reason.clone()) };
    NodeStatus { ready, cluster: cluster(status), metrics: metrics(status) }
}

fn cluster(status: &Status) -> ClusterStatus {
    let nodes = status.nodes.iter().map(|(id, record)| NodeEntry {
        id: id.0,
        name: record.name.clone(),
        client: record.client.clone(),
        peer: record.peer.clone(),
        http: record.http.clone(),
        zone: record.zone.clone(),
        state: NodeState::Up,
        version: record.version.clone(),
    });
    let shards = status.shards.iter().map(|shard| ShardEntry {
        id: shard.id.0,
        epoch: shard.epoch,
        slots: shard.slots.clone(),
        leader: shard.leader.unwrap_or_default().0,
        term: shard.term,
        keys: shard.keys,
        replicas: shard
            .replicas
            .iter()
            .map(|node| ReplicaEntry { node: node.0, role: ReplicaRole::Voter, applied: shard.applied })
            .collect(),
    });
    ClusterStatus {
        cluster_id: status.cluster_id.clone(),
        node_id: status.node.0,
        nodes: nodes.collect(),
        shards: shards.collect(),
    }
}

fn metrics(s: &Status) -> Vec<Metric> {
    let flag = |on: bool| if on { 1.0 } else { 0.0 };
    vec![
        Metric::gauge("skep_ready", "1 while the node serves every shard", flag(s.ready)),
        Metric::gauge("skep_uptime_seconds", "time since the process started", s.uptime_ms as f64 / 1e3),
        Metric::gauge("skep_clients", "connected clients", s.clients as f64),
        Metric::counter("skep_clients_accepted", "connections accepted", s.clients_accepted),
        Metric::counter("skep_clients_rejected", "connections beyond maxclients", s.clients_rejected),
        Metric::counter("skep_commands", "commands run", s.commands),
        Metric::counter("skep_errors", "error replies", s.errors),
        Metric::counter("skep_received_bytes", "bytes received from clients", s.bytes_in),
        Metric::counter("skep_sent_bytes", "bytes sent to clients", s.bytes_out),
        Metric::gauge("skep_memory_used_bytes", "bytes allocated", s.memory_used as f64),
        Metric::gauge("skep_memory_peak_bytes", "highest number of bytes allocated", s.memory_peak as f64),
        Metric::gauge("skep_memory_max_bytes", "maxmemory; 0 for no limit", s.memory_max as f64),
        Metric::gauge("skep_keys", "keys", s.keys as f64),
        Metric::gauge("skep_keys_volatile", "keys with a deadline", s.keys_volatile as f64),
        Metric::counter("skep_keys_expired", "keys removed at their deadline", s.expired_keys),
        Metric::counter("skep_keys_evicted", "keys removed for want of memory", s.evicted_keys),
        Metric::counter("skep_lookups_found", "look-ups that found their key", s.keyspace_hits),
        Metric::counter("skep_lookups_missed", "look-ups that did not", s.keyspace_misses),
        Metric::counter("skep_log_entries_applied", "log entries applied", s.entries_applied),
        Metric::counter("skep_log_batches", "batches handed to the log", s.persists),
        Metric::gauge("skep_disk_full", "1 while writes are refused for want of space", flag(s.disk_full)),
        Metric::gauge("skep_checkpoint_active", "1 while a checkpoint is written", flag(s.checkpoint_active)),
        Metric::gauge("skep_checkpoint_failed", "1 if the last checkpoint failed", flag(s.checkpoint_failed)),
        Metric::gauge(
            "skep_checkpoint_saved_seconds",
            "when the last checkpoint was saved, or the process started; Unix time",
            s.checkpoint_saved as f64 / 1e3,
        ),
    ]
}
