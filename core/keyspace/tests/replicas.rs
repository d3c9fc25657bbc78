//! Replicas of equal position are equal: random logs of commands over all types, with time passing, deadlines, sweeps and
//! flushes, on a state that lives through and on one rebuilt from a cut that was taken while writes went on.

use std::collections::BTreeMap;

use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_keyspace::{DB_COUNT, Handler, Keyspace, Restore, WriteCx, handlers};
use skep_resp::{Protocol, Reply, Value};

/// Databases in use: few, so that keys meet.
const DBS: u64 = 3;

/// One entry of the log.
#[derive(Clone, Debug)]
struct Entry {
    stamp: Millis,
    seed: u64,
    db: u8,
    /// What it does; no words for a sweep of `seed` things.
    words: Vec<String>,
}

type Handlers = BTreeMap<&'static str, Handler>;

/// Applies `entry` and gives the reply, or the number of things that a sweep removed.
fn apply(handlers: &Handlers, keyspace: &mut Keyspace, entry: &Entry) -> Vec<u8> {
    let now = keyspace.advance(entry.stamp);
    let mut out = Vec::new();
    let Some(name) = entry.words.first() else {
        let removed = keyspace.sweep(1 + entry.seed as usize % 20);
        return removed.to_string().into_bytes();
    };
    let name = name.to_lowercase();
    let full = format!("{name}|{}", entry.words.get(1).map_or("", |w| w.as_str()).to_lowercase());
    let handler = handlers.get(name.as_str()).or_else(|| handlers.get(full.as_str()));
    let handler = handler.unwrap_or_else(|| panic!("no handler for {name}"));
    let args = OwnedArgs::collect(entry.words.iter().map(|w| w.as_bytes()));
    let mut rng = Rng::new(entry.seed);
    handler.write(
        &mut WriteCx { keyspace, db: entry.db, now, rng: &mut rng },
        args.args(),
        &mut Reply::new(&mut out, Protocol::Resp2),
    );
    out
}

/// Makes logs that collide often: few keys, fields and values, all types under the same names.
struct Log {
    rng: Rng,
    stamp: Millis,
    /// Whether hours pass at times, so that tokens of ONCE come to their end.
    days: bool,
    /// Ids and tokens of leases, as their takes were answered.
    leases: Vec<(String, String)>,
}

