//! `XCLAIM` and `XAUTOCLAIM`: entries that wait for their acknowledgement go to another consumer.

use skep_base::{Args, Millis, Refusal};
use skep_resp::Reply;

use super::super::parse;
use super::groups::{CONSUMER_CREATED, no_key_or_group, shown, spare_watchers};
use super::ids;
use super::range::reply_entry;
use crate::context::WriteCx;
use crate::events::Class;
use crate::types::stream::Delivery;
use crate::types::{Stream, StreamId};

/// An integer argument, or the refusal `message`.
fn int(arg: &[u8], message: &'static str) -> Result<i64, Refusal> {
    parse::int(arg).map_err(|_| Refusal::text(message))
}

/// The group that the call names is there.
fn check_group(cx: &WriteCx, args: Args) -> Result<(), Refusal> {
    let group = cx.read_value::<Stream>(&args[1])?.and_then(|stream| stream.group(&args[2]));
    group.map(|_| ()).ok_or_else(|| no_key_or_group(&args[1], &args[2]))
}

/// True if an entry delivered at `time` has waited long enough.
fn is_idle(time: Millis, idle_ms_min: i64, now: Millis) -> bool {
    idle_ms_min == 0 || now.0.wrapping_sub(time.0) as i64 >= idle_ms_min
}

/// What stands behind the ids of `XCLAIM`.
struct Options {
    delivered: Millis,
    count: Option<u64>,
    forces: bool,
    only_ids: bool,
    last_id: StreamId,
}

