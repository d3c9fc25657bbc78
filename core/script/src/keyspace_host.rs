//! A host whose commands run on the keyspace: within a log entry that is applied, or as a read.

use std::sync::Arc;

use skep_acl::{CarriedRights, Denied};
use skep_base::{Args, Millis, Refusal};
use skep_command::{COMMAND_COUNT, CommandSpec, Flags, lookup_full, resolve};
use skep_keyspace::events::Channel;
use skep_keyspace::scripts::{Forbidden, ScriptDenial};
use skep_keyspace::{Handler, ReadCx, Terms, WriteCx, handlers, parse_database};
use skep_resp::Reply;

use crate::cost::Growth;
use crate::host::{Host, LogLevel, UnknownCommand, refusals};
use crate::invocation::Invocation;
use crate::reads::{ReadKeys, Reads};

/// The functions that scripts may call, by command. Made once.
pub struct ScriptCommands {
    by_id: Vec<Option<(Run, Growth)>>,
}

#[derive(Clone, Copy)]
enum Run {
    Keyspace(Handler),
    /// Commands that are the node's elsewhere, and need nothing of it.
    Here(fn(&mut KeyspaceHost, Args, &mut Reply)),
}

impl Default for ScriptCommands {
    fn default() -> ScriptCommands {
        ScriptCommands::new()
    }
}

impl ScriptCommands {
    pub fn new() -> ScriptCommands {
        let mut by_id = vec![None; COMMAND_COUNT];
        let mut set = |name: &str, run: Run| {
            let command =
                lookup_full(name.as_bytes()).unwrap_or_else(|| panic!("{name} is not in the command table"));
            by_id[command.id().index()] = Some((run, Growth::of(name)));
        };
        handlers().for_each(|(name, handler)| set(name, Run::Keyspace(handler)));
        set("echo", Run::Here(|_, args, reply| reply.bulk(&args[1])));
        set("ping", Run::Here(ping));
        set("publish", Run::Here(|host, args, reply| publish(host, Channel::Plain, args, reply)));
        set("spublish", Run::Here(|host, args, reply| publish(host, Channel::Shard, args, reply)));
        set("select", Run::Here(select));
        set("time", Run::Here(time));
        ScriptCommands { by_id }
    }

    fn of(&self, command: &CommandSpec) -> Option<(Run, Growth)> {
        self.by_id[command.id().index()]
    }
}

/// Where the commands of a script run.
pub enum Surroundings<'a, 'k> {
    /// While an entry is applied: everything comes from the entry and is the same on every replica.
    Write(&'a mut WriteCx<'k>),
    /// As a read, which changes nothing and is not in the log.
    Read(&'a mut ReadCx<'k>),
}

/// Runs a script's commands on a keyspace. `SELECT` holds until the script ends: the caller gives a context of the script's
/// own, or sets its database again.
pub struct KeyspaceHost<'a, 'k> {
    commands: &'a ScriptCommands,
    surroundings: Surroundings<'a, 'k>,
    reads_only: bool,
    /// What its user may do; `None`: everything.
    rights: Option<CarriedRights>,
    /// What it may do on this shard.
    terms: Arc<Terms>,
    /// There is no memory for its first write.
    lacks_memory: bool,
    logged: Vec<(LogLevel, Vec<u8>)>,
    denied: Vec<ScriptDenial>,
    reads: Reads<'a>,
}

/// What is to be told of a script beside its reply.
pub struct Told {
    /// Lines of `redis.log`, in their order.
    pub logged: Vec<(LogLevel, Vec<u8>)>,
    pub denied: Vec<ScriptDenial>,
    /// Keys that its call does not name.
    pub read: ReadKeys,
}

/// Lines of `redis.log`, and denials, kept from one script; more are dropped.
const LOGGED_MAX: usize = 100;
/// Of a key or channel that was denied; `ACL LOG` shows no more.
const DENIED_BYTES_MAX: usize = 1_024;

impl<'a, 'k> KeyspaceHost<'a, 'k> {
    /// `reads_only` refuses writes also while an entry is applied (see [`crate::Header::reads_only`]).
    pub fn new(commands: &'a ScriptCommands, surroundings: Surroundings<'a, 'k>, reads_only: bool) -> Self {
        let terms = match &surroundings {
            Surroundings::Write(cx) => cx.keyspace.terms(),
            Surroundings::Read(cx) => cx.keyspace.terms(),
        };
        KeyspaceHost {
            commands,
            surroundings,
            reads_only,
            rights: None,
            terms,
            lacks_memory: false,
            logged: Vec::new(),
            denied: Vec::new(),
            reads: Reads::default(),
        }
    }

    /// Takes note of the keys that the script reads and its call does not name.
    pub fn noting_reads(mut self, call: Invocation<'a>) -> Self {
        self.reads = Reads::of(call);
        self
    }

    /// Refuses what may need memory until the script has written something: then it is not stopped halfway, as in Redis.
    pub fn without_memory(mut self, lacks_memory: bool) -> Self {
        self.lacks_memory = lacks_memory;
        self
    }

    /// Lets the script do no more than its user may.
    pub fn limited(mut self, rights: Option<CarriedRights>) -> Self {
        self.rights = rights;
        self
    }

    /// What is to be told of the script.
    pub fn into_told(self) -> Told {
        Told { logged: self.logged, denied: self.denied, read: self.reads.into_keys() }
    }

