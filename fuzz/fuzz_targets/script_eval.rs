//! Any source: it ends within its limits, answers one whole reply, and the same in a new engine as in one that has run all
//! sources before it, to the step.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_keyspace::{Keyspace, WriteCx};
use skep_resp::{Protocol, Reply, Value, ValueError};
use skep_script::{Engine, Invocation, KeyspaceHost, Limits, Run, ScriptCommands, Sha, Surroundings, Usage};

/// Pieces of scripts: bytes below 128 choose one, so that mutations make sources that compile.
const PIECES: &[&str] = &[
    "local v = {} ", "v", "[1]", ".a", " = ", "{}", "{v}", "1", "0", "-1", "2^53", "1e300", "0/0", "'x'", "'\\0a%d'", " .. ", " + ",
    "tostring(", "#", "(", ")", ", ", "function(...) return ... end", "return ", "for k, x in pairs(v) do ", "for i = 1, 9 do ",
    " end ", "while true do ", "if v then ", "pcall(", "error(", "setmetatable(", "string.rep(", "string.find(", "string.gsub(",
    "string.format(", "table.sort(", "table.concat(", "table.insert(", "unpack(", "select(", "coroutine.wrap(",
    "coroutine.yield(", "cjson.encode(", "cjson.decode(", "cmsgpack.pack(", "cmsgpack.unpack(", "struct.pack('>i4s', ",
    "struct.unpack('bc0', ", "bit.lshift(", "redis.call('set', 'k', ", "redis.call('get', 'k')", "redis.call('lrange', ",
    "redis.pcall(", "redis.setresp(3) ", "redis.error_reply(", "loadstring(", "math.random(", "KEYS[1]", "ARGV[1]", "next(v)",
    "rawset(", "_G", "nil", "true", "collectgarbage()", "{err = ", "{ok = ", "{map = ", "{set = ", "}", "__index = ", "a = ",
    " then ", " do ", " and ", " or ", " not ", "\n", " ", "string.byte(", "('(a*)'):rep(9)", "'%b()%f[%w]'", "v.a = v ",
];

thread_local! {
    static OLD: RefCell<Engine> = RefCell::new(Engine::new());
}

fn source(data: &[u8]) -> Vec<u8> {
    match data.split_first() {
        Some((0..128, rest)) => rest.iter().flat_map(|b| PIECES[*b as usize % PIECES.len()].bytes()).collect(),
        _ => data.to_vec(),
    }
}

fn run(engine: &mut Engine, source: &[u8]) -> (Vec<u8>, Usage, u64) {
    let args = OwnedArgs::collect([b"eval", source, b"1", b"key", b"argument"]);
    let call = Invocation::parse(args.args()).expect("its keys are given right");
    let mut keyspace = Keyspace::default();
    let (now, mut rng) = (keyspace.advance(Millis(1)), Rng::new(1));
    let commands = ScriptCommands::new();
    let mut cx = WriteCx { keyspace: &mut keyspace, db: 0, now, rng: &mut rng };
    let mut host = KeyspaceHost::new(&commands, Surroundings::Write(&mut cx), false);
    let run = Run { limits: Limits { work: 200_000, memory: 8 << 20 }, seed: 1 };
    let mut bytes = Vec::new();
    let usage = engine.eval(source, Sha::of(source), &call, run, &mut host, &mut Reply::new(&mut bytes, Protocol::Resp3));
    (bytes, usage, keyspace.digest())
}

fuzz_target!(|data: &[u8]| {
    let source = source(data);
    let fresh = run(&mut Engine::new(), &source);
    let old = OLD.with_borrow_mut(|engine| run(engine, &source));
    assert!(fresh == old, "{:?} then {:?}", old, fresh);
    match Value::parse(&fresh.0) {
        Ok(Some((_, len))) => assert_eq!(len, fresh.0.len(), "more than one reply"),
        Err(ValueError::TooDeep) => {}
        other => panic!("not a whole reply: {other:?}"),
    }
});
