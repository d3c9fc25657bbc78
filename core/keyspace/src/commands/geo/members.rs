//! `GEOADD` and the reads of single members.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::{place, unit, write_distance, write_place};
use crate::context::{ReadCx, WriteCx};
use crate::events::Class;
use crate::geohash::Point;
use crate::types::ZSet;

pub fn geoadd(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (mut nx, mut xx, mut ch) = (false, false, false);
    let mut at = 2;
    while at < args.len() {
        match () {
            () if args.is(at, "nx") => nx = true,
            () if args.is(at, "xx") => xx = true,
            () if args.is(at, "ch") => ch = true,
            () => break,
        }
        at += 1;
    }
    let triples = args.from(at);
    if triples.is_empty() || !triples.len().is_multiple_of(3) || nx && xx {
        return Err(Refusal::Syntax);
    }
    for at in (0..triples.len()).step_by(3) {
        place(&triples[at], &triples[at + 1])?;
    }
    let mut change = |zset: &mut ZSet| {
        let (mut added, mut updated) = (0, 0);
        for at in (0..triples.len()).step_by(3) {
            let (name, score) = (&triples[at + 2], place(&triples[at], &triples[at + 1])?.score());
            match zset.members().position(name) {
                Some(_) if nx => {}
                Some(position) => updated += usize::from(zset.set_score(position, score) != score),
                None if xx => {}
                None => {
                    zset.insert_new(name, score);
                    added += 1;
                }
            }
        }
        Ok((added, updated))
    };
    let (added, updated) = if xx {
        cx.update(&args[1], change)?.unwrap_or((0, 0))
    } else {
        cx.update_or_create(&args[1], &mut change)?
    };
    cx.event_if(added + updated > 0, Class::SortedSet, "zadd", &args[1]);
    reply.len(if ch { added + updated } else { added });
    Ok(())
}

pub fn geopos(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let zset = cx.read::<ZSet>(&args[1])?;
    let names = args.from(2);
    reply.array(names.len());
    for name in names.iter() {
        match position(zset, name) {
            Some(point) => write_place(reply, point),
            None => reply.null_array(),
        }
    }
    Ok(())
}

pub fn geohash(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let zset = cx.read::<ZSet>(&args[1])?;
    let names = args.from(2);
    reply.array(names.len());
    for name in names.iter() {
        match position(zset, name) {
            Some(point) => reply.bulk(&point.text()),
            None => reply.null(),
        }
    }
    Ok(())
}

pub fn geodist(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    if args.len() > 5 {
        return Err(Refusal::Syntax);
    }
    let metres = args.get(4).map_or(Ok(1.0), unit)?;
    let zset = cx.read::<ZSet>(&args[1])?;
    match (position(zset, &args[2]), position(zset, &args[3])) {
        (Some(one), Some(other)) => write_distance(reply, one.distance(other) / metres),
        _ => reply.null(),
    }
    Ok(())
}

fn position(zset: Option<&ZSet>, name: &[u8]) -> Option<Point> {
    zset?.score(name).map(Point::from_score)
}
