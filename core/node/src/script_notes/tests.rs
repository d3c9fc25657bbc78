//! What scripts were denied is in `ACL LOG` of the node that has their client, once.

use skep_base::ConnId;

use crate::testing::{Cluster, World, pipeline};

fn call(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    skep_resp::write_command(&mut bytes, words.iter().map(|w| w.as_bytes()));
    bytes
}

/// Reason, object, user, context and count of all entries, the newest first; all are of a client that is shown.
fn log(world: &World) -> Vec<String> {
    let entries = world.node.acl.log.iter();
    let shown = entries.map(|e| {
        assert!(e.client.contains("user=") && e.client.contains("id="), "{}", e.client);
        let [object, user] = [&e.object, &e.user].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        format!("{} {object} {user} {} {}", e.reason.name(), e.context.name(), e.count)
    });
    shown.collect()
}

const BOB: &str = "ACL SETUSER bob on nopass ~own* &news +@all -set";

#[test]
fn what_a_script_is_denied_is_in_the_log_with_what_and_whose() {
    for durability in ["disk", "memory"] {
        let mut w = World::new(&[("durability", durability)]);
        let (admin, bob) = (w.connect(), w.connect());
        assert_eq!(w.ask(admin, BOB), "+OK");
        assert_eq!(w.ask(bob, "AUTH bob any"), "+OK");
        let ask = |w: &mut World, words: &[&str]| {
            w.receive(bob, call(words));
            w.settle();
            w.replies(bob)
        };
        let told = ask(&mut w, &["EVAL", "return redis.call('set', 'own', 1)", "0"]);
        assert!(told.contains("ACL failure in script"), "{told}");
        ask(
            &mut w,
            &["EVAL", "redis.pcall('get', 'his') redis.pcall('publish', 'gossip', 'm') return 1", "0"],
        );
        assert_eq!(
            log(&w),
            ["channel gossip bob lua 1", "key his bob lua 1", "command set bob lua 1"],
            "{durability}"
        );
        assert_eq!(
            ask(
                &mut w,
                &["EVAL", "return {redis.call('get', 'own'), redis.acl_check_cmd('set', 'x', 1)}", "0"]
            ),
            "*2 $-1 $-1"
        );
        ask(&mut w, &["EVAL_RO", "redis.pcall('get', 'his') return 1", "0"]);
        ask(&mut w, &["EVAL_RO", "redis.pcall('get', 'his') return 1", "0"]);
        w.receive(bob, pipeline("MULTI"));
        w.receive(bob, call(&["EVAL", "redis.pcall('get', 'his') return 1", "0"]));
        w.receive(bob, pipeline("EXEC"));
        ask(&mut w, &["ONCE", "t", "EVAL", "redis.pcall('get', 'his') return 1", "1", "own"]);
        assert_eq!(
            log(&w),
            ["key his bob lua 5", "channel gossip bob lua 1", "command set bob lua 1"],
            "{durability}"
        );
        let shown = w.ask(admin, "ACL LOG 1");
        assert!(shown.contains("$7 context $3 lua $6 object $3 his $8 username $3 bob"), "{shown}");
    }
}

fn eval_at(c: &mut Cluster, node: usize, conn: ConnId, words: &[&str]) {
    c.node(node).receive(conn, call(words));
    c.run(300);
    assert_eq!(c.node(node).replies(conn), ":1", "{words:?} at {node}");
}

/// A cluster with a user who may little.
fn with_bob(replicas: &str) -> Cluster {
    let mut c = Cluster::of(3, &[("replicas", replicas)]);
    c.run(3_000);
    let admin = c.node(1).connect();
    assert_eq!(c.ask(1, admin, BOB), "+OK");
    c.run(500);
    c
}

/// Bob is denied a command, and as often as that a key.
fn deny_at(c: &mut Cluster, node: usize, keys: usize) {
    let conn = c.node(node).connect();
    assert_eq!(c.ask(node, conn, "AUTH bob any"), "+OK");
    eval_at(c, node, conn, &["EVAL", "redis.pcall('set', 'own', 1) return 1", "1", "own"]);
    for _ in 0..keys {
        eval_at(c, node, conn, &["EVAL_RO", "redis.pcall('get', 'his') return 1", "1", "own"]);
    }
}

#[test]
fn a_denial_is_told_to_the_node_of_the_client_alone_whoever_ran_the_script() {
    let mut c = with_bob("3");
    for node in 1..=3 {
        deny_at(&mut c, node, 2);
        for other in 1..=3 {
            let expected =
                if other <= node { vec!["key his bob lua 2", "command set bob lua 1"] } else { vec![] };
            assert_eq!(log(c.node(other)), expected, "node {other} after {node}");
        }
    }
}

#[test]
fn a_denial_is_told_to_nodes_without_a_copy_too() {
    let mut c = with_bob("1");
    for node in 1..=3 {
        deny_at(&mut c, node, 1);
        assert_eq!(log(c.node(node)), ["key his bob lua 1", "command set bob lua 1"], "node {node}");
    }
}
