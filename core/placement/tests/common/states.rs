//! States of the meta group, made as they come to be: by commands.

use std::collections::BTreeSet;

use skep_base::{GroupId, Millis, NodeId, NodeUuid, Rng};
use skep_placement::{MetaCommand, MetaState, NodeRecord, REPLICAS_MAX, View};

/// A time at which every node that is down long enough counts as dead.
pub const NOW: Millis = Millis(1_000_000_000);

pub fn record(name: &str, zone: &str) -> NodeRecord {
    NodeRecord {
        name: name.into(),
        client: format!("{name}:6379"),
        peer: format!("{name}:7379"),
        http: format!("{name}:8379"),
        zone: zone.into(),
        version: "0.1.0".into(),
    }
}

pub fn found(replicas: u32, shards: u32, zone: &str) -> MetaCommand {
    MetaCommand::Found {
        cluster_id: "ab".repeat(20),
        replicas,
        shards,
        node: NodeId(1),
        uuid: NodeUuid(1001),
        record: record("n1", zone),
    }
}

pub fn join(number: u64, zone: &str) -> MetaCommand {
    MetaCommand::Join {
        uuid: NodeUuid(u128::from(1000 + number)),
        record: record(&format!("n{number}"), zone),
    }
}

/// A cluster of nodes 1 to the number of `zones`, each in its zone, whose shards all are on node 1.
pub fn cluster(replicas: u32, shards: u32, zones: &[&str]) -> MetaState {
    let mut state = MetaState::default();
    state.apply(found(replicas, shards, zones[0])).unwrap();
    for (number, zone) in (2..).zip(&zones[1..]) {
        state.apply(join(number, zone)).unwrap();
    }
    state.assert_invariants();
    state
}

pub fn set_replicas(state: &mut MetaState, shard: u64, replicas: &[u64]) {
    let shard = GroupId(shard);
    let epoch = state.group(shard).unwrap().epoch;
    let replicas = replicas.iter().map(|node| NodeId(*node)).collect();
    state.apply(MetaCommand::SetReplicas { shard, epoch, replicas }).unwrap();
}

pub fn settle(state: &mut MetaState, shard: GroupId) {
    let epoch = state.group(shard).unwrap().epoch;
    state.apply(MetaCommand::Settled { shard, epoch }).unwrap();
}

pub fn drain(state: &mut MetaState, node: u64, on: bool) {
    state.apply(MetaCommand::Drain { node: NodeId(node), on }).unwrap();
}

pub fn replicas(state: &MetaState, shard: u64) -> Vec<u64> {
    state.group(GroupId(shard)).unwrap().replicas.iter().map(|node| node.0).collect()
}

/// Nodes that went down long ago, and nodes that did just now.
pub fn view(dead: &[u64], down: &[u64]) -> View {
    let mut view = View::default();
    view.down.extend(dead.iter().map(|node| (NodeId(*node), Millis(0))));
    view.down.extend(down.iter().map(|node| (NodeId(*node), NOW)));
    view
}

/// Any state there can be, of up to 8 nodes and 12 shards, and what may be seen of its nodes.
pub fn random(rng: &mut Rng) -> (MetaState, View) {
    let nodes = 1 + rng.below(8);
    let zone_count = 1 + rng.below(4);
    let mut zone = || ["", "a", "b", "c"][rng.below(zone_count) as usize];
    let zones: Vec<&str> = (0..nodes).map(|_| zone()).collect();
    let mut state = cluster(1 + rng.below(5) as u32, 1 + rng.below(12) as u32, &zones);
    let groups: Vec<GroupId> = state.groups().map(|(group, _)| group).collect();
    let drains = rng.one_in(2);
    for _ in 0..rng.below(40) {
        let group = groups[rng.below(groups.len() as u64) as usize];
        match rng.below(6) {
            0..=2 => {
                let mut some = BTreeSet::new();
                for _ in 0..=rng.below(REPLICAS_MAX as u64) {
                    some.insert(1 + rng.below(nodes));
                }
                set_replicas(&mut state, group.0, &some.into_iter().collect::<Vec<_>>());
            }
            3 | 4 => settle(&mut state, group),
            _ if drains => {
                let node = NodeId(1 + rng.below(nodes));
                // Refused for the last one.
                let _ = state.apply(MetaCommand::Drain { node, on: !rng.one_in(4) });
            }
            _ => {}
        }
    }
    let mut view = View::default();
    if rng.one_in(2) {
        for node in 1..=nodes {
            match rng.below(6) {
                0 => view.down.extend([(NodeId(node), Millis(0))]),
                1 => view.down.extend([(NodeId(node), NOW)]),
                _ => {}
            }
        }
    }
    state.assert_invariants();
    (state, view)
}
