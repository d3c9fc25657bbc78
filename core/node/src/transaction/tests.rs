//! Transactions against whole nodes: what goes in, and every byte that comes out.

use crate::testing::{Cluster, World, pipeline};

/// What `commands` answer, of one connection of its own.
fn told(settings: &[(&str, &str)], commands: &str) -> String {
    let mut world = World::new(settings);
    let conn = world.connect();
    world.ask(conn, commands)
}

#[test]
fn queued_commands_run_as_one_and_are_answered_together() {
    assert_eq!(
        told(&[], "MULTI\nSET a 1\nINCR a\nGET a\nEXEC\nGET a"),
        "+OK +QUEUED +QUEUED +QUEUED *3 +OK :2 $1 2 $1 2"
    );
    assert_eq!(told(&[], "MULTI\nEXEC\nPING"), "+OK *0 +PONG");
}

#[test]
fn an_error_of_a_command_leaves_the_others_to_run() {
    assert_eq!(
        told(&[], "MULTI\nSET a x\nINCR a\nLPUSH a 1\nGET a\nEXEC"),
        "+OK +QUEUED +QUEUED +QUEUED +QUEUED *4 +OK -ERR value is not an integer or out of range \
         -WRONGTYPE Operation against a key holding the wrong kind of value $1 x"
    );
}

#[test]
fn a_command_that_is_refused_while_it_is_queued_refuses_the_transaction() {
    let refused = "-EXECABORT Transaction discarded because of previous errors.";
    assert_eq!(
        told(&[], "MULTI\nSET a 1\nNOPE\nSET a\nEXEC\nEXISTS a\nEXEC"),
        format!(
            "+OK +QUEUED -ERR unknown command 'NOPE', with args beginning with:  -ERR wrong number of arguments for \
             'set' command {refused} :0 -ERR EXEC without MULTI"
        )
    );
    assert_eq!(
        told(&[], "MULTI\nSAVE\nSUBSCRIBE a\nEXEC"),
        format!("+OK {0} {0} {refused}", "-ERR Command not allowed inside a transaction")
    );
}

#[test]
fn what_steers_a_transaction_at_the_wrong_time_is_told_so_and_changes_nothing() {
    assert_eq!(
        told(&[], "EXEC\nDISCARD\nMULTI\nMULTI\nWATCH a\nSET a 1\nEXEC"),
        "-ERR EXEC without MULTI -ERR DISCARD without MULTI +OK -ERR MULTI calls can not be nested -ERR WATCH inside \
         MULTI is not allowed +QUEUED *1 +OK"
    );
    let bad = "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command";
    assert_eq!(told(&[], "EXEC a\nMULTI\nEXEC a\nEXEC"), format!("{bad} +OK {bad} -ERR EXEC without MULTI"));
}

#[test]
fn discard_and_reset_forget_what_was_queued() {
    assert_eq!(
        told(&[], "MULTI\nSET a 1\nDISCARD\nEXISTS a\nMULTI\nSET a 1\nRESET\nEXISTS a\nEXEC"),
        "+OK +QUEUED +OK :0 +OK +QUEUED +RESET :0 -ERR EXEC without MULTI"
    );
}

#[test]
fn commands_of_the_node_run_in_their_place_when_the_transaction_does() {
    assert_eq!(
        told(
            &[],
            "MULTI\nPING\nSET a 1\nSELECT 3\nSET a 2\nCLIENT SETNAME x\nGET a\nECHO e\nUNWATCH\nEXEC\nGET a\nSELECT 0\nGET a\nCLIENT GETNAME"
        ),
        "+OK +QUEUED +QUEUED +QUEUED +QUEUED +QUEUED +QUEUED +QUEUED +QUEUED *8 +PONG +OK +OK +OK +OK $1 2 $1 e +OK $1 2 \
         +OK $1 1 $1 x"
    );
    assert_eq!(
        told(&[], "MULTI\nPING\nSELECT 99\nEXEC"),
        "+OK +QUEUED +QUEUED *2 +PONG -ERR DB index is out of range"
    );
    assert_eq!(
        told(&[], "MULTI\nSELECT 3\nDISCARD\nSET a 1\nSELECT 0\nGET a"),
        "+OK +QUEUED +OK +OK +OK $1 1",
        "a queued SELECT that was discarded selects nothing"
    );
}

#[test]
fn transactions_in_one_pipeline_with_other_commands_are_answered_in_order() {
    let mut world = World::new(&[]);
    let conn = world.connect();
    let round = "INCR n\nMULTI\nINCR n\nGET n\nEXEC\nGET n\nMULTI\nNOPE\nEXEC\nMULTI\nPING\nGET n\nEXEC";
    world.receive(conn, pipeline(&[round; 3].join("\n")));
    world.settle();
    let expected = (0..3).map(|round| {
        let (first, second) = (2 * round + 1, 2 * round + 2);
        format!(
            ":{first} +OK +QUEUED +QUEUED *2 :{second} $1 {second} $1 {second} +OK -ERR unknown command 'NOPE', with args \
             beginning with:  -EXECABORT Transaction discarded because of previous errors. +OK +QUEUED +QUEUED *2 +PONG \
             $1 {second}"
        )
    });
    assert_eq!(world.replies(conn), expected.collect::<Vec<_>>().join(" "));
}

