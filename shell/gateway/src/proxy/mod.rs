//! A request from its head to the head of its reply: who sent it, which route takes it, whether it may pass, and what an
//! upstream said.
//!
//! Owns the order of these questions; their answers are `skep-gate`'s.

mod attempts;
mod headers;
mod mirror;
mod own;
mod template;

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::header::{HOST, HeaderName, HeaderValue, RETRY_AFTER, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use skep_base::Micros;
use skep_gate::balance::sticky::{Session, cookie, session};
use skep_gate::config::Named;
use skep_gate::config::listener::Listener;
use skep_gate::config::resilience::Priority;
use skep_gate::config::route::Route;
use skep_gate::protect::forwarded::{self, Client};
use skep_gate::protect::guard::{Ruling, Word};
use skep_gate::protect::headers::{policy, retry_after as retry_after_text, state};
use skep_gate::resilience::deadline;
use skep_gate::resilience::retry::{Traits, is_idempotent};
use skep_gate::router::{Action, Head, is_authority, normal_path};
use skep_gate::{Arrival, Input, PoolId, RequestId, RouteId};

use crate::access_log::Line;
use crate::control::duration;
use crate::core::{Core, Plan};
use crate::figures::count;
use crate::in_flight::{InFlight, Record};
use crate::listen::Connection;
use crate::reply::Reply;
use crate::source::{Inbound, Source};
use crate::stream::{Rewound, Stream};
use attempts::Outcome;
use headers::{Lines, apply_changes, strip};
use own::{Own, said};
use template::Template;

/// By which gateways tell those behind them that they repeat a request.
const ATTEMPT: &str = "x-skep-attempt";
const REQUEST_ID: &str = "x-request-id";
/// A longer id of a request is replaced with one of ours.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// A connection that speaks another protocol from here on.
pub(crate) struct Tunnel {
    pub(crate) upstream: Rewound<Stream>,
    pub(crate) in_flight: InFlight,
    pub(crate) idle: Duration,
}

/// What the connection must do with the reply.
pub(crate) struct Answered {
    pub(crate) response: Response<Reply>,
    pub(crate) tunnel: Option<Tunnel>,
}

impl From<Response<Reply>> for Answered {
    fn from(response: Response<Reply>) -> Answered {
        Answered { response, tunnel: None }
    }
}

/// Carries one request.
pub(crate) async fn carry(connection: &Connection, request: Request<Inbound>) -> Answered {
    let core = &connection.core;
    let (parts, body) = request.into_parts();
    let plan = core.plan();
    let id = request_id(core, &parts.headers);
    let client = forwarded::client(
        connection.peer,
        &plan.snapshot.trusted,
        plan.snapshot.config.trusted_hops,
        &Lines(&parts.headers),
    );
    let host = host(&parts);
    let record = Record::begin(core, || Line {
        id: id.clone(),
        client: client.address.to_string(),
        method: parts.method.to_string(),
        host: host.clone().unwrap_or_default(),
        path: parts.uri.path().to_owned(),
        version: if parts.version == Version::HTTP_2 { "2" } else { "1.1" },
        ..Line::default()
    });
    let mut own = Own { id, is_grpc: is_grpc(&parts.headers), record };
    let Some(host) = host.filter(|host| is_authority(host)) else {
        return own.answer(400, "there is no host, or a malformed one").into();
    };
    let path = match normal_path(parts.uri.path()) {
        Ok(path) => path.into_owned(),
        Err(bad) => return own.answer(400, &bad.to_string()).into(),
    };
    let lines = Lines(&parts.headers);
    let asked = Asked { parts: &parts, lines: &lines, client: &client, host: &host, path: &path };
    let limited = match plan.snapshot.has_rules {
        false => Vec::new(),
        true => match rule(connection, &plan, &asked, &mut own).await {
            Ok(limited) => limited,
            Err(response) => return response.into(),
        },
    };
    // Another configuration may have come while the request waited; what follows is all by one, without a pause.
    let plan = core.plan();
    let head = asked.head(connection);
    let Some(found) = plan.snapshot.router.find(&head) else {
        return own.answer(404, "no route takes this request").into();
    };
    let route = found.route;
    own.record.set_route(route);
    let action = found.action(&head, &mut core.rng.borrow_mut());
    let mut answered = match action {
        Action::Redirect { status, location } => own.redirect(status, &location).into(),
        Action::Answer { status, headers, body } => {
            let mut response = Response::new(Reply::whole(body.to_owned()));
            *response.status_mut() = status_code(status);
            let changes =
                skep_gate::config::route::HeaderChanges { set: headers.to_vec(), ..Default::default() };
            apply_changes(response.headers_mut(), &changes);
            own.record.status = status;
            response.into()
        }
        Action::Forward(forward) => {
            let template = Template::new(&asked, connection, &plan, &forward, found.plan, &own.id);
            let arrival = arrival(core, &plan, route, forward.pool, &head);
            let keep = plan.snapshot.config.routes[route.at()].it.retry.as_ref().map_or(0, |r| r.body_size.0);
            let keep = if forward.mirror.is_some() { keep.max(mirror::BODY_BYTES_MAX) } else { keep };
            send(connection, &plan, template, (arrival, forward.mirror), (body, keep), own).await
        }
    };
    let response = &mut answered.response;
    apply_changes(response.headers_mut(), &found.plan.response_headers);
    for (name, value) in limited {
        set(response.headers_mut(), name, &value);
    }
    answered
}

/// A request as the gate's questions see it.
struct Asked<'a> {
    parts: &'a Parts,
    lines: &'a Lines<'a>,
    client: &'a Client,
    host: &'a str,
    path: &'a str,
}

