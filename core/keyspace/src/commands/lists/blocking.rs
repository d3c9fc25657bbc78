//! The forms that wait. Each tries, and says that it would wait if there is nothing; who lets it wait, and tries again, is the
//! node's business.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::pop_one;
use super::transfer::{end, move_one, parse_mpop, pop_first};
use crate::commands::parse;
use crate::context::WriteCx;
use crate::types::{End, List};
use crate::waits::{would_wait, would_wait_for_bulk};

pub fn blpop(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    pop(cx, args, End::Left, reply)
}

pub fn brpop(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    pop(cx, args, End::Right, reply)
}

fn pop(cx: &mut WriteCx, args: Args, end: End, reply: &mut Reply) -> Result<(), Refusal> {
    parse::wait_seconds(&args[args.len() - 1])?;
    for key in args.from(1).iter().take(args.len() - 2) {
        if cx.has_waited_for::<List>(key)? {
            reply.array(2);
            reply.bulk(key);
            pop_one(cx, key, end, reply)?;
            return Ok(());
        }
    }
    Err(would_wait())
}

pub fn blmove(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (from, to) = (end(args, 3)?, end(args, 4)?);
    parse::wait_seconds(&args[5])?;
    shift(cx, (&args[1], from), (&args[2], to), reply)
}

pub fn brpoplpush(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    parse::wait_seconds(&args[3])?;
    shift(cx, (&args[1], End::Right), (&args[2], End::Left), reply)
}

fn shift(cx: &mut WriteCx, from: (&[u8], End), to: (&[u8], End), reply: &mut Reply) -> Result<(), Refusal> {
    if cx.has_waited_for::<List>(from.0)? && move_one(cx, from, to, reply)? {
        return Ok(());
    }
    Err(would_wait_for_bulk())
}

pub fn blmpop(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    parse::wait_seconds(&args[1])?;
    let (keys, end, count) = parse_mpop(args.from(2))?;
    for key in keys {
        if cx.has_waited_for::<List>(key)? && pop_first(cx, [key], end, count, reply)? {
            return Ok(());
        }
    }
    Err(would_wait())
}