#[test]
fn replies_that_are_turned_off_are_off_for_transactions() {
    assert_eq!(told(&[], "CLIENT REPLY OFF\nMULTI\nSET a 1\nEXEC\nCLIENT REPLY ON\nGET a"), "+OK $1 1");
    assert_eq!(
        told(&[], "MULTI\nSET a 1\nCLIENT REPLY SKIP\nEXEC\nGET a"),
        "+OK +QUEUED -ERR Command not allowed inside a transaction -EXECABORT Transaction discarded because of previous \
         errors. $-1",
        "an array that lacks a reply would be one that no client can read"
    );
}

#[test]
fn replies_are_those_of_the_protocol_that_is_spoken() {
    let told = told(
        &[],
        "HELLO 3\nMULTI\nHSET h f v\nHGETALL h\nGET none\nEXEC\nWATCH a\nSET a 1\nMULTI\nPING\nEXEC",
    );
    assert!(
        told.ends_with("+OK +QUEUED +QUEUED +QUEUED *3 :1 %1 $1 f $1 v _ +OK +OK +OK +QUEUED _"),
        "{told}"
    );
}

#[test]
fn a_transaction_that_is_too_large_is_refused_while_it_is_queued() {
    let value = "x".repeat(600_000);
    let told = told(
        &[("client-query-buffer-limit", "1mb")],
        &format!("MULTI\nSET a {value}\nSET b {value}\nSET c 1\nEXEC\nEXISTS a b c"),
    );
    assert_eq!(
        told,
        "+OK +QUEUED -ERR commands of the transaction are 1200019 bytes, limit is 1048576 +QUEUED -EXECABORT Transaction \
         discarded because of previous errors. :0"
    );
}

#[test]
fn more_keys_than_there_is_room_for_are_not_watched() {
    let mut world = World::new(&[("client-query-buffer-limit", "1mb")]);
    let conn = world.connect();
    let key = "k".repeat(600_000);
    let told = world.ask(conn, &format!("WATCH a{key}\nWATCH b{key}\nWATCH c\nSET c 1\nMULTI\nPING\nEXEC"));
    assert!(told.starts_with("+OK -ERR watched keys are 12001"), "{told}");
    assert!(told.ends_with(" bytes, limit is 1048576 +OK +OK +OK +QUEUED *-1"), "{told}");
}

#[test]
fn commands_that_need_memory_are_refused_when_there_is_none() {
    let mut world = World::new(&[("maxmemory", "1mb"), ("maxmemory-policy", "noeviction")]);
    let conn = world.connect();
    world.ask(conn, "SET a 1\nMULTI\nSET b 1");
    world.load.memory_used = 2 << 20;
    world.settle();
    let abort = "-EXECABORT Transaction discarded because of";
    assert_eq!(
        world.ask(conn, "EXEC\nMULTI\nDEL a\nEXEC\nMULTI\nSET b 1\nEXEC\nEXISTS b"),
        format!(
            "{abort}: OOM command not allowed when used memory > 'maxmemory'. +OK +QUEUED *1 :1 +OK -OOM command not \
             allowed when used memory > 'maxmemory'. {abort} previous errors. :0"
        )
    );
}

#[test]
fn a_transaction_with_writes_waits_for_the_end_of_a_pause_of_writes() {
    let mut world = World::new(&[]);
    let (conn, other) = (world.connect(), world.connect());
    world.ask(conn, "MULTI\nSET a 1");
    world.ask(other, "CLIENT PAUSE 1000 WRITE");
    assert_eq!(world.ask(conn, "EXEC"), "");
    assert_eq!(world.ask(other, "MULTI\nGET a\nEXEC"), "+OK +QUEUED *1 $-1");
    world.advance(1_001);
    world.settle();
    assert_eq!(world.replies(conn), "*1 +OK");
}

#[test]
fn the_list_of_clients_shows_transactions() {
    let mut world = World::new(&[]);
    let (conn, other) = (world.connect(), world.connect());
    world.ask(conn, "WATCH a b\nMULTI\nSET a 1\nPING");
    let list = world.ask(other, "CLIENT LIST");
    assert!(list.contains("flags=x db=0 sub=0 psub=0 ssub=0 multi=2 watch=2"), "{list}");
    assert!(list.contains("flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 watch=0"), "{list}");
}

