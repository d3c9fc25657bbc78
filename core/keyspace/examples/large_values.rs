//! The longest pauses that one command or one step of a cut makes while values grow to millions of elements, are written out
//! while they change, and shrink again:
//!
//! Times are of the thread's processor time, so that what else the machine does stays out of them.
//!
//! ```sh
//! cargo run --release -p skep-keyspace --example large_values -- 1000000        # or one type: ... 10000000 zset
//! ```

// The example's own argument.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_keyspace::{Handler, Keyspace, WriteCx, handlers};
use skep_resp::{Protocol, Reply};

/// Bytes per step of a cut, as the node has it.
const STEP_BYTES: usize = 128 << 10;

struct Bench {
    keyspace: Keyspace,
    handlers: BTreeMap<&'static str, Handler>,
    rng: Rng,
    out: Vec<u8>,
}

/// Times of one kind of call.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn print(mut self, what: &str) {
        self.0.sort_unstable();
        let at = |share: f64| self.0[((self.0.len() - 1) as f64 * share) as usize];
        let (p50, p9999, longest) = (at(0.5), at(0.9999), at(1.0));
        println!(
            "{what:28} {:>9} calls  p50 {p50:>9.1?}  p99.99 {p9999:>9.1?}  p100 {longest:>9.1?}",
            self.0.len()
        );
    }
}

impl Bench {
    fn run(&mut self, line: &str, times: &mut Times) {
        let args = OwnedArgs::collect(line.split(' ').map(str::as_bytes));
        let words: Vec<String> = line.split(' ').take(2).map(str::to_lowercase).collect();
        let handler =
            self.handlers.get(words[0].as_str()).or_else(|| self.handlers.get(words.join("|").as_str()));
        let handler = *handler.expect("a known command");
        let stamp = self.keyspace.stamp();
        let mut cx = WriteCx { keyspace: &mut self.keyspace, db: 0, now: stamp, rng: &mut self.rng };
        let start = now();
        handler.write(&mut cx, args.args(), &mut Reply::new(&mut self.out, Protocol::Resp2));
        times.0.push(now() - start);
        assert_ne!(self.out[0], b'-', "{line}: {}", self.out.escape_ascii());
        self.out.clear();
        // As the shell does, elsewhere.
        drop(self.keyspace.take_garbage());
    }

    /// A cut with a write of `line` between its steps.
    fn cut(&mut self, kind: &str, mut line: impl FnMut(u64) -> String) {
        let (mut steps, mut writes, mut bytes) = (Times::default(), Times::default(), 0);
        self.keyspace.begin_cut();
        let mut done = false;
        while !done {
            for _ in 0..4 {
                let line = line(self.rng.next_u64());
                self.run(&line, &mut writes);
            }
            let mut piece = Vec::with_capacity(STEP_BYTES + STEP_BYTES / 8);
            let start = now();
            done = self.keyspace.cut_step(&mut piece, STEP_BYTES);
            steps.0.push(now() - start);
            bytes += piece.len();
        }
        steps.print(&format!("{kind}: steps of a cut"));
        writes.print(&format!("{kind}: writes beside it"));
        println!("{:28} {bytes:>9} bytes", "");
    }
}

/// Processor time of this thread.
fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Memory of the process, less than it was if the allocator has given some back.
fn resident_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4_096;
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells it");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * PAGE_BYTES
}

fn main() {
    let count: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let mut keyspace = Keyspace::default();
    keyspace.advance(Millis(1_000_000));
    let mut bench = Bench { keyspace, handlers: handlers().collect(), rng: Rng::new(1), out: Vec::new() };
    type Line = fn(u64) -> String;
    let kinds: [(&str, Line, Line, Line); 9] = [
        (
            "hash",
            |i| format!("HSET k field:{i} {i}"),
            |i| format!("HSET k field:{i} changed"),
            |i| format!("HDEL k field:{i}"),
        ),
        ("set", |i| format!("SADD k member:{i}"), |i| format!("SREM k member:{i}"), |_| "SPOP k".into()),
        (
            "zset",
            |i| format!("ZADD k {} member:{i}", i % 1_000),
            |i| format!("ZADD k 5 member:{i}"),
            |i| format!("ZREM k member:{i}"),
        ),
        ("list", |i| format!("RPUSH k element:{i}"), |_| "LPOP k".into(), |_| "RPOP k".into()),
        (
            "hash with deadlines",
            |i| format!("HSET k field:{i} {i}"),
            |i| format!("HPEXPIRE k 100000 FIELDS 1 field:{i}"),
            |i| format!("HDEL k field:{i}"),
        ),
        (
            "queue",
            |i| format!("QADD k {i:0100}"),
            |_| "QTAKE 1 k WORKER w LEASE 60000".into(),
            |_| "QTAKE 1 k".into(),
        ),
        (
            "queue with ids and groups",
            |i| format!("QADD k {i:0100} ID job:{i} GROUP group:{} DELAY {}", i % 1_000, i % 2),
            |i| format!("QADD k {i:0100} ID new:{i}"),
            |i| format!("QDROP k job:{i}"),
        ),
        (
            "stream",
            |i| format!("XADD k {}-0 field value:{i}", i + 1),
            |i| if i % 2 == 0 { format!("XDEL k {i}-0") } else { "XADD k * other value".into() },
            |i| if i % 1_000 == 0 { format!("XTRIM k MINID {i}") } else { format!("XDEL k {i}-0") },
        ),
        (
            "stream with a group",
            |i| match i {
                0 => "XGROUP CREATE k g 0 MKSTREAM".into(),
                i if i % 100 == 0 => format!("XREADGROUP GROUP g c{} COUNT 100 STREAMS k >", i / 100 % 5),
                i => format!("XADD k {i}-0 field value:{i}"),
            },
            |i| if i % 2 == 0 { format!("XACK k g {i}-0") } else { format!("XCLAIM k g c1 0 {i}-0") },
            |i| format!("XACK k g {i}-0"),
        ),
    ];
    let wanted = std::env::args().nth(2);
    for (kind, grow, change, shrink) in kinds {
        if wanted.as_deref().is_some_and(|wanted| wanted != kind) {
            continue;
        }
        let mut times = Times(Vec::with_capacity(count as usize));
        let before = resident_bytes() + count * size_of::<Duration>() as u64;
        (0..count).for_each(|i| bench.run(&grow(i), &mut times));
        times.print(&format!("{kind}: growing"));
        let resident = resident_bytes().saturating_sub(before);
        let told = bench.keyspace.entry_bytes(0, b"k").unwrap_or(0);
        println!("{:28} {:>9} bytes each, {} by MEMORY USAGE", "", resident / count, told as u64 / count);
        bench.cut(kind, |random| change(random % count));
        let mut times = Times::default();
        (0..count * 3 / 4).for_each(|i| bench.run(&shrink(i), &mut times));
        times.print(&format!("{kind}: shrinking"));
        let mut times = Times::default();
        bench.run("DEL k", &mut times);
        times.print(&format!("{kind}: deleting"));
    }
}
