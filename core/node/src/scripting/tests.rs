//! Scripts against whole nodes: what goes in, and every byte that comes out.

use skep_base::ConnId;

use crate::Note;
use crate::testing::{Cluster, World};

/// Sends one command whose words may hold blanks, and gives the reply.
fn ask(world: &mut World, conn: ConnId, words: &[&str]) -> String {
    world.receive(conn, call(words));
    world.settle();
    world.replies(conn)
}

fn call(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    skep_resp::write_command(&mut bytes, words.iter().map(|w| w.as_bytes()));
    bytes
}

/// The same in a cluster.
fn ask_one(cluster: &mut Cluster, number: usize, conn: ConnId, words: &[&str]) -> String {
    cluster.node(number).receive(conn, call(words));
    for _ in 0..2_000 {
        cluster.step();
        let replies = cluster.node(number).replies(conn);
        if !replies.is_empty() {
            return replies;
        }
    }
    panic!("{words:?} was not answered")
}

const SET: &str = "return redis.call('set', KEYS[1], ARGV[1])";
const NO_SCRIPT: &str = "-NOSCRIPT No matching script. Please use EVAL.";

#[test]
fn scripts_run_and_are_known_by_name_afterwards() {
    let mut world = World::new(&[]);
    let conn = world.connect();
    let sha = ask(&mut world, conn, &["SCRIPT", "LOAD", "return {1, 'two', redis.call('get', KEYS[1])}"]);
    let sha = sha.strip_prefix("$40 ").unwrap().to_owned();
    assert_eq!(ask(&mut world, conn, &["EVAL", SET, "1", "k", "v"]), "+OK");
    assert_eq!(ask(&mut world, conn, &["EVALSHA", &sha, "1", "k"]), "*3 :1 $3 two $1 v");
    assert_eq!(ask(&mut world, conn, &["EVALSHA_RO", &sha.to_uppercase(), "1", "k"]), "*3 :1 $3 two $1 v");
    let set_sha = skep_script::Sha::of(SET.as_bytes()).to_string();
    assert_eq!(ask(&mut world, conn, &["EVALSHA", &set_sha, "1", "k", "w"]), "+OK");
    assert_eq!(ask(&mut world, conn, &["SCRIPT", "EXISTS", &sha, &set_sha, "x"]), "*3 :1 :1 :0");
    assert_eq!(ask(&mut world, conn, &["SCRIPT", "FLUSH"]), "+OK");
    assert_eq!(ask(&mut world, conn, &["EVALSHA", &sha, "1", "k"]), NO_SCRIPT);
    assert_eq!(ask(&mut world, conn, &["EVALSHA_RO", &sha, "1", "k"]), NO_SCRIPT);
}

#[test]
fn a_read_only_script_is_known_afterwards_and_may_not_write() {
    let mut world = World::new(&[]);
    let conn = world.connect();
    let get = "return redis.call('get', KEYS[1])";
    let sha = skep_script::Sha::of(get.as_bytes()).to_string();
    assert_eq!(ask(&mut world, conn, &["EVAL_RO", get, "1", "k"]), "$-1");
    let entries = world.node.applied_index();
    assert_eq!(ask(&mut world, conn, &["EVALSHA_RO", &sha, "1", "k"]), "$-1");
    assert_eq!(ask(&mut world, conn, &["EVAL_RO", get, "1", "k"]), "$-1");
    assert_eq!(world.node.applied_index(), entries, "what is known is read without an entry");
    let refused = ask(&mut world, conn, &["EVAL_RO", SET, "1", "k", "v"]);
    assert!(refused.starts_with("-ERR Write commands are not allowed from read-only scripts."), "{refused}");
    let no_writes = "#!lua flags=no-writes\nreturn redis.call('get', KEYS[1])";
    assert_eq!(ask(&mut world, conn, &["EVAL", no_writes, "1", "k"]), "$-1");
    let entries = world.node.applied_index();
    assert_eq!(ask(&mut world, conn, &["EVAL", no_writes, "1", "k"]), "$-1");
    assert_eq!(world.node.applied_index(), entries);
}

