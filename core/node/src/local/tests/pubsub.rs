//! Subscriptions and messages on one cell.

use crate::testing::World;

fn world() -> World {
    World::new(&[("durability", "memory")])
}

#[test]
fn each_name_is_told_with_the_count_of_its_kind() {
    let mut w = world();
    let conn = w.connect();
    assert_eq!(
        w.ask(conn, "SUBSCRIBE a b a\nPSUBSCRIBE p*\nSSUBSCRIBE s"),
        "*3 $9 subscribe $1 a :1 *3 $9 subscribe $1 b :2 *3 $9 subscribe $1 a :2 *3 $10 psubscribe $2 p* :3 \
         *3 $10 ssubscribe $1 s :1"
    );
    assert_eq!(
        w.ask(conn, "UNSUBSCRIBE b x\nPUNSUBSCRIBE\nPUNSUBSCRIBE\nSUNSUBSCRIBE\nUNSUBSCRIBE\nUNSUBSCRIBE"),
        "*3 $11 unsubscribe $1 b :2 *3 $11 unsubscribe $1 x :2 *3 $12 punsubscribe $2 p* :1 \
         *3 $12 punsubscribe $-1 :1 *3 $12 sunsubscribe $1 s :0 *3 $11 unsubscribe $1 a :0 *3 $11 unsubscribe $-1 :0"
    );
    assert_eq!(w.ask(conn, "GET a"), "$-1", "it listens to nothing");
}

#[test]
fn a_message_reaches_channels_patterns_and_shard_channels_apart() {
    let mut w = world();
    let (one, two, me) = (w.connect(), w.connect(), w.connect());
    w.ask(one, "HELLO 3\nSUBSCRIBE news\nPSUBSCRIBE n* *s x*\nSSUBSCRIBE news");
    w.ask(two, "SUBSCRIBE news");
    assert_eq!(w.ask(me, "PUBLISH news hi\nPUBLISH nobody hi\nSPUBLISH news yo"), ":4 :1 :1");
    assert_eq!(
        w.replies(one),
        ">3 $7 message $4 news $2 hi >4 $8 pmessage $2 *s $4 news $2 hi >4 $8 pmessage $2 n* $4 news $2 hi \
         >4 $8 pmessage $2 n* $6 nobody $2 hi >3 $8 smessage $4 news $2 yo"
    );
    assert_eq!(w.replies(two), "*3 $7 message $4 news $2 hi");
}

#[test]
fn messages_of_a_publisher_come_in_order_and_behind_the_reply_to_himself() {
    let mut w = world();
    let (one, two) = (w.connect(), w.connect());
    w.ask(one, "HELLO 3\nSUBSCRIBE a");
    w.ask(two, "SUBSCRIBE a");
    let all: String = (0..30).map(|n| format!("PUBLISH a {n}\nSET k {n}\n")).collect();
    let expected: Vec<String> =
        (0..30).map(|n| format!(":2 >3 $7 message $1 a ${} {n} +OK", n.to_string().len())).collect();
    assert_eq!(w.ask(one, &all), expected.join(" "));
    let expected: Vec<String> =
        (0..30).map(|n| format!("*3 $7 message $1 a ${} {n}", n.to_string().len())).collect();
    assert_eq!(w.replies(two), expected.join(" "));
}

#[test]
fn a_push_never_splits_a_reply() {
    let mut w = World::new(&[]);
    let (reader, me) = (w.connect(), w.connect());
    w.ask(reader, "HELLO 3\nSUBSCRIBE a");
    w.holds_disk = true;
    // The write waits for the disk, the read behind it too; a message comes while both are on their way.
    w.receive(reader, crate::testing::pipeline("RPUSH l x y\nLRANGE l 0 -1\nPING"));
    w.turn();
    assert_eq!(w.ask(me, "PUBLISH a m"), ":1");
    assert_eq!(w.replies(reader), ">3 $7 message $1 a $1 m");
    w.holds_disk = false;
    w.settle();
    assert_eq!(w.replies(reader), ":2 *2 $1 x $1 y +PONG");
}

#[test]
fn a_listener_in_resp2_may_only_listen_and_ping() {
    let mut w = world();
    let conn = w.connect();
    w.ask(conn, "SUBSCRIBE a");
    assert_eq!(
        w.ask(conn, "GET a\nHELLO 3\nPING\nPING x\nPUBSUB CHANNELS"),
        "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context \
         -ERR Can't execute 'hello': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context \
         *2 $4 pong $0  *2 $4 pong $1 x \
         -ERR Can't execute 'pubsub|channels': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
         this context"
    );
    assert_eq!(w.ask(conn, "RESET\nGET a\nPING"), "+RESET $-1 +PONG");
    assert_eq!(w.ask(conn, "PUBLISH a 1"), ":0", "RESET ended its subscriptions");
    w.ask(conn, "SUBSCRIBE a\nQUIT");
    let other = w.connect();
    assert_eq!(w.ask(other, "PUBLISH a 1\nPUBSUB CHANNELS"), ":0 *0");
}

#[test]
fn pushes_are_heard_while_replies_are_off() {
    let mut w = world();
    let (conn, me) = (w.connect(), w.connect());
    assert_eq!(w.ask(conn, "HELLO 3\nCLIENT REPLY OFF\nSUBSCRIBE a\nGET x").matches("subscribe").count(), 1);
    assert_eq!(w.ask(conn, "PUBLISH a 1"), ">3 $7 message $1 a $1 1", "the number is not");
    w.ask(me, "PUBLISH a 2");
    assert_eq!(w.replies(conn), ">3 $7 message $1 a $1 2");
}

