//! Scripts that may write read nothing that differs between replicas: such a script calls every reading command on replicas
//! of one log with other settings, clocks, reads and pasts, and all must answer and become the same.

use std::collections::BTreeSet;

use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_command::{Flags, lookup_full, resolve};
use skep_keyspace::{
    AccessMode, Encodings, Handler, Keyspace, ReadCx, Restore, SCRIPT_READ, SCRIPT_WRITE, WriteCx,
    calls_script, handler_of, handlers,
};
use skep_resp::{Protocol, Reply};
use skep_script::Runner;

/// Before the first entry; each entry has a stamp of its own.
const START: Millis = Millis(1_700_000_000_000);

struct Replica {
    keyspace: Keyspace,
    entries: u64,
}

impl Replica {
    fn new() -> Replica {
        Replica::of(Keyspace::default(), 0)
    }

    fn of(mut keyspace: Keyspace, entries: u64) -> Replica {
        keyspace.set_interpreter(Box::new(Runner::default()));
        Replica { keyspace, entries }
    }

    /// One that joins: from a checkpoint of this one.
    fn restored(&mut self) -> Replica {
        let mut bytes = Vec::new();
        self.keyspace.begin_cut();
        while !self.keyspace.cut_step(&mut bytes, 1 << 20) {}
        let mut restore = Restore::default();
        restore.feed(&bytes).expect("the cut is whole");
        Replica::of(restore.finish().expect("the cut is whole"), self.entries)
    }

    /// Applies an entry of one command.
    fn apply(&mut self, words: &[&str]) -> String {
        self.entries += 1;
        let now = self.keyspace.advance(START.plus(self.entries));
        let args = OwnedArgs::collect(words.iter().map(|word| word.as_bytes()));
        let command = resolve(args.args()).unwrap_or_else(|why| panic!("{words:?}: {why:?}"));
        let handler = match handler_of(command).expect("of the keyspace") {
            // One that only reads is in the log so that its script is remembered.
            Handler::Read(_) if calls_script(command) => SCRIPT_WRITE,
            handler => handler,
        };
        let (mut rng, mut bytes) = (Rng::new(self.entries), Vec::new());
        let mut cx = WriteCx { keyspace: &mut self.keyspace, db: 0, now, rng: &mut rng };
        handler.write(&mut cx, args.args(), &mut Reply::new(&mut bytes, Protocol::Resp3));
        bytes.escape_ascii().to_string()
    }

    /// Runs a call of a script as a read of this replica alone.
    fn read_script(&self, words: &[&str]) -> String {
        let args = OwnedArgs::collect(words.iter().map(|word| word.as_bytes()));
        let (mut rng, mut bytes) = (Rng::new(7), Vec::new());
        let mut cx = ReadCx { keyspace: &self.keyspace, db: 0, now: self.keyspace.stamp(), rng: &mut rng };
        SCRIPT_READ.read(&mut cx, args.args(), &mut Reply::new(&mut bytes, Protocol::Resp3));
        bytes.escape_ascii().to_string()
    }
}

/// Values of all types, small and large, with deadlines of which some have passed when the reads come.
fn fill(replica: &mut Replica) {
    let mut apply = |line: String| {
        let reply = replica.apply(&line.split(' ').collect::<Vec<_>>());
        assert!(!reply.starts_with('-'), "{line}: {reply}");
    };
    for i in 0..300 {
        apply(format!("SET {{t}}key{i} value{i}"));
        for (key, len) in [("few", 9), ("some", 40), ("many", 300)] {
            if i < len {
                apply(format!("HSET hash:{key} field{i} value{i}"));
                apply(format!("SADD set:{key} member{i}"));
                apply(format!("SADD numbers:{key} {i}"));
                apply(format!("ZADD zset:{key} {i}.5 member{i}"));
                apply(format!("RPUSH list:{key} element{i}"));
                apply(format!("XADD stream:{key} * field value{i}"));
                apply(format!("QADD queue:{key} payload{i} PRIO {}", i % 5));
            }
        }
    }
    // Grown, and then small again: what was allocated is not what is there.
    for i in 0..250 {
        apply(format!("SREM set:many member{i}"));
        apply(format!("HDEL hash:many field{i}"));
        apply("LPOP list:many".into());
        apply(format!("APPEND text {}", "x".repeat(i)));
    }
    apply("SETRANGE text 9000 y".into());
    for line in [
        "SET number 12",
        "SET gone value PX 1",
        "HPEXPIRE hash:some 1 FIELDS 2 field1 field2",
        "PEXPIRE hash:few 3600000",
        "PFADD counter a b c d",
        "GEOADD places 13.361389 38.115556 a 15.087269 37.502669 b",
        "XGROUP CREATE stream:few group 0",
        "XREADGROUP GROUP group consumer COUNT 2 STREAMS stream:few >",
        "QTAKE 1 queue:few LEASE 100000",
    ] {
        apply(line.into());
    }
}

