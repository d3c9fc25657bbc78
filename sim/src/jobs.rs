//! What all clients together know of a few shared queues of leased jobs: nothing added twice or lost, nothing handed out twice
//! without a cause, at most one completion, tokens that only grow, one of a group at a time (INV-SIM-21), the first ones first
//! (INV-SIM-25). Of one of them each completion is noted by the
//! script that acknowledges the job, so that at the end as many are noted as are done. One has limits (INV-SIM-26), one has jobs
//! that die (INV-SIM-27), one has schedules (INV-SIM-28), one has words of `DEDUP` (INV-SIM-30).

mod draw;
mod limits;
mod ticks;
mod tries;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Plain, Words, show};
use crate::order::Order;
use crate::planted::Planted;

pub use limits::LIMITED;
pub use ticks::{LIST_TICKED, TICKED};
pub use tries::{LIST_TRIED, TRIED};
pub use windows::{LIST_WINDOWED, WINDOWED};

use limits::{Held, Limits};
use ticks::Ticks;
use tries::Tries;
use windows::Windows;

/// The queues, in the ledger's database, from which nothing vanishes.
pub const JOB_QUEUES: [&str; 3] = ["j0", "j1", LIMITED];

/// The one of which completions are noted.
pub const COUNTED: &str = "j1";

/// Where they are noted: in the same slot.
pub fn done_key() -> String {
    format!("{{{COUNTED}}}done")
}

/// Long enough that what is done is remembered to the end.
const KEEP_MS: u64 = 86_400_000;

/// Of jobs that were not given one.
const PRIORITY_DEFAULT: u8 = 4;

/// Everything known of the queues.
#[derive(Default)]
pub struct Jobs {
    /// Jobs ever sent, by queue.
    sent: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Those of which an answer said that they are there.
    added: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Those that an answer called new.
    new: BTreeSet<(Vec<u8>, Vec<u8>)>,
    /// Leases by queue and token.
    leases: BTreeMap<(Vec<u8>, i64), Lease>,
    /// Of each job the token of its completion, and when that was answered.
    done: BTreeMap<(Vec<u8>, Vec<u8>), (i64, u64)>,
    /// Of the jobs without group and delay the order, by queue.
    order: BTreeMap<Vec<u8>, Order>,
    /// The greatest token heard of, by queue.
    newest: BTreeMap<Vec<u8>, i64>,
    next_id: u64,
    /// What [`LIMITED`] is told, and when it was first answered that it is.
    limits: Option<Limits>,
    limited_by: Option<u64>,
    /// For a planted bug: somebody lifts the limits.
    lifts_limits: bool,
    tries: Tries,
    ticks: Ticks,
    windows: Windows,
    /// Jobs of [`COUNTED`] that are done, as was told at the end.
    done_told: Option<usize>,
}

struct Lease {
    id: Vec<u8>,
    group: Option<Vec<u8>>,
    /// By the time of the queue.
    taken: i64,
    until: i64,
    /// Somebody was told to give it back, or may have prolonged it: nothing follows from its end.
    is_over: bool,
    /// Somebody was told to acknowledge it.
    is_acked: bool,
    /// As in [`Held`].
    asked: u64,
    told: u64,
    given_up: u64,
}

fn text(word: &str) -> Vec<u8> {
    word.as_bytes().to_vec()
}

impl Jobs {
    pub fn new(planted: Option<Planted>) -> Jobs {
        Jobs {
            lifts_limits: planted == Some(Planted::LimitsLifted),
            tries: Tries::new(planted),
            ticks: Ticks::new(planted),
            ..Jobs::default()
        }
    }

    /// The greatest token heard of.
    pub fn newest(&self, queue: &[u8]) -> i64 {
        self.newest.get(queue).copied().unwrap_or(0)
    }

