//! `CLIENT`: modes of one connection, and what it does to others.

use crate::testing::{World, pipeline};

#[test]
fn names_and_libraries_are_kept() {
    let mut w = World::new(&[]);
    let c = w.connect();
    assert_eq!(w.ask(c, "CLIENT ID\nCLIENT GETNAME"), ":1 $-1");
    assert_eq!(w.ask(c, "CLIENT SETNAME worker:1\nCLIENT GETNAME"), "+OK $8 worker:1");
    assert_eq!(w.ask(c, "CLIENT SETINFO LIB-NAME redis-py(x)\nCLIENT SETINFO lib-ver 8.1.0"), "+OK +OK");
    assert_eq!(w.ask(c, "CLIENT SETINFO lib-foo 1"), "-ERR Unrecognized option 'lib-foo'");
    let spaced = "*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$7\r\nLIB-VER\r\n$3\r\na b\r\n\
                  *3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$3\r\na b\r\n";
    w.receive(c, spaced);
    assert_eq!(
        w.replies(c),
        "-ERR LIB-VER cannot contain spaces, newlines or special characters. \
         -ERR Client names cannot contain spaces, newlines or special characters."
    );
    w.advance(2_500);
    w.ask(c, "SELECT 5\nCLIENT NO-TOUCH on\nCLIENT NO-EVICT ON\nHELLO 3");
    w.advance(1_000);
    let line = w.ask(c, "CLIENT INFO");
    let expected = "id=1 addr=10.0.0.1:5000 laddr=127.0.0.1:7001 fd=-1 name=worker:1 age=3 idle=0 flags=eT db=5 sub=0 \
                    psub=0 ssub=0 multi=-1 watch=0 qbuf=0 qbuf-free=";
    assert!(line.starts_with('='), "{line}");
    assert!(line.contains(&format!("txt:{expected}")), "{line}");
    let end = "obl=0 oll=0 omem=0 tot-mem=";
    assert!(line.contains(" argv-mem=10 multi-mem=0 ") && line.contains(end), "{line}");
    let end = " events=r cmd=client|info user=default redir=-1 resp=3 lib-name=redis-py(x) lib-ver=8.1.0\n";
    assert!(line.ends_with(end.trim_end()), "{line}");
    assert_eq!(w.ask(c, "CLIENT SETNAME \"\"\nCLIENT GETNAME"), "+OK _");
}

#[test]
fn connections_are_listed_by_number_kind_and_id() {
    let mut w = World::new(&[]);
    let (a, b, c) = (w.connect(), w.connect(), w.connect());
    w.input(crate::Input::Disconnected { conn: b });
    let d = w.connect(); // in the place of b
    let ids = |w: &mut World, command: &str| {
        let text = w.ask(a, command);
        let words = text.split_whitespace();
        words.filter_map(|word| word.strip_prefix("id=")).map(|id| id.parse().unwrap()).collect::<Vec<u64>>()
    };
    assert_eq!(ids(&mut w, "CLIENT LIST"), [1, 3, 4]);
    assert_eq!(ids(&mut w, "CLIENT LIST TYPE normal"), [1, 3, 4]);
    assert_eq!(ids(&mut w, "CLIENT LIST TYPE pubsub"), Vec::<u64>::new());
    assert_eq!(ids(&mut w, "CLIENT LIST ID 4 2 1"), [1, 4]);
    assert_eq!(w.ask(a, "CLIENT LIST TYPE foo"), "-ERR Unknown client type 'foo'");
    assert_eq!(w.ask(a, "CLIENT LIST ID x"), "-ERR Invalid client ID");
    assert_eq!(w.ask(a, "CLIENT LIST ID\nCLIENT LIST x y"), "-ERR syntax error -ERR syntax error");
    assert_eq!((w.ask(c, "CLIENT ID"), w.ask(d, "CLIENT ID")), (":3".into(), ":4".into()));
}

#[test]
fn connections_are_killed_by_filter() {
    let mut w = World::new(&[]);
    let me = w.connect();
    let others: Vec<_> = (0..4).map(|_| w.connect()).collect();
    for (command, error) in [
        ("ID 0", "ERR client-id should be greater than 0"),
        ("ID x", "ERR client-id should be greater than 0"),
        ("TYPE foo", "ERR Unknown client type 'foo'"),
        ("USER foo", "ERR No such user 'foo'"),
        ("SKIPME foo", "ERR syntax error"),
        ("ID 5 ADDR", "ERR syntax error"),
        ("MAXAGE x", "ERR maxage is not an integer or out of range"),
        ("MAXAGE 0", "ERR maxage should be greater than 0"),
        ("10.9.9.9:1", "ERR No such client"),
    ] {
        assert_eq!(w.ask(me, &format!("CLIENT KILL {command}")), format!("-{error}"));
    }
    assert!(w.closed.is_empty());
    assert_eq!(w.ask(me, "CLIENT KILL 10.0.0.2:5000"), "+OK");
    assert_eq!(w.ask(me, "CLIENT KILL ID 3\nCLIENT KILL ID 3"), ":1 :0");
    assert_eq!(w.closed, others[..2]);
    assert_eq!(w.ask(me, "CLIENT KILL ADDR 10.0.0.4:5000 LADDR 127.0.0.1:1"), ":0");
    assert_eq!(w.ask(me, "CLIENT KILL TYPE pubsub\nCLIENT KILL MAXAGE 1"), ":0 :0");
    w.advance(1_000);
    assert_eq!(w.ask(me, "CLIENT KILL MAXAGE 1 USER default SKIPME yes"), ":2");
    assert_eq!(w.closed, others);
    // Oneself last: the reply goes out, and nothing behind it is run.
    assert_eq!(w.ask(me, "CLIENT KILL TYPE normal SKIPME no\nPING"), ":1");
    assert_eq!(w.closed.last(), Some(&me));
}

