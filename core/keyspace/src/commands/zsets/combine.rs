//! Unions, intersections and differences of sorted sets and sets.

use skep_base::{Args, Refusal, number};
use skep_resp::Reply;

use super::{integer, write_members};
use crate::context::{ReadCx, WriteCx};
use crate::dense::DenseMap;
use crate::events::Class;
use crate::types::{Member, Set, ZSet};
use crate::value::Value;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Union,
    Inter,
    Diff,
}

/// What becomes of the scores of a member that is in several inputs.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            // Infinities of both signs, or zero times infinity: Redis settles on zero.
            Aggregate::Sum if (a + b).is_nan() => 0.0,
            Aggregate::Sum => a + b,
            Aggregate::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Aggregate::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

/// One input. The members of a set have score 1.
#[derive(Clone, Copy)]
enum Source<'a> {
    Missing,
    Set(&'a Set),
    ZSet(&'a ZSet),
}

#[derive(Clone, Copy)]
struct Input<'a> {
    source: Source<'a>,
    weight: f64,
}

impl Input<'_> {
    fn len(&self) -> usize {
        match self.source {
            Source::Missing => 0,
            Source::Set(set) => set.members().len(),
            Source::ZSet(zset) => zset.len(),
        }
    }

    /// The score of `name` times the weight, which may be NaN: [`Aggregate::of`] settles that.
    fn score(&self, name: &[u8]) -> Option<f64> {
        match self.source {
            Source::Missing => None,
            Source::Set(set) => set.members().contains(name).then_some(self.weight),
            Source::ZSet(zset) => zset.score(name).map(|score| score * self.weight),
        }
    }

    /// Zero times infinity is zero here.
    fn weighted(&self, score: f64) -> f64 {
        let product = score * self.weight;
        if product.is_nan() { 0.0 } else { product }
    }

    /// Calls `visit` with every name and weighted score, in dense order, until it gives false.
    fn each(&self, mut visit: impl FnMut(&crate::SmallBytes, f64) -> bool) {
        match self.source {
            Source::Missing => {}
            Source::Set(set) => {
                let _ = set.members().iter().all(|name| visit(name, self.weighted(1.0)));
            }
            Source::ZSet(zset) => {
                let _ = zset.members().iter().all(|m| visit(&m.name, self.weighted(m.score)));
            }
        }
    }
}

/// A parsed command with its inputs looked up.
struct Query<'a> {
    op: Op,
    inputs: Vec<Input<'a>>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Of `ZINTERCARD`; 0 for none.
    limit: usize,
}

/// Which options a command takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Reply,
    Store,
    Count,
}

