//! `EXEC` and `WATCH` as the shard carries them out. What the client sees of queueing is the node's.

use skep_base::{Args, Refusal};
use skep_command::resolve;
use skep_resp::Reply;

use super::Group;
use super::scripts::{SCRIPT_READ, SCRIPT_WRITE, calls_script};
use crate::context::{ReadCx, WriteCx};
use crate::dispatch::Handler::{Read, Write};
use crate::dispatch::handler_of;
use crate::scripts::Sha;
use crate::transaction::{Head, Queued, Terms, Watched};

pub const COMMANDS: Group = &[("exec", Write(exec)), ("watch", Read(watch))];

/// Runs the commands of a transaction, each as if it had come alone; nothing comes between them. Null if a watched key is not
/// as it was: nothing is run then.
fn exec(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let head = Head::of(args)?;
    if head.watched.iter().any(|watched| cx.keyspace.has_changed(watched.db, &watched.key, watched.seen)) {
        reply.null_array();
        return Ok(());
    }
    if !head.single {
        reply.array(head.commands);
    }
    for source in &head.scripts {
        cx.keyspace.scripts_mut().remember(Sha::of(source), source);
    }
    cx.keyspace.set_terms(head.terms);
    let done = run_queued(cx, head.commands, head.single, args, reply);
    cx.keyspace.set_terms(Terms::default());
    done
}

fn run_queued(
    cx: &mut WriteCx,
    commands: usize,
    single: bool,
    args: Args,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    let (mut queued, mut spans) = (Queued::of(args), Vec::new());
    for _ in 0..commands {
        let db = queued.next(&mut spans)?;
        let args = queued.args(&spans);
        let mut cx = WriteCx { keyspace: cx.keyspace, db, now: cx.now, rng: cx.rng };
        let handler = resolve(args).map(|command| match handler_of(command) {
            // One that is logged alone is to be remembered.
            Some(Read(_)) if single && calls_script(command) => Some(SCRIPT_WRITE),
            handler => handler,
        });
        match handler {
            Ok(Some(handler)) => handler.write(&mut cx, args, reply),
            Ok(None) => reply.refusal(&unknown(args)),
            Err(refusal) => reply.refusal(&refusal),
        }
    }
    Ok(())
}

/// [`exec`] of reads, as a read.
pub fn exec_read(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let head = Head::of(args)?;
    let changed =
        |watched: &Watched| cx.keyspace.looks_changed(watched.db, &watched.key, watched.seen, cx.now);
    if head.watched.iter().any(changed) {
        reply.null_array();
        return Ok(());
    }
    if !head.single {
        reply.array(head.commands);
    }
    cx.keyspace.set_terms(head.terms);
    let done = read_queued(cx, head.commands, args, reply);
    cx.keyspace.set_terms(Terms::default());
    done
}

fn read_queued(cx: &mut ReadCx, commands: usize, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (mut queued, mut spans) = (Queued::of(args), Vec::new());
    for _ in 0..commands {
        let db = queued.next(&mut spans)?;
        let args = queued.args(&spans);
        let mut cx = ReadCx { keyspace: cx.keyspace, db, now: cx.now, rng: cx.rng };
        let handler = resolve(args).map(|command| match handler_of(command) {
            // A script that is known to write nothing.
            Some(Write(_)) if calls_script(command) => Some(SCRIPT_READ),
            handler => handler,
        });
        match handler {
            Ok(Some(handler @ Read(_))) => handler.read_on(&mut cx, args, reply),
            Ok(_) => reply.refusal(&unknown(args)),
            Err(refusal) => reply.refusal(&refusal),
        }
    }
    Ok(())
}

/// A transaction of a version of skep that has other commands.
fn unknown(args: Args) -> Refusal {
    let name = String::from_utf8_lossy(args.get(0).unwrap_or_default()).into_owned();
    Refusal::format(format!("ERR '{name}' cannot be part of a transaction"))
}

/// What is seen of the keys, for the node that keeps it until EXEC.
fn watch(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let keys = args.from(1);
    reply.array(keys.len());
    keys.iter().for_each(|key| reply.int(cx.keyspace.seen(cx.db, key, cx.now).bits() as i64));
    Ok(())
}