#[test]
fn a_watched_key_that_was_touched_stops_the_transaction() {
    for (touch, is_stopped) in [
        ("SET a 1", true),
        ("SET a 0", true),
        ("DEL a", true),
        ("DEL a\nSET a 0", true),
        ("EXPIRE a 100", true),
        ("RENAME a b", true),
        ("RENAME b a", true),
        ("COPY b a REPLACE", true),
        ("MOVE a 1", true),
        ("FLUSHALL", true),
        ("SWAPDB 0 1", true),
        ("RESTORE a 0 x\nGET a\nSET b 2\nDEL none", false),
        ("LPUSH a x\nINCR a x", false),
        ("SELECT 1\nSET a 1\nSELECT 0", false),
    ] {
        let mut world = World::new(&[]);
        let (conn, other) = (world.connect(), world.connect());
        world.ask(other, "SET a 0\nSET b 1");
        world.ask(conn, "WATCH a\nMULTI\nSET done 1");
        world.ask(other, touch);
        let expected = if is_stopped { "*-1" } else { "*1 +OK" };
        assert_eq!(world.ask(conn, "EXEC"), expected, "{touch}");
        assert_eq!(
            world.ask(conn, "MULTI\nSET done 1\nEXEC"),
            "+OK +QUEUED *1 +OK",
            "it watches nothing any more"
        );
    }
}

#[test]
fn a_watched_key_that_is_not_there_and_stays_away_stops_nothing() {
    let mut world = World::new(&[]);
    let (conn, other) = (world.connect(), world.connect());
    assert_eq!(world.ask(conn, "WATCH a\nMULTI\nSET done 1"), "+OK +OK +QUEUED");
    world.ask(other, "FLUSHALL\nDEL a");
    assert_eq!(world.ask(conn, "EXEC\nWATCH a\nMULTI\nPING"), "*1 +OK +OK +OK +QUEUED");
    world.ask(other, "SET a 1");
    assert_eq!(world.ask(conn, "EXEC"), "*-1");
}

#[test]
fn a_watched_key_that_has_expired_stops_the_transaction_swept_or_not() {
    let mut world = World::new(&[]);
    let (conn, other) = (world.connect(), world.connect());
    for sweep in [false, true] {
        world.ask(other, "SET a 1 PX 1000\nHSET h f v g w\nHPEXPIRE h 1000 FIELDS 1 f");
        world.ask(conn, "WATCH a\nMULTI\nSET done 1");
        world.ask(other, "WATCH h\nMULTI\nGET done");
        world.advance(1_001);
        if sweep {
            world.settle();
        }
        assert_eq!((world.ask(conn, "EXEC"), world.ask(other, "EXEC")), ("*-1".into(), "*-1".into()));
        assert_eq!(world.ask(conn, "WATCH a h\nMULTI\nSET done 1\nEXEC"), "+OK +OK +QUEUED *1 +OK");
    }
}

#[test]
fn own_changes_count_until_the_keys_are_watched_again_and_unwatch_ends_it() {
    assert_eq!(told(&[], "WATCH a\nSET a 1\nMULTI\nGET a\nEXEC"), "+OK +OK +OK +QUEUED *-1");
    assert_eq!(
        told(&[], "WATCH a\nSET a 1\nWATCH a\nMULTI\nGET a\nEXEC"),
        "+OK +OK +OK +OK +QUEUED *-1",
        "what it was when it was watched first counts"
    );
    assert_eq!(told(&[], "WATCH a\nSET a 1\nUNWATCH\nMULTI\nGET a\nEXEC"), "+OK +OK +OK +OK +QUEUED *1 $1 1");
    assert_eq!(
        told(&[], "WATCH a\nSET a 1\nMULTI\nDISCARD\nMULTI\nGET a\nEXEC"),
        "+OK +OK +OK +OK +OK +QUEUED *1 $1 1"
    );
}

#[test]
fn a_stopped_transaction_runs_nothing_of_the_node_either() {
    assert_eq!(
        told(
            &[],
            "WATCH a\nSET a 1\nMULTI\nSELECT 3\nCLIENT SETNAME x\nEXEC\nGET a\nCLIENT GETNAME\nWATCH a\nMULTI\nSELECT 3\nEXEC\nGET a"
        ),
        "+OK +OK +OK +QUEUED +QUEUED *-1 $1 1 $-1 +OK +OK +QUEUED *1 +OK $-1"
    );
}

#[test]
fn transactions_and_watches_work_on_any_node_and_through_a_change_of_leaders() {
    let mut cluster = Cluster::of(3, &[]);
    cluster.run(2_000);
    let leader = cluster.leader().unwrap();
    let (one, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let (a, b) = (cluster.node(one).connect(), cluster.node(other).connect());
    assert_eq!(
        cluster.ask(one, a, "MULTI\nSET x 1\nINCR x\nPING\nEXEC"),
        "+OK +QUEUED +QUEUED +QUEUED *3 +OK :2 +PONG"
    );
    assert_eq!(
        cluster.ask(other, b, "MULTI\nGET x\nEXEC\nMULTI\nGET x\nPING\nEXEC"),
        "+OK +QUEUED *1 $1 2 +OK +QUEUED +QUEUED *2 $1 2 +PONG"
    );
    assert_eq!(cluster.ask(one, a, "WATCH x\nMULTI\nINCR x"), "+OK +OK +QUEUED");
    assert_eq!(cluster.ask(other, b, "WATCH x\nMULTI\nINCR x"), "+OK +OK +QUEUED");
    cluster.kill(leader);
    assert_eq!(cluster.ask(one, a, "EXEC\nGET x"), "*1 :3 $1 3", "no change was made");
    assert_eq!(cluster.ask(other, b, "EXEC\nGET x"), "*-1 $1 3", "a change was made");
}
