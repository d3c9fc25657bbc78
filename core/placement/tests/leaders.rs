//! Leadership: spread where that helps, left alone where it does not.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::states::{cluster, drain, random, set_replicas, settle, view};
use skep_base::{GroupId, NodeId, Rng};
use skep_placement::{MetaState, View, better_leader};

fn on_all_three(shards: u32) -> MetaState {
    let mut state = cluster(3, shards, &["", "", ""]);
    for group in 0..=u64::from(shards) {
        set_replicas(&mut state, group, &[1, 2, 3]);
        settle(&mut state, GroupId(group));
    }
    state
}

fn led_by(state: &MetaState, leader: u64) -> BTreeMap<GroupId, NodeId> {
    state.groups().map(|(group, _)| (group, NodeId(leader))).collect()
}

/// Asks the leaders in turn until none has a better one.
fn spread(state: &MetaState, view: &View, leaders: &mut BTreeMap<GroupId, NodeId>) -> usize {
    let mut transfers = 0;
    loop {
        let next = leaders
            .iter()
            .find_map(|(group, me)| Some((*group, better_leader(*me, *group, state, view, leaders)?)));
        let Some((group, heir)) = next else { return transfers };
        assert!(state.group(group).unwrap().replicas.contains(&heir) && leaders[&group] != heir);
        leaders.insert(group, heir);
        transfers += 1;
        assert!(transfers < 500, "no end: {leaders:?}");
    }
}

fn count(leaders: &BTreeMap<GroupId, NodeId>, node: u64) -> usize {
    leaders.iter().filter(|(group, leader)| **group != GroupId::META && leader.0 == node).count()
}

#[test]
fn one_shard_stays_where_it_is() {
    let state = on_all_three(1);
    assert_eq!(spread(&state, &View::default(), &mut led_by(&state, 2)), 0);
}

#[test]
fn many_shards_are_led_by_all_nodes_alike() {
    let state = on_all_three(64);
    let mut leaders = led_by(&state, 1);
    let transfers = spread(&state, &View::default(), &mut leaders);
    assert_eq!([count(&leaders, 1), count(&leaders, 2), count(&leaders, 3)], [22, 21, 21]);
    assert_eq!(transfers, 42, "each shard moves once at most");
    assert_eq!(leaders[&GroupId::META], NodeId(1));
}

#[test]
fn a_draining_node_leads_nothing_if_another_can() {
    let mut state = on_all_three(4);
    drain(&mut state, 1, true);
    let mut leaders = led_by(&state, 1);
    spread(&state, &view(&[], &[2]), &mut leaders);
    assert!(leaders.values().all(|leader| *leader == NodeId(3)), "{leaders:?}");
    let mut leaders = led_by(&state, 1);
    assert_eq!(spread(&state, &view(&[], &[2, 3]), &mut leaders), 0);
}

#[test]
fn a_shard_on_its_way_is_left_in_peace() {
    let mut state = on_all_three(4);
    for group in 1..=4 {
        set_replicas(&mut state, group, &[1, 2]);
    }
    assert_eq!(spread(&state, &View::default(), &mut led_by(&state, 1)), 0);
}

/// INV-PLACE-10.
#[test]
fn transfers_end_and_leave_no_leader_with_two_more_than_its_heir() {
    let mut transfers = 0;
    for seed in common::seeds(2000) {
        let mut rng = Rng::new(seed);
        let (state, view) = random(&mut rng);
        let any = |replicas: &[NodeId], rng: &mut Rng| replicas[rng.below(replicas.len() as u64) as usize];
        let mut leaders =
            state.groups().map(|(group, record)| (group, any(&record.replicas, &mut rng))).collect();
        transfers += spread(&state, &view, &mut leaders);
        for (shard, record) in state.shards.iter().filter(|(_, record)| record.settled) {
            let me = leaders[shard];
            for node in record.replicas.iter().filter(|node| **node != me) {
                if !view.down.contains_key(node) && !state.nodes[node].draining {
                    assert!(!state.nodes[&me].draining, "seed {seed}: draining {me} leads {shard}");
                    let (mine, theirs) = (count(&leaders, me.0), count(&leaders, node.0));
                    assert!(mine <= theirs + 1, "seed {seed}: {me} leads {mine}, {node} only {theirs}");
                }
            }
        }
    }
    assert!(transfers > 300, "only {transfers} transfers");
}
