//! Waiting on several nodes: a client of any node, an element from any node, leaders that come and go.

use skep_base::ConnId;

use crate::Input;
use crate::testing::{Cluster, pipeline};

/// A client of a node with a command that waits, when its leader has it.
fn wait(c: &mut Cluster, node: usize, commands: &str) -> ConnId {
    let conn = c.node(node).connect();
    c.node(node).receive(conn, pipeline(commands));
    c.run(50);
    assert_eq!(c.node(node).replies(conn), "", "{commands} waits");
    assert!(c.node(node).node.clients.get(conn).unwrap().blocked, "{commands} waits");
    conn
}

fn three() -> (Cluster, usize, [usize; 2]) {
    let mut c = Cluster::of(3, &[]);
    c.run(3_000);
    let leader = c.leader().expect("one leads");
    let others: Vec<usize> = (1..=3).filter(|n| *n != leader).collect();
    (c, leader, [others[0], others[1]])
}

fn next_leader(c: &mut Cluster, before: usize) -> usize {
    c.run_until("another leads", |c| c.leader().is_some_and(|now| now != before));
    c.run(200);
    c.leader().expect("one leads")
}

#[test]
fn a_client_of_any_node_gets_what_any_node_is_given() {
    let (mut c, _, _) = three();
    for waits in 1..=3 {
        for gives in 1..=3 {
            let conn = wait(&mut c, waits, "BLPOP k 0");
            let other = c.node(gives).connect();
            assert_eq!(c.ask(gives, other, "RPUSH k a"), ":1");
            c.run(50);
            assert_eq!(c.node(waits).replies(conn), "*2 $1 k $1 a", "{waits} from {gives}");
            assert_eq!(c.ask(gives, other, "LLEN k"), ":0");
        }
    }
    for n in 1..=3 {
        let shard = &c.node(n).node.shards[0];
        assert!(shard.away.is_empty() && shard.waiting.is_empty() && shard.forwarded.is_empty(), "node {n}");
    }
}

#[test]
fn who_waited_in_vain_for_the_end_of_a_job_gets_it_as_it_is_at_any_node() {
    let (mut c, leader, [one, two]) = three();
    let other = c.node(two).connect();
    assert_eq!(c.ask(two, other, "QADD q x ID one"), "*2 $3 one :1");
    let waits = [leader, one, two].map(|node| (node, wait(&mut c, node, "QGET q one BLOCK 400")));
    let late = wait(&mut c, one, "QGET q one BLOCK 2000");
    c.run(500);
    let ready = "*26 $2 id $3 one $5 state $5 ready ";
    for (node, conn) in waits {
        let reply = c.node(node).replies(conn);
        assert!(reply.starts_with(ready), "node {node}: {reply}");
    }
    c.kill(leader);
    next_leader(&mut c, leader);
    c.run(2_000);
    assert!(c.node(one).replies(late).starts_with(ready), "the next leader tells it");
}

#[test]
fn what_waits_behind_other_commands_of_its_forward_waits_as_well() {
    let (mut c, leader, [one, two]) = three();
    for node in [leader, one] {
        let conn = c.node(node).connect();
        c.node(node).receive(conn, pipeline("RPUSH z 1\nGET none\nBLPOP k 0\nRPUSH z 2"));
        c.run(300);
        assert_eq!(c.node(node).replies(conn), ":1 $-1", "node {node}");
        let other = c.node(two).connect();
        assert_eq!(c.ask(two, other, "RPUSH k a"), ":1");
        c.run(100);
        assert_eq!(c.node(node).replies(conn), "*2 $1 k $1 a :2");
        assert_eq!(c.ask(two, other, "DEL z\nEXISTS k"), ":1 :0");
    }
}

