//! Client-side caching on one node, over cells and over nodes.

use skep_base::{ConnId, GroupId};

use crate::testing::{Cluster, World, pipeline};

fn world() -> World {
    World::new(&[("durability", "memory")])
}

fn caching(w: &mut World, options: &str) -> ConnId {
    let conn = w.connect();
    assert!(w.ask(conn, &format!("HELLO 3\nCLIENT TRACKING ON {options}")).ends_with("+OK"));
    conn
}

#[test]
fn who_has_read_a_key_is_told_once_that_it_changed() {
    let mut w = world();
    let (caches, me) = (caching(&mut w, ""), w.connect());
    w.ask(me, "MSET a 1 b 2 c 3");
    assert_eq!(w.replies(caches), "", "it has read nothing");
    assert_eq!(w.ask(caches, "MGET a b\nSET a own"), "*2 $1 1 $1 2 +OK >2 $10 invalidate *1 $1 a");
    w.ask(me, "SET b 3\nSET b 4\nSET c 4");
    assert_eq!(w.replies(caches), ">2 $10 invalidate *1 $1 b");
    w.ask(caches, "GET a\nGET soon");
    w.ask(me, "EXPIRE a 10\nSET soon 1 PX 100");
    assert_eq!(w.replies(caches), ">2 $10 invalidate *1 $1 a >2 $10 invalidate *1 $4 soon");
    w.ask(caches, "GET soon");
    w.advance(101);
    w.settle();
    assert_eq!(w.replies(caches), ">2 $10 invalidate *1 $4 soon", "expired");
    w.ask(caches, "GET a");
    w.ask(me, "FLUSHALL");
    assert_eq!(w.replies(caches), ">2 $10 invalidate _");
    assert_eq!(w.ask(caches, "GET a\nCLIENT TRACKING OFF\nSET a 1"), "_ +OK +OK");
}

#[test]
fn clients_say_for_each_command_whether_they_cache() {
    let mut w = world();
    let (takes, leaves, me) = (caching(&mut w, "OPTIN"), caching(&mut w, "OPTOUT"), w.connect());
    w.ask(takes, "GET a\nCLIENT CACHING YES\nCLIENT ID\nGET b\nGET c");
    w.ask(leaves, "GET a\nCLIENT CACHING NO\nGET b\nGET c");
    w.ask(me, "SET a 1\nSET b 1\nSET c 1");
    assert_eq!(w.replies(takes), ">2 $10 invalidate *1 $1 b");
    assert_eq!(w.replies(leaves), ">2 $10 invalidate *1 $1 a >2 $10 invalidate *1 $1 c");
    w.ask(takes, "CLIENT CACHING YES\nMULTI\nGET x\nGET y\nEXEC\nGET z");
    w.ask(me, "SET x 1\nSET y 1\nSET z 1");
    assert_eq!(w.replies(takes), ">2 $10 invalidate *1 $1 x >2 $10 invalidate *1 $1 y");
}

#[test]
fn what_a_client_says_of_a_command_holds_when_that_has_to_wait() {
    let mut w = world();
    let (leaves, me) = (caching(&mut w, "OPTOUT"), w.connect());
    assert_eq!(w.ask(leaves, "CLIENT CACHING NO"), "+OK");
    assert_eq!(w.ask(me, "CLIENT PAUSE 100"), "+OK");
    assert_eq!(w.ask(leaves, "GET k"), "");
    w.advance(100);
    w.settle();
    assert_eq!(w.replies(leaves), "_");
    w.ask(me, "SET k 1");
    assert_eq!(w.replies(leaves), "");

    // EXEC waits for the reply before it, for it has a command of the node; what changes meanwhile is told, and then it reads.
    let caches = caching(&mut w, "");
    w.receive(caches, pipeline("SET x 1\nMULTI\nGET a\nGET b\nCLIENT GETNAME\nEXEC"));
    w.receive(me, pipeline("SET a 1"));
    w.settle();
    assert!(w.replies(caches).contains("*3 $1 1 _ _"));
    w.ask(me, "SET a 2\nSET b 2");
    assert_eq!(w.replies(caches), ">2 $10 invalidate *1 $1 a >2 $10 invalidate *1 $1 b");
}

