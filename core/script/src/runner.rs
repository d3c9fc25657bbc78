//! The interpreter of a keyspace: the commands that run or compile scripts.

use std::sync::Arc;

use skep_acl::{CarriedRights, without_rights};
use skep_base::{Args, Refusal};
use skep_keyspace::scripts::{Interpreter, Library, ScriptDenial, ScriptFlags, ScriptNote, Scripts, Sha};
use skep_keyspace::{BadPayload, NO_MEMORY_FOR_SCRIPT, ReadCx, WriteCx, load_libraries};
use skep_resp::Reply;

use crate::engine::Engine;
use crate::header::{self, Header};
use crate::host::LogLevel;
use crate::invocation::Invocation;
use crate::keyspace_host::{KeyspaceHost, ScriptCommands, Surroundings, Told};
use crate::limits::{Limits, Run};
use crate::reads::ReadKeys;

/// Nothing but a cache, and what `redis.log` said. Made when the first script runs.
#[derive(Default)]
pub struct Runner {
    made: Option<Box<Made>>,
    logged: Vec<(u8, Vec<u8>)>,
    denied: Vec<ScriptDenial>,
    read: ReadKeys,
}

struct Made {
    engine: Engine,
    commands: ScriptCommands,
}

/// Lines of `redis.log`, and denials, kept until they are taken; more are dropped.
const LOGGED_MAX: usize = 1_000;

/// What a call runs.
enum Subject<'a> {
    Script { sha: Sha, source: Source<'a> },
    Function(Arc<Library>),
}

enum Source<'a> {
    Given(&'a [u8]),
    Known(Arc<[u8]>),
}

impl Source<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Source::Given(bytes) => bytes,
            Source::Known(bytes) => bytes,
        }
    }
}

/// What a call may do.
#[derive(Clone, Copy)]
struct May {
    only_read: bool,
    /// See [`KeyspaceHost::without_memory`].
    lacks_memory: bool,
}

/// True for the commands whose scripts may only read.
fn is_read_only_command(args: Args) -> bool {
    args[0].len() > 3 && args[0][args[0].len() - 3..].eq_ignore_ascii_case(b"_ro")
}

impl<'a> Subject<'a> {
    /// What `args` call, and with what.
    fn of(scripts: &Scripts, args: Args<'a>) -> Result<(Subject<'a>, Invocation<'a>), Refusal> {
        if args.is(0, "fcall") || args.is(0, "fcall_ro") {
            let library = scripts.library_of(&args[1]).ok_or(Refusal::text("ERR Function not found"))?;
            return Ok((Subject::Function(library.clone()), Invocation::parse(args)?));
        }
        let call = Invocation::parse(args)?;
        if args.is(0, "eval") || args.is(0, "eval_ro") {
            let source = Source::Given(call.subject);
            return Ok((Subject::Script { sha: Sha::of(call.subject), source }, call));
        }
        let known = Sha::parse(call.subject).and_then(|sha| Some((sha, scripts.source(sha)?.clone())));
        let (sha, source) = known.ok_or(Refusal::text("NOSCRIPT No matching script. Please use EVAL."))?;
        Ok((Subject::Script { sha, source: Source::Known(source) }, call))
    }
}

/// The call as its client sent it, and what its user may do, if that is not everything.
fn split_rights(args: Args) -> Result<(Args, Option<CarriedRights>), Refusal> {
    CarriedRights::split(args)
        .map_err(|_| Refusal::text("ERR the rights of the script's user are damaged; nothing was done"))
}

impl Runner {
    fn made(&mut self) -> &mut Made {
        self.made
            .get_or_insert_with(|| Box::new(Made { engine: Engine::new(), commands: ScriptCommands::new() }))
    }

    /// Runs what was found.
    fn run(
        &mut self,
        (subject, call): (&Subject, &Invocation),
        rights: Option<CarriedRights>,
        run: Run,
        surroundings: Surroundings,
        may: May,
        reply: &mut Reply,
    ) {
        let Made { engine, commands } = self.made();
        let mut host = KeyspaceHost::new(commands, surroundings, may.only_read)
            .noting_reads(*call)
            .limited(rights)
            .without_memory(may.lacks_memory);
        match subject {
            Subject::Script { sha, source } => {
                engine.eval(source.bytes(), *sha, call, run, &mut host, reply);
            }
            Subject::Function(library) => {
                engine.fcall(library, call, run, &mut host, reply);
            }
        }
        let Told { logged, denied, read } = host.into_told();
        self.read.append(read);
        let room = LOGGED_MAX.saturating_sub(self.denied.len());
        self.denied.extend(denied.into_iter().take(room));
        for (level, line) in logged {
            if self.logged.len() < LOGGED_MAX {
                self.logged.push((number_of(level), line));
            }
        }
    }

    /// What a call may do, given whether there is memory.
    fn check(
        &mut self,
        subject: &Subject,
        call: &Invocation,
        args: Args,
        no_memory: bool,
    ) -> Result<May, Refusal> {
        let flags = match subject {
            Subject::Script { sha, source } => self.made().engine.compile(source.bytes(), *sha)?.flags,
            Subject::Function(library) => {
                let function = library.function(call.subject).expect("the library was found by it");
                Some(function.flags)
            }
        };
        let only_read = Header { flags }.reads_only(is_read_only_command(args))?;
        match flags {
            Some(flags) if no_memory && !flags.allows_oom() => Err(NO_MEMORY_FOR_SCRIPT),
            Some(_) => Ok(May { only_read, lacks_memory: false }),
            None => Ok(May { only_read, lacks_memory: no_memory }),
        }
    }

