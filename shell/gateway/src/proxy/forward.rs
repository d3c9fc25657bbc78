//! A request on its way through the gate to an upstream, and the head of the reply.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use http::header::{HeaderValue, RETRY_AFTER, SET_COOKIE, UPGRADE};
use http::{Response, StatusCode};
use skep_base::Micros;
use skep_gate::balance::Ties;
use skep_gate::balance::sticky::{Session, cookie};
use skep_gate::config::listener::Listener;
use skep_gate::config::resilience::Priority;
use skep_gate::config::route::Route;
use skep_gate::protect::headers::retry_after as retry_after_text;
use skep_gate::protect::upload::needed;
use skep_gate::resilience::deadline;
use skep_gate::resilience::retry::{Failure, Traits, is_idempotent};
use skep_gate::router::Head;
use skep_gate::{Arrival, Generation, Input, PoolId, RouteId, Why};
use tokio::time::timeout_at;

use super::attempts::{self, Found, NoReply, Outcome};
use super::headers::{announce, strip};
use super::own::{Own, said};
use super::template::Template;
use super::way::{REMOVED, Way};
use super::{ATTEMPT, Answered, Tunnel, mirror, set};
use crate::control::duration;
use crate::core::{Core, Plan};
use crate::in_flight::{InFlight, Record};
use crate::listen::Connection;
use crate::reply::Reply;
use crate::source::{Inbound, Source};
use crate::upstream::Upstream;

/// What binds a request to an upstream of `pool`.
pub(super) fn ties(core: &Core, plan: &Plan, pool: PoolId, head: &Head<'_>) -> Ties {
    let pool = &plan.snapshot.config.pools[pool.at()];
    let sessions = || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        (core.secret(), now)
    };
    Ties::of(head, pool, sessions)
}

pub(super) fn arrival(
    core: &Core,
    plan: &Plan,
    route: RouteId,
    (pool, backup): (PoolId, Option<PoolId>),
    head: &Head<'_>,
) -> Arrival {
    let rule = &plan.snapshot.config.routes[route.at()].it;
    let has = |name: &str| head.headers.any(name, &mut |_| true);
    Arrival {
        of: plan.generation,
        route: Some(route),
        pool,
        priority: priority(rule, head),
        traits: Traits {
            idempotent: is_idempotent(head.method),
            keyed: has("idempotency-key"),
            replayable: true,
        },
        // Known when the body is taken in hand.
        sends_body: false,
        hedgeable: rule.hedge.as_ref().is_some_and(|h| h.methods.iter().any(|m| m.0 == head.method)),
        ties: ties(core, plan, pool, head),
        backup_ties: backup.map(|pool| ties(core, plan, pool, head)).unwrap_or_default(),
        deadline: time_left(head).map(|left| core.now().plus(left)),
        nested: head.headers.any(ATTEMPT, &mut |value| value != b"1"),
    }
}

fn priority(rule: &Route, head: &Head<'_>) -> Priority {
    let mut found = rule.importance;
    if let Some(name) = &rule.importance_header {
        head.headers.any(&name.0, &mut |value| {
            found = match value {
                b"critical" => Priority::Critical,
                b"high" => Priority::High,
                b"normal" => Priority::Normal,
                b"low" => Priority::Low,
                _ => return false,
            };
            true
        });
    }
    found
}

fn time_left(head: &Head<'_>) -> Option<Micros> {
    let mut left: Option<Micros> = None;
    let mut take = |found: Option<Micros>| {
        left = [left, found].into_iter().flatten().min();
        false
    };
    head.headers.any(deadline::HEADER, &mut |value| take(deadline::parse(value)));
    head.headers.any(deadline::GRPC_HEADER, &mut |value| take(deadline::parse_grpc(value)));
    left
}

/// What is sent, and where to.
pub(super) struct Outbound {
    pub(super) template: Box<Template>,
    pub(super) arrival: Arrival,
    /// The pool that gets a copy, with the configuration whose number it is, and what binds it there.
    pub(super) copy_to: Option<(PoolId, Generation, Ties)>,
}

