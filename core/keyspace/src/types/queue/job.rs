//! One job: what was added, where it stands, and what happened to it.

use std::sync::Arc;

use skep_base::Millis;
use skep_base::varint::{self, Malformed, Reader};

use super::numbers::NUMBER_MAX;
use super::settings::Settings;
use crate::db::NEVER;
use crate::dense::Keyed;
use crate::small::SmallBytes;

/// Failures that a job remembers, the last ones.
const FAILURES_MAX: usize = 3;

/// The highest priority; it is served first.
pub const PRIORITY_MAX: u8 = 9;
/// As in JMS, which has the same ten.
pub const PRIORITY_DEFAULT: u8 = 4;

/// Where a job stands (INV-QUEUE-1: in exactly one of these).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    /// May be taken, or waits for others of its group.
    Ready,
    /// Its delay has not ended: the first, or that before a retry.
    Delayed,
    /// A worker has it.
    Leased,
    /// Its tries are used up.
    Dead,
    /// It was acknowledged, and is kept for a while.
    Done,
}

impl State {
    pub const ALL: [State; 5] = [State::Ready, State::Delayed, State::Leased, State::Dead, State::Done];

    pub fn name(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::Delayed => "delayed",
            State::Leased => "leased",
            State::Dead => "dead",
            State::Done => "done",
        }
    }

    /// The state of this name, in any case.
    pub fn parse(name: &[u8]) -> Option<State> {
        State::ALL.into_iter().find(|s| name.eq_ignore_ascii_case(s.name().as_bytes()))
    }
}

/// What a job may have of its own in place of the queue's settings. Never changes once the job is there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    pub lease_ms: Option<u64>,
    /// 0 for no limit.
    pub tries: Option<u32>,
    pub backoff: Option<Backoff>,
    /// How long it may wait to be taken.
    pub ttl_ms: Option<u64>,
    /// When that begins, of a job that was added with a delay: it cannot be taken before.
    pub ttl_from: Option<Millis>,
    /// How long it is kept when it is done.
    pub keep_ms: Option<u64>,
    pub group: Option<SmallBytes>,
}

/// The pause before a retry: doubled with each attempt up to a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    pub first_ms: u64,
    pub max_ms: u64,
}

impl Backoff {
    /// The pause behind the `attempt`th attempt, which counts from 1.
    pub fn after(self, attempt: u32) -> u64 {
        let doublings = attempt.saturating_sub(1);
        let grown = if doublings < 63 { self.first_ms.saturating_mul(1 << doublings) } else { u64::MAX };
        if self.first_ms == 0 { 0 } else { grown.min(self.max_ms) }
    }
}

/// What became of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub at: Millis,
    pub attempt: u32,
    pub text: SmallBytes,
}

/// What is known of a job that was taken at least once.
#[derive(Clone, Default)]
pub struct Run {
    /// Of the newest lease; it holds while the job is leased.
    pub token: u64,
    /// Who took it last; empty if it did not say.
    pub worker: SmallBytes,
    pub taken: Millis,
    /// When it was done or died.
    pub ended: Millis,
    pub failures: Vec<Failure>,
    pub result: Option<Arc<[u8]>>,
}

/// A job. About 90 bytes besides its payload.
#[derive(Clone)]
pub struct Job {
    pub id: SmallBytes,
    pub payload: Arc<[u8]>,
    /// Its place in the order of adding, which it keeps.
    pub number: u64,
    /// Delayed: when it becomes ready. Leased: the end of the lease. Ready: when it is dropped if nobody takes it. Dead and
    /// done: when it is forgotten.
    pub deadline: Millis,
    pub added: Millis,
    pub attempt: u32,
    pub priority: u8,
    pub state: State,
    /// It was taken since it was added or redone: its group waits for it, also while it waits for a retry.
    pub started: bool,
    /// The id is the client's.
    pub is_named: bool,
    pub options: Option<Arc<Options>>,
    pub run: Option<Box<Run>>,
}

const _: () = assert!(size_of::<Job>() == 88);

impl Keyed for Job {
    fn key(&self) -> &[u8] {
        &self.id
    }
}

impl Default for SmallBytes {
    fn default() -> SmallBytes {
        SmallBytes::new(b"")
    }
}

impl Job {
    pub fn group(&self) -> Option<&SmallBytes> {
        self.options.as_ref()?.group.as_ref()
    }

    pub fn lease_ms(&self, settings: &Settings) -> u64 {
        self.options.as_ref().and_then(|o| o.lease_ms).unwrap_or(settings.lease_ms)
    }

    /// True if it may be tried once more.
    pub fn has_tries_left(&self, settings: &Settings) -> bool {
        let tries = self.options.as_ref().and_then(|o| o.tries).unwrap_or(settings.tries);
        tries == 0 || self.attempt < tries
    }

