//! `ZREM` and the removal of ranges.

use std::ops::Range;

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::integer;
use super::range::{Bounds, rank_range};
use crate::context::WriteCx;
use crate::events::Class;
use crate::types::ZSet;

pub fn zrem(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let key = &args[1];
    let removed = cx.update(key, |zset: &mut ZSet| {
        Ok(args.from(2).iter().filter(|name| zset.remove(name).is_some()).count())
    })?;
    let removed = removed.unwrap_or(0);
    cx.event_then_del_if(removed > 0, Class::SortedSet, "zrem", key);
    reply.len(removed);
    Ok(())
}

pub fn by_rank(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (start, end) = (integer(&args[2])?, integer(&args[3])?);
    remove_ranks(cx, &args[1], "zremrangebyrank", |zset| rank_range(start, end, zset.len()), reply)
}

pub fn by_score(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let bounds = Bounds::scores(&args[2], &args[3])?;
    remove_ranks(cx, &args[1], "zremrangebyscore", |zset| bounds.ranks(zset), reply)
}

pub fn by_lex(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let bounds = Bounds::names(&args[2], &args[3])?;
    remove_ranks(cx, &args[1], "zremrangebylex", |zset| bounds.ranks(zset), reply)
}

fn none(reply: &mut Reply) -> Result<(), Refusal> {
    reply.int(0);
    Ok(())
}

fn remove_ranks(
    cx: &mut WriteCx,
    key: &[u8],
    event: &'static str,
    ranks: impl Fn(&ZSet) -> Range<usize>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    let ranks = match cx.read::<ZSet>(key)? {
        Some(zset) => ranks(zset),
        None => return none(reply),
    };
    if ranks.is_empty() {
        return none(reply);
    }
    let zset = cx.modify::<ZSet>(key)?.expect("read above");
    if ranks.len() == zset.len() {
        cx.remove(key);
    } else {
        for _ in ranks.clone() {
            zset.remove_rank(ranks.start);
        }
    }
    cx.event_then_del(Class::SortedSet, event, key);
    reply.len(ranks.len());
    Ok(())
}