#[test]
fn what_was_forwarded_behind_a_command_that_waits_gets_its_own_reply_when_the_leader_dies() {
    // Some steps in, the log has the writes, and the leader's answers are lost with it: the replies come from the log.
    for steps in 0..8 {
        let (mut c, leader, [one, _]) = three();
        c.step_ms = 1;
        let forward = [
            ("RPUSH z a", ":1"),
            ("BLPOP k 0", ""),
            ("SET s x", "+OK"),
            ("INCRBY n 7", ":7"),
            ("RPUSH z b c", ":3"),
        ];
        let asked = forward.map(|(command, reply)| {
            let conn = c.node(one).connect();
            c.node(one).receive(conn, pipeline(command));
            (conn, command, reply)
        });
        (0..steps).for_each(|_| c.step());
        c.step_ms = 5;
        c.kill(leader);
        let now = next_leader(&mut c, leader);
        c.run(500);
        for (conn, command, reply) in asked {
            assert_eq!(c.node(one).replies(conn), reply, "{command}, {steps} steps before the leader died");
        }
        let other = c.node(now).connect();
        assert_eq!(c.ask(now, other, "GET n\nLLEN z\nRPUSH k a"), "$1 7 :3 :1", "each was done once");
        c.run(100);
        assert_eq!(c.node(one).replies(asked[1].0), "*2 $1 k $1 a");
    }
}

#[test]
fn every_replica_serves_the_line_of_an_entry_alike() {
    let (mut c, leader, [one, two]) = three();
    for writes in [leader, one] {
        let conns = [one, leader, two, one].map(|n| (n, wait(&mut c, n, "BLPOP k 0")));
        let moves = wait(&mut c, two, "BLMOVE k t LEFT LEFT 0");
        let last = wait(&mut c, one, "BLPOP t 0");
        let writer = c.node(writes).connect();
        let brings =
            "RPUSH l 0 1 2\nEVAL return(1) 1 k\nRENAME l k\nLPOP k\nRPUSH k 3 4 5\nLPOP t\nLRANGE k 0 -1";
        assert_eq!(c.ask(writes, writer, brings), ":3 :1 +OK $-1 :3 $-1 *1 $1 5");
        c.run(50);
        for (element, (node, conn)) in conns.into_iter().enumerate() {
            assert_eq!(c.node(node).replies(conn), format!("*2 $1 k $1 {element}"));
        }
        assert_eq!(c.node(two).replies(moves), "$1 4");
        assert_eq!(c.node(one).replies(last), "*2 $1 t $1 4");
        assert_eq!(c.ask(writes, writer, "DEL k"), ":1");
        c.run(50);
        let digests = [1, 2, 3].map(|n| {
            let replica = c.node(n).node.shards[0].replica.as_ref().unwrap();
            (replica.keyspace.digest(), replica.applied)
        });
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    }
    for n in 1..=3 {
        let shard = &c.node(n).node.shards[0];
        assert!(shard.away.is_empty() && shard.waiting.is_empty() && shard.forwarded.is_empty(), "node {n}");
    }
}

#[test]
fn who_waits_longest_is_first_whichever_node_he_is_at() {
    let (mut c, leader, [one, two]) = three();
    let conns = [one, leader, two, one].map(|n| (n, wait(&mut c, n, "BLPOP k 0")));
    let other = c.node(two).connect();
    for (element, (node, conn)) in conns.into_iter().enumerate() {
        assert_eq!(c.ask(two, other, &format!("RPUSH k {element}")), ":1");
        c.run(50);
        assert_eq!(c.node(node).replies(conn), format!("*2 $1 k $1 {element}"));
    }
}

#[test]
fn no_client_of_a_survivor_notices_that_the_leader_died_and_the_order_is_kept() {
    let (mut c, leader, [one, two]) = three();
    let second = wait(&mut c, two, "BLPOP k 0");
    c.run(100);
    let third = wait(&mut c, one, "BLPOP k 0");
    let reader = wait(&mut c, one, "XREAD BLOCK 0 STREAMS s $");
    c.kill(leader);
    let now = next_leader(&mut c, leader);
    for (node, conn) in [(two, second), (one, third), (one, reader)] {
        assert_eq!(c.node(node).replies(conn), "", "nobody notices");
        assert!(c.node(node).node.clients.get(conn).unwrap().blocked);
    }
    let other = c.node(now).connect();
    assert_eq!(c.ask(now, other, "RPUSH k a\nXADD s 1-1 f v"), ":1 $3 1-1");
    c.run(50);
    assert_eq!(c.node(two).replies(second), "*2 $1 k $1 a", "it has waited longer");
    assert_eq!(c.node(one).replies(third), "");
    assert_eq!(c.ask(now, other, "RPUSH k b"), ":1");
    c.run(50);
    assert_eq!(c.node(one).replies(third), "*2 $1 k $1 b");
}

