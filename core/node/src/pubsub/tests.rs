//! Messages and counts between nodes.

use skep_base::ConnId;

use crate::testing::{Cluster, World, pipeline};

fn three() -> (Cluster, [ConnId; 4]) {
    let mut c = Cluster::of(3, &[]);
    c.run(1_000);
    let conns = [1, 1, 2, 3].map(|n| c.node(n).connect());
    (c, conns)
}

#[test]
fn who_was_told_that_he_is_subscribed_gets_what_any_node_publishes_afterwards() {
    let (mut c, [_, _, two, three]) = three();
    for round in 0..20 {
        assert!(c.ask(3, three, &format!("SUBSCRIBE a{round}")).starts_with("*3 $9 subscribe"));
        // Node 2 has not heard of it, or has.
        c.ask(2, two, &format!("PUBLISH a{round} m"));
        c.run(50);
        assert_eq!(c.node(3).replies(three), format!("*3 $7 message ${} a{round} $1 m", 2 + round / 10));
    }
}

#[test]
fn who_was_answered_is_written_to_before_who_was_only_pushed_something() {
    let mut w = World::new(&[("durability", "memory")]);
    let (listens, both, publishes) = (w.connect(), w.connect(), w.connect());
    w.ask(listens, "SUBSCRIBE a");
    w.ask(both, "HELLO 3\nSUBSCRIBE a");
    while w.node.next_with_output().is_some() {}
    w.receive(publishes, pipeline("PUBLISH a 1"));
    w.receive(both, pipeline("PING\nPUBLISH a 2"));
    let named: Vec<ConnId> = std::iter::from_fn(|| w.node.next_with_output()).collect();
    assert_eq!(named, [publishes, both, listens], "each once, also who was pushed something first");
    w.receive(publishes, pipeline("PUBLISH a 1"));
    let named: Vec<ConnId> = std::iter::from_fn(|| w.node.next_with_output()).collect();
    assert_eq!(named, [publishes, listens, both]);
    w.receive(both, pipeline("PUBLISH a 3"));
    let named: Vec<ConnId> = std::iter::from_fn(|| w.node.next_with_output()).collect();
    assert_eq!(named, [both, listens]);
}

#[test]
fn messages_of_a_publisher_arrive_in_order_between_those_of_others() {
    let (mut c, [one, listens, two, _]) = three();
    c.ask(1, listens, "PSUBSCRIBE *");
    for n in 0..50 {
        c.ask(1, one, &format!("PUBLISH one {n}"));
        c.node(2).receive(two, crate::testing::pipeline(&format!("PUBLISH two {n}\nPUBLISH two {n}b")));
    }
    c.run(200);
    let heard = c.node(1).replies(listens);
    let of = |channel: &str| -> Vec<String> {
        let words: Vec<&str> = heard.split(' ').collect();
        words.windows(3).filter(|w| w[0] == channel).map(|w| w[2].to_owned()).collect()
    };
    assert_eq!(of("one"), (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(of("two"), (0..50).flat_map(|n| [n.to_string(), format!("{n}b")]).collect::<Vec<_>>());
}

#[test]
fn counts_are_those_of_all_nodes_and_go_with_a_node() {
    let (mut c, [one, one_b, two, three]) = three();
    c.ask(1, one, "SUBSCRIBE a b");
    c.ask(1, one_b, "PSUBSCRIBE a*");
    c.ask(3, three, "SUBSCRIBE a\nSSUBSCRIBE s");
    c.run(50);
    let asked = "PUBSUB NUMSUB a b\nPUBSUB NUMPAT\nPUBSUB SHARDNUMSUB s\nPUBSUB CHANNELS\nPUBSUB SHARDCHANNELS\nPUBLISH a 1";
    assert_eq!(c.ask(2, two, asked), "*4 $1 a :2 $1 b :1 :1 *2 $1 s :1 *2 $1 a $1 b *1 $1 s :3");
    c.kill(3);
    c.run(50);
    assert_eq!(c.ask(2, two, asked), "*4 $1 a :1 $1 b :1 :1 *2 $1 s :0 *2 $1 a $1 b *0 :2");
    c.node(1).input(crate::Input::Disconnected { conn: one });
    c.run(50);
    assert_eq!(c.ask(2, two, asked), "*4 $1 a :0 $1 b :0 :1 *2 $1 s :0 *0 *0 :1");
}

#[test]
fn nodes_that_meet_again_tell_each_other_all_counts() {
    let (mut c, [one, _, two, _]) = three();
    c.ask(1, one, "SUBSCRIBE before");
    c.cut.extend([(1, 2), (2, 3), (1, 3)]);
    c.run(15_000);
    assert_eq!(c.ask(2, two, "PUBSUB CHANNELS"), "*0", "the links are given up");
    c.ask(1, one, "UNSUBSCRIBE before\nSUBSCRIBE meanwhile");
    c.cut.clear();
    c.run(8_000);
    assert_eq!(c.ask(2, two, "PUBSUB CHANNELS\nPUBLISH meanwhile x"), "*1 $9 meanwhile :1");
    c.run(20);
    assert!(c.node(1).replies(one).ends_with("*3 $7 message $9 meanwhile $1 x"));
}

#[test]
fn a_node_that_starts_again_has_no_subscribers_of_before() {
    let (mut c, [_, _, two, three]) = three();
    c.ask(3, three, "SUBSCRIBE a\nPSUBSCRIBE b*");
    c.run(50);
    assert_eq!(c.ask(2, two, "PUBSUB NUMSUB a"), "*2 $1 a :1");
    c.restart(3);
    c.run(5_000);
    assert_eq!(c.ask(2, two, "PUBSUB NUMSUB a\nPUBSUB NUMPAT"), "*2 $1 a :0 :0");
    let conn = c.node(3).connect();
    c.ask(3, conn, "SUBSCRIBE a");
    c.run(50);
    assert_eq!(c.ask(2, two, "PUBLISH a 1"), ":1");
}

#[test]
fn what_a_node_is_too_slow_to_take_is_dropped_and_counted() {
    let (mut c, [_, _, two, three]) = three();
    c.ask(3, three, "SUBSCRIBE a");
    let large = format!("PUBLISH nobody {}", "x".repeat(1 << 20));
    for _ in 0..140 {
        c.node(2).receive(two, crate::testing::pipeline(&large));
        c.node(2).turn();
    }
    let dropped = c.node(2).node.pubsub.dropped;
    assert!((100..200).contains(&dropped), "{dropped}");
    c.run(2_000);
    c.node(2).replies(two);
    assert_eq!(c.ask(2, two, "PUBLISH a 1"), ":1");
    c.run(50);
    assert!(c.node(3).replies(three).ends_with("$1 1"), "later ones arrive");
}
