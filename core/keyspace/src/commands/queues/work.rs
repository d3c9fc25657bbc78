//! What workers do: take, acknowledge, fail, prolong.

use std::sync::Arc;

use skep_base::{Args, Millis, Refusal};
use skep_resp::Reply;

use super::change;
use super::parse::{self, Words};
use crate::commands::parse::wait_ms;
use crate::context::WriteCx;
use crate::small::SmallBytes;
use crate::types::Queue;
use crate::types::queue::{Count, Failed, Fate, LeaseError};
use crate::waits::would_wait;

/// The most jobs that one QTAKE hands out.
const TAKE_MAX: u64 = 1_000;

/// How much of an error's text is kept.
const ERROR_BYTES_MAX: usize = 1_024;

/// A lease as it is answered.
struct Lease<'a> {
    queue: &'a [u8],
    id: SmallBytes,
    token: u64,
    payload: Arc<[u8]>,
    attempt: u32,
    until: Millis,
    group: Option<SmallBytes>,
}

/// `QTAKE numqueues queue... [WORKER name] [COUNT n] [BLOCK ms] [LEASE ms]`
pub struct Take<'a> {
    queues: usize,
    worker: &'a [u8],
    count: usize,
    /// How long to wait if there is nothing, 0 for no end.
    pub block_ms: Option<u64>,
    lease_ms: Option<u64>,
}