#[test]
fn a_leader_that_is_told_to_stop_waits_no_more_for_tries_of_others_that_nobody_is_left_to_commit() {
    let (mut c, leader, [one, two]) = three();
    let conn = c.node(one).connect();
    assert_eq!(c.ask(one, conn, "RPUSH k a"), ":1");
    c.kill(two);
    c.node(one).holds_disk = true;
    c.node(one).receive(conn, pipeline("BLPOP k 0"));
    c.run_until("the leader has proposed it", |c| {
        let shard = &c.nodes[leader].as_ref().unwrap().node.shards[0];
        shard.in_flight.iter().any(|p| p.batch.as_ref().is_some_and(|batch| batch.has_waits_of_others()))
    });
    c.kill(one);
    c.node(leader).input(Input::Stop);
    c.run_until("it stops", |c| c.nodes[leader].as_ref().unwrap().stopped);
}

#[test]
fn a_leader_that_is_told_to_stop_hands_on_those_who_wait() {
    let (mut c, leader, [one, two]) = three();
    let first = wait(&mut c, one, "BLPOP k 0");
    let own = wait(&mut c, leader, "BLPOP k 0");
    c.node(leader).input(Input::Stop);
    let now = next_leader(&mut c, leader);
    c.run_until("it has stopped", |c| c.nodes[leader].as_ref().is_some_and(|w| w.stopped));
    assert!(c.node(leader).replies(own).starts_with("-UNBLOCKED "), "it got nothing, and is told");
    assert_eq!(c.node(one).replies(first), "");
    c.kill(leader);
    let other = c.node(two).connect();
    assert_eq!(c.ask(two, other, "RPUSH k a\nLLEN k"), ":1 :0");
    c.run(100);
    assert_eq!(c.node(one).replies(first), "*2 $1 k $1 a");
    let _ = now;
}

#[test]
fn clients_of_a_leader_that_gives_up_its_leadership_wait_at_the_next() {
    let (mut c, leader, [one, _]) = three();
    let own = wait(&mut c, leader, "BLPOP k 0");
    let moved = wait(&mut c, leader, "BLMOVE l m LEFT LEFT 0");
    c.node(leader).input(Input::DiskFull(true));
    next_leader(&mut c, leader);
    c.node(leader).input(Input::DiskFull(false));
    let other = c.node(one).connect();
    assert_eq!(c.ask(one, other, "RPUSH k a\nRPUSH l b\nLRANGE m 0 -1"), ":1 :1 *1 $1 b");
    c.run(100);
    assert_eq!(c.node(leader).replies(own), "*2 $1 k $1 a");
    assert_eq!(c.node(leader).replies(moved), "$1 b");
}

#[test]
fn each_element_has_one_taker_whenever_the_leader_dies() {
    for step in 0..24 {
        let (mut c, leader, [one, two]) = three();
        c.step_ms = 1;
        let takers = [(one, wait(&mut c, one, "BLPOP k 0")), (two, wait(&mut c, two, "BLPOP k 0"))];
        let giver = c.node(one).connect();
        c.node(one).receive(giver, pipeline("RPUSH k a"));
        (0..step).for_each(|_| c.step());
        c.kill(leader);
        c.step_ms = 5;
        next_leader(&mut c, leader);
        c.run(500);
        assert_eq!(c.node(one).replies(giver), ":1", "dead after {step} steps");
        let got = takers.map(|(node, conn)| c.node(node).replies(conn));
        assert_eq!(got.iter().filter(|reply| *reply == "*2 $1 k $1 a").count(), 1, "{step}: {got:?}");
        assert_eq!(got.iter().filter(|reply| reply.is_empty()).count(), 1, "{step}: {got:?}");
        assert_eq!(c.ask(one, giver, "EXISTS k"), ":0");
    }
}

#[test]
fn a_time_that_ends_is_answered_by_the_leader_of_the_moment() {
    let (mut c, leader, [one, _]) = three();
    let conn = wait(&mut c, one, "BLPOP k 2");
    let long = wait(&mut c, one, "BLPOP k 60");
    c.kill(leader);
    let now = next_leader(&mut c, leader);
    assert_eq!(c.node(one).replies(conn), "");
    c.run(2_000);
    assert_eq!(c.node(one).replies(conn), "*-1");
    assert_eq!(c.node(one).replies(long), "");
    let other = c.node(now).connect();
    assert_eq!(c.ask(now, other, "RPUSH k a"), ":1");
    c.run(100);
    assert_eq!((c.node(one).replies(conn), c.node(one).replies(long)), ("".into(), "*2 $1 k $1 a".into()));
}

