//! HTTP/2 with clients.

use std::cell::RefCell;
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
use skep_gate::http1::reply::has_body;
use skep_gate::http2::Headings;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::control::duration;
use crate::core::Core;
use crate::gather::Gathered;
use crate::h1::{LINGER_BYTES_MAX, LINGER_TIME};
use crate::listen::Connection;
use crate::proxy;
use crate::reply::Reply;
use crate::source::Inbound;
use crate::stream::{Hears, Overheard, Rewound, Stream};
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
    let (header_limit, header_time) = (listener.header_time, duration(listener.header_time));
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
    let core = Rc::clone(&connection.core);
    let connection = Rc::new(connection);
    let service = service_fn(|mut request: Request<Incoming>| {
        let (connection, streams) = (Rc::clone(&connection), streams.clone());
        // On the heap at once: its task would move it there, and out again at its end.
        Box::pin(async move {
            let opening = websocket::translate(&connection.core, &mut request);
            let method = request.method().clone();
            let answered = proxy::carry(&connection, request.map(Inbound::H2)).await;
            let mut response = match opening {
                Some(opening) => opening.answer(answered),
                None => answered.response,
            };
            shorten(&mut response, &method);
            Ok::<Response<Taken>, Infallible>(response.map(|reply| streams.watch(reply)))
        })
    });
    let headings = Rc::<RefCell<Headings>>::default();
    let ear = Ear { core: Rc::clone(&core), headings: Rc::clone(&headings) };
    let stream = Gathered::new(Overheard::new(stream, ear));
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
                let is_used = streams.look(pace);
                if is_used {
                    used_at = now;
                }
                let since = headings.borrow().since();
                let is_late = since.is_some_and(|since| core.now().since(since) >= header_limit);
                let limit = match is_ending {
                    false => idle,
                    // Told that it ends, it has only to take what was sent.
                    true if streams.have_begun() && !is_late => patience,
                    // It has had the time from one look to the next to say that it heard.
                    true => Duration::ZERO,
                };
                let is_over = !is_used && now.duration_since(used_at) >= limit;
                match is_ending {
                    true if is_over => return Ok(()),
                    false if is_over || is_late => {}
                    _ => continue,
                }
            }
            (used_at, is_ending) = (Instant::now(), true);
            served.as_mut().graceful_shutdown();
        }
    };
    stream.run(serving).await
}

/// Listens to what a client says.
struct Ear {
    core: Rc<Core>,
    headings: Rc<RefCell<Headings>>,
}

impl Hears for Ear {
    fn hears(&mut self, read: Option<&[u8]>) {
        if let Some(read) = read {
            self.headings.borrow_mut().read(self.core.now(), read);
        }
    }
}

/// Tells a client that resets too many streams why its connection ends, if it takes that within `patience` and is not in the middle
/// of a frame.
async fn calm_down<S>(mut stream: Gathered<S>, patience: Duration) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let telling = async {
        if stream.is_between_writes() {
            stream.write_all(&CALM_DOWN).await?;
        }
        stream.shutdown().await
    };
    timeout(patience, telling).await??;
    // What the client has sent and nobody read would have the kernel reset the connection, and the client not read why.
    let rest =
        async { tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX as u64), &mut tokio::io::sink()).await };
    let _ = timeout(LINGER_TIME, rest).await;
    Err(io::Error::other("a client reset too many streams before they were answered"))
}

/// Takes away the body of a reply that has none (RFC 9110, section 6.4.1), which hyper would send. One that goes through has none.
fn shorten(response: &mut Response<Reply>, method: &Method) {
    if has_body(method, response.status()) || !matches!(response.body(), Reply::Whole(_)) {
        return;
    }
    match (response.status(), response.body().size_hint().exact()) {
        (StatusCode::NO_CONTENT, _) => _ = response.headers_mut().remove(CONTENT_LENGTH),
        (StatusCode::NOT_MODIFIED, _) | (_, None) => {}
        (_, Some(length)) => {
            response.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
        }
    }
    *response.body_mut() = Reply::Whole(None);
}
