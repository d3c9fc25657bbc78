//! Values of thousands of elements, which cuts write in pieces while commands change, move and remove them.

use std::collections::BTreeMap;

use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_keyspace::{Handler, Keyspace, Restore, WriteCx, handlers};
use skep_resp::{Protocol, Reply};

/// Above what is kept and written in one piece.
const COUNT: u64 = 9_000;

struct State {
    keyspace: Keyspace,
    handlers: BTreeMap<&'static str, Handler>,
}

impl State {
    fn new() -> State {
        let mut keyspace = Keyspace::default();
        keyspace.advance(Millis(1_000_000));
        State { keyspace, handlers: handlers().collect() }
    }

    fn run(&mut self, line: &str) {
        let args = OwnedArgs::collect(line.split(' ').map(str::as_bytes));
        let words: Vec<String> = line.split(' ').take(2).map(str::to_lowercase).collect();
        let handler =
            self.handlers.get(words[0].as_str()).or_else(|| self.handlers.get(words.join("|").as_str()));
        let handler = handler.unwrap_or_else(|| panic!("no handler for {line}"));
        let (mut out, mut rng) = (Vec::new(), Rng::new(1));
        let now = self.keyspace.stamp();
        let mut cx = WriteCx { keyspace: &mut self.keyspace, db: 0, now, rng: &mut rng };
        handler.write(&mut cx, args.args(), &mut Reply::new(&mut out, Protocol::Resp2));
        assert!(out[0] != b'-', "{line}: {}", out.escape_ascii());
    }

    /// A large value of every type, and small ones before and behind them in their slot.
    fn with_large_values() -> State {
        let mut state = State::new();
        state.run("SET {s}first 1");
        for i in 0..COUNT {
            state.run(&format!("HSET {{s}}hash field:{i} {i}"));
            state.run(&format!("SADD {{s}}set member:{i}"));
            state.run(&format!("ZADD zset {} member:{i}", i % 100));
            state.run(&format!("RPUSH list element:{i}"));
            state.run(&format!("QADD {{s}}queue payload:{i} ID job:{i} PRIO {} DEDUP word:{i} 9000", i % 10));
            state.run(&format!("XADD {{s}}stream {}-{} field {i}", 1 + i / 3, i % 3));
        }
        state.run("XGROUP CREATE {s}stream a 0");
        state.run("XGROUP CREATE {s}stream b 0");
        for consumer in ["x", "y", "z"] {
            state.run(&format!("XREADGROUP GROUP a {consumer} COUNT 2500 STREAMS {{s}}stream >"));
        }
        state.run("XREADGROUP GROUP b x COUNT 10 STREAMS {s}stream >");
        for i in (0..COUNT).step_by(7) {
            state.run(&format!("HPEXPIRE {{s}}hash {} FIELDS 1 field:{i}", 1_000 + i));
        }
        state.run("QTAKE 1 {s}queue COUNT 500 WORKER w LEASE 50");
        state.run("QSET {s}queue RATE 1000 PER 5");
        state.run("SETRANGE {s}string 1000000 end");
        state.run("SET {s}last 1");
        state
    }
}

