//! Reads of single members, counts and ranks, and `ZRANDMEMBER`.

use std::collections::BTreeMap;

use skep_base::{Args, Refusal, Rng, number};
use skep_resp::Reply;

use super::range::Bounds;
use super::write_members;
use crate::context::ReadCx;
use crate::types::{Member, ZSet};

/// Members that one `ZRANDMEMBER key -count` may ask for: more would only fill the output buffer past its limit.
const REPEATS_MAX: u64 = 1 << 24;

pub fn zscore(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    match cx.read::<ZSet>(&args[1])?.and_then(|zset| zset.score(&args[2])) {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
    Ok(())
}

pub fn zmscore(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let zset = cx.read::<ZSet>(&args[1])?;
    let names = args.from(2);
    reply.array(names.len());
    for name in names.iter() {
        match zset.and_then(|zset| zset.score(name)) {
            Some(score) => reply.double(score),
            None => reply.null(),
        }
    }
    Ok(())
}

pub fn zcard(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.len(cx.read::<ZSet>(&args[1])?.map_or(0, ZSet::len));
    Ok(())
}

pub fn zcount(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let bounds = Bounds::scores(&args[2], &args[3])?;
    reply.len(cx.read::<ZSet>(&args[1])?.map_or(0, |zset| bounds.ranks(zset).len()));
    Ok(())
}

pub fn zlexcount(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let bounds = Bounds::names(&args[2], &args[3])?;
    reply.len(cx.read::<ZSet>(&args[1])?.map_or(0, |zset| bounds.ranks(zset).len()));
    Ok(())
}

pub fn zrank(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    rank(cx, args, false, reply)
}

pub fn zrevrank(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    rank(cx, args, true, reply)
}

fn rank(cx: &mut ReadCx, args: Args, reverse: bool, reply: &mut Reply) -> Result<(), Refusal> {
    if args.len() > 4 {
        return Err(Refusal::WrongArity(if reverse { "zrevrank" } else { "zrank" }.into()));
    }
    let with_score = args.len() == 4;
    if with_score && !args.is(3, "withscore") {
        return Err(Refusal::Syntax);
    }
    let zset = cx.read::<ZSet>(&args[1])?;
    let Some((zset, rank)) = zset.and_then(|zset| Some((zset, zset.rank(&args[2])?))) else {
        if with_score {
            reply.null_array();
        } else {
            reply.null();
        }
        return Ok(());
    };
    if with_score {
        reply.array(2);
    }
    reply.len(if reverse { zset.len() - 1 - rank } else { rank });
    if with_score {
        reply.double(zset.score(&args[2]).expect("a ranked member has a score"));
    }
    Ok(())
}

pub fn zrandmember(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let Some(count) = args.get(2) else {
        let zset = cx.read::<ZSet>(&args[1])?;
        reply.bulk_or_null(zset.map(|zset| random(zset, cx.rng).name.as_slice()));
        return Ok(());
    };
    let count = number::parse_i64(count).ok_or(Refusal::NotInteger)?;
    if count == i64::MIN {
        return Err(Refusal::text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    if args.len() > 4 || args.len() == 4 && !args.is(3, "withscores") {
        return Err(Refusal::Syntax);
    }
    let with_scores = args.len() == 4;
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(Refusal::text("ERR value is out of range"));
    }
    let Some(zset) = cx.read::<ZSet>(&args[1])? else {
        reply.array(0);
        return Ok(());
    };
    if count < 0 {
        if count.unsigned_abs() > REPEATS_MAX {
            return Err(Refusal::text("ERR value is out of range"));
        }
        let count = count.unsigned_abs() as usize;
        write_members(reply, count, (0..count).map(|_| random(zset, cx.rng)), with_scores);
    } else if count as usize >= zset.len() {
        write_members(reply, zset.len(), zset.range(0..zset.len(), true), with_scores);
    } else {
        let chosen = distinct(zset.len(), count as usize, cx.rng);
        let members = chosen.map(|at| zset.members().at(at).expect("chosen below the length"));
        write_members(reply, count as usize, members, with_scores);
    }
    Ok(())
}

fn random<'a>(zset: &'a ZSet, rng: &mut Rng) -> &'a Member {
    let at = rng.below(zset.len() as u64) as usize;
    zset.members().at(at).expect("drawn below the length")
}

/// `count` different positions below `len`, in random order: the front of a Fisher-Yates shuffle, of which only the
/// exchanged places are kept. Cost: O(count log count).
fn distinct(len: usize, count: usize, rng: &mut Rng) -> impl Iterator<Item = usize> {
    let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
    (0..count).map(move |front| {
        let drawn = front + rng.below((len - front) as u64) as usize;
        let chosen = moved.get(&drawn).copied().unwrap_or(drawn);
        let displaced = moved.remove(&front).unwrap_or(front);
        moved.insert(drawn, displaced);
        chosen
    })
}
