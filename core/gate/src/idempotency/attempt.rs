//! One request with a key, from its arrival to its answer.
//!
//! ```text
//! Claiming --free--> Running --replied--> Keeping --durable--> the reply
//!    |  ^               |---did nothing--> Releasing ---------> what the upstream, or the gateway, says
//!    |  '--taken over---|---not known----> Keeping ----------->   likewise
//!    |--kept----------> the kept reply
//!    '--under way-----> Waiting (looks again) --> one of these
//! ```

use skep_base::Micros;

use super::record::{self, Fingerprint, Kept, Record, Token};
use super::store::{Ask, Told, is_own};
use crate::config::idempotency::{Duplicate, Idempotency, Unknown};

/// The first pause between two looks at an attempt of somebody else, and between two tries at a store that declines; doubled
/// up to the longest.
const PAUSE: Micros = Micros::from_millis(20);
const PAUSE_MAX: Micros = Micros::from_millis(500);
/// For which the reply of an upstream is offered to the store again and again. The upstream has run, so it is worth it.
const KEEP_TIME: Micros = Micros::from_secs(10);
/// An attempt's owner gives up so long before its lease ends: its reply is then kept, or it is not known.
const LEASE_MARGIN: Micros = Micros::from_secs(5);

/// What happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// The store's answer to the last [`Output::Ask`].
    Stored(Told),
    /// What became of [`Output::Run`].
    Ran(&'a Ran),
    /// The time that [`Output::Wait`] named has come.
    Tick,
}

/// What became of the request at the upstream, retries and all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ran {
    Replied(Kept),
    /// It replied with more than is kept.
    Long,
    /// It was never sent, or the upstream provably did nothing.
    NotRun,
    /// It was sent, and no whole reply came.
    Unknown,
}

/// What to do next; exactly one thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Ask the store.
    Ask(Ask),
    /// Carry the request out, as if it had no key.
    Run,
    /// Nothing, until then.
    Wait(Micros),
    /// Answer the client. The attempt is over.
    Answer(Answer),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// What the upstream, or the gateway in its place, said in this attempt.
    Own,
    /// The first attempt's reply, with `Idempotent-Replayed: true`.
    Replay(Kept),
    Refuse(Refusal),
}

/// Why a request with a key is not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The key was used for another request.
    OtherRequest,
    /// The first request with this key is under way.
    UnderWay,
    /// Whether the first was carried out is not known; it is not sent again.
    Unknown,
    /// The first was carried out, and its reply was too long to be kept.
    Long,
    /// The store did not answer in time, so the upstream was not called.
    NoStore,
    /// The upstream was called, and the store did not take its reply in time.
    NotKept,
}

impl Refusal {
    pub fn status(self) -> u16 {
        match self {
            Refusal::OtherRequest => 422,
            Refusal::UnderWay | Refusal::Unknown | Refusal::Long => 409,
            Refusal::NoStore => 503,
            Refusal::NotKept => 504,
        }
    }

    /// The value of `Idempotency-Status`, by which a client tells refusals of one status apart.
    pub fn word(self) -> &'static str {
        match self {
            Refusal::OtherRequest => "other-request",
            Refusal::UnderWay => "under-way",
            Refusal::Unknown | Refusal::NotKept => "unknown",
            Refusal::Long => "not-kept",
            Refusal::NoStore => "not-run",
        }
    }

    /// True if the same request may be sent again at once: it will be carried out, or answered.
    pub fn may_repeat(self) -> bool {
        matches!(self, Refusal::UnderWay | Refusal::NoStore)
    }
}

/// The machine of one request.
#[derive(Clone, Debug)]
pub struct Attempt {
    rules: Idempotency,
    fingerprint: Fingerprint,
    token: Token,
    /// When the client gets an answer in any case, as long as nothing ran.
    deadline: Micros,
    lease_ms: u64,
    pause: Micros,
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// A claim, a look or a take-over is asked.
    Asking(Ask),
    /// Somebody else's attempt is under way, or the store declined: ask this at the time, or refuse at the deadline.
    Waiting(Ask, Refusal),
    Running,
    /// The end of the own attempt is asked, or waits to be asked again, and by when.
    Ending {
        ask: Ask,
        until: Micros,
        then: Answer,
    },
    Over,
}

impl Attempt {
    /// A request with a key, and what to do first. `token` must be drawn at random; `deadline` is that of the request, and
    /// the upstream's attempts must end by it.
    pub fn new(
        now: Micros,
        rules: Idempotency,
        fingerprint: Fingerprint,
        token: Token,
        deadline: Micros,
    ) -> (Attempt, Output) {
        let lease_ms = deadline.since(now).plus(KEEP_TIME).plus(LEASE_MARGIN).0 / 1_000;
        let state = State::Over;
        let mut attempt = Attempt { rules, fingerprint, token, deadline, lease_ms, pause: PAUSE, state };
        let claim = attempt.claim();
        let output = attempt.ask(claim);
        (attempt, output)
    }

    /// Goes on with what happened.
    ///
    /// # Panics
    /// If that cannot happen in this state: an answer that was not asked for.
    pub fn handle(&mut self, now: Micros, input: Input<'_>) -> Output {
        match (std::mem::replace(&mut self.state, State::Over), input) {
            (State::Asking(asked), Input::Stored(told)) => self.on_told(now, asked, told),
            (State::Waiting(ask, too_late), Input::Tick) => match now < self.deadline {
                true => self.ask(ask),
                false => self.refuse(too_late),
            },
            (State::Running, Input::Ran(ran)) => self.on_ran(now, ran),
            (State::Ending { ask, until, then }, Input::Tick) => {
                self.state = State::Ending { ask: ask.clone(), until, then };
                Output::Ask(ask)
            }
            (State::Ending { ask, until, then }, Input::Stored(told)) => {
                self.on_ended(now, ask, until, then, told)
            }
            (state, input) => panic!("INV-GATE-15: {input:?} in {state:?}"),
        }
    }

