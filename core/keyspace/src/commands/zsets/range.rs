//! Ranges by rank, score and name: `ZRANGE`, its older forms, and `ZRANGESTORE`.

use std::ops::Range;

use skep_base::{Args, Refusal, number};
use skep_resp::Reply;

use super::{integer, write_members};
use crate::context::{ReadCx, WriteCx};
use crate::events::Class;
use crate::types::{Member, ZSet};

/// The ends of a range of scores or names.
pub enum Bounds<'a> {
    Scores { min: ScoreEnd, max: ScoreEnd },
    Names { min: NameEnd<'a>, max: NameEnd<'a> },
}

/// `5`, `(5`, `-inf`.
#[derive(Clone, Copy)]
pub struct ScoreEnd {
    value: f64,
    exclusive: bool,
}

/// `-`, `+`, `[name`, `(name`.
#[derive(Clone, Copy)]
pub enum NameEnd<'a> {
    Least,
    Greatest,
    Inclusive(&'a [u8]),
    Exclusive(&'a [u8]),
}

impl<'a> Bounds<'a> {
    /// The bounds of `ZRANGEBYSCORE`.
    pub fn scores(min: &[u8], max: &[u8]) -> Result<Bounds<'a>, Refusal> {
        match (ScoreEnd::parse(min), ScoreEnd::parse(max)) {
            (Some(min), Some(max)) => Ok(Bounds::Scores { min, max }),
            _ => Err(Refusal::text("ERR min or max is not a float")),
        }
    }

    /// The bounds of `ZRANGEBYLEX`.
    pub fn names(min: &'a [u8], max: &'a [u8]) -> Result<Bounds<'a>, Refusal> {
        match (NameEnd::parse(min), NameEnd::parse(max)) {
            (Some(min), Some(max)) => Ok(Bounds::Names { min, max }),
            _ => Err(Refusal::text("ERR min or max not valid string range item")),
        }
    }

    /// The ranks of the members within. Cost: O(log n).
    pub fn ranks(&self, zset: &ZSet) -> Range<usize> {
        let (start, end) = match self {
            Bounds::Scores { min, max } => (
                zset.rank_by_score(|s| if min.exclusive { s <= min.value } else { s < min.value }),
                zset.rank_by_score(|s| if max.exclusive { s < max.value } else { s <= max.value }),
            ),
            Bounds::Names { min, max } => {
                (zset.rank_by_name(|n| !min.is_below(n)), zset.rank_by_name(|n| max.is_above(n)))
            }
        };
        start..end.max(start)
    }
}

impl ScoreEnd {
    /// As C's `strtod` reads it, which Redis uses here: leading blanks, overflow to infinity and nothing at all (0) pass.
    fn parse(text: &[u8]) -> Option<ScoreEnd> {
        let (exclusive, digits) = match text.strip_prefix(b"(") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if digits.is_empty() {
            return Some(ScoreEnd { value: 0.0, exclusive });
        }
        let digits = digits.trim_ascii_start();
        let overflowing = || std::str::from_utf8(digits).ok()?.parse().ok().filter(|v: &f64| !v.is_nan());
        let value = number::parse_f64(digits).or_else(overflowing)?;
        Some(ScoreEnd { value, exclusive })
    }
}

impl<'a> NameEnd<'a> {
    fn parse(text: &'a [u8]) -> Option<NameEnd<'a>> {
        match text {
            b"-" => Some(NameEnd::Least),
            b"+" => Some(NameEnd::Greatest),
            [b'[', name @ ..] => Some(NameEnd::Inclusive(name)),
            [b'(', name @ ..] => Some(NameEnd::Exclusive(name)),
            _ => None,
        }
    }

    /// True if `name` may follow this as the lower end.
    fn is_below(self, name: &[u8]) -> bool {
        match self {
            NameEnd::Least => true,
            NameEnd::Greatest => false,
            NameEnd::Inclusive(end) => end <= name,
            NameEnd::Exclusive(end) => end < name,
        }
    }

    /// True if `name` may precede this as the upper end.
    fn is_above(self, name: &[u8]) -> bool {
        match self {
            NameEnd::Least => false,
            NameEnd::Greatest => true,
            NameEnd::Inclusive(end) => name <= end,
            NameEnd::Exclusive(end) => name < end,
        }
    }
}

/// Ranks `start` to `end`, both included, negative ones from the end.
pub fn rank_range(start: i64, end: i64, len: usize) -> Range<usize> {
    let absolute = |rank: i64| if rank < 0 { rank.saturating_add(len as i64) } else { rank };
    let start = absolute(start).max(0) as usize;
    let end = (absolute(end).saturating_add(1).max(0) as usize).min(len);
    if start < end { start..end } else { 0..0 }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Name,
}

/// What a command of the family asks for.
struct Query<'a> {
    within: Within<'a>,
    reverse: bool,
    offset: i64,
    /// Negative: all.
    limit: i64,
    with_scores: bool,
}