#[test]
fn what_is_wrong_with_a_call_is_told() {
    let mut world = World::new(&[]);
    let conn = world.connect();
    let mut told = |words: &[&str]| ask(&mut world, conn, words);
    assert_eq!(told(&["EVAL", "return 1", "x"]), "-ERR value is not an integer or out of range");
    assert_eq!(told(&["EVAL", "return 1", "-1"]), "-ERR Number of keys can't be negative");
    assert_eq!(told(&["EVAL", "return 1", "1"]), "-ERR Number of keys can't be greater than number of args");
    assert!(told(&["EVAL", "return", "0", "a"]).starts_with("$-1"));
    assert!(told(&["EVAL", "=", "0"]).starts_with("-ERR Error compiling script (new function)"));
    assert!(told(&["SCRIPT", "LOAD", "="]).starts_with("-ERR Error compiling script (new function)"));
    assert_eq!(told(&["FCALL", "f", "0"]), "-ERR Function not found");
    assert_eq!(told(&["SCRIPT", "KILL"]), "-NOTBUSY No scripts in execution right now.");
    assert_eq!(told(&["FUNCTION", "KILL"]), "-NOTBUSY No scripts in execution right now.");
    assert_eq!(told(&["SCRIPT", "DEBUG", "NO"]), "+OK");
    assert!(told(&["SCRIPT", "DEBUG", "YES"]).starts_with("-ERR there is no debugger"));
    assert_eq!(told(&["SCRIPT", "FLUSH", "x"]), "-ERR SCRIPT FLUSH only support SYNC|ASYNC option");
    let inner = told(&["EVAL", "return redis.call('eval', 'return 1', 0)", "0"]);
    assert!(inner.starts_with("-ERR This Redis command is not allowed from script"), "{inner}");
}

#[test]
fn a_script_that_does_not_end_is_ended_and_what_it_did_stays() {
    let mut world = World::new(&[]);
    let conn = world.connect();
    let reply = ask(&mut world, conn, &["EVAL", "redis.call('set', 'k', 'v') while true do end", "1", "k"]);
    assert!(reply.starts_with("-ERR script ran out of steps"), "{reply}");
    assert_eq!(world.ask(conn, "GET k"), "$1 v");
}

#[test]
fn time_stands_still_in_a_script_and_chance_is_not_the_same_in_the_next() {
    let mut world = World::new(&[]);
    let conn = world.connect();
    let script = "local a = redis.call('time') redis.call('set', 'x', 1) local b = redis.call('time') \
                  return {a[1] == b[1] and a[2] == b[2], a[1]}";
    let now = world.now.wall.0 / 1_000;
    assert_eq!(ask(&mut world, conn, &["EVAL", script, "0"]), format!("*2 :1 $10 {now}"));
    let random = ["EVAL", "return tostring(math.random())", "0"];
    assert_ne!(ask(&mut world, conn, &random), ask(&mut world, conn, &random));
}

#[test]
fn a_script_uses_the_database_and_the_protocol_of_its_client_and_changes_neither() {
    let mut world = World::new(&[]);
    let conn = world.connect();
    world.ask(conn, "SELECT 3");
    assert_eq!(ask(&mut world, conn, &["EVAL", SET, "1", "k", "v"]), "+OK");
    assert_eq!(world.ask(conn, "GET k\nSELECT 0\nGET k\nSELECT 3"), "$1 v +OK $-1 +OK");
    let select = "redis.call('select', 5) redis.call('set', 'k', 'five') return redis.call('get', 'k')";
    assert_eq!(ask(&mut world, conn, &["EVAL", select, "0"]), "$4 five");
    assert_eq!(world.ask(conn, "GET k"), "$1 v");
    world.ask(conn, "HELLO 3");
    assert_eq!(
        ask(&mut world, conn, &["EVAL", "redis.setresp(3) return {false, 3.5, {double = 3.5}}", "0"]),
        "*3 #f :3 ,3.5"
    );
}

#[test]
fn what_scripts_log_is_told_by_the_node_that_leads_alone() {
    let mut cluster = Cluster::of(3, &[]);
    cluster.run(2_000);
    let leader = cluster.leader().unwrap();
    let other = leader % 3 + 1;
    let conn = cluster.node(other).connect();
    let words = ["EVAL", "redis.log(redis.LOG_WARNING, 'careful') return 1", "1", "k"];
    assert_eq!(ask_one(&mut cluster, other, conn, &words), ":1");
    cluster.run(1_000);
    let said = |c: &Cluster| -> Vec<usize> {
        let of = |w: &crate::testing::World| {
            w.notes
                .iter()
                .filter(|n| matches!(n, Note::Script { level: 3, text } if text == "careful"))
                .count()
        };
        c.alive().map(of).collect()
    };
    assert_eq!(said(&cluster).iter().sum::<usize>(), 1, "{:?}", said(&cluster));
    assert_eq!(said(&cluster)[leader - 1], 1);
}