impl Options {
    fn parse(args: Args, from: usize, now: Millis) -> Result<Options, Refusal> {
        let mut given =
            Options { delivered: now, count: None, forces: false, only_ids: false, last_id: StreamId::ZERO };
        // A time ahead is taken for the present: the caller's clock may be a little off.
        let checked = |time: i64| u64::try_from(time).ok().map(Millis).filter(|t| *t <= now).unwrap_or(now);
        let mut at = from;
        while at < args.len() {
            let value = args.get(at + 1);
            match value {
                _ if args.is(at, "force") => given.forces = true,
                _ if args.is(at, "justid") => given.only_ids = true,
                Some(value) if args.is(at, "idle") => {
                    let idle = int(value, "ERR Invalid IDLE option argument for XCLAIM")?;
                    given.delivered = checked((now.0 as i64).wrapping_sub(idle));
                    at += 1;
                }
                Some(value) if args.is(at, "time") => {
                    given.delivered = checked(int(value, "ERR Invalid TIME option argument for XCLAIM")?);
                    at += 1;
                }
                Some(value) if args.is(at, "retrycount") => {
                    let count = int(value, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
                    given.count = u64::try_from(count).ok();
                    at += 1;
                }
                Some(value) if args.is(at, "lastid") => {
                    given.last_id = ids::strict(value, 0)?;
                    at += 1;
                }
                _ => {
                    return Err(Refusal::format(format!(
                        "ERR Unrecognized XCLAIM option '{}'",
                        shown(&args[at])
                    )));
                }
            }
            at += 1;
        }
        Ok(given)
    }
}

/// `XCLAIM key group consumer min-idle-time id [id …] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count] [FORCE]
/// [JUSTID] [LASTID id]`
pub fn xclaim(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    check_group(cx, args)?;
    let idle_ms_min = int(&args[4], "ERR Invalid min-idle-time argument for XCLAIM")?.max(0);
    let wanted: Vec<StreamId> = args.from(5).iter().map_while(|arg| ids::strict(arg, 0).ok()).collect();
    let now = cx.now;
    let options = Options::parse(args, 5 + wanted.len(), now)?;
    let claimed = cx.update(&args[1], |stream: &mut Stream| {
        Ok(claim(stream, args, &wanted, idle_ms_min, &options, now))
    })?;
    let (comes, claimed) = claimed.expect("its group was found above");
    spare_watchers(cx, &args[1]);
    if comes {
        cx.event(Class::Stream, CONSUMER_CREATED, &args[1]);
    }
    let stream = cx.read::<Stream>(&args[1])?.expect("its group was found above");
    reply_claimed(reply, stream, &claimed, options.only_ids);
    Ok(())
}

/// Tells also whether the consumer is new.
fn claim(
    stream: &mut Stream,
    args: Args,
    wanted: &[StreamId],
    idle_ms_min: i64,
    options: &Options,
    now: Millis,
) -> (bool, Vec<StreamId>) {
    let (group_name, consumer) = (&args[2], &args[3]);
    let group = stream.group_mut(group_name).expect("the caller has found it");
    group.last_id = group.last_id.max(options.last_id);
    let comes = group.see(consumer, now);
    let mut claimed = Vec::new();
    for id in wanted {
        let exists = stream.get(*id).is_some();
        let group = stream.group_mut(group_name).expect("found above");
        let known = group.delivery(*id).map(|(_, delivery)| delivery);
        if !exists {
            group.acknowledge(*id);
            continue;
        }
        let before = match known {
            Some(known) if !is_idle(known.time, idle_ms_min, now) => continue,
            Some(known) => known.count,
            // As if it had been delivered just so.
            None if options.forces => 1,
            None => continue,
        };
        let again = if options.only_ids { before } else { before.wrapping_add(1) };
        let count = options.count.unwrap_or(again);
        group.assign(*id, consumer, Delivery { time: options.delivered, count });
        group.activate(consumer, now);
        claimed.push(*id);
    }
    (comes, claimed)
}

/// Replies with the entries, or their ids only.
fn reply_claimed(reply: &mut Reply, stream: &Stream, claimed: &[StreamId], only_ids: bool) {
    reply.array(claimed.len());
    for id in claimed {
        if only_ids {
            ids::reply_id(reply, *id);
        } else {
            reply_entry(reply, stream.get(*id).expect("only entries are claimed"));
        }
    }
}

/// Entries looked at by one `XAUTOCLAIM`, for each that it may claim.
const ATTEMPTS_EACH: usize = 10;
/// The highest COUNT, as in Redis: what fits into memory as ids.
const COUNT_MAX: i64 = i64::MAX / 16;

/// `XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]`
pub fn xautoclaim(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let idle_ms_min = int(&args[4], "ERR Invalid min-idle-time argument for XAUTOCLAIM")?.max(0);
    let start = ids::interval_start(&args[5])?;
    let (mut count, mut only_ids) = (100, false);
    let mut at = 6;
    while at < args.len() {
        if args.is(at, "count") && at + 1 < args.len() {
            count = parse::int_within(&args[at + 1], 1, COUNT_MAX, "ERR COUNT must be > 0")? as usize;
            at += 1;
        } else if args.is(at, "justid") {
            only_ids = true;
        } else {
            return Err(Refusal::Syntax);
        }
        at += 1;
    }
    check_group(cx, args)?;
    let now = cx.now;
    let found = cx.update(&args[1], |stream: &mut Stream| {
        Ok(autoclaim(stream, args, start, count, idle_ms_min, only_ids, now))
    })?;
    let Found { comes, next, claimed, deleted } = found.expect("its group was found above");
    spare_watchers(cx, &args[1]);
    if comes {
        cx.event(Class::Stream, CONSUMER_CREATED, &args[1]);
    }
    let stream = cx.read::<Stream>(&args[1])?.expect("its group was found above");
    reply.array(3);
    ids::reply_id(reply, next);
    reply_claimed(reply, stream, &claimed, only_ids);
    reply.array(deleted.len());
    deleted.iter().for_each(|id| ids::reply_id(reply, *id));
    Ok(())
}

/// What an `XAUTOCLAIM` came upon.
struct Found {
    /// The consumer is new.
    comes: bool,
    /// Where the next call goes on; `0-0` at the end.
    next: StreamId,
    claimed: Vec<StreamId>,
    /// Entries that are no more, and do not wait any longer.
    deleted: Vec<StreamId>,
}

fn autoclaim(
    stream: &mut Stream,
    args: Args,
    start: StreamId,
    count: usize,
    idle_ms_min: i64,
    only_ids: bool,
    now: Millis,
) -> Found {
    let (group_name, consumer) = (&args[2], &args[3]);
    let comes = stream.group_mut(group_name).expect("the caller has found it").see(consumer, now);
    let mut found = Found { comes, next: StreamId::ZERO, claimed: Vec::new(), deleted: Vec::new() };
    let group = stream.group(group_name).expect("found above");
    let mut counts = Vec::new();
    let mut attempts = count.saturating_mul(ATTEMPTS_EACH);
    for (id, _, delivery) in group.pending_from(start) {
        if attempts == 0 || found.claimed.len() + found.deleted.len() == count {
            found.next = id;
            break;
        }
        attempts -= 1;
        if stream.get(id).is_none() {
            found.deleted.push(id);
        } else if is_idle(delivery.time, idle_ms_min, now) {
            found.claimed.push(id);
            counts.push(if only_ids { delivery.count } else { delivery.count.wrapping_add(1) });
        }
    }
    let group = stream.group_mut(group_name).expect("found above");
    for id in &found.deleted {
        group.acknowledge(*id);
    }
    for (id, count) in found.claimed.iter().zip(counts) {
        group.assign(*id, consumer, Delivery { time: now, count });
    }
    if !found.claimed.is_empty() {
        group.activate(consumer, now);
    }
    found
}