    fn call(&mut self, cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
        let (args, rights) = split_rights(args)?;
        let (subject, call) = Subject::of(cx.keyspace.scripts(), args)?;
        let may = self.check(&subject, &call, args, cx.keyspace.has_no_memory())?;
        if let Subject::Script { sha, source } = &subject
            && !cx.keyspace.scripts().is_remembered(*sha)
        {
            cx.keyspace.scripts_mut().remember(*sha, source.bytes());
        }
        let run = Run { limits: Limits::DEFAULT, seed: cx.rng.next_u64() };
        let mut own = WriteCx { keyspace: cx.keyspace, db: cx.db, now: cx.now, rng: cx.rng };
        self.run((&subject, &call), rights, run, Surroundings::Write(&mut own), may, reply);
        Ok(())
    }

    /// `FUNCTION LOAD [REPLACE] code`
    fn load_library(&mut self, cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
        let mut replace = false;
        for option in args.from(2).iter().take(args.len() - 3) {
            if !option.eq_ignore_ascii_case(b"replace") {
                let option = String::from_utf8_lossy(option);
                return Err(Refusal::format(format!("ERR Unknown option given: {option}")));
            }
            replace = true;
        }
        let run = Run { limits: Limits::DEFAULT, seed: cx.rng.next_u64() };
        let library = self.made().engine.load_library(&args[args.len() - 1], run)?;
        let name = library.name.clone();
        cx.keyspace.scripts_mut().add_library(library, replace)?;
        reply.bulk(name.as_bytes());
        Ok(())
    }

    /// `FUNCTION RESTORE payload [FLUSH | APPEND | REPLACE]`
    fn restore(&mut self, cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
        let (flush, replace) = match args.get(3) {
            _ if args.len() > 4 => {
                return Err(Refusal::text(
                    "ERR unknown subcommand or wrong number of arguments for 'restore'. Try FUNCTION HELP.",
                ));
            }
            None => (false, false),
            Some(_) if args.is(3, "append") => (false, false),
            Some(_) if args.is(3, "flush") => (true, false),
            Some(_) if args.is(3, "replace") => (false, true),
            Some(_) => {
                return Err(Refusal::text(
                    "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
                ));
            }
        };
        let codes = load_libraries(&args[2]).map_err(|bad| match bad {
            BadPayload::Footer => Refusal::text("ERR DUMP payload version or checksum are wrong"),
            BadPayload::Other => Refusal::text("ERR given type is not a function"),
            BadPayload::Malformed(why) => Refusal::format(format!("ERR payload is damaged: {why}")),
        })?;
        // Either all are added or none.
        let mut scripts = cx.keyspace.scripts().clone();
        if flush {
            scripts.flush_libraries();
        }
        for code in codes {
            let run = Run { limits: Limits::DEFAULT, seed: cx.rng.next_u64() };
            let library = self.made().engine.load_library(&code, run)?;
            if !replace && scripts.libraries().any(|known| known.name == library.name) {
                return Err(Refusal::format(format!("ERR Library {} already exists", library.name)));
            }
            scripts.add_library(library, replace)?;
        }
        *cx.keyspace.scripts_mut() = scripts;
        reply.ok();
        Ok(())
    }
}

impl Interpreter for Runner {
    fn write(&mut self, cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
        if args.is(0, "script") {
            self.made().engine.compile(&args[2], Sha::of(&args[2]))?;
            let sha = cx.keyspace.scripts_mut().load(&args[2])?;
            reply.bulk(sha.to_string().as_bytes());
            return Ok(());
        }
        match args.is(0, "function") {
            true if args.is(1, "load") => self.load_library(cx, args, reply),
            true => self.restore(cx, args, reply),
            false => self.call(cx, args, reply),
        }
    }

    fn read(&mut self, cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
        let (args, rights) = split_rights(args)?;
        let (subject, call) = Subject::of(cx.keyspace.scripts(), args)?;
        let may = May { only_read: true, ..self.check(&subject, &call, args, false)? };
        let run = Run { limits: Limits::DEFAULT, seed: cx.rng.next_u64() };
        let mut own = ReadCx { keyspace: cx.keyspace, db: cx.db, now: cx.now, rng: cx.rng };
        self.run((&subject, &call), rights, run, Surroundings::Read(&mut own), may, reply);
        Ok(())
    }

    fn flags(&self, scripts: &Scripts, args: Args) -> Option<Option<ScriptFlags>> {
        if args.is(0, "fcall") || args.is(0, "fcall_ro") {
            let library = scripts.library_of(&args[1])?;
            return library.function(&args[1]).map(|function| Some(function.flags));
        }
        let sha = match args.is(0, "eval") || args.is(0, "eval_ro") {
            true => Sha::of(&args[1]),
            false => Sha::parse(&args[1])?,
        };
        let source = scripts.source(sha)?;
        let (header, _) = header::of_script(source).ok()?;
        Some(header.flags)
    }

    fn as_sent<'a>(&self, args: Args<'a>) -> Args<'a> {
        without_rights(args)
    }

    fn take_logged(&mut self) -> Vec<(u8, Vec<u8>)> {
        std::mem::take(&mut self.logged)
    }

    fn take_notes(&mut self) -> Vec<ScriptNote> {
        let denied = std::mem::take(&mut self.denied).into_iter().map(ScriptNote::Denied);
        match std::mem::take(&mut self.read).into_keys() {
            Some(keys) => denied.chain(keys.into_iter().map(ScriptNote::Read)).collect(),
            None => denied.chain([ScriptNote::ReadMany]).collect(),
        }
    }
}

fn number_of(level: LogLevel) -> u8 {
    match level {
        LogLevel::Debug => 0,
        LogLevel::Verbose => 1,
        LogLevel::Notice => 2,
        LogLevel::Warning => 3,
    }
}
