//! Bringing jobs back, dropping them, and settings.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::parse::{self, Words};
use super::{change, change_or_create};
use crate::context::WriteCx;
use crate::events::Class;
use crate::small::SmallBytes;
use crate::types::Queue;
use crate::types::queue::{Job, Rate, State};

/// Jobs that one command with ALL moves or drops: some milliseconds of work. Who wants more asks again, until it is 0.
const ALL_MAX: usize = 10_000;

/// The highest limit that QSET takes: what QINFO can answer as an integer.
const COUNT_MAX: u64 = i64::MAX as u64;

/// The jobs that a command names, or the first ones of a state.
fn chosen(queue: &Queue, ids: &[&[u8]], all_of: Option<State>) -> Vec<SmallBytes> {
    match all_of {
        Some(state) => queue.list(state, None).take(ALL_MAX).map(|(_, job)| job.id.clone()).collect(),
        None => ids.iter().map(|id| SmallBytes::new(id)).collect(),
    }
}

/// `QREDO queue (id [id ...] | ALL) [FROM DEAD|DONE] [TO queue]`
pub fn qredo(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (key, mut end) = (&args[1], args.len());
    let (mut from, mut to) = (None, None);
    if end > 4 && args.is(end - 2, "to") {
        to = args.get(end - 1).filter(|to| to != &key);
        end -= 2;
    }
    if end > 4 && args.is(end - 2, "from") {
        let state = State::parse(&args[end - 1]).filter(|s| matches!(s, State::Dead | State::Done));
        from = Some(state.ok_or(Refusal::Syntax)?);
        end -= 2;
    }
    let all = args.is(2, "all");
    if all && end > 3 {
        return Err(Refusal::Syntax);
    }
    let all_of = all.then_some(from.unwrap_or(State::Dead));
    let ids: Vec<&[u8]> = args.from(2).iter().take(end - 2).collect();
    let now = cx.now;
    let is_wanted =
        |job: &Job| from.map_or(matches!(job.state, State::Dead | State::Done), |state| job.state == state);
    let count = match to {
        Some(to) => {
            cx.read::<Queue>(to)?; // nothing is taken out if it cannot be put in
            move_jobs(cx, key, to, |queue| chosen(queue, &ids, all_of), is_wanted)?
        }
        None => change(cx, key, |queue, _| {
            let ids = chosen(queue, &ids, all_of);
            let redone =
                ids.iter().filter(|id| queue.job(id).is_some_and(is_wanted) && queue.redo(id, now)).count();
            Ok((redone, (redone > 0).then_some("qredo")))
        })?
        .unwrap_or(0),
    };
    reply.len(count);
    Ok(())
}

/// Moves jobs from one queue to another as new ones, and gives their number. What the other has under the same id stays where
/// it is.
fn move_jobs(
    cx: &mut WriteCx,
    from: &[u8],
    to: &[u8],
    chosen: impl Fn(&Queue) -> Vec<SmallBytes>,
    is_wanted: impl Fn(&Job) -> bool,
) -> Result<usize, Refusal> {
    // Both do by themselves what is due before they are looked at, and nothing between the look and the move: else a job
    // could appear in the second that the first was not seen to share.
    for key in [from, to] {
        change(cx, key, |_, _| Ok(((), None)))?;
    }
    let Some(source) = cx.read::<Queue>(from)? else { return Ok(0) };
    let target = cx.read::<Queue>(to)?;
    let is_free = |id: &SmallBytes| target.is_none_or(|target| target.job(id).is_none());
    let goes = |id: &SmallBytes| source.job(id).is_some_and(&is_wanted) && is_free(id);
    let ids: Vec<SmallBytes> = chosen(source).into_iter().filter(goes).collect();
    if ids.is_empty() {
        return Ok(0);
    }
    let taken = cx.update(from, |queue: &mut Queue| {
        Ok(ids.iter().filter_map(|id| queue.take_out(id)).collect::<Vec<Job>>())
    })?;
    let mut taken = taken.unwrap_or_default();
    let count = taken.len();
    cx.event_then_del(Class::Module, "qdrop", from);
    let (now, mut numbers) = (cx.now, cx.keyspace.numbers);
    cx.update_or_create(to, |queue: &mut Queue| {
        for job in taken.drain(..) {
            assert!(queue.put_back(job, now, &mut numbers), "ids were looked up above");
        }
        Ok(())
    })?;
    cx.keyspace.numbers = numbers;
    cx.event(Class::Module, "qredo", to);
    Ok(count)
}

