//! Commands on hashes, but for field deadlines (see `hash_expiry`).

use skep_base::{Args, LongDouble, Refusal, number};
use skep_resp::Reply;

use super::parse::RandomCount;
use super::scan::{self, ScanOptions};
use super::{Group, choose, parse};
use crate::context::{ReadCx, WriteCx};
use crate::db::NEVER;
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;
use crate::small::SmallBytes;
use crate::types::{Field, Hash};

pub const COMMANDS: Group = &[
    ("hset", Write(hset)),
    ("hmset", Write(hmset)),
    ("hsetnx", Write(hsetnx)),
    ("hget", Read(hget)),
    ("hmget", Read(hmget)),
    ("hgetall", Read(hgetall)),
    ("hdel", Write(hdel)),
    ("hexists", Read(hexists)),
    ("hlen", Read(hlen)),
    ("hstrlen", Read(hstrlen)),
    ("hkeys", Read(hkeys)),
    ("hvals", Read(hvals)),
    ("hincrby", Write(hincrby)),
    ("hincrbyfloat", Write(hincrbyfloat)),
    ("hrandfield", Read(hrandfield)),
    ("hscan", Read(hscan)),
];

fn hset(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let created = set_fields(cx, args, "hset")?;
    reply.len(created);
    Ok(())
}

fn hmset(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    set_fields(cx, args, "hmset")?;
    reply.ok();
    Ok(())
}

/// Sets `field value …` behind the key, without deadlines; gives how many are new.
fn set_fields(cx: &mut WriteCx, args: Args, command: &'static str) -> Result<usize, Refusal> {
    if !args.len().is_multiple_of(2) {
        return Err(Refusal::WrongArity(command.into()));
    }
    let created = cx.update_or_create(&args[1], |hash: &mut Hash| {
        let pairs = (2..args.len()).step_by(2);
        Ok(pairs.filter(|at| hash.set(&args[*at], SmallBytes::new(&args[at + 1]), NEVER)).count())
    })?;
    cx.event(Class::Hash, "hset", &args[1]);
    Ok(created)
}

fn hsetnx(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let now = cx.now;
    let created = cx.update_or_create(&args[1], |hash: &mut Hash| {
        let is_new = hash.get(&args[2], now).is_none();
        if is_new {
            hash.set(&args[2], SmallBytes::new(&args[3]), NEVER);
        }
        Ok(is_new)
    })?;
    cx.event_if(created, Class::Hash, "hset", &args[1]);
    reply.int(i64::from(created));
    Ok(())
}

fn hget(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let value = cx.read::<Hash>(&args[1])?.and_then(|hash| hash.get(&args[2], cx.now));
    reply.bulk_or_null(value.map(SmallBytes::as_slice));
    Ok(())
}

fn hmget(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let hash = cx.read::<Hash>(&args[1])?;
    let fields = args.from(2);
    reply.array(fields.len());
    for field in fields.iter() {
        reply.bulk_or_null(hash.and_then(|h| h.get(field, cx.now)).map(SmallBytes::as_slice));
    }
    Ok(())
}

fn hgetall(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let Some(hash) = cx.read::<Hash>(&args[1])? else {
        reply.map(0);
        return Ok(());
    };
    reply.map(hash.len(cx.now));
    for field in hash.iter(cx.now) {
        reply.bulk(&field.name);
        reply.bulk(&field.value);
    }
    Ok(())
}

fn hkeys(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    one_of_each(cx, args, reply, |field| &field.name)
}

fn hvals(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    one_of_each(cx, args, reply, |field| &field.value)
}

fn one_of_each(
    cx: &mut ReadCx,
    args: Args,
    reply: &mut Reply,
    part: impl Fn(&Field) -> &SmallBytes,
) -> Result<(), Refusal> {
    let Some(hash) = cx.read::<Hash>(&args[1])? else {
        reply.array(0);
        return Ok(());
    };
    reply.array(hash.len(cx.now));
    hash.iter(cx.now).for_each(|field| reply.bulk(part(field)));
    Ok(())
}

fn hdel(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let removed =
        cx.update(&args[1], |hash: &mut Hash| Ok(args.from(2).iter().filter(|f| hash.remove(f)).count()))?;
    let removed = removed.unwrap_or(0);
    cx.event_then_del_if(removed > 0, Class::Hash, "hdel", &args[1]);
    reply.len(removed);
    Ok(())
}

fn hexists(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let found = cx.read::<Hash>(&args[1])?.is_some_and(|hash| hash.get(&args[2], cx.now).is_some());
    reply.int(i64::from(found));
    Ok(())
}

fn hlen(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.len(cx.read::<Hash>(&args[1])?.map_or(0, |hash| hash.len(cx.now)));
    Ok(())
}

fn hstrlen(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let value = cx.read::<Hash>(&args[1])?.and_then(|hash| hash.get(&args[2], cx.now));
    reply.len(value.map_or(0, |v| v.len()));
    Ok(())
}

/// Sets the value of `field`; the deadline of a field that is there stays.
fn replace_value(hash: &mut Hash, field: &[u8], value: &[u8]) {
    let value = SmallBytes::new(value);
    match hash.get_mut(field) {
        Some(old) => *old = value,
        None => drop(hash.set(field, value, NEVER)),
    }
}