/// Writes, with a letter for each argument: `k` key, `f` field or member, `n` number, `s` text, `t` milliseconds ahead, `c` a
/// small count, `d` a database, `i` an index, `o` a token of ONCE, `y` a stream's key, `x` an id of its entry, `w` a
/// consumer of its group.
/// Anything longer stands for itself.
const WRITES: &[&str] = &[
    "SET k s",
    "SET k n PX t",
    "SET k s KEEPTTL",
    "APPEND k s",
    "INCRBY k n",
    "INCRBYFLOAT k n",
    "SETRANGE k c s",
    "GETDEL k",
    "GETEX k PX t",
    "MSET k s k s",
    "RPUSH k s s s",
    "LPUSH k n s",
    "LPOP k c",
    "RPOP k",
    "LMOVE k k LEFT RIGHT",
    "LREM k i s",
    "LTRIM k i i",
    "LSET k i s",
    "LINSERT k BEFORE s s",
    "HSET k f s f n f s",
    "HSETNX k f s",
    "HDEL k f f",
    "HINCRBY k f n",
    "HINCRBYFLOAT k f n",
    "HPEXPIRE k t FIELDS 2 f f",
    "HPEXPIRE k t GT FIELDS 1 f",
    "HPERSIST k FIELDS 1 f",
    "HSET k f s",
    "SADD k f f n s",
    "SADD k n n",
    "SREM k f f",
    "SPOP k",
    "SPOP k c",
    "SMOVE k k f",
    "SUNIONSTORE k k k",
    "SINTERSTORE k k k",
    "SDIFFSTORE k k k",
    "XADD y * f s f n",
    "XADD y * f s",
    "XADD k * f s",
    "XGROUP CREATE k g x MKSTREAM",
    "COPY y y REPLACE",
    "RENAME y y",
    "COPY y k REPLACE",
    "DEL y",
    "XADD y * f n",
    "XADD y MAXLEN ~ c x f s",
    "XADD y MAXLEN c * f s f n",
    "XADD y NOMKSTREAM MINID x * f s",
    "XDEL y x x x",
    "XTRIM y MAXLEN c",
    "XSETID y x",
    "XGROUP CREATE y g x MKSTREAM",
    "XGROUP CREATE y g 0",
    "XGROUP SETID y g x ENTRIESREAD c",
    "XGROUP DESTROY y g",
    "XGROUP DELCONSUMER y g w",
    "XREADGROUP GROUP g w COUNT c STREAMS y >",
    "XREADGROUP GROUP g w NOACK COUNT 2 STREAMS y >",
    "XREADGROUP GROUP g w COUNT c STREAMS y y > 0",
    "XACK y g x x x",
    "XCLAIM y g w t x x FORCE",
    "XCLAIM y g w 0 x IDLE t JUSTID RETRYCOUNT c",
    "XAUTOCLAIM y g w t 0 COUNT 3",
    "XPENDING y g - + 5",
    "XINFO STREAM y FULL",
    "DEL k",
    "UNLINK k k",
    "PEXPIRE k t",
    "PEXPIRE k t NX",
    "PERSIST k",
    "RENAME k k",
    "RENAMENX k k",
    "COPY k k REPLACE",
    "COPY k k DB d",
    "MOVE k d",
    // Jobs: `j` an id, `g` a group, `l` the id and token of a lease, which may have ended.
    "QADD q s ID j GROUP g",
    "QADD q s ID j PRIO p DELAY t",
    "QADD q s",
    "QADD q s TTL t DEDUP f t TRIES c KEEP t GROUP g",
    "QTAKE 1 q LEASE t WORKER f",
    "QTAKE 2 q q COUNT c LEASE t",
    "QACK q l",
    "QACK q l l",
    "QACK q l RESULT s",
    "QFAIL q l ERROR s",
    "QFAIL q l DELAY t",
    "QFAIL q l FREE",
    "QFAIL q l DEAD",
    "QBEAT q l t",
    "QBEAT q WORKER f t",
    "QREDO q j j",
    "QREDO q ALL FROM DONE TO q",
    "QREDO q ALL",
    "QDROP q j",
    "QSET q LIMIT c GROUPLIMIT 2 RATE 5 PER 40 MAXLEN 30",
    "QSET q LEASE 50 KEEP t LIMIT 0 RATE 0 DEADKEEP t",
    "QCRON q SET f x s PRIO p",
    "QCRON q NEXT f a",
    "QCRON q NEXT f NEVER WHY s",
    "QCRON q DEL f",
    "RENAME q q",
    "COPY q q REPLACE",
    "DEL q",
    "ONCE o QADD q s GROUP g",
    "ONCE o INCRBY k n",
    "ONCE o SPOP k c",
    "ONCE o LPUSH k s",
    // Reads too: what they draw and see must agree.
    "HRANDFIELD k c WITHVALUES",
    "SRANDMEMBER k c",
    "RANDOMKEY",
    "HGETALL k",
    "DBSIZE",
    "QINFO q",
    "QGET q j",
    "QLIST q READY",
    "QLIST q DEAD",
];

/// Written seldom: it takes everything away.
const RARE: &[&str] = &["FLUSHDB", "FLUSHALL", "SWAPDB d d", "SWAPDB d d"];

impl Log {
    fn new(seed: u64) -> Log {
        Log { rng: Rng::new(seed), stamp: Millis(1_000_000), days: true, leases: Vec::new() }
    }

    fn next(&mut self) -> Entry {
        if self.rng.one_in(3) {
            self.stamp = self.stamp.plus(self.rng.below(50));
        }
        if self.days && self.rng.one_in(100) {
            self.stamp = self.stamp.plus(self.rng.below(16 * 60 * 60 * 1_000));
        }
        let words = match self.rng.below(200) {
            0 => self.fill(RARE),
            1..=10 => Vec::new(),
            _ => self.fill(WRITES),
        };
        let db = (self.rng.below(DBS * 3) as u8) % DBS as u8;
        Entry { stamp: self.stamp, seed: self.rng.next_u64(), db, words }
    }

    fn fill(&mut self, templates: &[&str]) -> Vec<String> {
        let template = templates[self.rng.below(templates.len() as u64) as usize];
        template.split(' ').flat_map(|word| self.words(word)).collect()
    }