#[test]
fn scripts_without_memory_are_refused_unless_they_say_that_they_need_none() {
    let mut world = World::new(&[("maxmemory", "1mb"), ("maxmemory-policy", "noeviction")]);
    let conn = world.connect();
    let frees = "#!lua flags=allow-oom\nreturn redis.call('del', KEYS[1])";
    ask(&mut world, conn, &["EVAL", frees, "1", "k"]);
    world.load.memory_used = 2 << 20;
    world.settle();
    let refused = "-OOM command not allowed when used memory > 'maxmemory'.";
    let sets = format!("#!lua\n{SET}");
    assert_eq!(ask(&mut world, conn, &["EVAL", &sets, "1", "k", "v"]), refused);
    assert_eq!(ask(&mut world, conn, &["EVAL", frees, "1", "k"]), ":0");
    assert_eq!(ask(&mut world, conn, &["EVAL_RO", "return 1", "0"]), ":1");
    assert_eq!(ask(&mut world, conn, &["GET", "k"]), "$-1");
    world.load.memory_used = 0;
    world.settle();
    assert_eq!(ask(&mut world, conn, &["EVAL", &sets, "1", "k", "v"]), "+OK");
    world.load.memory_used = 2 << 20;
    world.settle();
    assert_eq!(ask(&mut world, conn, &["EVAL", &sets, "1", "k", "w"]), refused, "known by then");
    assert_eq!(ask(&mut world, conn, &["GET", "k"]), "$1 v");
}

#[test]
fn a_script_without_flags_is_refused_its_first_write_that_needs_memory() {
    let mut world = World::new(&[("maxmemory", "1mb"), ("maxmemory-policy", "noeviction")]);
    let conn = world.connect();
    world.load.memory_used = 2 << 20;
    world.settle();
    let refused = "OOM command not allowed when used memory > 'maxmemory'.";
    let told = ask(&mut world, conn, &["EVAL", SET, "1", "k", "v"]);
    assert!(told.starts_with(&format!("-{refused} script: ")), "{told}");
    let caught = "local got = redis.pcall('set', KEYS[1], 'v') return got.err";
    assert_eq!(ask(&mut world, conn, &["EVAL", caught, "1", "k"]), format!("$55 {refused}"));
    assert_eq!(ask(&mut world, conn, &["EVAL", "return redis.call('exists', KEYS[1])", "1", "k"]), ":0");
    let told =
        ask(&mut world, conn, &["EVAL", "redis.pcall('set', 'k', 1) return redis.call('set', 'k', 2)", "0"]);
    assert!(told.starts_with(&format!("-{refused}")), "a write that was refused is none: {told}");
    let begun = "redis.call('del', 'none') return redis.call('set', KEYS[1], 'v')";
    assert_eq!(ask(&mut world, conn, &["EVAL", begun, "1", "k"]), "+OK", "it is not stopped halfway");
    assert_eq!(ask(&mut world, conn, &["GET", "k"]), "$1 v");
    let sha = skep_script::Sha::of(SET.as_bytes()).to_string();
    let told = ask(&mut world, conn, &["EVALSHA", &sha, "1", "k", "w"]);
    assert!(told.starts_with(&format!("-{refused}")), "{told}");
    assert_eq!(ask(&mut world, conn, &["CONFIG", "SET", "maxmemory", "0"]), "+OK");
    assert_eq!(ask(&mut world, conn, &["EVALSHA", &sha, "1", "k", "w"]), "+OK");
}

#[test]
fn a_token_is_not_used_by_a_script_for_which_there_is_no_memory() {
    let mut world = World::new(&[("maxmemory", "1mb"), ("maxmemory-policy", "noeviction")]);
    let conn = world.connect();
    let flagged = format!("#!lua flags=allow-oom\n{SET}");
    let refused = "-OOM command not allowed when used memory > 'maxmemory'.";
    for (token, script) in [("t", SET), ("u", &flagged)] {
        let words = ["ONCE", token, "EVAL", script, "1", "k", token];
        // There is room when it is taken in, and none when its entry is made.
        world.load.memory_used = 0;
        world.settle();
        world.receive(conn, call(&words));
        world.load.memory_used = 2 << 20;
        world.settle();
        assert_eq!(world.replies(conn), refused);
        assert_eq!(ask(&mut world, conn, &words), refused, "nor later");
        world.load.memory_used = 0;
        world.settle();
        assert_eq!(ask(&mut world, conn, &words), "+OK", "the token is unused");
        let used = ["ONCE", token, "EVAL", script, "1", "k", "other"];
        assert_eq!(ask(&mut world, conn, &used), "-ERR token was used for another command");
        assert_eq!(ask(&mut world, conn, &["GET", "k"]), format!("$1 {token}"));
    }
}

