//! Names of upstreams: when each is asked for, and which addresses it has.
//!
//! Owns what is known of each name. Does not ask: the shell does, and tells what it heard. [`expand`] puts the addresses in
//! the places of the names.
//!
//! INV-GATE-18: a name that had addresses once has some, whatever name servers say or do not say; two questions for one
//! name begin at least `ttl-min` apart, and one is under way at a time.

mod expand;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use skep_base::{Micros, Rng};

use crate::config::dns::Dns;
use crate::config::pool::UPSTREAMS_MAX;

pub use expand::{Expanded, Origins, expand, names_of};

/// Questions under way. Name servers drop what comes in floods.
pub const ASKED_MAX: usize = 64;

/// What was heard of a name's addresses of one family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    Found(Vec<IpAddr>),
    /// There are none of this family (NODATA), no such name (NXDOMAIN), or it was not asked for.
    Nothing,
    /// Nobody answered, or said why not.
    Silence,
}

/// What a question brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub v4: Heard,
    pub v6: Heard,
    /// For how long it holds by its own word; of several records the least.
    pub ttl: Micros,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input<'a> {
    Answered {
        name: &'a str,
        answer: Answer,
    },
    /// No connection could be made to an address of this name: it may have moved.
    Unreachable {
        name: &'a str,
    },
    Tick,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Ask for the addresses of this name, and tell what was heard, be it silence.
    Ask {
        name: Arc<str>,
    },
    /// [`Names::addresses`] or [`Names::is_settled`] says something else of this name.
    Changed {
        name: Arc<str>,
    },
    Note(Note),
}

/// What is worth a line in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// A name has other addresses.
    Moved { name: Arc<str>, addresses: Vec<IpAddr> },
    /// The first of some questions without an address; so many addresses are kept.
    Lost { name: Arc<str>, why: Lost, kept: usize },
    /// A name that was lost has addresses again.
    Back { name: Arc<str> },
}

/// Why a question brought no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// Name servers say that there is none.
    Nothing,
    Silence,
}

/// Counts since the beginning, and of the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Names that are looked up.
    pub names: u64,
    /// Of those, the ones whose last question brought nothing.
    pub lost: u64,
    pub asked: u64,
    /// Questions that brought nothing.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Name {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    asking: bool,
    /// When it was asked for last.
    began: Option<Micros>,
    /// When it is asked for next; not kept while a question is under way.
    next: Micros,
    /// Questions in a row that brought nothing.
    failures: u32,
    /// It was asked for, with or without success.
    settled: bool,
}

impl Name {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.iter().chain(&self.v6).copied()
    }
}

/// All names of a configuration.
#[derive(Debug)]
pub struct Names {
    ttl_min: Micros,
    ttl_max: Micros,
    all: BTreeMap<Arc<str>, Name>,
    /// Those that are not being asked for, by when they are.
    due: BTreeSet<(Micros, Arc<str>)>,
    asking: usize,
    rng: Rng,
    asked: u64,
    failed: u64,
}

impl Names {
    pub fn new(seed: u64) -> Names {
        let Dns { ttl_min, ttl_max, .. } = Dns::default();
        let (all, due) = (BTreeMap::new(), BTreeSet::new());
        Names { ttl_min, ttl_max, all, due, asking: 0, rng: Rng::new(seed), asked: 0, failed: 0 }
    }

