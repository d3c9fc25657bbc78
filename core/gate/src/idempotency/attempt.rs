//! One request with a key, from its arrival to its answer.
//!
//! ```text
//! Claiming --free--> Running --replied--> Keeping --durable--> the reply
//!    |  ^               |---did nothing--> Releasing ---------> what the upstream, or the gateway, says
//!    |  '--taken over---|---not known----> Keeping ----------->   likewise
//!    |--kept----------> the kept reply
//!    '--under way-----> Waiting (looks again) --> one of these
//! ```
//! What the store did not answer in time is settled behind the client's answer, for a while ([`AFTER_TIME`]): a claim of an attempt
//! that did not run is taken back, a reply that was not kept is offered again.

use skep_base::Micros;

use super::record::{self, Fingerprint, Kept, Record, Token};
use super::refusal::Refusal;
use super::store::{Ask, Told, is_own};
use crate::config::idempotency::{Duplicate, Idempotency, Unknown};

/// The first pause between two looks at an attempt of somebody else, and between two tries at a store that declines; doubled
/// up to the longest.
const PAUSE: Micros = Micros::from_millis(20);
const PAUSE_MAX: Micros = Micros::from_millis(500);
/// How long the store may take to answer before the upstream is called, tries and all. It answers in milliseconds, and has
/// another leader in less than a second; without a majority a client learns soon that nothing was done.
pub const STORE_TIME: Micros = Micros::from_secs(2);
/// For which the reply of an upstream is offered to the store again and again while the client waits. The upstream has run, so it
/// is worth it.
const KEEP_TIME: Micros = Micros::from_secs(10);
/// And for which the end of an attempt is offered to the store behind the client's answer.
const AFTER_TIME: Micros = Micros::from_secs(60);
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
    /// The client has the [`Output::Answer`].
    Answered,
    /// The client went away during an [`Output::Wait`]. Nothing else ends because of it: who has claimed a key carries its request
    /// out, and the client may come again for the reply.
    Gone,
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
    /// Ask the store; if it has not answered by then, that is [`Told::Unsure`].
    Ask { ask: Ask, until: Micros },
    /// Carry the request out, as if it had no key.
    Run,
    /// Nothing, until then.
    Wait(Micros),
    /// Answer the client, and say so with [`Input::Answered`].
    Answer(Answer),
    /// The attempt is over.
    End,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// What the upstream, or the gateway in its place, said in this attempt.
    Own,
    /// The first attempt's reply, with `Idempotent-Replayed: true`.
    Replay(Kept),
    Refuse(Refusal),
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
    /// When a store that has not answered is given up.
    store_until: Micros,
    /// A claim may have been made of which no answer came.
    may_have_claimed: bool,
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
    /// The client is answered; this is asked until then.
    After {
        ask: Ask,
        until: Micros,
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
        let mut attempt = Attempt {
            rules,
            fingerprint,
            token,
            deadline,
            lease_ms,
            pause: PAUSE,
            store_until: now.plus(STORE_TIME).min(deadline),
            may_have_claimed: false,
            state: State::Over,
        };
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
            (State::Waiting(ask, Refusal::NoStore), Input::Tick) if now < self.store_until => self.ask(ask),
            (State::Waiting(ask, Refusal::UnderWay), Input::Tick) if now < self.deadline => {
                self.store_until = now.plus(STORE_TIME);
                self.ask(ask)
            }
            (State::Waiting(_, too_late), Input::Tick) => self.refuse_at(now, too_late),
            (State::Waiting(..), Input::Gone) => {
                self.take_back(now);
                self.go_on_after()
            }
            (State::Running, Input::Ran(ran)) => self.on_ran(now, ran),
            (State::Ending { ask, until, then }, Input::Tick) => {
                self.state = State::Ending { ask: ask.clone(), until, then };
                Output::Ask { ask, until }
            }
            (State::Ending { ask, until, then }, Input::Stored(told)) => {
                self.on_ended(now, ask, until, then, told)
            }
            (state @ (State::After { .. } | State::Over), Input::Answered) => {
                self.state = state;
                self.go_on_after()
            }
            (state @ State::After { .. }, Input::Tick) => {
                self.state = state;
                self.go_on_after()
            }
            (State::After { ask, until }, Input::Stored(told)) => match told {
                Told::NotDone | Told::Unsure if now < until => {
                    self.state = State::After { ask, until };
                    Output::Wait(self.pause(now).min(until))
                }
                _ => Output::End,
            },
            (state, input) => panic!("INV-GATE-15: {input:?} in {state:?}"),
        }
    }

    /// True while the attempt has nothing of its own under way: [`Input::Gone`] ends it.
    pub fn ends_with_client(&self) -> bool {
        matches!(self.state, State::Waiting(..))
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
        Output::Ask { ask, until: self.store_until }
    }

    fn run(&mut self) -> Output {
        self.state = State::Running;
        Output::Run
    }

    fn refuse(&mut self, refusal: Refusal) -> Output {
        Output::Answer(Answer::Refuse(refusal))
    }

    /// Refuses what did not run.
    fn refuse_at(&mut self, now: Micros, refusal: Refusal) -> Output {
        self.take_back(now);
        self.refuse(refusal)
    }

    /// Settles behind the answer that a claim is not left which nobody carries out: its key would be taken, and then unknown.
    fn take_back(&mut self, now: Micros) {
        if self.may_have_claimed {
            let ask = Ask::Release { begun: self.begun() };
            self.state = State::After { ask, until: now.plus(AFTER_TIME) };
        }
    }

    fn go_on_after(&mut self) -> Output {
        match &self.state {
            State::After { ask, until } => Output::Ask { ask: ask.clone(), until: *until },
            _ => Output::End,
        }
    }

    fn pause(&mut self, now: Micros) -> Micros {
        let at = now.plus(self.pause);
        self.pause = self.pause.plus(self.pause).min(PAUSE_MAX);
        at
    }

    /// Looks again after a pause, or after the deadline answers instead.
    fn look_later(&mut self, now: Micros) -> Output {
        if now >= self.deadline {
            return self.refuse(Refusal::UnderWay);
        }
        self.state = State::Waiting(Ask::Look, Refusal::UnderWay);
        Output::Wait(self.pause(now).min(self.deadline))
    }

    fn on_told(&mut self, now: Micros, asked: Ask, told: Told) -> Output {
        let claims = matches!(asked, Ask::Claim { .. } | Ask::TakeOver { .. });
        if let Told::NotDone | Told::Unsure = told {
            // If the claim was made after all, its token says so to the next one.
            self.may_have_claimed |= claims && told == Told::Unsure;
            if now >= self.store_until {
                return self.refuse_at(now, Refusal::NoStore);
            }
            self.state = State::Waiting(asked, Refusal::NoStore);
            return Output::Wait(self.pause(now).min(self.store_until));
        }
        self.store_until = now.plus(STORE_TIME);
        self.may_have_claimed = false;
        match told {
            // Free: a look does not claim it.
            Told::Yes if !claims => {
                let claim = self.claim();
                self.ask(claim)
            }
            Told::Yes => self.run(),
            Told::Known { bytes, now_ms } => self.on_known(now, bytes, now_ms),
            // Somebody else took it over.
            _ => self.look_later(now),
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
                Duplicate::Wait => self.look_later(now),
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
        let until = now.plus(KEEP_TIME);
        self.state = State::Ending { ask: ask.clone(), until, then: Answer::Own };
        Output::Ask { ask, until }
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
            _ => {
                self.state = State::After { ask, until: now.plus(AFTER_TIME) };
                // What did nothing may be told as it is.
                Output::Answer(if releases { then } else { Answer::Refuse(Refusal::NotKept) })
            }
        }
    }
}
