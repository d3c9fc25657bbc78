//! Requests with an `Idempotency-Key`: the body is held, the store asked, the request sent and its reply held, as
//! `skep_gate::idempotency` says.
//!
//! Invariant: from the first question to the store on, a request is carried by a task of its own, so that a client who goes away
//! leaves no key behind whose request was sent and whose reply nobody keeps.

use std::rc::Rc;

use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, Method, Response};
use skep_base::Micros;
use skep_gate::config::idempotency::Idempotency;
use skep_gate::config::route::Route;
use skep_gate::idempotency::{
    Answer, Attempt, Input, Kept, KeyError, Output, Ran, Refusal, Token, Told, fingerprint, key, owner,
    record_key, target,
};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{sleep_until, timeout_at};

use super::attempts::NoReply;
use super::forward::{self, Outbound};
use super::held::{Limits, hold};
use super::own::Own;
use super::way::{REMOVED, Way};
use super::{Answered, Asked, set, status_code};
use crate::StoreError;
use crate::core::{Core, Plan};
use crate::keyed::Place;
use crate::listen::Connection;
use crate::reply::Reply;
use crate::source::{Inbound, Source};

const KEY: &str = "idempotency-key";
const REPLAYED: &str = "idempotent-replayed";
const STATUS: &str = "idempotency-status";

/// True for methods that do something: of the others a repeat does no harm, and their keys are not looked at.
pub(super) fn concerns(method: &Method) -> bool {
    !method.is_safe()
}

/// Carries out a request of a route that keeps replies.
pub(super) async fn send(
    connection: &Connection,
    plan: &Plan,
    (route, rules, asked): (&Route, &Idempotency, &Asked<'_>),
    mut outbound: Outbound,
    (body, keep): (Inbound, u64),
    mut own: Own,
) -> Answered {
    let core = &connection.core;
    let values = asked.parts.headers.get_all(KEY).iter().map(HeaderValue::as_bytes);
    let key = match key(values) {
        Ok(Some(key)) => key,
        Ok(None) if rules.required => return bad_key(core, own, "there must be an Idempotency-Key"),
        Ok(None) => return forward::send(connection, plan, outbound, (body, keep), own).await,
        Err(error) => return bad_key(core, own, wrong(error)),
    };
    if outbound.template.upgrade.is_some() {
        return bad_key(core, own, "a request with an Idempotency-Key cannot change the protocol");
    }
    let Some(place) = Place::take(core) else { return refused(core, &mut own, Refusal::NoStore).into() };
    let now = core.now();
    let total = now.plus(route.timeout.total);
    let deadline = outbound.arrival.deadline.map_or(total, |asked| asked.min(total));
    outbound.arrival.deadline = Some(deadline);

    let (size, idle) = forward::body_limits(connection, plan);
    let size = size.min(rules.body_size.0);
    let source = Source::new(body, keep.max(size), size, idle);
    if source.is_too_large() {
        return own.answer(413, "the body is too large for a request with an Idempotency-Key").into();
    }
    let body = match timeout_at(core.instant(deadline), source.hold()).await {
        Ok(Ok(body)) => body,
        Ok(Err(fault)) => {
            let (status, what) = fault.answer();
            return own.answer(status.as_u16(), what).into();
        }
        Err(_) => return own.answer(408, "the body did not come in time").into(),
    };

    let proofs = match (&plan.snapshot.auth, &asked.known) {
        (Some(auth), Some(known)) => known.proofs(&auth.rules).collect(),
        _ => Vec::new(),
    };
    let target = target(asked.path, asked.parts.uri.query(), proofs);
    let head = asked.head(connection);
    let owner = owner(rules, !route.host.is_empty(), asked.known.as_ref().map(|known| &*known.caller), &head);
    let print = fingerprint(&owner, &head, target.as_bytes(), &body);
    drop(body);
    let way = Way::of(plan, &outbound.arrival);
    let key = record_key(&way.route, &owner, key);
    let (attempt, first) = Attempt::new(core.now(), rules.clone(), print, token(core), deadline);
    let carried = Carried {
        core: Rc::clone(core),
        _place: place,
        key,
        attempt,
        outbound: Some(outbound),
        way,
        source,
        own,
        limits: Limits { deadline, size: rules.reply_size.0, keeps_cookies: owner.is_known },
        secure: connection.peer.secure,
    };
    let (sender, receiver) = oneshot::channel();
    spawn_local(carried.drive(first, sender));
    receiver.await.expect("the task answers once").into()
}

fn bad_key(core: &Core, mut own: Own, what: &str) -> Answered {
    core.keyed.answered("bad-key");
    own.answer(400, what).into()
}

fn wrong(error: KeyError) -> &'static str {
    match error {
        KeyError::Empty => "the Idempotency-Key is empty",
        KeyError::TooLong => "the Idempotency-Key is longer than 255 characters",
        KeyError::Characters => "the Idempotency-Key holds something else than printable ASCII",
        KeyError::Several => "there is more than one Idempotency-Key",
    }
}