impl<'a> Query<'a> {
    /// Parses `args` from the number of keys on. `name` is the command's, for errors.
    fn parse(cx: &ReadCx<'a>, args: Args, name: &str, op: Op, form: Form) -> Result<Query<'a>, Refusal> {
        let keys = integer(&args[0])?;
        if keys < 1 {
            return Err(Refusal::format(format!("ERR at least 1 input key is needed for '{name}' command")));
        }
        if keys as u64 > args.len() as u64 - 1 {
            return Err(Refusal::Syntax);
        }
        let keys = keys as usize;
        let mut inputs = Vec::with_capacity(keys);
        for key in args.from(1).iter().take(keys) {
            let source = match cx.entry(key).map(|e| &e.value) {
                None => Source::Missing,
                Some(Value::ZSet(zset)) => Source::ZSet(zset),
                Some(Value::Set(set)) => Source::Set(set),
                Some(_) => return Err(Refusal::WrongType),
            };
            inputs.push(Input { source, weight: 1.0 });
        }
        let mut query = Query { op, inputs, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        query.parse_options(args.from(1 + keys), form)?;
        Ok(query)
    }

    fn parse_options(&mut self, args: Args, form: Form) -> Result<(), Refusal> {
        let scored = self.op != Op::Diff && form != Form::Count;
        let mut at = 0;
        while at < args.len() {
            let left = args.len() - at;
            if scored && left > self.inputs.len() && args.is(at, "weights") {
                for (input, weight) in self.inputs.iter_mut().zip(args.from(at + 1).iter()) {
                    let parsed = number::parse_f64(weight);
                    input.weight = parsed.ok_or(Refusal::text("ERR weight value is not a float"))?;
                }
                at += 1 + self.inputs.len();
            } else if scored && left >= 2 && args.is(at, "aggregate") {
                self.aggregate = match args.get(at + 1) {
                    Some(a) if a.eq_ignore_ascii_case(b"sum") => Aggregate::Sum,
                    Some(a) if a.eq_ignore_ascii_case(b"min") => Aggregate::Min,
                    Some(a) if a.eq_ignore_ascii_case(b"max") => Aggregate::Max,
                    _ => return Err(Refusal::Syntax),
                };
                at += 2;
            } else if form == Form::Reply && args.is(at, "withscores") {
                self.with_scores = true;
                at += 1;
            } else if form == Form::Count && left >= 2 && args.is(at, "limit") {
                let limit = number::parse_i64(&args[at + 1]).and_then(|n| usize::try_from(n).ok());
                self.limit = limit.ok_or(Refusal::text("ERR LIMIT can't be negative"))?;
                at += 2;
            } else {
                return Err(Refusal::Syntax);
            }
        }
        Ok(())
    }

    /// Cost: O(members of all inputs), for intersections of the smallest input times the number of inputs.
    fn result(mut self) -> ZSet {
        if self.op != Op::Diff {
            // Sums depend on the order of the terms: Redis begins with the smallest input.
            self.inputs.sort_by_key(Input::len);
        }
        let mut found: DenseMap<Member> = DenseMap::default();
        match self.op {
            Op::Union => {
                for input in &self.inputs {
                    input.each(|name, score| {
                        match found.get_mut(name) {
                            Some(member) => member.score = self.aggregate.of(member.score, score),
                            None => {
                                found.insert_new(Member { name: name.clone(), score });
                            }
                        }
                        true
                    });
                }
            }
            Op::Inter => self.intersect(|name, score| {
                found.insert_new(Member { name: name.clone(), score });
                true
            }),
            Op::Diff => {
                let (first, others) = self.inputs.split_first().expect("one key at least");
                first.each(|name, score| {
                    if others.iter().all(|other| other.score(name).is_none()) {
                        found.insert_new(Member { name: name.clone(), score });
                    }
                    true
                });
            }
        }
        ZSet::from_members(found)
    }

    /// Calls `visit` with each member of all inputs, which are sorted by size, until it gives false.
    fn intersect(&self, mut visit: impl FnMut(&crate::SmallBytes, f64) -> bool) {
        let (first, others) = self.inputs.split_first().expect("one key at least");
        first.each(|name, mut score| {
            for other in others {
                match other.score(name) {
                    Some(more) => score = self.aggregate.of(score, more),
                    None => return true,
                }
            }
            visit(name, score)
        });
    }
}

pub fn zunion(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    combine(cx, args, "zunion", Op::Union, reply)
}

pub fn zinter(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    combine(cx, args, "zinter", Op::Inter, reply)
}

pub fn zdiff(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    combine(cx, args, "zdiff", Op::Diff, reply)
}

pub fn zunionstore(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    store(cx, args, "zunionstore", Op::Union, reply)
}

pub fn zinterstore(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    store(cx, args, "zinterstore", Op::Inter, reply)
}

pub fn zdiffstore(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    store(cx, args, "zdiffstore", Op::Diff, reply)
}

pub fn zintercard(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let mut query = Query::parse(cx, args.from(1), "zintercard", Op::Inter, Form::Count)?;
    query.inputs.sort_by_key(Input::len);
    let mut count = 0;
    query.intersect(|_, _| {
        count += 1;
        count != query.limit
    });
    reply.len(count);
    Ok(())
}

fn combine(cx: &mut ReadCx, args: Args, name: &str, op: Op, reply: &mut Reply) -> Result<(), Refusal> {
    let query = Query::parse(cx, args.from(1), name, op, Form::Reply)?;
    let with_scores = query.with_scores;
    let zset = query.result();
    write_members(reply, zset.len(), zset.range(0..zset.len(), false), with_scores);
    Ok(())
}

fn store(cx: &mut WriteCx, args: Args, name: &'static str, op: Op, reply: &mut Reply) -> Result<(), Refusal> {
    let zset = Query::parse(&cx.as_read(), args.from(2), name, op, Form::Store)?.result().canonical();
    reply.len(zset.len());
    cx.store(&args[1], zset, Class::SortedSet, name);
    Ok(())
}
