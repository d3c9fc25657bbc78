//! `XPENDING`: what a group has delivered and nobody has acknowledged.

use skep_base::{Args, Millis, Refusal};
use skep_resp::Reply;

use super::super::parse;
use super::groups::no_key_or_group;
use super::ids;
use crate::context::ReadCx;
use crate::types::stream::{Delivery, Group};
use crate::types::{Stream, StreamId};

/// Which entries the long form asks for.
struct Wanted<'a> {
    idle_ms_min: i64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Wanted<'a> {
    fn parse(args: Args<'a>) -> Result<Wanted<'a>, Refusal> {
        let mut at = 3;
        let mut idle_ms_min = 0;
        if args.is(at, "idle") {
            idle_ms_min = parse::int(&args[at + 1])?;
            if args.len() < 8 {
                return Err(Refusal::Syntax);
            }
            at += 2;
        }
        let count = usize::try_from(parse::int(&args[at + 2])?).unwrap_or(0);
        let start = ids::interval_start(&args[at])?;
        let end = ids::interval_end(&args[at + 1])?;
        Ok(Wanted { idle_ms_min, start, end, count, consumer: args.get(at + 3) })
    }

    fn is_idle_enough(&self, delivery: &Delivery, now: Millis) -> bool {
        self.idle_ms_min == 0 || now.0.wrapping_sub(delivery.time.0) as i64 >= self.idle_ms_min
    }
}

/// `XPENDING key group [[IDLE min-idle-time] start end count [consumer]]`
pub fn xpending(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let wanted = match args.len() {
        3 => None,
        6..=9 => Some(Wanted::parse(args)?),
        _ => return Err(Refusal::Syntax),
    };
    let group = cx.read::<Stream>(&args[1])?.and_then(|stream| stream.group(&args[2]));
    let group = group.ok_or_else(|| no_key_or_group(&args[1], &args[2]))?;
    match wanted {
        None => summary(group, reply),
        Some(wanted) => details(group, &wanted, cx.now, reply),
    }
    Ok(())
}

/// How many wait, from which id to which, and with whom.
fn summary(group: &Group, reply: &mut Reply) {
    reply.array(4);
    reply.len(group.pending_len());
    let Some((first, last)) = group.pending_bounds() else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    ids::reply_id(reply, first);
    ids::reply_id(reply, last);
    let busy = || group.consumers().filter(|(_, consumer)| consumer.pending_len() > 0);
    reply.array(busy().count());
    for (name, consumer) in busy() {
        reply.array(2);
        reply.bulk(name);
        reply.bulk_int(consumer.pending_len() as i64);
    }
}

fn details(group: &Group, wanted: &Wanted, now: Millis, reply: &mut Reply) {
    let mut found: Vec<(StreamId, &[u8], Delivery)> = Vec::new();
    let mut consider = |id: StreamId, name, delivery: Delivery| {
        if id > wanted.end || found.len() == wanted.count {
            return false;
        }
        if wanted.is_idle_enough(&delivery, now) {
            found.push((id, name, delivery));
        }
        true
    };
    match wanted.consumer {
        None => {
            let mut all = group.pending_from(wanted.start);
            while all.next().is_some_and(|(id, name, delivery)| consider(id, &name[..], delivery)) {}
        }
        Some(name) => {
            if let Some(consumer) = group.consumer(name) {
                let mut all = consumer.pending_from(wanted.start);
                while all.next().is_some_and(|(id, delivery)| consider(id, name, delivery)) {}
            }
        }
    }
    reply.array(found.len());
    for (id, name, delivery) in found {
        reply.array(4);
        ids::reply_id(reply, id);
        reply.bulk(name);
        reply.int(now.0.saturating_sub(delivery.time.0) as i64);
        reply.int(delivery.count as i64);
    }
}