#[test]
fn what_a_transaction_reads_is_tracked_from_when_it_runs() {
    let mut w = world();
    let (caches, me) = (caching(&mut w, ""), w.connect());
    w.ask(caches, "MULTI\nGET a");
    w.ask(me, "SET a 1");
    assert_eq!(w.replies(caches), "");
    assert_eq!(w.ask(caches, "EXEC"), "*1 $1 1");
    w.ask(me, "SET a 2");
    assert_eq!(w.replies(caches), ">2 $10 invalidate *1 $1 a");
    w.ask(caches, "MULTI\nGET a\nDISCARD\nPING");
    w.ask(me, "SET a 3");
    assert_eq!(w.replies(caches), "", "it was not read");
}

#[test]
fn prefixes_are_told_together_at_the_end_of_a_turn() {
    let mut w = world();
    let (users, all, me) =
        (caching(&mut w, "BCAST PREFIX user: PREFIX x"), caching(&mut w, "BCAST"), w.connect());
    w.ask(me, "MSET user:1 1 user:2 2 other 3\nDEL user:1");
    assert_eq!(w.replies(users), ">2 $10 invalidate *2 $6 user:1 $6 user:2");
    assert_eq!(w.replies(all), ">2 $10 invalidate *3 $5 other $6 user:1 $6 user:2");
    assert_eq!(
        w.ask(users, "CLIENT TRACKINGINFO"),
        "%3 $5 flags ~2 $2 on $5 bcast $8 redirect :0 $8 prefixes *2 $5 user: $1 x"
    );
    w.ask(users, "RESET");
    w.ask(me, "SET user:1 1");
    assert_eq!(w.replies(users), "");
}

#[test]
fn a_client_that_wants_so_is_not_told_of_what_it_does_itself() {
    for durability in ["memory", "disk"] {
        let mut w = World::new(&[("durability", durability)]);
        let (own, broadcast, me) = (caching(&mut w, "NOLOOP"), caching(&mut w, "BCAST NOLOOP"), w.connect());
        assert_eq!(w.ask(own, "GET a\nSET a 1"), "_ +OK");
        assert_eq!(w.replies(broadcast), ">2 $10 invalidate *1 $1 a");
        w.ask(own, "GET a");
        w.receive(me, pipeline("SET x 1\nSET a 2"));
        w.receive(own, pipeline("SET y 2"));
        w.settle();
        assert_eq!(w.replies(own), "+OK >2 $10 invalidate *1 $1 a", "others share the entry");
        w.replies(broadcast);
        assert_eq!(w.ask(broadcast, "SET b 1"), "+OK");
    }
}

#[test]
fn another_client_may_be_told_in_its_place() {
    let mut w = world();
    let (listens, plain, me) = (w.connect(), w.connect(), w.connect());
    w.ask(listens, "SUBSCRIBE __redis__:invalidate");
    assert_eq!(w.ask(plain, "CLIENT TRACKING ON REDIRECT 1\nGET a\nCLIENT GETREDIR"), "+OK $-1 :1");
    let caches = caching(&mut w, "REDIRECT 1");
    w.ask(caches, "GET a");
    w.ask(me, "SET a 1");
    let told = "*3 $7 message $20 __redis__:invalidate *1 $1 a";
    assert_eq!(w.replies(listens), [told, told].join(" "));
    w.ask(me, "FLUSHALL");
    let told = "*3 $7 message $20 __redis__:invalidate $-1";
    assert_eq!(w.replies(listens), [told, told].join(" "));
    w.ask(caches, "GET a");
    w.input(crate::Input::Disconnected { conn: listens });
    w.ask(me, "SET a 1");
    assert_eq!(w.replies(caches), ">2 $21 tracking-redir-broken :1");
    assert!(w.ask(caches, "CLIENT TRACKINGINFO").contains("$15 broken_redirect"));
    assert!(w.ask(caches, "CLIENT INFO").contains("flags=tR "));
    assert_eq!(
        w.ask(plain, "CLIENT TRACKING ON REDIRECT 99"),
        "-ERR The client ID you want redirect to does not exist"
    );
}

