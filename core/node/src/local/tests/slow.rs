//! `SLOWLOG` and `LATENCY`, with a shell that says how long inputs took.

use crate::testing::{World, pipeline};

fn run(w: &mut World, conn: skep_base::ConnId, commands: &str, nanos: u64) {
    w.node.attribute_time(0);
    w.receive(conn, pipeline(commands));
    w.node.attribute_time(nanos);
    w.settle();
    w.replies(conn);
}

#[test]
fn commands_that_took_long_are_kept_with_their_client() {
    let mut w = World::new(&[]);
    let c = w.connect();
    w.ask(c, "CLIENT SETNAME me");
    run(&mut w, c, "GET a\nKEYS x*\nGET b", 12_000_000);
    run(&mut w, c, "KEYS y*", 9_000_000);
    assert_eq!(
        w.ask(c, "SLOWLOG GET"),
        "*1 *6 :0 :1700000000 :12000 *2 $4 KEYS $2 x* $13 10.0.0.1:5000 $2 me"
    );
    assert_eq!(w.ask(c, "SLOWLOG LEN\nSLOWLOG RESET\nSLOWLOG LEN"), ":1 +OK :0");
    w.ask(c, "CONFIG SET slowlog-log-slower-than -1");
    run(&mut w, c, "KEYS x*", 12_000_000);
    assert_eq!(w.ask(c, "SLOWLOG LEN"), ":0");
}

#[test]
fn a_write_is_noted_where_it_is_applied() {
    let mut w = World::new(&[("durability", "memory"), ("slowlog-log-slower-than", "0")]);
    let c = w.connect();
    w.receive(c, pipeline("SET a 1"));
    w.turn();
    w.node.attribute_time(40_000);
    w.replies(c);
    assert!(w.ask(c, "SLOWLOG GET").contains("*3 $3 SET $1 a $1 1 $13 10.0.0.1:5000"));
}

#[test]
fn of_transactions_and_of_scripts_on_several_shards_the_commands_are_kept_as_their_client_sent_them() {
    let settings = [("shards", "4"), ("durability", "memory"), ("slowlog-log-slower-than", "10000")];
    let mut w = World::new(&settings);
    let admin = w.connect();
    w.ask(admin, "ACL SETUSER ann on >secret ~* +@all -flushall");
    let c = w.connect();
    w.ask(c, "AUTH ann secret");
    let transaction = "MULTI\nGET a\nSORT a\nSET a 1\nEVAL return(1) 1 a\nEXEC";
    for commands in [transaction, "MULTI\nSET a 1\nEXEC", "EVAL return(2) 1 a", "ONCE t EVAL return(3) 1 a"] {
        w.node.attribute_time(0);
        w.receive(c, pipeline(commands));
        w.turn();
        w.node.attribute_time(30_000_000);
        w.replies(c);
    }
    let shown = w.ask(admin, "SLOWLOG GET");
    let logged: Vec<&str> = shown
        .split(" *6 :")
        .skip(1)
        .map(|entry| entry.split_once(" *").unwrap().1.split_once(" $13 10.0.0.").unwrap().0)
        .collect();
    let once = "6 $4 ONCE $1 t $4 EVAL $9 return(3) $1 1 $1 a";
    let in_transaction = ["4 $4 EVAL $9 return(1) $1 1 $1 a", "2 $4 SORT $1 a"];
    let expected = [once, "4 $4 EVAL $9 return(2) $1 1 $1 a", in_transaction[0], in_transaction[1]];
    assert_eq!(logged, expected, "{shown}");
}

#[test]
fn latency_is_sampled_when_a_threshold_is_set() {
    let mut w = World::new(&[]);
    let c = w.connect();
    run(&mut w, c, "KEYS x*", 12_000_000);
    assert_eq!(w.ask(c, "LATENCY LATEST"), "*0");
    assert!(w.ask(c, "LATENCY DOCTOR").contains("Nothing is sampled"));
    w.ask(c, "CONFIG SET latency-monitor-threshold 5");
    run(&mut w, c, "KEYS x*", 12_000_000);
    w.advance(2_000);
    run(&mut w, c, "KEYS x*", 7_000_000);
    assert_eq!(w.ask(c, "LATENCY LATEST"), "*1 *4 $7 command :1700000002 :7 :12");
    assert_eq!(w.ask(c, "LATENCY HISTORY command"), "*2 *2 :1700000000 :12 *2 :1700000002 :7");
    assert_eq!(w.ask(c, "LATENCY HISTORY nothing"), "*0");
    assert!(
        w.ask(c, "LATENCY GRAPH command").contains("command - high 12 ms, low 7 ms (all time high 12 ms)")
    );
    assert!(w.ask(c, "LATENCY GRAPH nothing").starts_with("-ERR No samples available for event 'nothing'"));
    assert!(w.ask(c, "LATENCY DOCTOR").contains("the longest 12 ms"));
    assert_eq!(w.ask(c, "LATENCY RESET nothing\nLATENCY RESET\nLATENCY LATEST"), ":0 :1 *0");
}

#[test]
fn the_calls_of_a_command_are_told_by_how_long_they_took() {
    let mut w = World::new(&[]);
    let c = w.connect();
    run(&mut w, c, "GET a\nGET b", 6_000);
    run(&mut w, c, "GET a", 1_000);
    run(&mut w, c, "GET a", 100_000);
    assert_eq!(
        w.ask(c, "LATENCY HISTOGRAM get nothing"),
        "*2 $3 get *4 $5 calls :4 $14 histogram_usec *6 :1 :1 :4 :3 :128 :4"
    );
}