/// Something that changes a large value or where it is, at random.
fn change(rng: &mut Rng, step: u64) -> String {
    let i = rng.below(COUNT);
    let id = format!("{}-{}", 1 + i / 3, i % 3);
    match rng.below(42) {
        0..3 => format!("HSET {{s}}hash field:{i} changed{step}"),
        3 => format!("HSET {{s}}hash new:{step} 1"),
        4 => format!("HDEL {{s}}hash field:{i}"),
        5 => format!("HPEXPIRE {{s}}hash {} FIELDS 1 field:{i}", 5_000 + step),
        6 => format!("HPERSIST {{s}}hash FIELDS 1 field:{i}"),
        7 => format!("SREM {{s}}set member:{i}"),
        8 => format!("SADD {{s}}set new:{step}"),
        9 => "SPOP {s}set 3".into(),
        10..12 => format!("ZADD zset {step} member:{i}"),
        12 => format!("ZREM zset member:{i}"),
        13 => "ZPOPMAX zset 2".into(),
        14 => format!("LSET list {} changed{step}", i % 1_000),
        15 => "LPOP list 5".into(),
        16 => format!("RPUSH list new{step}"),
        17 => format!("LINSERT list BEFORE element:{i} in{step}"),
        18 => format!("SETRANGE {{s}}string {} changed{step}", i * 100),
        19 => "APPEND {s}string more".into(),
        20 => "COPY {s}hash {s}copy REPLACE".into(),
        21 => format!("SET small:{i} v"),
        22 => format!("QADD {{s}}queue new:{step} GROUP g{}", i % 5),
        23 => "QTAKE 1 {s}queue COUNT 3 LEASE 5".into(),
        24 => format!("QDROP {{s}}queue job:{i}"),
        25 => format!("QADD {{s}}queue changed ID job:{i}"),
        26 => "QREDO {s}queue ALL".into(),
        27 => "COPY {s}queue {s}jobs REPLACE".into(),
        28..30 => format!("XADD {{s}}stream * other {step}"),
        30 => format!("XDEL {{s}}stream {id}"),
        31 => "XTRIM {s}stream MAXLEN 8900".into(),
        32..34 => format!("XACK {{s}}stream a {id} {}-0", 1 + i / 3),
        34 => format!("XCLAIM {{s}}stream a y 0 {id} FORCE"),
        35 => "XREADGROUP GROUP b w COUNT 7 STREAMS {s}stream >".into(),
        36 => format!("XGROUP CREATE {{s}}stream new:{step}:{i} $"),
        37 => "XGROUP DELCONSUMER {s}stream b x".into(),
        _ => format!("HINCRBY {{s}}hash counter {step}"),
    }
}

fn restored(cut: &[u8], piece: usize) -> Keyspace {
    let mut restore = Restore::default();
    cut.chunks(piece).for_each(|bytes| restore.feed(bytes).expect("the cut is whole"));
    restore.finish().expect("the cut is whole")
}

#[test]
fn a_cut_holds_large_values_as_they_were_whatever_happens_to_them() {
    /// What takes large values away or elsewhere while they are written.
    const MOVES: [&[&str]; 6] = [
        &[],
        &["DEL {s}hash {s}set zset list {s}string {s}queue {s}stream"],
        &["RENAME {s}hash {s}moved", "RENAME {s}queue {s}elsewhere", "RENAME zset {s}set", "SET list 1"],
        &["FLUSHALL"],
        &["SWAPDB 0 1", "SWAPDB 0 2"],
        &["MOVE {s}hash 1", "MOVE {s}queue 1", "MOVE {s}stream 1", "SWAPDB 0 1", "FLUSHDB", "SWAPDB 0 1"],
    ];
    let original = State::with_large_values().keyspace.digest();
    for (seed, moves) in (0..).zip(MOVES) {
        let mut rng = Rng::new(seed);
        let mut state = State::with_large_values();
        // Some changes before, so that the order in arrays is not the one of insertion.
        (0..rng.below(300)).for_each(|step| state.run(&change(&mut rng, step)));
        let digest = state.keyspace.digest();
        assert!(seed == 0 || digest != original);
        let keeps = seed != 4;
        if keeps {
            state.keyspace.begin_cut();
        } else {
            state.keyspace.begin_digest();
        }
        let (mut cut, mut steps) = (Vec::new(), 0);
        let moves_at = 3 + rng.below(20);
        while !state.keyspace.cut_step(&mut cut, 20_000) {
            steps += 1;
            if steps == moves_at {
                moves.iter().for_each(|line| state.run(line));
            }
            if steps < moves_at || moves.is_empty() {
                (0..rng.below(12)).for_each(|step| state.run(&change(&mut rng, steps * 100 + step)));
            }
            if steps % 10 == 0 {
                drop(state.keyspace.take_garbage());
            }
        }
        assert!(steps > moves_at, "{steps} steps, {moves:?} at {moves_at}");
        assert_eq!(state.keyspace.cut_digest(), Some(digest), "{moves:?}");
        state.keyspace.assert_invariants();
        if keeps {
            let copy = restored(&cut, 10_007);
            copy.assert_invariants();
            assert_eq!(copy.digest(), digest, "{moves:?}");
        }
    }
}

