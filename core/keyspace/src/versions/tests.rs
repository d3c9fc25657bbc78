//! Which writes count as changes of a key, there or not.

use super::{Removals, Seen, Version, WALKED_KEYS_MAX};
use crate::commands::testing::Bench;
use crate::db::NEVER;
use crate::dense::Keyed;
use crate::types::Str;
use crate::value::Typed;
use crate::{Keyspace, Restore};

/// What is there before each line of the table, and lines that change something at once.
const KEYSPACE: &str = "
    SET str 10
    RPUSH list a b
    HSET hash f 1
    HSET fading f 1 g 2
    HPEXPIRE fading 100 FIELDS 1 g
    SADD set 1 2
    SADD more 2
    ZADD zset 1 a inf b
    XADD stream 1-1 f v
    XGROUP CREATE stream group 0
    QADD queue job ID one";

/// Commands that leave every watched key as it is. All others are compared with redis-server in tests/transactions.
const SPARED: &str = "
    SADD set 1 2
    SREM set 9
    SMOVE set more 9
    SPOP set 0
    HDEL hash zzz
    HSETNX hash f 2
    HEXPIRE hash 100 XX FIELDS 1 f
    HEXPIRE hash 100 FIELDS 1 zzz
    HPERSIST hash FIELDS 1 f
    LREM list 0 zzz
    LINSERT list BEFORE zzz x
    LSET list 9 x
    LPOP list 0
    ZADD zset 1 a
    ZADD zset NX 7 a
    ZADD zset XX 7 new
    ZINCRBY zset -inf b
    ZREM zset zzz
    INCRBYFLOAT str zzz
    SETBIT str 0 0
    XDEL stream 9-9
    XACK stream group 9-9
    QADD queue job ID one
    QACK queue two 1
    QINFO queue
    QDROP queue zzz
    QREDO queue zzz
    APPEND hash x";

#[test]
fn a_queue_that_settles_has_changed_also_if_the_command_is_refused() {
    let mut bench = Bench::new();
    bench.run("QADD q payload ID job");
    bench.run("QTAKE 1 q LEASE 10");
    let seen = bench.keyspace.seen(0, b"q", bench.keyspace.stamp());
    assert!(bench.run("QBEAT q job 7").starts_with("-STALE"), "nothing is due yet");
    assert!(!bench.keyspace.has_changed(0, b"q", seen), "it was refused, and nothing has happened");
    bench.pass(50);
    let before = bench.run("QLIST q READY");
    assert!(bench.run("QBEAT q job 7").starts_with("-STALE"));
    assert_ne!(bench.run("QLIST q READY"), before, "the lease has ended");
    assert!(bench.keyspace.has_changed(0, b"q", seen));
}

fn bench() -> Bench {
    let mut bench = Bench::new();
    KEYSPACE.trim().lines().for_each(|line| _ = bench.run(line));
    bench
}

fn versions(bench: &Bench) -> Vec<(String, u32)> {
    let entries = bench.keyspace.entries(0);
    entries.map(|e| (String::from_utf8_lossy(e.key()).into_owned(), e.version.0)).collect()
}

fn seen(bench: &Bench, key: &str) -> Seen {
    bench.keyspace.seen(bench.db, key.as_bytes(), bench.keyspace.stamp())
}

fn changed(bench: &Bench, key: &str, seen: Seen) -> bool {
    bench.keyspace.has_changed(bench.db, key.as_bytes(), seen)
}

fn restored(keyspace: &mut Keyspace) -> Keyspace {
    let (mut bytes, mut restore) = (Vec::new(), Restore::default());
    keyspace.begin_cut();
    while !keyspace.cut_step(&mut bytes, 1) {}
    restore.feed(&bytes).unwrap();
    restore.finish().unwrap()
}

#[test]
fn a_write_that_changes_nothing_leaves_versions_as_they_are() {
    for line in SPARED.trim().lines().map(str::trim) {
        let mut bench = bench();
        let before = versions(&bench);
        let reply = bench.run(line);
        assert_eq!(versions(&bench), before, "{line} answered {reply}");
    }
}

