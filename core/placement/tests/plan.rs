//! Plans: the cases that people meet, one by one, and the fixed point that every state reaches.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::states::{NOW, cluster, drain, random, replicas, set_replicas, settle, view};
use skep_base::{GroupId, Millis, NodeId, Rng};
use skep_placement::{DEAD_AFTER_MS, MetaCommand, MetaState, View, plan};

/// The groups' leaders, as the meta group's leader knows them: a group settles when all its replicas are up, but for those
/// that voted when it last settled.
struct Groups {
    voters: BTreeMap<GroupId, Vec<NodeId>>,
}

impl Groups {
    fn new(state: &MetaState) -> Groups {
        Groups { voters: state.groups().map(|(group, record)| (group, record.replicas.clone())).collect() }
    }

    fn settle_all(&mut self, state: &mut MetaState, view: &View) {
        let groups: Vec<GroupId> = state.groups().map(|(group, _)| group).collect();
        for group in groups {
            let record = state.group(group).unwrap();
            let can = |node: &NodeId| !view.down.contains_key(node) || self.voters[&group].contains(node);
            if record.replicas.iter().all(can) {
                self.voters.insert(group, record.replicas.clone());
                settle(state, group);
            }
        }
    }
}

/// Carries out plans until there is none, each followed by what the groups make of it. Returns the shards' changes.
fn run(state: &mut MetaState, view: &View, limit: usize) -> Vec<(u64, Vec<u64>)> {
    let mut groups = Groups::new(state);
    groups.settle_all(state, view);
    let mut changes = Vec::new();
    while let Some(command) = plan(state, view, NOW) {
        assert!(changes.len() < limit, "no end after {limit} plans: {state:?} {view:?}");
        let MetaCommand::SetReplicas { shard, epoch, .. } = command else { panic!("planned {command:?}") };
        assert_eq!(state.apply(command), Ok(()));
        state.assert_invariants();
        assert_eq!(state.group(shard).unwrap().epoch, epoch + 1, "a plan that changes nothing");
        changes.push((shard.0, replicas(state, shard.0)));
        groups.settle_all(state, view);
    }
    changes
}

fn shard(changes: &[(u64, Vec<u64>)], shard: u64) -> Vec<Vec<u64>> {
    changes.iter().filter(|(changed, _)| *changed == shard).map(|(_, replicas)| replicas.clone()).collect()
}

#[test]
fn before_the_founding_there_is_nothing_to_plan() {
    assert_eq!(plan(&MetaState::default(), &View::default(), NOW), None);
}

#[test]
fn a_cluster_of_one_stays_as_it_is() {
    let mut state = cluster(3, 4, &[""]);
    assert_eq!(run(&mut state, &View::default(), 0), []);
}

#[test]
fn shards_gain_copies_one_at_a_time_as_nodes_join() {
    let mut state = cluster(3, 1, &["", "", ""]);
    let changes = run(&mut state, &View::default(), 10);
    assert_eq!(shard(&changes, 0), [vec![1, 2], vec![1, 2, 3]]);
    assert_eq!(shard(&changes, 1), [vec![1, 2], vec![1, 2, 3]]);
}

#[test]
fn a_second_copy_waits_until_the_first_has_arrived() {
    let mut state = cluster(3, 1, &["", "", ""]);
    set_replicas(&mut state, 0, &[1, 2, 3]);
    settle(&mut state, GroupId::META);
    set_replicas(&mut state, 1, &[1, 2]);
    assert_eq!(plan(&state, &View::default(), NOW), None);
    settle(&mut state, GroupId(1));
    assert!(plan(&state, &View::default(), NOW).is_some());
}

#[test]
fn two_nodes_both_hold_everything() {
    let mut state = cluster(3, 2, &["", ""]);
    run(&mut state, &View::default(), 10);
    for group in 0..=2 {
        assert_eq!(replicas(&state, group), [1, 2]);
    }
}

#[test]
fn no_more_copies_are_made_than_asked_for() {
    for (asked, expected) in [(1, 1), (2, 2), (3, 3), (5, 4)] {
        let mut state = cluster(asked, 1, &["", "", "", ""]);
        run(&mut state, &View::default(), 10);
        assert_eq!(replicas(&state, 1).len(), expected);
        assert_eq!(replicas(&state, 0).len(), 3);
    }
}

#[test]
fn the_meta_group_has_three_voters_and_from_five_nodes_on_five() {
    for (nodes, voters) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (6, 5), (9, 5)] {
        let mut state = cluster(3, 1, &vec![""; nodes]);
        run(&mut state, &View::default(), 20);
        assert_eq!(replicas(&state, 0).len(), voters, "of {nodes} nodes");
    }
}