#[test]
fn what_was_admitted_is_not_counted_twice_against_its_own_entry() {
    let limit = 1 << 20;
    let mut world = World::new(&[("maxmemory", "1mb"), ("maxmemory-policy", "noeviction")]);
    let conn = world.connect();
    world.load.memory_used = limit - 10;
    world.settle();
    assert_eq!(ask(&mut world, conn, &["EVAL", SET, "1", "k", "v"]), "+OK", "there was room for it");
    assert_eq!(ask(&mut world, conn, &["ONCE", "t", "EVAL", SET, "1", "k", "v"]), "+OK");
    // What comes when the room is used up is refused, though nothing more is held yet.
    world.receive(conn, call(&["SET", "k", "0123456789"]));
    world.receive(conn, call(&["EVAL", SET, "1", "k", "v"]));
    world.settle();
    let told = world.replies(conn);
    assert!(told.starts_with("+OK -OOM"), "{told}");
    for (used, begins) in [(limit - 10, "*1 +OK"), (limit + 1, "*1 -OOM")] {
        world.load.memory_used = used;
        world.settle();
        world.receive(conn, call(&["MULTI"]));
        world.receive(conn, call(&["EVAL", SET, "1", "k", "v"]));
        world.settle();
        world.receive(conn, call(&["EXEC"]));
        world.settle();
        let told = world.replies(conn);
        assert!(told.starts_with(&format!("+OK +QUEUED {begins}")), "{told}");
    }
}

#[test]
fn whether_there_is_memory_for_a_script_is_up_to_the_leader_and_the_same_on_all_replicas() {
    let mut c = Cluster::of(3, &[("maxmemory", "1mb"), ("maxmemory-policy", "noeviction")]);
    c.run(3_000);
    let leader = c.leader().expect("one leads");
    let other = if leader == 1 { 2 } else { 1 };
    let script = "local got = redis.pcall('set', KEYS[1], 'v') redis.call('del', 'none') redis.call('set', KEYS[2], \
                  'v') return got.err or 'set'";
    let conn = c.node(other).connect();
    for (full, reply) in
        [(leader, "$55 OOM command not allowed when used memory > 'maxmemory'."), (other, "$3 set")]
    {
        for node in 1..=3 {
            c.node(node).load.memory_used = if node == full { 2 << 20 } else { 0 };
        }
        c.run(100);
        assert_eq!(ask_one(&mut c, other, conn, &["EVAL", script, "2", "{k}1", "{k}2"]), reply);
        c.run(500);
        let digests: Vec<u64> =
            c.alive().map(|w| w.node.shards[0].replica.as_ref().unwrap().keyspace.digest()).collect();
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    }
}

#[test]
fn scripts_in_transactions_and_under_tokens_run_like_other_writes() {
    let mut world = World::new(&[]);
    let conn = world.connect();
    world.ask(conn, "MULTI");
    assert_eq!(ask(&mut world, conn, &["EVAL", SET, "1", "k", "v"]), "+QUEUED");
    world.ask(conn, "GET k");
    assert_eq!(world.ask(conn, "EXEC"), "*2 +OK $1 v");
    let count = "return redis.call('incr', KEYS[1])";
    assert_eq!(ask(&mut world, conn, &["ONCE", "t", "EVAL", count, "1", "n"]), ":1");
    assert_eq!(ask(&mut world, conn, &["ONCE", "t", "EVAL", count, "1", "n"]), ":1");
    assert_eq!(
        ask(&mut world, conn, &["ONCE", "u", "EVAL", count, "0"]),
        "-ERR ONCE cannot run 'eval': it has no keys"
    );
    let take = "redis.call('qadd', KEYS[1], 'job') return redis.call('qtake', 1, KEYS[1])";
    let taken = ask(&mut world, conn, &["EVAL", take, "1", "q"]);
    assert!(taken.contains("job"), "{taken}");
    assert!(
        ask(&mut world, conn, &["EVAL", "return redis.call('once', 'v', 'incr', 'n')", "1", "n"]) == ":2"
    );
}

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('put', function(keys, args) return redis.call('set', keys[1], \
                       args[1]) end)\nredis.register_function{function_name='look', callback=function(keys) return \
                       redis.call('get', keys[1]) end, flags={'no-writes'}, description='looks'}";

