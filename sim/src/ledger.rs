//! What all clients together know of a few shared keys: queues from which nothing may be taken twice, counters that never
//! give a number twice, registers that never go back.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::Rng;

use crate::jobs::{JOB_QUEUES, Jobs, TICKED, TRIED, WINDOWED};
use crate::model::{Plain, Words, show};
use crate::order::Order;
use crate::planted::Planted;
use crate::scripts::{Scripts, is_of_scripts};
use crate::streams::{STREAMS, Streams};

/// The database of these keys, which nothing else touches.
pub const LEDGER_DB: u8 = 6;
pub const QUEUES: [&str; 2] = ["q0", "q1"];
/// The one that only its front is taken from.
const IN_ORDER: &[u8] = b"q0";
/// What is compared of the completions of jobs.
pub const NOTES: &str = "notes";

/// Everything known of the shared keys.
pub struct Ledger {
    pushed: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Pushes that were answered, and when.
    pushed_acked: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, u64>>,
    /// When the last of those left who waited for a queue in vain.
    waited_in_vain: BTreeMap<Vec<u8>, u64>,
    popped: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Of the queue that nothing is taken from but its front.
    in_order: Order,
    /// Pops whose answer never came.
    pops_uncertain: BTreeMap<Vec<u8>, u64>,
    counters: BTreeMap<Vec<u8>, i64>,
    registers: BTreeMap<Vec<u8>, Vec<Write>>,
    /// Queues of leased jobs.
    jobs: Jobs,
    streams: Streams,
    scripts: Scripts,
    /// For a planted bug.
    notes_apart: bool,
    /// With memory durability, after a crash, nothing is certain.
    lossy: bool,
    pub checked: u64,
    /// The latest that a clock can show.
    pub wall_max: u64,
}

struct Write {
    value: Vec<u8>,
    invoked: u64,
    /// `u64::MAX` until it is answered.
    answered: u64,
}

/// A command on its way, with what was known when it left.
#[derive(Clone, Debug, Default)]
pub struct Before {
    at: u64,
    counter: i64,
    /// What it writes, of [`Scripts`].
    script: usize,
}

impl Ledger {
    pub fn new(shards: u64, planted: Option<Planted>) -> Ledger {
        Ledger {
            pushed: BTreeMap::new(),
            pushed_acked: BTreeMap::new(),
            waited_in_vain: BTreeMap::new(),
            popped: BTreeMap::new(),
            in_order: Order::default(),
            pops_uncertain: BTreeMap::new(),
            counters: BTreeMap::new(),
            registers: BTreeMap::new(),
            jobs: Jobs::new(planted),
            streams: Streams::new(planted),
            scripts: Scripts::new(shards, planted),
            notes_apart: planted == Some(Planted::NotedApart),
            lossy: false,
            checked: 0,
            wall_max: 0,
        }
    }

    /// True if clients note the completion of a job apart from it.
    pub fn notes_apart(&self) -> bool {
        self.notes_apart
    }

    /// Something to do with streams.
    pub fn next_of_streams(&mut self, rng: &mut Rng) -> Words {
        self.streams.next(rng)
    }

    /// Something to do with scripts.
    pub fn next_of_scripts(&mut self, rng: &mut Rng) -> Words {
        self.scripts.next(rng)
    }

    /// Calls of all scripts in use, for the end.
    pub fn calls_of_scripts(&self, client: usize) -> Vec<Words> {
        self.scripts.calls(client)
    }

    /// Something to do with leased jobs; `wall` is what a clock shows.
    pub fn next_of_jobs(&mut self, rng: &mut Rng, wall: u64) -> Words {
        self.jobs.next(rng, wall)
    }

    /// Takes note that a command leaves a client at `at`.
    pub fn on_sent(&mut self, words: &Words, at: u64) -> Before {
        if is_of_jobs(words) {
            self.jobs.on_sent(words, at);
            return Before { at, counter: self.jobs.newest(job_queue(words)), script: 0 };
        }
        if is_of_streams(words) {
            self.streams.on_sent(words);
            return Before { at, counter: 0, script: 0 };
        }
        if is_of_scripts(words) {
            return Before { at, counter: 0, script: self.scripts.on_sent(words, at) };
        }
        let key = &words[1];
        match &words[0][..] {
            b"RPUSH" | b"RPUSHX" => {
                self.pushed.entry(key.clone()).or_default().extend(words[2..].iter().cloned());
                if key == IN_ORDER {
                    words[2..].iter().for_each(|value| self.in_order.on_adding(value, 0, at));
                }
            }
            b"SET" => {
                let write = Write { value: words[2].clone(), invoked: at, answered: u64::MAX };
                self.registers.entry(key.clone()).or_default().push(write);
            }
            _ => {}
        }
        Before { at, counter: self.counters.get(key).copied().unwrap_or(0), script: 0 }
    }