    /// Takes note that a command leaves a client.
    pub fn on_sent(&mut self, words: &Words, at: u64) {
        let (command, queue) = (&words[0][..], &words[1]);
        match &queue[..] {
            queue if queue == TRIED.as_bytes() => self.tries.on_sent(words, at),
            queue if queue == TICKED.as_bytes() => self.ticks.on_sent(words),
            queue if queue == WINDOWED.as_bytes() => self.windows.on_sent(words),
            _ => {}
        }
        match command {
            b"QADD" => {
                let rank = word_after(words, b"PRIO").map_or(PRIORITY_DEFAULT, |prio| prio[0] - b'0');
                self.order.entry(queue.clone()).or_default().on_adding(&words[2], rank, at);
                self.sent.entry(queue.clone()).or_default().insert(words[2].clone());
            }
            b"QACK" | b"QFAIL" | b"QBEAT" => {
                let token = String::from_utf8_lossy(&words[3]).parse().unwrap_or(0);
                if let Some(lease) = self.leases.get_mut(&(queue.clone(), token)) {
                    lease.is_over |= command != b"QACK";
                    lease.is_acked |= command == b"QACK";
                    if command != b"QBEAT" {
                        lease.given_up = lease.given_up.min(at);
                    }
                }
            }
            _ => {}
        }
    }

    /// Checks a reply. `newest` is what [`Jobs::newest`] was when the command left, and `since` when that was; `wall_max` is the
    /// latest that a clock can show.
    pub fn on_reply(
        &mut self,
        words: &Words,
        (since, newest): (u64, i64),
        reply: &Plain,
        (at, wall_max): (u64, u64),
    ) -> Result<(), String> {
        let broken =
            |name: &str, rule: &str| Err(format!("{name}: {rule}: {} was answered {reply:?}", show(words)));
        let wrong = |rule: &str| broken("INV-SIM-21", rule);
        let is_on = |queue: &str| words[1] == queue.as_bytes();
        if is_on(TRIED)
            && let Err(rule) = self.tries.on_reply(words, (since, at), wall_max, reply)
        {
            return broken("INV-SIM-27", rule);
        }
        if is_on(TICKED)
            && let Err(rule) = self.ticks.on_reply(words, reply)
        {
            return broken("INV-SIM-28", rule);
        }
        match (&words[0][..], reply) {
            (b"QADD", Plain::List(answer)) if is_on(WINDOWED) => {
                if let Err(rule) = self.windows.on_added(words, (since, at), answer) {
                    return broken("INV-SIM-30", rule);
                }
            }
            (b"QADD", Plain::List(answer)) => {
                let [Plain::Text(id), Plain::Int(is_new @ (0 | 1))] = &answer[..] else {
                    return wrong("a strange answer");
                };
                if *id != words[2] {
                    return wrong("another id");
                }
                if *is_new == 1 && !self.new.insert((words[1].clone(), id.clone())) {
                    return wrong("a job was added twice");
                }
                self.added.entry(words[1].clone()).or_default().insert(id.clone());
                if word_after(words, b"GROUP").is_none() && word_after(words, b"DELAY").is_none() {
                    self.order.entry(words[1].clone()).or_default().on_added(id, at);
                }
            }
            (b"QTAKE", Plain::Nil) => {}
            (b"QTAKE", Plain::List(leases)) => {
                let length: i64 = String::from_utf8_lossy(&words[6]).parse().unwrap_or(0);
                for lease in leases {
                    let Plain::List(fields) = lease else { return wrong("a strange lease") };
                    let [
                        _,
                        Plain::Text(id),
                        Plain::Int(token),
                        Plain::Text(payload),
                        Plain::Int(attempt),
                        Plain::Int(until),
                        group,
                    ] = &fields[..]
                    else {
                        return wrong("a strange lease");
                    };
                    let group = if let Plain::Text(group) = group { Some(group.clone()) } else { None };
                    let taken = *until - length;
                    let lease = Lease {
                        id: id.clone(),
                        group,
                        taken,
                        until: *until,
                        is_over: false,
                        is_acked: false,
                        asked: since,
                        told: at,
                        given_up: u64::MAX,
                    };
                    if words[2] == TRIED.as_bytes()
                        && let Err(rule) = self.tries.on_lease(id, *attempt, taken, (since, at))
                    {
                        return broken("INV-SIM-27", &rule);
                    }
                    if words[2] == TICKED.as_bytes() {
                        if let Err(rule) = self.ticks.on_lease(id, payload, taken) {
                            return broken("INV-SIM-28", &rule);
                        }
                        self.sent.entry(words[2].clone()).or_default().insert(id.clone());
                    }
                    if let Err(rule) = self.on_lease(&words[2], payload, (*token, lease), (since, newest)) {
                        return wrong(&rule);
                    }
                    let order = self.order.entry(words[2].clone()).or_default();
                    order.on_taken(id, (since, at), *attempt == 1);
                }
            }
            (b"QACK", Plain::Int(1)) => {
                let token = String::from_utf8_lossy(&words[3]).parse().unwrap_or(0);
                let job = (words[1].clone(), words[2].clone());
                let first = self.done.entry(job).or_insert((token, at));
                if first.0 != token {
                    return wrong("a job was completed by two");
                }
            }
            (b"QSET", Plain::Text(ok)) if ok == b"OK" => {
                self.limited_by.get_or_insert(at);
            }
            (b"QREDO" | b"QDROP", Plain::Int(_)) if is_on(TRIED) => {}
            (b"QFAIL", Plain::Text(fate)) if is_on(TRIED) && fate == b"expired" => {}
            (b"QCRON", _) if is_on(TICKED) => {}
            (b"QACK" | b"QFAIL" | b"QBEAT", Plain::Error(error))
                if error.starts_with(b"NOJOB") && (is_on(TRIED) || is_on(TICKED)) => {}
            // The job is remembered for long: it cannot be unknown, unless its lease was made up.
            (b"QACK" | b"QFAIL" | b"QBEAT", Plain::Error(error))
                if error.starts_with(b"NOJOB") && words[2] == b"none" => {}
            (b"QACK" | b"QFAIL" | b"QBEAT", Plain::Error(error)) if error.starts_with(b"STALE") => {}
            (b"QBEAT", Plain::Int(until)) => {
                let token = String::from_utf8_lossy(&words[3]).parse().unwrap_or(0);
                match self.leases.get(&(words[1].clone(), token)) {
                    Some(lease) if *until >= lease.until => {}
                    _ => return wrong("a lease was shortened, or made up"),
                }
            }
            (b"QFAIL", Plain::Int(_)) => {}
            (b"QFAIL", Plain::Text(fate)) if fate == b"dead" => {}
            _ => return wrong("an unexpected reply"),
        }
        Ok(())
    }

