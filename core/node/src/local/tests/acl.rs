//! Users: made, changed, logged in as, denied, deleted.

use crate::testing::{Cluster, World};

const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.";

#[test]
fn users_are_made_and_described_as_in_redis() {
    let mut w = World::new(&[]);
    let c = w.connect();
    assert_eq!(w.ask(c, "ACL WHOAMI\nACL USERS"), "$7 default *1 $7 default");
    assert!(w.ask(c, "ACL LIST").ends_with("user default on nopass sanitize-payload ~* &* +@all"));
    assert_eq!(w.ask(c, "ACL SETUSER ann on >p ~a* %R~b* &c* +@read -get (+set ~z*)"), "+OK");
    let hash = "148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940";
    assert_eq!(
        w.ask(c, "ACL GETUSER ann"),
        format!(
            "*12 $5 flags *2 $2 on $16 sanitize-payload $9 passwords *1 $64 {hash} $8 commands $17 -@all +@read -get \
             $4 keys $9 ~a* %R~b* $8 channels $3 &c* $9 selectors *1 *6 $8 commands $10 -@all +set $4 keys $3 ~z* \
             $8 channels $0"
        )
    );
    assert_eq!(w.ask(c, "ACL GETUSER nobody"), "$-1");
    assert_eq!(w.ask(c, "ACL SETUSER ann ( +get )\nACL SAVE"), "+OK +OK");
    assert!(w.ask(c, "ACL LIST").contains("(~z* resetchannels -@all +set) (resetchannels -@all +get)"));
    for (refused, told) in [
        (
            "ACL SETUSER bob on +nope",
            "-ERR Error in ACL SETUSER modifier '+nope': Unknown command or category name in ACL",
        ),
        ("ACL SETUSER bob (+get", "-ERR Unmatched parenthesis in acl selector starting at '(+get'."),
        ("ACL DELUSER default", "-ERR The 'default' user cannot be removed"),
        ("ACL CAT nope", "-ERR Unknown category 'nope'"),
        ("ACL DRYRUN nobody GET a", "-ERR User 'nobody' not found"),
        ("ACL DRYRUN ann NOPE", "-ERR Command 'NOPE' not found"),
        ("ACL DRYRUN ann GET", "-ERR wrong number of arguments for 'get' command"),
        ("ACL LOG x", "-ERR value is not an integer or out of range"),
    ] {
        assert_eq!(w.ask(c, refused), told);
    }
    assert_eq!(w.ask(c, "ACL USERS"), "*2 $3 ann $7 default", "what is refused makes no user");
    assert_eq!(w.ask(c, "ACL DRYRUN ann MGET a1 b1"), "+OK");
    assert_eq!(w.ask(c, "ACL DRYRUN ann MGET a1 q"), "$49 User ann has no permissions to access the 'q' key");
    assert!(
        w.ask(c, "ACL DRYRUN ann CONFIG GET x").ends_with("no permissions to run the 'config|get' command")
    );
    assert!(w.ask(c, "ACL LOAD").starts_with("-ERR there is no ACL file to load"));
    assert!(w.ask(c, "ACL CAT").starts_with("*22 $8 keyspace $4 read"));
    assert!(w.ask(c, "ACL CAT scripting").starts_with('*'));
    assert!(w.ask(c, "ACL HELP").contains("WHOAMI"));
}

#[test]
fn passwords_drawn_are_as_long_as_asked_for() {
    let mut w = World::new(&[]);
    let c = w.connect();
    let drawn = [w.ask(c, "ACL GENPASS"), w.ask(c, "ACL GENPASS")];
    assert!(drawn[0].starts_with("$64 ") && drawn[0] != drawn[1]);
    assert!(w.ask(c, "ACL GENPASS 5").starts_with("$2 "));
    for bad in ["0", "-1", "4097"] {
        assert!(w.ask(c, &format!("ACL GENPASS {bad}")).starts_with("-ERR ACL GENPASS argument must be"));
    }
}

