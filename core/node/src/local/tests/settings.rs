//! `CONFIG SET` of what holds for the whole cluster.

use crate::testing::{Cluster, World};

const NAME: &str = "notify-keyspace-events";

/// What each node that lives says.
fn said(c: &mut Cluster) -> Vec<String> {
    let living: Vec<usize> = (1..c.nodes.len()).filter(|n| c.nodes[*n].is_some()).collect();
    let ask = |number: usize| {
        let conn = c.node(number).connect();
        let reply = c.ask(number, conn, &format!("CONFIG GET {NAME}"));
        reply.rsplit(' ').next().unwrap_or_default().to_string()
    };
    living.into_iter().map(ask).collect()
}

fn two_followers(c: &Cluster) -> (usize, usize) {
    let leader = c.leader().expect("there is one");
    (leader % 3 + 1, (leader + 1) % 3 + 1)
}

#[test]
fn what_is_set_at_one_node_holds_at_all_when_it_is_answered() {
    let mut c = Cluster::of(3, &[(NAME, "Ex")]);
    c.run(2_000);
    assert_eq!(said(&mut c), ["xE"; 3], "each has it from its file");
    for (number, letters, shown) in [(1, "KEA", "AKE"), (2, "El", "lE"), (3, "Kg", "gK")] {
        let conn = c.node(number).connect();
        assert_eq!(c.ask(number, conn, &format!("CONFIG SET {NAME} {letters}")), "+OK");
        assert!(c.alive().all(|w| w.node.settings.notify_keyspace_events() == shown));
        assert_eq!(said(&mut c), [shown; 3]);
    }
}

#[test]
fn events_are_told_at_every_node_whoever_leads_and_after_starts() {
    let mut c = Cluster::of(3, &[]);
    c.run(2_000);
    let (one, other) = two_followers(&c);
    let me = c.node(one).connect();
    assert_eq!(c.ask(one, me, &format!("CONFIG SET {NAME} KA")), "+OK");
    let leader = c.leader().unwrap();
    c.kill(leader);
    let listens = c.node(other).connect();
    c.ask(other, listens, "SUBSCRIBE __keyspace@0__:a");
    let me = c.node(one).connect();
    assert_eq!(c.ask(one, me, "SET a 1"), "+OK");
    c.run(200);
    assert_eq!(c.node(other).replies(listens), "*3 $7 message $16 __keyspace@0__:a $3 set");
    for number in [one, other] {
        c.restart(number);
    }
    c.run_until("they have started", |c| c.alive().all(|w| w.node.is_ready()));
    assert_eq!(said(&mut c), ["AK"; 2]);
}

#[test]
fn a_node_that_is_away_is_not_waited_for_and_learns_it_when_it_is_back() {
    let mut c = Cluster::of(3, &[]);
    c.run(2_000);
    let (one, away) = two_followers(&c);
    let leader = c.leader().unwrap();
    let cut = |a: usize, b: usize| (a.min(b), a.max(b));
    c.cut = [cut(away, leader), cut(away, one)].into();
    let me = c.node(one).connect();
    let before = c.node(one).now.mono;
    assert_eq!(c.ask(one, me, &format!("CONFIG SET {NAME} KA")), "+OK");
    let took = c.node(one).now.mono.since(before);
    assert!((500..1_500).contains(&took), "until it counts as away: {took} ms");
    assert_eq!(c.node(away).node.settings.notify_keyspace_events(), "");
    c.cut.clear();
    c.run_until("it has learnt it", |c| {
        c.nodes[away].as_ref().unwrap().node.settings.notify_keyspace_events() == "AK"
    });
}

#[test]
fn a_node_that_joins_later_has_the_settings_of_the_cluster() {
    let mut c = Cluster::of(3, &[]);
    let me = c.node(1).connect();
    assert_eq!(c.ask(1, me, &format!("CONFIG SET {NAME} KA")), "+OK");
    c.start(4, &[("join", "n1:17001"), (NAME, "Ex")]);
    c.run_until("it has joined", |c| c.nodes[4].as_ref().unwrap().node.is_ready());
    assert_eq!(said(&mut c), ["AK"; 4]);
}

#[test]
fn without_a_majority_the_client_is_told_that_nobody_knows() {
    let mut c = Cluster::of(3, &[("request-timeout", "1000")]);
    c.run(2_000);
    let (one, other) = two_followers(&c);
    let leader = c.leader().unwrap();
    c.kill(other);
    c.kill(leader);
    let me = c.node(one).connect();
    let reply = c.ask(one, me, &format!("CONFIG SET {NAME} KA"));
    assert!(reply.starts_with("-UNCERTAIN "), "{reply}");
    assert_eq!(said(&mut c), ["$0"], "what it has is what it says");
}

#[test]
fn it_stands_beside_settings_of_the_node_and_all_or_nothing_is_taken() {
    let mut w = World::new(&[]);
    let me = w.connect();
    let get = &format!("CONFIG GET timeout {NAME}");
    assert_eq!(w.ask(me, &format!("CONFIG SET timeout 7 {NAME} El")), "+OK");
    assert_eq!(w.ask(me, get), format!("*4 $7 timeout $1 7 $22 {NAME} $2 lE"));
    let refused = w.ask(me, &format!("CONFIG SET timeout 8 {NAME} q"));
    assert!(
        refused.starts_with("-ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events')")
    );
    assert_eq!(w.ask(me, get), format!("*4 $7 timeout $1 7 $22 {NAME} $2 lE"));
    let queued = w.ask(me, &format!("MULTI\nCONFIG SET {NAME} KA\nEXEC\nCONFIG GET {NAME}"));
    let why = "changes the cluster, which a transaction cannot wait for";
    assert!(queued.contains(why) && queued.ends_with("$2 lE"), "{queued}");
    assert_eq!(w.ask(me, "MULTI\nCONFIG SET timeout 9\nEXEC"), "+OK +QUEUED *1 +OK");
}

#[test]
fn too_many_that_wait_are_refused_with_what_was_done() {
    let mut c = Cluster::of(3, &[]);
    c.run(2_000);
    let (one, other) = two_followers(&c);
    let leader = c.leader().unwrap();
    c.kill(other);
    c.kill(leader);
    let ask = |c: &mut Cluster, command: &str| {
        let conn = c.node(one).connect();
        c.node(one).receive(conn, crate::testing::pipeline(command));
        c.node(one).replies(conn)
    };
    for _ in 0..1_024 {
        assert_eq!(ask(&mut c, &format!("CONFIG SET {NAME} K")), "");
    }
    let refused = ask(&mut c, &format!("CONFIG SET {NAME} K"));
    assert_eq!(refused, "-TRYAGAIN too many changes of the cluster wait already; nothing was done");
    let refused = ask(&mut c, &format!("CONFIG SET timeout 7 {NAME} K"));
    let why = "-TRYAGAIN too many changes of the cluster wait already; of this command only timeout was carried out";
    assert_eq!(refused, why);
    assert_eq!(c.node(one).node.settings.timeout_seconds(), 7);
}