#[test]
fn of_more_keys_than_the_limit_some_count_as_changed() {
    let mut w = World::new(&[("durability", "memory"), ("tracking-table-max-keys", "2")]);
    let caches = caching(&mut w, "");
    assert_eq!(w.ask(caches, "GET a\nGET b\nGET c"), "_ _ >2 $10 invalidate *1 $1 a _");
    let info = w.ask(caches, "INFO stats\nINFO clients");
    assert!(info.contains("tracking_total_keys:2 ") && info.contains("tracking_clients:1 "), "{info}");
    w.ask(caches, "CLIENT TRACKING OFF");
    assert!(w.ask(caches, "INFO stats").contains("tracking_total_keys:0 "));
}

#[test]
fn a_reply_that_may_be_older_than_what_was_told_is_followed_by_the_same_again() {
    let mut c = Cluster::of(3, &[]);
    c.run(2_000);
    let leader = c.leader().unwrap();
    let other = if leader == 1 { 2 } else { 1 };
    let (caches, me) = (c.node(other).connect(), c.node(leader).connect());
    c.ask(other, caches, "HELLO 3\nCLIENT TRACKING ON");
    for round in 0..30 {
        c.ask(leader, me, &format!("SET a {round}"));
        c.run(50);
        c.node(other).replies(caches);
        // A read is on its way while the key changes.
        c.node(other).receive(caches, pipeline("GET a"));
        c.node(other).turn();
        c.node(leader).receive(me, pipeline(&format!("SET a {round}x")));
        c.run(50);
        c.node(leader).replies(me);
        let heard = c.node(other).replies(caches);
        let new = format!("{round}x");
        let reply = heard.split('$').position(|part| part.trim_end().ends_with(&new));
        assert!(reply.is_some() || heard.ends_with("invalidate *1 $1 a"), "{heard}");
    }
}

#[test]
fn each_node_tells_its_clients_of_what_is_done_anywhere() {
    let mut c = Cluster::of(4, &[("replicas", "3")]);
    c.run(3_000);
    let conns = [1, 2, 3, 4].map(|n| (n, c.node(n).connect()));
    let mes = [1, 2, 3, 4].map(|n| (n, c.node(n).connect()));
    for (n, conn) in conns {
        c.ask(n, conn, "HELLO 3\nCLIENT TRACKING ON");
    }
    c.run(300);
    for (n, me) in mes {
        for (at, conn) in conns {
            c.ask(at, conn, "GET a");
        }
        c.run(100);
        conns.iter().for_each(|(at, conn)| drop(c.node(*at).replies(*conn)));
        c.ask(n, me, &format!("SET a {n}"));
        c.run(200);
        for (at, conn) in conns {
            let told = c.node(at).replies(conn);
            assert!(told.contains("invalidate *1 $1 a"), "node {at} of what {n} did: {told}");
        }
    }
}

#[test]
fn where_something_may_have_been_missed_all_keys_count_as_changed() {
    let mut c = Cluster::of(4, &[("replicas", "3")]);
    c.run(3_000);
    let without =
        (1..=4).find(|n| c.node(*n).node.replicas().count() == 0).expect("three of four have copies");
    let conn = c.node(without).connect();
    let first = c.ask(without, conn, "HELLO 3\nCLIENT TRACKING ON\nGET a");
    c.run(300);
    let told = [first, c.node(without).replies(conn)].join(" ");
    assert!(told.contains("invalidate _"), "from before the leader knew: {told}");
    c.ask(without, conn, "GET a");
    let leader = c.leader().unwrap();
    c.kill(leader);
    c.run(3_000);
    assert!(c.node(without).replies(conn).contains("invalidate _"), "what the dead leader did not tell");
}

