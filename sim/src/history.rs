//! Keys that all clients write, and the history of each for the checker of [`crate::linear`].
//!
//! A key takes a bounded number of operations and of uncertain ones; then its place is taken by a fresh one, so that a history can
//! always be decided. All of them are read once more at the end.

use skep_base::Rng;

use crate::linear::jobs::{JobOp, JobTold, NAMES};
use crate::linear::{self, Failure, OPS_MAX, Op, Operation, Outcome, Token};
use crate::model::{Plain, Words, show};
use crate::planted::Planted;

/// The database of these keys, which nothing else touches.
pub const HISTORY_DB: u8 = 7;

/// Operations that clients send to one key; the rest of [`OPS_MAX`] is for the reads at the end.
const OPS_PER_KEY: usize = OPS_MAX - 16;
/// Operations on one key that are uncertain or may become so: each doubles the orders to be tried.
const UNCERTAIN_PER_KEY: usize = 10;
/// Marks the sessions of operations that were sent again, which are told apart by their tokens.
const RETRIED: u64 = 1 << 63;
/// The place of the register that is only replaced.
const GUARDED: usize = 2;
/// Keys in use at a time.
const PLACES: [(Kind, &str); 7] = [
    (Kind::Register, "r0"),
    (Kind::Register, "r1"),
    (Kind::Guarded, "w0"),
    (Kind::Counter, "c0"),
    (Kind::Queue, "q0"),
    (Kind::Queue, "q1"),
    (Kind::Jobs, "j0"),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Register,
    /// A register that is written only by those who watched it since they read it.
    Guarded,
    Counter,
    Queue,
    /// A queue of leased jobs.
    Jobs,
}

/// An operation of some key's history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpRef {
    key: usize,
    op: usize,
}

struct Key {
    name: Vec<u8>,
    kind: Kind,
    history: Vec<Recorded>,
    /// Operations that are uncertain or have no answer yet.
    open: usize,
    /// Leases of jobs that somebody was told of.
    leases: Vec<(u8, i64)>,
}

/// What became of an operation.
enum Fate {
    Waiting,
    /// Not carried out, for certain.
    Refused,
    /// And since when the client knows that.
    Uncertain(u64),
    Answered(u64, Outcome),
}

/// Who sends an operation.
#[derive(Clone, Copy)]
pub struct Sender {
    /// One connection, among those of all clients.
    pub session: u64,
    /// Commands about the connection that were sent on it before.
    pub stage: u64,
}

struct Recorded {
    session: u64,
    stage: u64,
    op: Op,
    invoked: u64,
    fate: Fate,
    /// Of `ONCE`, if it is sent with one.
    token: Option<Token>,
    /// It was sent again.
    retried: bool,
}

/// The histories of all keys.
pub struct Histories {
    keys: Vec<Key>,
    /// The key of each of [`PLACES`].
    current: Vec<usize>,
    tokens: Token,
    /// Uncertain operations with a token, which can be sent again.
    to_retry: Vec<OpRef>,
    /// For a planted bug: they are sent again without their token.
    forgets_tokens: bool,
    /// For a planted bug: what is replaced was not watched.
    forgets_watch: bool,
    /// For a planted bug: jobs are added without their word of `DEDUP`.
    forgets_word: bool,
    /// With memory durability, after a crash, nothing is certain.
    lossy: bool,
}

impl Histories {
    pub fn new(planted: Option<Planted>) -> Histories {
        let mut histories = Histories {
            keys: Vec::new(),
            current: Vec::new(),
            tokens: 0,
            to_retry: Vec::new(),
            forgets_tokens: planted == Some(Planted::RetryWithoutToken),
            forgets_watch: planted == Some(Planted::WatchLeftOut),
            forgets_word: planted == Some(Planted::WordLeftOut),
            lossy: false,
        };
        for place in 0..PLACES.len() {
            histories.current.push(place);
            histories.open(place);
        }
        histories
    }

    /// A command that leaves at `at`.
    pub fn next(&mut self, rng: &mut Rng, from: Sender, at: u64) -> (Words, OpRef) {
        if !self.to_retry.is_empty() && rng.one_in(3) {
            return self.retry(rng.below(self.to_retry.len() as u64) as usize);
        }
        let place = rng.below(PLACES.len() as u64) as usize;
        self.tokens += 1;
        let op = match PLACES[place].0 {
            Kind::Jobs => Op::Job(draw_of_jobs(&self.keys[self.current[place]].leases, rng)),
            kind => draw(kind, self.tokens, rng),
        };
        let once = !op.is_read() && rng.one_in(3);
        self.send_to(place, op, from, at, once)
    }

