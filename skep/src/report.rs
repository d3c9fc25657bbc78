//! The node's status as the HTTP server shows it: JSON for the cluster, figures for Prometheus.

use skep_http::{
    ClusterState, ClusterStatus, Labels, Metric, NodeEntry, NodeState, NodeStatus, ReplicaEntry, ReplicaRole,
    Samples, ShardEntry,
};
use skep_node::{ShardStatus, Status};
use skep_server::Counts;

use crate::health::health;

/// Turns a snapshot of the node into what is published.
pub fn report(status: &Status, counts: &Counts) -> NodeStatus {
    let ready = if status.ready { Ok(()) } else { Err(status.reason.clone()) };
    NodeStatus { ready, cluster: cluster(status), metrics: metrics(status, counts) }
}

fn cluster(status: &Status) -> ClusterStatus {
    let nodes = status.nodes.iter().map(|node| NodeEntry {
        id: node.id.0,
        name: node.record.name.clone(),
        client: node.record.client.clone(),
        peer: node.record.peer.clone(),
        http: node.record.http.clone(),
        zone: node.record.zone.clone(),
        state: match node.state {
            skep_node::NodeState::Up => NodeState::Up,
            skep_node::NodeState::Suspect => NodeState::Suspect,
            skep_node::NodeState::Down => NodeState::Down,
            skep_node::NodeState::Draining => NodeState::Draining,
        },
        version: node.record.version.clone(),
        gateway: None,
    });
    let mut cluster = ClusterStatus {
        cluster_id: status.cluster_id.clone(),
        node_id: status.node.0,
        nodes: nodes.collect(),
        shards: status.shards.iter().map(shard).collect(),
        ..ClusterStatus::default()
    };
    (cluster.state, cluster.problems) = health(&cluster, status.copies as usize, &status.reason);
    let odd: Vec<String> = status.shards.iter().flat_map(|shard| differences(shard, &cluster)).collect();
    if !odd.is_empty() {
        cluster.problems.extend(odd);
        cluster.state = cluster.state.max(ClusterState::Degraded);
    }
    cluster
}

/// What is to be said of copies of a shard that differ.
fn differences(shard: &ShardStatus, cluster: &ClusterStatus) -> Vec<String> {
    let named = |node: skep_base::NodeId| {
        let entry = cluster.nodes.iter().find(|entry| entry.id == node.0);
        format!("{} (id {node})", entry.map_or("a node", |entry| &entry.name))
    };
    let of = |replica: &skep_node::ReplicaStatus| {
        let (id, name) = (shard.id.0, named(replica.node));
        match () {
            () if replica.rebuilding => {
                Some(format!("shard {id}: the copy on {name} differed from most others and is being rebuilt"))
            }
            () if replica.differs && shard.undecided => Some(format!(
                "shard {id}: the copy on {name} differs from this node's; no majority of the copies agrees, so which is right \
                 is not known and nothing is repaired: keep the logs and the data directories, and see the manual"
            )),
            () if replica.differs => Some(format!("shard {id}: the copy on {name} differs from most others")),
            () => None,
        }
    };
    shard.replicas.iter().filter_map(of).collect()
}

fn shard(shard: &ShardStatus) -> ShardEntry {
    let replicas = shard.replicas.iter().map(|replica| ReplicaEntry {
        node: replica.node.0,
        role: if replica.voter { ReplicaRole::Voter } else { ReplicaRole::Learner },
        applied: replica.applied.unwrap_or(0),
    });
    ShardEntry {
        id: shard.id.0,
        epoch: shard.epoch,
        slots: shard.slots.clone(),
        leader: shard.leader.unwrap_or_default().0,
        term: shard.term,
        keys: shard.keys,
        replicas: replicas.collect(),
    }
}

