//! Whether the cluster is well, as far as one node sees.

use skep_http::{ClusterState, ClusterStatus, NodeState, ReplicaRole};

/// The state, and each thing that is not as it should be. `copies` is how many of each shard are wanted, `reason` why this
/// node is not ready, if it is not.
pub fn health(cluster: &ClusterStatus, copies: usize, reason: &str) -> (ClusterState, Vec<String>) {
    if cluster.cluster_id.is_empty() {
        return (ClusterState::Unavailable, vec![reason.to_owned()]);
    }
    let mut problems = Vec::new();
    let mut state = ClusterState::Ok;
    for shard in cluster.shards.iter().filter(|shard| shard.leader == 0) {
        state = ClusterState::Unavailable;
        problems.push(format!("shard {} has no leader", shard.id));
    }
    for node in &cluster.nodes {
        if matches!(node.state, NodeState::Down | NodeState::Suspect) {
            problems.push(format!("{} is {}", node.name, node.state));
        }
    }
    // What is being drained takes no copy, unless there is nobody else.
    let homes = cluster.nodes.iter().filter(|node| node.state != NodeState::Draining).count();
    let wanted = copies.min(homes).max(1);
    for shard in &cluster.shards {
        let voters = shard.replicas.iter().filter(|replica| replica.role == ReplicaRole::Voter).count();
        if voters < wanted {
            problems.push(format!("shard {} has {voters} of {wanted} copies", shard.id));
        }
    }
    if state == ClusterState::Ok && !problems.is_empty() {
        state = ClusterState::Degraded;
    }
    (state, problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_http::{NodeEntry, ReplicaEntry, ShardEntry};

    /// Nodes 1 to 3 in these states, and a shard with this leader and so many voters, the rest learners.
    fn cluster(states: [NodeState; 3], leader: u64, voters: u64) -> ClusterStatus {
        let node = |(at, state)| NodeEntry {
            id: at as u64 + 1,
            name: format!("n{}", at + 1),
            client: String::new(),
            peer: String::new(),
            http: String::new(),
            zone: String::new(),
            state,
            version: String::new(),
            gateway: None,
        };
        let role = |id| if id <= voters { ReplicaRole::Voter } else { ReplicaRole::Learner };
        let replicas = (1..=3).map(|id| ReplicaEntry { node: id, role: role(id), applied: 1 }).collect();
        let shard =
            ShardEntry { id: 1, epoch: 1, slots: vec![(0, 16383)], leader, term: 1, keys: 0, replicas };
        ClusterStatus {
            cluster_id: "c".into(),
            node_id: 1,
            nodes: states.into_iter().enumerate().map(node).collect(),
            shards: vec![shard],
            ..ClusterStatus::default()
        }
    }

    #[test]
    fn a_cluster_is_as_well_as_its_worst_part() {
        use ClusterState::*;
        use NodeState::{Down, Draining, Suspect, Up};
        for (states, leader, voters, copies, state, problems) in [
            ([Up, Up, Up], 1, 3, 3, Ok, ""),
            ([Up, Up, Up], 1, 3, 5, Ok, ""),
            ([Up, Up, Down], 1, 3, 3, Degraded, "n3 is down"),
            ([Up, Suspect, Up], 1, 3, 3, Degraded, "n2 is suspect"),
            ([Up, Up, Up], 1, 2, 3, Degraded, "shard 1 has 2 of 3 copies"),
            ([Up, Up, Up], 1, 2, 2, Ok, ""),
            ([Up, Up, Draining], 1, 2, 3, Ok, ""),
            ([Up, Down, Down], 0, 3, 3, Unavailable, "shard 1 has no leader; n2 is down; n3 is down"),
        ] {
            let found = health(&cluster(states, leader, voters), copies, "");
            assert_eq!(
                (found.0, found.1.join("; ").as_str()),
                (state, problems),
                "{states:?} {leader} {voters}"
            );
        }
        assert_eq!(
            health(&ClusterStatus::default(), 3, "it waits"),
            (Unavailable, vec!["it waits".to_owned()])
        );
    }
}