    /// Takes note of the leases in the reply to `entry`.
    fn note(&mut self, entry: &Entry, reply: &[u8]) {
        if entry.words.first().is_none_or(|name| name != "QTAKE") {
            return;
        }
        let (value, _) = Value::parse(reply).expect("a reply").expect("a whole reply");
        let text = |v: &Value| {
            let int = v.as_int().map(|int| int.to_string());
            int.unwrap_or_else(|| String::from_utf8_lossy(v.as_bytes().unwrap_or_default()).into_owned())
        };
        for lease in value.as_elements().unwrap_or_default() {
            let fields = lease.as_elements().unwrap_or_default();
            self.leases.push((text(&fields[1]), text(&fields[2])));
        }
    }

    fn words(&mut self, word: &str) -> Vec<String> {
        match word {
            "l" => {
                // One of the last few: older ones have ended.
                let back = 1 + self.rng.below(4) as usize;
                let (id, token) = self.leases.iter().rev().nth(back - 1).cloned().unwrap_or_default();
                vec![
                    if id.is_empty() { "none".into() } else { id },
                    if token.is_empty() { "7".into() } else { token },
                ]
            }
            word => vec![self.word(word)],
        }
    }

    fn word(&mut self, word: &str) -> String {
        let rng = &mut self.rng;
        match word {
            // A third of the keys share a slot.
            "k" if rng.one_in(3) => format!("{{slot}}{}", rng.below(8)),
            "k" => format!("k{}", rng.below(16)),
            "f" => format!("f{}", rng.below(30)),
            "q" => format!("{{slot}}q{}", rng.below(3)),
            "j" => format!("j{}", rng.below(12)),
            "g" => format!("g{}", rng.below(4)),
            "p" => rng.below(10).to_string(),
            "a" => (self.stamp.0 + rng.below(200)).to_string(),
            "n" => (rng.below(40) as i64 - 20).to_string(),
            "s" if rng.one_in(4) => "long ".repeat(1 + rng.below(20) as usize),
            "s" => format!("s{}", rng.below(20)),
            "t" => rng.below(200).to_string(),
            "c" => rng.below(12).to_string(),
            "o" => format!("token{}", rng.below(60)),
            "y" if rng.one_in(3) => format!("{{slot}}y{}", rng.below(2)),
            "y" => format!("y{}", rng.below(3)),
            "x" => format!("{}-{}", self.stamp.0 - rng.below(200), rng.below(3)),
            "w" => format!("consumer{}", rng.below(4)),
            "d" => rng.below(DBS).to_string(),
            "i" => (rng.below(12) as i64 - 6).to_string(),
            itself => itself.to_string(),
        }
    }
}

/// Feeds `bytes` to a restore in pieces of random sizes.
fn restored(bytes: &[u8], rng: &mut Rng) -> Keyspace {
    let mut restore = Restore::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let piece = (1 + rng.below(400) as usize).min(rest.len());
        restore.feed(&rest[..piece]).expect("the cut is whole");
        rest = &rest[piece..];
    }
    restore.finish().expect("the cut is whole")
}

#[test]
fn a_state_restored_from_a_cut_goes_on_exactly_as_the_original() {
    let handlers: Handlers = handlers().collect();
    for seed in 0..24 {
        let mut log = Log::new(seed);
        let mut chance = Rng::new(seed ^ 0xc07);
        let mut original = Keyspace::default();
        for _ in 0..600 {
            let entry = log.next();
            let reply = apply(&handlers, &mut original, &entry);
            log.note(&entry, &reply);
        }
        if chance.one_in(3) {
            // A cut given up half way leaves nothing behind.
            original.begin_cut();
            original.cut_step(&mut Vec::new(), 100);
            apply(&handlers, &mut original, &log.next());
            original.abandon_cut();
        }
        let digest_at_cut = original.digest();
        original.begin_cut();
        let mut cut = Vec::new();
        let mut since = Vec::new();
        while !original.cut_step(&mut cut, 1 + chance.below(60) as usize) {
            for _ in 0..chance.below(6) {
                let entry = log.next();
                let reply = apply(&handlers, &mut original, &entry);
                log.note(&entry, &reply);
                since.push((entry, reply, original.digest()));
            }
        }
        assert!(!original.is_cutting());
        assert_eq!(original.cut_digest(), Some(digest_at_cut), "seed {seed}: digest of the cut");
        assert!(since.len() > 10, "seed {seed}: only {} entries during the cut", since.len());

        let mut copy = restored(&cut, &mut chance);
        copy.assert_invariants();
        assert_eq!(copy.digest(), digest_at_cut, "seed {seed}: the cut is not the state at its beginning");
        for (entry, reply, digest) in since {
            assert_eq!(apply(&handlers, &mut copy, &entry), reply, "seed {seed}: reply to {entry:?}");
            assert_eq!(copy.digest(), digest, "seed {seed}: after {entry:?}");
        }
        for _ in 0..300 {
            let entry = log.next();
            let replies = (apply(&handlers, &mut original, &entry), apply(&handlers, &mut copy, &entry));
            assert_eq!(replies.0, replies.1, "seed {seed}: reply to {entry:?}");
            log.note(&entry, &replies.0);
            assert_eq!(original.digest(), copy.digest(), "seed {seed}: after {entry:?}");
        }
        original.assert_invariants();
        copy.assert_invariants();
    }
}