    /// Takes in a configuration: `names` are needed, and no others. New ones are due at once; so are all when it is others
    /// who are asked, or for something else, as `anew` says.
    pub fn configure<'n>(
        &mut self,
        now: Micros,
        rule: &Dns,
        names: impl Iterator<Item = &'n str>,
        anew: bool,
    ) {
        (self.ttl_min, self.ttl_max) = (rule.ttl_min, rule.ttl_max);
        let needed: BTreeSet<&str> = names.collect();
        self.all.retain(|name, _| needed.contains(&**name));
        for name in needed {
            if !self.all.contains_key(name) {
                self.all.insert(name.into(), Name { next: now, ..Name::default() });
            }
        }
        // Of a name that is gone nothing is waited for.
        self.asking = self.all.values().filter(|name| name.asking).count();
        self.due.clear();
        for (text, name) in &mut self.all {
            let bound = name.began.map_or(now, |began| began.plus(self.ttl_max));
            name.next = if anew { now } else { name.next.min(bound.max(now)) };
            if !name.asking {
                self.due.insert((name.next, Arc::clone(text)));
            }
        }
    }

    /// Advances by one event; what is to be done is added to `out`, in order.
    pub fn handle(&mut self, now: Micros, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Answered { name, answer } => self.on_answer(now, name, answer, out),
            Input::Unreachable { name } => self.on_unreachable(now, name),
            Input::Tick => {}
        }
        while self.asking < ASKED_MAX
            && let Some((at, _)) = self.due.first()
            && *at <= now
        {
            let (_, text) = self.due.pop_first().expect("it was there");
            let name = self.all.get_mut(&text).expect("what is due is known");
            (name.asking, name.began) = (true, Some(now));
            self.asking += 1;
            self.asked += 1;
            out.push(Output::Ask { name: text });
        }
    }

    /// When [`Input::Tick`] has something to do.
    pub fn next_wakeup(&self) -> Option<Micros> {
        let first = self.due.first().map(|(at, _)| *at);
        first.filter(|_| self.asking < ASKED_MAX)
    }

    /// The addresses of a name, in an order that does not depend on that of answers. None if it never had any.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.all.get(name).map(|name| name.addresses().collect()).unwrap_or_default()
    }

    /// True if a name was asked for, with or without success.
    pub fn is_settled(&self, name: &str) -> bool {
        self.all.get(name).is_some_and(|name| name.settled)
    }

    pub fn stats(&self) -> Stats {
        let lost = self.all.values().filter(|name| name.failures > 0).count();
        Stats { names: self.all.len() as u64, lost: lost as u64, asked: self.asked, failed: self.failed }
    }

    /// Panics, naming the broken rule, if the state is impossible.
    pub fn assert_invariants(&self) {
        let asking = self.all.values().filter(|name| name.asking).count();
        assert_eq!(asking, self.asking, "questions under way are miscounted");
        assert_eq!(self.due.len() + asking, self.all.len(), "a name is neither asked for nor due");
        for (at, text) in &self.due {
            assert_eq!(self.all[text].next, *at, "{text} is due at two times");
        }
    }

    fn on_answer(&mut self, now: Micros, text: &str, answer: Answer, out: &mut Vec<Output>) {
        let Some((text, _)) = self.all.get_key_value(text) else { return };
        let text = Arc::clone(text);
        let name = self.all.get_mut(&text).expect("it was there");
        if !name.asking {
            return;
        }
        name.asking = false;
        self.asking -= 1;
        let before = (name.settled, name.v4.clone(), name.v6.clone());
        name.settled = true;
        let is_found = |heard: &Heard| matches!(heard, Heard::Found(found) if !found.is_empty());
        let wait = if is_found(&answer.v4) || is_found(&answer.v6) {
            take(&mut name.v4, answer.v4);
            take(&mut name.v6, answer.v6);
            if name.failures > 0 {
                out.push(Output::Note(Note::Back { name: Arc::clone(&text) }));
            }
            name.failures = 0;
            answer.ttl.clamp(self.ttl_min, self.ttl_max)
        } else {
            self.failed += 1;
            name.failures = name.failures.saturating_add(1);
            if name.failures == 1 {
                let silent = answer.v4 == Heard::Silence || answer.v6 == Heard::Silence;
                let why = if silent { Lost::Silence } else { Lost::Nothing };
                let kept = name.addresses().count();
                out.push(Output::Note(Note::Lost { name: Arc::clone(&text), why, kept }));
            }
            back_off(self.ttl_min, self.ttl_max, name.failures, &mut self.rng)
        };
        name.next = now.plus(wait);
        self.due.insert((name.next, Arc::clone(&text)));
        if before.0 && (&before.1, &before.2) == (&name.v4, &name.v6) {
            return;
        }
        if (&before.1, &before.2) != (&name.v4, &name.v6) {
            let addresses = name.addresses().collect();
            out.push(Output::Note(Note::Moved { name: Arc::clone(&text), addresses }));
        }
        out.push(Output::Changed { name: text });
    }

    fn on_unreachable(&mut self, now: Micros, text: &str) {
        let Some((text, _)) = self.all.get_key_value(text) else { return };
        let text = Arc::clone(text);
        let name = self.all.get_mut(&text).expect("it was there");
        // While name servers say nothing, their back-off holds.
        if name.asking || name.failures > 0 {
            return;
        }
        let soonest = name.began.map_or(now, |began| began.plus(self.ttl_min)).max(now);
        if soonest < name.next {
            self.due.remove(&(name.next, Arc::clone(&text)));
            name.next = soonest;
            self.due.insert((soonest, text));
        }
    }
}

/// What is known of a family after an answer of which a part was good.
fn take(known: &mut Vec<IpAddr>, heard: Heard) {
    match heard {
        Heard::Found(mut found) => {
            found.sort_unstable();
            found.dedup();
            found.truncate(UPSTREAMS_MAX);
            *known = found;
        }
        Heard::Nothing => known.clear(),
        Heard::Silence => {}
    }
}

/// Doubles from `ttl-min` up to `ttl-max`; the later half of it is random, so that nodes do not ask in step.
fn back_off(ttl_min: Micros, ttl_max: Micros, failures: u32, rng: &mut Rng) -> Micros {
    let longest = ttl_min.0.saturating_mul(1 << failures.min(32)).min(ttl_max.0);
    Micros(longest - rng.below(longest / 2 + 1)).max(ttl_min)
}