    pub fn backoff(&self, settings: &Settings) -> Backoff {
        self.options.as_ref().and_then(|o| o.backoff).unwrap_or(settings.backoff)
    }

    /// How long the job is kept when it is done. One with an id of its client is, unless told otherwise, so that the client
    /// may repeat its QADD for a while.
    pub fn keep_ms(&self, settings: &Settings) -> u64 {
        /// Twelve times the default `request-timeout`.
        const NAMED_KEEP_MS: u64 = 60_000;
        let own = self.options.as_ref().and_then(|o| o.keep_ms).or(settings.keep_ms);
        own.unwrap_or(if self.is_named { NAMED_KEEP_MS } else { 0 })
    }

    /// The instant after which it is dropped unless a worker has it.
    pub fn life_end(&self) -> Millis {
        let Some(options) = &self.options else { return NEVER };
        let from = options.ttl_from.map_or(self.added, |due| due.max(self.added));
        options.ttl_ms.map_or(NEVER, |ttl| from.plus(ttl))
    }

    /// Takes note of an attempt that came to nothing.
    pub fn note_failure(&mut self, at: Millis, text: &[u8]) {
        let attempt = self.attempt;
        let run = self.run.get_or_insert_default();
        if run.failures.len() == FAILURES_MAX {
            run.failures.remove(0);
        }
        run.failures.push(Failure { at, attempt, text: SmallBytes::new(text) });
    }

    /// Bytes that the job owns outside its 88.
    pub fn heap_bytes(&self) -> usize {
        /// The two counts in front of what an `Arc` holds.
        const COUNTS: usize = 16;
        let options = self.options.as_ref().map_or(0, |o| {
            COUNTS + size_of::<Options>() + o.group.as_ref().map_or(0, SmallBytes::heap_bytes)
        });
        let run = self.run.as_ref().map_or(0, |run| {
            let failures: usize =
                run.failures.iter().map(|f| size_of::<Failure>() + f.text.heap_bytes()).sum();
            let result = run.result.as_ref().map_or(0, |r| COUNTS + r.len());
            size_of::<Run>() + run.worker.heap_bytes() + failures + result
        });
        self.id.heap_bytes() + COUNTS + self.payload.len() + options + run
    }
}

// The checkpoint form. A deadline of never is one byte; what is absent is one byte.

fn put_instant(out: &mut Vec<u8>, instant: Millis) {
    varint::put(out, instant.0.wrapping_add(1));
}

fn instant(input: &mut Reader<'_>) -> Result<Millis, Malformed> {
    Ok(Millis(input.varint()?.wrapping_sub(1)))
}

/// Zero for none, else one more.
pub(super) fn put_optional(out: &mut Vec<u8>, value: Option<u64>) {
    varint::put(out, value.map_or(0, |v| v.saturating_add(1)));
}

pub(super) fn optional(input: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    Ok(input.varint()?.checked_sub(1))
}

pub(super) fn put_backoff(out: &mut Vec<u8>, backoff: Backoff) {
    varint::put(out, backoff.first_ms);
    varint::put(out, backoff.max_ms);
}

pub(super) fn backoff(input: &mut Reader<'_>) -> Result<Backoff, Malformed> {
    Ok(Backoff { first_ms: input.varint()?, max_ms: input.varint()? })
}

/// A number that is not greater than any given.
pub(super) fn number(input: &mut Reader<'_>) -> Result<u64, Malformed> {
    match input.varint()? {
        number if number < NUMBER_MAX => Ok(number),
        _ => input.malformed("a number of 53 bits"),
    }
}

pub(super) fn small_number(input: &mut Reader<'_>) -> Result<u32, Malformed> {
    let value = input.varint()?;
    u32::try_from(value).or_else(|_| input.malformed("a number of 32 bits"))
}

const HAS_GROUP: u8 = 1;
const HAS_TTL_FROM: u8 = 2;