#[test]
fn a_user_may_do_what_its_rules_say_and_the_rest_is_denied_and_noted() {
    let mut w = World::new(&[]);
    let (c, d) = (w.connect(), w.connect());
    assert_eq!(w.ask(c, "ACL SETUSER ann on >p ~a* +@read +acl|whoami +set +client|list +sort"), "+OK");
    assert_eq!(w.ask(d, "AUTH ann q\nACL WHOAMI"), format!("{WRONG} $7 default"));
    assert_eq!(w.ask(d, "AUTH ann p\nACL WHOAMI\nSET a 1\nGET a"), "+OK $3 ann +OK $1 1");
    let denied =
        |command: &str| format!("-NOPERM User ann has no permissions to run the '{command}' command");
    let key = "-NOPERM No permissions to access a key";
    assert_eq!(
        w.ask(d, "SET a 2\nDEL a\nGET b\nCONFIG GET x"),
        format!("+OK {} {key} {}", denied("del"), denied("config|get"))
    );
    assert_eq!(
        w.ask(d, "SORT a BY w_*"),
        "-ERR BY option of SORT denied due to insufficient ACL permissions."
    );
    assert_eq!(
        w.ask(d, "SORT a GET w_*"),
        "-ERR GET option of SORT denied due to insufficient ACL permissions."
    );
    assert!(w.ask(d, "SORT a BY nosort").starts_with("-WRONGTYPE"));
    assert!(w.ask(d, "CLIENT LIST").contains(" user=ann "));
    let log = w.ask(c, "ACL LOG 1");
    assert!(
        log.contains(
            "$6 reason $7 command $7 context $8 toplevel $6 object $10 config|get $8 username $3 ann"
        ),
        "{log}"
    );
    assert!(
        log.contains(
            "$8 entry-id :3 $17 timestamp-created :1700000000123 $22 timestamp-last-updated :1700000000123"
        ),
        "{log}"
    );
    let log = w.ask(c, "ACL LOG");
    assert!(
        log.starts_with("*4 ") && log.contains("$6 reason $4 auth") && log.contains("$6 object $4 AUTH"),
        "{log}"
    );
    assert_eq!(w.ask(c, "ACL LOG RESET\nACL LOG"), "+OK *0");
    assert_eq!(
        w.ask(d, "HELLO 2 AUTH ann p\nRESET\nACL WHOAMI\nDEL a").split(" +RESET ").last(),
        Some("$7 default :1")
    );
}

#[test]
fn sort_reads_what_its_user_may_not_by_no_script_once_or_transaction_either() {
    let mut w = World::new(&[]);
    let (c, d) = (w.connect(), w.connect());
    let rules = "on >p ~a* +eval +eval_ro +fcall +sort +sort_ro +lpush +once +multi +exec";
    assert_eq!(w.ask(c, &format!("ACL SETUSER ann {rules}\nSET secret:x hidden")), "+OK +OK");
    assert_eq!(w.ask(d, "AUTH ann p\nLPUSH a x"), "+OK :1");
    let sorts = "'sort',KEYS[1],'by','nosort','get','secret:*'";
    for call in [
        &format!("EVAL return(redis.call({sorts})) 1 a")[..],
        "EVAL_RO return(redis.call('sort_ro',KEYS[1],'get','secret:*')) 1 a",
        &format!("ONCE t EVAL return(redis.call({sorts})) 1 a"),
        "ONCE u SORT a BY nosort GET secret:* STORE a2",
        "MULTI\nSORT a BY nosort GET secret:*\nEXEC",
    ] {
        let reply = w.ask(d, call);
        assert!(reply.contains("GET option of SORT denied due to insufficient ACL permissions."), "{reply}");
        assert!(!reply.contains("hidden"), "{call}: {reply}");
    }
    let tried = w.ask(c, "ACL DRYRUN ann SORT a BY nosort GET secret:*");
    assert_eq!(tried, "$62 GET option of SORT denied due to insufficient ACL permissions.");
    assert_eq!(w.ask(c, "ACL SETUSER ann %R~*"), "+OK");
    assert_eq!(w.ask(d, &format!("EVAL return(redis.call({sorts})) 1 a")), "*1 $6 hidden");
    assert_eq!(w.ask(d, "ONCE u SORT a BY nosort GET secret:* STORE a2"), ":1");
}

#[test]
fn what_a_user_may_do_changes_under_its_connections() {
    let mut w = World::new(&[]);
    let (c, d) = (w.connect(), w.connect());
    assert_eq!(w.ask(c, "ACL SETUSER ann on nopass ~* &* +@all"), "+OK");
    assert_eq!(w.ask(d, "AUTH ann x\nSET a 1"), "+OK +OK");
    assert_eq!(w.ask(c, "ACL SETUSER ann off -set"), "+OK");
    assert_eq!(
        w.ask(d, "GET a\nSET a 2"),
        "$1 1 -NOPERM User ann has no permissions to run the 'set' command"
    );
    let e = w.connect();
    assert_eq!(w.ask(e, "AUTH ann x"), WRONG, "who is off may stay and not come");
    assert_eq!(w.ask(c, "ACL DELUSER ann nobody ann"), ":1");
    assert_eq!(w.closed, [d]);
    assert_eq!(w.ask(c, "ACL DELUSER ann"), ":0");
}