#[test]
fn who_caches_at_a_node_that_hears_others_no_more_is_told_that_all_keys_may_have_changed() {
    for alone in [true, false] {
        let mut c = Cluster::of(3, &[]);
        let leader = c.leader().unwrap();
        let here = (1..=3).find(|n| *n != leader).unwrap();
        let caches = c.node(here).connect();
        c.ask(here, caches, "HELLO 3\nCLIENT TRACKING ON\nSET a 1\nGET a");
        c.run(3_000);
        c.node(here).replies(caches);
        if alone {
            (1..=3).filter(|n| *n != here).for_each(|n| c.kill(n));
        } else {
            c.kill(leader);
        }
        c.run(900);
        assert_eq!(c.node(here).replies(caches), "", "an election is no reason");
        c.run(1_000);
        assert_eq!(c.node(here).replies(caches), ">2 $10 invalidate _");
        c.run(3_000);
        assert_eq!(c.node(here).replies(caches), "", "once is enough");
    }
}

/// Leadership of the shard goes from one node to another.
fn hand_over(c: &mut Cluster, from: usize, to: usize) {
    let id = c.node(to).node.id;
    c.node(from).hand_over(GroupId(1), id);
    c.run_until("the other leads", |c| c.leader() == Some(to));
}

#[test]
fn who_caches_at_a_node_that_the_next_leader_cannot_reach_is_told_that_all_keys_may_have_changed() {
    for (nodes, who) in [(4, "without a copy"), (3, "with a copy")] {
        let mut c = Cluster::of(nodes, &[("replicas", "3")]);
        c.run(3_000);
        let leader = c.leader().unwrap();
        let has_copy = |c: &mut Cluster, n: usize| c.node(n).node.replicas().count() > 0;
        let all = 1..=usize::from(nodes);
        let here = all.clone().find(|n| *n != leader && (nodes == 3 || !has_copy(&mut c, *n))).unwrap();
        let next = all.clone().find(|n| *n != leader && *n != here && has_copy(&mut c, *n)).unwrap();
        let (caches, writes) = (c.node(here).connect(), c.node(next).connect());
        c.ask(here, caches, "HELLO 3\nCLIENT TRACKING ON\nSET a 1");
        c.cut.insert((here.min(next), here.max(next)));
        c.run(2_000);
        let told = c.node(here).replies(caches);
        assert!(told.ends_with("invalidate _"), "{who}: one is not heard any more: {told}");
        assert_eq!(c.ask(here, caches, "GET a"), "$1 1", "{who}: the leader is");
        c.run(1_000);
        assert_eq!(c.node(here).replies(caches), "", "{who}: who is not heard does not lead");
        hand_over(&mut c, leader, next);
        assert_eq!(c.ask(next, writes, "SET a 2"), "+OK");
        c.run(2_000);
        assert_eq!(c.leader(), Some(next), "{who}");
        let told = c.node(here).replies(caches);
        assert!(told.contains("invalidate _"), "{who}: {told}");
        c.run(3_000);
        assert_eq!(c.node(here).replies(caches), "", "{who}: once is enough");
    }
}

#[test]
fn a_leader_that_was_started_again_tells_that_something_was_missed_whoever_leads_by_then() {
    let mut c = Cluster::of(4, &[("replicas", "3")]);
    c.run(3_000);
    let leader = c.leader().unwrap();
    let here = (1..=4).find(|n| c.node(*n).node.replicas().count() == 0).unwrap();
    let next: Vec<usize> = (1..=4).filter(|n| *n != leader && *n != here).collect();
    let caches = c.node(here).connect();
    c.ask(here, caches, "HELLO 3\nCLIENT TRACKING ON\nSET a 1");
    // Whoever leads next cannot say it.
    c.cut.extend(next.iter().map(|n| (here.min(*n), here.max(*n))));
    c.run(2_000);
    c.node(here).replies(caches);
    assert_eq!(c.ask(here, caches, "GET a"), "$1 1");
    c.restart(leader);
    c.run(900);
    let told = c.node(here).replies(caches);
    assert!(told.contains("invalidate _"), "{told}");
}

/// A script whose call names some keys, and its arguments.
fn eval(script: &str, keys: &[&str], args: &[&str]) -> Vec<u8> {
    let count = keys.len().to_string();
    let words = [&["EVAL", script, &count], keys, args].concat();
    let mut bytes = Vec::new();
    skep_resp::write_command(&mut bytes, words.iter().map(|word| word.as_bytes()));
    bytes
}