    /// True from [`Output::Run`] on until [`Input::Ran`].
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    fn claim(&self) -> Ask {
        Ask::Claim { begun: self.begun(), lease_ms: self.lease_ms, retention_ms: self.retention_ms() }
    }

    fn begun(&self) -> Vec<u8> {
        record::begun(&self.fingerprint, &self.token)
    }

    /// A record must outlive the attempt that it is of.
    fn retention_ms(&self) -> u64 {
        (self.rules.retention.0 / 1_000).max(self.lease_ms)
    }

    fn ask(&mut self, ask: Ask) -> Output {
        self.state = State::Asking(ask.clone());
        Output::Ask(ask)
    }

    fn run(&mut self) -> Output {
        self.state = State::Running;
        Output::Run
    }

    fn refuse(&mut self, refusal: Refusal) -> Output {
        Output::Answer(Answer::Refuse(refusal))
    }

    fn pause(&mut self, now: Micros) -> Micros {
        let at = now.plus(self.pause);
        self.pause = self.pause.plus(self.pause).min(PAUSE_MAX);
        at
    }

    /// Asks this again after a pause, or after the deadline answers instead.
    fn later(&mut self, now: Micros, ask: Ask, too_late: Refusal) -> Output {
        if now >= self.deadline {
            return self.refuse(too_late);
        }
        self.state = State::Waiting(ask, too_late);
        Output::Wait(self.pause(now).min(self.deadline))
    }

    fn on_told(&mut self, now: Micros, asked: Ask, told: Told) -> Output {
        match told {
            // Free: a look does not claim it.
            Told::Yes if asked == Ask::Look => {
                let claim = self.claim();
                self.ask(claim)
            }
            Told::Yes => self.run(),
            // Somebody else took it over.
            Told::No => self.later(now, Ask::Look, Refusal::UnderWay),
            // If the claim was made after all, its token says so to the next one.
            Told::NotDone | Told::Unsure => self.later(now, asked, Refusal::NoStore),
            Told::Known { bytes, now_ms } => self.on_known(now, bytes, now_ms),
        }
    }

    fn on_known(&mut self, now: Micros, bytes: Vec<u8>, now_ms: u64) -> Output {
        let Ok((fingerprint, record)) = Record::decode(&bytes) else {
            // Somebody else wrote there. Nothing can be said of the request, so it is not carried out.
            return self.refuse(Refusal::Unknown);
        };
        if fingerprint != self.fingerprint {
            return self.refuse(Refusal::OtherRequest);
        }
        if is_own(&record, &self.token) {
            return self.run();
        }
        match record {
            Record::Kept(kept) => Output::Answer(Answer::Replay(kept)),
            Record::Long => self.refuse(Refusal::Long),
            Record::Begun { deadline_ms, .. } if now_ms < deadline_ms => match self.rules.duplicate {
                Duplicate::Conflict => self.refuse(Refusal::UnderWay),
                Duplicate::Wait => self.later(now, Ask::Look, Refusal::UnderWay),
            },
            Record::Begun { .. } | Record::Unknown => match self.rules.unknown {
                Unknown::Refuse => self.refuse(Refusal::Unknown),
                Unknown::Repeat => {
                    let (begun, lease_ms, retention_ms) = (self.begun(), self.lease_ms, self.retention_ms());
                    self.ask(Ask::TakeOver { begun, lease_ms, retention_ms, known: bytes })
                }
            },
        }
    }

    fn on_ran(&mut self, now: Micros, ran: &Ran) -> Output {
        let release = Ask::Release { begun: self.begun() };
        let keep = |record| Ask::Keep { begun: self.begun(), record, retention_ms: self.retention_ms() };
        let ask = match ran {
            Ran::Replied(kept) if self.rules.release.contains(&kept.status) => release,
            Ran::Replied(kept) => keep(record::encode_kept(&self.fingerprint, kept)),
            Ran::Long => keep(record::long(&self.fingerprint)),
            Ran::NotRun => release,
            // An upstream that honours the key may be asked again at once.
            Ran::Unknown if self.rules.unknown == Unknown::Repeat => release,
            Ran::Unknown => keep(record::unknown(&self.fingerprint)),
        };
        self.pause = PAUSE;
        self.state = State::Ending { ask: ask.clone(), until: now.plus(KEEP_TIME), then: Answer::Own };
        Output::Ask(ask)
    }

    fn on_ended(&mut self, now: Micros, ask: Ask, until: Micros, then: Answer, told: Told) -> Output {
        let releases = matches!(ask, Ask::Release { .. });
        match told {
            Told::Yes => Output::Answer(then),
            // The lease has ended and another attempt has begun, or the record is gone.
            Told::No => self.refuse(Refusal::NotKept),
            Told::NotDone | Told::Unsure | Told::Known { .. } if now < until => {
                let at = self.pause(now).min(until);
                self.state = State::Ending { ask, until, then };
                Output::Wait(at)
            }
            // What did nothing may be told as it is; that the key stays taken for a while harms nobody else.
            _ if releases => Output::Answer(then),
            _ => self.refuse(Refusal::NotKept),
        }
    }
}
