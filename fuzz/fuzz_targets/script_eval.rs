//! Any source: it ends within its limits, answers one whole reply, and the same in a new engine as in one that has run all
//! sources before it, to the step.
#![no_main]

mod scripts;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_keyspace::{Keyspace, WriteCx};
use skep_resp::{Protocol, Reply, Value, ValueError};
use skep_script::{Engine, Invocation, KeyspaceHost, Limits, Run, ScriptCommands, Sha, Surroundings, Usage};

thread_local! {
    static OLD: RefCell<Engine> = RefCell::new(Engine::new());
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
    let source = scripts::source(data);
    let fresh = run(&mut Engine::new(), &source);
    let old = OLD.with_borrow_mut(|engine| run(engine, &source));
    assert!(fresh == old, "{:?} then {:?}", old, fresh);
    match Value::parse(&fresh.0) {
        Ok(Some((_, len))) => assert_eq!(len, fresh.0.len(), "more than one reply"),
        Err(ValueError::TooDeep) => {}
        other => panic!("not a whole reply: {other:?}"),
    }
});