/// `QDROP queue (id [id ...] | ALL state)`
pub fn qdrop(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let all_of = match args.is(2, "all") {
        true if args.len() == 4 => Some(State::parse(&args[3]).ok_or(Refusal::Syntax)?),
        true => return Err(Refusal::Syntax),
        false => None,
    };
    let named: Vec<&[u8]> = args.from(2).iter().collect();
    let dropped = change(cx, &args[1], |queue, _| {
        let ids = chosen(queue, &named, all_of);
        let dropped = ids.iter().filter(|id| queue.drop_job(id)).count();
        Ok((dropped, (dropped > 0).then_some("qdrop")))
    })?;
    reply.len(dropped.unwrap_or(0));
    Ok(())
}

/// `QSET queue [LEASE ms] [TRIES n] [BACKOFF ms [MAX ms]] [RATE n PER ms | RATE 0] [LIMIT n] [GROUPLIMIT n] [KEEP ms|-1]
/// [DEADKEEP ms] [MAXLEN n] [PAUSED yes|no]`
pub fn qset(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let current = cx.read::<Queue>(&args[1])?.map(|queue| queue.settings().clone());
    let mut settings = current.unwrap_or_default();
    let mut words = Words::new(args.from(2));
    while !words.is_done() {
        if let Some(value) = words.value("lease") {
            settings.lease_ms = parse::span(value, 1, "LEASE")?;
        } else if let Some(value) = words.value("tries") {
            settings.tries = parse::tries(value)?;
        } else if let Some(value) = words.value("backoff") {
            settings.backoff = parse::backoff(value, &mut words)?;
        } else if let Some(value) = words.value("rate") {
            let count = parse::whole(value, 0, u64::from(u32::MAX), "RATE")?;
            let per = words.value("per").map(|ms| parse::span(ms, 1, "PER")).transpose()?;
            settings.rate = match (count, per) {
                (0, _) => None,
                (count, Some(per_ms)) => Some(Rate { count, per_ms }),
                (_, None) => return Err(Refusal::text("ERR RATE needs PER and a time in milliseconds")),
            };
        } else if let Some(value) = words.value("limit") {
            settings.limit = parse::whole(value, 0, COUNT_MAX, "LIMIT")?;
        } else if let Some(value) = words.value("grouplimit") {
            settings.group_limit = parse::whole(value, 1, COUNT_MAX, "GROUPLIMIT")?;
        } else if let Some(value) = words.value("keep") {
            settings.keep_ms = if value == b"-1" { None } else { Some(parse::span(value, 0, "KEEP")?) };
        } else if let Some(value) = words.value("deadkeep") {
            settings.dead_keep_ms = parse::span(value, 0, "DEADKEEP")?;
        } else if let Some(value) = words.value("maxlen") {
            settings.max_len = parse::whole(value, 0, COUNT_MAX, "MAXLEN")?;
        } else if let Some(value) = words.value("paused") {
            settings.paused = match value.to_ascii_lowercase().as_slice() {
                b"yes" => true,
                b"no" => false,
                _ => return Err(Refusal::text("ERR PAUSED is yes or no")),
            };
        } else {
            return words.refuse();
        }
    }
    change_or_create(cx, &args[1], |queue, _| {
        queue.set_settings(settings.clone());
        Ok(((), Some("qset")))
    })?;
    reply.ok();
    Ok(())
}