#[test]
fn functions_are_loaded_called_listed_dumped_and_removed() {
    let mut world = World::new(&[]);
    let conn = world.connect();
    let mut told = |words: &[&str]| ask(&mut world, conn, words);
    assert_eq!(told(&["FUNCTION", "LOAD", LIBRARY]), "$3 lib");
    assert_eq!(told(&["FUNCTION", "LOAD", LIBRARY]), "-ERR Library 'lib' already exists");
    assert_eq!(told(&["FUNCTION", "LOAD", "REPLACE", LIBRARY]), "$3 lib");
    assert_eq!(told(&["FUNCTION", "LOAD", "x", LIBRARY]), "-ERR Unknown option given: x");
    assert_eq!(told(&["FCALL", "put", "1", "k", "v"]), "+OK");
    assert_eq!(told(&["FCALL_RO", "look", "1", "k"]), "$1 v");
    assert_eq!(
        told(&["FCALL_RO", "put", "1", "k", "v"]),
        "-ERR Can not execute a script with write flag using *_ro command."
    );
    assert_eq!(
        told(&["FUNCTION", "LIST"]),
        "*1 *6 $12 library_name $3 lib $6 engine $3 LUA $9 functions *2 *6 $4 name $4 look $11 description $5 looks $5 flags \
         *1 +no-writes *6 $4 name $3 put $11 description $-1 $5 flags *0"
    );
    assert_eq!(told(&["FUNCTION", "LIST", "LIBRARYNAME", "x*"]), "*0");
    assert_eq!(
        told(&["FUNCTION", "STATS"]),
        "*4 $14 running_script $-1 $7 engines *2 $3 LUA *4 $15 libraries_count :1 $15 functions_count :2"
    );
    assert_eq!(told(&["FUNCTION", "DELETE", "lib"]), "+OK");
    assert_eq!(told(&["FUNCTION", "DELETE", "lib"]), "-ERR Library not found");
    assert_eq!(told(&["FUNCTION", "FLUSH", "ASYNC"]), "+OK");
    assert_eq!(told(&["FUNCTION", "RESTORE", "x"]), "-ERR DUMP payload version or checksum are wrong");
}

#[test]
fn a_dump_of_functions_is_restored_whole_or_not_at_all() {
    let mut world = World::new(&[]);
    let conn = world.connect();
    ask(&mut world, conn, &["FUNCTION", "LOAD", LIBRARY]);
    world.receive(conn, call(&["FUNCTION", "DUMP"]));
    world.settle();
    let unsent = world.node.unsent(conn).to_vec();
    world.node.on_sent(conn, unsent.len());
    let start = unsent.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let dump = &unsent[start..unsent.len() - 2];
    let restore = |world: &mut World, policy: &[&str]| {
        let mut bytes = Vec::new();
        let words =
            [&b"FUNCTION"[..], b"RESTORE", dump].into_iter().chain(policy.iter().map(|p| p.as_bytes()));
        let words: Vec<&[u8]> = words.collect();
        skep_resp::write_command(&mut bytes, words.iter().copied());
        world.receive(conn, bytes);
        world.settle();
        world.replies(conn)
    };
    assert_eq!(restore(&mut world, &[]), "-ERR Library lib already exists");
    assert_eq!(restore(&mut world, &["REPLACE"]), "+OK");
    ask(
        &mut world,
        conn,
        &["FUNCTION", "LOAD", "#!lua name=other\nredis.register_function('o', function() end)"],
    );
    assert_eq!(restore(&mut world, &["FLUSH"]), "+OK");
    assert_eq!(ask(&mut world, conn, &["FCALL", "o", "0"]), "-ERR Function not found");
    assert_eq!(ask(&mut world, conn, &["FCALL", "put", "1", "k", "v"]), "+OK");
    assert!(restore(&mut world, &["x"]).starts_with("-ERR Wrong restore policy given"));
}

#[test]
fn sort_looks_for_its_patterns_in_its_own_shard_alone() {
    let mut cluster = Cluster::of(3, &[("shards", "3")]);
    cluster.run(3_000);
    let conn = cluster.node(1).connect();
    let mut told = |words: &[&str]| ask_one(&mut cluster, 1, conn, words);
    assert_eq!(told(&["RPUSH", "{t}list", "1", "2"]), ":2");
    assert_eq!(told(&["MSET", "{t}w1", "9", "{t}w2", "5"]), "+OK");
    assert_eq!(
        told(&["SORT", "{t}list", "BY", "{t}w*", "GET", "{t}w*", "GET", "#"]),
        "*4 $1 5 $1 2 $1 9 $1 1"
    );
    assert_eq!(told(&["SORT", "{t}list", "BY", "nosort"]), "*2 $1 1 $1 2");
    let by_script = "return redis.call('sort', KEYS[1], 'get', ARGV[1])";
    assert_eq!(told(&["EVAL", by_script, "1", "{t}list", "{t}w*"]), "*2 $1 9 $1 5");
    for words in [
        &["SORT", "{t}list", "GET", "w*"][..],
        &["SORT_RO", "{t}list", "GET", "#", "GET", "w*"],
        &["ONCE", "token", "SORT", "{t}list", "GET", "w*", "STORE", "{t}other"],
        &["EVAL", by_script, "1", "{t}list", "w*"],
        &["EVAL_RO", &by_script.replace("sort", "sort_ro"), "1", "{t}list", "w*"],
    ] {
        let refused = told(words);
        assert!(refused.contains("ERR the keys of GET w* may be in other shards"), "{words:?}: {refused}");
    }
}

