//! Deadlines of keys.

use skep_base::{Args, Millis, Refusal};
use skep_resp::Reply;

use super::{Group, parse};
use crate::context::{ReadCx, WriteCx};
use crate::db::NEVER;
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;

pub const COMMANDS: Group = &[
    ("expire", Write(|cx, args, reply| expire(cx, args, reply, "expire", Time::relative(1_000)))),
    ("pexpire", Write(|cx, args, reply| expire(cx, args, reply, "pexpire", Time::relative(1)))),
    ("expireat", Write(|cx, args, reply| expire(cx, args, reply, "expireat", Time::absolute(1_000)))),
    ("pexpireat", Write(|cx, args, reply| expire(cx, args, reply, "pexpireat", Time::absolute(1)))),
    ("ttl", Read(|cx, args, reply| time_left(cx, args, reply, Time::relative(1_000)))),
    ("pttl", Read(|cx, args, reply| time_left(cx, args, reply, Time::relative(1)))),
    ("expiretime", Read(|cx, args, reply| time_left(cx, args, reply, Time::absolute(1_000)))),
    ("pexpiretime", Read(|cx, args, reply| time_left(cx, args, reply, Time::absolute(1)))),
    ("persist", Write(persist)),
];

/// How a command counts time.
#[derive(Clone, Copy)]
pub(super) struct Time {
    /// Milliseconds of one unit.
    pub unit: i64,
    /// From the command's own time, not from the epoch.
    pub is_relative: bool,
}

impl Time {
    pub const fn relative(unit: i64) -> Time {
        Time { unit, is_relative: true }
    }

    pub const fn absolute(unit: i64) -> Time {
        Time { unit, is_relative: false }
    }

    /// Where this time starts, in milliseconds.
    pub fn base(self, now: Millis) -> i64 {
        if self.is_relative { now.0 as i64 } else { 0 }
    }
}

/// Reads the time `arg` of the command `name` as milliseconds since the epoch, possibly negative.
fn instant(arg: &[u8], name: &str, time: Time, now: Millis) -> Result<i64, Refusal> {
    let amount = parse::int(arg)?;
    let instant = amount.checked_mul(time.unit).and_then(|ms| ms.checked_add(time.base(now)));
    instant.ok_or_else(|| invalid_time(name))
}

pub(super) fn invalid_time(name: &str) -> Refusal {
    Refusal::format(format!("ERR invalid expire time in '{name}' command"))
}

/// `NX`, `XX`, `GT`, `LT` as given.
#[derive(Clone, Copy, Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(args: Args) -> Result<Conditions, Refusal> {
        let mut given = Conditions::default();
        for (at, arg) in args.iter().enumerate() {
            let flag = if args.is(at, "nx") {
                &mut given.nx
            } else if args.is(at, "xx") {
                &mut given.xx
            } else if args.is(at, "gt") {
                &mut given.gt
            } else if args.is(at, "lt") {
                &mut given.lt
            } else {
                let option = String::from_utf8_lossy(arg);
                return Err(Refusal::format(format!("ERR Unsupported option {option}")));
            };
            *flag = true;
        }
        if given.nx && (given.xx || given.gt || given.lt) {
            return Err(Refusal::text("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if given.gt && given.lt {
            return Err(Refusal::text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(given)
    }

    /// True if a deadline may move from `current` to `instant`. Without one a key counts as living for ever.
    fn admit(self, current: Millis, instant: i64) -> bool {
        let current = (current != NEVER).then_some(current.0 as i64);
        !(self.nx && current.is_some()
            || self.xx && current.is_none()
            || self.gt && current.is_none_or(|c| instant <= c)
            || self.lt && current.is_some_and(|c| instant >= c))
    }
}

fn expire(cx: &mut WriteCx, args: Args, reply: &mut Reply, name: &str, time: Time) -> Result<(), Refusal> {
    let key = &args[1];
    let conditions = Conditions::parse(args.from(3))?;
    let instant = instant(&args[2], name, time, cx.now)?;
    let Some(current) = cx.deadline(key) else {
        reply.int(0);
        return Ok(());
    };
    let admitted = conditions.admit(current, instant);
    if admitted {
        match u64::try_from(instant) {
            Ok(deadline) if deadline > cx.now.0 => {
                cx.set_deadline(key, Millis(deadline));
                cx.event(Class::Generic, "expire", key);
            }
            _ => {
                cx.remove(key);
                cx.event(Class::Generic, "del", key);
            }
        }
    }
    reply.int(i64::from(admitted));
    Ok(())
}

fn time_left(cx: &mut ReadCx, args: Args, reply: &mut Reply, time: Time) -> Result<(), Refusal> {
    let Some(entry) = cx.entry_untouched(&args[1]) else {
        reply.int(-2);
        return Ok(());
    };
    if entry.deadline == NEVER {
        reply.int(-1);
        return Ok(());
    }
    let base = if time.is_relative { cx.now } else { Millis(0) };
    let left = entry.deadline.since(base);
    // Seconds are rounded to the nearest.
    reply.int(if time.unit == 1 { left } else { (left + 500) / 1_000 } as i64);
    Ok(())
}

fn persist(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let had_deadline = cx.deadline(&args[1]).is_some_and(|d| d != NEVER);
    if had_deadline {
        cx.set_deadline(&args[1], NEVER);
        cx.event(Class::Generic, "persist", &args[1]);
    }
    reply.int(i64::from(had_deadline));
    Ok(())
}
