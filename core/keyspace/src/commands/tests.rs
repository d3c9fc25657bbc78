//! Transcripts and walks of the groups for keys, hashes and sets.

use std::collections::BTreeMap;

use skep_base::args::OwnedArgs;
use skep_resp::{Protocol, Value};

use super::testing::Bench;
use crate::keyspace::Keyspace;

#[test]
fn keys_answer_as_in_the_transcript() {
    Bench::new().script(include_str!("../../testdata/keys.txt"));
}

#[test]
fn hashes_answer_as_in_the_transcript() {
    Bench::new().script(include_str!("../../testdata/hashes.txt"));
}

#[test]
fn field_deadlines_answer_as_in_the_transcript() {
    Bench::new().script(include_str!("../../testdata/hash_expiry.txt"));
}

#[test]
fn sets_answer_as_in_the_transcript() {
    Bench::new().script(include_str!("../../testdata/sets.txt"));
}

#[test]
fn once_answers_as_in_the_transcript() {
    Bench::new().script(include_str!("../../testdata/once.txt"));
}

#[test]
fn once_answers_in_the_protocol_of_whoever_asks() {
    let mut bench = Bench::new();
    bench.script(
        "> ONCE a LPOP none
         $-1
         > ONCE b BITFIELD k OVERFLOW FAIL SET u1 0 1 INCRBY u1 0 1
         *2|:0|$-1
         > ONCE c SADD s m
         :1",
    );
    bench.script(
        "> ONCE z ZADD z 1.5 a 2 b
         :2
         > ONCE i ZINCRBY z 1 a
         $3|2.5",
    );
    bench.protocol = Protocol::Resp3;
    bench.script(
        "> ONCE a LPOP none
         _
         > ONCE b BITFIELD k OVERFLOW FAIL SET u1 0 1 INCRBY u1 0 1
         *2|:0|_
         > ONCE i ZINCRBY z 1 a
         ,2.5
         > ONCE p ZPOPMIN z 1
         *1|*2|$1|b|,2
         > ONCE d SPOP s 1
         ~1|$1|m
         > ONCE e LPOP none 2
         _",
    );
    bench.protocol = Protocol::Resp2;
    bench.script(
        "> ONCE d SPOP s 1
         *1|$1|m
         > ONCE p ZPOPMIN z 1
         *2|$1|b|$1|2
         > ONCE e LPOP none 2
         *-1",
    );
}

#[test]
fn a_token_belongs_to_a_request_in_one_database_and_is_not_too_long() {
    let mut bench = Bench::new();
    bench.run("ONCE t INCR n");
    bench.db = 1;
    assert_eq!(bench.run("ONCE t INCR n"), "-ERR token was used for another command");
    assert_eq!(bench.run("EXISTS n"), ":0");
    assert_eq!(bench.run(&format!("ONCE {} INCR n", "t".repeat(256))), ":1");
    assert_eq!(
        bench.run(&format!("ONCE {} INCR n", "t".repeat(257))),
        "-ERR token is 257 bytes, 1 to 256 are allowed"
    );
}

#[test]
fn resp3_gets_maps_sets_and_pairs() {
    let mut bench = Bench::new();
    bench.protocol = Protocol::Resp3;
    bench.script(
        "> HSET h f v
         :1
         > HGETALL h
         %1|$1|f|$1|v
         > HGETALL none
         %0
         > HRANDFIELD h 1 WITHVALUES
         *1|*2|$1|f|$1|v
         > HRANDFIELD none
         _
         > SADD s a
         :1
         > SMEMBERS s
         ~1|$1|a
         > SRANDMEMBER s 1
         *1|$1|a
         > SUNION s none
         ~1|$1|a
         > SPOP s 0
         ~0
         > SPOP s 1
         ~1|$1|a",
    );
}

/// The bulk strings of a reply `[cursor, [element …]]`.
fn cursor_and_elements(reply: &str) -> (String, Vec<String>) {
    let mut bulks = reply.split('|').filter(|part| !part.starts_with(['*', '$'])).map(str::to_string);
    let cursor = bulks.next().expect("a cursor comes first");
    (cursor, bulks.collect())
}