/// Replicas of one log at one position, that differ in all that is each node's own.
fn replicas() -> Vec<Replica> {
    let mut first = Replica::new();
    first.keyspace.access.set_now(START);
    fill(&mut first);
    first.keyspace.access.set_now(START.plus(5_000_000));

    let mut joined = first.restored();
    joined.keyspace.access.set_now(START.plus(900_000));

    let mut other = Replica::new();
    other.keyspace.access.set_mode(AccessMode::Lfu);
    other.keyspace.access.set_now(START.plus(3_000_000));
    other.keyspace.encodings = Encodings {
        hash_max_listpack_entries: 3,
        hash_max_listpack_value: 3,
        set_max_intset_entries: 3,
        set_max_listpack_entries: 3,
        set_max_listpack_value: 3,
        zset_max_listpack_entries: 3,
        zset_max_listpack_value: 3,
        list_max_listpack_size: 3,
    };
    fill(&mut other);
    vec![first, joined, other]
}

/// Calls of all commands that read.
const READS: &[&str] = &[
    "BITCOUNT text",
    "BITFIELD_RO text GET u8 0",
    "BITPOS text 1",
    "DBSIZE",
    "DUMP hash:some",
    "DUMP set:few",
    "DUMP zset:few",
    "DUMP list:many",
    "DUMP stream:few",
    "DUMP queue:few",
    "ECHO text",
    "EXISTS gone text",
    "EXPIRETIME hash:few",
    "GEODIST places a b km",
    "GEOHASH places a b",
    "GEOPOS places a b",
    "GEORADIUSBYMEMBER_RO places a 500 km WITHDIST",
    "GEORADIUS_RO places 15 37 500 km WITHCOORD",
    "GEOSEARCH places FROMMEMBER a BYRADIUS 500 km WITHHASH",
    "GET gone",
    "GETBIT text 9",
    "GETRANGE text 3 9",
    "HEXISTS hash:few field1",
    "HEXPIRETIME hash:some FIELDS 1 field1",
    "HGET hash:some field1",
    "HGETALL hash:some",
    "HKEYS hash:some",
    "HLEN hash:some",
    "HMGET hash:few field1 field9",
    "HPEXPIRETIME hash:some FIELDS 1 field1",
    "HPTTL hash:some FIELDS 1 field1",
    "HRANDFIELD hash:some 5 WITHVALUES",
    "HSCAN hash:few 0",
    "HSCAN hash:some 0",
    "HSCAN hash:many 0 COUNT 4",
    "HSTRLEN hash:few field1",
    "HTTL hash:some FIELDS 1 field1",
    "HVALS hash:some",
    "KEYS *",
    "LCS number number",
    "LINDEX list:many 3",
    "LLEN list:many",
    "LPOS list:many element290",
    "LRANGE list:many 0 -1",
    "MEMORY USAGE {t}key1",
    "MEMORY USAGE text",
    "MEMORY USAGE set:many",
    "MEMORY USAGE list:many SAMPLES 0",
    "MGET gone number",
    "OBJECT ENCODING hash:few",
    "OBJECT ENCODING hash:some",
    "OBJECT ENCODING set:few",
    "OBJECT ENCODING set:some",
    "OBJECT ENCODING numbers:some",
    "OBJECT ENCODING zset:some",
    "OBJECT ENCODING list:few",
    "OBJECT ENCODING text",
    "OBJECT ENCODING nosuch",
    "OBJECT FREQ number",
    "OBJECT HELP",
    "OBJECT IDLETIME number",
    "OBJECT IDLETIME nosuch",
    "OBJECT REFCOUNT number",
    "PEXPIRETIME hash:few",
    "PFCOUNT counter",
    "PING",
    "PTTL hash:few",
    "QGET queue:few 1",
    "QINFO queue:few",
    "QLIST queue:few READY",
    "RANDOMKEY",
    "SCAN 0 COUNT 50",
    "SCAN 0 MATCH {t}* COUNT 50 TYPE string",
    "SCARD set:many",
    "SDIFF set:many set:few",
    "SINTER set:many set:some",
    "SINTERCARD 2 set:few set:some",
    "SISMEMBER set:few member1",
    "SMEMBERS set:many",
    "SMISMEMBER set:few member1 member99",
    "SORT_RO numbers:some LIMIT 0 5 DESC",
    "SORT_RO set:some BY nosort GET # GET {t}*",
    "SRANDMEMBER set:many 5",
    "SSCAN set:few 0",
    "SSCAN set:some 0",
    "SSCAN set:many 0 COUNT 4",
    "SSCAN numbers:some 0",
    "STRLEN text",
    "SUBSTR text 0 3",
    "SUNION set:few set:some",
    "TIME",
    "TOUCH number gone",
    "TTL hash:few",
    "TYPE list:few",
    "XGROUP HELP",
    "XINFO CONSUMERS stream:few group",
    "XINFO GROUPS stream:few",
    "XINFO HELP",
    "XINFO STREAM stream:many",
    "XINFO STREAM stream:few FULL",
    "XLEN stream:few",
    "XPENDING stream:few group - + 10",
    "XRANGE stream:few - +",
    "XREAD COUNT 2 STREAMS stream:few 0",
    "XREVRANGE stream:few + - COUNT 3",
    "ZCARD zset:few",
    "ZCOUNT zset:few 2 7",
    "ZDIFF 2 zset:some zset:few",
    "ZINTER 2 zset:some zset:few WITHSCORES",
    "ZINTERCARD 2 zset:some zset:few",
    "ZLEXCOUNT zset:few - +",
    "ZMSCORE zset:few member1 member99",
    "ZRANDMEMBER zset:many 5",
    "ZRANGE zset:few 0 -1",
    "ZRANGEBYLEX zset:few - + LIMIT 0 3",
    "ZRANGEBYSCORE zset:few 2 7",
    "ZRANK zset:few member3",
    "ZREVRANGE zset:few 0 2",
    "ZREVRANGEBYLEX zset:few + - LIMIT 0 3",
    "ZREVRANGEBYSCORE zset:few 7 2",
    "ZREVRANK zset:few member3",
    "ZSCAN zset:few 0",
    "ZSCAN zset:some 0",
    "ZSCAN zset:many 0 COUNT 4",
    "ZSCORE zset:few member3",
    "ZUNION 2 zset:some zset:few",
];

