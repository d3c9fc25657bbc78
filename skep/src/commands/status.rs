//! `skep status`: what runs where, and whether all is well.

use std::collections::BTreeMap;

use skep_http::{ClusterState, ClusterStatus, GatewayEntry, NodeEntry, NodeState, ReplicaRole, ShardEntry};

use super::table::table;
use super::{Failure, ask};
use crate::cli::{HttpAt, StatusArgs};

/// The status as it is printed, and whether the cluster is well.
///
/// # Errors
/// No node answers there.
pub fn status(args: &StatusArgs) -> Result<(String, bool), Failure> {
    let mut cluster = ask::cluster(&args.at)?;
    ask_others(&mut cluster);
    let text = if args.json { cluster.to_json() + "\n" } else { for_people(&cluster) };
    Ok((text, cluster.state == ClusterState::Ok))
}

/// Puts in what each node alone knows: by which version its gateway works, and of shards that it leads how far each copy is.
/// What one that does not answer knows is left out.
fn ask_others(cluster: &mut ClusterStatus) {
    let own = (cluster.node_id, cluster.gateway.clone());
    for node in &mut cluster.nodes {
        if node.id == own.0 {
            node.gateway = Some(own.1.clone());
            continue;
        }
        if node.state == NodeState::Down {
            continue;
        }
        let Ok(told) = ask::cluster(&HttpAt { http: node.http.clone() }) else { continue };
        // An address of loopback, as nodes give it that nobody else shall ask, is that of the node here.
        if told.node_id != node.id {
            continue;
        }
        for shard in cluster.shards.iter_mut().filter(|shard| shard.leader == node.id) {
            let same = |other: &&ShardEntry| other.id == shard.id && other.leader == node.id;
            if let Some(other) = told.shards.iter().find(same) {
                *shard = other.clone();
            }
        }
        node.gateway = Some(told.gateway);
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
    out += &gateways(cluster);
    out.push('\n');
    out += &nodes(cluster);
    out.push('\n');
    out += &shards(cluster);
    out
}

/// Which version of the gateway's configuration is in force where, and why not the newest; nothing if there is none.
fn gateways(cluster: &ClusterStatus) -> String {
    let told = || cluster.nodes.iter().filter_map(|node| Some((node, node.gateway.as_ref()?)));
    let newest = told().map(|(_, gateway)| gateway.wanted.max(gateway.in_force)).max().unwrap_or(0);
    if newest == 0 {
        return String::new();
    }
    let mut by_version: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    told().for_each(|(node, gateway)| by_version.entry(gateway.in_force).or_default().push(&node.name));
    let silent: Vec<&str> =
        cluster.nodes.iter().filter(|node| node.gateway.is_none()).map(|node| node.name.as_str()).collect();
    let is_everywhere = by_version.keys().eq([&newest]);
    let mut out = match is_everywhere {
        true if silent.is_empty() => format!("gateway: version {newest} is in force on all nodes\n"),
        true => format!("gateway: version {newest} is in force on all nodes that answer\n"),
        false => {
            let part = |(version, names): (&u64, &Vec<&str>)| match version {
                0 => format!("none on {}", names.join(", ")),
                _ => format!("version {version} on {}", names.join(", ")),
            };
            let parts: Vec<String> = by_version.iter().rev().map(part).collect();
            format!("gateway: version {newest} is not in force on all nodes: {}\n", parts.join("; "))
        }
    };
    for (node, gateway) in told().filter(|(_, gateway)| !gateway.problem.is_empty()) {
        out += &format!("  {}: {}\n", node.name, gateway.problem);
    }
    if !silent.is_empty() {
        out += &format!("  no answer from {}\n", silent.join(", "));
    }
    out
}

/// The version that a node's gateway works by.
fn version_in_force(node: &NodeEntry) -> String {
    match &node.gateway {
        None => "?".to_owned(),
        Some(GatewayEntry { in_force: 0, .. }) => String::new(),
        Some(GatewayEntry { in_force, .. }) => in_force.to_string(),
    }
}

/// The table of nodes; with the versions of their gateways' configuration, if any node told of one.
pub(super) fn nodes(cluster: &ClusterStatus) -> String {
    let has_gateway =
        cluster.nodes.iter().filter_map(|node| node.gateway.as_ref()).any(|gateway| gateway.wanted > 0);
    let rows: Vec<Vec<String>> = cluster
        .nodes
        .iter()
        .map(|node| {
            let (leads, holds) = ask::burden(cluster, node.id);
            let mut row = vec![
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
            ];
            row.extend(has_gateway.then(|| version_in_force(node)));
            row
        })
        .collect();
    let mut heads =
        vec!["NODE", "ID", "STATE", "LEADS", "COPIES", "ZONE", "CLIENTS", "PEERS", "HTTP", "VERSION"];
    heads.extend(has_gateway.then_some("GATEWAY"));
    table(&heads, &rows)
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
            gateway: None,
        }
    }

    fn with_gateways(gateways: &[Option<(u64, u64, &str)>]) -> ClusterStatus {
        let nodes = gateways.iter().zip(1..).map(|(gateway, id)| {
            let gateway = gateway.map(|(wanted, in_force, problem)| GatewayEntry {
                wanted,
                in_force,
                problem: problem.into(),
            });
            NodeEntry { gateway, ..node(id, NodeState::Up) }
        });
        ClusterStatus { nodes: nodes.collect(), ..ClusterStatus::default() }
    }

    #[test]
    fn it_is_told_where_the_newest_version_of_the_gateways_configuration_is_in_force() {
        let well = Some((3, 3, ""));
        for (nodes, told) in [
            (vec![well, well], "gateway: version 3 is in force on all nodes\n"),
            (
                vec![well, None],
                "gateway: version 3 is in force on all nodes that answer\n  no answer from n2\n",
            ),
            (
                vec![well, Some((3, 2, "cannot be read")), well, Some((2, 2, "")), Some((3, 0, "")), None],
                "gateway: version 3 is not in force on all nodes: version 3 on n1, n3; version 2 on n2, n4; \
                 none on n5\n  n2: cannot be read\n  no answer from n6\n",
            ),
            (vec![Some((0, 0, "")), None], ""),
        ] {
            assert_eq!(gateways(&with_gateways(&nodes)), told);
        }
    }

    #[test]
    fn the_table_of_nodes_has_the_versions_if_there_are_any() {
        let last = |cluster: &ClusterStatus| -> Vec<String> {
            let shown = nodes(cluster);
            shown.lines().map(|line| line.split_whitespace().last().unwrap().to_owned()).collect()
        };
        let cluster = with_gateways(&[Some((3, 3, "")), None, Some((3, 0, "x"))]);
        assert_eq!(last(&cluster), ["GATEWAY", "3", "?", "-"]);
        assert_eq!(last(&with_gateways(&[Some((0, 0, "")), None])), ["VERSION", "0.1.0", "0.1.0"]);
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