    /// Takes note of a reply, and checks it.
    pub fn on_reply(&mut self, words: &Words, before: &Before, reply: &Plain, at: u64) -> Result<(), String> {
        self.checked += 1;
        if is_of_jobs(words) {
            let known = (before.at, before.counter);
            let now = (at, self.wall_max);
            return if self.lossy { Ok(()) } else { self.jobs.on_reply(words, known, reply, now) };
        }
        if is_of_streams(words) {
            return if self.lossy { Ok(()) } else { self.streams.on_reply(words, before.at, reply, at) };
        }
        if is_of_scripts(words) {
            let known = (before.script, before.at);
            return if self.lossy { Ok(()) } else { self.scripts.on_reply(words, known, reply, at) };
        }
        let key = &words[1];
        let wrong = |rule: &str| Err(format!("{rule}: {} was answered {reply:?}", show(words)));
        match (&words[0][..], reply) {
            // There was no list.
            (b"RPUSHX", Plain::Int(0)) => words[2..].iter().for_each(|value| self.in_order.on_refused(value)),
            (b"RPUSH" | b"RPUSHX", Plain::Int(_)) => {
                words[2..].iter().for_each(|value| self.in_order.on_added(value, at));
                let values = words[2..].iter().map(|value| (value.clone(), at));
                self.pushed_acked.entry(key.clone()).or_default().extend(values);
            }
            (b"LPOP", Plain::Nil) => {}
            (b"LPOP", Plain::Text(value)) => {
                if let Err(rule) = self.on_popped(key, value, (before.at, at)) {
                    return wrong(rule);
                }
            }
            (b"BLPOP" | b"BRPOP", Plain::Nil) => {
                for queue in waited_for(words) {
                    let last = self.waited_in_vain.entry(queue.clone()).or_default();
                    *last = (*last).max(before.at);
                }
            }
            (b"BLPOP" | b"BRPOP", Plain::List(served)) => match &served[..] {
                [Plain::Text(queue), Plain::Text(value)] if waited_for(words).contains(queue) => {
                    if let Err(rule) = self.on_popped(queue, value, (before.at, at)) {
                        return wrong(rule);
                    }
                }
                _ => return wrong("INV-SIM-5: unexpected reply"),
            },
            (b"INCR", Plain::Int(n)) => {
                if *n <= before.counter && !self.lossy {
                    return wrong("INV-SIM-6: a counter went back");
                }
                let highest = self.counters.entry(key.clone()).or_default();
                *highest = (*highest).max(*n);
            }
            (b"SET", Plain::Text(_)) => {
                let writes = self.registers.entry(key.clone()).or_default();
                if let Some(write) = writes.iter_mut().find(|w| w.value == words[2]) {
                    write.answered = at;
                }
            }
            (b"GET", read) if !self.lossy => return self.check_read(key, before.at, read),
            (b"GET", _) => {}
            _ => return wrong("INV-SIM-5: unexpected reply"),
        }
        Ok(())
    }

