//! Looking inside: one job, lists of jobs, the whole.

use skep_base::{Args, Millis, Refusal};
use skep_resp::Reply;

use super::parse::{self, Words};
use crate::commands::parse::wait_ms;
use crate::context::ReadCx;
use crate::db::NEVER;
use crate::types::Queue;
use crate::types::queue::{Count, Cursor, Job, State};
use crate::waits::would_wait_with_reply;

/// The most jobs that one QLIST shows, and how many without COUNT.
const LIST_MAX: u64 = 1_000;
const LIST_DEFAULT: usize = 10;

/// Workers that QINFO names.
const WORKERS_MAX: usize = 1_000;

/// `QGET queue id [BLOCK ms]`. Who has waited in vain, or cannot wait, gets the job as it is: nil says that there is none.
pub fn qget(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let mut words = Words::new(args.from(3));
    let block = words.value("block").map(wait_ms).transpose()?;
    if !words.is_done() {
        return words.refuse();
    }
    let queue = cx.read_waited::<Queue>(&args[1])?;
    match queue.and_then(|queue| queue.job(&args[2])) {
        None => reply.null(),
        Some(job) => {
            put_job(job, reply);
            if block.is_some() && !matches!(job.state, State::Dead | State::Done) {
                return Err(would_wait_with_reply());
            }
        }
    }
    Ok(())
}

/// `QLIST queue READY|DELAYED|LEASED|DEAD|DONE [CURSOR cursor] [COUNT n]`
pub fn qlist(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let state = State::parse(&args[2]).ok_or(Refusal::Syntax)?;
    let (mut cursor, mut count) = (None, LIST_DEFAULT);
    let mut words = Words::new(args.from(3));
    while !words.is_done() {
        if let Some(value) = words.value("cursor") {
            cursor = match value {
                b"0" => None,
                text => Some(Cursor::parse(text).ok_or(Refusal::text("ERR invalid cursor"))?),
            };
        } else if let Some(value) = words.value("count") {
            count = parse::whole(value, 1, LIST_MAX, "COUNT")? as usize;
        } else {
            return words.refuse();
        }
    }
    let queue = cx.read::<Queue>(&args[1])?;
    let mut rows = queue.into_iter().flat_map(|queue| queue.list(state, cursor.as_ref()));
    let shown: Vec<(Cursor, &Job)> = rows.by_ref().take(count).collect();
    let next = match (rows.next(), shown.last()) {
        (Some(_), Some((cursor, _))) => cursor.text(),
        _ => b"0".to_vec(),
    };
    reply.array(2);
    reply.bulk(&next);
    reply.array(shown.len());
    shown.into_iter().for_each(|(_, job)| put_job(job, reply));
    Ok(())
}

fn put_job(job: &Job, reply: &mut Reply) {
    let run = job.run.as_ref();
    let instant = |at: Option<Millis>| at.filter(|at| *at != NEVER && *at > Millis(0)).map(|at| at.0 as i64);
    reply.map(13);
    put(reply, "id", |reply| reply.bulk(&job.id));
    put(reply, "state", |reply| reply.bulk(job.state.name().as_bytes()));
    put(reply, "attempt", |reply| reply.int(i64::from(job.attempt)));
    put(reply, "payload", |reply| reply.bulk(&job.payload));
    put(reply, "priority", |reply| reply.int(i64::from(job.priority)));
    put(reply, "group", |reply| reply.bulk_or_null(job.group().map(|g| g.as_slice())));
    put(reply, "added-ms", |reply| reply.int(job.added.0 as i64));
    put(reply, "deadline-ms", |reply| int_or_null(reply, instant(Some(job.deadline))));
    let worker = run.map(|run| run.worker.as_slice()).filter(|worker| !worker.is_empty());
    put(reply, "worker", |reply| reply.bulk_or_null(worker));
    put(reply, "taken-ms", |reply| int_or_null(reply, instant(run.map(|run| run.taken))));
    put(reply, "ended-ms", |reply| int_or_null(reply, instant(run.map(|run| run.ended))));
    put(reply, "result", |reply| reply.bulk_or_null(run.and_then(|run| run.result.as_deref())));
    put(reply, "errors", |reply| {
        let failures = run.map_or(&[][..], |run| &run.failures);
        reply.array(failures.len());
        for failure in failures {
            reply.array(3);
            reply.int(failure.at.0 as i64);
            reply.int(i64::from(failure.attempt));
            reply.bulk(&failure.text);
        }
    });
}

fn put(reply: &mut Reply, name: &str, value: impl FnOnce(&mut Reply)) {
    reply.bulk(name.as_bytes());
    value(reply);
}

fn int_or_null(reply: &mut Reply, value: Option<i64>) {
    match value {
        Some(value) => reply.int(value),
        None => reply.null(),
    }
}

/// `QINFO queue`. A key that is not there is a queue without jobs.
pub fn qinfo(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let none = Queue::default();
    let queue = cx.read::<Queue>(&args[1])?.unwrap_or(&none);
    let (settings, totals, now) = (queue.settings(), queue.totals(), cx.now);
    let oldest = queue.oldest_ready().map(|added| now.since(added) as i64);
    let states = State::ALL.map(|state| (state.name(), queue.count(state) as u64));
    let sums = [
        ("added", Count::Added),
        ("acknowledged", Count::Done),
        ("failed", Count::Failed),
        ("lapsed", Count::Lapsed),
        ("died", Count::Died),
        ("expired", Count::Expired),
    ]
    .map(|(name, what)| (name, totals.sum(what)));
    let minutes = [
        ("in-per-minute", totals.last_minute(Count::Added, now)),
        ("out-per-minute", totals.last_minute(Count::Done, now)),
        ("fail-per-minute", totals.last_minute(Count::Failed, now) + totals.last_minute(Count::Lapsed, now)),
    ];
    let rate = settings.rate.map_or((0, 0), |rate| (rate.count, rate.per_ms));
    let set = [
        ("groups", queue.groups() as u64),
        ("schedules", queue.schedules().len() as u64),
        ("lease-ms", settings.lease_ms),
        ("tries", u64::from(settings.tries)),
        ("backoff-ms", settings.backoff.first_ms),
        ("backoff-max-ms", settings.backoff.max_ms),
        ("rate", rate.0),
        ("rate-per-ms", rate.1),
        ("limit", settings.limit),
        ("group-limit", settings.group_limit),
        ("dead-keep-ms", settings.dead_keep_ms),
        ("max-len", settings.max_len),
        ("paused", u64::from(settings.paused)),
    ];
    let numbers = states.iter().chain(&sums).chain(&minutes).chain(&set);
    reply.map(numbers.clone().count() + 3);
    for (name, value) in numbers {
        put(reply, name, |reply| reply.int(*value as i64));
    }
    put(reply, "keep-ms", |reply| int_or_null(reply, settings.keep_ms.map(|ms| ms as i64)));
    put(reply, "oldest-ms", |reply| int_or_null(reply, oldest));
    put(reply, "workers", |reply| {
        let workers = queue.workers();
        reply.map(workers.len().min(WORKERS_MAX));
        for (name, leases) in workers.take(WORKERS_MAX) {
            reply.bulk(name);
            reply.len(leases);
        }
    });
    Ok(())
}