#[test]
fn all_shards_know_what_was_loaded_and_calls_go_to_the_shard_of_their_keys() {
    let mut cluster = Cluster::of(3, &[("shards", "3")]);
    cluster.run(3_000);
    let conn = cluster.node(1).connect();
    let mut told = |words: &[&str]| ask_one(&mut cluster, 1, conn, words);
    let sha = told(&["SCRIPT", "LOAD", SET]);
    let sha = sha.strip_prefix("$40 ").unwrap().to_owned();
    assert_eq!(told(&["FUNCTION", "LOAD", LIBRARY]), "$3 lib");
    for key in ["a", "b", "c", "d", "e", "f"] {
        assert_eq!(told(&["EVALSHA", &sha, "1", key, key]), "+OK");
        assert_eq!(told(&["FCALL", "look", "1", key]), format!("$1 {key}"));
    }
    assert_eq!(told(&["SCRIPT", "EXISTS", &sha, "x"]), "*2 :1 :0");
    assert_eq!(told(&["EVAL", "return 1", "0"]), ":1");
    assert_eq!(told(&["EVAL", "return 1", "x"]), "-ERR value is not an integer or out of range");
    let spread = told(&["EVAL", "return 1", "2", "a", "b"]);
    assert!(spread.contains("commands over several shards are not available"), "{spread}");
    let other = "return redis.call('set', ARGV[1], 'x')";
    for words in [&["EVAL", other, "1", "a", "b"][..], &["ONCE", "token", "EVAL", other, "1", "a", "b"]] {
        let refused = told(words);
        assert!(
            refused.starts_with("-ERR key 'b' is in another shard than the keys of the script"),
            "{refused}"
        );
    }
    assert_eq!(told(&["GET", "b"]), "$1 b");
    assert_eq!(told(&["EVAL", other, "1", "a", "a{a}"]), "+OK");
    assert_eq!(told(&["EVAL_RO", "return redis.call('get', KEYS[1])", "1", "a{a}"]), "$1 x");
    let all = told(&["EVAL", "return redis.call('dbsize')", "1", "a"]);
    assert!(all.starts_with("-ERR dbsize concerns all shards of this cluster"), "{all}");
    assert_eq!(told(&["MULTI"]), "+OK");
    assert_eq!(told(&["EVAL", other, "1", "a", "b"]), "+QUEUED");
    assert_eq!(told(&["SET", "{a}", "1"]), "+QUEUED");
    let done = told(&["EXEC"]);
    assert!(done.starts_with("*2 -ERR key 'b' is in another shard") && done.ends_with("+OK"), "{done}");
    assert_eq!(told(&["MULTI"]), "+OK");
    assert_eq!(told(&["GET", "a"]), "+QUEUED");
    let refused = told(&["GET", "b"]);
    assert!(refused.starts_with("-ERR the keys of get are in shard"), "{refused}");
    assert!(told(&["EXEC"]).starts_with("-EXECABORT"));
    assert_eq!(told(&["FUNCTION", "DELETE", "lib"]), "+OK");
    assert_eq!(told(&["FCALL", "look", "1", "a"]), "-ERR Function not found");
    assert_eq!(told(&["SCRIPT", "FLUSH"]), "+OK");
    for key in ["a", "b", "c"] {
        assert_eq!(told(&["EVALSHA", &sha, "1", key, key]), NO_SCRIPT);
    }
}

#[test]
fn scripts_outlive_a_change_of_leaders_and_replicas_agree_on_what_they_did() {
    let mut cluster = Cluster::of(3, &[]);
    cluster.run(2_000);
    let leader = cluster.leader().unwrap();
    let other = leader % 3 + 1;
    let conn = cluster.node(other).connect();
    let mut told = |words: &[&str]| ask_one(&mut cluster, other, conn, words);
    let random = "for i = 1, 10 do redis.call('sadd', KEYS[1], math.random(1000)) end redis.call('spop', KEYS[1]) return \
                  redis.call('scard', KEYS[1])";
    let first = told(&["EVAL", random, "1", "s"]);
    assert!(first.starts_with(':'), "{first}");
    told(&["FUNCTION", "LOAD", LIBRARY]);
    cluster.kill(leader);
    let sha = skep_script::Sha::of(random.as_bytes()).to_string();
    let mut told = |words: &[&str]| ask_one(&mut cluster, other, conn, words);
    assert!(told(&["EVALSHA", &sha, "1", "s"]).starts_with(':'));
    assert_eq!(told(&["FCALL", "put", "1", "k", "v"]), "+OK");
    cluster.run(1_000);
    let digests: std::collections::BTreeSet<_> = cluster.alive().map(|w| w.node.digests()).collect();
    assert_eq!(digests.len(), 1);
}