#[test]
fn a_change_of_before_is_not_undone_by_a_later_command_that_changes_nothing() {
    for (change, nothing) in [
        ("APPEND str x", "QTAKE str worker 1000"),
        ("APPEND str x", "SADD str x"),
        ("SADD set 3", "SADD set 3"),
        ("LPUSH list x", "LSET list 99 x"),
        ("QADD queue job ID two", "QREDO queue zzz"),
    ] {
        let mut bench = bench();
        let first = versions(&bench);
        bench.run(change);
        let changed = versions(&bench);
        assert_ne!(changed, first, "{change}");
        bench.run(nothing);
        assert_eq!(versions(&bench), changed, "{change}, then {nothing}");
    }
}

#[test]
fn of_a_member_that_is_moved_to_where_it_is_only_the_source_changes() {
    let mut bench = bench();
    let (set, more) = (seen(&bench, "set"), seen(&bench, "more"));
    assert_eq!(bench.run("SMOVE set more 2"), ":1");
    assert_ne!(seen(&bench, "set"), set);
    assert_eq!(seen(&bench, "more"), more);
}

#[test]
fn a_write_that_changes_nothing_but_meets_a_field_that_is_due_counts() {
    let mut bench = bench();
    let before = seen(&bench, "fading");
    bench.pass(101);
    assert_eq!(bench.run("HDEL fading zzz"), ":0");
    assert_ne!(seen(&bench, "fading"), before);
}

#[test]
fn what_counts_as_a_change_does_not_depend_on_whether_events_are_recorded() {
    for line in SPARED.trim().lines().chain(["SADD set 9", "DEL list", "XGROUP DESTROY stream group"]) {
        let (mut quiet, mut told) = (bench(), bench());
        told.keyspace.events.record(true);
        quiet.run(line);
        told.run(line);
        assert_eq!(versions(&quiet), versions(&told), "{line}");
    }
}

/// Each puts `new` where nothing was, and takes it away again; `+` lets a second pass, `sweep` stands for what an entry ends with.
const COME_AND_GONE: &str = "
    SET new 1, DEL new
    SET new 1, UNLINK new
    SET new 1, GETDEL new
    SET new 1, EXPIRE new -1
    SET new 1, RENAME new str
    SET new 1, RENAMENX new other
    SET new 1, MOVE new 1
    SET new 1, SWAPDB 0 1
    SWAPDB 0 1, SET new 1, SWAPDB 1 0
    SET new 1, FLUSHDB
    SET new 1, FLUSHALL
    SET new 1, SUNIONSTORE new none
    RENAME str new, RENAME new str
    COPY str new, DEL new
    MSET new 1 other 1, DEL other new
    SET new 1 PX 100, +, sweep
    SET new 1 PX 100, +, SET new 1, DEL new
    SET new 1 PX 100, +, HGET new f
    SET new 1 PX 100, +, SADD new 1, SPOP new
    SET new 1, PEXPIRE new 100, +, sweep
    HSET new f 1, HPEXPIRE new 100 FIELDS 1 f, +, sweep
    HSET new f 1, HDEL new f
    RPUSH new a, LPOP new
    RPUSH new a, LMOVE new list LEFT LEFT
    RPUSH new a, LTRIM new 5 9
    SADD new 1, SPOP new
    SADD new 1, SREM new 1
    SADD new 1, SMOVE new set 1
    ZADD new 1 a, ZPOPMIN new
    ZADD new 1 a, ZREMRANGEBYRANK new 0 -1
    XADD new 1-1 f v, DEL new
    QADD new job, DEL new";

fn run_steps(bench: &mut Bench, steps: &str) {
    for step in steps.split(',').map(str::trim) {
        match step {
            "+" => bench.pass(1_000),
            "sweep" => _ = bench.keyspace.sweep(100),
            line => assert!(!bench.run(line).starts_with('-'), "{line} of {steps}"),
        }
    }
}

#[test]
fn a_key_that_was_not_there_has_changed_once_it_came_and_is_gone_again() {
    for steps in COME_AND_GONE.trim().lines().map(str::trim) {
        let mut bench = bench();
        let (new, never) = (seen(&bench, "new"), seen(&bench, "never"));
        run_steps(&mut bench, steps);
        assert_eq!(bench.run("EXISTS new"), ":0", "{steps}");
        assert!(changed(&bench, "new", new), "{steps}");
        assert!(!changed(&bench, "never", never), "{steps}");
        let copy = restored(&mut bench.keyspace);
        assert_eq!(copy.digest(), bench.keyspace.digest(), "{steps}");
        assert!(copy.has_changed(0, b"new", new), "{steps}, then a checkpoint");
        assert!(!copy.has_changed(0, b"never", never), "{steps}, then a checkpoint");
    }
}

