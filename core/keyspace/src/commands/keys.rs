//! Commands on keys of any type: presence, type, moving about, whole databases.

use skep_base::{Args, Millis, Refusal, glob};
use skep_resp::Reply;

use super::scan::slot_of_pattern;
use super::{Group, parse};
use crate::context::{ReadCx, WriteCx};
use crate::db::Entry;
use crate::dense::Keyed;
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;
use crate::keyspace::DB_COUNT;
use crate::value::Value;

pub const COMMANDS: Group = &[
    ("del", Write(del)),
    ("unlink", Write(del)),
    ("exists", Read(exists)),
    ("touch", Read(touch)),
    ("type", Read(kind)),
    ("rename", Write(rename)),
    ("renamenx", Write(renamenx)),
    ("copy", Write(copy)),
    ("move", Write(move_key)),
    ("randomkey", Read(randomkey)),
    ("keys", Read(keys)),
    ("dbsize", Read(dbsize)),
    ("flushdb", Write(flushdb)),
    ("flushall", Write(flushall)),
    ("swapdb", Write(swapdb)),
];

fn del(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let mut removed = 0;
    for key in args.from(1).iter() {
        if cx.remove(key) {
            cx.event(Class::Generic, "del", key);
            removed += 1;
        }
    }
    reply.len(removed);
    Ok(())
}

fn exists(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.len(args.from(1).iter().filter(|key| cx.entry_untouched(key).is_some()).count());
    Ok(())
}

fn touch(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.len(args.from(1).iter().filter(|key| cx.entry(key).is_some()).count());
    Ok(())
}

fn kind(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.simple(cx.entry_untouched(&args[1]).map_or("none", |e| e.value.kind().name()));
    Ok(())
}

fn rename(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    if !cx.exists(&args[1]) {
        return Err(Refusal::NoSuchKey);
    }
    rename_to(cx, &args[1], &args[2]);
    reply.ok();
    Ok(())
}

fn renamenx(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    if !cx.exists(&args[1]) {
        return Err(Refusal::NoSuchKey);
    }
    let free = !cx.exists(&args[2]); // false for the key itself
    if free {
        rename_to(cx, &args[1], &args[2]);
    }
    reply.int(i64::from(free));
    Ok(())
}

/// Moves the value and deadline of `from`, which exists, to the key `to`.
fn rename_to(cx: &mut WriteCx, from: &[u8], to: &[u8]) {
    if from == to {
        return;
    }
    let (value, deadline) = cx.take(from).expect("the key was found before");
    put_anew(cx, cx.db, to, value, deadline);
    cx.event(Class::Generic, "rename_from", from);
    cx.event(Class::Generic, "rename_to", to);
}

/// Puts a value where Redis first deletes what is there, so that the key counts as new.
pub(super) fn put_anew(cx: &mut WriteCx, db: u8, key: &[u8], value: Value, deadline: Millis) {
    let replaces = cx.keyspace.peek(db, key, cx.now).is_some();
    cx.keyspace.put(db, key, value, deadline);
    if replaces {
        cx.keyspace.events.key(db, Class::New, "new", key);
    }
}

/// `COPY source destination [DB number] [REPLACE]`
fn copy(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (mut db, mut replace) = (cx.db, false);
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "replace") {
            replace = true;
        } else if args.is(at, "db") && at + 1 < args.len() {
            at += 1;
            db = parse::database(&args[at])?;
        } else {
            return Err(Refusal::Syntax);
        }
        at += 1;
    }
    if db == cx.db && args[1] == args[2] {
        return Err(SAME_OBJECT);
    }
    let Some(entry) = cx.read_entry(&args[1]) else {
        reply.int(0);
        return Ok(());
    };
    let (value, deadline) = (entry.value.clone(), entry.deadline);
    let copies = replace || cx.keyspace.peek(db, &args[2], cx.now).is_none();
    if copies {
        put_anew(cx, db, &args[2], value, deadline);
        cx.keyspace.events.key(db, Class::Generic, "copy_to", &args[2]);
    }
    reply.int(i64::from(copies));
    Ok(())
}