    fn on_lease(
        &mut self,
        queue: &Vec<u8>,
        payload: &Vec<u8>,
        (token, lease): (i64, Lease),
        (since, newest): (u64, i64),
    ) -> Result<(), String> {
        let id = &lease.id;
        let is_tick = queue == TICKED.as_bytes();
        if payload != id && !is_tick || !self.sent.get(queue).is_some_and(|ids| ids.contains(id)) {
            return Err("a job that nobody added".into());
        }
        if token <= newest {
            return Err(format!("token {token} after {newest}"));
        }
        if self.done.get(&(queue.clone(), id.clone())).is_some_and(|(_, answered)| *answered < since) {
            return Err("a job was handed out after its completion was answered".into());
        }
        let others = || self.leases.iter().filter(|((of, _), _)| of == queue).map(|(_, other)| other);
        let in_order = |other: &'_ Lease| other.taken <= lease.taken;
        let holds = |first: &Lease, second: &Lease| !first.is_over && second.taken <= first.until;
        let overlaps = |other: &Lease| {
            if in_order(other) { holds(other, &lease) } else { holds(&lease, other) }
        };
        if others().any(|other| other.id == lease.id && overlaps(other)) {
            return Err("a job was handed out while its lease held".into());
        }
        let of_group = |other: &&Lease| {
            let first = if in_order(other) { other } else { &lease };
            lease.group.is_some() && other.group == lease.group && other.id != lease.id && !first.is_acked
        };
        if let Some(other) = others().filter(of_group).find(|other| overlaps(other)) {
            return Err(format!(
                "a job was handed out while {} of its group was",
                show(std::slice::from_ref(&other.id))
            ));
        }
        if self.leases.insert((queue.clone(), token), lease).is_some() {
            return Err("a token was given twice".into());
        }
        let highest = self.newest.entry(queue.clone()).or_default();
        *highest = (*highest).max(token);
        Ok(())
    }

