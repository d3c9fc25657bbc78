//! Handshakes, order of replies, and limits of a connection.

use crate::testing::{Cluster, World, pipeline};
use crate::{Input, Note};

#[test]
fn a_plain_session() {
    let mut w = World::new(&[]);
    let c = w.connect();
    assert_eq!(w.ask(c, "PING"), "+PONG");
    assert_eq!(w.ask(c, "PING hello\nECHO x"), "$5 hello $1 x");
    assert_eq!(w.ask(c, "SET k v\nGET k\nSELECT 3\nGET k\nSELECT 0\nGET k"), "+OK $1 v +OK $-1 +OK $1 v");
    assert_eq!(w.ask(c, "SELECT 16"), "-ERR DB index is out of range");
    assert_eq!(w.ask(c, "NOSUCH a"), "-ERR unknown command 'NOSUCH', with args beginning with: 'a'");
    assert_eq!(w.ask(c, "PING a b"), "-ERR wrong number of arguments for 'ping' command");
    w.receive(c, "PING inline\r\n");
    w.settle();
    assert_eq!(w.replies(c), "$6 inline");
    assert_eq!(w.ask(c, "QUIT\nPING"), "+OK");
    assert_eq!(w.closed, [c]);
}

#[test]
fn hello_agrees_on_a_protocol() {
    let mut w = World::new(&[]);
    let c = w.connect();
    let facts = |proto| {
        format!(
            "$6 server $5 redis $7 version $5 7.4.2 $5 proto :{proto} $2 id :1 $4 mode $10 standalone $4 role $6 master \
             $7 modules *0"
        )
    };
    assert_eq!(w.ask(c, "HELLO"), format!("*14 {}", facts(2)));
    assert_eq!(w.ask(c, "HELLO 3 SETNAME me"), format!("%7 {}", facts(3)));
    assert_eq!(w.ask(c, "GET k\nCLIENT GETNAME"), "_ $2 me");
    assert_eq!(w.ask(c, "HELLO 4"), "-NOPROTO unsupported protocol version");
    assert_eq!(w.ask(c, "HELLO x"), "-ERR Protocol version is not an integer or out of range");
    assert_eq!(w.ask(c, "HELLO 2 SETNAME"), "-ERR Syntax error in HELLO option 'SETNAME'");
    assert_eq!(w.ask(c, "GET k"), "_", "a refused HELLO changes nothing");
    assert_eq!(w.ask(c, "SELECT 2\nRESET\nGET k\nCLIENT GETNAME"), "+OK +RESET $-1 $-1");
    assert!(w.ask(c, "CLIENT INFO").contains(" db=0 "));
}

#[test]
fn a_password_is_asked_for() {
    let mut w = World::new(&[("requirepass", "secret")]);
    let c = w.connect();
    let denied = "-NOAUTH Authentication required.";
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
    assert_eq!(w.ask(c, "GET k\nPING\nINFO"), [denied; 3].join(" "));
    assert_eq!(w.ask(c, "NOSUCH"), "-ERR unknown command 'NOSUCH', with args beginning with:");
    assert_eq!(w.ask(c, "AUTH nope\nAUTH other secret\nGET k"), [wrong, wrong, denied].join(" "));
    assert!(w.ask(c, "HELLO 3").starts_with("-NOAUTH HELLO must be called"));
    assert_eq!(w.ask(c, "HELLO 3 AUTH default nope"), wrong);
    assert!(w.ask(c, "HELLO 3 AUTH default secret").starts_with("%7 "));
    assert_eq!(w.ask(c, "GET k\nRESET\nGET k"), format!("_ +RESET {denied}"));
    assert_eq!(w.ask(c, "AUTH secret\nGET k\nAUTH default secret"), "+OK $-1 +OK");
    // Whoever is in stays in when the password changes, and everybody is in when there is none.
    assert_eq!(w.ask(c, "CONFIG SET requirepass other\nGET k"), "+OK $-1");
    let d = w.connect();
    assert_eq!(w.ask(d, "AUTH secret"), wrong);
    assert_eq!(w.ask(c, "CONFIG SET requirepass x\nCONFIG GET requirepass"), "+OK *2 $11 requirepass $1 x");
    let removed = pipeline("CONFIG SET requirepass x");
    let removed = String::from_utf8(removed).unwrap().replace("$1\r\nx\r\n", "$0\r\n\r\n");
    w.receive(c, removed);
    w.settle();
    assert_eq!(w.replies(c), "+OK");
    assert_eq!(w.ask(d, "GET k"), "$-1");
    assert!(w.ask(d, "AUTH x").starts_with("-ERR AUTH <password> called without any password"));
}