#[test]
fn a_key_that_is_not_there_is_as_it_was_after_what_does_not_bring_it() {
    let spared = SPARED.trim().lines().map(str::trim).filter(|line| !line.starts_with("QDROP"));
    for line in spared.chain([
        "DEL new",
        "SET other 1, DEL other",
        "FLUSHALL",
        "SWAPDB 0 0",
        "SWAPDB 0 1",
        "SET new 1 XX",
    ]) {
        let mut bench = bench();
        let new = seen(&bench, "new");
        line.split(',').for_each(|line| _ = bench.run(line));
        assert!(!changed(&bench, "new", new), "{line}");
    }
}

#[test]
fn a_key_past_its_deadline_that_is_removed_while_it_is_watched_has_not_changed() {
    for key in ["vol", "hash"] {
        let mut bench = Bench::new();
        bench.run("SET vol 1 PX 100");
        bench.run("HSET hash f 1");
        bench.run("HPEXPIRE hash 100 FIELDS 1 f");
        let before = seen(&bench, key);
        bench.pass(101);
        let dead = seen(&bench, key);
        assert!(changed(&bench, key, before), "{key}");
        assert!(!changed(&bench, key, dead), "{key} before the sweep");
        bench.keyspace.sweep(100);
        assert!(!changed(&bench, key, dead), "{key} after the sweep");
        bench.run(&format!("SET {key} 1"));
        bench.run(&format!("DEL {key}"));
        assert!(changed(&bench, key, dead), "{key} came again");
    }
}

#[test]
fn a_key_that_was_exchanged_and_is_back_as_it_was_has_changed() {
    let mut bench = bench();
    let list = seen(&bench, "list");
    bench.run("SWAPDB 1 2");
    assert!(!changed(&bench, "list", list));
    bench.run("SWAPDB 0 1");
    bench.run("SWAPDB 1 0");
    assert_eq!(bench.run("LLEN list"), ":2");
    assert!(changed(&bench, "list", list));
    assert!(restored(&mut bench.keyspace).has_changed(0, b"list", list));
}

#[test]
fn a_database_too_large_for_a_walk_that_is_emptied_changes_all_keys_that_are_not_in_it() {
    for (keys, sees_all) in [(WALKED_KEYS_MAX, false), (WALKED_KEYS_MAX + 1, true)] {
        for line in ["FLUSHDB", "SWAPDB 3 4"] {
            let mut bench = Bench::new();
            bench.db = 3;
            (0..keys).for_each(|i| {
                bench.keyspace.put(3, format!("k{i}").as_bytes(), Str::new(b"v").into_value(), NEVER)
            });
            let before = ["none", "never"].map(|key| seen(&bench, key));
            let elsewhere = bench.keyspace.seen(5, b"none", bench.keyspace.stamp());
            bench.run(line);
            let after = ["none", "never"].map(|key| seen(&bench, key));
            assert_eq!(after != before, sees_all, "{line} of {keys} keys");
            assert!(!bench.keyspace.has_changed(5, b"none", elsewhere));
        }
    }
}

#[test]
fn what_was_seen_before_removals_were_counted_is_compared_as_it_was_then() {
    let mut bench = bench();
    let old = |seen: Seen| Seen::from_bits(u64::from(seen.bits() as u32));
    let (absent, there) = (old(seen(&bench, "new")), old(seen(&bench, "list")));
    assert_eq!(absent, Seen { version: Version(0), tally: 0 });
    for line in ["SET new 1", "DEL new", "SWAPDB 0 1", "SWAPDB 0 1"] {
        bench.run(line);
    }
    assert!(!changed(&bench, "new", absent));
    assert!(!changed(&bench, "list", there));
    bench.run("RPUSH list x");
    bench.run("SET new 1");
    assert!(changed(&bench, "new", absent));
    assert!(changed(&bench, "list", there));
}

#[test]
fn a_checkpoint_of_a_version_that_did_not_count_removals_is_read() {
    let mut bench = bench();
    bench.run("DEL str");
    bench.keyspace.removals = Removals::default();
    let copy = restored(&mut bench.keyspace);
    assert_eq!(copy.digest(), bench.keyspace.digest());
    assert!(!copy.has_changed(0, b"str", seen(&bench, "str")));
}