    /// A write, or a read, of the key that shows best whether reads are stale.
    pub fn probe(&mut self, writes: bool, from: Sender, at: u64) -> (Words, OpRef) {
        self.tokens += 1;
        let op = if writes { Op::Set(self.tokens) } else { Op::Get };
        self.send_to(0, op, from, at, false)
    }

    /// A read of a register that is to be replaced, see [`Histories::replace`].
    pub fn read_to_replace(&mut self, rng: &mut Rng, from: Sender, at: u64) -> (Words, OpRef) {
        let place = if rng.one_in(2) { GUARDED } else { rng.below(2) as usize };
        self.send_to(place, Op::Get, from, at, false)
    }

    /// What replaces a register in a transaction, if it is still what was read; `None` if it is to be left as it is.
    pub fn replace(&mut self, read: OpRef, from: Sender, at: u64) -> Option<(Words, OpRef)> {
        let key = &self.keys[read.key];
        let Fate::Answered(_, seen) = &key.history[read.op].fate else { return None };
        if key.history.len() >= OPS_PER_KEY || key.open >= UNCERTAIN_PER_KEY {
            return None;
        }
        let seen = if let Outcome::Value(token) = seen { Some(*token) } else { None };
        self.tokens += 1;
        Some(self.send(read.key, Op::Replace(seen, self.tokens), from, at, false))
    }

    /// True if clients do not watch what they replace.
    pub fn forgets_watch(&self) -> bool {
        self.forgets_watch
    }

    fn send_to(&mut self, place: usize, op: Op, from: Sender, at: u64, once: bool) -> (Words, OpRef) {
        let key = &self.keys[self.current[place]];
        if key.history.len() >= OPS_PER_KEY || key.open >= UNCERTAIN_PER_KEY {
            self.current[place] = self.keys.len();
            self.open(place);
        }
        self.send(self.current[place], op, from, at, once)
    }

    /// An operation that is uncertain is sent once more with its token, on any connection.
    fn retry(&mut self, which: usize) -> (Words, OpRef) {
        let op = self.to_retry.swap_remove(which);
        let Key { name, history, .. } = &mut self.keys[op.key];
        let recorded = &mut history[op.op];
        // From here on it belongs to no connection: nothing that is sent on one waits for it.
        recorded.session = RETRIED | u64::from(recorded.token.unwrap_or_default());
        (recorded.retried, recorded.fate) = (true, Fate::Waiting);
        (words(name, recorded.op, recorded.token.filter(|_| !self.forgets_tokens), self.forgets_word), op)
    }

    /// A read of each key for the end.
    pub fn final_reads(&mut self, from: Sender, at: u64) -> Vec<(Words, OpRef)> {
        let reads = |key: &Key| match key.kind {
            Kind::Queue => vec![Op::Range],
            Kind::Jobs => {
                let of = |name| [JobOp::Look(name), JobOp::LookMoved(name)].map(Op::Job);
                NAMES.map(of).concat()
            }
            _ => vec![Op::Get],
        };
        let all: Vec<_> = self.keys.iter().map(reads).enumerate().collect();
        let mut send = |key, op| self.send(key, op, from, at, false);
        all.into_iter()
            .flat_map(|(key, ops)| ops.into_iter().map(|op| send(key, op)).collect::<Vec<_>>())
            .collect()
    }

    /// Takes note of a reply.
    ///
    /// # Errors
    /// A reply that no command on the key can have.
    pub fn on_reply(&mut self, at: u64, op: OpRef, words: &Words, reply: &Plain) -> Result<(), String> {
        let key = &mut self.keys[op.key];
        let recorded = &mut key.history[op.op];
        // That it is not done this time says nothing of the time before.
        if reply.is_uncertain() || recorded.retried && reply.is_refusal() {
            recorded.fate = Fate::Uncertain(at);
            self.to_retry.extend(recorded.token.map(|_| op));
            return Ok(());
        }
        key.open -= 1;
        if let Op::Job(op) = recorded.op
            && let Some(JobTold::Lease(name, token, _)) = op.told(reply)
        {
            key.leases.push((name, token));
        }
        recorded.fate = match outcome(key.kind, recorded.op, reply) {
            _ if reply.is_refusal() => Fate::Refused,
            Some(outcome) => Fate::Answered(at, outcome),
            None => return Err(format!("INV-SIM-15: {} was answered {reply:?}", show(words))),
        };
        Ok(())
    }

