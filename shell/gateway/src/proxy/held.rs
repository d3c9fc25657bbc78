//! A reply that is held until it is whole, so that it can be kept before the client sees it.
//!
//! What is longer than may be kept, or has no end in sight, is passed on as it comes instead, with what was read of it before.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use skep_base::Micros;
use skep_gate::Input;
use skep_gate::idempotency::{Holding, Kept, Ran};
use skep_gate::resilience::retry::Failure;
use tokio::time::{Instant, timeout_at};

use super::attempts::Found;
use super::forward::{sticky_line, unasked_upgrade};
use super::headers::{announce, strip};
use super::own::Own;
use crate::in_flight::InFlight;
use crate::reply::Reply;
use crate::upstream::Arriving;

/// What is held at most, and kept.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// By when it must be whole, in the core's time.
    pub(super) deadline: Micros,
    /// Bytes of its body.
    pub(super) size: u64,
    /// Whether a repeat gets the cookies that the reply sets.
    pub(super) keeps_cookies: bool,
}

/// Reads the reply that goes to the client: what became of the request, and what the client gets once that is kept.
pub(super) async fn hold(
    own: &mut Own,
    mut in_flight: InFlight,
    found: Found,
    limits: Limits,
    secure: bool,
) -> (Ran, Response<Reply>) {
    let core = in_flight.core.clone();
    let (mut head, mut body) = found.response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return (Ran::Unknown, unasked_upgrade(own, in_flight));
    }
    strip(&mut head.headers, false);
    let deadline = core.instant(limits.deadline);
    let (kind, length) = (head.headers.get(CONTENT_TYPE), body.size_hint().lower());
    let kind = kind.map(HeaderValue::as_bytes);
    let read = match Holding::begin(limits.size, found.upstream.is_http2(), kind, length) {
        Some(holding) => read(&mut body, holding, deadline, found.idle).await,
        None => Read::More(VecDeque::new()),
    };
    // The sticky cookie is the first client's own.
    let mut kept_headers = head.headers.clone();
    if !limits.keeps_cookies {
        kept_headers.remove(SET_COOKIE);
    }
    let cookie = found.stick_to.and_then(|name| sticky_line(&core, &found.upstream, name, secure));
    if let Some(line) = cookie {
        head.headers.append(SET_COOKIE, line);
    }
    in_flight.record.status = head.status.as_u16();
    let (ran, reply) = match read {
        Read::Whole(bytes) => {
            announce(&mut head.headers, None);
            announce(&mut kept_headers, None);
            in_flight.sent(bytes.len());
            in_flight.end(|request| Input::Done { request });
            own.reclaim(&mut in_flight);
            // If nothing ran, the upstream said so by this reply.
            let ran = match found.ran {
                true => Ran::Replied(kept(head.status, &kept_headers, &bytes)),
                false => Ran::NotRun,
            };
            (ran, Reply::whole(bytes))
        }
        Read::More(frames) => {
            announce(&mut head.headers, found.trailers.as_ref());
            (Ran::Long, Reply::resumed(frames, body, in_flight, found.idle, found.trailers))
        }
        Read::Broken(failure) => {
            in_flight.fail(failure);
            own.reclaim(&mut in_flight);
            let status = if failure == Failure::Timeout { 504 } else { 502 };
            return (Ran::Unknown, own.answer(status, "the upstream broke its reply off"));
        }
    };
    let mut response = Response::new(reply);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    (ran, response)
}

fn kept(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Kept {
    let lines = headers.iter().filter(|(name, _)| **name != CONTENT_LENGTH);
    let lines = lines.map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec()));
    Kept { status: status.as_u16(), headers: lines.collect(), body: body.to_vec() }
}

enum Read {
    Whole(Bytes),
    /// It is not to be kept; this much was read.
    More(VecDeque<Frame<Bytes>>),
    Broken(Failure),
}

async fn read(body: &mut Arriving, mut holding: Holding, deadline: Instant, idle: Duration) -> Read {
    let mut frames = VecDeque::new();
    while !body.is_end_stream() {
        let until = deadline.min(Instant::now() + idle);
        let frame = match timeout_at(until, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Read::Broken(Failure::Reset),
            Ok(None) => break,
            Err(_) if until == deadline => return Read::More(frames),
            Err(_) => return Read::Broken(Failure::Timeout),
        };
        if frame.is_trailers() && holding.leaves_out_trailers() {
            continue;
        }
        // One that ends with trailers is not kept.
        let is_held = frame.data_ref().is_some_and(|data| holding.takes(data.len() as u64));
        frames.push_back(frame);
        if !is_held {
            return Read::More(frames);
        }
    }
    let mut whole = Vec::with_capacity(holding.held() as usize);
    for data in frames.iter().filter_map(Frame::data_ref) {
        whole.extend_from_slice(data);
    }
    Read::Whole(whole.into())
}