impl<'a> Asked<'a> {
    fn head(&self, connection: &Connection) -> Head<'a> {
        Head {
            listener: connection.listening.id().unwrap_or_default(),
            secure: self.client.secure,
            method: self.parts.method.as_str(),
            host: self.host,
            path: self.path,
            query: self.parts.uri.query(),
            headers: self.lines,
            source: self.client.address,
        }
    }
}

type Limited = Vec<(&'static str, String)>;

/// Asks whether the request may pass its route; gives the RateLimit headers of the reply.
///
/// # Errors
/// The answer.
async fn rule(
    connection: &Connection,
    plan: &Plan,
    asked: &Asked<'_>,
    own: &mut Own,
) -> Result<Limited, Response<Reply>> {
    let core = &connection.core;
    let head = asked.head(connection);
    let Some(route) = plan.snapshot.router.find(&head).map(|found| found.route) else {
        return Err(own.answer(404, "no route takes this request"));
    };
    own.record.set_route(route);
    let it = &plan.snapshot.config.routes[route.at()].it;
    if it.limits.is_empty() && it.allow.is_empty() && it.deny.is_empty() {
        return Ok(Vec::new());
    }
    let mut words = Vec::new();
    // Limits of the node are decided at once; there are no others yet (see `missing`).
    core.guard.borrow_mut().judge(core.now(), RequestId(0), route, &head, &mut words);
    let ruling = words.into_iter().find_map(|word| match word {
        Word::Ruled { ruling, .. } => Some(ruling),
        Word::Ask { .. } => None,
    });
    let config = &plan.snapshot.config;
    let lines = |limit: skep_gate::LimitId, verdict| {
        let Named { name, it } = &config.limits[limit.at()];
        match it.headers {
            true => vec![("ratelimit-policy", policy(name, it)), ("ratelimit", state(name, verdict))],
            false => Vec::new(),
        }
    };
    match ruling {
        Some(Ruling::Passes(None)) => Ok(Vec::new()),
        Some(Ruling::Passes(Some((limit, verdict)))) => Ok(lines(limit, verdict)),
        Some(Ruling::Forbidden) => Err(own.answer(403, "this address is not let in")),
        Some(Ruling::Limited(limit, verdict)) => {
            count(&core.limited);
            let mut response = own.answer(429, "too many requests");
            for (name, value) in lines(limit, verdict) {
                set(response.headers_mut(), name, &value);
            }
            if config.limits[limit.at()].it.headers {
                set(response.headers_mut(), RETRY_AFTER.as_str(), &retry_after_text(verdict.wait));
            }
            Err(response)
        }
        None => Err(own.answer(503, "the rate of this caller could not be found out")),
    }
}

fn arrival(core: &Core, plan: &Plan, route: RouteId, pool: PoolId, head: &Head<'_>) -> Arrival {
    let config = &plan.snapshot.config;
    let (rule, own) = (&config.routes[route.at()].it, &config.pools[pool.at()]);
    let sticky = own.it.sticky.as_ref().and_then(|rule| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut found = None;
        head.cookie(&rule.cookie.0, &mut |value| {
            found = session(&core.secret, &own.name, value, now).map(|session| session.upstream);
            found.is_some()
        });
        found
    });
    let has = |name: &str| head.headers.any(name, &mut |_| true);
    Arrival {
        route: Some(route),
        pool,
        priority: priority(rule, head),
        traits: Traits {
            idempotent: is_idempotent(head.method),
            keyed: has("idempotency-key"),
            replayable: true,
        },
        hedgeable: rule.hedge.as_ref().is_some_and(|h| h.methods.iter().any(|m| m.0 == head.method)),
        key: head.key(&own.it.hash_by),
        sticky,
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

/// Lets the gate send the request, and gives what came of it.
async fn send(
    connection: &Connection,
    plan: &Plan,
    template: Template,
    (arrival, copy_to): (Arrival, Option<PoolId>),
    (body, keep): (Inbound, u64),
    mut own: Own,
) -> Answered {
    let core = &connection.core;
    // A stream of HTTP/2 may come while its listener goes: then the defaults are as good as any.
    let own_listener = connection.listening.id().and_then(|id| plan.snapshot.config.listeners.get(id.at()));
    let (size, idle) = own_listener.map_or_else(
        || (Listener::default().body_size, Listener::default().body_idle),
        |listener| (listener.it.body_size, listener.it.body_idle),
    );
    let source = Source::new(body, keep, size.0, duration(idle));
    if source.is_too_large() {
        return own.answer(413, "the body is too large").into();
    }
    let mut in_flight = InFlight::new(core, own.take_record());
    let id = in_flight.id;
    let teller = Rc::clone(core);
    source.on_gone(move || teller.tell(Input::BodyGone { request: id }));
    let (source_key, deadline) = (arrival.key, arrival.deadline);
    core.tell(Input::Arrived { request: id, arrival });
    let outcome = attempts::carry(&mut in_flight, &template, &source).await;
    if let Some(pool) = copy_to
        && !template.upgrades
    {
        mirror::start(core, &template, &source, (pool, plan.snapshot.version), (source_key, deadline));
    }
    match outcome {
        Outcome::Reply(found) => {
            let (mut reply, body) = found.response.into_parts();
            let upgrades = reply.status == StatusCode::SWITCHING_PROTOCOLS;
            strip(&mut reply.headers, upgrades);
            if let Some(name) = found.stick_to
                && let Some(line) = sticky_line(core, &found.upstream, name, connection.peer.secure)
            {
                reply.headers.append(SET_COOKIE, line);
            }
            in_flight.record.status = reply.status.as_u16();
            if upgrades {
                return match body.into_upgraded().filter(|_| template.upgrades) {
                    Some(upstream) => {
                        let tunnel = Tunnel { upstream, in_flight, idle: found.idle };
                        Answered {
                            response: Response::from_parts(reply, Reply::whole("")),
                            tunnel: Some(tunnel),
                        }
                    }
                    None => {
                        let (attempt, failure) =
                            (in_flight.attempt(), skep_gate::resilience::retry::Failure::Reset);
                        in_flight.end(|request| Input::Failed { request, attempt, failure });
                        let mut own = own.with(&mut in_flight);
                        own.answer(502, "the upstream changed the protocol, which nobody asked for").into()
                    }
                };
            }
            let reply_body = Reply::forwarded(body, in_flight, found.idle);
            let mut response = Response::new(reply_body);
            *response.status_mut() = reply.status;
            *response.headers_mut() = reply.headers;
            response.into()
        }
        Outcome::Answer { why, retry_after } => {
            in_flight.has_ended();
            let mut own = own.with(&mut in_flight);
            own.record.note(|line| line.why = format!("{why:?}"));
            let mut response = own.answer(why.status(), said(why));
            if let Some(wait) = retry_after {
                set(response.headers_mut(), RETRY_AFTER.as_str(), &retry_after_text(wait));
            }
            response.into()
        }
        Outcome::ClientFault(fault) => {
            in_flight.end(|request| Input::Gone { request });
            let (status, what) = fault.answer();
            own.with(&mut in_flight).answer(status.as_u16(), what).into()
        }
    }
}

fn sticky_line(
    core: &Core,
    upstream: &crate::upstream::Upstream,
    name: u64,
    secure: bool,
) -> Option<HeaderValue> {
    let sticky = upstream.sticky.borrow();
    let rule = sticky.as_ref()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let age = rule.max_age.0 / 1_000_000;
    let value = cookie(&core.secret, &upstream.key.pool, Session { upstream: name, ends: now + age });
    let secure = if secure { "; Secure" } else { "" };
    let line = format!("{}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}", rule.cookie.0);
    HeaderValue::from_str(&line).ok()
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Sets a header whose name is written in small letters, if the value can be one.
fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        // Found by its text, a name that HTTP does not define would be copied.
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get("content-type").is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// `:authority` or `Host`.
fn host(parts: &Parts) -> Option<String> {
    match parts.uri.authority() {
        Some(authority) => Some(authority.as_str().to_owned()),
        None => parts.headers.get(HOST)?.to_str().ok().map(str::to_owned),
    }
}

/// All 32 digits.
fn hex(n: u128) -> String {
    let mut text = String::with_capacity(32);
    for byte in n.to_be_bytes() {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

fn request_id(core: &Core, headers: &HeaderMap) -> String {
    let good = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    match headers.get(REQUEST_ID).filter(good).and_then(|value| value.to_str().ok()) {
        Some(id) => id.to_owned(),
        None => {
            let mut rng = core.rng.borrow_mut();
            hex(u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()))
        }
    }
}