#[test]
fn a_drained_node_is_replaced_by_a_spare_one() {
    let mut state = cluster(3, 2, &["", "", "", ""]);
    run(&mut state, &View::default(), 20);
    drain(&mut state, 1, true);
    let changes = run(&mut state, &View::default(), 20);
    assert_eq!(replicas(&state, 1), [2, 3, 4]);
    assert_eq!(replicas(&state, 2), [2, 3, 4]);
    // Never fewer copies on the way.
    assert!(changes.iter().all(|(_, replicas)| replicas.len() == 3), "{changes:?}");
    drain(&mut state, 1, false);
    run(&mut state, &View::default(), 20);
    assert_eq!(replicas(&state, 1).len(), 3);
}

#[test]
fn without_a_spare_node_draining_costs_a_copy() {
    let mut state = cluster(3, 1, &["", "", ""]);
    run(&mut state, &View::default(), 20);
    drain(&mut state, 2, true);
    run(&mut state, &View::default(), 20);
    assert_eq!((replicas(&state, 0), replicas(&state, 1)), (vec![1, 3], vec![1, 3]));
    state.apply(MetaCommand::Remove { node: NodeId(2) }).unwrap();
}

#[test]
fn what_only_draining_nodes_hold_stays_until_another_can_take_it() {
    let mut state = cluster(1, 1, &["", ""]);
    drain(&mut state, 1, true);
    assert_eq!(run(&mut state, &view(&[], &[2]), 20), []);
    run(&mut state, &View::default(), 20);
    assert_eq!((replicas(&state, 0), replicas(&state, 1)), (vec![2], vec![2]));

    let mut state = cluster(3, 1, &["", "", ""]);
    set_replicas(&mut state, 0, &[1, 2]);
    set_replicas(&mut state, 1, &[1, 2]);
    drain(&mut state, 1, true);
    drain(&mut state, 2, true);
    assert_eq!(run(&mut state, &view(&[], &[3]), 20), []);
}

#[test]
fn a_node_that_is_down_for_a_moment_is_waited_for() {
    let mut state = cluster(3, 2, &["", "", "", ""]);
    run(&mut state, &View::default(), 20);
    let holder = replicas(&state, 1)[0];
    let mut seen = view(&[], &[holder]);
    assert_eq!(plan(&state, &seen, NOW), None);
    seen.down.insert(NodeId(holder), Millis(NOW.0 - DEAD_AFTER_MS + 1));
    assert_eq!(plan(&state, &seen, NOW), None);
    assert!(plan(&state, &seen, NOW.plus(1)).is_some());
}

#[test]
fn a_dead_node_is_replaced_if_there_is_a_spare_one() {
    let mut state = cluster(3, 1, &["", "", "", ""]);
    set_replicas(&mut state, 0, &[1, 2, 3]);
    set_replicas(&mut state, 1, &[1, 2, 3]);
    let changes = run(&mut state, &view(&[2], &[]), 20);
    assert_eq!(changes, [(0, vec![1, 3, 4]), (1, vec![1, 3, 4])]);
    // It comes back and stays a spare.
    assert_eq!(run(&mut state, &View::default(), 20), []);
}

#[test]
fn a_dead_node_is_kept_if_there_is_no_spare_one() {
    let mut state = cluster(3, 2, &["", "", ""]);
    run(&mut state, &View::default(), 20);
    assert_eq!(run(&mut state, &view(&[2], &[]), 20), []);
    // A new machine joins and takes its place.
    state.apply(common::states::join(4, "")).unwrap();
    run(&mut state, &view(&[2], &[]), 20);
    for group in 0..=2 {
        assert_eq!(replicas(&state, group), [1, 3, 4]);
    }
    // So a dead node can be removed: it is drained, and holds nothing any more.
    drain(&mut state, 2, true);
    assert_eq!(run(&mut state, &view(&[2], &[]), 20), []);
    state.apply(MetaCommand::Remove { node: NodeId(2) }).unwrap();
}

#[test]
fn a_dead_node_can_be_drained_without_a_spare_one() {
    let mut state = cluster(3, 1, &["", "", ""]);
    run(&mut state, &View::default(), 20);
    drain(&mut state, 3, true);
    run(&mut state, &view(&[3], &[]), 20);
    assert_eq!((replicas(&state, 0), replicas(&state, 1)), (vec![1, 2], vec![1, 2]));
    state.apply(MetaCommand::Remove { node: NodeId(3) }).unwrap();
}