/// One sample for each shard, and for each of its replicas.
fn shard_metrics(s: &Status) -> Vec<Metric> {
    let of_shards = |value: &dyn Fn(&ShardStatus) -> f64| {
        let label = |shard: &ShardStatus| vec![("shard", shard.id.0.to_string())];
        Samples::Gauge(s.shards.iter().map(|shard| (label(shard), value(shard))).collect())
    };
    let leads = |shard: &ShardStatus| f64::from(u8::from(shard.leader == Some(s.node)));
    let mut lags: Vec<(Labels, f64)> = Vec::new();
    for shard in s.shards.iter().filter(|shard| shard.leader == Some(s.node)) {
        let newest = shard.replicas.iter().filter_map(|replica| replica.applied).max().unwrap_or(0);
        for replica in &shard.replicas {
            let labels = vec![("shard", shard.id.0.to_string()), ("node", replica.node.0.to_string())];
            lags.push((labels, (newest - replica.applied.unwrap_or(0)) as f64));
        }
    }
    let gauge = |name, help, samples| Metric { name, help, samples };
    vec![
        gauge("skep_shard_leader", "1 if this node leads the shard", of_shards(&leads)),
        gauge("skep_shard_term", "term of the shard's leader; 0 for none", of_shards(&|s| s.term as f64)),
        gauge(
            "skep_shard_applied",
            "log index that this node's copy has carried out; 0 for no copy",
            of_shards(&|s| s.applied as f64),
        ),
        gauge("skep_shard_keys", "keys in this node's copy", of_shards(&|s| s.keys as f64)),
        gauge(
            "skep_replica_lag_entries",
            "entries that a copy lacks, told by the node that leads the shard",
            Samples::Gauge(lags),
        ),
    ]
}

fn differing(s: &Status) -> f64 {
    let replicas = s.shards.iter().flat_map(|shard| &shard.replicas);
    replicas.filter(|replica| replica.differs || replica.rebuilding).count() as f64
}

fn cluster_metrics(s: &Status, counts: &Counts) -> Vec<Metric> {
    let links = &s.links;
    let up = |node: &skep_node::NodeStatus| node.state != skep_node::NodeState::Down;
    vec![
        Metric::gauge("skep_nodes", "members of the cluster", s.nodes.len() as f64),
        Metric::gauge("skep_nodes_up", "members not down", s.nodes.iter().filter(|n| up(n)).count() as f64),
        Metric::gauge("skep_shards_leading", "shards that this node leads", s.leading as f64),
        Metric::counter("skep_leader_changes", "changes of a group's leader", counts.leader_changes),
        Metric::counter("skep_replicas_fetched", "copies got whole from another node", counts.fetched),
        Metric::counter("skep_replicas_diverged", "copies found to differ", counts.diverged),
        Metric::counter("skep_replicas_rebuilt", "copies here rebuilt since they differed", counts.rebuilt),
        Metric::gauge("skep_replicas_differing", "copies that differ, or are being rebuilt", differing(s)),
        Metric::gauge("skep_links", "connections to and from other nodes", links.up as f64),
        Metric::counter("skep_links_dialed", "connections to other nodes", links.dialed),
        Metric::counter("skep_links_accepted", "connections from other nodes", links.accepted),
        Metric::counter("skep_links_turned_away", "connections beyond the limit", links.turned_away),
        Metric::counter("skep_links_refused", "connections that either side declined", links.refused),
        Metric::counter("skep_links_broken", "connections that broke a rule", links.broken),
        Metric::counter("skep_links_received_bytes", "bytes from other nodes", links.bytes_in),
        Metric::counter("skep_links_sent_bytes", "bytes to other nodes", links.bytes_out),
        Metric::counter("skep_links_received_messages", "messages from other nodes", links.messages_in),
        Metric::counter("skep_links_sent_messages", "messages to other nodes", links.messages_out),
        Metric::counter("skep_links_said_again", "answers repeated as their link was lost", s.said_again),
    ]
}

fn metrics(s: &Status, counts: &Counts) -> Vec<Metric> {
    let flag = |on: bool| if on { 1.0 } else { 0.0 };
    let mut metrics = vec![
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
    ];
    metrics.extend(cluster_metrics(s, counts));
    metrics.extend(shard_metrics(s));
    metrics
}