#[test]
fn replies_keep_the_order_of_the_pipeline() {
    let mut w = World::new(&[]);
    let c = w.connect();
    w.holds_disk = true;
    let commands =
        "GET k\nSET k 1\nGET k\nINCR k\nPING\nNOSUCH\nGET k\nCLIENT SETNAME n\nDEL k\nCLIENT GETNAME\nGET k";
    w.receive(c, pipeline(commands));
    w.settle();
    assert_eq!(w.replies(c), "$-1", "what stands behind a write waits for the disk");
    w.holds_disk = false;
    w.settle();
    let expected =
        "+OK $1 1 :2 +PONG -ERR unknown command 'NOSUCH', with args beginning with:  $1 2 +OK :1 $1 n $-1";
    assert_eq!(w.replies(c), expected);
    assert_eq!(w.ask(c, commands), format!("$-1 {expected}"), "and the same when nothing waits");
}

#[test]
fn a_command_may_come_in_any_pieces() {
    let mut w = World::new(&[]);
    let c = w.connect();
    let bytes = pipeline("SET k hello\nGET k\nPING\nSTRLEN k");
    for size in [1, 3, 7, 20] {
        for piece in bytes.chunks(size) {
            w.receive(c, piece);
        }
        w.settle();
        assert_eq!(w.replies(c), "+OK $5 hello +PONG :5", "pieces of {size}");
    }
}

#[test]
fn clients_do_not_wait_for_each_other() {
    let mut w = World::new(&[]);
    let (a, b) = (w.connect(), w.connect());
    w.holds_disk = true;
    w.receive(a, pipeline("SET k v"));
    w.settle();
    assert_eq!(w.ask(b, "GET k\nPING"), "$-1 +PONG", "a write is not seen before it is durable");
    w.holds_disk = false;
    w.settle();
    assert_eq!(w.replies(a), "+OK");
    assert_eq!(w.ask(b, "GET k"), "$1 v");
}

#[test]
fn a_protocol_error_closes_that_connection_behind_the_replies_owed() {
    let mut w = World::new(&[]);
    let (a, b) = (w.connect(), w.connect());
    let mut bytes = pipeline("SET k v");
    bytes.extend(b"*1\r\n!x\r\n*1\r\n$4\r\nPING\r\n");
    w.receive(a, bytes);
    w.settle();
    assert_eq!(w.replies(a), "+OK -ERR Protocol error: expected '$', got '!'");
    assert_eq!(w.closed, [a]);
    assert_eq!(w.ask(b, "PING"), "+PONG");
}

#[test]
fn a_client_that_sends_too_far_ahead_is_dropped() {
    let mut w = World::new(&[("client-query-buffer-limit", "1048576")]);
    let c = w.connect();
    w.holds_disk = true;
    w.receive(c, pipeline("SET k v\nPING"));
    let ping = pipeline(&"PING\n".repeat(40_000));
    w.receive(c, &ping);
    assert!(w.closed.is_empty());
    w.receive(c, &ping);
    assert_eq!(w.closed, [c]);
    assert!(
        matches!(&w.notes[..], [.., Note::ClientDropped { reason, .. }] if reason.starts_with("query buffer"))
    );
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let mut w = World::new(&[("client-output-buffer-limit", "normal 1000 0 0")]);
    let a = w.connect();
    w.receive(a, pipeline(&"PING\n".repeat(200)));
    assert_eq!(w.closed, [a]);
}