/// How large a body may be, and how long a pause in it, at the listener of a connection.
pub(super) fn body_limits(connection: &Connection, plan: &Plan) -> (u64, Duration) {
    // A stream of HTTP/2 may come while its listener goes: then the defaults are as good as any.
    let own = connection.listening.id().and_then(|id| plan.snapshot.config.listeners.get(id.at()));
    let (size, idle) = own.map_or_else(
        || (Listener::default().body_size, Listener::default().body_idle),
        |listener| (listener.it.body_size, listener.it.body_idle),
    );
    (size.0, duration(idle))
}

/// Lets the gate send the request, of whose body `keep` bytes are kept, and gives what came of it.
pub(super) async fn send(
    connection: &Connection,
    plan: &Plan,
    mut outbound: Outbound,
    (body, keep): (Inbound, u64),
    mut own: Own,
) -> Answered {
    let core = &connection.core;
    let (size, idle) = body_limits(connection, plan);
    let source = Source::new(body, keep, size, idle);
    if source.is_too_large() {
        return own.answer(413, "the body is too large").into();
    }
    let needed = needed(source.length(), keep, outbound.template.is_grpc());
    if needed > 0
        && let Err(response) = gather(core, plan, &mut outbound.arrival, (&source, needed), &mut own).await
    {
        return response.into();
    }
    let upgrade = outbound.template.upgrade.clone();
    let (mut in_flight, outcome) = carry(core, outbound, &source, own.take_record()).await;
    match outcome {
        Ok(found) => reply(&mut own, in_flight, *found, (upgrade, connection.peer.secure)),
        Err(none) => answer(&mut own, &mut in_flight, none).into(),
    }
}

/// Waits for the part of a body without which its request takes nothing of an upstream, neither a place nor a connection.
///
/// # Errors
/// The answer: it did not come in time or broke off, or the request's route is gone by then.
async fn gather(
    core: &Core,
    plan: &Plan,
    arrival: &mut Arrival,
    (source, needed): (&Source, u64),
    own: &mut Own,
) -> Result<(), Response<Reply>> {
    let mut gathering = pin!(source.gather(needed));
    // Most of what is waited for came with the head.
    if !poll_fn(|cx| Poll::Ready(gathering.as_mut().poll(cx).is_ready())).await {
        let way = Way::of(plan, arrival);
        let total = arrival.route.map(|route| plan.snapshot.config.routes[route.at()].it.timeout.total);
        let total = core.now().plus(total.expect("it came by one"));
        let deadline = arrival.deadline.map_or(total, |asked| asked.min(total));
        arrival.deadline = Some(deadline);
        if timeout_at(core.instant(deadline), gathering).await.is_err() {
            return Err(own.answer(408, said(Why::BodyLate)));
        }
        if !way.renew(&core.plan(), arrival) {
            let mut response = own.answer(503, REMOVED);
            set(response.headers_mut(), RETRY_AFTER.as_str(), "1");
            return Err(response);
        }
    }
    match source.fault() {
        Some(fault) => {
            let (status, what) = fault.answer();
            Err(own.answer(status.as_u16(), what))
        }
        None => Ok(()),
    }
}

/// Lets the gate send the request, until it is decided whose reply the client gets.
pub(super) async fn carry(
    core: &Rc<Core>,
    outbound: Outbound,
    source: &Rc<Source>,
    record: Record,
) -> (InFlight, Outcome) {
    let Outbound { template, mut arrival, copy_to } = outbound;
    arrival.sends_body = !source.is_empty();
    arrival.traits.replayable = source.is_kept();
    let mut in_flight = InFlight::new(core, record);
    if let Some(which) = &template.trailers {
        source.pass_trailers(which.clone());
    }
    in_flight.both_ways = arrival.sends_body.then(|| source.both_ways());
    let id = in_flight.id;
    let teller = Rc::clone(core);
    source.on_gone(move || teller.tell(Input::BodyGone { request: id }));
    let deadline = arrival.deadline;
    core.tell(Input::Arrived { request: id, arrival });
    let outcome = attempts::carry(&mut in_flight, &template, source).await;
    if let Some((pool, of, ties)) = copy_to
        && template.upgrade.is_none()
    {
        mirror::start(core, &template, source, (pool, of), (ties, deadline));
    }
    (in_flight, outcome)
}