    /// Compares what a queue says of itself at the end, by QINFO, with what is known.
    pub fn audit(&mut self, queue: &str, told: &[Plain]) -> Result<(), String> {
        let there: Option<usize> =
            ["ready", "delayed", "leased", "dead", "done"].into_iter().map(|name| number(told, name)).sum();
        let (Some(there), Some(added)) = (there, number(told, "added")) else {
            return Err(format!("INV-SIM-21: {queue} says of itself {told:?}"));
        };
        if queue == COUNTED {
            self.done_told = number(told, "done");
        }
        // Those that nobody was told of may be with somebody who was not answered.
        if let Some(Err((older, younger))) =
            self.order.get(queue.as_bytes()).map(|order| order.check(|_| false))
        {
            let (older, younger) = (show(&[older]), show(&[younger]));
            return Err(format!(
                "INV-SIM-25: {older} was in {queue} before {younger}, which was taken before it"
            ));
        }
        let none = BTreeSet::new();
        let sent = self.sent.get(queue.as_bytes()).unwrap_or(&none).len();
        let sure = self.added.get(queue.as_bytes()).unwrap_or(&none).len();
        if queue == LIMITED
            && let (Some(limits), Some(since)) = (self.limits, self.limited_by)
        {
            let all = self.leases.iter().filter(|((of, _), _)| of == queue.as_bytes());
            let all = all.map(|((_, token), lease)| Held {
                token: *token,
                asked: lease.asked,
                told: lease.told,
                taken: lease.taken,
                until: lease.until,
                given_up: lease.given_up,
            });
            let all: Vec<Held> = all.collect();
            limits.check(since, &all).map_err(|why| format!("INV-SIM-26: of {queue} {why}"))?;
        }
        if there != added || !(sure..=sent).contains(&added) {
            return Err(format!(
                "INV-SIM-21: {queue} holds {there} jobs and counted {added}; {sure} to {sent} were added"
            ));
        }
        Ok(())
    }

    /// Compares what [`LIST_TRIED`] tells at the end with what is known.
    pub fn audit_tried(&self, told: &[Plain]) -> Result<(), String> {
        self.tries.audit(told)
    }

    /// Compares what [`LIST_WINDOWED`] tells at the end with what is known.
    pub fn audit_windowed(&self, told: &[Plain]) -> Result<(), String> {
        self.windows.audit(told)
    }

    /// Compares what [`LIST_TICKED`] tells at the end with what is known; false if it is to be asked once more.
    pub fn audit_ticked(&mut self, told: &[Plain], wall_max: u64) -> Result<bool, String> {
        self.ticks.audit(told, wall_max)
    }

    /// Compares how many jobs are done with how many were noted to be, after [`Jobs::audit`].
    pub fn audit_notes(&self, noted: &Plain) -> Result<(), String> {
        match (self.done_told, noted) {
            (None, Plain::Int(_)) => Ok(()),
            (Some(done), Plain::Int(noted)) if done as i64 == *noted => Ok(()),
            (done, _) => Err(format!("INV-SIM-21: {done:?} jobs of {COUNTED} are done, noted are {noted:?}")),
        }
    }
}

/// The value of an option.
fn word_after<'a>(words: &'a Words, option: &[u8]) -> Option<&'a Vec<u8>> {
    words.iter().skip(3).position(|word| word == option).and_then(|at| words.get(at + 4))
}

/// A number that QINFO tells.
fn number(told: &[Plain], name: &str) -> Option<usize> {
    if let Plain::Int(value) = field(told, name)? { Some(*value as usize) } else { None }
}

/// What stands behind a name.
fn field<'a>(told: &'a [Plain], name: &str) -> Option<&'a Plain> {
    let at = told.iter().step_by(2).position(|n| *n == Plain::Text(text(name)))?;
    told.get(2 * at + 1)
}
