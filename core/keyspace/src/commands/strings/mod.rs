//! Commands on string values: whole, several at once, and in part.

mod counters;
mod lcs;
mod options;

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::{Group, parse};
use crate::context::{ReadCx, WriteCx};
use crate::db::NEVER;
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;
use crate::types::Str;
use options::{Condition, Expiry, Options, When};

pub const COMMANDS: Group = &[
    ("get", Read(get)),
    ("set", Write(set)),
    ("setnx", Write(setnx)),
    ("setex", Write(setex)),
    ("psetex", Write(psetex)),
    ("getset", Write(getset)),
    ("getdel", Write(getdel)),
    ("getex", Write(getex)),
    ("mget", Read(mget)),
    ("mset", Write(mset)),
    ("msetnx", Write(msetnx)),
    ("append", Write(append)),
    ("strlen", Read(strlen)),
    ("getrange", Read(getrange)),
    ("substr", Read(getrange)),
    ("setrange", Write(setrange)),
    ("incr", Write(counters::incr)),
    ("decr", Write(counters::decr)),
    ("incrby", Write(counters::incrby)),
    ("decrby", Write(counters::decrby)),
    ("incrbyfloat", Write(counters::incrbyfloat)),
    ("lcs", Read(lcs::lcs)),
];

fn get(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.bulk_or_null(cx.read::<Str>(&args[1])?.map(Str::as_slice));
    Ok(())
}

fn set(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let key = &args[1];
    if args.len() == 3 {
        cx.put(key, Str::new(&args[2]), NEVER);
        cx.event(Class::String, "set", key);
        reply.ok();
        return Ok(());
    }
    let options = Options::of_set(args.from(3))?;
    let deadline = match options.expiry {
        Expiry::At(when) => when.deadline("set", cx.now)?,
        Expiry::Keep => cx.deadline(key).unwrap_or(NEVER),
        Expiry::Unsaid | Expiry::Persist => NEVER,
    };
    if options.get {
        reply.bulk_or_null(cx.read_value::<Str>(key)?.map(Str::as_slice));
    }
    let holds = match options.condition {
        Condition::None => true,
        Condition::Absent => !cx.exists(key),
        Condition::Present => cx.exists(key),
    };
    if holds {
        cx.put(key, Str::new(&args[2]), deadline);
        cx.event(Class::String, "set", key);
        if let Expiry::At(_) = options.expiry {
            cx.event(Class::Generic, "expire", key);
        }
    }
    match (options.get, holds) {
        (true, _) => {}
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    }
    Ok(())
}

fn setnx(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let absent = !cx.exists(&args[1]);
    if absent {
        cx.put(&args[1], Str::new(&args[2]), NEVER);
        cx.event(Class::String, "set", &args[1]);
    }
    reply.int(i64::from(absent));
    Ok(())
}

fn setex(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let deadline = When::in_seconds(&args[2]).deadline("setex", cx.now)?;
    cx.put(&args[1], Str::new(&args[3]), deadline);
    cx.event(Class::String, "set", &args[1]);
    cx.event(Class::Generic, "expire", &args[1]);
    reply.ok();
    Ok(())
}

fn psetex(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let deadline = When::in_millis(&args[2]).deadline("psetex", cx.now)?;
    cx.put(&args[1], Str::new(&args[3]), deadline);
    cx.event(Class::String, "set", &args[1]);
    cx.event(Class::Generic, "expire", &args[1]);
    reply.ok();
    Ok(())
}

fn getset(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.bulk_or_null(cx.read_value::<Str>(&args[1])?.map(Str::as_slice));
    cx.put(&args[1], Str::new(&args[2]), NEVER);
    cx.event(Class::String, "set", &args[1]);
    Ok(())
}

fn getdel(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let old = cx.read_value::<Str>(&args[1])?;
    reply.bulk_or_null(old.map(Str::as_slice));
    if old.is_some() {
        cx.remove(&args[1]);
        cx.event(Class::Generic, "del", &args[1]);
    }
    Ok(())
}

