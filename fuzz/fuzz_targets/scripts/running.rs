//! Runs a script with a keyspace of its own.

use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_keyspace::{Keyspace, WriteCx};
use skep_resp::{Protocol, Reply, Value, ValueError};
use skep_script::{Engine, Invocation, KeyspaceHost, Limits, Run, ScriptCommands, Sha, Surroundings, Usage};

/// What a run shows: all that has to be the same on every replica.
#[derive(PartialEq, Eq, Debug)]
pub struct Ran {
    pub reply: Vec<u8>,
    pub usage: Usage,
    pub digest: u64,
}

/// Runs `source` with the key `key`.
pub fn run(engine: &mut Engine, source: &[u8], args: &[&[u8]], limits: Limits) -> Ran {
    let words = [b"eval", source, b"1", b"key"].into_iter().chain(args.iter().copied());
    let args = OwnedArgs::collect(words);
    let call = Invocation::parse(args.args()).expect("its keys are given right");
    let mut keyspace = Keyspace::default();
    let (now, mut rng) = (keyspace.advance(Millis(1)), Rng::new(1));
    let commands = ScriptCommands::new();
    let mut cx = WriteCx { keyspace: &mut keyspace, db: 0, now, rng: &mut rng };
    let mut host = KeyspaceHost::new(&commands, Surroundings::Write(&mut cx), false);
    let run = Run { limits, seed: 1 };
    let mut reply = Vec::new();
    let usage = engine.eval(
        source,
        Sha::of(source),
        &call,
        run,
        &mut host,
        &mut Reply::new(&mut reply, Protocol::Resp3),
    );
    Ran { reply, usage, digest: keyspace.digest() }
}

/// Checks that it is one whole reply.
pub fn is_whole(reply: &[u8]) {
    match Value::parse(reply) {
        Ok(Some((_, len))) => assert_eq!(len, reply.len(), "more than one reply"),
        Err(ValueError::TooDeep) => {}
        other => panic!("not a whole reply: {other:?}"),
    }
}
