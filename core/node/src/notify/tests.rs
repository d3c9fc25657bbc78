//! Keyspace notifications on one node and on several.

use crate::testing::{Cluster, World};

const LISTEN: &str = "PSUBSCRIBE __key*__:*";

/// Channel and message of each, shortened.
fn heard(replies: &str) -> Vec<String> {
    let messages = replies.split("$8 pmessage ").skip(1);
    messages
        .map(|message| {
            let words: Vec<&str> = message.split(' ').collect();
            [words[3].trim_start_matches("__key"), words[5]].join(" ")
        })
        .collect()
}

#[test]
fn nobody_is_told_unless_the_setting_says_so() {
    let mut w = World::new(&[("durability", "memory")]);
    let (listens, me) = (w.connect(), w.connect());
    w.ask(listens, LISTEN);
    w.ask(me, "SET a 1");
    assert_eq!(w.replies(listens), "");
    assert_eq!(
        w.ask(
            me,
            "CONFIG SET notify-keyspace-events KE$\nSET a 1\nRPUSH l 1\nCONFIG GET notify-keyspace-events"
        ),
        "+OK +OK :1 *2 $22 notify-keyspace-events $3 $KE"
    );
    assert_eq!(heard(&w.replies(listens)), ["space@0__:a set", "event@0__:set a"]);
    w.ask(me, "CONFIG SET notify-keyspace-events El\nSET a 1\nSELECT 3\nRPUSH l 1\nLPOP l");
    assert_eq!(heard(&w.replies(listens)), ["event@3__:rpush l", "event@3__:lpop l"]);
    w.ask(me, "CONFIG SET notify-keyspace-events \"\"\nRPUSH l 1");
    assert_eq!(w.replies(listens), "");
}

#[test]
fn the_setting_may_stand_in_the_file_and_expired_keys_are_told_on_time() {
    let mut w = World::new(&[("durability", "memory"), ("notify-keyspace-events", "Ex")]);
    let (listens, me) = (w.connect(), w.connect());
    w.ask(listens, LISTEN);
    w.ask(me, "SET a 1 PX 500\nSET b 1");
    w.advance(490);
    w.settle();
    assert_eq!(w.replies(listens), "");
    assert!(w.node.next_wakeup().is_some_and(|at| at.since(w.now.mono) <= 15), "it wakes up by itself");
    w.advance(15);
    w.settle();
    assert_eq!(heard(&w.replies(listens)), ["event@0__:expired a"]);
}

#[test]
fn each_node_tells_its_own_clients_whoever_leads() {
    let mut c = Cluster::of(3, &[("notify-keyspace-events", "AKE")]);
    c.run(2_000);
    let conns = [1, 2, 3].map(|n| (n, c.node(n).connect()));
    let mes = [1, 2, 3].map(|n| (n, c.node(n).connect()));
    conns.iter().for_each(|(n, conn)| drop(c.ask(*n, *conn, "PSUBSCRIBE __keyevent*__:*")));
    for (n, me) in mes {
        c.ask(n, me, &format!("SET a {n}\nDEL a\nSET soon 1 PX 300"));
        c.run(400);
        for (to, conn) in conns {
            let heard = heard(&c.node(to).replies(conn));
            assert_eq!(
                heard,
                [
                    "event@0__:set a",
                    "event@0__:del a",
                    "event@0__:set soon",
                    "event@0__:expire soon",
                    "event@0__:expired soon"
                ]
            );
        }
    }
}

#[test]
fn a_node_without_a_copy_is_told_by_the_leader() {
    let mut c = Cluster::of(4, &[("notify-keyspace-events", "AKE"), ("replicas", "3")]);
    c.run(3_000);
    let without =
        (1..=4).find(|n| c.node(*n).node.replicas().count() == 0).expect("three of four have copies");
    let conn = c.node(without).connect();
    let me = c.node(without).connect();
    c.ask(without, conn, "SUBSCRIBE __keyspace@0__:a");
    c.ask(without, me, "SET a 1\nSET b 1\nDEL a");
    c.run(100);
    let told = c.node(without).replies(conn);
    assert!(
        told.ends_with("$16 __keyspace@0__:a $3 set *3 $7 message $16 __keyspace@0__:a $3 del"),
        "{told}"
    );
    let leader = c.leader().unwrap();
    let wanting = |c: &mut Cluster| c.node(leader).node.notify.wanting.len();
    assert_eq!(wanting(&mut c), 3);
    c.ask(without, me, "CONFIG SET notify-keyspace-events \"\"\nSET a 1");
    c.run(100);
    assert_eq!(c.node(without).replies(conn), "");
    assert_eq!(wanting(&mut c), 0, "they said that they want nothing any more");
    c.ask(without, me, "CONFIG SET notify-keyspace-events KA");
    c.kill(leader);
    c.run(3_000);
    c.ask(without, me, "SET a 2");
    c.run(100);
    assert!(c.node(without).replies(conn).ends_with("__keyspace@0__:a $3 set"), "the next leader tells");
}