#[test]
fn a_group_without_a_majority_is_left_alone() {
    let mut state = cluster(3, 1, &["", "", "", "", ""]);
    set_replicas(&mut state, 0, &[1, 4, 5]);
    set_replicas(&mut state, 1, &[1, 2, 3]);
    let changes = run(&mut state, &view(&[2, 3], &[]), 20);
    assert_eq!(shard(&changes, 1), Vec::<Vec<u64>>::new());
    // And a live copy is not let go where it would leave none in charge.
    let mut state = cluster(3, 1, &["", "", ""]);
    run(&mut state, &View::default(), 20);
    drain(&mut state, 3, true);
    let changes = run(&mut state, &view(&[2], &[]), 20);
    assert_eq!(changes, []);
}

#[test]
fn a_newcomer_that_dies_on_the_way_is_replaced() {
    let mut state = cluster(3, 1, &["", "", "", ""]);
    set_replicas(&mut state, 0, &[1, 2, 4]);
    set_replicas(&mut state, 1, &[1, 2]);
    settle(&mut state, GroupId::META);
    settle(&mut state, GroupId(1));
    set_replicas(&mut state, 1, &[1, 2, 3]);
    let command = plan(&state, &view(&[3], &[]), NOW).unwrap();
    let expected = vec![NodeId(1), NodeId(2), NodeId(4)];
    assert_eq!(command, MetaCommand::SetReplicas { shard: GroupId(1), epoch: 3, replicas: expected });
}

#[test]
fn the_first_newcomer_of_a_single_copy_is_replaced_if_it_dies() {
    let mut state = cluster(3, 1, &["", "", ""]);
    set_replicas(&mut state, 0, &[1, 3]);
    settle(&mut state, GroupId::META);
    set_replicas(&mut state, 1, &[1, 2]);
    let command = plan(&state, &view(&[2], &[]), NOW).unwrap();
    let expected = vec![NodeId(1), NodeId(3)];
    assert_eq!(command, MetaCommand::SetReplicas { shard: GroupId(1), epoch: 2, replicas: expected });
}

#[test]
fn a_new_copy_goes_to_another_zone_at_once() {
    let mut state = cluster(2, 1, &["a", "a", "a", "b"]);
    let changes = run(&mut state, &View::default(), 10);
    assert_eq!(shard(&changes, 1), [vec![1, 4]]);
    assert_eq!(shard(&changes, 0), [vec![1, 4], vec![1, 2, 4]]);
}

#[test]
fn copies_are_spread_over_zones_before_load_is_spread() {
    let mut state = cluster(3, 6, &["a", "a", "a", "b", "c"]);
    run(&mut state, &View::default(), 100);
    for group in 1..=6 {
        let zones: BTreeSet<&str> =
            replicas(&state, group).iter().map(|n| state.nodes[&NodeId(*n)].record.zone.as_str()).collect();
        assert_eq!(zones.len(), 3, "shard {group} is on {:?}", replicas(&state, group));
    }
    let on = |node: u64| state.shards.values().filter(|r| r.replicas.contains(&NodeId(node))).count();
    assert_eq!([on(1), on(2), on(3), on(4), on(5)], [2, 2, 2, 6, 6]);
}

#[test]
fn a_node_in_a_new_zone_takes_copies_from_the_crowded_one() {
    let mut state = cluster(3, 2, &["a", "a", "b"]);
    run(&mut state, &View::default(), 100);
    state.apply(common::states::join(4, "c")).unwrap();
    run(&mut state, &View::default(), 100);
    for group in 0..=2 {
        let held = replicas(&state, group);
        assert!(held.contains(&3) && held.contains(&4), "group {group} is on {held:?}");
    }
}

#[test]
fn shards_move_to_a_node_that_joins_until_all_hold_as_many() {
    let mut state = cluster(3, 64, &["", "", ""]);
    run(&mut state, &View::default(), 1000);
    state.apply(common::states::join(4, "")).unwrap();
    let changes = run(&mut state, &View::default(), 1000);
    let on = |node: u64| state.shards.values().filter(|r| r.replicas.contains(&NodeId(node))).count();
    assert_eq!([on(1), on(2), on(3), on(4)], [48, 48, 48, 48]);
    assert_eq!(changes.len(), 48, "each move brings the new node one shard");
}

#[test]
fn few_shards_move_at_once() {
    let mut state = cluster(3, 64, &["", "", ""]);
    set_replicas(&mut state, 0, &[1, 2, 3]);
    settle(&mut state, GroupId::META);
    let mut moves = 0;
    while let Some(command) = plan(&state, &View::default(), NOW) {
        state.apply(command).unwrap();
        moves += 1;
    }
    assert_eq!(moves, 4);
}