/// Reads its first key, and all its arguments as if they were keys.
const READS: &str = "redis.call('get', KEYS[1]) return redis.call('mget', unpack(ARGV))";

#[test]
fn what_a_script_reads_is_tracked_whether_its_call_names_it_or_not() {
    for (durability, reads) in [
        ("memory", READS.to_owned()),
        ("disk", READS.to_owned()),
        ("disk", format!("#!lua flags=no-writes\n{READS}")),
    ] {
        let mut w = World::new(&[("durability", durability)]);
        let (caches, me) = (caching(&mut w, ""), w.connect());
        for round in 0..2 {
            w.receive(caches, eval(&reads, &["a"], &["b", "c", "b"]));
            w.settle();
            assert!(w.replies(caches).starts_with("*3 "), "{durability} {round}");
            w.ask(me, "MSET d 1 c 2");
            assert_eq!(w.replies(caches), ">2 $10 invalidate *1 $1 c");
            w.ask(me, "MSET a 1 b 2 c 3");
            assert_eq!(w.replies(caches), ">2 $10 invalidate *1 $1 a >2 $10 invalidate *1 $1 b");
        }
        // In a transaction, and in one entry with a change behind it.
        w.receive(caches, [pipeline("MULTI"), eval(&reads, &["a"], &["b"]), pipeline("EXEC")].concat());
        w.receive(me, pipeline("SET b 9"));
        w.settle();
        let told = w.replies(caches);
        assert!(told.ends_with("*1 *1 $1 2 >2 $10 invalidate *1 $1 b"), "{told}");
        // Reads of a client that caches nothing are nobody's.
        w.receive(me, eval(&reads, &["x"], &["y"]));
        w.settle();
        w.ask(me, "MSET x 1 y 1");
        assert_eq!(w.replies(caches), "");
    }
}

#[test]
fn a_script_that_reads_more_keys_than_are_told_makes_all_count_as_changed() {
    let mut w = world();
    let (caches, me) = (caching(&mut w, ""), w.connect());
    let many = "for i = 1, 101 do redis.call('get', i) end return 1";
    w.receive(caches, eval(many, &["a"], &[]));
    w.settle();
    assert_eq!(w.replies(caches), ":1 >2 $10 invalidate _");
    // The next script's are counted anew.
    w.receive(caches, eval(READS, &["a"], &["b"]));
    w.settle();
    w.replies(caches);
    w.ask(me, "SET b 1");
    assert_eq!(w.replies(caches), ">2 $10 invalidate *1 $1 b");
    let named: Vec<String> = (1..=101).map(|key| key.to_string()).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    w.receive(caches, eval(many, &named, &[]));
    w.settle();
    assert_eq!(w.replies(caches), ":1", "those that the call names are told one by one");
    w.ask(me, "SET 101 1");
    assert_eq!(w.replies(caches), ">2 $10 invalidate *1 $3 101");
}

#[test]
fn what_a_script_reads_at_another_node_counts_as_changed_behind_its_reply() {
    for replicas in ["3", "1"] {
        let mut c = Cluster::of(3, &[("replicas", replicas)]);
        c.run(3_000);
        let leader = c.leader().unwrap();
        for here in 1..=3 {
            let (caches, writes) = (c.node(here).connect(), c.node(leader).connect());
            c.ask(here, caches, "HELLO 3\nCLIENT TRACKING ON");
            c.run(300);
            c.node(here).replies(caches);
            c.node(here).receive(caches, eval(READS, &["a"], &["b"]));
            c.run(300);
            let told = c.node(here).replies(caches);
            let told_at_once = told.ends_with("invalidate *1 $1 b");
            assert!(told.starts_with("*1 "), "node {here} of {replicas} copies: {told}");
            c.ask(leader, writes, "MSET a 1 b 1");
            c.run(300);
            let told = c.node(here).replies(caches);
            assert!(told.contains("invalidate *1 $1 a"), "node {here} of {replicas} copies: {told}");
            assert!(told_at_once || told.contains("invalidate *1 $1 b"), "node {here}: {told}");
        }
    }
}
