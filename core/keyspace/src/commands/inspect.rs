//! `OBJECT` and `MEMORY USAGE`: what Redis tells about its insides, answered for ours.
//!
//! When a key was used and what it takes is each node's own: reads use keys on the leader alone, clocks differ, and so do
//! allocations after a restore. A script that may write is refused the first, since replicas would write differently, and of the
//! second gets what follows from the content.

use skep_base::{Args, Refusal, number};
use skep_resp::Reply;

use super::{Group, parse};
use crate::access::AccessMode;
use crate::content_bytes::content_bytes;
use crate::context::ReadCx;
use crate::db::Entry;
use crate::dispatch::Handler::Read;
use crate::value::Value;

pub const COMMANDS: Group = &[
    ("object|encoding", Read(object_encoding)),
    ("object|freq", Read(object_freq)),
    ("object|idletime", Read(object_idletime)),
    ("object|refcount", Read(object_refcount)),
    ("object|help", Read(object_help)),
    ("memory|usage", Read(memory_usage)),
];

/// Inspecting a key is no use of it.
fn inspected<'a>(cx: &ReadCx<'a>, key: &[u8]) -> Option<&'a Entry> {
    cx.keyspace.peek(cx.db, key, cx.now)
}

/// Refuses a figure of this node to a script that may write.
fn check_may_show(cx: &ReadCx, figure: &str) -> Result<(), Refusal> {
    if !cx.keyspace.hides_figures.get() {
        return Ok(());
    }
    let text = format!(
        "ERR {figure} is not the same on every replica, so a script that may write cannot use it: ask outside of the \
         script, or use EVAL_RO, EVALSHA_RO or FCALL_RO"
    );
    Err(Refusal::format(text))
}

fn object_encoding(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let encoding = inspected(cx, &args[2]).map(|entry| entry.value.encoding(cx.keyspace.encodings_shown()));
    reply.bulk_or_null(encoding.map(str::as_bytes));
    Ok(())
}

fn object_freq(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    check_may_show(cx, "OBJECT FREQ")?;
    let Some(entry) = inspected(cx, &args[2]) else {
        reply.null();
        return Ok(());
    };
    if cx.keyspace.access.mode() != AccessMode::Lfu {
        return Err(Refusal::text(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    reply.int(i64::from(cx.keyspace.access.frequency(entry.access.get())));
    Ok(())
}

fn object_idletime(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    check_may_show(cx, "OBJECT IDLETIME")?;
    let Some(entry) = inspected(cx, &args[2]) else {
        reply.null();
        return Ok(());
    };
    if cx.keyspace.access.mode() == AccessMode::Lfu {
        return Err(Refusal::text(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
             policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    reply.int(i64::from(cx.keyspace.access.idle_seconds(entry.access.get())));
    Ok(())
}

/// Redis shares one object among all strings that hold an integer below this, and reports it as used without end.
const SHARED_INTEGERS: i64 = 10_000;

fn object_refcount(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let Some(entry) = inspected(cx, &args[2]) else {
        reply.null();
        return Ok(());
    };
    let is_shared = match &entry.value {
        Value::Str(text) => {
            number::parse_i64(text.as_slice()).is_some_and(|n| (0..SHARED_INTEGERS).contains(&n))
        }
        _ => false,
    };
    reply.int(if is_shared { i64::from(i32::MAX) } else { 1 });
    Ok(())
}

fn object_help(_: &mut ReadCx, _: Args, reply: &mut Reply) -> Result<(), Refusal> {
    const LINES: [&str; 11] = [
        "OBJECT <subcommand> <key>. Subcommands:",
        "ENCODING <key>",
        "    The representation that Redis would choose for the value.",
        "FREQ <key>",
        "    How often the key is used, on a logarithmic scale (LFU policies only).",
        "IDLETIME <key>",
        "    Seconds since the key was last used (all but LFU policies).",
        "REFCOUNT <key>",
        "    References to the value; 1 unless Redis would share it.",
        "HELP",
        "    This text.",
    ];
    reply.array(LINES.len());
    LINES.iter().for_each(|line| reply.simple(line));
    Ok(())
}

/// `MEMORY USAGE key [SAMPLES count]`. Collections are judged by a fixed number of elements, whatever `count`.
fn memory_usage(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let mut at = 3;
    while at < args.len() {
        if !args.is(at, "samples") || at + 1 == args.len() {
            return Err(Refusal::Syntax);
        }
        if parse::int(&args[at + 1])? < 0 {
            return Err(Refusal::Syntax);
        }
        at += 2;
    }
    match inspected(cx, &args[2]) {
        None => reply.null(),
        Some(entry) if cx.keyspace.hides_figures.get() => reply.len(content_bytes(entry)),
        Some(entry) => reply.len(entry.bytes()),
    }
    Ok(())
}