    /// The answer to an operation will never come.
    pub fn on_lost(&mut self, op: OpRef) {
        let recorded = &mut self.keys[op.key].history[op.op];
        recorded.fate = Fate::Uncertain(u64::MAX);
        self.to_retry.extend(recorded.token.map(|_| op));
    }

    /// A crash lost acknowledged writes, as memory durability admits.
    pub fn on_lossy_crash(&mut self) {
        self.lossy = true;
    }

    /// Operations that were answered, and that are uncertain.
    pub fn counts(&self) -> (u64, u64) {
        let all = || self.keys.iter().flat_map(|k| &k.history);
        let answered = all().filter(|r| matches!(r.fate, Fate::Answered(..))).count();
        (answered as u64, all().filter(|r| matches!(r.fate, Fate::Uncertain(_))).count() as u64)
    }

    /// Registers that were replaced while they were watched, and attempts that were stopped.
    pub fn replaced(&self) -> (u64, u64) {
        let ended = |with: Outcome| {
            let all = self.keys.iter().flat_map(|key| &key.history);
            let is_one = |r: &&Recorded| {
                matches!(r.op, Op::Replace(..))
                    && matches!(&r.fate, Fate::Answered(_, outcome) if *outcome == with)
            };
            all.filter(is_one).count() as u64
        };
        (ended(Outcome::Done), ended(Outcome::Nil))
    }

    /// Checks all histories. Gives the number of keys.
    ///
    /// # Errors
    /// The first history that is not linearizable, or not decided.
    pub fn check(&self) -> Result<u64, String> {
        if self.lossy {
            return Ok(0);
        }
        for key in &self.keys {
            let history: Vec<Operation> = key.history.iter().filter_map(Recorded::operation).collect();
            linear::check(&history).map_err(|failure| {
                let name = String::from_utf8_lossy(&key.name);
                match failure {
                    Failure::Violation(why) => format!("INV-SIM-15: {name} is not linearizable: {why}"),
                    Failure::Undecided(why) => format!("the plan made too long a history of {name}: {why}"),
                }
            })?;
        }
        Ok(self.keys.len() as u64)
    }

    fn open(&mut self, place: usize) {
        let (kind, name) = PLACES[place];
        let name = format!("{name}:{}", self.keys.len()).into_bytes();
        self.keys.push(Key { name, kind, history: Vec::new(), open: 0, leases: Vec::new() });
    }

    fn send(&mut self, key: usize, op: Op, from: Sender, at: u64, once: bool) -> (Words, OpRef) {
        let Key { name, history, open, .. } = &mut self.keys[key];
        *open += 1;
        let token = once.then_some(self.tokens);
        let Sender { session, stage } = from;
        history.push(Recorded {
            session,
            stage,
            op,
            invoked: at,
            fate: Fate::Waiting,
            token,
            retried: false,
        });
        let token = token.filter(|_| !self.forgets_tokens);
        (words(name, op, token, self.forgets_word), OpRef { key, op: history.len() - 1 })
    }
}

impl Recorded {
    fn operation(&self) -> Option<Operation> {
        let Recorded { session, stage, op, invoked, .. } = *self;
        let (answered, told) = match &self.fate {
            Fate::Refused => return None,
            // It was stopped, as it may be for a change in front of the read, too.
            Fate::Answered(_, Outcome::Nil) if matches!(op, Op::Replace(..)) => return None,
            Fate::Waiting => (None, u64::MAX),
            Fate::Uncertain(told) => (None, *told),
            Fate::Answered(at, outcome) => (Some((*at, outcome.clone())), u64::MAX),
        };
        Some(Operation { session, stage, op, invoked, answered, told })
    }
}

fn draw(kind: Kind, token: Token, rng: &mut Rng) -> Op {
    match (kind, rng.below(10)) {
        (Kind::Register, 0..4) => Op::Get,
        (Kind::Register, 4..7) => Op::Set(token),
        (Kind::Register, 7) => Op::GetSet(token),
        (Kind::Register, 8) => Op::SetNx(token),
        (Kind::Register, _) => Op::Del,
        (Kind::Guarded, _) => Op::Get,
        (Kind::Counter, 0..3) => Op::Get,
        (Kind::Counter, _) => Op::Incr,
        (Kind::Queue, 0..5) => Op::Push(token),
        (Kind::Queue, 5..8) => Op::Pop,
        (Kind::Queue, _) => Op::Range,
        (Kind::Jobs, _) => unreachable!("drawn by leases"),
    }
}