const GET: &str = "return redis.call('get', KEYS[1])";
/// Keys of all three shards, several of each.
const SPREAD: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// The name of a script.
fn name_of(source: &str) -> String {
    skep_keyspace::scripts::Sha::of(source.as_bytes()).to_string()
}

#[test]
fn what_eval_ran_on_one_shard_is_called_by_its_name_on_all() {
    // Of five nodes some have no copy of a shard.
    let mut cluster = Cluster::of(5, &[("shards", "3")]);
    cluster.run(5_000);
    let (set, get) = (name_of(SET), name_of(GET));
    let conns: Vec<ConnId> = (1..=5).map(|number| cluster.node(number).connect()).collect();
    let ask_at = |cluster: &mut Cluster, number: usize, words: &[&str]| {
        ask_one(cluster, number, conns[number - 1], words)
    };
    assert_eq!(ask_at(&mut cluster, 1, &["EVALSHA", &set, "1", "a", "1"]), NO_SCRIPT);
    assert_eq!(ask_at(&mut cluster, 1, &["EVAL", SET, "1", "a", "1"]), "+OK");
    assert_eq!(ask_at(&mut cluster, 2, &["EVAL_RO", GET, "1", "a"]), "$1 1");
    for number in 1..=5 {
        assert_eq!(ask_at(&mut cluster, number, &["SCRIPT", "EXISTS", &set, &get, "x"]), "*3 :1 :1 :0");
        assert_eq!(ask_at(&mut cluster, number, &["SCRIPT", "SHOW", &set]), format!("${} {SET}", SET.len()));
    }
    assert_eq!(
        ask_at(&mut cluster, 1, &["SCRIPT", "SHOW", &"0".repeat(40)]),
        "-NOSCRIPT No matching script."
    );
    for key in SPREAD {
        assert_eq!(ask_at(&mut cluster, 3, &["EVALSHA", &set, "1", key, key]), "+OK", "{key}");
        assert_eq!(ask_at(&mut cluster, 4, &["EVALSHA_RO", &get, "1", key]), format!("$1 {key}"));
        assert_eq!(ask_at(&mut cluster, 5, &["EVALSHA", &set, "1", key, "5"]), "+OK", "{key}");
    }
    assert_eq!(ask_at(&mut cluster, 2, &["SCRIPT", "FLUSH"]), "+OK");
    for key in ["a", "b", "c"] {
        assert_eq!(ask_at(&mut cluster, 2, &["EVALSHA", &set, "1", key, key]), NO_SCRIPT);
    }
    for number in [3, 5] {
        // It may still think that all know it, once.
        ask_at(&mut cluster, number, &["EVALSHA", &set, "1", "a", "1"]);
    }
    assert_eq!(ask_at(&mut cluster, 1, &["EVAL", SET, "1", "a", "1"]), "+OK");
    for (number, key) in (1..=5).flat_map(|number| SPREAD.map(|key| (number, key))) {
        assert_eq!(ask_at(&mut cluster, number, &["EVALSHA", &set, "1", key, "2"]), "+OK", "{number} {key}");
    }
}

