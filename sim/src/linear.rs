//! Is a history of one key linearizable? The search of Wing and Gong (1993) with Lowe's memoised configurations ("Testing
//! for linearizability", 2017): a configuration is the set of operations that took effect and the state they led to, and
//! none is searched twice. Keys are independent of one another, so each has a history of its own.
//!
//! An operation succeeded with an outcome, or it is uncertain: it took effect at some time after its invocation, or never.
//! Operations that failed for certain are left out by whoever writes the history. Operations of one session (a connection)
//! take effect in their order; one that is uncertain does so before those that were sent behind it before its session was
//! told, or never. That ends at a command about the connection (`WATCH`, `SELECT`), which waits until all before it are answered,
//! if only with that they are uncertain: what is behind it is carried out then.

pub mod jobs;

use std::collections::BTreeSet;
use std::fmt;

use jobs::{JobOp, JobTold, Jobs};

/// A value, unique among those written to the key.
pub type Token = u32;

/// Operations of one history: a configuration is one word. Whoever writes histories begins another key in time.
pub const OPS_MAX: usize = 64;
/// Configurations searched before the history counts as undecided, which is a failure of the plan and not a pass. Histories of
/// the size that the plan makes need some hundreds.
const CONFIGURATIONS_MAX: usize = 400_000;

/// What was asked of a register, a counter, a queue, or a queue of leased jobs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Get,
    Set(Token),
    /// A value is replaced, or absence is, if the key holds just that.
    Replace(Option<Token>, Token),
    GetSet(Token),
    SetNx(Token),
    Del,
    Incr,
    Push(Token),
    Pop,
    Range,
    Job(JobOp),
}

impl Op {
    /// True if it never changes anything.
    pub fn is_read(self) -> bool {
        matches!(self, Op::Get | Op::Range) || matches!(self, Op::Job(op) if op.is_read())
    }
}

/// What was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Done,
    Nil,
    Number(i64),
    Value(Token),
    List(Vec<Token>),
    Job(JobTold),
}

/// One operation of a history, which has them in the order in which their sessions sent them.
#[derive(Clone, Debug)]
pub struct Operation {
    pub session: u64,
    /// Commands about the connection that its session sent before it.
    pub stage: u64,
    pub op: Op,
    pub invoked: u64,
    /// When and what; `None` if that is uncertain.
    pub answered: Option<(u64, Outcome)>,
    /// When the session was told that it is uncertain; `u64::MAX` if it never was.
    pub told: u64,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}.. ", self.invoked)?;
        match &self.answered {
            Some((at, outcome)) => write!(f, "{at}] session {} {:?} gave {outcome:?}", self.session, self.op),
            None => write!(f, "] session {} {:?} is uncertain", self.session, self.op),
        }
    }
}

/// Why a history does not pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// No order of the operations explains the outcomes.
    Violation(String),
    /// The search was given up, or the history is too long for it.
    Undecided(String),
}

/// The state of the key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum State {
    Absent,
    Value(Token),
    Number(i64),
    List(Vec<Token>),
    Jobs(Jobs),
}

