//! `EXEC` and `WATCH` as the shard carries them out. What the client sees of queueing is the node's.

use skep_base::{Args, Refusal};
use skep_command::resolve;
use skep_resp::Reply;

use super::Group;
use crate::context::{ReadCx, WriteCx};
use crate::dispatch::Handler::{Read, Write};
use crate::dispatch::handler_of;
use crate::transaction::{Head, Queued};

pub const COMMANDS: Group = &[("exec", Write(exec)), ("watch", Read(watch))];

/// Runs the commands of a transaction, each as if it had come alone; nothing comes between them. Null if a watched key is not
/// as it was: nothing is run then.
fn exec(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let head = Head::of(args)?;
    if head.any_watched(|db, key, version| cx.keyspace.has_changed(db, key, version))? {
        reply.null_array();
        return Ok(());
    }
    let (mut queued, mut spans) = (Queued::of(args), Vec::new());
    reply.array(head.commands);
    for _ in 0..head.commands {
        let db = queued.next(&mut spans)?;
        let args = queued.args(&spans);
        let mut cx = WriteCx { keyspace: cx.keyspace, db, now: cx.now, rng: cx.rng };
        match resolve(args).map(handler_of) {
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
    let now = cx.now;
    // By the time of the read, which meets what is due by it, and says so.
    if head.any_watched(|db, key, version| cx.keyspace.version(db, key, now) != version)? {
        reply.null_array();
        return Ok(());
    }
    let (mut queued, mut spans) = (Queued::of(args), Vec::new());
    reply.array(head.commands);
    for _ in 0..head.commands {
        let db = queued.next(&mut spans)?;
        let args = queued.args(&spans);
        let mut cx = ReadCx { keyspace: cx.keyspace, db, now, rng: cx.rng };
        match resolve(args).map(handler_of) {
            Ok(Some(handler)) => handler.read_on(&mut cx, args, reply),
            Ok(None) => reply.refusal(&unknown(args)),
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

/// The versions of the keys, for the node that keeps them until EXEC.
fn watch(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let keys = args.from(1);
    reply.array(keys.len());
    keys.iter().for_each(|key| reply.int(i64::from(cx.keyspace.version(cx.db, key, cx.now).0)));
    Ok(())
}