#[test]
fn a_user_that_deletes_itself_gets_its_reply_first() {
    let mut w = World::new(&[]);
    let (c, d) = (w.connect(), w.connect());
    assert_eq!(w.ask(c, "ACL SETUSER ann on nopass ~* &* +@all"), "+OK");
    assert_eq!(w.ask(d, "AUTH ann x\nACL DELUSER ann\nPING"), "+OK :1");
    assert_eq!(w.closed, [d]);
}

#[test]
fn who_waits_for_what_it_may_not_take_any_longer_is_closed_and_takes_nothing() {
    let mut w = World::new(&[]);
    let admin = w.connect();
    assert_eq!(
        w.ask(admin, "ACL SETUSER ann on nopass +@all ~*\nACL SETUSER bob on nopass +@all ~*"),
        "+OK +OK"
    );
    assert_eq!(w.ask(admin, "ACL SETUSER eve on nopass +@all ~* -flushall"), "+OK");
    let wait = |w: &mut World, user: &str| {
        let conn = w.connect();
        assert_eq!(w.ask(conn, &format!("AUTH {user} x\nBLPOP jobs 0")), "+OK");
        conn
    };
    let (ann, bob, eve) = (wait(&mut w, "ann"), wait(&mut w, "bob"), wait(&mut w, "eve"));
    assert_eq!(w.ask(admin, "ACL SETUSER eve -flushdb"), "+OK");
    assert_eq!(w.ask(admin, "ACL DELUSER ann\nACL SETUSER bob resetkeys ~other"), ":1 +OK");
    assert_eq!(w.closed, [ann, bob]);
    assert_eq!(w.ask(admin, "RPUSH jobs a b\nLRANGE jobs 0 -1"), ":2 *1 $1 b");
    assert_eq!(w.replies(eve), "*2 $4 jobs $1 a");
}

#[test]
fn who_listens_to_what_it_may_not_hear_any_longer_is_closed() {
    let mut w = World::new(&[]);
    let (c, d, e) = (w.connect(), w.connect(), w.connect());
    assert_eq!(w.ask(c, "ACL SETUSER ann on nopass +@all &a* &p*"), "+OK");
    for listener in [d, e] {
        assert_eq!(w.ask(listener, "AUTH ann x"), "+OK");
    }
    assert_eq!(w.ask(d, "SUBSCRIBE b"), "-NOPERM No permissions to access a channel");
    assert_eq!(w.ask(d, "PSUBSCRIBE pp*"), "-NOPERM No permissions to access a channel");
    assert!(w.ask(d, "SUBSCRIBE a1").starts_with("*3 "));
    assert!(w.ask(e, "PSUBSCRIBE p*").starts_with("*3 "));
    assert_eq!(w.ask(c, "ACL SETUSER ann resetchannels &a*"), "+OK");
    assert_eq!(w.closed, [e]);
}

#[test]
fn what_is_queued_is_checked_when_it_is_queued_and_dropped_if_rights_change() {
    let mut w = World::new(&[]);
    let (c, d) = (w.connect(), w.connect());
    assert_eq!(w.ask(c, "ACL SETUSER ann on nopass ~a* +@all -del"), "+OK");
    assert_eq!(
        w.ask(d, "AUTH ann x\nMULTI\nSET a 1\nSET b 1"),
        "+OK +OK +QUEUED -NOPERM No permissions to access a key"
    );
    assert!(w.ask(d, "EXEC").starts_with("-EXECABORT"));
    assert!(w.ask(c, "ACL LOG").contains("$7 context $5 multi $6 object $1 b"));
    assert_eq!(w.ask(d, "MULTI\nSET a 1"), "+OK +QUEUED");
    assert_eq!(w.ask(c, "ACL SETUSER ann -set"), "+OK");
    assert!(w.ask(d, "EXEC").starts_with("-EXECABORT"));
    assert_eq!(w.ask(d, "GET a"), "$-1");
    assert_eq!(w.ask(c, "MULTI\nACL SETUSER bob").split(' ').next_back(), Some("EXEC"));
}

