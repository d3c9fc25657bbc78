//! Which writes count as changes of a key.

use skep_base::Millis;

use crate::commands::testing::Bench;
use crate::dense::Keyed;

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

fn bench() -> Bench {
    let mut bench = Bench::new();
    KEYSPACE.trim().lines().for_each(|line| _ = bench.run(line));
    bench
}

fn versions(bench: &Bench) -> Vec<(String, u32)> {
    let entries = bench.keyspace.entries(0);
    entries.map(|e| (String::from_utf8_lossy(e.key()).into_owned(), e.version.0)).collect()
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
    let version = |bench: &Bench, key: &[u8]| bench.keyspace.version(0, key, Millis(1_000_000));
    let (set, more) = (version(&bench, b"set"), version(&bench, b"more"));
    assert_eq!(bench.run("SMOVE set more 2"), ":1");
    assert_ne!(version(&bench, b"set"), set);
    assert_eq!(version(&bench, b"more"), more);
}

#[test]
fn a_write_that_changes_nothing_but_meets_a_field_that_is_due_counts() {
    let mut bench = bench();
    let before = bench.keyspace.version(0, b"fading", bench.keyspace.stamp());
    bench.pass(101);
    assert_eq!(bench.run("HDEL fading zzz"), ":0");
    assert_ne!(bench.keyspace.version(0, b"fading", bench.keyspace.stamp()), before);
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