#[test]
fn what_a_transaction_publishes_to_its_own_client_follows_the_reply() {
    let mut w = world();
    let (one, two) = (w.connect(), w.connect());
    w.ask(one, "HELLO 3\nSUBSCRIBE a");
    w.ask(two, "SUBSCRIBE a");
    assert_eq!(
        w.ask(one, "MULTI\nSET k 1\nPUBLISH a m\nGET k\nEXEC\nGET k"),
        "+OK +QUEUED +QUEUED +QUEUED *3 +OK :2 $1 1 >3 $7 message $1 a $1 m $1 1"
    );
    assert_eq!(w.replies(two), "*3 $7 message $1 a $1 m");
}

#[test]
fn who_listens_is_told_by_pubsub_info_and_client_list() {
    let mut w = world();
    let (one, two, me) = (w.connect(), w.connect(), w.connect());
    w.ask(one, "SUBSCRIBE b a\nPSUBSCRIBE p*\nSSUBSCRIBE s t");
    w.ask(two, "PSUBSCRIBE p* q*\nSUBSCRIBE a");
    assert_eq!(
        w.ask(me, "PUBSUB CHANNELS\nPUBSUB CHANNELS a*\nPUBSUB SHARDCHANNELS [t-z]"),
        "*2 $1 a $1 b *1 $1 a *1 $1 t"
    );
    assert_eq!(
        w.ask(me, "PUBSUB NUMSUB\nPUBSUB NUMSUB a x b\nPUBSUB NUMPAT"),
        "*0 *6 $1 a :2 $1 x :0 $1 b :1 :2"
    );
    assert_eq!(w.ask(me, "PUBSUB SHARDNUMSUB s a"), "*4 $1 s :1 $1 a :0");
    assert!(w.ask(me, "PUBSUB CHANNELS a b").starts_with("-ERR unknown subcommand or wrong number"));
    let list = w.ask(me, "CLIENT LIST TYPE pubsub");
    assert!(
        list.contains("flags=P db=0 sub=2 psub=1 ssub=2 ") && list.contains(" sub=1 psub=2 ssub=0 "),
        "{list}"
    );
    let info = w.ask(me, "INFO clients\nINFO stats");
    for field in ["pubsub_clients:2 ", "pubsub_channels:2 ", "pubsub_patterns:2 ", "pubsubshard_channels:2 "]
    {
        assert!(info.contains(field), "{field} in {info}");
    }
    assert_eq!(w.ask(me, "CLIENT KILL TYPE pubsub"), ":2");
    assert_eq!(w.ask(me, "PUBSUB CHANNELS\nPUBSUB NUMPAT\nPUBLISH a 1"), "*0 :0 :0");
}

#[test]
fn a_slow_listener_is_cut_off_before_its_limit_is_passed() {
    let mut w = World::new(&[("client-output-buffer-limit", "pubsub 10000 0 0")]);
    let (slow, good, me) = (w.connect(), w.connect(), w.connect());
    w.ask(slow, "SUBSCRIBE a");
    w.ask(good, "SUBSCRIBE a");
    let message = format!("PUBLISH a {}", "x".repeat(3_000));
    for n in 0..4 {
        assert_eq!(w.node.clients.len(), 3, "after {n} messages");
        assert_eq!(w.ask(me, &message), ":2");
        assert_eq!(w.replies(good).matches("message").count(), 1);
        assert!(w.node.clients.get(slow).is_none_or(|client| client.owed_bytes() <= 10_000));
    }
    assert_eq!(w.closed, [slow]);
    assert_eq!(w.ask(me, &message), ":1");
    assert!(w.ask(me, "INFO stats").contains("client_output_buffer_limit_disconnections:1"));
    let large = format!("PUBLISH a {}", "x".repeat(20_000));
    assert_eq!(w.ask(me, &large), ":1");
    assert_eq!(w.closed, [slow, good], "one message is too much as well");
}

#[test]
fn a_listener_above_the_soft_limit_for_too_long_is_cut_off() {
    let mut w = World::new(&[("client-output-buffer-limit", "pubsub 0 1000 10")]);
    let (slow, me) = (w.connect(), w.connect());
    w.ask(slow, "SUBSCRIBE a");
    let message = format!("PUBLISH a {}", "x".repeat(2_000));
    w.ask(me, &message);
    w.advance(9_000);
    w.ask(me, &message);
    assert_eq!(w.closed, []);
    w.advance(1_001);
    w.ask(me, &message);
    assert_eq!(w.closed, [slow]);
}

#[test]
fn a_listener_may_be_silent_for_ever() {
    let mut w = World::new(&[("timeout", "10")]);
    let (listens, idles) = (w.connect(), w.connect());
    w.ask(listens, "SUBSCRIBE a");
    w.advance(60_000);
    w.settle();
    assert_eq!(w.closed, [idles]);
}

#[test]
fn names_and_subscriptions_have_limits_and_a_refusal_subscribes_to_nothing() {
    let mut w = world();
    let conn = w.connect();
    let long = "x".repeat(70_000);
    assert_eq!(w.ask(conn, &format!("SUBSCRIBE a {long} b")), "-ERR name is 70000 bytes, limit is 65536");
    assert_eq!(w.ask(conn, "PUBSUB CHANNELS"), "*0");
    w.ask(conn, "HELLO 3\nSUBSCRIBE kept");
    let many: String = (0..300).map(|n| format!("SUBSCRIBE {n}{}\n", "y".repeat(60_000))).collect();
    let replies = w.ask(conn, &many);
    assert!(
        replies.contains("-ERR subscriptions of this connection would take 16"),
        "{}",
        &replies[replies.len() - 200..]
    );
    assert!(w.ask(conn, "PUBLISH kept 1").starts_with(":1"));
    w.node.pubsub.table.assert_invariants();
}
