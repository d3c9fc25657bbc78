//! WebSockets over HTTP/2 with clients (RFC 8441): what a client opens by an extended CONNECT is carried as the upgrade of
//! HTTP/1.1. Routes, limits, proofs of callers and figures take it for that request, as does an upstream of HTTP/1.1; for one of
//! HTTP/2 it becomes an extended CONNECT again (`upstream/h2/websocket.rs`).

use h2::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use skep_gate::Input;
use skep_gate::http1::websocket;
use skep_gate::resilience::retry::Failure;

use crate::copy::copy_both;
use crate::core::Core;
use crate::http2;
use crate::proxy::{Answered, Tunnel};
use crate::reply::Reply;

/// A client waits for a WebSocket.
pub(crate) struct Opening {
    key: String,
}

/// Makes of an extended CONNECT for a WebSocket the request that asks an upstream for one.
pub(crate) fn translate(core: &Core, head: &mut Parts) -> Option<Opening> {
    let asks = head.extensions.get::<Protocol>();
    if head.method != Method::CONNECT || asks.is_none_or(|p| !p.as_str().eq_ignore_ascii_case("websocket")) {
        return None;
    }
    let mut random = [0; 16];
    for half in random.chunks_exact_mut(8) {
        half.copy_from_slice(&core.rng.borrow_mut().next_u64().to_le_bytes());
    }
    // HTTP/2 has no key: the stream is the client's own.
    let key = websocket::key(random);
    head.method = Method::GET;
    let headers = &mut head.headers;
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(&key).expect("base 64 is a header's value"));
    Some(Opening { key })
}

impl Opening {
    /// What the client gets, and its WebSocket's other side if the upstream has opened one.
    pub(crate) fn answer(self, answered: Answered) -> Answered {
        let Answered { mut response, tunnel } = answered;
        let Some(tunnel) = tunnel else {
            let response = match response.status().is_success() {
                // By a 2xx it would be open.
                true => bad_gateway("the upstream opened no WebSocket"),
                false => response,
            };
            return response.into();
        };
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT);
        let is_websocket = response
            .headers()
            .get(UPGRADE)
            .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if !is_websocket || accepted.is_none_or(|accepted| *accepted != websocket::accept(&self.key)) {
            let Tunnel { mut in_flight, .. } = tunnel;
            let (attempt, failure) = (in_flight.attempt(), Failure::Reset);
            in_flight.record.status = StatusCode::BAD_GATEWAY.as_u16();
            in_flight.end(|request| Input::Failed { request, attempt, failure });
            return bad_gateway("the upstream answered another WebSocket's key").into();
        }
        for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT, CONTENT_LENGTH] {
            response.headers_mut().remove(name);
        }
        *response.status_mut() = StatusCode::OK;
        Answered { response, tunnel: Some(tunnel) }
    }
}

/// Bytes in both directions, until one side ends or both are silent.
pub(crate) async fn carry(client: http2::Tunnel, tunnel: Tunnel) {
    let Tunnel { upstream, mut in_flight, idle } = tunnel;
    let (_, sent) = copy_both(client, upstream, idle).await;
    in_flight.record.bytes_sent = sent;
    in_flight.end(|request| Input::Done { request });
}

fn bad_gateway(what: &'static str) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(format!("502 {what}\n")));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
