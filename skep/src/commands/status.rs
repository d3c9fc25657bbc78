//! `skep status`: what runs where, and whether all is well.

use std::collections::BTreeSet;

use skep_http::{ClusterState, ClusterStatus, ReplicaRole, ShardEntry};

use super::table::table;
use super::{Failure, ask};
use crate::cli::{HttpAt, StatusArgs};

/// The status as it is printed, and whether the cluster is well.
///
/// # Errors
/// No node answers there.
pub fn status(args: &StatusArgs) -> Result<(String, bool), Failure> {
    let mut cluster = ask::cluster(&args.at)?;
    ask_leaders(&mut cluster);
    let text = if args.json { cluster.to_json() + "\n" } else { for_people(&cluster) };
    Ok((text, cluster.state == ClusterState::Ok))
}

/// Puts in what the leader of each shard knows and others do not: how far each copy is. One that does not answer is left
/// out.
fn ask_leaders(cluster: &mut ClusterStatus) {
    let leaders: BTreeSet<u64> = cluster.shards.iter().map(|shard| shard.leader).collect();
    for leader in leaders.into_iter().filter(|leader| *leader != cluster.node_id) {
        let Some(node) = cluster.nodes.iter().find(|node| node.id == leader) else { continue };
        let Ok(told) = ask::cluster(&HttpAt { http: node.http.clone() }) else { continue };
        for shard in cluster.shards.iter_mut().filter(|shard| shard.leader == leader) {
            let same = |other: &&ShardEntry| other.id == shard.id && other.leader == leader;
            if let Some(other) = told.shards.iter().find(same) {
                *shard = other.clone();
            }
        }
    }
}

fn for_people(cluster: &ClusterStatus) -> String {
    let mut out = match cluster.cluster_id.as_str() {
        "" => format!("this node is {}\n", cluster.state),
        id => format!("cluster {id} is {}\n", cluster.state),
    };
    for problem in &cluster.problems {
        out += &format!("  {problem}\n");
    }
    out.push('\n');
    out += &nodes(cluster);
    out.push('\n');
    out += &shards(cluster);
    out
}

/// The table of nodes.
pub(super) fn nodes(cluster: &ClusterStatus) -> String {
    let rows: Vec<Vec<String>> = cluster
        .nodes
        .iter()
        .map(|node| {
            let (leads, holds) = ask::burden(cluster, node.id);
            vec![
                node.name.clone(),
                node.id.to_string(),
                node.state.to_string(),
                leads.to_string(),
                holds.to_string(),
                node.zone.clone(),
                node.client.clone(),
                node.peer.clone(),
                node.http.clone(),
                node.version.clone(),
            ]
        })
        .collect();
    table(&["NODE", "ID", "STATE", "LEADS", "COPIES", "ZONE", "CLIENTS", "PEERS", "HTTP", "VERSION"], &rows)
}

fn shards(cluster: &ClusterStatus) -> String {
    let rows: Vec<Vec<String>> = cluster
        .shards
        .iter()
        .map(|shard| {
            vec![
                shard.id.to_string(),
                slots(shard),
                shard.keys.to_string(),
                if shard.leader == 0 { "none".to_owned() } else { ask::name(cluster, shard.leader) },
                shard.term.to_string(),
                newest(shard).to_string(),
                copies(cluster, shard),
            ]
        })
        .collect();
    table(&["SHARD", "SLOTS", "KEYS", "LEADER", "TERM", "APPLIED", "COPIES"], &rows)
}

/// Slots as people count them: `0-99,200`.
fn slots(shard: &ShardEntry) -> String {
    let range = |&(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    shard.slots.iter().map(range).collect::<Vec<_>>().join(",")
}

/// The position of the copy that is ahead of the others.
fn newest(shard: &ShardEntry) -> u64 {
    shard.replicas.iter().map(|replica| replica.applied).max().unwrap_or(0)
}

/// Who has a copy, and how far behind it is.
fn copies(cluster: &ClusterStatus, shard: &ShardEntry) -> String {
    let newest = newest(shard);
    let copy = |replica: &skep_http::ReplicaEntry| {
        let mut notes = Vec::new();
        if replica.role == ReplicaRole::Learner {
            notes.push("learner".to_owned());
        }
        // 0: the leader, who knows, did not answer.
        if replica.applied != 0 && replica.applied < newest {
            notes.push(format!("{} behind", newest - replica.applied));
        }
        let name = ask::name(cluster, replica.node);
        if notes.is_empty() { name } else { format!("{name} ({})", notes.join(", ")) }
    };
    shard.replicas.iter().map(copy).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_http::{NodeEntry, NodeState, ReplicaEntry};

    fn node(id: u64, state: NodeState) -> NodeEntry {
        NodeEntry {
            id,
            name: format!("n{id}"),
            client: format!("10.0.0.{id}:6379"),
            peer: format!("10.0.0.{id}:7379"),
            http: format!("10.0.0.{id}:8379"),
            zone: if id == 1 { "east".into() } else { String::new() },
            state,
            version: "0.1.0".into(),
        }
    }

    #[test]
    fn the_table_shows_who_leads_who_lags_and_what_is_wrong() {
        let replica = |node, role, applied| ReplicaEntry { node, role, applied };
        let cluster = ClusterStatus {
            cluster_id: "c0ffee".into(),
            node_id: 2,
            state: ClusterState::Degraded,
            problems: vec!["n3 is down".into()],
            gateway: skep_http::GatewayEntry::default(),
            nodes: vec![node(1, NodeState::Up), node(2, NodeState::Draining), node(3, NodeState::Down)],
            shards: vec![
                ShardEntry {
                    id: 1,
                    epoch: 4,
                    slots: vec![(0, 8191), (9000, 9000)],
                    leader: 1,
                    term: 7,
                    keys: 12,
                    replicas: vec![
                        replica(1, ReplicaRole::Voter, 120),
                        replica(2, ReplicaRole::Learner, 100),
                        replica(3, ReplicaRole::Voter, 119),
                    ],
                },
                ShardEntry {
                    id: 2,
                    epoch: 1,
                    slots: vec![],
                    leader: 0,
                    term: 2,
                    keys: 0,
                    replicas: vec![replica(9, ReplicaRole::Voter, 5)],
                },
            ],
        };
        let expected = "\
cluster c0ffee is degraded
  n3 is down

NODE  ID  STATE     LEADS  COPIES  ZONE  CLIENTS        PEERS          HTTP           VERSION
n1    1   up        1      1       east  10.0.0.1:6379  10.0.0.1:7379  10.0.0.1:8379  0.1.0
n2    2   draining  0      1       -     10.0.0.2:6379  10.0.0.2:7379  10.0.0.2:8379  0.1.0
n3    3   down      0      1       -     10.0.0.3:6379  10.0.0.3:7379  10.0.0.3:8379  0.1.0

SHARD  SLOTS        KEYS  LEADER  TERM  APPLIED  COPIES
1      0-8191,9000  12    n1      7     120      n1, n2 (learner, 20 behind), n3 (1 behind)
2      -            0     none    2     5        node 9
";
        assert_eq!(for_people(&cluster), expected);
    }
}