/// Something to do with jobs, of which these leases are known.
fn draw_of_jobs(leases: &[(u8, i64)], rng: &mut Rng) -> JobOp {
    let name = NAMES[rng.below(NAMES.len() as u64) as usize];
    // One of the last; the last one as a rule.
    let back = rng.below(2) * rng.below(3);
    let (of, token) = leases.iter().rev().nth(back as usize).copied().unwrap_or((name, 1));
    // Two times in three what hinders is not set: in a paused queue little happens.
    let on = rng.one_in(3);
    match rng.below(33) {
        0 | 1 => JobOp::Add(name),
        2 | 3 => JobOp::AddUnderWord(name),
        4..9 => JobOp::Take,
        9 | 10 => JobOp::Ack(of, token),
        11 | 12 => JobOp::Fail(of, token),
        13 => JobOp::FailDead(of, token),
        14 => JobOp::Free(of, token),
        15 => JobOp::Redo(name),
        16 => JobOp::RedoAll,
        17 => [JobOp::Drop(name), JobOp::DropAll][rng.below(2) as usize],
        18..22 => JobOp::AddToGroup(name),
        22 | 23 => JobOp::Pause(on),
        24 => JobOp::Bound(on),
        25 | 26 => JobOp::WidenGroup(!on),
        27 | 28 => JobOp::RedoTo,
        29 => JobOp::LookMoved(name),
        30 => JobOp::DropMoved,
        _ => JobOp::Look(name),
    }
}

fn words(key: &[u8], op: Op, once: Option<Token>, forgets_word: bool) -> Words {
    let name = match op {
        Op::Get => "GET",
        Op::Set(_) | Op::Replace(..) => "SET",
        Op::GetSet(_) => "GETSET",
        Op::SetNx(_) => "SETNX",
        Op::Del => "DEL",
        Op::Incr => "INCR",
        Op::Push(_) => "RPUSH",
        Op::Pop => "LPOP",
        Op::Range => "LRANGE",
        Op::Job(_) => "",
    };
    let mut words = Vec::new();
    if let Some(token) = once {
        words.extend([b"ONCE".to_vec(), format!("t{token}").into_bytes()]);
    }
    if let Op::Job(op) = op {
        words.extend(op.words(key, forgets_word));
        return words;
    }
    words.extend([name.as_bytes().to_vec(), key.to_vec()]);
    match op {
        Op::Set(token) | Op::Replace(_, token) | Op::GetSet(token) | Op::SetNx(token) | Op::Push(token) => {
            words.push(token.to_string().into_bytes());
        }
        Op::Range => words.extend([b"0".to_vec(), b"-1".to_vec()]),
        _ => {}
    }
    words
}

/// What a reply says, if it fits the operation.
fn outcome(kind: Kind, op: Op, reply: &Plain) -> Option<Outcome> {
    let token = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<Token>().ok();
    Some(match (op, reply) {
        (Op::Set(_), Plain::Text(text)) if text == b"OK" => Outcome::Done,
        (Op::Replace(..), Plain::List(done)) if *done == [Plain::Text(b"OK".to_vec())] => Outcome::Done,
        (Op::Replace(..), Plain::Nil) => Outcome::Nil,
        (Op::Get | Op::GetSet(_) | Op::Pop, Plain::Nil) => Outcome::Nil,
        (Op::Get, Plain::Text(text)) if kind == Kind::Counter => Outcome::Number(i64::from(token(text)?)),
        (Op::Get | Op::GetSet(_) | Op::Pop, Plain::Text(text)) => Outcome::Value(token(text)?),
        (Op::SetNx(_) | Op::Del | Op::Incr | Op::Push(_), Plain::Int(n)) => Outcome::Number(*n),
        (Op::Range, Plain::List(list)) => {
            let tokens = list.iter().map(|element| match element {
                Plain::Text(text) => token(text),
                _ => None,
            });
            Outcome::List(tokens.collect::<Option<Vec<Token>>>()?)
        }
        (Op::Job(op), reply) => Outcome::Job(op.told(reply)?),
        _ => return None,
    })
}