fn getex(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let key = &args[1];
    let expiry = Options::of_getex(args.from(2))?;
    let Some(value) = cx.read_value::<Str>(key)? else {
        reply.null();
        return Ok(());
    };
    let had_deadline = cx.deadline(key).is_some_and(|deadline| deadline != NEVER);
    let deadline = match expiry {
        Expiry::At(when) => Some((when.deadline("getex", cx.now)?, when.is_absolute())),
        Expiry::Persist => Some((NEVER, false)),
        Expiry::Unsaid | Expiry::Keep => None,
    };
    reply.bulk(value.as_slice());
    match deadline {
        Some((deadline, true)) if deadline <= cx.now => {
            cx.remove(key);
            cx.event(Class::Generic, "del", key);
        }
        Some((NEVER, _)) if !had_deadline => {}
        Some((deadline, _)) => {
            cx.set_deadline(key, deadline);
            cx.event(Class::Generic, if deadline == NEVER { "persist" } else { "expire" }, key);
        }
        None => {}
    }
    Ok(())
}

fn mget(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.array(args.len() - 1);
    for key in args.from(1).iter() {
        // A value of another type counts as none.
        reply.bulk_or_null(cx.read::<Str>(key).ok().flatten().map(Str::as_slice));
    }
    Ok(())
}

fn mset(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    check_pairs("mset", args)?;
    put_pairs(cx, args);
    reply.ok();
    Ok(())
}

fn msetnx(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    check_pairs("msetnx", args)?;
    let all_absent = (1..args.len()).step_by(2).all(|at| !cx.exists(&args[at]));
    if all_absent {
        put_pairs(cx, args);
    }
    reply.int(i64::from(all_absent));
    Ok(())
}

fn check_pairs(command: &'static str, args: Args) -> Result<(), Refusal> {
    if args.len().is_multiple_of(2) { Err(Refusal::WrongArity(command.into())) } else { Ok(()) }
}

fn put_pairs(cx: &mut WriteCx, args: Args) {
    for at in (1..args.len()).step_by(2) {
        cx.put(&args[at], Str::new(&args[at + 1]), NEVER);
        cx.event(Class::String, "set", &args[at]);
    }
}

fn append(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let tail = &args[2];
    let len = cx.update_or_create(&args[1], |value: &mut Str| {
        parse::check_string_len(value.len() + tail.len())?;
        value.append(tail);
        Ok(value.len())
    })?;
    cx.event(Class::String, "append", &args[1]);
    reply.len(len);
    Ok(())
}

fn strlen(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.len(cx.read::<Str>(&args[1])?.map_or(0, Str::len));
    Ok(())
}

fn getrange(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (start, end) = (parse::int(&args[2])?, parse::int(&args[3])?);
    let value = cx.read::<Str>(&args[1])?.map_or(&b""[..], Str::as_slice);
    let range = if start < 0 && end < 0 && start > end {
        0..0
    } else {
        // An end before the first byte means the first byte, for this command alone.
        let end = if end < 0 { end.saturating_add(value.len() as i64).max(0) } else { end };
        parse::positions(start, end, value.len())
    };
    reply.bulk(&value[range]);
    Ok(())
}

fn setrange(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (key, patch) = (&args[1], &args[3]);
    let Ok(offset) = usize::try_from(parse::int(&args[2])?) else {
        return Err(Refusal::text("ERR offset is out of range"));
    };
    let len = cx.read::<Str>(key)?.map_or(0, Str::len);
    if patch.is_empty() {
        reply.len(len);
        return Ok(());
    }
    let end = offset.saturating_add(patch.len());
    parse::check_string_len(end)?;
    let bytes = cx.modify_or_create::<Str>(key)?.grow_to(end);
    bytes[offset..end].copy_from_slice(patch);
    cx.event(Class::String, "setrange", key);
    reply.len(len.max(end));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Bench;

    #[test]
    fn replies_are_those_of_redis() {
        Bench::new().script(include_str!("../testdata/strings.txt"));
        Bench::new().script(include_str!("../testdata/counters.txt"));
        Bench::new().script(include_str!("../testdata/lcs.txt"));
    }

    #[test]
    fn deadlines_are_kept_moved_and_dropped() {
        Bench::new().script(include_str!("../testdata/strings_time.txt"));
    }
}
