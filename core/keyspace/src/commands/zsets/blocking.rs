//! `BZPOPMIN`, `BZPOPMAX`, `BZMPOP`: they try, and say that they would wait if there is nothing.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::pop::{End, parse_mpop, pop_many, pop_members};
use crate::commands::parse;
use crate::context::WriteCx;
use crate::types::ZSet;
use crate::waits::would_wait;

pub fn bzpopmin(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    pop(cx, args, End::Min, reply)
}

pub fn bzpopmax(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    pop(cx, args, End::Max, reply)
}

fn pop(cx: &mut WriteCx, args: Args, end: End, reply: &mut Reply) -> Result<(), Refusal> {
    parse::wait_seconds(&args[args.len() - 1])?;
    for key in args.from(1).iter().take(args.len() - 2) {
        if cx.has_waited_for::<ZSet>(key)? {
            reply.array(3);
            reply.bulk(key);
            return pop_members(cx, key, 1, end, |_| {}, reply);
        }
    }
    Err(would_wait())
}

pub fn bzmpop(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    parse::wait_seconds(&args[1])?;
    let (keys, end, count) = parse_mpop(args.from(2))?;
    for key in keys {
        if cx.has_waited_for::<ZSet>(key)? {
            let held = cx.read::<ZSet>(key)?.map_or(0, ZSet::len);
            return pop_many(cx, key, count.min(held), end, reply);
        }
    }
    Err(would_wait())
}