impl Options {
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_optional(out, self.lease_ms);
        put_optional(out, self.tries.map(u64::from));
        out.push(u8::from(self.backoff.is_some()));
        self.backoff.into_iter().for_each(|b| put_backoff(out, b));
        put_optional(out, self.ttl_ms);
        put_optional(out, self.keep_ms);
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        out.push(bit(self.group.is_some(), HAS_GROUP) | bit(self.ttl_from.is_some(), HAS_TTL_FROM));
        self.group.iter().for_each(|g| varint::put_bytes(out, g));
        self.ttl_from.iter().for_each(|from| varint::put(out, from.0));
    }

    pub fn decode(input: &mut Reader<'_>) -> Result<Options, Malformed> {
        let lease_ms = optional(input)?;
        let tries = match optional(input)? {
            None => None,
            Some(tries) => match u32::try_from(tries) {
                Ok(tries) => Some(tries),
                Err(_) => return input.malformed("tries of 32 bits"),
            },
        };
        let backoff = if flag(input)? { Some(backoff(input)?) } else { None };
        let (ttl_ms, keep_ms) = (optional(input)?, optional(input)?);
        let bits = input.u8()?;
        if bits > HAS_GROUP | HAS_TTL_FROM {
            return input.malformed("two flags of options");
        }
        let group = if bits & HAS_GROUP != 0 { Some(SmallBytes::new(input.bytes()?)) } else { None };
        let ttl_from = if bits & HAS_TTL_FROM != 0 { Some(Millis(input.varint()?)) } else { None };
        Ok(Options { lease_ms, tries, backoff, ttl_ms, ttl_from, keep_ms, group })
    }
}

pub(super) fn flag(input: &mut Reader<'_>) -> Result<bool, Malformed> {
    match input.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => input.malformed("a flag of 0 or 1"),
    }
}

impl Run {
    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.token);
        varint::put_bytes(out, &self.worker);
        varint::put(out, self.taken.0);
        varint::put(out, self.ended.0);
        varint::put(out, self.failures.len() as u64);
        for failure in &self.failures {
            varint::put(out, failure.at.0);
            varint::put(out, u64::from(failure.attempt));
            varint::put_bytes(out, &failure.text);
        }
        out.push(u8::from(self.result.is_some()));
        self.result.iter().for_each(|r| varint::put_bytes(out, r));
    }

    fn decode(input: &mut Reader<'_>) -> Result<Run, Malformed> {
        let token = number(input)?;
        let worker = SmallBytes::new(input.bytes()?);
        let (taken, ended) = (Millis(input.varint()?), Millis(input.varint()?));
        let count = input.count(3)?;
        if count > FAILURES_MAX {
            return input.malformed("at most three failures");
        }
        let mut failures = Vec::with_capacity(count);
        for _ in 0..count {
            let (at, attempt) = (Millis(input.varint()?), small_number(input)?);
            failures.push(Failure { at, attempt, text: SmallBytes::new(input.bytes()?) });
        }
        let result = if flag(input)? { Some(input.bytes()?.into()) } else { None };
        Ok(Run { token, worker, taken, ended, failures, result })
    }
}

const STARTED: u8 = 1;
const NAMED: u8 = 2;
const HAS_OPTIONS: u8 = 4;
const HAS_RUN: u8 = 8;

impl Job {
    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::put_bytes(out, &self.id);
        varint::put_bytes(out, &self.payload);
        varint::put(out, self.number);
        out.push(self.state as u8);
        out.push(self.priority);
        let has = |bit: u8, is: bool| if is { bit } else { 0 };
        out.push(
            has(STARTED, self.started)
                | has(NAMED, self.is_named)
                | has(HAS_OPTIONS, self.options.is_some())
                | has(HAS_RUN, self.run.is_some()),
        );
        put_instant(out, self.deadline);
        varint::put(out, self.added.0);
        varint::put(out, u64::from(self.attempt));
        self.options.iter().for_each(|o| o.encode(out));
        self.run.iter().for_each(|r| r.encode(out));
    }

    pub fn decode(input: &mut Reader<'_>) -> Result<Job, Malformed> {
        let id = SmallBytes::new(input.bytes()?);
        let payload = input.bytes()?.into();
        let number = number(input)?;
        let Some(state) = State::ALL.get(usize::from(input.u8()?)).copied() else {
            return input.malformed("a state of 0 to 4");
        };
        let priority = input.u8()?;
        let bits = input.u8()?;
        if priority > PRIORITY_MAX || bits > STARTED | NAMED | HAS_OPTIONS | HAS_RUN {
            return input.malformed("a priority of 0 to 9 and four flags");
        }
        let deadline = instant(input)?;
        let added = Millis(input.varint()?);
        let attempt = small_number(input)?;
        let options = match bits & HAS_OPTIONS {
            0 => None,
            _ => Some(Arc::new(Options::decode(input)?)),
        };
        let run = match bits & HAS_RUN {
            0 => None,
            _ => Some(Box::new(Run::decode(input)?)),
        };
        if state == State::Leased && (run.is_none() || bits & STARTED == 0) {
            return input.malformed("a token of a leased job");
        }
        let (started, is_named) = (bits & STARTED != 0, bits & NAMED != 0);
        Ok(Job {
            id,
            payload,
            number,
            deadline,
            added,
            attempt,
            priority,
            state,
            started,
            is_named,
            options,
            run,
        })
    }
}