const SAME_OBJECT: Refusal = Refusal::text("ERR source and destination objects are the same");

fn move_key(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let key = &args[1];
    let db = parse::database(&args[2])?;
    if db == cx.db {
        return Err(SAME_OBJECT);
    }
    let moves = cx.exists(key) && cx.keyspace.peek(db, key, cx.now).is_none();
    if moves {
        let (value, deadline) = cx.take(key).expect("the key was found above");
        cx.keyspace.put(db, key, value, deadline);
        cx.event(Class::Generic, "move_from", key);
        cx.keyspace.events.key(db, Class::Generic, "move_to", key);
    }
    reply.int(i64::from(moves));
    Ok(())
}

/// Draws at which a key past its deadline is drawn again, before a walk takes over.
const RANDOM_TRIES: usize = 100;

fn randomkey(cx: &mut ReadCx, _: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let keys = cx.keyspace.len(cx.db);
    let drawn = (0..RANDOM_TRIES)
        .take_while(|_| keys > 0)
        .filter_map(|_| cx.keyspace.nth(cx.db, cx.rng.below(keys as u64) as usize))
        .find(|e| cx.keyspace.shows(e, cx.now));
    let entry = drawn.or_else(|| cx.keyspace.entries(cx.db).find(|e| cx.keyspace.shows(e, cx.now)));
    reply.bulk_or_null(entry.map(Keyed::key));
    Ok(())
}

/// `KEYS pattern`. A pattern without wildcards is a lookup; one with a literal hash tag a walk over one slot.
fn keys(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let pattern = &args[1];
    let mut found: Vec<&[u8]> = Vec::new();
    if !pattern.iter().any(|b| b"*?[\\".contains(b)) {
        found.extend(cx.keyspace.peek(cx.db, pattern, cx.now).map(Keyed::key));
    } else {
        let shown = |entry: &&Entry| cx.keyspace.shows(entry, cx.now);
        let matching = |key: &&[u8]| pattern == b"*" || glob::matches(pattern, key);
        match slot_of_pattern(pattern) {
            Some(slot) => {
                let entries = cx.keyspace.slot_entries(cx.db, slot);
                found.extend(entries.filter(shown).map(Keyed::key).filter(matching));
            }
            None => {
                let entries = cx.keyspace.entries(cx.db);
                found.extend(entries.filter(shown).map(Keyed::key).filter(matching));
            }
        }
    }
    reply.array(found.len());
    found.into_iter().for_each(|key| reply.bulk(key));
    Ok(())
}

fn dbsize(cx: &mut ReadCx, _: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.len(cx.keyspace.count(cx.db, cx.now));
    Ok(())
}

fn flushdb(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    check_flush_options(args)?;
    cx.keyspace.flush(cx.db);
    reply.ok();
    Ok(())
}

fn flushall(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    check_flush_options(args)?;
    (0..DB_COUNT).for_each(|db| cx.keyspace.flush(db));
    reply.ok();
    Ok(())
}

/// `[ASYNC | SYNC]`: both are taken and mean the same, since memory is always given back beside the commands.
fn check_flush_options(args: Args) -> Result<(), Refusal> {
    let known = args.is(1, "async") || args.is(1, "sync");
    if args.len() > 2 || args.len() == 2 && !known { Err(Refusal::Syntax) } else { Ok(()) }
}

fn swapdb(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (min, max) = (i64::from(i32::MIN), i64::from(i32::MAX));
    let first = parse::int_within(&args[1], min, max, "ERR invalid first DB index")?;
    let second = parse::int_within(&args[2], min, max, "ERR invalid second DB index")?;
    cx.keyspace.swap(parse::database_number(first)?, parse::database_number(second)?);
    reply.ok();
    Ok(())
}
