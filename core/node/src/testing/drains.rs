//! Drains that are taken back, and begun again, before what they ask for is done.

use std::collections::BTreeSet;

use skep_base::NodeId;

use super::Cluster;
use crate::status::{ShardStatus, Status};

/// Each shard has its three copies, all of them voters, and a leader.
fn is_whole(status: &Status) -> bool {
    status.shards.iter().all(|shard| {
        shard.leader.is_some() && shard.replicas.len() == 3 && shard.replicas.iter().all(|r| r.voter)
    })
}

/// The nodes with a copy of any shard.
fn holders(status: &Status) -> BTreeSet<NodeId> {
    status.shards.iter().flat_map(|shard| shard.replicas.iter().map(|r| r.node)).collect()
}

fn status_of(c: &Cluster, number: usize) -> Status {
    c.nodes[number].as_ref().unwrap().node.status()
}

/// Lets time pass until all copies are back and none moves any more: those that a drain has piled up are spread again.
fn rest(c: &mut Cluster) {
    let whole = |c: &Cluster| (1..c.nodes.len()).all(|n| is_whole(&status_of(c, n)));
    let places = |c: &Cluster| -> Vec<BTreeSet<NodeId>> {
        let replicas = |shard: &ShardStatus| shard.replicas.iter().map(|r| r.node).collect();
        status_of(c, 1).shards.iter().map(replicas).collect()
    };
    for _ in 0..20 {
        c.run_until("all copies are back", whole);
        let before = places(c);
        c.run(1_000);
        if whole(c) && places(c) == before {
            return;
        }
    }
    panic!("copies move on and on: {:#?}", status_of(c, 1));
}

/// Whatever is under way when a drain is taken back - a copy being fetched, a learner, a joint membership, leadership on its
/// way to another node - the shards end with three copies that hold all that was written meanwhile.
fn drain_and_undrain(nodes: u16, gap_ms: u64) {
    let mut c = Cluster::of(nodes, &[("shards", "3")]);
    c.run_until("all copies are there", |c| is_whole(&status_of(c, 1)));
    let conn = c.node(1).connect();
    let mut written = 0;
    for turn in 0..8 {
        let node = 1 + turn % u64::from(nodes);
        for word in ["DRAIN", "UNDRAIN"] {
            assert_eq!(c.ask(1, conn, &format!("SKEP NODE {word} n{node}")), "+OK", "turn {turn}");
            assert_eq!(c.ask(1, conn, &format!("SET k{written} {written}")), "+OK", "turn {turn}");
            written += 1;
            // Sooner and later than the steps of a change of copies.
            c.run(gap_ms * (turn % 4));
        }
    }
    rest(&mut c);
    for number in 1..=usize::from(nodes) {
        let conn = c.node(number).connect();
        let gets: String = (0..written).map(|key| format!("GET k{key}\n")).collect();
        let values: Vec<String> =
            (0..written).map(|key| format!("${} {key}", key.to_string().len())).collect();
        assert_eq!(c.ask(number, conn, &gets), values.join(" "), "on n{number}");
    }
    // The last word counts, whatever was said just before. Nodes have their numbers in the order in which they joined.
    let drained = status_of(&c, 1).nodes.iter().find(|n| n.record.name == format!("n{nodes}")).unwrap().id;
    let last = format!("SKEP NODE DRAIN n{nodes}\nSKEP NODE UNDRAIN n{nodes}\nSKEP NODE DRAIN n{nodes}");
    assert_eq!(c.ask(1, conn, &last), "+OK +OK +OK");
    c.run_until("the drained node holds nothing", |c| {
        let status = status_of(c, 1);
        let led = status.shards.iter().all(|shard| shard.leader.is_some());
        led && !holders(&status).contains(&drained)
    });
    assert_eq!(c.ask(1, conn, "SET k0 last\nGET k0"), "+OK $4 last");
}

#[test]
fn drains_taken_back_at_once_or_half_way_leave_three_whole_copies() {
    for gap_ms in [0, 20, 150] {
        drain_and_undrain(3, gap_ms);
    }
}

#[test]
fn drains_taken_back_while_copies_move_to_a_fourth_node_leave_three_whole_copies() {
    for gap_ms in [0, 20, 150] {
        drain_and_undrain(4, gap_ms);
    }
}
