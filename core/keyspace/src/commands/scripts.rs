//! Scripts and functions: those commands that run or compile Lua go to the keyspace's interpreter, the others look at what is
//! known.

use skep_base::{Args, Refusal, glob};
use skep_command::CommandSpec;
use skep_resp::Reply;

use super::Group;
use crate::context::{ReadCx, WriteCx};
use crate::dispatch::Handler;
use crate::dispatch::Handler::{Read, Write};
use crate::rdb;
use crate::scripts::{Scripts, Sha};

pub const COMMANDS: Group = &[
    ("eval", Write(write)),
    ("eval_ro", Read(read)),
    ("evalsha", Write(write)),
    ("evalsha_ro", Read(read)),
    ("fcall", Write(write)),
    ("fcall_ro", Read(read)),
    ("script|exists", Read(script_exists)),
    ("script|flush", Write(script_flush)),
    ("script|load", Write(write)),
    ("script|show", Read(script_show)),
    ("function|delete", Write(function_delete)),
    ("function|dump", Read(function_dump)),
    ("function|flush", Write(function_flush)),
    ("function|list", Read(function_list)),
    ("function|load", Write(write)),
    ("function|restore", Write(write)),
    ("function|stats", Read(function_stats)),
];

/// How to run a call of a script that is known to read only, whatever the command says: it need not be logged.
pub const SCRIPT_READ: Handler = Read(read);
/// How to run a call of a read-only command in the log, so that its script is remembered.
pub const SCRIPT_WRITE: Handler = Write(write);

/// Why a script with flags does not begin. In Redis's words.
pub const NO_MEMORY_FOR_SCRIPT: Refusal =
    Refusal::text("OOM command not allowed when used memory > 'maxmemory'.");

/// True for the commands that call a script.
pub fn calls_script(command: &CommandSpec) -> bool {
    matches!(command.name, "eval" | "eval_ro" | "evalsha" | "evalsha_ro" | "fcall" | "fcall_ro")
}

/// Only an interpreter that runs a script lacks while it does.
const BUSY: Refusal = Refusal::text("ERR scripts cannot run scripts");

/// True for the calls whose scripts only read and whose replies go to a client alone. `EVAL` of a script that only reads is none:
/// `ONCE` makes its reply part of the state, and who reads should see the same with it and without.
fn only_answers(args: Args) -> bool {
    ["eval_ro", "evalsha_ro", "fcall_ro"].iter().any(|name| args.is(0, name))
}

fn write(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let mut interpreter = cx.keyspace.interpreter.take().ok_or(BUSY)?;
    cx.keyspace.hides_figures.set(!only_answers(args));
    let done = interpreter.write(cx, args, reply);
    cx.keyspace.hides_figures.set(false);
    cx.keyspace.interpreter.replace(Some(interpreter));
    done
}

fn read(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let mut interpreter = cx.keyspace.interpreter.take().ok_or(BUSY)?;
    cx.keyspace.hides_figures.set(!only_answers(args));
    let done = interpreter.read(cx, args, reply);
    cx.keyspace.hides_figures.set(false);
    cx.keyspace.interpreter.replace(Some(interpreter));
    done
}

fn script_exists(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let names = args.from(2);
    reply.array(names.len());
    for name in names.iter() {
        let known = Sha::parse(name).is_some_and(|sha| cx.keyspace.scripts().source(sha).is_some());
        reply.int(i64::from(known));
    }
    Ok(())
}

/// `SCRIPT SHOW sha1`
fn script_show(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let source = Sha::parse(&args[2]).and_then(|sha| cx.keyspace.scripts().source(sha));
    reply.bulk(source.ok_or(Refusal::text("NOSCRIPT No matching script."))?);
    Ok(())
}

/// `SCRIPT FLUSH [ASYNC | SYNC]`
fn script_flush(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    check_sync(args, "ERR SCRIPT FLUSH only support SYNC|ASYNC option")?;
    cx.keyspace.scripts_mut().flush();
    reply.ok();
    Ok(())
}

fn check_sync(args: Args, otherwise: &'static str) -> Result<(), Refusal> {
    let fits = args.len() == 2 || args.len() == 3 && (args.is(2, "sync") || args.is(2, "async"));
    if fits { Ok(()) } else { Err(Refusal::text(otherwise)) }
}

fn function_delete(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    cx.keyspace.scripts_mut().delete_library(&args[2])?;
    reply.ok();
    Ok(())
}

/// `FUNCTION FLUSH [ASYNC | SYNC]`
fn function_flush(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    check_sync(args, "ERR FUNCTION FLUSH only supports SYNC|ASYNC option")?;
    cx.keyspace.scripts_mut().flush_libraries();
    reply.ok();
    Ok(())
}

fn function_dump(cx: &mut ReadCx, _: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let codes = cx.keyspace.scripts().libraries().map(|library| &library.code[..]);
    reply.bulk(&rdb::functions::dump(codes));
    Ok(())
}

/// `FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE]`
fn function_list(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (mut pattern, mut with_code) = (None, false);
    let mut at = 2;
    while at < args.len() {
        if !with_code && args.is(at, "withcode") {
            with_code = true;
        } else if pattern.is_none() && args.is(at, "libraryname") {
            at += 1;
            pattern = Some(args.get(at).ok_or(Refusal::text("ERR library name argument was not given"))?);
        } else {
            let text = format!("ERR Unknown argument {}", String::from_utf8_lossy(&args[at]));
            return Err(Refusal::format(text));
        }
        at += 1;
    }
    let fits = |name: &str| pattern.is_none_or(|pattern| glob::matches_with(pattern, name.as_bytes(), true));
    let listed: Vec<_> = cx.keyspace.scripts().libraries().filter(|library| fits(&library.name)).collect();
    reply.array(listed.len());
    for library in listed {
        reply.map(if with_code { 4 } else { 3 });
        reply.bulk(b"library_name");
        reply.bulk(library.name.as_bytes());
        reply.bulk(b"engine");
        reply.bulk(b"LUA");
        reply.bulk(b"functions");
        reply.array(library.functions.len());
        for function in &library.functions {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(function.name.as_bytes());
            reply.bulk(b"description");
            reply.bulk_or_null(function.description.as_deref());
            reply.bulk(b"flags");
            let flags = function.flags.names();
            reply.set(flags.len());
            flags.for_each(|flag| reply.simple(flag));
        }
        if with_code {
            reply.bulk(b"library_code");
            reply.bulk(&library.code);
        }
    }
    Ok(())
}

/// Nothing is ever seen running: a script ends before anything else is looked at.
fn function_stats(cx: &mut ReadCx, _: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let scripts: &Scripts = cx.keyspace.scripts();
    reply.map(2);
    reply.bulk(b"running_script");
    reply.null();
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.len(scripts.libraries().len());
    reply.bulk(b"functions_count");
    reply.len(scripts.libraries().map(|library| library.functions.len()).sum());
    Ok(())
}