/// Walks with `command CURSOR rest` until cursor 0, running `between` after each call; counts how often each element came.
fn walk(
    bench: &mut Bench,
    command: &str,
    rest: &str,
    mut between: impl FnMut(&mut Bench),
) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    let mut cursor = "0".to_string();
    loop {
        let (next, elements) = cursor_and_elements(&bench.run(&format!("{command} {cursor} {rest}")));
        elements.into_iter().for_each(|element| *seen.entry(element).or_insert(0) += 1);
        if next == "0" {
            return seen;
        }
        between(bench);
        cursor = next;
    }
}

#[test]
fn scan_of_an_idle_keyspace_gives_each_key_once() {
    let mut bench = Bench::new();
    for i in 0..200 {
        bench.run(&format!("SET k{i} v"));
        bench.run(&format!("SET {{one-slot}}{i} v"));
    }
    for count in [1, 3, 10, 1000] {
        let seen = walk(&mut bench, "SCAN", &format!("COUNT {count}"), |_| ());
        assert_eq!(seen.len(), 400, "count {count}");
        assert!(seen.values().all(|times| *times == 1), "count {count}: {seen:?}");
    }
    let tagged = walk(&mut bench, "SCAN", "COUNT 7 MATCH {one-slot}*", |_| ());
    assert_eq!(tagged.len(), 200);
}

#[test]
fn scans_give_what_stays_throughout() {
    let mut bench = Bench::new();
    let long = "x".repeat(100); // no compact encoding, so that the walk takes several calls
    let mut removed = 0;
    for i in 0..300 {
        bench.run(&format!("SET {{t}}{i} v"));
        bench.run(&format!("HSET h {i}{long} v"));
        bench.run(&format!("SADD s {i}{long}"));
    }
    for (command, remove) in [("SCAN", "DEL {t}"), ("HSCAN h", "HDEL h "), ("SSCAN s", "SREM s ")] {
        removed += 50;
        let rest = if command == "HSCAN h" { "COUNT 10 NOVALUES" } else { "COUNT 10" };
        let mut next = 0;
        let suffix = if command == "SCAN" { "" } else { &long };
        let seen = walk(&mut bench, command, rest, |bench| {
            // From both ends, so that visited and unvisited elements go.
            for i in [next, 299 - next] {
                bench.run(&format!("{remove}{i}{suffix}"));
            }
            next += 1;
        });
        assert!(next > 20, "{command} took {next} calls");
        for i in next..300 - next {
            let prefix = if command == "SCAN" { "{t}" } else { "" };
            assert!(seen.contains_key(&format!("{prefix}{i}{suffix}")), "{command} missed {i}");
        }
    }
    assert!(removed > 0);
}

#[test]
fn random_choices_reach_every_element() {
    let mut bench = Bench::new();
    for i in 0..30 {
        bench.run(&format!("SADD s m{i}"));
        bench.run(&format!("HSET h f{i} v"));
    }
    bench.run("HPEXPIRE h 1 FIELDS 2 f3 f7");
    bench.pass(2);
    for (command, expected) in [("SRANDMEMBER s", 30), ("HRANDFIELD h", 28)] {
        for count in ["", " 3", " -3", " 28"] {
            let mut seen = BTreeMap::new();
            for _ in 0..400 {
                let reply = bench.run(&format!("{command}{count}"));
                let elements: Vec<_> = reply.split('|').filter(|p| !p.starts_with(['*', '$'])).collect();
                elements.iter().for_each(|e| *seen.entry(e.to_string()).or_insert(0) += 1);
            }
            assert_eq!(seen.len(), expected, "{command}{count}");
        }
    }
    assert_eq!(bench.run("SPOP s 12").split('|').count(), 25);
    assert_eq!(bench.run("SCARD s"), ":18");
}

