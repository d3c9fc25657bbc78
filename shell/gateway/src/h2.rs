//! HTTP/2 with clients.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::control::duration;
use crate::gather::Gathered;
use crate::listen::Connection;
use crate::proxy;
use crate::reply::Reply;
use crate::source::Inbound;
use crate::stream::{Rewound, Stream};
use crate::streams::{Pace, Streams, Taken};
use crate::websocket;

/// Requests of one connection at once; a client with more to ask waits, or opens another.
const STREAMS_MAX: u32 = 128;

/// GOAWAY (RFC 9113, section 6.8), by which any stream may have run, with the reason ENHANCE_YOUR_CALM, which hyper cannot give.
const CALM_DOWN: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0xb];

/// Serves a connection until it ends.
///
/// # Errors
/// The connection broke.
pub(crate) async fn serve(connection: Connection, stream: Rewound<Stream>) -> io::Result<()> {
    let Some(id) = connection.listening.id() else { return Ok(()) };
    // It may have waited for TLS or a PROXY header while its listener closed.
    if connection.listening.is_closing() {
        return Ok(());
    }
    let plan = connection.core.plan();
    let listener = &plan.snapshot.config.listeners[id.at()].it;
    let (patience, idle) = (duration(listener.body_idle), duration(listener.idle));
    let header_time = duration(listener.header_time);
    let streams = Streams::new();
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(listener.header_size.0 as u32)
        .keep_alive_interval(idle)
        .keep_alive_timeout(header_time);
    drop(plan);
    let connection = Rc::new(connection);
    let service = service_fn(|mut request: Request<Incoming>| {
        let (connection, streams) = (Rc::clone(&connection), streams.clone());
        // On the heap at once: its task would move it there, and out again at its end.
        Box::pin(async move {
            let opening = websocket::translate(&connection.core, &mut request);
            let is_head = request.method() == Method::HEAD;
            let answered = proxy::carry(&connection, request.map(Inbound::H2)).await;
            let mut response = match opening {
                Some(opening) => opening.answer(answered),
                None => answered.response,
            };
            shorten(&mut response, is_head);
            Ok::<Response<Taken>, Infallible>(response.map(|reply| streams.watch(reply)))
        })
    });
    let stream = Gathered::new(stream);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream.clone()), service));
    let pace = Pace::new(patience, idle.min(header_time));
    let mut looks = interval(pace.period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut used_at, mut is_ending) = (Instant::now(), false);
    let serving = async {
        loop {
            let now = tokio::select! {
                result = served.as_mut() => return result.map_err(io::Error::other),
                // True from here on, and told once.
                () = connection.listening.closed(), if !is_ending => None,
                now = looks.tick() => Some(now),
                () = streams.overrun() => return calm_down(stream.clone(), patience).await,
            };
            if let Some(now) = now {
                if streams.look(pace) {
                    used_at = now;
                    continue;
                }
                let limit = match (is_ending, streams.have_begun()) {
                    (false, true) => idle,
                    // Its first request may be coming drop by drop.
                    (false, false) => header_time,
                    // Told that it ends, it has only to take what was sent.
                    (true, true) => patience,
                    // It has had the time from one look to the next to say that it heard.
                    (true, false) => Duration::ZERO,
                };
                match now.duration_since(used_at) < limit {
                    true => continue,
                    false if is_ending => return Ok(()),
                    false => {}
                }
            }
            (used_at, is_ending) = (Instant::now(), true);
            served.as_mut().graceful_shutdown();
        }
    };
    stream.run(serving).await
}

/// Tells a client that resets too many streams why its connection ends, if it takes that within `patience`.
async fn calm_down<S: AsyncWrite + Unpin>(mut stream: Gathered<S>, patience: Duration) -> io::Result<()> {
    let telling = async {
        stream.write_all(&CALM_DOWN).await?;
        stream.shutdown().await
    };
    timeout(patience, telling).await??;
    Err(io::Error::other("a client reset too many streams before they were answered"))
}

/// Takes away the body of a reply that has none (RFC 9110, section 6.4.1), which hyper would send. One that goes through has none.
fn shorten(response: &mut Response<Reply>, is_head: bool) {
    let is_bodiless = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !(is_head || is_bodiless) || !matches!(response.body(), Reply::Whole(_)) {
        return;
    }
    if is_bodiless {
        if response.status() == StatusCode::NO_CONTENT {
            response.headers_mut().remove(CONTENT_LENGTH);
        }
    } else if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    *response.body_mut() = Reply::Whole(None);
}