impl State {
    /// The state after an operation and what it answers; `None` if the key holds what it does not apply to. What `told` tells is of
    /// use where an answer does not follow from the state: the tokens of leases.
    fn apply(&self, op: Op, told: Option<&Outcome>) -> Option<(State, Outcome)> {
        if let Op::Job(op) = op {
            let told = told.and_then(|told| if let Outcome::Job(told) = told { Some(*told) } else { None });
            let (after, told) = match self {
                State::Absent => Jobs::default().apply(op, told),
                State::Jobs(jobs) => jobs.apply(op, told),
                _ => return None,
            };
            return Some((State::Jobs(after), Outcome::Job(told)));
        }
        let held = match self {
            State::Absent | State::Jobs(_) => Outcome::Nil,
            State::Value(token) => Outcome::Value(*token),
            State::Number(n) => Outcome::Number(*n),
            State::List(list) => Outcome::List(list.clone()),
        };
        Some(match (op, self) {
            (Op::Set(token), _) => (State::Value(token), Outcome::Done),
            (Op::Replace(seen, token), _) if held == seen.map_or(Outcome::Nil, Outcome::Value) => {
                (State::Value(token), Outcome::Done)
            }
            (Op::Del, _) => (State::Absent, Outcome::Number(i64::from(*self != State::Absent))),
            (Op::Range, State::Absent) => (State::Absent, Outcome::List(Vec::new())),
            (Op::Range, State::List(_)) | (Op::Get, State::Absent | State::Value(_) | State::Number(_)) => {
                (self.clone(), held)
            }
            (Op::GetSet(token), State::Absent | State::Value(_)) => (State::Value(token), held),
            (Op::SetNx(token), State::Absent) => (State::Value(token), Outcome::Number(1)),
            (Op::SetNx(_), _) => (self.clone(), Outcome::Number(0)),
            (Op::Incr, State::Absent) => (State::Number(1), Outcome::Number(1)),
            (Op::Incr, State::Number(n)) => (State::Number(n + 1), Outcome::Number(n + 1)),
            (Op::Push(token), State::Absent) => (State::List(vec![token]), Outcome::Number(1)),
            (Op::Push(token), State::List(list)) => {
                let list = [&list[..], &[token]].concat();
                let len = list.len() as i64;
                (State::List(list), Outcome::Number(len))
            }
            (Op::Pop, State::Absent) => (State::Absent, Outcome::Nil),
            (Op::Pop, State::List(list)) => {
                let left = if list.len() == 1 { State::Absent } else { State::List(list[1..].to_vec()) };
                (left, Outcome::Value(list[0]))
            }
            _ => return None,
        })
    }
}

/// Checks the history of one key, which was absent before.
///
/// Cost: exponential in how many operations overlap, bounded by a limit.
///
/// # Errors
/// [`Failure`] with the history in it.
pub fn check(history: &[Operation]) -> Result<(), Failure> {
    let history: Vec<&Operation> =
        history.iter().filter(|o| o.answered.is_some() || !o.op.is_read()).collect();
    if history.len() > OPS_MAX {
        return Err(Failure::Undecided(format!("{} operations, limit is {OPS_MAX}", history.len())));
    }
    let mut search = Search::new(&history);
    let found = search.run(0, &State::Absent);
    match found {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::Violation(search.explain())),
        None => Err(Failure::Undecided(format!(
            "{CONFIGURATIONS_MAX} configurations searched\n{}",
            search.explain()
        ))),
    }
}

struct Search<'a> {
    history: &'a [&'a Operation],
    /// The operations that were answered.
    answered: u64,
    /// Of each operation: those of its session that were answered and come before it, all of its session before it, and
    /// all behind it.
    answered_before: Vec<u64>,
    before: Vec<u64>,
    behind: Vec<u64>,
    seen: BTreeSet<(u64, State)>,
    /// The largest set of operations that could be ordered, for the report.
    best: u64,
}