    fn on_popped(&mut self, queue: &[u8], value: &Vec<u8>, times: (u64, u64)) -> Result<(), &'static str> {
        if queue == IN_ORDER {
            self.in_order.on_taken(value, times, true);
        }
        if !self.pushed.get(queue).is_some_and(|pushed| pushed.contains(value)) {
            return Err("INV-SIM-5: an element was popped that nobody pushed");
        }
        if !self.popped.entry(queue.to_vec()).or_default().insert(value.clone()) && !self.lossy {
            return Err("INV-SIM-5: an element was popped twice");
        }
        Ok(())
    }

    /// A read may not see what was overwritten, by a write that began after the one it sees was answered and was answered
    /// before the read began.
    fn check_read(&self, key: &[u8], since: u64, read: &Plain) -> Result<(), String> {
        let writes = self.registers.get(key).map_or(&[][..], |w| w);
        let seen_until = match read {
            Plain::Nil => 0,
            Plain::Text(value) => match writes.iter().find(|w| w.value == *value) {
                Some(write) => write.answered,
                None => {
                    return Err(format!(
                        "INV-SIM-7: {} was never written",
                        show(std::slice::from_ref(value))
                    ));
                }
            },
            other => return Err(format!("INV-SIM-7: a register was read as {other:?}")),
        };
        match writes.iter().find(|w| w.invoked > seen_until && w.answered < since) {
            Some(newer) => Err(format!(
                "INV-SIM-7: {} was read as {read:?} after {} had been written",
                show(&[key.to_vec()]),
                show(std::slice::from_ref(&newer.value))
            )),
            None => Ok(()),
        }
    }

    /// A command was not carried out and never will be: nobody may see what it would have written.
    pub fn on_refused(&mut self, words: &Words, before: &Before, at: u64) {
        if is_of_streams(words) {
            return self.streams.on_refused(words);
        }
        if is_of_scripts(words) {
            return self.scripts.on_refused(before.script, at);
        }
        let key = &words[1];
        match &words[0][..] {
            b"RPUSH" | b"RPUSHX" => {
                words[2..].iter().for_each(|value| self.in_order.on_refused(value));
                if let Some(pushed) = self.pushed.get_mut(key) {
                    pushed.retain(|value| !words[2..].contains(value));
                }
            }
            b"SET" => {
                if let Some(writes) = self.registers.get_mut(key) {
                    writes.retain(|write| write.value != words[2]);
                }
            }
            _ => {}
        }
    }

    /// The answer to a command will never come.
    pub fn on_lost(&mut self, words: &Words) {
        let queues = match &words[0][..] {
            b"LPOP" => &words[1..2],
            b"BLPOP" | b"BRPOP" => waited_for(words),
            _ => &[],
        };
        for queue in queues {
            *self.pops_uncertain.entry(queue.clone()).or_default() += 1;
        }
    }

    /// A crash lost acknowledged writes, as memory durability admits.
    pub fn on_lossy_crash(&mut self) {
        self.lossy = true;
    }

    /// Compares a key's content at the end with all that is known of it. False if it is to be asked for once more.
    pub fn audit(&mut self, queue: &str, reply: &Plain) -> Result<bool, String> {
        if let Plain::List(told) = reply
            && queue == TICKED
            && !self.lossy
        {
            return self.jobs.audit_ticked(told, self.wall_max);
        }
        if self.lossy { Ok(true) } else { self.compare(queue, reply).map(|()| true) }
    }

    fn compare(&mut self, queue: &str, reply: &Plain) -> Result<(), String> {
        if STREAMS.contains(&queue) {
            return self.streams.audit(queue, reply);
        }
        if queue == NOTES {
            return self.jobs.audit_notes(reply);
        }
        let Plain::List(left) = reply else { return Err(format!("INV-SIM-5: {queue} is {reply:?}")) };
        if JOB_QUEUES.contains(&queue) {
            return self.jobs.audit(queue, left);
        }
        if queue == TRIED {
            return self.jobs.audit_tried(left);
        }
        if queue == WINDOWED {
            return self.jobs.audit_windowed(left);
        }
        let none = BTreeSet::new();
        let of =
            |map: &BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>| map.get(queue.as_bytes()).unwrap_or(&none).clone();
        let (pushed, popped) = (of(&self.pushed), of(&self.popped));
        let acked = self.pushed_acked.get(queue.as_bytes()).cloned().unwrap_or_default();
        let in_vain = self.waited_in_vain.get(queue.as_bytes()).copied().unwrap_or(0);
        let mut seen = BTreeSet::new();
        for element in left {
            let Plain::Text(value) = element else {
                return Err(format!("INV-SIM-5: {queue} holds {element:?}"));
            };
            if !pushed.contains(value) || popped.contains(value) || !seen.insert(value.clone()) {
                return Err(format!(
                    "INV-SIM-5: {queue} holds {}, which was popped, doubled or never pushed",
                    show(std::slice::from_ref(value))
                ));
            }
        }
        if queue.as_bytes() == IN_ORDER
            && let Err((older, younger)) = self.in_order.check(|value| seen.contains(value))
        {
            let (older, younger) = (show(&[older]), show(&[younger]));
            return Err(format!(
                "INV-SIM-25: {older} was in {queue} before {younger}, which was taken before it"
            ));
        }
        // What is there to the end was there all the time since its push was answered.
        if let Some(value) = seen.iter().find(|value| acked.get(*value).is_some_and(|at| *at < in_vain)) {
            return Err(format!(
                "INV-SIM-22: somebody waited for {queue} in vain while it held {}",
                show(std::slice::from_ref(value))
            ));
        }
        let missing: Vec<_> = acked.keys().filter(|v| !popped.contains(*v) && !seen.contains(*v)).collect();
        let allowed = self.pops_uncertain.get(queue.as_bytes()).copied().unwrap_or(0);
        if missing.len() as u64 > allowed {
            return Err(format!(
                "INV-SIM-5: {} elements of {queue} are missing, such as {}; {allowed} pops are uncertain",
                missing.len(),
                show(std::slice::from_ref(missing[0]))
            ));
        }
        Ok(())
    }
}

/// True for commands on streams.
fn is_of_streams(words: &Words) -> bool {
    words[0].starts_with(b"X")
}

/// The queues that a blocking pop waits for.
fn waited_for(words: &Words) -> &[Vec<u8>] {
    &words[1..words.len() - 1]
}

/// True for commands on queues of leased jobs.
fn is_of_jobs(words: &Words) -> bool {
    words[0].starts_with(b"Q")
}

/// The queue of such a command.
fn job_queue(words: &Words) -> &[u8] {
    if words[0] == b"QTAKE" { &words[2] } else { &words[1] }
}