/// INV-PLACE-6 and INV-PLACE-7.
#[test]
fn any_state_reaches_a_fixed_point_that_obeys_the_rules() {
    let mut planned = 0;
    for seed in common::seeds(3000) {
        let (mut state, view) = random(&mut Rng::new(seed));
        let groups = state.shards.len() + 1;
        planned += run(&mut state, &view, 40 * groups).len();
        for (group, record) in state.groups() {
            let held = &record.replicas;
            if let Err(why) = obeys_the_rules(&state, &view, group, held) {
                panic!("seed {seed}: {group:?} on {held:?} {why}: {:?} {view:?}", state.nodes);
            }
        }
    }
    assert!(planned > 5000, "only {planned} plans");
}

/// The rules again, in terms of what people expect.
fn obeys_the_rules(state: &MetaState, view: &View, group: GroupId, held: &[NodeId]) -> Result<(), String> {
    let drains = |node: &NodeId| state.nodes[node].draining;
    let is_down = |node: &NodeId| view.down.contains_key(node);
    let is_dead = |node: &NodeId| view.down.get(node) == Some(&Millis(0));
    let majority_up = |nodes: &[NodeId]| 2 * nodes.iter().filter(|n| !is_down(n)).count() > nodes.len();
    let spares: Vec<NodeId> =
        state.nodes.keys().copied().filter(|n| !held.contains(n) && !drains(n) && !is_down(n)).collect();
    let usable = state.nodes.keys().filter(|node| !drains(node) && (!is_dead(node) || held.contains(node)));
    let usable = usable.count();
    let asked = match group {
        GroupId::META if usable >= 5 => 5,
        GroupId::META => 3,
        _ => state.replicas as usize,
    };
    let is_settled = state.group(group).is_some_and(|record| record.settled);
    if is_settled && !majority_up(held) {
        return Ok(());
    }
    if is_settled && held.len() < asked.min(usable) && !spares.is_empty() {
        return Err(format!("has fewer than {asked} copies though {spares:?} are spare"));
    }
    if held.len() > asked
        && majority_up(&held[1..])
        && held.iter().all(|node| !is_down(node) && !drains(node))
    {
        return Err(format!("has more than {asked} copies"));
    }
    if let Some(unfit) = held.iter().find(|node| drains(node) || is_dead(node))
        && !spares.is_empty()
    {
        return Err(format!("is on {unfit} though {spares:?} are spare"));
    }
    if let Some(leaving) = held.iter().find(|node| drains(node)) {
        let rest: Vec<NodeId> = held.iter().copied().filter(|node| node != leaving).collect();
        // A node that is down for a moment may still take the copy.
        let is_awaited =
            state.nodes.keys().any(|n| !held.contains(n) && !drains(n) && is_down(n) && !is_dead(n));
        if rest.iter().any(|node| !drains(node)) && majority_up(&rest) && !is_awaited {
            return Err(format!("is on {leaving}, which drains, without need"));
        }
    }
    let all_settled = state.groups().all(|(_, record)| record.settled);
    if all_settled && held.iter().all(|node| !is_down(node) && !drains(node)) {
        return is_even(state, group, held, &spares);
    }
    Ok(())
}

/// No single move to a spare node makes zones, or else load, more even.
fn is_even(state: &MetaState, group: GroupId, held: &[NodeId], spares: &[NodeId]) -> Result<(), String> {
    let zone = |node: &NodeId| state.nodes[node].record.zone.as_str();
    let crowding = |nodes: &[NodeId]| {
        let mut zones = BTreeMap::new();
        for node in nodes {
            *zones.entry(zone(node)).or_insert(0u64) += 1;
        }
        zones.values().map(|count| count * count).sum::<u64>()
    };
    let load = |node: &NodeId| state.shards.values().filter(|record| record.replicas.contains(node)).count();
    for (from, to) in held.iter().flat_map(|from| spares.iter().map(move |to| (from, to))) {
        let moved: Vec<NodeId> = held.iter().map(|node| if node == from { *to } else { *node }).collect();
        if crowding(&moved) < crowding(held) {
            return Err(format!("would be better spread over zones with {to} for {from}"));
        }
        if group != GroupId::META && crowding(&moved) == crowding(held) && load(from) > load(to) + 1 {
            return Err(format!("is on {from} with {} shards, {to} has {}", load(from), load(to)));
        }
    }
    Ok(())
}