impl<'a> Search<'a> {
    fn new(history: &'a [&'a Operation]) -> Search<'a> {
        let of = |keep: &dyn Fn(usize) -> bool| {
            (0..history.len()).filter(|i| keep(*i)).fold(0u64, |set, i| set | 1 << i)
        };
        let of_session = |i: usize, j: usize| history[i].session == history[j].session;
        let of_stage = |i: usize, j: usize| of_session(i, j) && history[i].stage == history[j].stage;
        let before: Vec<u64> = (0..history.len()).map(|i| of(&|j| j < i && of_session(i, j))).collect();
        let answered = of(&|i| history[i].answered.is_some());
        Search {
            history,
            answered,
            answered_before: before.iter().map(|set| set & answered).collect(),
            behind: (0..history.len())
                .map(|i| of(&|j| j > i && of_stage(i, j) && history[j].invoked <= history[i].told))
                .collect(),
            before,
            seen: BTreeSet::new(),
            best: 0,
        }
    }

    /// Searches on from a configuration: true if the rest can be ordered, `None` if the search was given up.
    fn run(&mut self, mut done: u64, state: &State) -> Option<bool> {
        // A read that fits may take effect at once: wherever else an order has it, it can be moved here.
        while let Some(read) = self.fitting_read(done, state) {
            done |= 1 << read;
        }
        if done.count_ones() > self.best.count_ones() {
            self.best = done;
        }
        if self.answered & !done == 0 {
            return Some(true);
        }
        if !self.seen.insert((done, state.clone())) {
            return Some(false);
        }
        if self.seen.len() > CONFIGURATIONS_MAX {
            return None;
        }
        for i in self.candidates(done) {
            let operation = self.history[i];
            let told = operation.answered.as_ref().map(|(_, told)| told);
            let Some((after, outcome)) = state.apply(operation.op, told) else { continue };
            if operation.answered.as_ref().is_some_and(|(_, seen)| *seen != outcome) {
                continue;
            }
            match self.run(done | 1 << i, &after) {
                Some(false) => {}
                found => return found,
            }
        }
        Some(false)
    }

    /// Operations that may be the next to take effect: those that were answered in the order of their answers, since one
    /// of the first is the likeliest, then those that are uncertain.
    fn candidates(&self, done: u64) -> Vec<usize> {
        let until = self.first_answer(done);
        let mut all: Vec<usize> =
            (0..self.history.len()).filter(|i| self.may_be_next(*i, done, until)).collect();
        all.sort_by_key(|i| self.history[*i].answered.as_ref().map_or(u64::MAX, |(at, _)| *at));
        all
    }

    /// A read that was answered with what the state is, and that keeps nothing else from taking effect.
    fn fitting_read(&self, done: u64, state: &State) -> Option<usize> {
        let until = self.first_answer(done);
        (0..self.history.len()).find(|i| {
            let operation = self.history[*i];
            operation.op.is_read()
                && self.before[*i] & !done == 0
                && self.may_be_next(*i, done, until)
                && state.apply(operation.op, None).map(|(_, outcome)| outcome)
                    == operation.answered.as_ref().map(|(_, outcome)| outcome.clone())
        })
    }

    /// The first answer among the operations that have not taken effect: what was invoked behind it comes behind it.
    fn first_answer(&self, done: u64) -> u64 {
        let left = (0..self.history.len()).filter(|i| done & 1 << i == 0);
        left.filter_map(|i| self.history[i].answered.as_ref()).map(|(at, _)| *at).min().unwrap_or(u64::MAX)
    }

    fn may_be_next(&self, i: usize, done: u64, until: u64) -> bool {
        done & 1 << i == 0
            && self.history[i].invoked <= until
            && self.answered_before[i] & !done == 0
            && self.behind[i] & done == 0
    }

    fn explain(&self) -> String {
        let mut text = String::from("no order explains all of:");
        for (i, operation) in self.history.iter().enumerate() {
            let mark = if self.best & 1 << i == 0 { "  <- not in the longest order found" } else { "" };
            text.push_str(&format!("\n  {operation}{mark}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Session, from, to, operation, outcome.
    fn ok(session: u64, invoked: u64, at: u64, op: Op, outcome: Outcome) -> Operation {
        Operation { session, stage: 0, op, invoked, answered: Some((at, outcome)), told: u64::MAX }
    }

    fn uncertain(session: u64, invoked: u64, op: Op) -> Operation {
        Operation { session, stage: 0, op, invoked, answered: None, told: u64::MAX }
    }

    fn passes(history: &[Operation]) -> bool {
        match check(history) {
            Ok(()) => true,
            Err(Failure::Violation(_)) => false,
            Err(Failure::Undecided(why)) => panic!("undecided: {why}"),
        }
    }

    use Outcome::{Done, List, Nil, Number, Value};

    #[test]
    fn operations_in_sequence_must_give_what_a_map_gives() {
        let mut history = vec![
            ok(1, 0, 1, Op::Get, Nil),
            ok(1, 2, 3, Op::Set(7), Done),
            ok(1, 4, 5, Op::Get, Value(7)),
            ok(1, 6, 7, Op::SetNx(8), Number(0)),
            ok(1, 8, 9, Op::GetSet(9), Value(7)),
            ok(1, 10, 11, Op::Del, Number(1)),
            ok(1, 12, 13, Op::SetNx(10), Number(1)),
            ok(1, 14, 15, Op::Get, Value(10)),
        ];
        assert!(passes(&history));
        history[7] = ok(1, 14, 15, Op::Get, Value(9));
        assert!(!passes(&history));
    }

    #[test]
    fn a_read_concurrent_with_a_write_sees_either_but_never_goes_back() {
        let write = ok(1, 10, 50, Op::Set(1), Done);
        assert!(passes(&[write.clone(), ok(2, 20, 30, Op::Get, Nil)]));
        assert!(passes(&[write.clone(), ok(2, 20, 30, Op::Get, Value(1))]));
        let back = [write.clone(), ok(2, 20, 25, Op::Get, Value(1)), ok(3, 30, 35, Op::Get, Nil)];
        assert!(!passes(&back));
        assert!(!passes(&[write.clone(), ok(2, 60, 70, Op::Get, Nil)]), "a stale read");
        assert!(!passes(&[write, ok(2, 0, 5, Op::Get, Value(1))]), "a read from the future");
    }

    #[test]
    fn of_two_that_replace_what_both_have_read_one_may_succeed() {
        let read = |session, at, value| ok(session, at, at + 1, Op::Get, value);
        let replace = |session, at, seen, token| ok(session, at, at + 9, Op::Replace(seen, token), Done);
        let both = [ok(1, 0, 1, Op::Set(1), Done), read(1, 2, Value(1)), read(2, 3, Value(1))];
        let with = |more: &[Operation]| passes(&[&both[..], more].concat());
        assert!(with(&[replace(1, 10, Some(1), 2), read(3, 30, Value(2))]));
        assert!(!with(&[replace(1, 10, Some(1), 2), replace(2, 12, Some(1), 3)]), "an update is lost");
        assert!(with(&[replace(1, 10, Some(1), 2), replace(2, 12, Some(2), 3), read(3, 30, Value(3))]));
        let late = uncertain(1, 10, Op::Replace(Some(1), 2));
        assert!(with(&[late.clone(), replace(2, 12, Some(1), 3), read(3, 30, Value(3))]));
        assert!(!with(&[late, replace(2, 12, Some(1), 3), read(3, 30, Value(3)), read(3, 40, Value(2))]));
        assert!(passes(&[replace(1, 0, None, 1), read(2, 20, Value(1))]));
        assert!(!passes(&[replace(1, 0, None, 1), replace(2, 0, None, 2)]));
    }

    #[test]
    fn a_value_that_nobody_wrote_is_a_violation() {
        assert!(!passes(&[ok(1, 0, 1, Op::Get, Value(5))]));
        assert!(!passes(&[ok(1, 0, 1, Op::Range, List(vec![5]))]));
    }

    #[test]
    fn an_uncertain_write_takes_effect_late_or_never_but_not_twice() {
        let write = uncertain(1, 0, Op::Set(1));
        let second = ok(2, 10, 20, Op::Set(2), Done);
        let seen = |at, value| ok(3, at, at + 1, Op::Get, value);
        assert!(passes(&[write.clone(), second.clone(), seen(30, Value(2))]));
        assert!(passes(&[write.clone(), second.clone(), seen(30, Value(2)), seen(40, Value(1))]));
        let twice = [write, second, seen(5, Value(1)), seen(30, Value(2)), seen(40, Value(1))];
        assert!(!passes(&twice));
    }

    #[test]
    fn an_uncertain_write_has_no_effect_before_it_was_invoked() {
        assert!(!passes(&[ok(2, 0, 5, Op::Get, Value(1)), uncertain(1, 10, Op::Set(1))]));
    }

    #[test]
    fn counters_count_each_increment_once() {
        let three = [
            ok(1, 0, 10, Op::Incr, Number(2)),
            ok(2, 0, 10, Op::Incr, Number(1)),
            uncertain(3, 0, Op::Incr),
            ok(1, 20, 30, Op::Get, Number(3)),
        ];
        assert!(passes(&three));
        let mut doubled = three.clone();
        doubled[3] = ok(1, 20, 30, Op::Get, Number(4));
        assert!(!passes(&doubled), "an uncertain increment was carried out twice");
        let mut lost = three;
        lost[3] = ok(1, 20, 30, Op::Get, Number(1));
        assert!(!passes(&lost));
    }

    #[test]
    fn queues_give_each_element_once_and_in_order() {
        let pushes = [ok(1, 0, 1, Op::Push(1), Number(1)), ok(1, 2, 3, Op::Push(2), Number(2))];
        let with = |more: &[Operation]| [&pushes[..], more].concat();
        assert!(passes(&with(&[ok(2, 4, 5, Op::Pop, Value(1)), ok(2, 6, 7, Op::Range, List(vec![2]))])));
        assert!(!passes(&with(&[ok(2, 4, 5, Op::Pop, Value(2))])), "out of order");
        let popped_twice = with(&[ok(2, 4, 5, Op::Pop, Value(1)), ok(3, 6, 7, Op::Pop, Value(1))]);
        assert!(!passes(&popped_twice));
        let pop_lost = with(&[uncertain(2, 4, Op::Pop), ok(3, 6, 7, Op::Range, List(vec![2]))]);
        assert!(passes(&pop_lost));
        let pushed_twice = with(&[ok(2, 4, 5, Op::Range, List(vec![1, 2, 2]))]);
        assert!(!passes(&pushed_twice));
        assert!(passes(&with(&[
            ok(2, 4, 5, Op::Pop, Value(1)),
            ok(2, 6, 7, Op::Pop, Value(2)),
            ok(2, 8, 9, Op::Pop, Nil),
            ok(2, 8, 9, Op::Range, List(vec![])),
        ])));
    }

    #[test]
    fn a_pipeline_keeps_its_order() {
        let read = ok(2, 20, 21, Op::Get, Value(1));
        let one = ok(1, 0, 10, Op::Set(1), Done);
        let two = ok(1, 0, 10, Op::Set(2), Done);
        assert!(!passes(&[one.clone(), two.clone(), read.clone()]), "the first of a pipeline came last");
        let other = Operation { session: 9, ..two.clone() };
        assert!(passes(&[one, other, read.clone()]), "of two connections either may come last");
        let behind = [uncertain(1, 0, Op::Set(1)), two, ok(3, 15, 16, Op::Get, Value(2)), read];
        assert!(!passes(&behind), "an uncertain one must not overtake those sent behind it");
        let [first, rest @ ..] = behind;
        let told = Operation { told: 5, ..first };
        let later = rest.map(|o| Operation { invoked: o.invoked.max(6), ..o });
        assert!(
            passes(&[&[told][..], &later].concat()),
            "once its session was told, it may come at any time"
        );
    }

    #[test]
    fn what_waits_until_all_before_it_are_answered_is_carried_out_then() {
        // SET, WATCH, GET as one pipeline, whose SET the disk does not take in time; the SET is carried out later (seed 410).
        let old = ok(2, 0, 1, Op::Set(1), Done);
        let late = Operation { told: 20, ..uncertain(1, 10, Op::Set(2)) };
        let read = ok(1, 10, 20, Op::Get, Value(1));
        let seen = ok(3, 30, 31, Op::Get, Value(2));
        assert!(!passes(&[old.clone(), late.clone(), read.clone(), seen.clone()]), "it was overtaken");
        let behind = Operation { stage: 1, ..read };
        assert!(passes(&[old, late, behind, seen]));
    }

    #[test]
    fn too_much_to_decide_is_said_and_is_no_pass() {
        let many: Vec<Operation> = (0..OPS_MAX as u32 + 1).map(|i| ok(1, 0, 1, Op::Set(i), Done)).collect();
        assert!(matches!(check(&many), Err(Failure::Undecided(_))));
        let mut wide: Vec<Operation> = (0..40).map(|i| uncertain(i, 0, Op::Push(i as u32))).collect();
        wide.push(ok(99, 100, 101, Op::Range, List(vec![77])));
        assert!(matches!(check(&wide), Err(Failure::Undecided(_))));
    }

    /// Histories made by carrying out operations at an instant of their interval pass; the same with one answer changed to
    /// that of another run mostly do not, and never for a wrong reason: each is compared with all orders, tried plainly.
    #[test]
    fn agrees_with_trying_all_orders() {
        let mut rng = skep_base::Rng::new(5);
        let mut violations = 0;
        for _ in 0..3_000 {
            let history = small_history(&mut rng);
            let expected = any_order(&history, 0, &State::Absent);
            assert_eq!(passes(&history), expected, "{history:?}");
            violations += u32::from(!expected);
        }
        assert!((300..2_700).contains(&violations), "{violations}");
    }

    fn small_history(rng: &mut skep_base::Rng) -> Vec<Operation> {
        let kind = rng.below(3);
        (0..6)
            .map(|i| {
                let op = match (kind, rng.below(4)) {
                    (0, 0) => Op::Get,
                    (0, 1) => Op::Set(i),
                    (0, 2) => Op::GetSet(i),
                    (0, _) => Op::Del,
                    (1, 0) => Op::Get,
                    (1, _) => Op::Incr,
                    (_, 0) => Op::Range,
                    (_, 1) => Op::Pop,
                    _ => Op::Push(i),
                };
                let token = rng.below(6) as u32;
                let outcome = match op {
                    Op::Set(_) => Done,
                    Op::Get if kind == 1 => Number(1 + rng.below(3) as i64),
                    Op::Incr | Op::Push(_) => Number(1 + rng.below(3) as i64),
                    Op::Del => Number(rng.below(2) as i64),
                    Op::Range => List((0..rng.below(2) as u32).map(|n| (token + n) % 6).collect()),
                    _ if rng.one_in(2) => Nil,
                    _ => Value(token),
                };
                let invoked = u64::from(i) * 10;
                let session = rng.below(3);
                let answered = (!rng.one_in(3)).then(|| (invoked + 1 + rng.below(60), outcome));
                let told = if rng.one_in(2) { u64::MAX } else { invoked + rng.below(40) };
                Operation { session, stage: 0, op, invoked, answered, told }
            })
            .collect()
    }

    /// The definition, without any cleverness.
    fn any_order(history: &[Operation], done: u64, state: &State) -> bool {
        let left: Vec<usize> = (0..history.len()).filter(|i| done & 1 << i == 0).collect();
        if left.iter().all(|i| history[*i].answered.is_none()) {
            return true;
        }
        left.iter().any(|i| {
            let one = &history[*i];
            let too_late = left.iter().any(|j| {
                let other = &history[*j];
                let ended = other.answered.as_ref().is_some_and(|(at, _)| *at < one.invoked);
                ended || (j < i && other.session == one.session && other.answered.is_some())
            });
            let is_behind = |j: usize| history[j].session == one.session && history[j].invoked <= one.told;
            let overtakes = (*i + 1..history.len()).any(|j| done & 1 << j != 0 && is_behind(j));
            if too_late || overtakes {
                return false;
            }
            let Some((after, outcome)) = state.apply(one.op, None) else { return false };
            one.answered.as_ref().is_none_or(|(_, seen)| *seen == outcome)
                && any_order(history, done | 1 << i, &after)
        })
    }
}