enum Within<'a> {
    Ranks(i64, i64),
    Bounds(Bounds<'a>),
}

/// What the command's name has settled already.
#[derive(Default)]
struct Fixed {
    by: Option<By>,
    reverse: Option<bool>,
    storing: bool,
}

impl<'a> Query<'a> {
    /// Parses what follows the source key; `args` start at the lower end.
    fn parse(args: &Args<'a>, fixed: Fixed) -> Result<Query<'a>, Refusal> {
        let Fixed { mut by, mut reverse, storing } = fixed;
        let (mut offset, mut limit, mut with_scores) = (0, -1, false);
        let mut at = 2;
        while at < args.len() {
            if !storing && args.is(at, "withscores") {
                with_scores = true;
            } else if args.is(at, "limit") && at + 2 < args.len() {
                offset = integer(&args[at + 1])?;
                limit = integer(&args[at + 2])?;
                at += 2;
            } else if reverse.is_none() && args.is(at, "rev") {
                reverse = Some(true);
            } else if by.is_none() && args.is(at, "bylex") {
                by = Some(By::Name);
            } else if by.is_none() && args.is(at, "byscore") {
                by = Some(By::Score);
            } else {
                return Err(Refusal::Syntax);
            }
            at += 1;
        }
        let by = by.unwrap_or(By::Rank);
        let reverse = reverse.unwrap_or(false);
        if limit != -1 && by == By::Rank {
            return Err(Refusal::text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Name {
            return Err(Refusal::text(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let first = args.get(0).expect("arity was checked");
        let second = args.get(1).expect("arity was checked");
        let (min, max) = if reverse { (second, first) } else { (first, second) };
        let within = match by {
            By::Rank => Within::Ranks(integer(first)?, integer(second)?),
            By::Score => Within::Bounds(Bounds::scores(min, max)?),
            By::Name => Within::Bounds(Bounds::names(min, max)?),
        };
        Ok(Query { within, reverse, offset, limit, with_scores })
    }

    /// The ranks, counted from the front, of the members asked for.
    fn ranks(&self, zset: &ZSet) -> Range<usize> {
        let len = zset.len();
        match &self.within {
            Within::Ranks(start, end) => {
                let ranks = rank_range(*start, *end, len);
                if self.reverse { len - ranks.end..len - ranks.start } else { ranks }
            }
            Within::Bounds(bounds) => {
                let ranks = bounds.ranks(zset);
                let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
                if offset >= ranks.len() {
                    return 0..0;
                }
                let count = usize::try_from(self.limit).unwrap_or(usize::MAX).min(ranks.len() - offset);
                let start = if self.reverse { ranks.end - offset - count } else { ranks.start + offset };
                start..start + count
            }
        }
    }
}

pub fn zrange(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    range(cx, args, Fixed::default(), reply)
}

pub fn zrevrange(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    range(cx, args, fixed(By::Rank, true), reply)
}

pub fn zrangebyscore(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    range(cx, args, fixed(By::Score, false), reply)
}

pub fn zrevrangebyscore(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    range(cx, args, fixed(By::Score, true), reply)
}

pub fn zrangebylex(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    range(cx, args, fixed(By::Name, false), reply)
}

pub fn zrevrangebylex(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    range(cx, args, fixed(By::Name, true), reply)
}

fn fixed(by: By, reverse: bool) -> Fixed {
    Fixed { by: Some(by), reverse: Some(reverse), storing: false }
}

fn range(cx: &mut ReadCx, args: Args, fixed: Fixed, reply: &mut Reply) -> Result<(), Refusal> {
    let query = Query::parse(&args.from(2), fixed)?;
    let Some(zset) = cx.read::<ZSet>(&args[1])? else {
        reply.array(0);
        return Ok(());
    };
    let ranks = query.ranks(zset);
    write_members(reply, ranks.len(), zset.range(ranks.clone(), query.reverse), query.with_scores);
    Ok(())
}

pub fn zrangestore(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let query = Query::parse(&args.from(3), Fixed { storing: true, ..Fixed::default() })?;
    let found: ZSet = match cx.read_value::<ZSet>(&args[2])? {
        Some(zset) => zset.range(query.ranks(zset), query.reverse).map(Member::clone).collect(),
        None => ZSet::default(),
    };
    reply.len(found.len());
    cx.store(&args[1], found, Class::SortedSet, "zrangestore");
    Ok(())
}