#[test]
fn a_killed_client_waits_for_nothing() {
    let mut w = World::new(&[]);
    let (a, b) = (w.connect(), w.connect());
    w.holds_disk = true;
    w.receive(b, pipeline("SET k v\nPING"));
    w.settle();
    assert_eq!(w.ask(a, "CLIENT KILL ID 2"), ":1");
    w.holds_disk = false;
    w.settle();
    assert_eq!((w.ask(a, "GET k"), w.replies(b)), ("$1 v".into(), "".into()));
}

#[test]
fn replies_can_be_turned_off_and_on() {
    let mut w = World::new(&[]);
    let c = w.connect();
    assert_eq!(w.ask(c, "CLIENT REPLY SKIP\nPING\nPING a"), "$1 a");
    assert_eq!(w.ask(c, "CLIENT REPLY SKIP\nSET k v\nGET k"), "$1 v");
    assert_eq!(
        w.ask(c, "CLIENT REPLY SKIP\nNOSUCH\nCLIENT REPLY SKIP\nCLIENT REPLY SKIP\nPING\nPING b"),
        "$1 b"
    );
    assert_eq!(w.ask(c, "CLIENT REPLY OFF\nPING\nSET k w\nGET k\nNOSUCH\nGET\nCLIENT REPLY SKIP"), "");
    assert_eq!(w.ask(c, "GET k\nCLIENT REPLY ON\nGET k"), "+OK $1 w");
    assert_eq!(w.ask(c, "CLIENT REPLY SKIP\nCLIENT REPLY ON\nPING"), "+OK +PONG");
    assert_eq!(w.ask(c, "CLIENT REPLY OFF\nRESET\nPING"), "+RESET +PONG");
    assert_eq!(w.ask(c, "CLIENT REPLY foo"), "-ERR syntax error");
}

#[test]
fn a_pause_holds_commands_back_until_it_is_over() {
    let mut w = World::new(&[]);
    let (a, b) = (w.connect(), w.connect());
    assert_eq!(w.ask(a, "CLIENT PAUSE 100 WRITE"), "+OK");
    assert_eq!(w.ask(b, "GET k\nSET k v\nGET k"), "$-1");
    w.advance(99);
    w.settle();
    assert_eq!(w.replies(b), "");
    assert_eq!(w.node.next_wakeup(), Some(w.now.mono.plus(1)));
    w.advance(1);
    w.settle();
    assert_eq!(w.replies(b), "+OK $1 v");
}

#[test]
fn a_pause_of_writes_holds_messages_and_scripts_that_may_write_as_well() {
    let mut w = World::new(&[]);
    let a = w.connect();
    assert_eq!(w.ask(a, "CLIENT PAUSE 100 WRITE"), "+OK");
    let asked = ["PUBLISH c m", "SPUBLISH c m", "EVAL return(1) 0"].map(|command| {
        let conn = w.connect();
        assert_eq!(w.ask(conn, command), "", "{command} waits");
        conn
    });
    assert_eq!(w.ask(a, "EVAL_RO return(1) 0\nGET k"), ":1 $-1", "what only reads goes on");
    w.advance(100);
    w.settle();
    assert_eq!(asked.map(|conn| w.replies(conn)), [":0", ":0", ":1"]);
}

#[test]
fn a_pause_of_all_is_ended_by_unpause() {
    let mut w = World::new(&[]);
    let (a, b) = (w.connect(), w.connect());
    assert_eq!(w.ask(a, "CLIENT PAUSE 1000\nCLIENT PAUSE 10 WRITE"), "+OK +OK");
    assert_eq!(w.ask(b, "PING\nSET k v\nPING x"), "");
    w.advance(500);
    assert_eq!(w.ask(b, "GET k"), "", "the longer and wider pause holds");
    assert_eq!(w.ask(a, "CLIENT UNPAUSE"), "+OK");
    w.settle();
    assert_eq!(w.replies(b), "+PONG +OK $1 x $1 v");
    for (command, error) in [
        ("x", "timeout is not an integer or out of range"),
        ("-1", "timeout is negative"),
        ("1 foo", "CLIENT PAUSE mode must be WRITE or ALL"),
    ] {
        assert_eq!(w.ask(a, &format!("CLIENT PAUSE {command}")), format!("-ERR {error}"));
    }
}

#[test]
fn what_does_not_exist_yet_is_answered_as_not_in_use() {
    let mut w = World::new(&[]);
    let c = w.connect();
    assert_eq!(w.ask(c, "CLIENT GETREDIR\nCLIENT UNBLOCK 7\nCLIENT UNBLOCK 7 ERROR"), ":-1 :0 :0");
    assert_eq!(w.ask(c, "CLIENT UNBLOCK x"), "-ERR value is not an integer or out of range");
    assert_eq!(w.ask(c, "CLIENT UNBLOCK 1 x"), "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
    assert_eq!(w.ask(c, "CLIENT TRACKINGINFO"), "*6 $5 flags *1 $3 off $8 redirect :-1 $8 prefixes *0");
    w.ask(c, "HELLO 3");
    assert_eq!(w.ask(c, "CLIENT TRACKINGINFO"), "%3 $5 flags ~1 $3 off $8 redirect :-1 $8 prefixes *0");
    // redis-py and node-redis send this first, and go on after the error.
    assert_eq!(
        w.ask(c, "CLIENT MAINT_NOTIFICATIONS ON\nPING"),
        "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP. +PONG"
    );
    let help = w.ask(c, "client help");
    assert!(help.contains("+CLIENT <subcommand> [") && help.contains("PAUSE timeout [WRITE"), "{help}");
}
