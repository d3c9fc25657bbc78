//! `XRANGE`, `XREVRANGE`, and entries in replies.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::super::parse;
use super::ids;
use crate::context::ReadCx;
use crate::types::Stream;
use crate::types::stream::Record;

/// Replies with an entry: its id, and its fields and values.
pub fn reply_entry(reply: &mut Reply, entry: Record) {
    reply.array(2);
    ids::reply_id(reply, entry.id);
    reply.array(2 * entry.len());
    for (name, value) in entry.fields() {
        reply.bulk(name);
        reply.bulk(value);
    }
}

/// Replies with an array of at most `count` entries. They are counted first, which looks at their ids only.
pub fn reply_entries<'a>(
    reply: &mut Reply,
    entries: impl Fn() -> Box<dyn Iterator<Item = Record<'a>> + 'a>,
    count: usize,
) {
    reply.array(entries().take(count).count());
    entries().take(count).for_each(|entry| reply_entry(reply, entry));
}

/// `XRANGE key start end [COUNT count]`
pub fn xrange(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    range(cx, args, false, reply)
}

/// `XREVRANGE key end start [COUNT count]`
pub fn xrevrange(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    range(cx, args, true, reply)
}

fn range(cx: &mut ReadCx, args: Args, backwards: bool, reply: &mut Reply) -> Result<(), Refusal> {
    let (start_at, end_at) = if backwards { (3, 2) } else { (2, 3) };
    let start = ids::interval_start(&args[start_at])?;
    let end = ids::interval_end(&args[end_at])?;
    let mut count = usize::MAX;
    let mut at = 4;
    while at < args.len() {
        if !args.is(at, "count") || at + 1 == args.len() {
            return Err(Refusal::Syntax);
        }
        count = usize::try_from(parse::int(&args[at + 1])?).unwrap_or(0);
        at += 2;
    }
    let Some(stream) = cx.read::<Stream>(&args[1])? else {
        reply.array(0);
        return Ok(());
    };
    if count == 0 {
        reply.null_array();
    } else if backwards {
        reply_entries(reply, || Box::new(stream.range_back(start, end)), count);
    } else {
        reply_entries(reply, || Box::new(stream.range(start, end)), count);
    }
    Ok(())
}
