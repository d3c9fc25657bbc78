//! A request as upstreams get it, made once and sent as often as the gate says.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::{BufMut, BytesMut};
use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version};
use skep_base::Micros;
use skep_gate::auth::{Rules, without_cookie, without_parameter};
use skep_gate::protect::forwarded;
use skep_gate::protect::said::Said;
use skep_gate::resilience::deadline;
use skep_gate::router::{Forward, Plan as RoutePlan};

use super::headers::{apply_changes, strip_request};
use super::{ATTEMPT, Asked, REQUEST_ID, set};
use crate::auth::Known;
use crate::core::Plan;
use crate::listen::Connection;
use crate::progress::Progress;
use crate::source::{Sending, Source};
use crate::upstream::{Asking, Upstream, h1};

/// Room for the head of most requests.
const HEAD_BYTES_USUAL: usize = 1 << 10;

/// A request without its body.
#[derive(Clone)]
pub(super) struct Template {
    method: Method,
    target: PathAndQuery,
    authority: Option<Authority>,
    headers: HeaderMap,
    is_grpc: bool,
    /// Another protocol that the client asked for.
    pub(super) upgrade: Option<HeaderValue>,
}

impl Template {
    pub(super) fn new(
        asked: &Asked<'_>,
        connection: &Connection,
        plan: &Plan,
        forward: &Forward<'_>,
        route: &RoutePlan,
        id: &str,
    ) -> Template {
        let parts = asked.parts;
        // Over HTTP/2 it is a WebSocket's, which has these lines from the gateway only.
        let asks = parts.version != Version::HTTP_10 && parts.headers.contains_key(http::header::UPGRADE);
        let upgrade = asks.then(|| route.upgrade(asked.lines)).flatten();
        let upgrade = upgrade.and_then(|protocol| HeaderValue::from_str(protocol).ok());
        let mut headers = parts.headers.clone();
        let said = Said {
            trusted: plan.snapshot.trusted.contains(connection.peer.address),
            rules: plan.snapshot.auth.as_ref().map(|auth| &auth.rules),
            named: plan.snapshot.router.headers(),
            changes: &route.request_headers,
        };
        strip_request(&mut headers, upgrade.as_ref(), said);
        let style = plan.snapshot.config.forwarded;
        for (name, value) in forwarded::lines(style, asked.client, connection.peer, asked.host) {
            set(&mut headers, name, &value);
        }
        set(&mut headers, REQUEST_ID, id);
        if let (Some(auth), Some(known)) = (&plan.snapshot.auth, &asked.known) {
            identify(&mut headers, &auth.rules, known);
        }
        apply_changes(&mut headers, &route.request_headers);
        let host = forward.host.unwrap_or(asked.host);
        set(&mut headers, HOST.as_str(), host);
        let query = match (&plan.snapshot.auth, &asked.known) {
            (Some(auth), Some(known)) => query(parts.uri.query(), &auth.rules, known),
            _ => parts.uri.query().map(Cow::Borrowed),
        };
        let target = match query {
            Some(query) => PathAndQuery::try_from(format!("{}?{query}", forward.path)),
            None => PathAndQuery::try_from(&*forward.path),
        };
        Template {
            method: parts.method.clone(),
            // A path in normal form with the query of a URI that was read is one that can be written.
            target: target.unwrap_or_else(|_| PathAndQuery::from_static("/")),
            authority: Authority::try_from(host).ok(),
            headers,
            is_grpc: super::is_grpc(&parts.headers),
            upgrade,
        }
    }

    /// The request of one attempt, with `left` as what is left of its time.
    pub(super) fn asking(
        &self,
        upstream: &Upstream,
        attempt: u32,
        left: Micros,
        source: &Rc<Source>,
    ) -> Asking {
        match upstream.is_http2() {
            true => Asking::H2(Box::new(self.for_http2(upstream, attempt, left, source))),
            false => Asking::H1(self.for_http1(attempt, left, source)),
        }
    }

    fn for_http1(&self, attempt: u32, left: Micros, source: &Rc<Source>) -> h1::Request {
        let mut head = BytesMut::with_capacity(HEAD_BYTES_USUAL);
        let target = self.target.as_str();
        for part in [self.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            head.put_slice(part.as_bytes());
        }
        let mut line = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                head.put_slice(part);
            }
        };
        for (name, value) in &self.headers {
            // How its body is framed is said below; what is set here is set for this attempt.
            let kept = !matches!(*name, TE | CONTENT_LENGTH) && name != ATTEMPT && name != deadline::HEADER;
            if kept && !(self.is_grpc && name == deadline::GRPC_HEADER) {
                line(name.as_str(), value.as_bytes());
            }
        }
        line(deadline::HEADER, deadline::format(left).as_bytes());
        if self.is_grpc {
            line(deadline::GRPC_HEADER, deadline::format_grpc(left).as_bytes());
        }
        line(ATTEMPT, attempt.to_string().as_bytes());
        h1::end_head(&mut head, &self.method, source);
        let (head, method) = (head.freeze(), self.method.clone());
        h1::Request { head, method, source: Rc::clone(source), progress: Progress::new() }
    }

    fn for_http2(
        &self,
        upstream: &Upstream,
        attempt: u32,
        left: Micros,
        source: &Rc<Source>,
    ) -> Request<Sending> {
        let mut request = Request::new(Sending::new(source));
        *request.method_mut() = self.method.clone();
        *request.version_mut() = Version::HTTP_2;
        let mut headers = self.headers.clone();
        set(&mut headers, deadline::HEADER, &deadline::format(left));
        if self.is_grpc {
            set(&mut headers, deadline::GRPC_HEADER, &deadline::format_grpc(left));
        }
        headers.insert(ATTEMPT, HeaderValue::from(attempt));
        headers.remove(HOST);
        let scheme = if upstream.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let authority = self.authority.clone().unwrap_or_else(|| Authority::from_static("localhost"));
        let uri = Uri::builder().scheme(scheme).path_and_query(self.target.clone()).authority(authority);
        *request.uri_mut() = uri.build().expect("parts that were read make a URI");
        *request.headers_mut() = headers;
        request
    }
}

/// Tells the upstream who calls, where [`strip_request`] has left nothing that the client says of it.
fn identify(headers: &mut HeaderMap, rules: &Rules, known: &Known) {
    let hidden = rules.hidden(known.way);
    if let Some(name) = hidden.header {
        headers.remove(name);
    }
    if let Some(name) = hidden.cookie {
        let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
        headers.remove(COOKIE);
        let kept = lines.iter().filter_map(|line| without_cookie(line.as_bytes(), name));
        for line in kept.filter_map(|line| HeaderValue::from_bytes(&line).ok()) {
            headers.append(COOKIE, line);
        }
    }
    for (name, value) in &known.caller.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        {
            headers.insert(name, value);
        }
    }
}

/// The query without the proof that it holds.
fn query<'q>(query: Option<&'q str>, rules: &Rules, known: &Known) -> Option<Cow<'q, str>> {
    let query = query?;
    match rules.hidden(known.way).query {
        None => Some(Cow::Borrowed(query)),
        Some(name) => Some(without_parameter(query, name)).filter(|query| !query.is_empty()),
    }
}
