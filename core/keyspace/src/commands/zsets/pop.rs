//! `ZPOPMIN`, `ZPOPMAX`, `ZMPOP`.

use skep_base::{Args, Refusal, number};
use skep_resp::Reply;

use crate::context::WriteCx;
use crate::events::Class;
use crate::types::ZSet;

/// Which end of the order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Min,
    Max,
}

pub fn zpopmin(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    pop(cx, args, End::Min, reply)
}

pub fn zpopmax(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    pop(cx, args, End::Max, reply)
}

fn pop(cx: &mut WriteCx, args: Args, end: End, reply: &mut Reply) -> Result<(), Refusal> {
    if args.len() > 3 {
        return Err(Refusal::Syntax);
    }
    let count = match args.get(2) {
        None => 1,
        Some(arg) => match number::parse_i64(arg) {
            Some(count) if count >= 0 => count as usize,
            _ => return Err(Refusal::text("ERR value is out of range, must be positive")),
        },
    };
    let len = cx.read::<ZSet>(&args[1])?.map_or(0, ZSet::len);
    let count = count.min(len);
    if args.len() == 3 {
        reply.pairs(count);
        pop_members(cx, &args[1], count, end, |reply| reply.pair(), reply)
    } else {
        reply.array(2 * count);
        pop_members(cx, &args[1], count, end, |_| {}, reply)
    }
}

pub fn zmpop(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (keys, end, count) = parse_mpop(args.from(1))?;
    for key in keys {
        let Some(zset) = cx.read::<ZSet>(key)? else { continue };
        let count = count.min(zset.len());
        return pop_many(cx, key, count, end, reply);
    }
    reply.null_array();
    Ok(())
}

/// Parses `numkeys key... MIN|MAX [COUNT n]`: the keys, the end, the count.
pub fn parse_mpop(args: Args<'_>) -> Result<(impl Iterator<Item = &[u8]>, End, usize), Refusal> {
    let bad_keys = Refusal::text("ERR numkeys should be greater than 0");
    let keys = number::parse_i64(&args[0]).filter(|n| *n > 0).ok_or(bad_keys)?;
    let keys = usize::try_from(keys).unwrap_or(usize::MAX);
    let end_at = keys.saturating_add(1);
    let end = match args.get(end_at) {
        Some(a) if a.eq_ignore_ascii_case(b"min") => End::Min,
        Some(a) if a.eq_ignore_ascii_case(b"max") => End::Max,
        _ => return Err(Refusal::Syntax),
    };
    let mut count = None;
    let mut at = end_at + 1;
    while at < args.len() {
        if count.is_some() || !args.is(at, "count") || at + 1 == args.len() {
            return Err(Refusal::Syntax);
        }
        let bad_count = Refusal::text("ERR count should be greater than 0");
        count = Some(number::parse_i64(&args[at + 1]).filter(|n| *n > 0).ok_or(bad_count)?);
        at += 2;
    }
    Ok((args.from(1).iter().take(keys), end, count.unwrap_or(1) as usize))
}

/// Removes `count` members from one end and replies with the key and them; the key holds at least so many.
pub fn pop_many(
    cx: &mut WriteCx,
    key: &[u8],
    count: usize,
    end: End,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    reply.array(2);
    reply.bulk(key);
    reply.array(count);
    pop_members(cx, key, count, end, |reply| reply.array(2), reply)
}

/// Removes and writes `count` members from one end; the key holds at least so many.
pub fn pop_members(
    cx: &mut WriteCx,
    key: &[u8],
    count: usize,
    end: End,
    begin_pair: fn(&mut Reply),
    reply: &mut Reply,
) -> Result<(), Refusal> {
    if count == 0 {
        return Ok(());
    }
    let zset = cx.modify::<ZSet>(key)?.expect("its members were counted");
    for _ in 0..count {
        let member = zset.remove_rank(if end == End::Min { 0 } else { zset.len() - 1 });
        begin_pair(reply);
        reply.bulk(&member.name);
        reply.double(member.score);
    }
    cx.changed(key, None);
    cx.event_then_del(Class::SortedSet, if end == End::Min { "zpopmin" } else { "zpopmax" }, key);
    Ok(())
}
