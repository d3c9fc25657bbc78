//! WebSockets to upstreams of HTTP/2 (RFC 8441): the upgrade that a client of HTTP/1.1 asks for as an extended CONNECT, and its
//! answer as that of an upgrade, so that everything else takes all WebSockets for the same.

use std::rc::Rc;

use h2::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use skep_gate::http1::websocket::accept;

use super::{Arriving as Body, Stream};
use crate::http2::{Received, Tunnel};
use crate::progress::Progress;
use crate::source::Sending;
use crate::upstream::upgraded::Upgraded;
use crate::upstream::{Arriving, Asking, SendFault};

/// A request for a WebSocket.
pub(crate) struct Opening {
    request: Box<Request<Sending>>,
    /// Of the client, or made for it.
    key: String,
}

impl Opening {
    /// Makes one of a GET that asks for an upgrade, with the key that it told.
    pub(crate) fn new(mut request: Box<Request<Sending>>, key: String) -> Opening {
        *request.method_mut() = Method::CONNECT;
        for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_KEY, CONTENT_LENGTH] {
            request.headers_mut().remove(name);
        }
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        Opening { request, key }
    }

    /// How far its body is, which it has none of.
    pub(crate) fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.request.body().progress)
    }
}

/// Sends it once the upstream has said that it takes such requests, and answers as an upstream of HTTP/1.1 does.
///
/// # Errors
/// [`SendFault`].
pub(in crate::upstream) async fn open(
    stream: Stream,
    opening: Opening,
) -> Result<Response<Arriving>, SendFault> {
    match stream.0.announced.takes_connect().await {
        None => return Err(SendFault::NotSent(Some(Asking::WebSocket(opening)))),
        Some(false) => return Err(SendFault::NotTaken),
        Some(true) => {}
    }
    let Some(mut sender) = stream.sender() else {
        return Err(SendFault::NotSent(Some(Asking::WebSocket(opening))));
    };
    let Opening { request, key } = opening;
    let accepted = accept(&key);
    let sent = sender.send_request(request.map(|_| ()), false);
    let (response, says) = sent.map_err(|_| SendFault::NotSent(None))?;
    let (mut head, hears) = stream.head(response, |_| {}).await?.into_parts();
    if head.status != StatusCode::OK {
        let body = Received::new(&head.headers, hears);
        return Ok(Response::from_parts(head, Arriving::H2(Body::new(body, stream))));
    }
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    let headers = &mut head.headers;
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accepted = HeaderValue::from_str(&accepted).expect("base 64 is a header's value");
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    let upgraded = Upgraded::H2 { tunnel: Tunnel::new(says, hears), _place: stream };
    Ok(Response::from_parts(head, Arriving::Upgraded(Box::new(upgraded))))
}