/// Goes through a cut in steps of random sizes with the entries of `log` between them; gives the digest of the cut.
fn digest_beside_writes(
    keyspace: &mut Keyspace,
    entries: &mut dyn Iterator<Item = Entry>,
    chance: &mut Rng,
    handlers: &Handlers,
) -> u64 {
    let keeps_records = chance.one_in(2);
    if keeps_records {
        keyspace.begin_cut();
    } else {
        keyspace.begin_digest();
    }
    let step = 1 + chance.below(4_000) as usize;
    let between = chance.below(8);
    let mut bytes = Vec::new();
    while !keyspace.cut_step(&mut bytes, step) {
        assert_eq!(keyspace.cut_digest(), None);
        for entry in entries.take(between as usize) {
            apply(handlers, keyspace, &entry);
        }
    }
    assert_eq!(bytes.is_empty(), !keeps_records);
    keyspace.cut_digest().expect("the cut came to its end")
}

#[test]
fn replicas_of_equal_position_give_equal_digests_whatever_their_cuts_meet() {
    let handlers: Handlers = handlers().collect();
    for seed in 200..240 {
        let mut log = Log::new(seed);
        let mut chance = Rng::new(seed ^ 0xd16);
        let mut replicas: Vec<Keyspace> = (0..3).map(|_| Keyspace::default()).collect();
        let mut digests = Vec::new();
        for _ in 0..4 {
            let entries: Vec<Entry> = (0..300).map(|_| log.next()).collect();
            let (before, during) = entries.split_at(100 + chance.below(100) as usize);
            let mut found = Vec::new();
            for replica in &mut replicas {
                before.iter().for_each(|entry| drop(apply(&handlers, replica, entry)));
                let at_once = replica.digest();
                let mut rest = during.iter().cloned();
                let digest = digest_beside_writes(replica, &mut rest, &mut chance, &handlers);
                assert_eq!(digest, at_once, "seed {seed}: the cut is not the state at its beginning");
                rest.for_each(|entry| drop(apply(&handlers, replica, &entry)));
                found.push(digest);
            }
            assert!(found.iter().all(|d| *d == found[0]), "seed {seed}: {found:?}");
            digests.extend(found.first().copied());
        }
        digests.dedup();
        assert_eq!(digests.len(), 4, "seed {seed}: states differ, digests do not");
    }
}

#[test]
fn a_digest_tells_apart_states_that_differ_in_one_thing() {
    let handlers: Handlers = handlers().collect();
    let state = |lines: &[&str]| {
        let mut keyspace = Keyspace::default();
        for line in lines {
            let words = line.split(' ').map(str::to_string).collect();
            let reply = apply(&handlers, &mut keyspace, &Entry { stamp: Millis(5), seed: 1, db: 0, words });
            assert_ne!(reply[0], b'-', "{line}");
        }
        keyspace.digest()
    };
    let states: [&[&str]; 18] = [
        &["SET {s}a 1", "SET {s}b 2"],
        &["SET {s}b 2", "SET {s}a 1"], // the order of keys in a slot
        &["SET {s}a 2", "SET {s}b 1"],
        &["SET {s}a 1", "SET {s}b 2 PX 100"],
        &["SET {s}a 1"],
        &["SET {s}a 1", "MOVE {s}a 1"],
        &["SADD k a b"],
        &["SADD k b a"],
        &["RPUSH k a b"],
        &["HSET k a b"],
        &["HSET k a b", "HPEXPIRE k 100 FIELDS 1 a"],
        &["ZADD k 1 a"],
        &["XADD k 1-1 a b"],
        &["XADD k 1-1 a b", "XGROUP CREATE k g 0"],
        &["XADD k 1-1 a b", "XGROUP CREATE k g 0", "XREADGROUP GROUP g c STREAMS k >"],
        &["XADD k 1-1 a b", "XGROUP CREATE k g 0", "XREADGROUP GROUP g d STREAMS k >"],
        &["XADD k 1-1 a b", "XGROUP CREATE k g 0", "XREADGROUP GROUP g c NOACK STREAMS k >"],
        &["XADD k 1-1 a b", "XADD k 1-2 a b", "XDEL k 1-2"],
    ];
    let digests: std::collections::BTreeSet<u64> = states.iter().map(|lines| state(lines)).collect();
    assert_eq!(digests.len(), states.len());
}

