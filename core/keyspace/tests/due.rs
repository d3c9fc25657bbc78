//! Reads tell when they met what is past its deadline by their time but still in the state, and only then.

use std::collections::BTreeMap;

use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_keyspace::{Handler, Keyspace, ReadCx, WriteCx, handlers};
use skep_resp::{Protocol, Reply};

const START: Millis = Millis(1_000_000);
/// All deadlines are 100 ms after [`START`].
const LATER: Millis = Millis(1_000_200);

struct State {
    keyspace: Keyspace,
    handlers: BTreeMap<&'static str, Handler>,
}

impl State {
    fn after(writes: &[&str]) -> State {
        let mut state = State { keyspace: Keyspace::default(), handlers: handlers().collect() };
        state.keyspace.advance(START);
        for line in writes {
            let (handler, args) = state.parse(line);
            let keyspace = &mut state.keyspace;
            let mut rng = Rng::new(1);
            let mut out = Vec::new();
            let mut cx = WriteCx { keyspace, db: 0, now: START, rng: &mut rng };
            handler.write(&mut cx, args.args(), &mut Reply::new(&mut out, Protocol::Resp2));
            assert_ne!(out[0], b'-', "{line}: {}", out.escape_ascii());
        }
        state
    }

    fn parse(&self, line: &str) -> (Handler, OwnedArgs) {
        let words: Vec<String> = line.split(' ').map(str::to_string).collect();
        let name = words[0].to_lowercase();
        let full = format!("{name}|{}", words.get(1).map_or("", |w| w.as_str()).to_lowercase());
        let handler = self.handlers.get(name.as_str()).or_else(|| self.handlers.get(full.as_str()));
        let handler = *handler.unwrap_or_else(|| panic!("no handler for {line}"));
        (handler, OwnedArgs::collect(words.iter().map(|w| w.as_bytes())))
    }

    /// Whether a read at `now` says that it met something due.
    fn saw_due(&self, line: &str, now: Millis) -> bool {
        let (handler, args) = self.parse(line);
        let mut rng = Rng::new(1);
        let mut out = Vec::new();
        let mut cx = ReadCx { keyspace: &self.keyspace, db: 0, now, rng: &mut rng };
        handler.read(&mut cx, args.args(), &mut Reply::new(&mut out, Protocol::Resp2));
        self.keyspace.access.take_saw_due()
    }
}

/// Reads of the key `k`, whatever it holds.
const READS: &[&str] = &[
    "GET k",
    "MGET stays k",
    "STRLEN k",
    "GETRANGE k 0 1",
    "LCS stays k",
    "GETBIT k 0",
    "BITCOUNT k",
    "BITPOS k 1",
    "BITFIELD_RO k GET u8 0",
    "LLEN k",
    "LRANGE k 0 -1",
    "LINDEX k 0",
    "LPOS k x",
    "HGET k f",
    "HMGET k f",
    "HGETALL k",
    "HEXISTS k f",
    "HLEN k",
    "HSTRLEN k f",
    "HKEYS k",
    "HVALS k",
    "HRANDFIELD k",
    "HSCAN k 0",
    "XLEN k",
    "XRANGE k - +",
    "XREVRANGE k + -",
    "XREAD STREAMS none k 0 0",
    "XPENDING k g",
    "XINFO STREAM k",
    "XINFO GROUPS k",
    "HTTL k FIELDS 1 f",
    "HPEXPIRETIME k FIELDS 1 f",
    "SCARD k",
    "SISMEMBER k m",
    "SMISMEMBER k m",
    "SMEMBERS k",
    "SRANDMEMBER k",
    "SSCAN k 0",
    "SINTER none k",
    "SUNION none k",
    "SDIFF none k",
    "SINTERCARD 2 k none",
    "ZSCORE k m",
    "ZMSCORE k m",
    "ZCARD k",
    "ZCOUNT k 0 1",
    "ZLEXCOUNT k - +",
    "ZRANK k m",
    "ZRANDMEMBER k",
    "ZSCAN k 0",
    "ZRANGE k 0 -1",
    "ZREVRANGEBYSCORE k 1 0",
    "ZUNION 2 none k",
    "ZINTERCARD 2 k none",
    "GEOPOS k m",
    "GEOSEARCH k FROMMEMBER m BYRADIUS 1 m",
    "SORT_RO k",
    "EXISTS none k",
    "TOUCH none k",
    "TYPE k",
    "TTL k",
    "PTTL k",
    "EXPIRETIME k",
    "PEXPIRETIME k",
    "DUMP k",
    "OBJECT ENCODING k",
    "QGET k j",
    "QLIST k READY",
    "QINFO k",
    "OBJECT IDLETIME k",
    "MEMORY USAGE k",
    "KEYS *",
    "KEYS k",
    "KEYS {k}*",
    "SCAN 0 COUNT 100",
    "DBSIZE",
];

#[test]
fn a_read_tells_that_it_met_a_key_past_its_deadline() {
    let state = State::after(&["SET stays v", "SET k v PX 100", "SET {k}2 v PX 100"]);
    for read in READS {
        assert!(!state.saw_due(read, START.plus(100)), "{read} at the deadline");
        assert!(state.saw_due(read, LATER), "{read} past the deadline");
    }
    assert!(!state.saw_due("GET stays", LATER));
    assert!(!state.saw_due("EXISTS none", LATER));
    assert!(!state.saw_due("KEYS stays", LATER));
}

#[test]
fn a_read_tells_that_it_met_a_hash_with_fields_past_their_deadline() {
    let all_due =
        &["HSET k f v", "HPEXPIRE k 100 FIELDS 1 f", "HSET {k}2 f v", "HPEXPIRE {k}2 100 FIELDS 1 f"];
    let state = State::after(all_due);
    for read in READS {
        assert!(!state.saw_due(read, START), "{read} before the deadline");
        assert!(state.saw_due(read, LATER), "{read} of a hash whose only field is due");
    }
    let state = State::after(&["HSET k f v g v", "HPEXPIRE k 100 FIELDS 1 f"]);
    for read in ["HGETALL k", "HLEN k", "HGET k f", "HSCAN k 0", "SORT_RO k BY k->f"] {
        assert!(!state.saw_due(read, START), "{read} before the deadline");
        assert!(state.saw_due(read, LATER), "{read} of a hash with a field that is due");
    }
    // The key itself is there whatever the clock says.
    assert!(!state.saw_due("SCAN 0", LATER));
    assert!(!state.saw_due("KEYS *", LATER));
}

#[test]
fn a_random_key_tells_of_those_past_their_deadline_that_were_drawn() {
    let state = State::after(&["SET k v PX 100"]);
    assert!(!state.saw_due("RANDOMKEY", START));
    assert!(state.saw_due("RANDOMKEY", LATER));
}

#[test]
fn what_a_write_met_is_not_told_of_a_read() {
    let mut state = State::after(&["SET stays v", "SET k v PX 100"]);
    state.keyspace.advance(LATER);
    assert!(state.keyspace.peek(0, b"k", LATER).is_none());
    assert!(!state.saw_due("GET stays", LATER));
    // Told once.
    assert!(state.saw_due("GET k", LATER));
    assert!(!state.keyspace.access.take_saw_due());
}
