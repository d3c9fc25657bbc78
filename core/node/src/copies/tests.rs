//! Clients that wait for copies of what they wrote.

use skep_base::ConnId;

use crate::testing::{Cluster, World, pipeline};

fn three(settings: &[(&str, &str)]) -> (Cluster, usize, [usize; 2]) {
    let mut c = Cluster::of(3, settings);
    c.run(3_000);
    let leader = c.leader().expect("one leads");
    let others: Vec<usize> = (1..=3).filter(|n| *n != leader).collect();
    (c, leader, [others[0], others[1]])
}

/// A client of a node with commands of which the last one waits.
fn wait(c: &mut Cluster, node: usize, commands: &str, before: &str) -> ConnId {
    let conn = c.node(node).connect();
    c.node(node).receive(conn, pipeline(commands));
    c.run(50);
    assert_eq!(c.node(node).replies(conn), before, "{commands}, at node {node}");
    assert!(c.node(node).node.clients.get(conn).unwrap().blocked, "{commands} waits");
    conn
}

/// Takes a node off the network.
fn cut(c: &mut Cluster, node: usize) {
    (1..=3).filter(|other| *other != node).for_each(|other| {
        c.cut.insert((node.min(other), node.max(other)));
    });
}

#[test]
fn a_node_alone_has_no_other_copies_and_waits_for_them_in_vain() {
    let mut w = World::new(&[]);
    let c = w.connect();
    assert_eq!(
        w.ask(c, "WAIT 0 0\nSET k v\nWAIT 0 0\nWAIT -1 0\nWAITAOF 1 0 0\nWAITAOF 0 0 0"),
        ":0 +OK :0 :0 *2 :1 :0 *2 :1 :0"
    );
    assert_eq!(w.ask(c, "WAIT 1 100"), "");
    w.advance(99);
    assert_eq!(w.ask(c, ""), "");
    w.advance(1);
    w.settle();
    assert_eq!(w.replies(c), ":0");
    assert_eq!(w.ask(c, "WAITAOF 1 1 100"), "");
    w.advance(100);
    w.settle();
    assert_eq!(w.replies(c), "*2 :1 :0");
}

#[test]
fn what_is_wrong_with_the_arguments_is_said_at_once() {
    let mut w = World::new(&[]);
    let c = w.connect();
    assert_eq!(w.ask(c, "WAIT a 0"), "-ERR value is not an integer or out of range");
    assert_eq!(w.ask(c, "WAIT 1 -1"), "-ERR timeout is negative");
    assert_eq!(w.ask(c, "WAIT 1"), "-ERR wrong number of arguments for 'wait' command");
    assert_eq!(w.ask(c, "WAITAOF 2 0 0"), "-ERR value is out of range, value must between 0 and 1");
    let script = "EVAL return{redis.call('wait',1,0)} 0";
    assert!(w.ask(c, script).starts_with("-ERR This Redis command is not allowed from script"));
}

#[test]
fn a_transaction_waits_for_nothing() {
    let (mut c, leader, [one, _]) = three(&[]);
    let conn = c.node(leader).connect();
    let commands = "MULTI\nSET k v\nWAIT 5 0\nWAITAOF 1 5 0\nWAIT x 0\nEXEC";
    let replies = c.ask(leader, conn, commands);
    let expected =
        "+OK +QUEUED +QUEUED +QUEUED +QUEUED *4 +OK :1 *2 :1 :1 -ERR value is not an integer or out of range";
    let all = expected.replace(":1 *2 :1 :1", ":2 *2 :1 :2");
    assert!(replies == expected || replies == all, "{replies}");
    let conn = c.node(one).connect();
    assert_eq!(
        c.ask(one, conn, "MULTI\nWAIT 5 0\nEXEC"),
        "+OK +QUEUED *1 :0",
        "nothing is certain without asking"
    );
}

#[test]
fn with_memory_durability_the_disk_is_waited_for_only_if_asked_for() {
    let mut w = World::new(&[("durability", "memory")]);
    let (c, d) = (w.connect(), w.connect());
    assert_eq!(w.ask(c, "SET k v\nWAIT 0 0\nWAITAOF 0 0 0"), "+OK :0 *2 :0 :0");
    w.holds_disk = true;
    assert_eq!(w.ask(d, "SET k w\nWAITAOF 1 0 0"), "+OK");
    w.advance(1_000);
    w.settle();
    assert_eq!(w.replies(d), "", "the disk has it and has not confirmed it");
    w.persist();
    w.settle();
    assert_eq!(w.replies(d), "*2 :1 :0");
}