#[test]
fn what_a_script_publishes_goes_everywhere_once() {
    let mut c = Cluster::of(3, &[]);
    c.run(2_000);
    let conns = [1, 2, 3].map(|n| (n, c.node(n).connect()));
    conns.iter().for_each(|(n, conn)| drop(c.ask(*n, *conn, "SUBSCRIBE a\nSSUBSCRIBE s")));
    let me = c.node(2).connect();
    let script = "EVAL redis.call('publish','a','m');redis.call('spublish','s','n');return(redis.call('publish','b','x')) 0";
    assert_eq!(c.ask(2, me, script), ":0");
    c.run(200);
    for (n, conn) in conns {
        let heard = c.node(n).replies(conn);
        assert_eq!(heard, "*3 $7 message $1 a $1 m *3 $8 smessage $1 s $1 n", "node {n}");
    }
}

#[test]
fn a_key_that_is_looked_for_in_vain_is_told_where_the_setting_says_so() {
    for durability in ["disk", "memory"] {
        let mut w = World::new(&[("durability", durability)]);
        let (listens, me) = (w.connect(), w.connect());
        w.ask(listens, LISTEN);
        w.ask(me, "CONFIG SET notify-keyspace-events AKEn\nGET a\nGETDEL a");
        assert_eq!(w.replies(listens), "", "A does not stand for m");
        w.ask(me, "CONFIG SET notify-keyspace-events Em\nGET a\nSET b 1\nGET b\nSELECT 2\nMGET a b\nINCR n\nGETDEL m");
        let told =
            ["event@0__:keymiss a", "event@2__:keymiss a", "event@2__:keymiss b", "event@2__:keymiss m"];
        assert_eq!(heard(&w.replies(listens)), told);
        w.ask(
            me,
            "SELECT 0\nCONFIG SET notify-keyspace-events Km\nMULTI\nGET a\nEXEC\nMULTI\nGET a\nSET c 1\nEXEC",
        );
        assert_eq!(heard(&w.replies(listens)), ["space@0__:a keymiss", "space@0__:a keymiss"]);
        w.ask(me, "EVAL_RO return(redis.call('get','x')) 0\nEVAL return(redis.call('get','y')) 0");
        assert_eq!(heard(&w.replies(listens)), ["space@0__:x keymiss", "space@0__:y keymiss"]);
        w.ask(me, "CONFIG SET notify-keyspace-events K\nGET a\nGETDEL a");
        assert_eq!(w.replies(listens), "");
    }
}

#[test]
fn a_read_of_what_is_due_tells_once_that_it_expired_and_is_missed() {
    let mut w = World::new(&[("durability", "memory"), ("notify-keyspace-events", "Exm")]);
    let (listens, me) = (w.connect(), w.connect());
    w.ask(listens, LISTEN);
    w.ask(me, "SET a 1 PX 500");
    w.now.mono.0 += 600;
    w.now.wall.0 += 600;
    assert_eq!(w.ask(me, "MGET b a"), "*2 $-1 $-1");
    let mut told = heard(&w.replies(listens));
    told.sort_unstable();
    assert_eq!(told, ["event@0__:expired a", "event@0__:keymiss a", "event@0__:keymiss b"]);
}

#[test]
fn what_is_looked_for_in_vain_at_any_node_is_told_once_at_every_node() {
    let mut c = Cluster::of(4, &[("notify-keyspace-events", "Em"), ("replicas", "3")]);
    c.run(3_000);
    let conns = [1, 2, 3, 4].map(|n| (n, c.node(n).connect()));
    conns.iter().for_each(|(n, conn)| drop(c.ask(*n, *conn, "PSUBSCRIBE __key*__:*")));
    for n in 1..=4 {
        let me = c.node(n).connect();
        // At once, in an entry by a write, in an entry behind a write.
        c.ask(n, me, &format!("GET r{n}\nGETDEL w{n}\nGET s{n}"));
        c.run(200);
        for (to, conn) in conns {
            let mut told = heard(&c.node(to).replies(conn));
            told.sort_unstable();
            let expected = ["r", "s", "w"].map(|key| format!("event@0__:keymiss {key}{n}"));
            assert_eq!(told, expected, "asked at node {n}, heard at {to}");
        }
    }
}

#[test]
fn a_key_that_is_missed_has_not_changed_for_caches_and_for_those_who_wait_for_it() {
    let mut w = World::new(&[("durability", "memory"), ("notify-keyspace-events", "KEm")]);
    let (caches, waits, me) = (w.connect(), w.connect(), w.connect());
    w.ask(caches, "HELLO 3\nCLIENT TRACKING ON\nGET a");
    assert_eq!(w.ask(waits, "BLPOP a 0"), "");
    w.ask(me, "GETDEL a\nGET a");
    assert_eq!((w.replies(caches), w.replies(waits)), (String::new(), String::new()));
    w.ask(me, "SET a 1");
    assert!(w.replies(caches).contains("invalidate"));
}
