//! How long a call takes: small scripts on a keyspace, as a node would run them. `cargo run --release -p skep-script
//! --example speed`; prints nanoseconds of processor time a call.

use rustix::time::{ClockId, clock_gettime};
use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_keyspace::{Keyspace, WriteCx};
use skep_resp::{Protocol, Reply};
use skep_script::{Engine, Invocation, KeyspaceHost, Limits, Run, ScriptCommands, Sha, Surroundings};

const CALLS: u32 = 300_000;

const SCRIPTS: &[(&str, &str)] = &[
    ("nothing", "return"),
    ("one GET", "return redis.call('get', KEYS[1])"),
    (
        "compare and delete",
        "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
    ),
    ("ten INCR", "for i = 1, 10 do redis.call('incr', KEYS[2]) end return redis.call('get', KEYS[2])"),
    ("list of ten", "return redis.call('lrange', KEYS[3], 0, 9)"),
    ("JSON there and back", "return cjson.encode(cjson.decode(ARGV[2]))"),
    ("MessagePack there and back", "return cmsgpack.pack(cmsgpack.unpack(ARGV[3]))"),
    ("a thousand steps", "local s = 0 for i = 1, 250 do s = s + i % 7 end return s"),
];

fn main() {
    let mut engine = Engine::new();
    let commands = ScriptCommands::new();
    let mut keyspace = Keyspace::default();
    let mut rng = Rng::new(1);
    let json =
        br#"{"id":"17","name":"job","data":{"to":"someone","n":[1,2,3]},"opts":{"delay":0,"attempts":3}}"#;
    let packed = b"\x93\x01\xa3abc\x82\xa1a\x01\xa1b\x02";
    for source in ["redis.call('set', KEYS[1], 'v')", "for i = 1, 10 do redis.call('rpush', KEYS[3], i) end"]
    {
        run(&mut engine, &commands, &mut keyspace, &mut rng, source, &[], 1);
    }
    for (name, source) in SCRIPTS {
        let args: [&[u8]; 3] = [b"x", json, packed];
        run(&mut engine, &commands, &mut keyspace, &mut rng, source, &args, CALLS / 10);
        let begun = nanoseconds();
        let work = run(&mut engine, &commands, &mut keyspace, &mut rng, source, &args, CALLS);
        println!("{name:28} {:6} ns, {work} steps", (nanoseconds() - begun) / u64::from(CALLS));
    }
    let long = "local s = 0 for i = 1, 5e6 do s = s + i % 7 end return s";
    let begun = nanoseconds();
    let work = run(&mut engine, &commands, &mut keyspace, &mut rng, long, &[], 1);
    println!("{:28} {:6.2} ns", "a step of a loop", (nanoseconds() - begun) as f64 / work as f64);
}

fn run(
    engine: &mut Engine,
    commands: &ScriptCommands,
    keyspace: &mut Keyspace,
    rng: &mut Rng,
    source: &str,
    rest: &[&[u8]],
    times: u32,
) -> u64 {
    let words = [b"EVAL", source.as_bytes(), b"3", b"key", b"counter", b"list"];
    let args = OwnedArgs::collect(words.into_iter().chain(rest.iter().copied()));
    let mut out = Vec::new();
    let mut work = 0;
    for _ in 0..times {
        out.clear();
        let call = Invocation::parse(args.args()).expect("its keys are three");
        let now = keyspace.advance(Millis(1));
        let mut cx = WriteCx { keyspace, db: 0, now, rng };
        let mut host = KeyspaceHost::new(commands, Surroundings::Write(&mut cx), false);
        let terms = Run { limits: Limits::DEFAULT, seed: 1 };
        let sha = Sha::of(call.subject);
        let mut reply = Reply::new(&mut out, Protocol::Resp2);
        work = engine.eval(call.subject, sha, &call, terms, &mut host, &mut reply).work;
    }
    assert_ne!(out.first(), Some(&b'-'), "{}", String::from_utf8_lossy(&out));
    work
}

fn nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