/// What each node knows for itself and does not follow from the content: a script that may write is refused it.
const FIGURES: &[&str] = &["OBJECT FREQ", "OBJECT IDLETIME"];

fn is_figure(call: &str) -> bool {
    FIGURES.iter().any(|figure| call.starts_with(figure))
}

/// Writes down what a command answers.
const WRITES_DOWN: &str =
    "local r = redis.pcall(unpack(ARGV)) redis.call('RPUSH', KEYS[1], cjson.encode({r})) return r";
/// Answers with a command's reply.
const CALLS: &str = "return redis.call(unpack(ARGV))";
const CALLS_READING: &str = "#!lua flags=no-writes\nreturn redis.call(unpack(ARGV))";

fn call_of<'a>(before: &[&'a str], call: &'a str) -> Vec<&'a str> {
    before.iter().copied().chain(call.split(' ')).collect()
}

/// Applies the same to all and gives the reply.
fn apply_to_all(replicas: &mut [Replica], words: &[&str]) -> String {
    let replies: Vec<String> = replicas.iter_mut().map(|replica| replica.apply(words)).collect();
    let digests: Vec<u64> = replicas.iter().map(|replica| replica.keyspace.digest()).collect();
    assert!(replies.iter().all(|reply| *reply == replies[0]), "replies to {words:?}: {replies:#?}");
    assert!(digests.iter().all(|digest| *digest == digests[0]), "states after {words:?}: {digests:?}");
    replies.into_iter().next().expect("there are replicas")
}

