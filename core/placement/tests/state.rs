//! The meta state: what its commands do and refuse, and its bytes.

#![allow(clippy::unwrap_used)]

mod common;

use common::states::{cluster, drain, found, join, random, record, set_replicas, settle};
use skep_base::{GroupId, NodeId, NodeUuid, Rng};
use skep_placement::{MetaCommand, MetaState, NODES_MAX, NodeRecord, SHARDS_MAX};

fn commands() -> Vec<MetaCommand> {
    let shard = GroupId(300);
    vec![
        found(3, 2, "a"),
        join(2, ""),
        MetaCommand::Announce { node: NodeId(1), record: record("renamed", "b") },
        MetaCommand::SetReplicas { shard, epoch: u64::MAX, replicas: vec![NodeId(1), NodeId(900)] },
        MetaCommand::Settled { shard: GroupId::META, epoch: 1 },
        MetaCommand::Drain { node: NodeId(2), on: true },
        MetaCommand::Drain { node: NodeId(2), on: false },
        MetaCommand::Remove { node: NodeId(u64::MAX) },
    ]
}

/// Applies a command that must be refused, and gives the reason.
fn refusal(state: &mut MetaState, command: MetaCommand) -> String {
    let before = state.clone();
    let why = state.apply(command).unwrap_err();
    assert_eq!(*state, before, "a refusal changed something: {why}");
    why
}

