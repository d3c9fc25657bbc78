//! Commands on queues of leased jobs.
//!
//! Each first lets the queue do what its time has come for, by the entry's stamp, and then what it is asked to. Numbers of
//! jobs and tokens of leases come from the shard's row.

mod add;
mod cron;
mod look;
mod manage;
mod parse;
mod work;

use skep_base::Refusal;

use super::Group;
use crate::context::WriteCx;
use crate::db::NEVER;
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;
use crate::types::Queue;
use crate::types::queue::{Numbers, Settled};
use crate::value::Typed;

pub use cron::next_tick_call;
pub use work::Take;

pub const COMMANDS: Group = &[
    ("qadd", Write(add::qadd)),
    ("qtake", Write(work::qtake)),
    ("qack", Write(work::qack)),
    ("qfail", Write(work::qfail)),
    ("qbeat", Write(work::qbeat)),
    ("qget", Read(look::qget)),
    ("qlist", Read(look::qlist)),
    ("qinfo", Read(look::qinfo)),
    ("qredo", Write(manage::qredo)),
    ("qdrop", Write(manage::qdrop)),
    ("qset", Write(manage::qset)),
    ("qcron", Write(cron::qcron)),
];

/// Things that one command lets a queue do by itself before it begins. More wait for the sweep: a command must not stall
/// because a million leases end.
const SETTLE_MAX: usize = 1_000;

/// What came of a change: the caller's result, and the event to be told if something changed.
type Outcome<R> = Result<(R, Option<&'static str>), Refusal>;

/// Changes the queue at `key`; `None` if there is none.
///
/// # Errors
/// [`Refusal::WrongType`]; what `change` refuses, which has then changed nothing.
fn change<R>(
    cx: &mut WriteCx,
    key: &[u8],
    change: impl FnOnce(&mut Queue, &mut Numbers) -> Outcome<R>,
) -> Result<Option<R>, Refusal> {
    let (mut numbers, now) = (cx.keyspace.numbers, cx.now);
    let mut settled = Settled::default();
    let result = cx.update(key, |queue: &mut Queue| {
        settled = queue.settle(now, SETTLE_MAX, &mut numbers);
        match change(queue, &mut numbers) {
            // What it did by itself is a change, whatever it was asked.
            Err(refusal) if settled.count > 0 => Ok(Err(refusal)),
            done => done.map(Ok),
        }
    });
    let result = result.and_then(Option::transpose);
    cx.keyspace.numbers = numbers;
    cx.keyspace.note_settled(cx.db, key, settled);
    let event = match &result {
        Ok(Some((_, event))) => *event,
        _ => None,
    };
    if result.is_ok() && event.is_none() && settled.count == 0 {
        cx.spare_watchers(key);
    }
    tell(cx, key, event, settled);
    Ok(result?.map(|(result, _)| result))
}

/// Tells of an event, and of the end of a queue that what happened has emptied.
fn tell(cx: &mut WriteCx, key: &[u8], event: Option<&'static str>, settled: Settled) {
    if let Some(name) = event {
        cx.event_then_del(Class::Module, name, key);
    } else if settled.count > 0 && !cx.exists(key) {
        cx.event(Class::Generic, "del", key);
    }
}

/// As [`change`], with a new queue if there is none, which is kept unless `change` leaves it empty.
fn change_or_create<R>(
    cx: &mut WriteCx,
    key: &[u8],
    mut with: impl FnMut(&mut Queue, &mut Numbers) -> Outcome<R>,
) -> Result<R, Refusal> {
    if let Some(result) = change(cx, key, &mut with)? {
        return Ok(result);
    }
    let (mut queue, mut numbers) = (Queue::default(), cx.keyspace.numbers);
    let (result, event) = with(&mut queue, &mut numbers)?;
    cx.keyspace.numbers = numbers;
    if !queue.is_empty() {
        cx.put(key, queue, NEVER);
        if let Some(name) = event {
            cx.event(Class::Module, name, key);
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests;