#[test]
fn a_script_that_may_write_reads_the_same_on_every_replica() {
    let mut replicas = replicas();
    for call in READS {
        // A use of the leader's clients alone.
        replicas[0].read_script(&call_of(&["EVAL_RO", CALLS, "0"], "GET number"));
        let reply = apply_to_all(&mut replicas, &call_of(&["EVAL", WRITES_DOWN, "1", "seen"], call));
        assert_eq!(reply.starts_with('-'), is_figure(call), "{call}: {reply}");
        assert!(!is_figure(call) || reply.contains("EVAL_RO"), "{call}: {reply}");
    }
}

#[test]
fn what_once_remembers_of_a_script_is_the_same_on_every_replica() {
    let mut replicas = replicas();
    for (source, token) in [(CALLS, "may write"), (CALLS_READING, "reads")] {
        for call in READS {
            let token = format!("{token} {call}");
            let reply =
                apply_to_all(&mut replicas, &call_of(&["ONCE", &token, "EVAL", source, "1", "seen"], call));
            assert_eq!(reply.starts_with('-'), is_figure(call), "{call}: {reply}");
        }
    }
}

#[test]
fn every_command_that_reads_is_among_the_calls() {
    let called: BTreeSet<&str> = READS
        .iter()
        .map(|call| {
            let words = OwnedArgs::collect(call.split(' ').map(str::as_bytes));
            resolve(words.args()).unwrap_or_else(|why| panic!("{call}: {why:?}")).name
        })
        .collect();
    for (name, handler) in handlers() {
        let command = lookup_full(name.as_bytes()).expect("in the command table");
        let may_be_called = matches!(handler, Handler::Read(_)) && !command.flags.has(Flags::NOSCRIPT);
        assert!(!may_be_called || called.contains(command.name), "{name} ({}) is not called", command.name);
    }
}

#[test]
fn a_call_that_can_only_read_sees_the_figures_of_its_node_also_when_its_script_is_new() {
    let mut replicas = replicas();
    for replica in &mut replicas[..2] {
        for call in ["OBJECT IDLETIME {t}key1", "MEMORY USAGE text"] {
            let words = call_of(&["EVAL_RO", CALLS, "0"], call);
            let (new, known) = (replica.apply(&words), replica.read_script(&words));
            assert!(new.starts_with(':'), "{call}: {new}");
            assert_eq!(new, known, "{call}");
        }
    }
    let idle = replicas[0].apply(&call_of(&["EVAL_RO", CALLS, "0"], "OBJECT IDLETIME {t}key1"));
    assert_eq!(idle, ":5000\\r\\n");
    let other = replicas.last_mut().expect("there are replicas");
    let encoding = other.apply(&call_of(&["EVAL_RO", CALLS, "0"], "OBJECT ENCODING hash:few"));
    assert_eq!(encoding, "$9\\r\\nhashtable\\r\\n");
    // EVAL may be one that ONCE remembers, so it is refused whatever the script says of itself.
    for (call, answer) in [("OBJECT FREQ number", "-ERR "), ("MEMORY USAGE text", ":")] {
        let words = call_of(&["EVAL", CALLS_READING, "0"], call);
        let (new, known) = (other.apply(&words), other.read_script(&words));
        assert!(new.starts_with(answer) && new == known, "{call}: {new}, {known}");
    }
}

#[test]
fn a_script_that_may_write_is_told_what_a_key_takes_by_its_content() {
    let mut replicas = replicas();
    let long = "x".repeat(1_000);
    apply_to_all(&mut replicas, &["RPUSH", "lines", &long, &long, &long]);
    let mut usage = |key: &str| {
        let reply =
            apply_to_all(&mut replicas, &["EVAL", CALLS, "0", "MEMORY", "USAGE", key, "SAMPLES", "0"]);
        reply.trim_start_matches(':').trim_end_matches("\\r\\n").parse::<usize>().unwrap_or(0)
    };
    assert_eq!(usage("lines"), 64 + 3 * 1_004);
    assert_eq!(usage("nothing"), 0, "null");
    assert!(usage("set:many") > usage("set:few") && usage("set:few") > 64);
}