/// Keys that may be seen in each database, with their deadlines and the fields that may be seen.
fn visible(keyspace: &Keyspace) -> Vec<(u8, Vec<u8>, Millis, usize)> {
    let now = keyspace.stamp();
    let mut seen = Vec::new();
    for db in 0..DB_COUNT {
        for entry in keyspace.entries(db).filter(|e| e.is_live(now)) {
            let fields = if let skep_keyspace::Value::Hash(hash) = &entry.value { hash.len(now) } else { 0 };
            seen.push((db, entry.key.to_vec(), entry.deadline, fields));
        }
    }
    seen.sort();
    seen
}

#[test]
fn a_sweep_removes_what_is_due_and_nothing_else() {
    let handlers: Handlers = handlers().collect();
    for seed in 100..130 {
        let mut log = Log { days: false, ..Log::new(seed) };
        let mut keyspace = Keyspace::default();
        for _ in 0..10 {
            for _ in 0..80 {
                let entry = log.next();
                // Queues do more by themselves than vanish: model.rs is about them.
                let is_of_queues = entry.words.iter().any(|word| word.starts_with('Q'));
                if !entry.words.is_empty() && !is_of_queues {
                    apply(&handlers, &mut keyspace, &entry);
                }
            }
            log.stamp = log.stamp.plus(log.rng.below(100));
            keyspace.advance(log.stamp);
            let before = visible(&keyspace);
            let mut removed = 0;
            while let progress @ 1.. = keyspace.sweep(5) {
                assert!(progress <= 5, "seed {seed}: {progress} removed at once");
                removed += progress as u64;
            }
            assert_eq!(visible(&keyspace), before, "seed {seed}");
            assert!(removed <= keyspace.stats().expired_keys + keyspace.stats().expired_fields);
            assert!(
                keyspace.next_deadline().is_none_or(|d| d >= keyspace.stamp()),
                "seed {seed}: something is due"
            );
            let left: usize = (0..DB_COUNT).map(|db| keyspace.len(db)).sum();
            assert_eq!(left, before.len(), "seed {seed}: keys past their deadline are left");
            for db in 0..DB_COUNT {
                for entry in keyspace.entries(db) {
                    if let skep_keyspace::Value::Hash(hash) = &entry.value {
                        assert_eq!(hash.due(keyspace.stamp()), 0, "seed {seed}: fields are due");
                    }
                }
            }
            keyspace.assert_invariants();
        }
    }
}

#[test]
fn large_values_are_left_as_garbage() {
    let handlers: Handlers = handlers().collect();
    let run = |keyspace: &mut Keyspace, words: &[&str]| {
        let words = words.iter().map(|w| w.to_string()).collect();
        apply(&handlers, keyspace, &Entry { stamp: Millis(1), seed: 1, db: 0, words });
    };
    let removals: [&[&str]; 4] =
        [&["DEL", "big"], &["SET", "big", "v"], &["RENAME", "small", "big"], &["PEXPIREAT", "big", "1"]];
    for removal in removals {
        let mut keyspace = Keyspace::default();
        for i in 0..4_000 {
            run(&mut keyspace, &["SADD", "big", &format!("member {i}")]);
        }
        run(&mut keyspace, &["SADD", "small", "member"]);
        assert!(keyspace.take_garbage().is_none());
        run(&mut keyspace, removal);
        assert!(keyspace.take_garbage().is_some(), "{removal:?}");
        run(&mut keyspace, &["DEL", "small"]);
        assert!(keyspace.take_garbage().is_none());
    }
}
