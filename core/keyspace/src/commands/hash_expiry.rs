//! Deadlines of hash fields: HEXPIRE, HTTL, HPERSIST and their kin.

use skep_base::{Args, Millis, Refusal};
use skep_resp::Reply;

use super::expire::{Time, invalid_time};
use super::{Group, parse};
use crate::context::{ReadCx, WriteCx};
use crate::db::NEVER;
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;
use crate::types::Hash;

pub const COMMANDS: Group = &[
    ("hexpire", Write(|cx, args, reply| hexpire(cx, args, reply, "hexpire", Time::relative(1_000)))),
    ("hpexpire", Write(|cx, args, reply| hexpire(cx, args, reply, "hpexpire", Time::relative(1)))),
    ("hexpireat", Write(|cx, args, reply| hexpire(cx, args, reply, "hexpireat", Time::absolute(1_000)))),
    ("hpexpireat", Write(|cx, args, reply| hexpire(cx, args, reply, "hpexpireat", Time::absolute(1)))),
    ("httl", Read(|cx, args, reply| time_left(cx, args, reply, Time::relative(1_000)))),
    ("hpttl", Read(|cx, args, reply| time_left(cx, args, reply, Time::relative(1)))),
    ("hexpiretime", Read(|cx, args, reply| time_left(cx, args, reply, Time::absolute(1_000)))),
    ("hpexpiretime", Read(|cx, args, reply| time_left(cx, args, reply, Time::absolute(1)))),
    ("hpersist", Write(hpersist)),
];

/// The latest deadline of a field, in milliseconds since the epoch: 46 bits, as in Redis.
const DEADLINE_MAX: i64 = (1 << 46) - 1;

/// Replies for one field.
const NO_FIELD: i64 = -2;
const NO_DEADLINE: i64 = -1;
const NOT_MET: i64 = 0;
const SET: i64 = 1;
const DELETED: i64 = 2;

/// When a deadline may be set.
#[derive(Clone, Copy)]
enum Condition {
    Always,
    Nx,
    Xx,
    Gt,
    Lt,
}

impl Condition {
    /// Reads the condition at the front of `args`, if there is one.
    fn parse(args: Args) -> Option<Condition> {
        let words =
            [("nx", Condition::Nx), ("xx", Condition::Xx), ("gt", Condition::Gt), ("lt", Condition::Lt)];
        words.into_iter().find(|(word, _)| args.is(0, word)).map(|(_, condition)| condition)
    }

    /// True if a deadline may move from `current` to `deadline`. A field without one lives for ever.
    fn admits(self, current: Millis, deadline: Millis) -> bool {
        match self {
            Condition::Always => true,
            Condition::Nx => current == NEVER,
            Condition::Xx => current != NEVER,
            Condition::Gt => current != NEVER && deadline > current,
            Condition::Lt => deadline < current,
        }
    }
}

/// Reads `FIELDS count field …`, which is all of `args`; `count_refusal` is for a count that is none.
fn fields<'a>(args: Args<'a>, count_refusal: &'static str) -> Result<Args<'a>, Refusal> {
    if !args.is(0, "fields") {
        return Err(Refusal::text("ERR Mandatory argument FIELDS is missing or not at the right position"));
    }
    let count = parse::int_within(args.get(1).unwrap_or_default(), 1, i64::MAX, count_refusal)?;
    if count as u64 != args.from(2).len() as u64 {
        return Err(Refusal::text("ERR The `numfields` parameter must match the number of arguments"));
    }
    Ok(args.from(2))
}

const COUNT_REFUSAL: &str = "ERR Number of fields must be a positive integer";

/// Reads the time `arg` of the command `name`.
fn deadline(arg: &[u8], name: &str, time: Time, now: Millis) -> Result<Millis, Refusal> {
    let amount = parse::int(arg)?;
    if amount < 0 {
        return Err(Refusal::text("ERR invalid expire time, must be >= 0"));
    }
    let instant = amount.checked_mul(time.unit).and_then(|ms| ms.checked_add(time.base(now)));
    match instant.filter(|i| *i <= DEADLINE_MAX) {
        Some(instant) => Ok(Millis(instant as u64)),
        None => Err(invalid_time(name)),
    }
}

/// `HEXPIRE key time [NX | XX | GT | LT] FIELDS count field [field …]`
fn hexpire(cx: &mut WriteCx, args: Args, reply: &mut Reply, name: &str, time: Time) -> Result<(), Refusal> {
    cx.read::<Hash>(&args[1])?; // its type is refused before the arguments are
    let deadline = deadline(&args[2], name, time, cx.now)?;
    let (condition, rest) = match Condition::parse(args.from(3)) {
        Some(condition) => (condition, args.from(4)),
        None => (Condition::Always, args.from(3)),
    };
    let fields = fields(rest, "ERR Parameter `numFields` should be greater than 0")?;
    let now = cx.now;
    let event = if deadline <= now { "hdel" } else { "hexpire" };
    write_for_each(cx, &args[1], fields, reply, event, |hash, field, current| {
        if !condition.admits(current, deadline) {
            NOT_MET
        } else if deadline <= now {
            hash.remove(field);
            DELETED
        } else {
            hash.set_deadline(field, deadline);
            SET
        }
    })
}

/// `HPERSIST key FIELDS count field [field …]`
fn hpersist(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    cx.read::<Hash>(&args[1])?;
    let fields = fields(args.from(2), COUNT_REFUSAL)?;
    write_for_each(cx, &args[1], fields, reply, "hpersist", |hash, field, current| {
        if current == NEVER {
            return NO_DEADLINE;
        }
        hash.set_deadline(field, NEVER);
        SET
    })
}

/// Calls `change` with each of `fields` that is there and its deadline, and replies with what it gives.
fn write_for_each(
    cx: &mut WriteCx,
    key: &[u8],
    fields: Args,
    reply: &mut Reply,
    event: &'static str,
    change: impl Fn(&mut Hash, &[u8], Millis) -> i64,
) -> Result<(), Refusal> {
    let now = cx.now;
    reply.array(fields.len());
    let known = cx.update(key, |hash: &mut Hash| {
        let mut changed = false;
        for field in fields.iter() {
            let outcome = hash.deadline(field, now).map_or(NO_FIELD, |current| change(hash, field, current));
            changed |= matches!(outcome, SET | DELETED);
            reply.int(outcome);
        }
        Ok(changed)
    })?;
    match known {
        Some(changed) => cx.event_then_del_if(changed, Class::Hash, event, key),
        None => fields.iter().for_each(|_| reply.int(NO_FIELD)),
    }
    Ok(())
}

/// `HTTL key FIELDS count field [field …]`
fn time_left(cx: &mut ReadCx, args: Args, reply: &mut Reply, time: Time) -> Result<(), Refusal> {
    let hash = cx.read::<Hash>(&args[1])?;
    let fields = fields(args.from(2), COUNT_REFUSAL)?;
    reply.array(fields.len());
    for field in fields.iter() {
        reply.int(match hash.and_then(|h| h.deadline(field, cx.now)) {
            None => NO_FIELD,
            Some(NEVER) => NO_DEADLINE,
            // Seconds are rounded up, unlike those of keys.
            Some(deadline) => (deadline.0 as i64 - time.base(cx.now) + time.unit - 1) / time.unit,
        });
    }
    Ok(())
}
