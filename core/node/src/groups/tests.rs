//! Groups that nobody uses rest, and what shall happen in time in them does.

use crate::testing::{Cluster, pipeline};

/// Three nodes on which nothing happens, the one that leads the shard, and another.
fn at_rest() -> (Cluster, usize, usize) {
    let mut c = Cluster::of(3, &[]);
    c.run_until("all rest", all_rest);
    let leader = c.leader().expect("one leads");
    (c, leader, leader % 3 + 1)
}

fn all_rest(c: &Cluster) -> bool {
    let rests = |group: &skep_consensus::Group| group.is_resting();
    c.alive().all(|world| {
        let node = &world.node;
        node.meta.group.iter().all(rests)
            && node.replicas().count() > 0
            && node.replicas().all(|r| rests(&r.group))
    })
}

#[test]
fn a_read_and_a_write_at_any_node_wake_a_shard_and_it_rests_again() {
    let (mut c, leader, other) = at_rest();
    for node in [leader, other] {
        for (command, reply) in [("SET k v", "+OK"), ("GET k", "$1 v")] {
            let conn = c.node(node).connect();
            assert_eq!(c.ask(node, conn, command), reply);
            assert!(!all_rest(&c), "{command}");
            c.run_until("all rest again", all_rest);
        }
    }
}

#[test]
fn clients_that_wait_are_answered_at_their_time_though_nobody_else_uses_the_shard() {
    let (mut c, leader, other) = at_rest();
    for node in [leader, other] {
        for (command, nothing) in [("BLPOP k 6", "*-1"), ("XREAD BLOCK 6000 STREAMS s $", "*-1")] {
            let conn = c.node(node).connect();
            c.node(node).receive(conn, pipeline(command));
            c.run(5_900);
            assert_eq!(c.node(node).replies(conn), "", "{command} at {node}");
            c.run(300);
            assert_eq!(c.node(node).replies(conn), nothing, "{command} at {node}");
            c.run_until("all rest again", all_rest);
        }
    }
}

#[test]
fn keys_go_at_their_time_in_a_shard_that_rests() {
    let (mut c, leader, _) = at_rest();
    let conn = c.node(leader).connect();
    assert_eq!(
        c.ask(leader, conn, "SET k v PX 8000\nHSET h f v\nHPEXPIRE h 8000 FIELDS 1 f"),
        "+OK :1 *1 :1"
    );
    c.run_until("all rest again", all_rest);
    c.run(3_000);
    let keys =
        |c: &Cluster| c.alive().map(|w| w.node.replicas().map(|r| r.keyspace.total_len()).sum()).collect();
    let before: Vec<usize> = keys(&c);
    assert_eq!(before, [2; 3]);
    c.run_until("all rest again", all_rest);
    c.run(4_000);
    let after: Vec<usize> = keys(&c);
    assert_eq!(after, [0; 3]);
}

#[test]
fn a_leader_that_dies_at_rest_is_replaced_as_soon_as_any() {
    let (mut c, leader, other) = at_rest();
    let conn = c.node(other).connect();
    c.kill(leader);
    let died = c.node(other).now.mono;
    c.node(other).receive(conn, pipeline("SET k v"));
    c.run_until("another leads", |c| c.leader().is_some());
    assert_eq!(c.ask(other, conn, ""), "+OK");
    let ms = c.node(other).now.mono.since(died);
    assert!(ms < 450, "{ms} ms");
}

#[test]
fn a_leader_at_rest_that_is_cut_off_reads_nothing_and_its_successor_leads() {
    let (mut c, leader, other) = at_rest();
    for node in (1..=3).filter(|node| *node != leader) {
        c.cut.insert((leader.min(node), leader.max(node)));
    }
    let conn = c.node(leader).connect();
    c.run(1_000);
    let writer = c.node(other).connect();
    assert_eq!(c.ask(other, writer, "SET k new"), "+OK");
    c.node(leader).receive(conn, pipeline("GET k"));
    c.run(1_000);
    assert_eq!(c.node(leader).replies(conn), "", "it waits, for nobody can say");
    c.cut.clear();
    c.run_until("the cut-off node answers", |c| {
        c.nodes[leader].as_ref().is_some_and(|w| w.node.clients.get(conn).is_some_and(|of| of.pending() == 0))
    });
    assert_eq!(c.node(leader).replies(conn), "$3 new");
}