#[test]
fn states_agree_on_their_digest_whatever_form_their_values_had_before() {
    // What was large and shrank lies in chunks still; what is restored never did.
    let mut state = State::with_large_values();
    for i in 0..COUNT - 3_000 {
        state.run(&format!("HDEL {{s}}hash field:{i}"));
        state.run(&format!("SREM {{s}}set member:{i}"));
        state.run(&format!("ZREM zset member:{i}"));
        state.run("LPOP list");
        state.run(&format!("QDROP {{s}}queue job:{i}"));
    }
    let digest = state.keyspace.digest();
    state.keyspace.begin_cut();
    let mut cut = Vec::new();
    while !state.keyspace.cut_step(&mut cut, 1_000) {}
    let mut copy = restored(&cut, 999);
    assert_eq!(copy.digest(), digest);
    copy.begin_digest();
    while !copy.cut_step(&mut Vec::new(), 1_000) {}
    assert_eq!(copy.cut_digest(), Some(digest));
    // They go on the same.
    let mut copy = State { keyspace: copy, handlers: handlers().collect() };
    let mut rng = Rng::new(9);
    for step in 0..2_000 {
        let line = change(&mut rng, step);
        state.run(&line);
        copy.run(&line);
    }
    assert_eq!(copy.keyspace.digest(), state.keyspace.digest());
}

#[test]
fn no_step_writes_much_more_than_was_asked_for() {
    const ASKED: usize = 100_000;
    /// A piece, and the small tables of a step.
    const MORE_MAX: usize = 70_000;
    let mut state = State::with_large_values();
    state.keyspace.begin_cut();
    let mut steps = 0;
    loop {
        let mut step = Vec::new();
        let done = state.keyspace.cut_step(&mut step, ASKED);
        assert!(step.len() < ASKED + MORE_MAX, "{} bytes in one step", step.len());
        steps += 1;
        if done {
            break;
        }
    }
    assert!(steps > 10, "{steps} steps");
}

#[test]
fn an_abandoned_cut_lets_go_of_large_values() {
    let mut state = State::with_large_values();
    let digest = state.keyspace.digest();
    state.keyspace.begin_cut();
    state.keyspace.cut_step(&mut Vec::new(), 20_000);
    state.run("DEL {s}hash");
    state.keyspace.abandon_cut();
    assert!(state.keyspace.take_garbage().is_some());
    assert!(state.keyspace.take_garbage().is_none());
    assert_ne!(state.keyspace.digest(), digest);
    assert_eq!(state.keyspace.cut_digest(), None);
}

#[test]
fn damaged_cuts_of_large_values_are_refused_or_read_without_a_panic() {
    let mut state = State::new();
    for i in 0..4_200 {
        state.run(&format!("SADD set {i}"));
        state.run(&format!("HSET hash {i} {i}"));
        state.run(&format!("QADD queue {i} GROUP {}", i % 3));
        state.run(&format!("XADD stream {}-0 f {i}", i + 1));
    }
    state.run("XGROUP CREATE stream g 0");
    state.run("XREADGROUP GROUP g c COUNT 900 STREAMS stream >");
    state.keyspace.begin_cut();
    let mut cut = Vec::new();
    while !state.keyspace.cut_step(&mut cut, 1_000) {}
    let feed = |bytes: &[u8]| {
        let mut restore = Restore::default();
        restore.feed(bytes).and_then(|()| restore.finish())
    };
    assert!(feed(&cut).is_ok());
    let mut rng = Rng::new(5);
    for _ in 0..60 {
        let at = rng.below(cut.len() as u64) as usize;
        assert!(feed(&cut[..at]).is_err(), "cut off at {at}");
        let mut flipped = cut.clone();
        flipped[at] ^= 1 + rng.below(255) as u8;
        if let Ok(keyspace) = feed(&flipped) {
            keyspace.assert_invariants();
        }
    }
}