fn hincrby(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let increment = parse::int(&args[3])?;
    let now = cx.now;
    let sum = cx.update_or_create(&args[1], |hash: &mut Hash| {
        let value = match hash.get(&args[2], now) {
            None => 0,
            Some(text) => number::parse_i64(text).ok_or(Refusal::text("ERR hash value is not an integer"))?,
        };
        let sum =
            value.checked_add(increment).ok_or(Refusal::text("ERR increment or decrement would overflow"))?;
        let mut digits = Vec::with_capacity(20);
        number::write_i64(&mut digits, sum);
        replace_value(hash, &args[2], &digits);
        Ok(sum)
    })?;
    cx.event(Class::Hash, "hincrby", &args[1]);
    reply.int(sum);
    Ok(())
}

fn hincrbyfloat(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let increment = LongDouble::parse(&args[3]).ok_or(Refusal::NotFloat)?;
    if !increment.is_finite() {
        return Err(Refusal::text("ERR value is NaN or Infinity"));
    }
    let now = cx.now;
    let text = cx.update_or_create(&args[1], |hash: &mut Hash| {
        let value = hash.get(&args[2], now).map_or(&b"0"[..], |text| text.as_slice());
        let value = LongDouble::parse(value).ok_or(Refusal::text("ERR hash value is not a float"))?;
        let sum =
            value.plus(increment).ok_or(Refusal::text("ERR increment would produce NaN or Infinity"))?;
        let mut text = Vec::new();
        sum.write(&mut text);
        replace_value(hash, &args[2], &text);
        Ok(text)
    })?;
    cx.event(Class::Hash, "hincrbyfloat", &args[1]);
    reply.bulk(&text);
    Ok(())
}

/// `HRANDFIELD key [count [WITHVALUES]]`
fn hrandfield(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let options = parse::random_options(args, "withvalues")?;
    let hash = cx.read::<Hash>(&args[1])?;
    let Some((count, with_values)) = options else {
        let field = hash.map(|h| Drawable::new(h, cx.now)).map(|d| d.at(cx.rng.below(d.len as u64) as usize));
        reply.bulk_or_null(field.map(|f| f.name.as_slice()));
        return Ok(());
    };
    let Some(hash) = hash else {
        reply.array(0);
        return Ok(());
    };
    let drawable = Drawable::new(hash, cx.now);
    let announce = |reply: &mut Reply, fields: usize| match with_values {
        true => reply.pairs(fields),
        false => reply.array(fields),
    };
    let write = |reply: &mut Reply, field: &Field| {
        if with_values {
            reply.pair();
        }
        reply.bulk(&field.name);
        if with_values {
            reply.bulk(&field.value);
        }
    };
    match count {
        RandomCount::Repeats(count) => {
            announce(reply, count);
            for _ in 0..count {
                write(reply, drawable.at(cx.rng.below(drawable.len as u64) as usize));
            }
        }
        RandomCount::Distinct(count) => {
            let positions = choose::distinct(cx.rng, drawable.len, count);
            announce(reply, positions.len());
            positions.into_iter().for_each(|at| write(reply, drawable.at(at)));
        }
    }
    Ok(())
}

/// The fields of a hash that may be seen, by number. A hash that is seen has at least one.
struct Drawable<'a> {
    hash: &'a Hash,
    len: usize,
    now: skep_base::Millis,
    /// Positions of visible fields, if there are others.
    visible: Option<Vec<u32>>,
}

impl<'a> Drawable<'a> {
    fn new(hash: &'a Hash, now: skep_base::Millis) -> Drawable<'a> {
        let len = hash.len(now);
        let is_visible = |at: &u32| hash.at(*at as usize, now).is_some();
        let visible =
            (len < hash.positions()).then(|| (0..hash.positions() as u32).filter(is_visible).collect());
        Drawable { hash, len, now, visible }
    }

    fn at(&self, number: usize) -> &'a Field {
        let position = self.visible.as_ref().map_or(number, |v| v[number] as usize);
        self.hash.at(position, self.now).expect("only visible positions are listed")
    }
}

/// `HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]`. What Redis would keep in a listpack comes at once.
fn hscan(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let cursor = scan::cursor(&args[2])?;
    let Some(hash) = cx.read::<Hash>(&args[1])? else {
        scan::reply_cursor(reply, 0, 0);
        return Ok(());
    };
    let options = ScanOptions::parse(args.from(3), "hscan")?;
    let visit = |at: usize| hash.at(at, cx.now).filter(|field| options.admit(&field.name));
    let (fields, next): (Vec<&Field>, u64) = if hash.encoding(cx.keyspace.encodings_shown()) != "hashtable" {
        ((0..hash.positions()).filter_map(visit).collect(), 0)
    } else {
        let (window, next) = scan::window(cursor, hash.positions(), options.count);
        (window.rev().filter_map(visit).collect(), next)
    };
    scan::reply_cursor(reply, next, if options.no_values { fields.len() } else { 2 * fields.len() });
    for field in fields {
        reply.bulk(&field.name);
        if !options.no_values {
            reply.bulk(&field.value);
        }
    }
    Ok(())
}