impl<'a> Take<'a> {
    pub fn parse(args: Args<'a>) -> Result<Take<'a>, Refusal> {
        let queues = parse::whole(&args[1], 1, (args.len() - 2) as u64, "numqueues")? as usize;
        let mut take = Take { queues, worker: b"", count: 1, block_ms: None, lease_ms: None };
        let mut words = Words::new(args.from(2 + queues));
        while !words.is_done() {
            if let Some(value) = words.value("worker") {
                take.worker = parse::name(value, "WORKER")?;
            } else if let Some(value) = words.value("count") {
                take.count = parse::whole(value, 1, TAKE_MAX, "COUNT")? as usize;
            } else if let Some(value) = words.value("block") {
                take.block_ms = Some(wait_ms(value)?);
            } else if let Some(value) = words.value("lease") {
                take.lease_ms = Some(parse::span(value, 1, "LEASE")?);
            } else {
                return words.refuse().map(|()| take);
            }
        }
        Ok(take)
    }
}

pub fn qtake(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let Take { queues, worker, count, block_ms, lease_ms: lease } = Take::parse(args)?;
    let keys = args.from(2).iter().take(queues);
    let mut queues = Vec::with_capacity(queues);
    for key in keys {
        // Nothing is taken from one if another is none.
        if cx.has_waited_for::<Queue>(key)? {
            queues.push(key);
        }
    }
    let now = cx.now;
    let mut leases: Vec<Lease> = Vec::new();
    for key in queues {
        change(cx, key, |queue, numbers| {
            let before = leases.len();
            while leases.len() < count
                && let Some(job) = queue.take(worker, lease, now, numbers)
            {
                leases.push(Lease {
                    queue: key,
                    id: job.id.clone(),
                    token: job.run.as_ref().map_or(0, |run| run.token),
                    payload: job.payload.clone(),
                    attempt: job.attempt,
                    until: job.deadline,
                    group: job.group().cloned(),
                });
            }
            Ok(((), (leases.len() > before).then_some("qtake")))
        })?;
    }
    if leases.is_empty() {
        if block_ms.is_some() {
            return Err(would_wait());
        }
        reply.null_array();
        return Ok(());
    }
    reply.array(leases.len());
    for lease in leases {
        reply.array(7);
        reply.bulk(lease.queue);
        reply.bulk(&lease.id);
        reply.int(lease.token as i64);
        reply.bulk(&lease.payload);
        reply.int(i64::from(lease.attempt));
        reply.int(lease.until.0 as i64);
        reply.bulk_or_null(lease.group.as_deref());
    }
    Ok(())
}

impl From<LeaseError> for Refusal {
    fn from(error: LeaseError) -> Refusal {
        match error {
            LeaseError::NoJob => Refusal::text("NOJOB no such job, it is done or was dropped"),
            LeaseError::Stale => Refusal::text("STALE lease lost"),
        }
    }
}

/// `QACK queue id token [id token ...] [RESULT bytes]`. For one job 1 or an error; for several an array of 1 for what is done
/// and 0 for what is not this worker's any more.
pub fn qack(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let mut end = args.len();
    let result = if end >= 6 && args.is(end - 2, "result") { args.get(end - 1) } else { None };
    end -= if result.is_some() { 2 } else { 0 };
    let count = (end - 2) / 2;
    if !(end - 2).is_multiple_of(2) || result.is_some() && count > 1 {
        return Err(Refusal::Syntax);
    }
    let tokens: Vec<(&[u8], u64)> = (0..count)
        .map(|n| Ok((&args[2 + 2 * n], parse::token(&args[3 + 2 * n])?)))
        .collect::<Result<_, Refusal>>()?;
    let now = cx.now;
    let done = change(cx, &args[1], |queue, _| {
        let before = queue.totals().sum(Count::Done);
        let done: Vec<_> =
            tokens.iter().map(|(id, token)| queue.acknowledge(id, *token, result, now)).collect();
        // One that is repeated is accepted and changes nothing.
        let is_new = queue.totals().sum(Count::Done) > before;
        Ok((done, is_new.then_some("qack")))
    })?;
    let done = done.unwrap_or_else(|| vec![Err(LeaseError::NoJob); count]);
    if let [one] = done[..] {
        one?;
        reply.int(1);
        return Ok(());
    }
    reply.array(done.len());
    done.into_iter().for_each(|one| reply.int(i64::from(one.is_ok())));
    Ok(())
}

/// `QFAIL queue id token [ERROR text] [DELAY ms] [DEAD | FREE]`
pub fn qfail(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (id, token) = (&args[2], parse::token(&args[3])?);
    let (mut text, mut delay, mut dies, mut is_free) = (&b""[..], None, false, false);
    let mut words = Words::new(args.from(4));
    while !words.is_done() {
        if let Some(value) = words.value("error") {
            text = &value[..value.len().min(ERROR_BYTES_MAX)];
        } else if let Some(value) = words.value("delay") {
            delay = Some(parse::span(value, 0, "DELAY")?);
        } else if words.word("dead") {
            dies = true;
        } else if words.word("free") {
            is_free = true;
        } else {
            return words.refuse();
        }
    }
    let failed = match (dies, is_free) {
        (false, false) => Failed::Retry(delay),
        (true, false) if delay.is_none() => Failed::Die,
        (false, true) => Failed::Free(delay.unwrap_or(0)),
        _ => return Err(Refusal::Syntax),
    };
    let now = cx.now;
    let fate = change(cx, &args[1], |queue, _| {
        let fate = queue.fail(id, token, failed, text, now)?;
        Ok((fate, Some(if fate == Fate::Dead { "qdead" } else { "qfail" })))
    })?;
    match fate.ok_or(LeaseError::NoJob)? {
        Fate::Again(at) => reply.int(at.0 as i64),
        Fate::Dead => reply.bulk(b"dead"),
        Fate::Expired => reply.bulk(b"expired"),
    }
    Ok(())
}

/// `QBEAT queue id token [ms]`: when the lease ends. `QBEAT queue WORKER name [ms]`: `[[id, token, lease-until-ms], ...]` of all
/// leases that the worker still holds.
pub fn qbeat(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    if args.len() > 5 {
        return Err(Refusal::Syntax);
    }
    let ms = args.get(4).map(|ms| parse::span(ms, 1, "the time")).transpose()?;
    let now = cx.now;
    if args.is(2, "worker") {
        let worker = parse::name(&args[3], "WORKER")?;
        let known = change(cx, &args[1], |queue, _| {
            let held = queue.beat_worker(worker, ms, now);
            let is_idle = held.is_empty();
            reply.array(held.len());
            for job in held {
                reply.array(3);
                reply.bulk(&job.id);
                reply.int(job.run.as_ref().map_or(0, |run| run.token) as i64);
                reply.int(job.deadline.0 as i64);
            }
            Ok(((), (!is_idle).then_some("qbeat")))
        })?;
        if known.is_none() {
            reply.array(0);
        }
        return Ok(());
    }
    let (id, token) = (&args[2], parse::token(&args[3])?);
    let until = change(cx, &args[1], |queue, _| Ok((queue.beat(id, token, ms, now)?, Some("qbeat"))))?;
    reply.int(until.ok_or(LeaseError::NoJob)?.0 as i64);
    Ok(())
}