#[test]
fn a_client_of_any_node_is_told_how_many_followers_have_what_it_wrote() {
    let (mut c, leader, [one, two]) = three(&[]);
    for node in [leader, one, two] {
        let conn = c.node(node).connect();
        assert_eq!(c.ask(node, conn, "SET k v\nWAIT 2 0"), "+OK :2", "node {node}");
        assert_eq!(c.ask(node, conn, "WAIT 2 0\nWAITAOF 1 2 0"), ":2 *2 :1 :2", "node {node}");
    }
    cut(&mut c, two);
    for node in [leader, one] {
        let conn = wait(&mut c, node, "SET k w\nWAIT 1 0\nWAIT 2 600", "+OK :1");
        c.run(500);
        assert_eq!(c.node(node).replies(conn), "");
        c.run(100);
        assert_eq!(c.node(node).replies(conn), ":1", "node {node}");
        let conn = wait(&mut c, node, "SET k x\nWAITAOF 1 2 0", "+OK");
        c.run(2_000);
        assert_eq!(c.node(node).replies(conn), "", "0 is for ever");
        c.cut.clear();
        c.run(3_000);
        assert_eq!(c.node(node).replies(conn), "*2 :1 :2");
        cut(&mut c, two);
    }
}

#[test]
fn who_waits_for_copies_notices_nothing_of_a_leader_that_dies() {
    let (mut c, leader, [one, two]) = three(&[]);
    cut(&mut c, two);
    let conn = wait(&mut c, one, "SET k v\nWAIT 2 0", "+OK");
    let other = wait(&mut c, one, "SET l v\nWAIT 2 6000", "+OK");
    c.cut.clear();
    cut(&mut c, leader);
    c.run(2_000);
    assert_eq!(c.node(one).replies(conn), "", "one of two followers is cut off");
    c.run(4_000);
    assert_eq!(c.node(one).replies(other), ":1", "it waits as long as it said in all");
    c.cut.clear();
    c.run(3_000);
    assert_eq!(c.node(one).replies(conn), ":2");
}

#[test]
fn who_waits_for_copies_is_unblocked_or_forgotten() {
    let (mut c, leader, [one, two]) = three(&[]);
    cut(&mut c, two);
    for node in [leader, one] {
        for (how, reply) in [("TIMEOUT", ":1"), ("ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK")] {
            let conn = wait(&mut c, node, "SET k v\nWAIT 2 0", "+OK");
            let other = c.node(node).connect();
            let number = c.node(node).node.clients.get(conn).unwrap().number;
            assert_eq!(c.ask(node, other, &format!("CLIENT UNBLOCK {number} {how}")), ":1");
            c.run(50);
            assert_eq!(c.node(node).replies(conn), reply, "node {node}");
        }
        let conn = wait(&mut c, node, "SET k v\nWAIT 2 0", "+OK");
        c.node(node).input(crate::Input::Ended { conn });
        c.run(50);
        assert!(
            c.node(leader).node.shards[0].waiting.is_empty() && c.node(node).node.shards[0].away.is_empty()
        );
    }
}

#[test]
fn with_several_shards_the_copies_are_those_of_the_shards_that_the_client_wrote_to() {
    let mut c = Cluster::of(5, &[("shards", "3")]);
    c.run(5_000);
    let (first, last) = {
        let shards = &c.node(1).node.meta.state.shards;
        (shards.first_key_value().unwrap().1.clone(), shards.last_key_value().unwrap().1.clone())
    };
    let lost = *last.replicas.iter().find(|node| !first.replicas.contains(node)).expect("they are spread");
    c.kill(lost.0 as usize);
    c.run(1_500);
    let number = (1..=5).find(|number| *number != lost.0 as usize).unwrap();
    let conn = c.node(number).connect();
    assert_eq!(c.ask(number, conn, "WAIT 2 500"), ":2", "who wrote nothing asks the first shard");
    let is_of_last = |key: &String| {
        let slot = skep_base::slot_of(key.as_bytes());
        last.slots.iter().any(|(from, to)| (*from..=*to).contains(&slot))
    };
    let key = (0..).map(|n| format!("k{n}")).find(is_of_last).unwrap();
    assert_eq!(c.ask(number, conn, &format!("SET {key} 1\nWAIT 2 500")), "+OK :1", "{key}");
}