#[test]
fn a_script_may_do_what_its_user_may() {
    let mut w = World::new(&[]);
    let (c, d) = (w.connect(), w.connect());
    assert_eq!(w.ask(c, "ACL SETUSER ann on nopass ~a* +@all -del"), "+OK");
    assert_eq!(w.ask(d, "AUTH ann x"), "+OK");
    assert_eq!(w.ask(d, "EVAL return{redis.call('set',KEYS[1],ARGV[1]),#ARGV} 1 a v"), "*2 +OK :1");
    assert_eq!(w.ask(d, "EVAL_RO return(redis.call('get',KEYS[1])) 1 a"), "$1 v");
    let denied = w.ask(d, "EVAL return(redis.call('del','a')) 0\nEVAL return(redis.call('get','b')) 0");
    assert!(
        denied.contains("ACL failure in script: User ann has no permissions to run the 'del' command"),
        "{denied}"
    );
    assert!(denied.contains("ACL failure in script: No permissions to access a key"), "{denied}");
    assert_eq!(w.ask(d, "EVAL return{redis.acl_check_cmd('get','a')} 0"), "*1 :1");
    assert_eq!(w.ask(d, "EVAL return{redis.acl_check_cmd('del','a')} 0"), "*1 $-1");
    assert_eq!(
        w.ask(d, "MULTI\nEVAL return(redis.pcall('del','a').err) 0\nEXEC")
            .split(" *1 ")
            .last()
            .map(|r| r.contains("ACL failure")),
        Some(true)
    );
    assert_eq!(w.ask(c, "EVAL return(redis.call('del','a')) 0"), ":1");
}

#[test]
fn connections_of_a_user_are_killed_by_its_name() {
    let mut w = World::new(&[]);
    let (c, d) = (w.connect(), w.connect());
    assert_eq!(w.ask(c, "ACL SETUSER ann on nopass"), "+OK");
    assert_eq!(w.ask(d, "AUTH ann x"), "+OK");
    assert_eq!(w.ask(c, "CLIENT KILL USER nobody"), "-ERR No such user 'nobody'");
    assert_eq!(w.ask(c, "CLIENT KILL USER ann"), ":1");
    assert_eq!(w.closed, [d]);
}

#[test]
fn the_default_user_has_the_password_of_the_settings_until_it_is_changed() {
    let mut w = World::new(&[("requirepass", "secret")]);
    let c = w.connect();
    assert_eq!(w.ask(c, "AUTH secret\nACL SETUSER default >more -flushall"), "+OK +OK");
    let d = w.connect();
    assert_eq!(w.ask(d, "AUTH secret\nAUTH more"), "+OK +OK");
    assert_eq!(w.ask(d, "FLUSHALL"), "-NOPERM User default has no permissions to run the 'flushall' command");
    assert!(
        w.ask(d, "CONFIG SET requirepass x")
            .starts_with("-ERR the passwords of the default user were set by ACL")
    );
    assert_eq!(w.ask(d, "ACL SETUSER default resetpass >new"), "+OK");
    let e = w.connect();
    assert_eq!(w.ask(e, "AUTH secret\nAUTH new"), format!("{WRONG} +OK"));
    assert_eq!(w.ask(d, "ACL SETUSER default nopass"), "+OK");
    let f = w.connect();
    assert_eq!(w.ask(f, "GET a"), "$-1");
    assert_eq!(w.ask(d, "ACL SETUSER default off"), "+OK");
    let g = w.connect();
    assert_eq!(w.ask(g, "GET a\nAUTH default x"), format!("-NOAUTH Authentication required. {WRONG}"));
    assert_eq!(w.ask(f, "GET a"), "$-1", "who is in stays");
}

#[test]
fn a_user_that_one_node_made_is_known_there_at_once_and_on_the_others_soon() {
    let mut c = Cluster::of(3, &[]);
    for number in 1..=3 {
        let conn = c.node(number).connect();
        let made = format!("ACL SETUSER u{number} on >p +@all ~*\nAUTH u{number} p\nSET k{number} 1");
        assert_eq!(c.ask(number, conn, &made), "+OK +OK +OK", "on node {number}");
    }
    c.run(1_000);
    for number in 1..=3 {
        let conn = c.node(number).connect();
        assert!(c.ask(number, conn, "ACL USERS").starts_with("*4 "), "on node {number}");
    }
    let conns = [1, 2, 3].map(|number| (number, c.node(number).connect()));
    for (number, conn) in conns {
        assert_eq!(c.ask(number, conn, "AUTH u1 p"), "+OK");
    }
    let conn = c.node(2).connect();
    assert_eq!(c.ask(2, conn, "ACL DELUSER u1"), ":1");
    c.run(1_000);
    for (number, conn) in conns {
        assert!(c.node(number).closed.contains(&conn), "on node {number}");
    }
}

#[test]
fn users_survive_a_restart() {
    let mut c = Cluster::of(3, &[]);
    let conn = c.node(1).connect();
    assert_eq!(c.ask(1, conn, "ACL SETUSER ann on >p +@all ~*"), "+OK");
    for number in 1..=3 {
        c.restart(number);
        c.run_until("it is back", |c| c.alive().all(|w| w.node.is_ready()));
    }
    for number in 1..=3 {
        let conn = c.node(number).connect();
        assert_eq!(c.ask(number, conn, "AUTH ann p\nACL WHOAMI"), "+OK $3 ann");
    }
}
