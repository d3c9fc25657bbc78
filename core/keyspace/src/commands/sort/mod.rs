//! `SORT` and `SORT_RO`: a list, set or sorted set by its elements or by what other keys say about them.
//!
//! Options and the order in which they are refused are those of Redis 7.4 (its `sort.c`). `ALPHA` compares bytes, as Redis
//! does in the C locale; the locale of a server must not decide what a replicated `STORE` holds.

mod pattern;

use std::cmp::Ordering;
use std::ops::Range;

use skep_base::{Args, Refusal, number};
use skep_resp::Reply;

use super::{Group, parse};
use crate::context::{ReadCx, WriteCx};
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;
use crate::types::{End, List};
use crate::value::Value;
use pattern::{Pattern, c_text};

pub const COMMANDS: Group = &[("sort", Write(sort)), ("sort_ro", Read(sort_ro))];

/// The bytes that one result may have. Redis has no limit but its memory; here a `GET` that repeats one large value for
/// every element would take down each replica that applies it.
const RESULT_BYTES_MAX: usize = 1 << 30;

/// What the arguments ask for.
struct Options<'a> {
    by: Option<&'a [u8]>,
    /// Some `BY` named a pattern without `*`: nothing to compare by.
    keeps_order: bool,
    /// Offset and count; a negative count means all.
    limit: (i64, i64),
    gets: Vec<Pattern<'a>>,
    descends: bool,
    alpha: bool,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>, may_store: bool) -> Result<Options<'a>, Refusal> {
        let mut options = Options {
            by: None,
            keeps_order: false,
            limit: (0, -1),
            gets: Vec::new(),
            descends: false,
            alpha: false,
            store: None,
        };
        let mut at = 2;
        while at < args.len() {
            // Redis takes an option without its values for an unknown word.
            let next = args.get(at + 1);
            at += match (next, args.get(at + 2)) {
                _ if args.is(at, "asc") => {
                    options.descends = false;
                    1
                }
                _ if args.is(at, "desc") => {
                    options.descends = true;
                    1
                }
                _ if args.is(at, "alpha") => {
                    options.alpha = true;
                    1
                }
                (Some(offset), Some(count)) if args.is(at, "limit") => {
                    options.limit = (parse::int(offset)?, parse::int(count)?);
                    3
                }
                (Some(key), _) if may_store && args.is(at, "store") => {
                    options.store = Some(key);
                    2
                }
                (Some(pattern), _) if args.is(at, "by") => {
                    options.by = Some(pattern);
                    options.keeps_order |= !c_text(pattern).contains(&b'*');
                    2
                }
                (Some(pattern), _) if args.is(at, "get") => {
                    options.gets.push(Pattern::new(pattern));
                    2
                }
                _ => return Err(Refusal::Syntax),
            };
        }
        Ok(options)
    }

    /// The positions asked for in a result of `len`.
    fn range(&self, len: usize) -> Range<usize> {
        let (offset, count) = self.limit;
        let cut = |n: i64| usize::try_from(n).unwrap_or(0).min(len);
        let start = cut(offset);
        let count = if count < 0 { len } else { cut(count) };
        start..(start + count).min(len)
    }

    fn directed(&self, order: Ordering) -> Ordering {
        if self.descends { order.reverse() } else { order }
    }
}

/// `SORT key [BY pattern] [LIMIT offset count] [GET pattern …] [ASC | DESC] [ALPHA] [STORE destination]`
fn sort(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let options = Options::parse(args, true)?;
    let Some(destination) = options.store else {
        return answer(&cx.as_read(), &args[1], &options, reply);
    };
    let mut result = List::default();
    let read = cx.as_read();
    for_each_result(&read, &sorted(&read, &args[1], &options)?, &options, |value| {
        result.push(End::Right, value.unwrap_or_default());
    })?;
    reply.len(result.len());
    cx.store(destination, result, Class::List, "sortstore");
    Ok(())
}

/// `SORT_RO`: as `SORT`, without `STORE`.
fn sort_ro(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    answer(cx, &args[1], &Options::parse(args, false)?, reply)
}

fn answer(cx: &ReadCx, key: &[u8], options: &Options, reply: &mut Reply) -> Result<(), Refusal> {
    let elements = sorted(cx, key, options)?;
    reply.array(elements.len() * options.gets.len().max(1));
    for_each_result(cx, &elements, options, |value| reply.bulk_or_null(value))
}

/// Gives `emit` each element, or what the `GET`s find for it.
fn for_each_result<'a>(
    cx: &ReadCx<'a>,
    elements: &[&'a [u8]],
    options: &Options,
    mut emit: impl FnMut(Option<&'a [u8]>),
) -> Result<(), Refusal> {
    let mut bytes = 0;
    let mut checked = |value: Option<&'a [u8]>| {
        bytes += value.map_or(0, <[u8]>::len);
        if bytes > RESULT_BYTES_MAX {
            return Err(Refusal::format(format!("ERR result of SORT exceeds {RESULT_BYTES_MAX} bytes")));
        }
        emit(value);
        Ok(())
    };
    let mut room = Vec::new();
    for element in elements {
        if options.gets.is_empty() {
            checked(Some(element))?;
        }
        for get in &options.gets {
            checked(get.look_up(cx, element, &mut room))?;
        }
    }
    Ok(())
}

