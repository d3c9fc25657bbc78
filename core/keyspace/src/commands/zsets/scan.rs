//! `ZSCAN`.

use skep_base::glob;
use skep_base::{Args, Refusal, number};
use skep_resp::Reply;

use super::integer;
use crate::context::ReadCx;
use crate::types::{Member, ZSet};

/// Members looked at per call unless `COUNT` says otherwise.
const COUNT_DEFAULT: usize = 10;

pub fn zscan(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let cursor = number::parse_u64(&args[2]).ok_or(Refusal::text("ERR invalid cursor"))?;
    let Some(zset) = cx.read::<ZSet>(&args[1])? else {
        reply.array(2);
        reply.bulk(b"0");
        reply.array(0);
        return Ok(());
    };
    let mut pattern = None;
    let mut count = COUNT_DEFAULT;
    let mut at = 3;
    while at < args.len() {
        if at + 1 == args.len() {
            return Err(Refusal::Syntax);
        }
        if args.is(at, "match") {
            // A lone star is no pattern, as in Redis: it admits the empty name, which globs do not.
            pattern = Some(&args[at + 1]).filter(|pattern| *pattern != b"*");
        } else if args.is(at, "count") {
            let asked = integer(&args[at + 1])?;
            count = usize::try_from(asked).ok().filter(|n| *n > 0).ok_or(Refusal::Syntax)?;
        } else {
            return Err(Refusal::Syntax);
        }
        at += 2;
    }
    if zset.encoding(cx.keyspace.encodings_shown()) == "listpack" {
        // Small sets come whole and in order, as in Redis.
        write_page(reply, 0, zset.range(0..zset.len(), false), pattern);
        return Ok(());
    }
    // The cursor counts the members still to come, which are those at the front of the array: the walk goes downwards,
    // so that a removal moves only members that were given already.
    let len = zset.len();
    let top = if cursor == 0 { len } else { usize::try_from(cursor).unwrap_or(len).min(len) };
    let bottom = top.saturating_sub(count);
    let page = (bottom..top).rev().map(|at| zset.members().at(at).expect("below the length"));
    write_page(reply, bottom, page, pattern);
    Ok(())
}

fn write_page<'a>(
    reply: &mut Reply,
    cursor: usize,
    page: impl Iterator<Item = &'a Member>,
    pattern: Option<&[u8]>,
) {
    let matching: Vec<&Member> =
        page.filter(|m| pattern.is_none_or(|pattern| glob::matches(pattern, &m.name))).collect();
    reply.array(2);
    reply.bulk_int(cursor as i64);
    reply.array(2 * matching.len());
    let mut score = Vec::with_capacity(24);
    for member in matching {
        reply.bulk(&member.name);
        score.clear();
        number::write_f64(&mut score, member.score);
        reply.bulk(&score);
    }
}