#[test]
fn commands_round_trip_and_refuse_every_prefix() {
    for command in commands() {
        let bytes = command.encode();
        assert_eq!(MetaCommand::decode(&bytes), Ok(command));
        for cut in 0..bytes.len() {
            assert!(MetaCommand::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(MetaCommand::decode(&longer).is_err());
        for offset in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[offset] ^= 0xff;
            // Another command or none, but never a panic, also when it is carried out.
            if let Ok(command) = MetaCommand::decode(&bad) {
                let mut state = cluster(3, 2, &["", ""]);
                let _ = state.apply(command);
                state.assert_invariants();
            }
        }
    }
    for kind in [0, 1, 9, 255] {
        assert!(MetaCommand::decode(&[kind; 40]).is_err());
    }
}

#[test]
fn states_round_trip_and_refuse_every_prefix() {
    for seed in 0..60 {
        let (mut state, _) = random(&mut Rng::new(seed));
        let held = |node: NodeId| state.groups().any(|(_, record)| record.may_be_on(node));
        if let Some(idle) = state.nodes.keys().copied().find(|node| !held(*node)) {
            drain(&mut state, idle.0, true);
            state.apply(MetaCommand::Remove { node: idle }).unwrap();
            assert!(state.was_removed(idle));
        }
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        let back = MetaState::decode(&bytes).unwrap();
        assert_eq!(back, state);
        back.assert_invariants();
        for cut in 0..bytes.len() {
            assert!(MetaState::decode(&bytes[..cut]).is_err(), "seed {seed} cut at {cut}");
        }
        for offset in 0..bytes.len() {
            for mask in [1, 0x80, 0xff] {
                let mut bad = bytes.clone();
                bad[offset] ^= mask;
                if let Ok(state) = MetaState::decode(&bad) {
                    state.assert_invariants();
                }
            }
        }
    }
    let mut empty = Vec::new();
    MetaState::default().encode(&mut empty);
    assert_eq!(MetaState::decode(&empty), Ok(MetaState::default()));
}

#[test]
fn a_state_that_breaks_a_rule_is_refused() {
    let good = cluster(3, 2, &["", ""]);
    let broken = |change: fn(&mut MetaState)| {
        let mut state = good.clone();
        change(&mut state);
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        MetaState::decode(&bytes).unwrap_err().expected
    };
    type Change = fn(&mut MetaState);
    let slots: [Change; 4] = [
        |state| state.shards.retain(|shard, _| *shard == GroupId(1)),
        |state| state.shards.get_mut(&GroupId(1)).unwrap().slots = vec![(0, 8192)],
        |state| state.shards.get_mut(&GroupId(1)).unwrap().slots = vec![(0, 8190)],
        |state| state.cluster_id.clear(),
    ];
    for change in slots {
        assert!(broken(change).starts_with("INV-PLACE-1"));
    }
    let nodes: [Change; 4] = [
        |state| state.nodes.get_mut(&NodeId(2)).unwrap().uuid = NodeUuid(1001),
        |state| state.nodes.get_mut(&NodeId(2)).unwrap().record.name = "n1".into(),
        |state| state.removed.extend([(NodeId(2), NodeUuid(5))]),
        |state| state.removed.extend([(NodeId(3), NodeUuid(5))]),
    ];
    for change in nodes {
        assert!(broken(change).starts_with("INV-PLACE-2"));
    }
    let groups: [Change; 6] = [
        |state| state.shards.get_mut(&GroupId(1)).unwrap().replicas.clear(),
        |state| state.shards.get_mut(&GroupId(1)).unwrap().holders.clear(),
        |state| state.shards.get_mut(&GroupId(1)).unwrap().holders = vec![NodeId(1), NodeId(9)],
        |state| state.shards.get_mut(&GroupId(1)).unwrap().holders = vec![NodeId(1), NodeId(2)],
        |state| state.shards.get_mut(&GroupId(1)).unwrap().epoch = 0,
        |state| state.meta_group = None,
    ];
    for change in groups {
        assert!(broken(change).starts_with("INV-PLACE-3"));
    }
}

#[test]
fn a_cluster_is_founded_once() {
    let mut state = MetaState::default();
    state.assert_invariants();
    assert!(!state.is_founded() && state.shard_of(0).is_none());
    for command in commands().into_iter().skip(1) {
        assert_eq!(refusal(&mut state, command), "there is no cluster yet");
    }
    state.apply(found(3, 1, "")).unwrap();
    state.assert_invariants();
    assert_eq!(state.shards[&GroupId(1)].slots, [(0, 16_383)]);
    let again = refusal(&mut state, found(1, 1, ""));
    assert_eq!(again, format!("this is cluster {} already", "ab".repeat(20)));
}

#[test]
fn a_founding_out_of_bounds_is_refused() {
    let mut state = MetaState::default();
    for (command, why) in [
        (found(0, 1, ""), "0 replicas, between 1 and 7 are possible".to_owned()),
        (found(8, 1, ""), "8 replicas, between 1 and 7 are possible".to_owned()),
        (found(3, 0, ""), "0 shards, between 1 and 4096 are possible".to_owned()),
        (found(3, 4097, ""), "4097 shards, between 1 and 4096 are possible".to_owned()),
        (found(3, 1, &"z".repeat(300)), "the zone is 300 bytes, limit is 260".to_owned()),
        (found(3, 1, "a\nb"), "the zone \"a\\nb\" holds a control character".to_owned()),
    ] {
        assert_eq!(refusal(&mut state, command), why);
    }
    let MetaCommand::Found { cluster_id, replicas, shards, node, uuid, record } = found(3, 1, "") else {
        panic!("found() makes a founding");
    };
    let nameless = NodeRecord { name: String::new(), ..record.clone() };
    let with = |cluster_id: &str, node, uuid, record: &NodeRecord| MetaCommand::Found {
        cluster_id: cluster_id.to_owned(),
        replicas,
        shards,
        node,
        uuid,
        record: record.clone(),
    };
    for command in [
        with("", node, uuid, &record),
        with(&"c".repeat(129), node, uuid, &record),
        with(&cluster_id, NodeId(0), uuid, &record),
        with(&cluster_id, NodeId(u64::MAX), uuid, &record),
        with(&cluster_id, node, NodeUuid(0), &record),
        with(&cluster_id, node, uuid, &nameless),
    ] {
        refusal(&mut state, command);
    }
}

#[test]
fn shards_share_the_slots_evenly() {
    for shards in [1, 2, 3, 7, 64, 1000, SHARDS_MAX] {
        let state = cluster(3, shards, &[""]);
        let lens: Vec<u32> = state
            .shards
            .values()
            .map(|record| record.slots.iter().map(|(first, last)| u32::from(last - first) + 1).sum())
            .collect();
        let (least, most) = (lens.iter().min().unwrap(), lens.iter().max().unwrap());
        assert!(
            lens.len() == shards as usize && most - least <= 1,
            "{shards} shards: {least} to {most} slots"
        );
        assert_eq!(state.shard_of(0), Some(GroupId(1)));
        assert_eq!(state.shard_of(16_383), Some(GroupId(u64::from(shards))));
    }
}

#[test]
fn joining_is_idempotent_by_uuid_and_gives_new_ids() {
    let mut state = cluster(3, 1, &[""]);
    for _ in 0..3 {
        state.apply(join(2, "a")).unwrap();
        assert_eq!(state.node_of(NodeUuid(1002)), Some(NodeId(2)));
    }
    state.apply(join(2, "moved")).unwrap();
    assert_eq!(state.nodes[&NodeId(2)].record.zone, "moved");
    assert_eq!(state.node_of(NodeUuid(77)), None);

    let namesake = MetaCommand::Join { uuid: NodeUuid(5), record: record("n2", "") };
    let why = refusal(&mut state, namesake.clone());
    assert_eq!(
        why,
        "the name n2 is that of node 2; give this node another --name, or, if node 2 is gone for ever, run \
         'skep node drain 2' and 'skep node remove 2'"
    );
    refusal(&mut state, MetaCommand::Announce { node: NodeId(1), record: record("n2", "") });
    drain(&mut state, 2, true);
    state.apply(MetaCommand::Remove { node: NodeId(2) }).unwrap();
    state.apply(namesake).unwrap();
    assert_eq!(state.node_of(NodeUuid(5)), Some(NodeId(3)), "the id of a removed node was given again");
    let why = refusal(&mut state, join(2, ""));
    assert_eq!(why, "this node was removed as node 2; start it with an empty data directory");
    refusal(&mut state, MetaCommand::Join { uuid: NodeUuid(0), record: record("n0", "") });
    state.assert_invariants();
}

#[test]
fn a_cluster_has_a_limit_of_nodes() {
    let mut state = cluster(3, 1, &[""; NODES_MAX]);
    let why = refusal(&mut state, join(1000, ""));
    assert_eq!(why, "the cluster has 256 nodes, which is its limit");
}

#[test]
fn replicas_change_by_compare_and_set() {
    let mut state = cluster(3, 2, &["", "", ""]);
    let change = |shard: u64, epoch, replicas: &[u64]| MetaCommand::SetReplicas {
        shard: GroupId(shard),
        epoch,
        replicas: replicas.iter().map(|node| NodeId(*node)).collect(),
    };
    for (command, why) in [
        (change(3, 1, &[1]), "there is no shard 3"),
        (change(1, 2, &[1, 2]), "shard 1 is at epoch 1, the change was made for 2"),
        (change(1, 1, &[]), "0 replicas for shard 1, between 1 and 7 are possible"),
        (change(1, 1, &[1, 2, 3, 4, 5, 6, 7, 8]), "8 replicas for shard 1, between 1 and 7 are possible"),
        (change(1, 1, &[2, 1, 2]), "node 2 is named twice for shard 1"),
        (change(1, 1, &[1, 9]), "node 9 is not a member"),
    ] {
        assert_eq!(refusal(&mut state, command), why);
    }
    state.apply(change(1, 1, &[3, 1])).unwrap();
    let record = &state.shards[&GroupId(1)];
    assert_eq!((record.epoch, record.settled), (2, false));
    assert_eq!(record.replicas, [NodeId(1), NodeId(3)]);
    state.apply(change(1, 2, &[2])).unwrap();
    assert_eq!(state.shards[&GroupId(1)].holders, [NodeId(1), NodeId(2), NodeId(3)]);
    // News of an older epoch say nothing of this one.
    state.apply(MetaCommand::Settled { shard: GroupId(1), epoch: 2 }).unwrap();
    assert!(!state.shards[&GroupId(1)].settled);
    state.apply(MetaCommand::Settled { shard: GroupId(1), epoch: 3 }).unwrap();
    assert!(state.shards[&GroupId(1)].settled);
    assert_eq!(state.shards[&GroupId(1)].holders, [NodeId(2)]);
    state.apply(change(1, 3, &[2])).unwrap();
    assert_eq!(state.shards[&GroupId(1)].epoch, 3, "nothing changed");
    state.assert_invariants();
}

#[test]
fn a_node_is_removed_only_when_it_certainly_holds_nothing() {
    let mut state = cluster(3, 2, &["", ""]);
    let remove = |node: u64| MetaCommand::Remove { node: NodeId(node) };
    assert_eq!(refusal(&mut state, remove(9)), "node 9 is not a member");
    let why = refusal(&mut state, remove(2));
    assert_eq!(why, "node 2 is not drained; run 'skep node drain 2' first");
    set_replicas(&mut state, 2, &[1, 2]);
    settle(&mut state, GroupId(2));
    set_replicas(&mut state, 0, &[1, 2]);
    drain(&mut state, 2, true);
    let why = refusal(&mut state, remove(2));
    assert_eq!(
        why,
        "node 2 is not drained yet, it may still hold copies of: the meta group, shard 2; try again later"
    );
    set_replicas(&mut state, 2, &[1]);
    set_replicas(&mut state, 0, &[1]);
    settle(&mut state, GroupId::META);
    let why = refusal(&mut state, remove(2));
    assert!(why.contains("copies of: shard 2;"), "{why}");
    settle(&mut state, GroupId(2));
    for _ in 0..2 {
        state.apply(remove(2)).unwrap();
        assert!(
            state.was_removed(NodeId(2)) && !state.was_removed(NodeId(1)) && !state.was_removed(NodeId(3))
        );
    }
    state.assert_invariants();
}

#[test]
fn the_last_node_that_may_hold_something_is_not_drained() {
    let mut state = cluster(3, 1, &["", ""]);
    drain(&mut state, 1, true);
    drain(&mut state, 1, true);
    let why = refusal(&mut state, MetaCommand::Drain { node: NodeId(2), on: true });
    assert_eq!(why, "node 2 is the only one that is not draining; let another node join first");
    refusal(&mut state, MetaCommand::Drain { node: NodeId(9), on: true });
    drain(&mut state, 1, false);
    drain(&mut state, 2, true);
}

#[test]
fn all_members_follow_the_meta_group_and_some_vote() {
    let mut state = cluster(3, 1, &["", "", ""]);
    set_replicas(&mut state, 0, &[1, 3]);
    let wanted = state.wanted(GroupId::META);
    assert_eq!((wanted.voters, wanted.learners), (vec![NodeId(1), NodeId(3)], vec![NodeId(2)]));
    let wanted = state.wanted(GroupId(1));
    assert_eq!((wanted.voters, wanted.learners), (vec![NodeId(1)], vec![]));
    assert!(state.wanted(GroupId(9)).voters.is_empty());
}
