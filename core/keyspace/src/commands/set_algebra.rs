//! Intersection, union and difference of sets, as replies and into a key.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::{Group, parse};
use crate::context::{ReadCx, WriteCx};
use crate::dense::{DenseMap, Iter, Keyed};
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;
use crate::small::SmallBytes;
use crate::types::Set;

pub const COMMANDS: Group = &[
    ("sinter", Read(|cx, args, reply| answer(cx, args, reply, intersection))),
    ("sunion", Read(|cx, args, reply| answer(cx, args, reply, union))),
    ("sdiff", Read(|cx, args, reply| answer(cx, args, reply, difference))),
    ("sinterstore", Write(|cx, args, reply| store(cx, args, reply, "sinterstore", intersection))),
    ("sunionstore", Write(|cx, args, reply| store(cx, args, reply, "sunionstore", union))),
    ("sdiffstore", Write(|cx, args, reply| store(cx, args, reply, "sdiffstore", difference))),
    ("sintercard", Read(sintercard)),
];

/// The sets of some keys, in order; `None` for a key that does not exist.
type Sets<'a> = Vec<Option<&'a Set>>;
type Operation = for<'a> fn(&Sets<'a>) -> Vec<&'a SmallBytes>;

fn answer(cx: &mut ReadCx, args: Args, reply: &mut Reply, operation: Operation) -> Result<(), Refusal> {
    let sets: Sets = args.from(1).iter().map(|key| cx.read(key)).collect::<Result<_, _>>()?;
    let members = operation(&sets);
    reply.set(members.len());
    members.into_iter().for_each(|member| reply.bulk(member));
    Ok(())
}

fn store(
    cx: &mut WriteCx,
    args: Args,
    reply: &mut Reply,
    name: &'static str,
    operation: Operation,
) -> Result<(), Refusal> {
    let sets: Sets = args.from(2).iter().map(|key| cx.read_value(key)).collect::<Result<_, _>>()?;
    let mut result = Set::default();
    for member in operation(&sets) {
        result.add(member);
    }
    reply.len(result.len());
    cx.store(&args[1], result, Class::Set, name);
    Ok(())
}

/// `SINTERCARD numkeys key [key …] [LIMIT limit]`
fn sintercard(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let count = parse::int_within(&args[1], 1, i64::MAX, "ERR numkeys should be greater than 0")?;
    let rest = args.from(2);
    let count = usize::try_from(count)
        .ok()
        .filter(|c| *c <= rest.len())
        .ok_or(Refusal::text("ERR Number of keys can't be greater than number of args"))?;
    let mut limit = 0;
    let mut at = count;
    while at < rest.len() {
        if !rest.is(at, "limit") || at + 1 == rest.len() {
            return Err(Refusal::Syntax);
        }
        limit = parse::int_within(&rest[at + 1], 0, i64::MAX, "ERR LIMIT can't be negative")?;
        at += 2;
    }
    let sets: Sets = rest.iter().take(count).map(|key| cx.read(key)).collect::<Result<_, _>>()?;
    let limit = if limit == 0 { usize::MAX } else { limit as usize };
    reply.len(common(&sets).take(limit).count());
    Ok(())
}

/// Members of all of `sets`, in the order of the smallest. Cost: O(the smallest x the number of sets).
fn common<'a>(sets: &Sets<'a>) -> impl Iterator<Item = &'a SmallBytes> {
    // Without one of the sets nothing is common.
    let mut present: Vec<&'a Set> = sets.iter().copied().collect::<Option<_>>().unwrap_or_default();
    present.sort_by_key(|set| set.len());
    let smallest = present.first().map_or_else(Iter::default, |set| set.iter());
    smallest.filter(move |member| present[1..].iter().all(|set| set.contains(member)))
}

fn intersection<'a>(sets: &Sets<'a>) -> Vec<&'a SmallBytes> {
    common(sets).collect()
}

/// In order of first appearance.
fn union<'a>(sets: &Sets<'a>) -> Vec<&'a SmallBytes> {
    if let [Some(set)] = sets[..] {
        return set.iter().collect();
    }
    let mut seen: DenseMap<&SmallBytes> = DenseMap::default();
    for member in sets.iter().flatten().flat_map(|set| set.iter()) {
        if !seen.contains(member) {
            seen.insert_new(member);
        }
    }
    seen.iter().copied().collect()
}

/// Members of the first set that no other has, in order. Cost: O(the first x the number of sets).
fn difference<'a>(sets: &Sets<'a>) -> Vec<&'a SmallBytes> {
    let Some((Some(first), others)) = sets.split_first() else { return Vec::new() };
    first.iter().filter(|member| !others.iter().flatten().any(|set| set.contains(member))).collect()
}

impl Keyed for &SmallBytes {
    fn key(&self) -> &[u8] {
        self
    }
}