    /// Keeps what is to be in `ACL LOG`.
    fn note_denied(&mut self, denied: Denied, command: &CommandSpec, args: Args) {
        let (forbidden, object) = match denied {
            Denied::Command => (Forbidden::Command, command.name.as_bytes()),
            Denied::Key(at) => (Forbidden::Key, &args[at]),
            Denied::Channel(at) => (Forbidden::Channel, &args[at]),
            // As in Redis, and outside of scripts.
            Denied::Pattern(_) => return,
        };
        if self.denied.len() < LOGGED_MAX {
            let user = self.rights.as_ref().map(|rights| rights.user().to_vec()).unwrap_or_default();
            let object = object[..object.len().min(DENIED_BYTES_MAX)].to_vec();
            self.denied.push(ScriptDenial { forbidden, object, user });
        }
    }

    fn now(&self) -> Millis {
        match &self.surroundings {
            Surroundings::Write(cx) => cx.now,
            Surroundings::Read(cx) => cx.now,
        }
    }

    fn run(&mut self, handler: Handler, args: Args, reply: &mut Reply) {
        let mark = reply.mark();
        let result = match (&mut self.surroundings, handler) {
            (Surroundings::Write(cx), Handler::Write(run)) => run(cx, args, reply),
            (Surroundings::Write(cx), Handler::Read(run)) => run(&mut cx.as_read(), args, reply),
            // Not `Handler::read`: it would forget what the script's earlier reads met that was due.
            (Surroundings::Read(cx), Handler::Read(run)) => run(cx, args, reply),
            (Surroundings::Read(_), Handler::Write(_)) => return reply.error(refusals::READ_ONLY),
        };
        if let Err(refusal) = result {
            reply.refuse(&refusal, mark);
        }
    }
}

impl Host for KeyspaceHost<'_, '_> {
    fn call(&mut self, args: Args, reply: &mut Reply) -> usize {
        let Ok(command) = resolve(args) else { return refused(reply, refusal_of(args)) };
        if command.flags.has(Flags::NOSCRIPT) {
            return refused(reply, refusals::NOT_FROM_SCRIPT);
        }
        if self.reads_only && command.is_write() {
            return refused(reply, refusals::READ_ONLY);
        }
        let Some((run, growth)) = self.commands.of(command) else {
            return refused(reply, refusals::NOT_FROM_SCRIPT);
        };
        if let Some(Err((denied, why))) = self.rights.as_ref().map(|rights| rights.check(command, args)) {
            self.note_denied(denied, command, args);
            return refused(reply, &format!("ERR ACL failure in script: {why}"));
        }
        if self.lacks_memory && command.flags.has(Flags::DENYOOM) {
            return refused(reply, refusals::NO_MEMORY);
        }
        self.lacks_memory &= !command.is_write();
        if let Run::Keyspace(_) = run
            && !self.terms.is_empty()
            && let Err(refusal) = self.terms.check(command, args)
        {
            reply.refusal(&refusal);
            return 0;
        }
        let work = match &self.surroundings {
            Surroundings::Write(cx) => growth.work(command, args, cx.keyspace, cx.db, cx.now),
            Surroundings::Read(cx) => growth.work(command, args, cx.keyspace, cx.db, cx.now),
        };
        match run {
            Run::Keyspace(handler) => {
                if !command.is_write() {
                    self.reads.note(command, args);
                }
                self.run(handler, args, reply);
            }
            Run::Here(run) => run(self, args, reply),
        }
        work
    }

    fn may_call(&mut self, args: Args) -> Result<bool, UnknownCommand> {
        match resolve(args) {
            Ok(command) => Ok(self.rights.as_ref().is_none_or(|rights| rights.check(command, args).is_ok())),
            Err(Refusal::WrongArity(name)) => {
                let may = |rights: &CarriedRights| {
                    lookup_full(name.as_bytes())
                        .is_some_and(|command| rights.may_call(command, args.up_to(0)))
                };
                Ok(self.rights.as_ref().is_none_or(may))
            }
            Err(_) => Err(UnknownCommand),
        }
    }

    fn log(&mut self, level: LogLevel, message: &[u8]) {
        if self.logged.len() < LOGGED_MAX {
            self.logged.push((level, message.to_vec()));
        }
    }
}

fn refused(reply: &mut Reply, text: &str) -> usize {
    reply.error(text);
    0
}

/// Redis has other words for scripts than for clients.
fn refusal_of(args: Args) -> &'static str {
    match resolve(args) {
        Err(Refusal::WrongArity(_)) => refusals::WRONG_ARITY,
        _ => refusals::UNKNOWN_COMMAND,
    }
}

fn ping(_: &mut KeyspaceHost, args: Args, reply: &mut Reply) {
    match args.get(1) {
        Some(text) => reply.bulk(text),
        None => reply.simple("PONG"),
    }
}

/// The message leaves when the entry is applied. How many get it is not known here, and the reply is the same everywhere: 0.
fn publish(host: &mut KeyspaceHost, kind: Channel, args: Args, reply: &mut Reply) {
    match &mut host.surroundings {
        Surroundings::Write(cx) if !host.reads_only => {
            cx.publish(kind, &args[1], &args[2]);
            reply.int(0);
        }
        _ => reply.error(refusals::READ_ONLY),
    }
}

fn select(host: &mut KeyspaceHost, args: Args, reply: &mut Reply) {
    match parse_database(&args[1]) {
        Ok(db) => {
            match &mut host.surroundings {
                Surroundings::Write(cx) => cx.db = db,
                Surroundings::Read(cx) => cx.db = db,
            }
            reply.ok();
        }
        Err(refusal) => reply.refusal(&refusal),
    }
}

/// The time of the entry, or of the read: it stands still while the script runs, as in Redis.
fn time(host: &mut KeyspaceHost, _: Args, reply: &mut Reply) {
    let now = host.now().0;
    reply.array(2);
    reply.bulk((now / 1000).to_string().as_bytes());
    reply.bulk((now % 1000 * 1000).to_string().as_bytes());
}
