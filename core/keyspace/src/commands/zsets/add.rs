//! `ZADD` and `ZINCRBY`.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::score;
use crate::context::WriteCx;
use crate::events::Class;
use crate::types::ZSet;

/// The options of `ZADD`.
#[derive(Default)]
struct Options {
    /// Only new members.
    nx: bool,
    /// Only members that are there.
    xx: bool,
    gt: bool,
    lt: bool,
    /// Count changed members too.
    ch: bool,
    incr: bool,
}

enum Outcome {
    Added,
    Updated,
    Unchanged,
    /// An option forbade it.
    Skipped,
}

pub fn zadd(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let mut options = Options::default();
    let mut at = 2;
    while let Some(arg) = args.get(at) {
        match arg {
            a if a.eq_ignore_ascii_case(b"nx") => options.nx = true,
            a if a.eq_ignore_ascii_case(b"xx") => options.xx = true,
            a if a.eq_ignore_ascii_case(b"gt") => options.gt = true,
            a if a.eq_ignore_ascii_case(b"lt") => options.lt = true,
            a if a.eq_ignore_ascii_case(b"ch") => options.ch = true,
            a if a.eq_ignore_ascii_case(b"incr") => options.incr = true,
            _ => break,
        }
        at += 1;
    }
    let pairs = args.from(at);
    if pairs.is_empty() || pairs.len() % 2 == 1 {
        return Err(Refusal::Syntax);
    }
    if options.nx && options.xx {
        return Err(Refusal::text("ERR XX and NX options at the same time are not compatible"));
    }
    if (options.gt || options.lt) && options.nx || options.gt && options.lt {
        return Err(Refusal::text("ERR GT, LT, and/or NX options at the same time are not compatible"));
    }
    if options.incr && pairs.len() > 2 {
        return Err(Refusal::text("ERR INCR option supports a single increment-element pair"));
    }
    add(cx, &args[1], &options, pairs, reply)
}

pub fn zincrby(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    // Redis reads it as `ZADD key INCR …`, where a word that is an option of ZADD leaves no pair behind it.
    if ["nx", "xx", "gt", "lt", "ch", "incr"].iter().any(|option| args.is(2, option)) {
        return Err(Refusal::Syntax);
    }
    add(cx, &args[1], &Options { incr: true, ..Options::default() }, args.from(2), reply)
}

fn add(
    cx: &mut WriteCx,
    key: &[u8],
    options: &Options,
    pairs: Args,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    for at in (0..pairs.len()).step_by(2) {
        score(&pairs[at])?;
    }
    let mut change = |zset: &mut ZSet| {
        let (mut added, mut updated) = (0, 0);
        for at in (0..pairs.len()).step_by(2) {
            let (outcome, score) = add_one(zset, &pairs[at + 1], score(&pairs[at])?, options)?;
            match outcome {
                Outcome::Added => added += 1,
                Outcome::Updated => updated += 1,
                Outcome::Unchanged | Outcome::Skipped => {}
            }
            if options.incr {
                match outcome {
                    Outcome::Skipped => reply.null(),
                    _ => reply.double(score),
                }
            }
        }
        Ok((added, updated))
    };
    let (added, updated) = if options.xx {
        match cx.update(key, change)? {
            Some(counts) => counts,
            None => {
                if options.incr {
                    reply.null();
                } else {
                    reply.int(0);
                }
                return Ok(());
            }
        }
    } else {
        cx.update_or_create(key, &mut change)?
    };
    cx.event_if(added + updated > 0, Class::SortedSet, if options.incr { "zincr" } else { "zadd" }, key);
    if !options.incr {
        reply.len(if options.ch { added + updated } else { added });
    }
    Ok(())
}

/// Adds or changes one member; gives what became of it and its score.
fn add_one(
    zset: &mut ZSet,
    name: &[u8],
    mut score: f64,
    options: &Options,
) -> Result<(Outcome, f64), Refusal> {
    let Some(at) = zset.members().position(name) else {
        if options.xx {
            return Ok((Outcome::Skipped, score));
        }
        zset.insert_new(name, score);
        return Ok((Outcome::Added, score));
    };
    let old = zset.members().at(at).expect("found above").score;
    if options.nx {
        return Ok((Outcome::Skipped, old));
    }
    if options.incr {
        score += old;
        if score.is_nan() {
            return Err(Refusal::text("ERR resulting score is not a number (NaN)"));
        }
    }
    if options.gt && score <= old || options.lt && score >= old {
        return Ok((Outcome::Skipped, old));
    }
    if score == old {
        return Ok((Outcome::Unchanged, score));
    }
    zset.set_score(at, score);
    Ok((Outcome::Updated, score))
}