/// The elements of the range asked for, in the order asked for.
///
/// Cost: O(n + m log m) in all n elements and the first m of them up to the range's end; O(m) where nothing is compared.
fn sorted<'a>(cx: &ReadCx<'a>, key: &[u8], options: &Options) -> Result<Vec<&'a [u8]>, Refusal> {
    let Some(entry) = cx.entry(key) else { return Ok(Vec::new()) };
    let elements: Vec<&[u8]> = match &entry.value {
        Value::List(list) if options.keeps_order => {
            let range = options.range(list.len());
            let count = range.len();
            return Ok(if options.descends {
                list.iter().rev().skip(range.start).take(count).collect()
            } else {
                list.iter_from(range.start).take(count).collect()
            });
        }
        Value::ZSet(zset) if options.keeps_order => {
            let len = zset.len();
            let range = options.range(len);
            let ranks = if options.descends { len - range.end..len - range.start } else { range };
            return Ok(zset.range(ranks, options.descends).map(|m| m.name.as_slice()).collect());
        }
        // Redis gives a set in the order of its table then, whatever the direction; it sorts one that is stored.
        Value::Set(set) if options.keeps_order && options.store.is_none() => {
            let range = options.range(set.len());
            return Ok(set.iter().skip(range.start).take(range.len()).map(|m| m.as_slice()).collect());
        }
        Value::List(list) => list.iter().collect(),
        Value::Set(set) => set.iter().map(|m| m.as_slice()).collect(),
        Value::ZSet(zset) => zset.members().iter().map(|m| m.name.as_slice()).collect(),
        Value::Str(_) | Value::Hash(_) | Value::Queue(_) | Value::Stream(_) => {
            return Err(Refusal::WrongType);
        }
    };
    // What keeps its order and is here nevertheless is a set to be stored.
    let by = options.by.filter(|_| !options.keeps_order).map(Pattern::new);
    if options.alpha || options.keeps_order {
        Ok(by_text(cx, elements, by.as_ref(), options))
    } else {
        by_number(cx, elements, by.as_ref(), options)
    }
}

/// A weight as text, the position in the collection, the element.
type Weighted<'a> = (Option<&'a [u8]>, usize, &'a [u8]);

/// By bytes, or by those of a weight: missing ones first, equal ones in the order of the collection (Redis leaves it open).
fn by_text<'a>(
    cx: &ReadCx<'a>,
    elements: Vec<&'a [u8]>,
    by: Option<&Pattern>,
    options: &Options,
) -> Vec<&'a [u8]> {
    let range = options.range(elements.len());
    let Some(by) = by else {
        return arrange(elements, range, |a, b| options.directed(a.cmp(b)));
    };
    let mut room = Vec::new();
    let mut weighted: Vec<Weighted> = Vec::with_capacity(elements.len());
    for (at, element) in elements.into_iter().enumerate() {
        weighted.push((by.look_up(cx, element, &mut room), at, element));
    }
    let weighted =
        arrange(weighted, range, |a, b| options.directed(a.0.cmp(&b.0)).then_with(|| a.1.cmp(&b.1)));
    weighted.into_iter().map(|(_, _, element)| element).collect()
}

/// By number, missing ones as 0; equal ones by the bytes of the elements.
fn by_number<'a>(
    cx: &ReadCx<'a>,
    elements: Vec<&'a [u8]>,
    by: Option<&Pattern>,
    options: &Options,
) -> Result<Vec<&'a [u8]>, Refusal> {
    const NOT_A_WEIGHT: Refusal = Refusal::text("ERR One or more scores can't be converted into double");
    let mut room = Vec::new();
    let mut weighted = Vec::with_capacity(elements.len());
    for element in elements {
        let text = match by {
            None => Some(element),
            Some(by) => by.look_up(cx, element, &mut room),
        };
        weighted.push((text.map_or(Some(0.0), weight).ok_or(NOT_A_WEIGHT)?, element));
    }
    let range = options.range(weighted.len());
    let weighted = arrange(weighted, range, |a, b| {
        let by_weight = a.0.partial_cmp(&b.0).expect("no weight is NaN");
        options.directed(by_weight.then_with(|| a.1.cmp(b.1)))
    });
    Ok(weighted.into_iter().map(|(_, element)| element).collect())
}

/// The items that would be at `range` if all were in order. Those that compare equal must be alike.
fn arrange<T>(mut items: Vec<T>, range: Range<usize>, compare: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if range.is_empty() {
        return Vec::new();
    }
    if range.end < items.len() {
        items.select_nth_unstable_by(range.end, &compare);
        items.truncate(range.end);
    }
    items.sort_unstable_by(&compare);
    items.drain(..range.start);
    items
}

/// A number as C's `strtod` reads it, which Redis uses here and nowhere else: behind blanks, up to a zero byte; an empty
/// text is 0. What overflows or is nearly 0 is refused.
fn weight(text: &[u8]) -> Option<f64> {
    let text = c_text(text);
    if text.is_empty() {
        return Some(0.0);
    }
    let blanks = text.iter().take_while(|b| matches!(b, b' ' | b'\t'..=b'\r')).count();
    let digits = &text[blanks..];
    let value = number::parse_f64(digits)?;
    let mantissa = digits.split(|b| matches!(b, b'e' | b'E' | b'p' | b'P')).next().unwrap_or_default();
    let is_nearly_zero = value.abs() < f64::MIN_POSITIVE && mantissa.iter().any(|b| matches!(b, b'1'..=b'9'));
    (!is_nearly_zero).then_some(value)
}

#[cfg(test)]
mod tests;
