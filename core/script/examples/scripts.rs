//! Scripts on a keyspace of their own, for tests that compare them with redis-server: requests on standard input, replies
//! on standard output, both as RESP. Knows EVAL, EVALSHA, SCRIPT, FCALL, FUNCTION, HELLO, FLUSHALL, and the keyspace's
//! commands; a stand-in for a node's routing, and no more.

#[path = "../../keyspace/examples/events/serve.rs"]
mod serve;

use skep_base::{Args, Millis, Refusal, Rng};
use skep_keyspace::{Keyspace, WriteCx};
use skep_resp::{Protocol, Reply};
use skep_script::{
    Engine, Host, Invocation, KeyspaceHost, Limits, Run, ScriptCommands, Scripts, Sha, Surroundings,
    reads_only,
};

fn main() {
    let mut store = Store::new();
    serve::serve(|args, output| store.run(args, output));
}

struct Store {
    engine: Engine,
    commands: ScriptCommands,
    scripts: Scripts,
    keyspace: Keyspace,
    protocol: Protocol,
    entries: u64,
}

impl Store {
    fn new() -> Store {
        Store {
            engine: Engine::new(),
            commands: ScriptCommands::new(),
            scripts: Scripts::default(),
            keyspace: Keyspace::default(),
            protocol: Protocol::Resp2,
            entries: 0,
        }
    }

    fn run(&mut self, args: Args, out: &mut Vec<u8>) {
        let mut reply = Reply::new(out, self.protocol);
        let mark = reply.mark();
        if let Err(refusal) = self.dispatch(args, &mut reply) {
            reply.rewind(mark);
            reply.refusal(&refusal);
        }
    }

    fn dispatch(&mut self, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
        self.entries += 1;
        let name = args[0].to_ascii_lowercase();
        match name.as_slice() {
            b"eval" | b"eval_ro" | b"evalsha" | b"evalsha_ro" => self.eval(args, &name, reply)?,
            b"fcall" | b"fcall_ro" => self.fcall(args, name.ends_with(b"_ro"), reply)?,
            b"script" if args.is(1, "load") => {
                self.engine.compile(&args[2], Sha::of(&args[2]))?;
                reply.bulk(self.scripts.load(&args[2])?.to_string().as_bytes());
            }
            b"script" if args.is(1, "flush") => {
                self.scripts.flush();
                reply.ok();
            }
            b"script" => {
                reply.array(args.len() - 2);
                args.from(2).iter().for_each(|name| {
                    let known = Sha::parse(name).is_some_and(|sha| self.scripts.source(sha).is_some());
                    reply.int(i64::from(known));
                });
            }
            b"function" if args.is(1, "load") => {
                let replace = args.is(2, "replace");
                let library = self.engine.load_library(&args[args.len() - 1], self.terms())?;
                let name = library.name.clone();
                self.scripts.add_library(library, replace)?;
                reply.bulk(name.as_bytes());
            }
            b"function" if args.is(1, "delete") => {
                self.scripts.delete_library(&args[2])?;
                reply.ok();
            }
            b"function" => {
                self.scripts.flush_libraries();
                reply.ok();
            }
            b"hello" => {
                self.protocol = if args.is(1, "3") { Protocol::Resp3 } else { Protocol::Resp2 };
                reply.ok();
            }
            b"flushall" => {
                self.keyspace = Keyspace::default();
                reply.ok();
            }
            _ => self.on_keyspace(false, |_, host| {
                host.call(args, reply);
            }),
        }
        Ok(())
    }

    fn eval(&mut self, args: Args, name: &[u8], reply: &mut Reply) -> Result<(), Refusal> {
        let call = Invocation::parse(args)?;
        let (sha, source) = if name.starts_with(b"evalsha") {
            let found =
                Sha::parse(call.subject).and_then(|sha| Some((sha, self.scripts.source(sha)?.to_vec())));
            found.ok_or(Refusal::text("NOSCRIPT No matching script. Please use EVAL."))?
        } else {
            (Sha::of(call.subject), call.subject.to_vec())
        };
        let reads_only = self.engine.compile(&source, sha)?.reads_only(name.ends_with(b"_ro"))?;
        self.scripts.remember(sha, &source);
        let run = self.terms();
        self.on_keyspace(reads_only, |engine, host| {
            engine.eval(&source, sha, &call, run, host, reply);
        });
        Ok(())
    }

    fn fcall(&mut self, args: Args, read_only: bool, reply: &mut Reply) -> Result<(), Refusal> {
        let not_found = Refusal::text("ERR Function not found");
        let library = self.scripts.library_of(&args[1]).cloned().ok_or(not_found)?;
        let flags = library.function(&args[1]).expect("the library has it").flags;
        let call = Invocation::parse(args)?;
        let reads_only = reads_only(flags, read_only)?;
        let run = self.terms();
        self.on_keyspace(reads_only, |engine, host| {
            engine.fcall(&library, &call, run, host, reply);
        });
        Ok(())
    }

    fn terms(&self) -> Run {
        Run { limits: Limits::DEFAULT, seed: self.entries }
    }

    fn on_keyspace(&mut self, reads_only: bool, run: impl FnOnce(&mut Engine, &mut KeyspaceHost)) {
        let now = self.keyspace.advance(Millis(1_700_000_000_000 + self.entries));
        let mut rng = Rng::new(self.entries);
        let mut cx = WriteCx { keyspace: &mut self.keyspace, db: 0, now, rng: &mut rng };
        let mut host = KeyspaceHost::new(&self.commands, Surroundings::Write(&mut cx), reads_only);
        run(&mut self.engine, &mut host);
    }
}