#[test]
fn a_script_comes_to_its_shard_with_transactions_and_tokens_and_commands_stay_in_order() {
    let mut cluster = Cluster::of(3, &[("shards", "3")]);
    cluster.run(3_000);
    let conn = cluster.node(1).connect();
    let mut told = |words: &[&str]| ask_one(&mut cluster, 1, conn, words);
    let scripts: Vec<String> =
        (0..4).map(|n| format!("return redis.call('append', KEYS[1], ARGV[1]) + {n}")).collect();
    let names: Vec<String> = scripts.iter().map(|script| name_of(script)).collect();
    for script in &scripts {
        assert_eq!(&told(&["EVAL", script, "1", "a", ""])[..1], ":");
    }
    for key in ["b", "c", "d"] {
        assert_eq!(told(&["MULTI"]), "+OK");
        assert_eq!(told(&["APPEND", key, "1"]), "+QUEUED");
        assert_eq!(told(&["EVALSHA", &names[0], "1", key, "2"]), "+QUEUED");
        assert_eq!(told(&["EVALSHA", &names[0], "1", key, "3"]), "+QUEUED");
        assert_eq!(told(&["EXEC"]), "*3 :1 :2 :3");
        let once = ["ONCE", key, "EVALSHA", &names[1], "1", key, "4"];
        assert_eq!((told(&once), told(&once)), (":5".to_owned(), ":5".to_owned()));
        let gone = ["EVALSHA", &"0".repeat(40), "1", key];
        assert_eq!(told(&["MULTI"]), "+OK");
        assert_eq!(told(&gone), "+QUEUED");
        assert_eq!(told(&["EXEC"]), format!("*1 {NO_SCRIPT}"));
    }
    // All in one write of the client.
    let mut bytes = Vec::new();
    for key in ["b", "c", "d"] {
        bytes.extend(call(&["APPEND", key, "5"]));
        bytes.extend(call(&["EVALSHA", &names[2], "1", key, "6"]));
        bytes.extend(call(&["EVALSHA", &names[3], "1", key, "7"]));
        bytes.extend(call(&["GET", key]));
    }
    cluster.node(1).receive(conn, bytes);
    let mut replies = Vec::new();
    for _ in 0..2_000 {
        cluster.step();
        let more = cluster.node(1).replies(conn);
        replies.extend((!more.is_empty()).then_some(more));
    }
    assert_eq!(replies.join(" "), [":5 :8 :10 $7 1234567"; 3].join(" "));
    cluster.run(1_000);
    let digests: std::collections::BTreeSet<_> = (0..3)
        .flat_map(|at| {
            let of = |w: &World| w.node.shards[at].replica.as_ref().map(|r| (at, r.keyspace.digest()));
            cluster.alive().filter_map(of).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(digests.len(), 3, "replicas of a shard are the same");
}

#[test]
fn a_shard_without_a_leader_holds_up_one_call_of_an_unknown_script_and_not_the_next() {
    let mut cluster = Cluster::of(5, &[("shards", "3"), ("request-timeout", "2000")]);
    cluster.run(5_000);
    let copies: Vec<Vec<usize>> = {
        let shards = &cluster.node(1).node.meta.state.shards;
        shards
            .values()
            .map(|shard| shard.replicas.iter().map(|replica| replica.0 as usize).collect())
            .collect()
    };
    let both = |shard: &[usize], (a, b): (usize, usize)| shard.contains(&a) && shard.contains(&b);
    let pairs = (1..=5).flat_map(|a| (a + 1..=5).map(move |b| (a, b)));
    let of_some = |pair: &(usize, usize)| {
        let lost = copies.iter().filter(|shard| both(shard, *pair)).count();
        lost > 0 && lost < copies.len()
    };
    let pair = { pairs }.find(of_some).expect("some two nodes are most of one shard and not of another");
    let number = (1..=5).find(|number| ![pair.0, pair.1].contains(number)).unwrap();
    cluster.kill(pair.0);
    cluster.kill(pair.1);
    cluster.run(5_000);
    let conn = cluster.node(number).connect();
    let key = SPREAD
        .into_iter()
        .find(|key| ask_one(&mut cluster, number, conn, &["SET", key, "1"]) == "+OK")
        .expect("a shard has its majority");
    let mut took = |name: &str| {
        let begun = cluster.node(number).now.mono;
        assert_eq!(ask_one(&mut cluster, number, conn, &["EVALSHA", name, "1", key]), NO_SCRIPT);
        cluster.node(number).now.mono.since(begun)
    };
    let first = took(&"0".repeat(40));
    assert!((1_000..4_000).contains(&first), "others are waited for as long as a request: {first} ms");
    let second = took(&"1".repeat(40));
    assert!(second < 500, "and then left alone for a while: {second} ms");
}

#[test]
fn a_shard_that_cannot_say_whether_it_knows_a_script_is_heard_before_those_that_do_not() {
    let show = skep_command::id_of("script|show").spec();
    let [unknown, busy, known] = ["-NOSCRIPT No matching script.", "-TRYAGAIN no leader", "$1\r\nx"];
    for (replies, told) in [
        (vec![unknown, busy, unknown], busy),
        (vec![busy, unknown], busy),
        (vec![unknown, unknown], unknown),
        (vec![unknown, busy, known], known),
    ] {
        let replies: Vec<Vec<u8>> = replies.iter().map(|reply| format!("{reply}\r\n").into_bytes()).collect();
        let mut bytes = Vec::new();
        super::reply_of_all(
            show,
            &replies,
            &mut skep_resp::Reply::new(&mut bytes, skep_resp::Protocol::Resp2),
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("{told}\r\n"));
    }
}
