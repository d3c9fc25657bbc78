//! Commands on one or two sets; the algebra of many is in `set_algebra`.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::parse::RandomCount;
use super::scan::{self, ScanOptions};
use super::{Group, choose, parse};
use crate::context::{ReadCx, WriteCx};
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;
use crate::small::SmallBytes;
use crate::types::Set;

pub const COMMANDS: Group = &[
    ("sadd", Write(sadd)),
    ("srem", Write(srem)),
    ("sismember", Read(sismember)),
    ("smismember", Read(smismember)),
    ("smembers", Read(smembers)),
    ("scard", Read(scard)),
    ("spop", Write(spop)),
    ("srandmember", Read(srandmember)),
    ("smove", Write(smove)),
    ("sscan", Read(sscan)),
];

fn sadd(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let members = args.from(2);
    let added =
        cx.update_or_create(&args[1], |set: &mut Set| Ok(members.iter().filter(|m| set.add(m)).count()))?;
    cx.event_if(added > 0, Class::Set, "sadd", &args[1]);
    reply.len(added);
    Ok(())
}

fn srem(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let members = args.from(2);
    let removed =
        cx.update(&args[1], |set: &mut Set| Ok(members.iter().filter(|m| set.remove(m)).count()))?;
    let removed = removed.unwrap_or(0);
    cx.event_then_del_if(removed > 0, Class::Set, "srem", &args[1]);
    reply.len(removed);
    Ok(())
}

fn sismember(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let found = cx.read::<Set>(&args[1])?.is_some_and(|set| set.contains(&args[2]));
    reply.int(i64::from(found));
    Ok(())
}

fn smismember(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let set = cx.read::<Set>(&args[1])?;
    let members = args.from(2);
    reply.array(members.len());
    members.iter().for_each(|m| reply.int(i64::from(set.is_some_and(|set| set.contains(m)))));
    Ok(())
}

fn smembers(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let Some(set) = cx.read::<Set>(&args[1])? else {
        reply.set(0);
        return Ok(());
    };
    reply.set(set.len());
    set.iter().for_each(|member| reply.bulk(member));
    Ok(())
}

fn scard(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.len(cx.read::<Set>(&args[1])?.map_or(0, Set::len));
    Ok(())
}

/// `SPOP key [count]`
fn spop(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    if args.len() > 3 {
        return Err(Refusal::Syntax);
    }
    let count = match args.get(2) {
        None => None,
        Some(count) => {
            Some(parse::int_within(count, 0, i64::MAX, "ERR value is out of range, must be positive")?)
        }
    };
    let rng = &mut *cx.rng;
    let mut pop = |set: &mut Set| set.remove_at(rng.below(set.len() as u64) as usize);
    let Some(count) = count else {
        let member = cx.keyspace.update(cx.db, &args[1], |set: &mut Set| Ok(pop(set)))?;
        if member.is_some() {
            cx.event_then_del(Class::Set, "spop", &args[1]);
        }
        reply.bulk_or_null(member.as_ref().map(SmallBytes::as_slice));
        return Ok(());
    };
    let popped = cx.keyspace.update(cx.db, &args[1], |set: &mut Set| {
        let count = set.len().min(count as usize);
        reply.set(count);
        if count == set.len() {
            set.iter().for_each(|member| reply.bulk(member));
            *set = Set::default();
        } else {
            (0..count).for_each(|_| reply.bulk(&pop(set)));
        }
        Ok(count)
    })?;
    match popped {
        Some(count) => cx.event_then_del_if(count > 0, Class::Set, "spop", &args[1]),
        None => reply.set(0),
    }
    Ok(())
}

/// `SRANDMEMBER key [count]`
fn srandmember(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    if args.len() > 3 {
        return Err(Refusal::Syntax);
    }
    let count = args.get(2).map(parse::random_count).transpose()?;
    let set = cx.read::<Set>(&args[1])?;
    let Some(count) = count else {
        let member = set.and_then(|set| set.at(cx.rng.below(set.len() as u64) as usize));
        reply.bulk_or_null(member.map(SmallBytes::as_slice));
        return Ok(());
    };
    let Some(set) = set else {
        reply.array(0);
        return Ok(());
    };
    let member = |at: usize| set.at(at).expect("positions are drawn below the length");
    match count {
        RandomCount::Repeats(count) => {
            reply.array(count);
            (0..count).for_each(|_| reply.bulk(member(cx.rng.below(set.len() as u64) as usize)));
        }
        RandomCount::Distinct(count) => {
            let positions = choose::distinct(cx.rng, set.len(), count);
            reply.array(positions.len());
            positions.into_iter().for_each(|at| reply.bulk(member(at)));
        }
    }
    Ok(())
}

/// `SMOVE source destination member`
fn smove(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (source, destination, member) = (&args[1], &args[2], &args[3]);
    let Some(set) = cx.read::<Set>(source)? else {
        reply.int(0);
        return Ok(());
    };
    let moves = set.contains(member);
    cx.read::<Set>(destination)?;
    if moves && source != destination {
        cx.update(source, |set: &mut Set| Ok(set.remove(member)))?;
        cx.event_then_del(Class::Set, "srem", source);
        let added = cx.update_or_create(destination, |set: &mut Set| Ok(set.add(member)))?;
        cx.event_if(added, Class::Set, "sadd", destination);
    }
    reply.int(i64::from(moves));
    Ok(())
}

/// `SSCAN key cursor [MATCH pattern] [COUNT count]`. What Redis would keep in a listpack or intset comes at once.
fn sscan(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let cursor = scan::cursor(&args[2])?;
    let Some(set) = cx.read::<Set>(&args[1])? else {
        scan::reply_cursor(reply, 0, 0);
        return Ok(());
    };
    let options = ScanOptions::parse(args.from(3), "sscan")?;
    let visit = |at: usize| set.at(at).filter(|member| options.admit(member));
    let (members, next): (Vec<&SmallBytes>, u64) =
        if set.encoding(cx.keyspace.encodings_shown()) != "hashtable" {
            ((0..set.len()).filter_map(visit).collect(), 0)
        } else {
            let (window, next) = scan::window(cursor, set.len(), options.count);
            (window.rev().filter_map(visit).collect(), next)
        };
    scan::reply_cursor(reply, next, members.len());
    members.into_iter().for_each(|member| reply.bulk(member));
    Ok(())
}
