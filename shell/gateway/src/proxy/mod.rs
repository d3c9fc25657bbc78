//! A request from its head to the head of its reply: who sent it, which route takes it, whether it may pass, and what an
//! upstream said.
//!
//! Owns the order of these questions; their answers are `skep-gate`'s.

mod admit;
mod attempts;
mod forward;
mod headers;
mod held;
mod idempotent;
mod mirror;
mod own;
mod rules;
mod template;
mod way;

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, Version};
use skep_gate::protect::forwarded::{self, Client, Trust};
use skep_gate::router::{Action, Head, plain_authority, request_path};

use crate::access_log::Line;
use crate::auth::Known;
use crate::core::Core;
use crate::in_flight::{InFlight, Record};
use crate::listen::Connection;
use crate::reply::Reply;
use crate::source::Inbound;
use crate::upstream::Upgraded;
use forward::Outbound;
use headers::{Lines, apply_changes};
use own::Own;
use template::Template;

/// By which gateways tell those behind them that they repeat a request.
const ATTEMPT: &str = "x-skep-attempt";
const REQUEST_ID: &str = "x-request-id";
/// A longer id of a request is replaced with one of ours.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// A connection that speaks another protocol from here on.
pub(crate) struct Tunnel {
    pub(crate) upstream: Upgraded,
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

/// Carries one request. Its head is on the heap: a future has a place of its own for each time that it is handed on.
pub(crate) async fn carry(connection: &Connection, parts: Box<Parts>, body: Inbound) -> Answered {
    let core = &connection.core;
    let plan = core.plan();
    let id = request_id(core, &parts.headers);
    let snapshot = &plan.snapshot;
    let (hops, header) = (snapshot.config.trusted_hops, snapshot.config.trusted_header);
    let trust = Trust { proxies: &snapshot.trusted, hops, header };
    let client = forwarded::client(connection.peer, trust, &Lines(&parts.headers));
    let given = given_host(&parts);
    let record = Record::begin(core, || Line {
        id: id.clone(),
        client: client.address.to_string(),
        method: parts.method.to_string(),
        host: given.unwrap_or_default().to_owned(),
        path: parts.uri.path().to_owned(),
        version: if parts.version == Version::HTTP_2 { "2" } else { "1.1" },
        ..Line::default()
    });
    let mut own = Own { id, is_grpc: is_grpc(&parts.headers), record };
    let host = match given {
        Some(given) => plain_authority(given),
        // Such a client need not say whom it asks (RFC 9112, section 3.2): it is for routes that have no host.
        None => (parts.version == Version::HTTP_10).then_some(Cow::Borrowed("")),
    };
    let Some(host) = host else {
        return own.answer(400, "there is no host, or a malformed one").into();
    };
    if parts.method == Method::CONNECT {
        return own.answer(501, "CONNECT is served for WebSockets only").into();
    }
    let path = match request_path(&plan.snapshot.config, parts.uri.path()) {
        Ok(path) => path.into_owned(),
        Err(bad) => return own.answer(400, &bad.to_string()).into(),
    };
    let lines = Lines(&parts.headers);
    let mut asked =
        Asked { parts: &parts, lines: &lines, client: &client, host: &host, path: &path, known: None };
    let mut denied = None;
    if plan.snapshot.auth.is_some() {
        // On the heap, as the rest that few requests need.
        match Box::pin(admit::admit(connection, &plan, &asked, &mut own)).await {
            Ok(known) => asked.known = known,
            // Limits count those who are refused as well.
            Err(response) => denied = Some(response),
        }
    }
    let limited = match core.plan().snapshot.has_rules {
        false => Vec::new(),
        true => match rules::rule(connection, &asked, &mut own).await {
            Ok(limited) => limited,
            Err(response) => return response.into(),
        },
    };
    if let Some(response) = denied {
        return response.into();
    }
    // Another configuration may have come while the request waited; what follows is all by one, without a pause.
    if !Rc::ptr_eq(&core.plan(), &plan)
        && let Err(response) = Box::pin(admit::admit_again(connection, plan, &mut asked, &mut own)).await
    {
        return response.into();
    }
    let plan = core.plan();
    let head = asked.head(connection);
    let Some(found) = plan.snapshot.router.find(&head) else {
        return own.answer(404, "no route takes this request").into();
    };
    let route = found.route;
    own.record.set_route(&plan, route);
    if !plan.snapshot.router.reads_alike(&head, route) {
        return own.answer(400, "another server may read the path as one of another route").into();
    }
    let action = found.action(&head, &mut core.rng.borrow_mut());
    let mut answered = match action {
        Action::Refuse(why) => own.answer(400, why).into(),
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
            let template = Template::new(&asked, connection, &plan, &forward, found.plan, (&own.id, &body));
            let Some(template) = template.map(Box::new) else {
                return own.answer(400, "what the route makes of the path cannot be sent").into();
            };
            let arrival = forward::arrival(core, &plan, route, (forward.pool, forward.backup), &head);
            let rule = &plan.snapshot.config.routes[route.at()].it;
            let keep = rule.retry.as_ref().map_or(0, |retry| retry.body_size.0);
            let keep = if forward.mirror.is_some() { keep.max(mirror::BODY_BYTES_MAX) } else { keep };
            let copy_to = forward.mirror.map(|pool| {
                let ties = forward::ties(core, &plan, pool, &head);
                (pool, plan.generation, ties)
            });
            let outbound = Outbound { template, arrival, copy_to };
            match &rule.idempotency {
                Some(rules) if idempotent::concerns(&parts.method) => {
                    let how = (rule, rules, &asked);
                    // On the heap, so that requests without keys do not carry room for it.
                    Box::pin(idempotent::send(connection, &plan, how, outbound, (body, keep), own)).await
                }
                _ => forward::send(connection, &plan, outbound, (body, keep), own).await,
            }
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
    /// Who calls, if the route asks for it.
    known: Option<Known>,
}

impl<'a> Asked<'a> {
    fn head(&self, connection: &Connection) -> Head<'a> {
        Head {
            listener: connection.listening.id(),
            secure: self.client.secure,
            method: self.parts.method.as_str(),
            host: self.host,
            path: self.path,
            query: self.parts.uri.query(),
            headers: self.lines,
            source: self.client.address,
            caller: self.known.as_ref().map(|known| known.caller.key),
        }
    }
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
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// `:authority` or `Host`.
fn given_host(parts: &Parts) -> Option<&str> {
    match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => parts.headers.get(HOST).map(|host| host.to_str().unwrap_or("")),
    }
}

/// All 32 digits.
fn hex(n: u128) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    let mut text = String::with_capacity(32);
    text.extend(n.to_be_bytes().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
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