fn token(core: &Core) -> Token {
    let mut rng = core.rng.borrow_mut();
    let mut token = [0; 16];
    token[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
    token[8..].copy_from_slice(&rng.next_u64().to_le_bytes());
    token
}

fn refused(core: &Core, own: &mut Own, refusal: Refusal) -> Response<Reply> {
    core.keyed.answered(refusal.word());
    own.record.note(|line| line.why = format!("{refusal:?}"));
    let mut response = own.answer(refusal.status(), refusal.text());
    set(response.headers_mut(), STATUS, refusal.word());
    if refusal.may_repeat() {
        set(response.headers_mut(), RETRY_AFTER.as_str(), "1");
    }
    response
}

fn replayed(core: &Core, own: &mut Own, kept: Kept) -> Response<Reply> {
    core.keyed.answered("replayed");
    own.record.note(|line| line.why = "Replayed".to_owned());
    (own.record.status, own.record.bytes_sent) = (kept.status, kept.body.len() as u64);
    let mut response = Response::new(Reply::whole(kept.body));
    *response.status_mut() = status_code(kept.status);
    for (name, value) in kept.headers {
        // They were headers when they were kept.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    set(response.headers_mut(), REPLAYED, "true");
    response
}

/// A request with a key on its way.
struct Carried {
    core: Rc<Core>,
    _place: Place,
    /// The name of its record in the store.
    key: Vec<u8>,
    attempt: Attempt,
    /// Taken when it is sent.
    outbound: Option<Outbound>,
    way: Way,
    source: Rc<Source>,
    own: Own,
    limits: Limits,
    secure: bool,
}

impl Carried {
    /// Does what the machine says, to its end.
    async fn drive(mut self, first: Output, client: oneshot::Sender<Response<Reply>>) {
        let mut client = Some(client);
        let mut said = None;
        let mut output = first;
        loop {
            let ran;
            let input = match output {
                Output::Ask { ask, until } => Input::Stored(self.ask(ask.words(&self.key), until).await),
                Output::Wait(until) => self.wait(until, &mut client).await,
                Output::Run => {
                    // Nobody wants it any more, and nothing was done.
                    let is_gone = client.as_ref().is_some_and(oneshot::Sender::is_closed);
                    ran = match self.outbound.take().filter(|_| !is_gone) {
                        Some(outbound) => {
                            let (ran, response) = self.run(outbound).await;
                            if ran == Ran::Unknown {
                                self.core.keyed.lost();
                            }
                            said = Some(response);
                            ran
                        }
                        None => Ran::NotRun,
                    };
                    Input::Ran(&ran)
                }
                Output::Answer(answer) => {
                    let response = match answer {
                        Answer::Own => {
                            self.core.keyed.answered("first");
                            said.take()
                        }
                        Answer::Replay(kept) => Some(replayed(&self.core, &mut self.own, kept)),
                        Answer::Refuse(refusal) => Some(refused(&self.core, &mut self.own, refusal)),
                    };
                    if let (Some(client), Some(response)) = (client.take(), response) {
                        // A client that is gone comes again for it.
                        let _ = client.send(response);
                    }
                    // What is counted of the request ends with its answer.
                    drop(self.own.take_record());
                    Input::Answered
                }
                Output::End => return,
            };
            output = self.attempt.handle(self.core.now(), input);
        }
    }

    async fn ask(&self, words: Vec<Vec<u8>>, until: Micros) -> Told {
        match timeout_at(self.core.instant(until), self.core.call_store(words)).await {
            Ok(Ok(reply)) => Told::of(&reply),
            Ok(Err(StoreError::Unavailable(_))) => Told::NotDone,
            Ok(Err(StoreError::Late)) | Err(_) => Told::Unsure,
        }
    }

    async fn wait(
        &self,
        until: Micros,
        client: &mut Option<oneshot::Sender<Response<Reply>>>,
    ) -> Input<'static> {
        let time = sleep_until(self.core.instant(until));
        match client {
            Some(client) if self.attempt.ends_with_client() => tokio::select! {
                () = time => Input::Tick,
                () = client.closed() => Input::Gone,
            },
            _ => {
                time.await;
                Input::Tick
            }
        }
    }

    /// Sends the request, as any other, and holds its reply: what became of it, and what the client gets.
    async fn run(&mut self, mut outbound: Outbound) -> (Ran, Response<Reply>) {
        if !self.way.renew(&self.core.plan(), &mut outbound.arrival) {
            let mut response = self.own.answer(503, REMOVED);
            set(response.headers_mut(), RETRY_AFTER.as_str(), "1");
            return (Ran::NotRun, response);
        }
        let record = self.own.take_record();
        let (mut in_flight, outcome) = forward::carry(&self.core, outbound, &self.source, record).await;
        match outcome {
            Ok(found) => hold(&mut self.own, in_flight, *found, self.limits, self.secure).await,
            Err(none) => {
                let ran = match none {
                    NoReply::Answer { ran: false, .. } => Ran::NotRun,
                    NoReply::Answer { .. } | NoReply::ClientFault(_) => Ran::Unknown,
                };
                (ran, forward::answer(&mut self.own, &mut in_flight, none))
            }
        }
    }
}