#[test]
fn encodings_follow_redis_thresholds() {
    let mut bench = Bench::new();
    let add = |bench: &mut Bench, key: &str, members: std::ops::Range<usize>, prefix: &str| {
        let words: Vec<String> = ["SADD".to_string(), key.to_string()]
            .into_iter()
            .chain(members.map(|m| format!("{prefix}{m}")))
            .collect();
        bench.run_args(&OwnedArgs::collect(words.iter().map(|w| w.as_bytes())));
    };
    add(&mut bench, "ints", 0..512, "");
    assert_eq!(bench.run("OBJECT ENCODING ints"), "$6|intset");
    add(&mut bench, "ints", 512..513, "");
    assert_eq!(bench.run("OBJECT ENCODING ints"), "$9|hashtable");
    add(&mut bench, "words", 0..128, "w");
    assert_eq!(bench.run("OBJECT ENCODING words"), "$8|listpack");
    add(&mut bench, "words", 128..129, "w");
    assert_eq!(bench.run("OBJECT ENCODING words"), "$9|hashtable");
    let long = "x".repeat(65);
    bench.run(&format!("HSET h f {long}"));
    assert_eq!(bench.run("OBJECT ENCODING h"), "$9|hashtable");
    bench.run(&format!("SADD long {long}"));
    assert_eq!(bench.run("OBJECT ENCODING long"), "$9|hashtable");
}

#[test]
fn queues_answer_as_documented() {
    Bench::new().script(include_str!("../../testdata/queues.txt"));
}

/// The token of a reply to QTAKE.
fn token(reply: &str) -> u64 {
    reply.split('|').nth(6).and_then(|word| word.strip_prefix(':')?.parse().ok()).expect("a lease")
}

#[test]
fn tokens_grow_whatever_becomes_of_the_queue() {
    let mut bench = Bench::new();
    let mut newest = 0;
    let mut payload = None;
    let between: [&[&str]; 7] = [
        &["DEL q"],
        &["RENAME q p", "RENAME p q"],
        &["COPY q p REPLACE", "DEL q", "RENAME p q"],
        &["FLUSHALL"],
        &["MOVE q 1", "SWAPDB 0 1"],
        &["PEXPIREAT q 1"],
        &["QSET q LIMIT 0", "QDROP q ALL LEASED"],
    ];
    for (round, lines) in between.iter().enumerate() {
        bench.run(&format!("QADD q payload ID same{round}"));
        let taken = token(&bench.run("QTAKE 1 q"));
        assert!(taken > newest, "round {round}: {taken} after {newest}");
        newest = taken;
        let dumped = bench.run_args(&OwnedArgs::collect([&b"DUMP"[..], b"q"]));
        let (Value::Bulk(dumped), _) = Value::parse(&dumped).unwrap().unwrap() else { panic!("a payload") };
        payload = Some(dumped.to_vec());
        lines.iter().for_each(|line| drop(bench.run(line)));
    }
    // Elsewhere, where the clock is behind.
    let mut elsewhere = Bench::new();
    elsewhere.keyspace = Keyspace::default();
    let args = OwnedArgs::collect([&b"RESTORE"[..], b"q", b"0", &payload.unwrap()]);
    assert_eq!(elsewhere.run_args(&args), b"+OK\r\n");
    assert!(elsewhere.run("QLIST q LEASED").contains("same6"), "leases come along");
    assert!(elsewhere.run("QADD q next PRIO 9").contains(":1"));
    let taken = token(&elsewhere.run("QTAKE 1 q"));
    assert!(taken > newest, "restored: {taken} after {newest}");
    assert_eq!(elsewhere.run(&format!("QACK q same6 {newest}")), ":1", "a lease holds where it came to");
}

#[test]
fn what_works_on_keys_works_on_queues() {
    Bench::new().script(
        "> QADD q payload ID a
         *2|$1|a|:1
         > QSET q LIMIT 5
         +OK
         > SCAN 0 TYPE queue
         *2|$1|0|*1|$1|q
         > SCAN 0 TYPE list
         *2|$1|0|*0
         > RANDOMKEY
         $1|q
         > PEXPIRE q 100
         :1
         > COPY q copy
         :1
         > QTAKE 1 copy LEASE 50
         *1|*7|$4|copy|$1|a|:1000001|$7|payload|:1|:1000050|$-1
         > PERSIST copy
         :1
         + 101
         > EXISTS q copy
         :1
         > QACK copy a 1000001
         -STALE lease lost
         > LPUSH copy a
         -WRONGTYPE Operation against a key holding the wrong kind of value
         > SORT copy
         -WRONGTYPE Operation against a key holding the wrong kind of value
         > QDROP copy a
         :1
         > EXISTS copy
         :1
         > QSET copy LIMIT 0
         +OK
         > EXISTS copy
         :0",
    );
}
