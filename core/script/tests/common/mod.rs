//! A host of a few commands, and scripts run on it in one line.

use std::collections::BTreeMap;

use skep_base::Args;
use skep_base::args::OwnedArgs;
use skep_resp::{Protocol, Reply};
use skep_script::{Engine, Host, Invocation, Limits, LogLevel, Run, Sha, UnknownCommand, Usage, refusals};

/// Strings by key, and what was logged.
#[derive(Default)]
pub struct Table {
    pub values: BTreeMap<Vec<u8>, Vec<u8>>,
    pub logged: Vec<(LogLevel, Vec<u8>)>,
    pub calls: usize,
}

impl Host for Table {
    fn call(&mut self, command: Args, reply: &mut Reply) -> usize {
        self.calls += 1;
        let name = command[0].to_ascii_lowercase();
        match (name.as_slice(), command.len()) {
            (b"get", 2) => reply.bulk_or_null(self.values.get(&command[1]).map(Vec::as_slice)),
            (b"set", 3) => {
                self.values.insert(command[1].to_vec(), command[2].to_vec());
                reply.ok();
            }
            (b"echo", 2) => reply.bulk(&command[1]),
            (b"mget", keys) => {
                reply.array(keys - 1);
                let values = (1..keys).map(|at| self.values.get(&command[at]).map(Vec::as_slice));
                values.for_each(|value| reply.bulk_or_null(value));
            }
            // Answers with the bytes given.
            (b"raw", 2) => reply.raw(&command[1]),
            (b"get" | b"set" | b"echo" | b"raw", _) => reply.error(refusals::WRONG_ARITY),
            _ => reply.error(refusals::UNKNOWN_COMMAND),
        }
        0
    }

    fn may_call(&mut self, command: Args) -> Result<bool, UnknownCommand> {
        if command.is(0, "get") { Ok(true) } else { Err(UnknownCommand) }
    }

    fn log(&mut self, level: LogLevel, message: &[u8]) {
        self.logged.push((level, message.to_vec()));
    }
}

pub const RUN: Run = Run { limits: Limits { work: 5_000_000, memory: 32 << 20 }, seed: 1 };

/// Runs a script with keys and arguments as in `EVAL`.
pub fn run(
    engine: &mut Engine,
    host: &mut Table,
    source: &[u8],
    rest: &[&[u8]],
    protocol: Protocol,
) -> (Vec<u8>, Usage) {
    let args = OwnedArgs::collect([b"eval", source].into_iter().chain(rest.iter().copied()));
    let call = Invocation::parse(args.args()).expect("its keys are given right");
    let mut bytes = Vec::new();
    let usage = engine.eval(source, Sha::of(source), &call, RUN, host, &mut Reply::new(&mut bytes, protocol));
    (bytes, usage)
}