#[test]
fn unread_replies_above_the_soft_limit_are_borne_for_a_while() {
    let mut w = World::new(&[("client-output-buffer-limit", "normal 0 1000 5")]);
    let (a, b) = (w.connect(), w.connect());
    for conn in [a, b] {
        w.receive(conn, pipeline(&"PING\n".repeat(200)));
    }
    w.advance(5_000);
    w.receive(a, pipeline("PING"));
    assert!(w.closed.is_empty());
    w.replies(b);
    w.receive(b, pipeline("PING"));
    w.advance(1);
    w.receive(a, pipeline("PING"));
    w.receive(b, pipeline("PING"));
    assert_eq!(w.closed, [a], "b has read in between");
}

#[test]
fn what_a_gone_client_asked_for_is_carried_out() {
    let mut w = World::new(&[]);
    let (a, b) = (w.connect(), w.connect());
    w.holds_disk = true;
    w.receive(a, pipeline("SET k v\nGET k"));
    w.input(Input::Disconnected { conn: a });
    w.settle();
    w.holds_disk = false;
    w.settle();
    assert_eq!(w.ask(b, "GET k"), "$1 v");
    let again = w.connect();
    assert_ne!(again, a, "a place is given away again, an id never");
    assert_eq!(w.replies(again), "");
}

#[test]
fn a_starting_node_answers_what_needs_no_keys() {
    let mut w = World::starting(&[]);
    let c = w.connect();
    w.receive(c, pipeline("PING\nGET k\nSET k v\nINFO persistence"));
    w.input(Input::Turn(w.load));
    let refused = "-TRYAGAIN the node is starting or stopping; nothing was done";
    let replies = w.replies(c);
    assert!(replies.starts_with(&format!("+PONG {refused} {refused} $")), "{replies}");
    assert!(replies.contains("loading:1"));
    w.settle();
    assert_eq!(w.ask(c, "SET k v"), "+OK");
    assert!(w.ask(c, "INFO persistence").contains("loading:0"));
}

#[test]
fn connections_are_limited() {
    let mut w = World::new(&[("maxclients", "2")]);
    let (a, _) = (w.connect(), w.connect());
    let refused = w.node.admit(0);
    assert_eq!(refused, Err(&b"-ERR max number of clients reached\r\n"[..]));
    w.input(Input::Disconnected { conn: a });
    w.connect();
}

#[test]
fn idle_connections_are_closed_after_the_timeout() {
    let mut w = World::new(&[("timeout", "10")]);
    let (a, b) = (w.connect(), w.connect());
    w.advance(9_000);
    assert_eq!(w.ask(b, "PING"), "+PONG");
    w.advance(1_001);
    w.settle();
    assert_eq!(w.closed, [a]);
}

#[test]
fn the_numbers_of_a_nodes_clients_mean_nobody_at_another() {
    let mut c = Cluster::of(3, &[]);
    c.run(3_000);
    let number = |c: &mut Cluster, node: usize, conn| -> u64 {
        let reply = c.ask(node, conn, "CLIENT ID");
        reply.trim_start_matches(':').parse().expect("a number")
    };
    let conns = [1, 2, 3].map(|node| (node, c.node(node).connect()));
    let numbers = conns.map(|(node, conn)| number(&mut c, node, conn));
    assert!(numbers.iter().any(|number| *number < 100), "those of the first node are small: {numbers:?}");
    assert!(numbers.iter().all(|number| numbers.iter().filter(|other| *other == number).count() == 1));
    for ((node, conn), own) in conns.into_iter().zip(numbers) {
        assert!(own < 1 << 53, "{own}");
        for number in numbers.iter().filter(|number| **number != own) {
            assert_eq!(
                c.ask(node, conn, &format!("CLIENT KILL ID {number}\nCLIENT UNBLOCK {number}")),
                ":0 :0"
            );
            let redirected = c.ask(node, conn, &format!("CLIENT TRACKING on REDIRECT {number}"));
            assert!(redirected.starts_with("-ERR"), "{redirected}");
        }
        assert_eq!(number(&mut c, node, conn), own);
        assert!(c.ask(node, conn, "CLIENT INFO").contains(&format!("id={own} ")));
        assert!(c.ask(node, conn, "HELLO").contains(&format!(" $2 id :{own} ")));
    }
}
