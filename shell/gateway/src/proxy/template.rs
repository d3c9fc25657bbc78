//! A request as upstreams get it, made once and sent as often as the gate says.

use std::rc::Rc;

use http::header::{HOST, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version};
use skep_base::Micros;
use skep_gate::protect::forwarded;
use skep_gate::resilience::deadline;
use skep_gate::router::{Forward, Plan as RoutePlan};

use super::headers::{apply_changes, strip_request};
use super::{ATTEMPT, Asked, REQUEST_ID, set};
use crate::core::Plan;
use crate::listen::Connection;
use crate::source::{Sending, Source};
use crate::upstream::Upstream;

/// A request without its body.
#[derive(Clone)]
pub(super) struct Template {
    method: Method,
    target: PathAndQuery,
    authority: Option<Authority>,
    headers: HeaderMap,
    is_grpc: bool,
    /// The client asked for another protocol.
    pub(super) upgrades: bool,
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
        let upgrades = parts.version == Version::HTTP_11
            && parts.headers.contains_key(http::header::UPGRADE)
            && super::headers::Lines(&parts.headers).names_upgrade();
        let mut headers = parts.headers.clone();
        strip_request(&mut headers, upgrades);
        let style = plan.snapshot.config.forwarded;
        for (name, value) in forwarded::lines(style, asked.client, connection.peer, asked.host) {
            set(&mut headers, name, &value);
        }
        set(&mut headers, REQUEST_ID, id);
        apply_changes(&mut headers, &route.request_headers);
        let host = forward.host.unwrap_or(asked.host);
        set(&mut headers, HOST.as_str(), host);
        let target = match parts.uri.query() {
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
            upgrades,
        }
    }

    /// The request of one attempt, with `left` as what is left of its time.
    pub(super) fn request(
        &self,
        upstream: &Upstream,
        attempt: u32,
        left: Micros,
        source: &Rc<Source>,
    ) -> Request<Sending> {
        let mut request = Request::new(Sending::new(source));
        *request.method_mut() = self.method.clone();
        let mut headers = self.headers.clone();
        if let Ok(value) = HeaderValue::from_str(&deadline::format(left)) {
            headers.insert(deadline::HEADER, value);
        }
        if self.is_grpc
            && let Ok(value) = HeaderValue::from_str(&deadline::format_grpc(left))
        {
            headers.insert(deadline::GRPC_HEADER, value);
        }
        headers.insert(ATTEMPT, HeaderValue::from(attempt));
        let uri = if upstream.is_http2() {
            *request.version_mut() = Version::HTTP_2;
            headers.remove(HOST);
            let scheme = if upstream.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
            let uri = Uri::builder().scheme(scheme).path_and_query(self.target.clone());
            let authority = self.authority.clone().unwrap_or_else(|| Authority::from_static("localhost"));
            uri.authority(authority).build()
        } else {
            headers.remove(TE);
            Uri::builder().path_and_query(self.target.clone()).build()
        };
        *request.uri_mut() = uri.expect("parts that were read make a URI");
        *request.headers_mut() = headers;
        request
    }
}
