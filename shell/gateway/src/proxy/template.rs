//! A request as upstreams get it, made once and sent as often as the gate says.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, TE,
    UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version};
use skep_base::Micros;
use skep_gate::auth::{Hidden, without_parameter};
use skep_gate::http1::websocket::is_key;
use skep_gate::protect::forwarded;
use skep_gate::protect::said::Said;
use skep_gate::protect::trailers::Trailers;
use skep_gate::resilience::deadline;
use skep_gate::router::{Forward, Plan as RoutePlan};

use super::headers::{announce, apply_changes, strip_request};
use super::{ATTEMPT, Asked, REQUEST_ID, set};
use crate::auth::Known;
use crate::core::Plan;
use crate::listen::Connection;
use crate::progress::Progress;
use crate::source::{Inbound, Sending, Source};
use crate::upstream::{Asking, Opening, Upstream, h1};

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
    /// It takes trailers, and says so.
    says_te: bool,
    /// Which trailers of the request go on; none if it can have none.
    pub(super) trailers: Option<Trailers>,
    /// Which of the reply the client gets; none if it takes none.
    pub(super) reply_trailers: Option<Trailers>,
}

impl Template {
    /// None if the target that the route makes of the request's is none that can be sent: a path in normal form with the query of a URI
    /// that was read is one, unless it is too long.
    pub(super) fn new(
        asked: &Asked<'_>,
        connection: &Connection,
        plan: &Plan,
        forward: &Forward<'_>,
        route: &RoutePlan,
        (id, body): (&str, &Inbound),
    ) -> Option<Template> {
        let parts = asked.parts;
        // Over HTTP/2 it is a WebSocket's, which has these lines from the gateway only.
        let asks = parts.version != Version::HTTP_10 && parts.headers.contains_key(http::header::UPGRADE);
        let upgrade = asks.then(|| route.upgrade(asked.lines)).flatten();
        let upgrade = upgrade.and_then(|protocol| HeaderValue::from_str(protocol).ok());
        let mut headers = parts.headers.clone();
        let said = Said {
            trusted: plan
                .snapshot
                .trusted
                .contains(connection.peer.address)
                .then_some(plan.snapshot.config.trusted_header),
            rules: plan.snapshot.auth.as_ref().map(|auth| &*auth.rules),
            named: plan.snapshot.router.headers(),
            changes: &route.request_headers,
        };
        let says_te = strip_request(&mut headers, upgrade.as_ref(), said);
        let rules = || plan.snapshot.auth.as_ref().map(|auth| Arc::clone(&auth.rules));
        let named = || Arc::clone(plan.snapshot.router.headers());
        let trailers = body
            .may_have_trailers()
            .then(|| Trailers::of_request(rules(), named(), Arc::clone(&route.request_headers)));
        // Clients of HTTP/2 need not say so; what would be lost otherwise is a gRPC's status.
        let takes_trailers = says_te || parts.version == Version::HTTP_2;
        let reply_trailers = takes_trailers.then(|| Trailers::of_reply(Arc::clone(&route.response_headers)));
        announce(&mut headers, trailers.as_ref());
        let style = plan.snapshot.config.forwarded;
        for (name, value) in forwarded::lines(style, asked.client, connection.peer, asked.host) {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        set(&mut headers, REQUEST_ID, id);
        let hidden = match (&plan.snapshot.auth, &asked.known) {
            (Some(auth), Some(known)) => Some(known.hidden(&auth.rules)),
            _ => None,
        };
        if let (Some(hidden), Some(known)) = (&hidden, &asked.known) {
            identify(&mut headers, hidden, known);
        }
        apply_changes(&mut headers, &route.request_headers);
        join_cookies(&mut headers);
        let host = forward.host.unwrap_or(asked.host);
        if let Ok(host) = HeaderValue::from_str(host) {
            headers.insert(HOST, host);
        }
        let query = match &hidden {
            Some(hidden) => query(parts.uri.query(), hidden),
            None => parts.uri.query().map(Cow::Borrowed),
        };
        let target = match query {
            Some(query) => PathAndQuery::try_from(format!("{}?{query}", forward.path)),
            None => PathAndQuery::try_from(&*forward.path),
        };
        Some(Template {
            method: parts.method.clone(),
            target: target.ok()?,
            authority: Authority::try_from(host).ok(),
            headers,
            is_grpc: super::is_grpc(&parts.headers),
            upgrade,
            says_te,
            trailers,
            reply_trailers,
        })
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// The same for a copy, whose body comes without its trailers.
    pub(super) fn without_trailers(&self) -> Template {
        let mut copy = self.clone();
        announce(&mut copy.headers, None);
        copy
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
            true => {
                let mut request = Box::new(self.for_http2(upstream, attempt, left, source));
                match self.websocket_key().filter(|_| source.is_empty()) {
                    Some(key) => Asking::WebSocket(Opening::new(request, key)),
                    None => {
                        // Another protocol cannot be asked for over HTTP/2 (RFC 9113, section 8.6).
                        if self.upgrade.is_some() {
                            request.headers_mut().remove(CONNECTION);
                            request.headers_mut().remove(UPGRADE);
                        }
                        Asking::H2(request)
                    }
                }
            }
            false => Asking::H1(self.for_http1(attempt, left, source)),
        }
    }

    /// The key with which the client asks for a WebSocket, if it does as it must.
    fn websocket_key(&self) -> Option<String> {
        let is_one = self.upgrade.as_ref()?.as_bytes().eq_ignore_ascii_case(b"websocket");
        let mut keys = self.headers.get_all(SEC_WEBSOCKET_KEY).iter();
        let key = keys.next()?.to_str().ok()?;
        let good = is_one && self.method == Method::GET && keys.next().is_none() && is_key(key);
        good.then(|| key.to_owned())
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
        if self.says_te && self.upgrade.is_none() && self.headers.contains_key(TE) {
            // It is said between neighbours, and so named by Connection (RFC 9110, section 10.1.4).
            line(TE.as_str(), b"trailers");
            line(CONNECTION.as_str(), b"te");
        }
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
        if let Some(length) = source.length()
            && (length > 0
                || !matches!(self.method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT))
        {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        for (name, value) in &mut headers {
            if is_of_one_request(name) {
                value.set_sensitive(true);
            }
        }
        let scheme = if upstream.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let authority = self.authority.clone().unwrap_or_else(|| Authority::from_static("localhost"));
        let uri = Uri::builder().scheme(scheme).path_and_query(self.target.clone()).authority(authority);
        *request.uri_mut() = uri.build().expect("parts that were read make a URI");
        *request.headers_mut() = headers;
        request
    }
}

/// Whether the next request's line will be another, or is nobody else's to see: it goes past the table of lines that a connection of
/// HTTP/2 shares (RFC 7541, section 7.1.3), where it would take the place of those that come again.
fn is_of_one_request(name: &HeaderName) -> bool {
    matches!(*name, AUTHORIZATION | COOKIE)
        || matches!(
            name.as_str(),
            REQUEST_ID | "traceparent" | "idempotency-key" | deadline::HEADER | deadline::GRPC_HEADER
        )
}

/// Tells the upstream who calls, where [`strip_request`] has left nothing that the client says of it.
fn identify(headers: &mut HeaderMap, hidden: &Hidden<'_>, known: &Known) {
    for name in &hidden.headers {
        headers.remove(*name);
    }
    if !hidden.leaves_cookies() && headers.contains_key(COOKIE) {
        let lines = hidden.cookie_lines(headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes));
        headers.remove(COOKIE);
        for line in lines.into_iter().filter_map(|line| HeaderValue::try_from(line).ok()) {
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

/// Makes one line of cookies that came in several, as they may over HTTP/2 and not over HTTP/1.1 (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&lines.join(&b"; "[..])).expect("lines that were values make one");
    headers.insert(COOKIE, joined);
}

/// The query without what it holds of proofs.
fn query<'q>(query: Option<&'q str>, hidden: &Hidden<'_>) -> Option<Cow<'q, str>> {
    let query = Cow::Borrowed(query?);
    if hidden.queries.is_empty() {
        return Some(query);
    }
    let left =
        hidden.queries.iter().fold(query, |query, name| without_parameter(&query, name).into_owned().into());
    Some(left).filter(|query| !query.is_empty())
}