#[test]
fn nothing_is_taken_for_a_client_of_another_node_that_is_gone_or_was_unblocked() {
    let (mut c, leader, [one, two]) = three();
    let gone = wait(&mut c, one, "BLPOP k 0");
    let unblocked = wait(&mut c, two, "BLPOP k 0");
    let number = c.node(two).node.clients.get(unblocked).unwrap().number;
    let other = c.node(two).connect();
    c.node(one).input(Input::Disconnected { conn: gone });
    assert_eq!(c.ask(two, other, &format!("CLIENT UNBLOCK {number} ERROR")), ":1");
    c.run(50);
    assert!(c.node(two).replies(unblocked).starts_with("-UNBLOCKED "));
    assert_eq!(c.ask(two, other, "RPUSH k a\nLLEN k"), ":1 :1");
    assert!(c.node(leader).node.shards[0].waiting.is_empty());
    assert!([one, two].into_iter().all(|n| c.node(n).node.shards[0].away.is_empty()));
}

#[test]
fn nothing_is_taken_for_clients_of_a_node_that_is_cut_off_until_it_is_back() {
    let (mut c, leader, [one, two]) = three();
    let conn = wait(&mut c, one, "BLPOP k 0");
    let later = wait(&mut c, two, "BLPOP k 0");
    for other in [leader, two] {
        c.cut.insert((one.min(other), one.max(other)));
    }
    c.run(4_000);
    let other = c.node(two).connect();
    assert_eq!(c.ask(two, other, "RPUSH k a"), ":1");
    c.run(100);
    assert_eq!(c.node(two).replies(later), "*2 $1 k $1 a");
    assert_eq!(c.ask(two, other, "RPUSH k b\nLLEN k"), ":1 :1");
    c.cut.clear();
    c.run_until("it is served", |c| c.nodes[one].as_ref().is_some_and(|w| !w.node.unsent(conn).is_empty()));
    assert_eq!(c.node(one).replies(conn), "*2 $1 k $1 b");
}

#[test]
fn clients_of_a_node_that_died_take_nothing() {
    let (mut c, leader, [one, two]) = three();
    wait(&mut c, one, "BLPOP k 0");
    let stays = wait(&mut c, two, "BLPOP k 0");
    c.restart(one);
    c.run(3_000);
    let other = c.node(leader).connect();
    assert_eq!(c.ask(leader, other, "RPUSH k a"), ":1");
    c.run(50);
    assert_eq!(c.node(two).replies(stays), "*2 $1 k $1 a");
    assert!(c.leader().is_some_and(|n| c.node(n).node.shards[0].waiting.is_empty()));
}

#[test]
fn a_node_without_a_copy_waits_as_well_and_says_where_it_cannot_tell() {
    let mut c = Cluster::of(4, &[("replicas", "3")]);
    c.run(3_000);
    let has_copy = |c: &Cluster, n: usize| c.nodes[n].as_ref().unwrap().node.shards[0].replica.is_some();
    let without = (1..=4).find(|n| !has_copy(&c, *n)).expect("one has no copy");
    let leader = c.leader().expect("one leads");
    let conn = wait(&mut c, without, "BLPOP k 0");
    let other = c.node(leader).connect();
    assert_eq!(c.ask(leader, other, "RPUSH k a"), ":1");
    c.run(50);
    assert_eq!(c.node(without).replies(conn), "*2 $1 k $1 a");
    c.node(without).receive(conn, pipeline("BLPOP k 0.3"));
    c.run(500);
    assert_eq!(c.node(without).replies(conn), "*-1");
    let waits = wait(&mut c, without, "BLPOP k 0");
    let reads = wait(&mut c, without, "XREAD BLOCK 0 STREAMS s $");
    c.kill(leader);
    let now = next_leader(&mut c, leader);
    c.run(1_000);
    assert!(c.node(without).replies(waits).starts_with("-UNCERTAIN "), "an element may have been on its way");
    assert_eq!(c.node(without).replies(reads), "", "a read is asked for again");
    let other = c.node(now).connect();
    assert_eq!(c.ask(now, other, "XADD s 1-1 f v"), "$3 1-1");
    c.run(100);
    assert_eq!(c.node(without).replies(reads), "*1 *2 $1 s *1 *2 $3 1-1 *2 $1 f $1 v");
}