/// Gives an upstream's reply on as it comes.
fn reply(
    own: &mut Own,
    mut in_flight: InFlight,
    found: Found,
    (asked, secure): (Option<HeaderValue>, bool),
) -> Answered {
    let core = Rc::clone(&in_flight.core);
    let (mut reply, body) = found.response.into_parts();
    let upgrades = reply.status == StatusCode::SWITCHING_PROTOCOLS;
    strip(&mut reply.headers, upgrades);
    announce(&mut reply.headers, found.trailers.as_ref());
    if let Some(name) = found.stick_to
        && let Some(line) = sticky_line(&core, &found.upstream, name, secure)
    {
        reply.headers.append(SET_COOKIE, line);
    }
    in_flight.record.status = reply.status.as_u16();
    if upgrades {
        // Another protocol than was asked for is one that nobody has let through.
        let named: Vec<&HeaderValue> = reply.headers.get_all(UPGRADE).iter().collect();
        let agrees = matches!((&*named, &asked), ([named], Some(asked)) if named.as_bytes().eq_ignore_ascii_case(asked.as_bytes()));
        return match body.into_upgraded().filter(|_| agrees) {
            Some(upstream) => {
                let tunnel = Tunnel { upstream, in_flight, idle: found.idle };
                Answered { response: Response::from_parts(reply, Reply::whole("")), tunnel: Some(tunnel) }
            }
            None => unasked_upgrade(own, in_flight).into(),
        };
    }
    let mut response = Response::new(Reply::forwarded(body, in_flight, found.idle, found.trailers));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response.into()
}

/// Answers where the upstream changed the protocol and nobody asked for it.
pub(super) fn unasked_upgrade(own: &mut Own, mut in_flight: InFlight) -> Response<Reply> {
    let (attempt, failure) = (in_flight.attempt(), Failure::Reset);
    in_flight.end(|request| Input::Failed { request, attempt, failure });
    own.reclaim(&mut in_flight);
    own.answer(502, "the upstream changed the protocol, which nobody asked for")
}

/// Answers where there is no reply to give on.
pub(super) fn answer(own: &mut Own, in_flight: &mut InFlight, none: NoReply) -> Response<Reply> {
    match none {
        NoReply::Answer { why, retry_after, .. } => {
            in_flight.has_ended();
            own.reclaim(in_flight);
            own.record.note(|line| line.why = format!("{why:?}"));
            let mut response = own.answer(why.status(), said(why));
            if let Some(wait) = retry_after {
                set(response.headers_mut(), RETRY_AFTER.as_str(), &retry_after_text(wait));
            }
            response
        }
        NoReply::ClientFault(fault) => {
            in_flight.end(|request| Input::Gone { request });
            let (status, what) = fault.answer();
            own.reclaim(in_flight);
            own.answer(status.as_u16(), what)
        }
    }
}

pub(super) fn sticky_line(core: &Core, upstream: &Upstream, name: u64, secure: bool) -> Option<HeaderValue> {
    let sticky = upstream.sticky.borrow();
    let rule = sticky.as_ref()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let age = rule.max_age.0 / 1_000_000;
    let value = cookie(&core.secret(), &upstream.key.pool, Session { upstream: name, ends: now + age });
    let secure = if secure { "; Secure" } else { "" };
    let line = format!("{}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}", rule.cookie.0);
    HeaderValue::from_str(&line).ok()
}
