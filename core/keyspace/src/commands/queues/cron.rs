//! Schedules. When the next tick is, is not found here: see decision 9.

use skep_base::args::OwnedArgs;
use skep_base::{Args, Millis, Refusal};
use skep_resp::Reply;

use super::parse::{self, JobOptions, Words};
use super::{change, change_or_create};
use crate::context::WriteCx;
use crate::keyspace::WantedTick;
use crate::small::SmallBytes;
use crate::types::queue::{Next, SCHEDULES_MAX, Schedule, TEXT_BYTES_MAX};

/// The longest reason why there is no next tick.
const WHY_BYTES_MAX: usize = 256;

/// `QCRON queue (SET ... | DEL name | LIST | NEXT ...)`
pub fn qcron(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    if args.is(2, "set") && args.len() >= 6 {
        set(cx, args, reply)
    } else if args.is(2, "del") && args.len() == 4 {
        let name = &args[3];
        let dropped = change(cx, &args[1], |queue, _| {
            let dropped = queue.drop_schedule(name);
            Ok((dropped, dropped.then_some("qcron")))
        })?;
        reply.int(i64::from(dropped == Some(true)));
        Ok(())
    } else if args.is(2, "next") && args.len() >= 5 {
        next(cx, args, reply)
    } else if args.is(2, "list") && args.len() == 3 {
        list(cx, args, reply)
    } else {
        Err(Refusal::text(
            "ERR QCRON takes SET name expression payload, DEL name, NEXT name instant, or LIST",
        ))
    }
}

/// `QCRON queue SET name expression payload [TZ zone] [PRIO 0-9] [GROUP group] [LEASE ms] [TRIES n] [BACKOFF ms [MAX ms]] [TTL ms]
/// [KEEP ms]`
fn set(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let name = parse::name(&args[3], "the name")?;
    let cron = text(&args[4], "the expression")?;
    let (mut zone, mut options) = (&b""[..], JobOptions::default());
    let mut words = Words::new(args.from(6));
    while !words.is_done() {
        if let Some(value) = words.value("tz") {
            zone = text(value, "TZ")?;
        } else if !options.take(&mut words)? {
            return words.refuse();
        }
    }
    let (priority, now) = (options.priority, cx.now);
    let options = options.shared().unwrap_or_default();
    change_or_create(cx, &args[1], |queue, numbers| {
        if queue.schedules().len() >= SCHEDULES_MAX && !queue.schedules().contains(name) {
            let text = format!("ERR the queue has {SCHEDULES_MAX} schedules, which is the limit");
            return Err(Refusal::format(text));
        }
        let before = queue.schedules().get(name);
        // The same again leaves its ticks alone: those that are overdue still come, and what NEXT has put off stays so.
        let goes_on = before.filter(|before| {
            let is_same = before.cron.as_slice() == cron && before.zone.as_slice() == zone;
            is_same && !matches!(before.next, Next::Never(_))
        });
        let schedule = Schedule {
            name: SmallBytes::new(name),
            cron: SmallBytes::new(cron),
            zone: SmallBytes::new(zone),
            payload: args[5].into(),
            priority,
            options: options.clone(),
            set: goes_on.map_or(now, |before| before.set),
            // A tick that has been does not come again.
            last: before.map_or(Millis(0), |before| before.last),
            next: goes_on.map_or(Next::Wanted, |before| before.next.clone()),
            version: numbers.next(now),
        };
        queue.set_schedule(schedule);
        Ok(((), Some("qcron")))
    })?;
    reply.ok();
    Ok(())
}

fn text<'a>(arg: &'a [u8], what: &str) -> Result<&'a [u8], Refusal> {
    if (1..=TEXT_BYTES_MAX).contains(&arg.len()) {
        return Ok(arg);
    }
    let text = format!("ERR {what} is {} bytes, 1 to {TEXT_BYTES_MAX} are allowed", arg.len());
    Err(Refusal::format(text))
}

/// `QCRON queue NEXT name (unix-ms | NEVER) [WHY text] [VERSION version]`: 1, or 0 if there is no such schedule or version, or
/// the instant is not behind its last tick. This is how the leader says what it found; a client may bring a tick forward or
/// put it off by it.
fn next(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let name = &args[3];
    let (mut why, mut version) = (&b""[..], None);
    let mut words = Words::new(args.from(5));
    while !words.is_done() {
        if let Some(value) = words.value("why") {
            why = &value[..value.len().min(WHY_BYTES_MAX)];
        } else if let Some(value) = words.value("version") {
            version = Some(parse::token(value)?);
        } else {
            return words.refuse();
        }
    }
    let next = match args.is(4, "never") {
        true => Next::Never(SmallBytes::new(why)),
        false => Next::At(Millis(parse::span(&args[4], 1, "the instant")?)),
    };
    let now = cx.now;
    let accepted = change(cx, &args[1], |queue, numbers| {
        let new_version = numbers.next(now);
        let accepted = queue.set_next(name, version, next, new_version);
        Ok((accepted, accepted.then_some("qcron")))
    })?;
    reply.int(i64::from(accepted == Some(true)));
    Ok(())
}

fn list(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let known = change(cx, &args[1], |queue, _| {
        reply.array(queue.schedules().len());
        for schedule in queue.schedules().iter() {
            let (next, why) = match &schedule.next {
                Next::Wanted => (None, None),
                Next::At(at) => (Some(at.0 as i64), None),
                Next::Never(why) => (None, Some(why.as_slice())),
            };
            reply.map(8);
            let texts = [("name", &schedule.name), ("cron", &schedule.cron), ("tz", &schedule.zone)];
            for (name, text) in texts {
                reply.bulk(name.as_bytes());
                reply.bulk(text);
            }
            reply.bulk(b"payload");
            reply.bulk(&schedule.payload);
            let last = (schedule.last > Millis(0)).then_some(schedule.last.0 as i64);
            for (name, instant) in [("next-ms", next), ("last-ms", last)] {
                reply.bulk(name.as_bytes());
                match instant {
                    Some(instant) => reply.int(instant),
                    None => reply.null(),
                }
            }
            reply.bulk(b"error");
            reply.bulk_or_null(why);
            reply.bulk(b"version");
            reply.int(schedule.version as i64);
        }
        Ok(((), None))
    })?;
    if known.is_none() {
        reply.array(0);
    }
    Ok(())
}

/// The command by which a leader says when the next tick of a schedule is, or why there is none.
pub fn next_tick_call(wanted: &WantedTick, found: Result<Millis, &str>) -> OwnedArgs {
    let (schedule, key) = (&wanted.schedule, &wanted.key);
    let mut call = OwnedArgs::collect([&b"QCRON"[..], key, b"NEXT", &schedule.name]);
    match found {
        Ok(at) => call.push(at.0.to_string().as_bytes()),
        Err(why) => {
            call.push(b"NEVER");
            call.push(b"WHY");
            call.push(why.as_bytes());
        }
    }
    call.push(b"VERSION");
    call.push(schedule.version.to_string().as_bytes());
    call
}
