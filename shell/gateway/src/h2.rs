//! HTTP/2 with clients.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, DATE, TE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::Body;
use skep_gate::http1::reply::has_body;
use skep_gate::http2::{Care, Headings, KeepAlive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::control::duration;
use crate::core::Core;
use crate::date::date;
use crate::gather::Gathered;
use crate::h1::{LINGER_BYTES_MAX, LINGER_TIME};
use crate::http2::{Pump, Received, Tunnel, ping};
use crate::listen::Connection;
use crate::proxy::{self, Answered};
use crate::reply::Reply;
use crate::source::Inbound;
use crate::stream::{Hears, Overheard, Rewound, Stream};
use crate::streams::{Pace, Place, Streams, Taken};
use crate::websocket;

/// Requests of one connection at once; a client with more to ask waits, or opens another.
const STREAMS_MAX: u32 = 128;
/// What a client may send of requests that nobody has read yet, in one of them and in all.
const WINDOW_BYTES: u32 = 1 << 20;
/// What h2 keeps of a reply that is to be sent.
const SEND_BYTES_MAX: usize = 400 << 10;

/// GOAWAY (RFC 9113, section 6.8), by which any stream may have run, with the reason ENHANCE_YOUR_CALM.
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
    let mut builder = Builder::new();
    builder
        .enable_connect_protocol()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buffer_size(SEND_BYTES_MAX)
        .max_header_list_size(listener.header_size.0 as u32);
    let mut keep_alive = KeepAlive::new(listener.idle, listener.header_time);
    drop(plan);
    let core = Rc::clone(&connection.core);
    let connection = Rc::new(connection);
    let heard = Rc::<RefCell<Heard>>::default();
    let ear = Ear { core: Rc::clone(&core), heard: Rc::clone(&heard) };
    let stream = Gathered::new(Overheard::new(stream, ear));
    let pace = Pace::new(patience, idle.min(header_time));
    let serving = pin!(async {
        // Who has just come while his listener closes has the time of a look to ask.
        let closed = async {
            connection.listening.closed().await;
            sleep(pace.period).await;
        };
        let mut client = tokio::select! {
            shaken = builder.handshake::<_, Bytes>(stream.clone()) => shaken.map_err(io::Error::other)?,
            () = closed => return Ok(()),
            () = sleep(idle) => return Ok(()),
        };
        let mut pings = client.ping_pong();
        let mut looks = interval(pace.period);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut used_at, mut is_ending) = (Instant::now(), false);
        let mut cares_at = used_at + idle;
        loop {
            let now = tokio::select! {
                biased;
                result = poll_fn(|cx| poll_serve(&mut client, cx, &connection, &streams)) => return result,
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
                if now >= cares_at {
                    let (care, next) = keep_alive.look(is_used, heard.borrow().bytes);
                    cares_at = now + duration(next);
                    match (care, &mut pings) {
                        (Care::Ask, Some(pings)) => ping(pings).await,
                        (Care::GiveUp, _) => return Ok(()),
                        _ => {}
                    }
                }
                let since = heard.borrow().headings.since();
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
            client.graceful_shutdown();
        }
    });
    stream.run(serving).await
}

type Client<S> = h2::server::Connection<S, Bytes>;

/// Moves what the connection has to say and to hear, and begins what its client asks for; ready when it has ended.
fn poll_serve<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
    cx: &mut Context<'_>,
    connection: &Rc<Connection>,
    streams: &Streams,
) -> Poll<io::Result<()>> {
    while let Some(begun) = ready!(client.poll_accept(cx)) {
        let (request, respond) = begun.map_err(io::Error::other)?;
        let (head, hears) = request.into_parts();
        let (connection, head) = (Rc::clone(connection), Box::new(head));
        streams.spawn(|place| answer(connection, place, (head, hears), respond));
    }
    Poll::Ready(Ok(()))
}

/// Carries one request, and sends its reply. Dropped before its end, it resets its stream.
async fn answer(
    connection: Rc<Connection>,
    place: Place,
    (mut head, hears): (Box<Parts>, RecvStream),
    mut respond: SendResponse<Bytes>,
) {
    // Reset before anybody has looked at it.
    if poll_fn(|cx| Poll::Ready(respond.poll_reset(cx).is_ready())).await {
        return;
    }
    let opening = websocket::translate(&connection.core, &mut head);
    let (body, hears) = match opening {
        Some(_) => (Inbound::Empty, Some(hears)),
        None => (Inbound::H2(Received::new(&head.headers, hears)), None),
    };
    let method = head.method.clone();
    let answered = {
        // On the heap, and only while it lasts.
        let mut carried = Box::pin(proxy::carry(&connection, head, body));
        poll_fn(|cx| match carried.as_mut().poll(cx) {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        })
        .await
    };
    let Some(mut answered) = answered else { return };
    place.answers();
    if let Some(opening) = opening {
        answered = opening.answer(answered);
    }
    shorten(&mut answered.response, &method);
    match reply(place, answered, hears, &mut respond) {
        Rest::None => {}
        Rest::Body(mut pump) => poll_fn(|cx| pump.poll(cx)).await,
        Rest::WebSocket(_place, client, upstream) => Box::pin(websocket::carry(client, *upstream)).await,
    }
}

/// What follows the head of a reply.
enum Rest {
    None,
    Body(Pump<Taken>),
    /// While it is open, its stream counts.
    WebSocket(Place, Tunnel, Box<proxy::Tunnel>),
}

/// Sends the head of a reply.
fn reply(
    place: Place,
    answered: Answered,
    hears: Option<RecvStream>,
    respond: &mut SendResponse<Bytes>,
) -> Rest {
    let (mut head, body) = answered.response.into_parts();
    let ends = body.is_end_stream() && answered.tunnel.is_none();
    let length = body.size_hint().exact().filter(|_| !ends && answered.tunnel.is_none());
    if let Some(length) = length
        && !head.headers.contains_key(CONTENT_LENGTH)
    {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !head.headers.contains_key(DATE) {
        head.headers.insert(DATE, date());
    }
    head.headers.remove(TE);
    let Ok(says) = respond.send_response(Response::from_parts(head, ()), ends) else {
        // Its stream or connection is gone, or it has lines that HTTP/2 does not know.
        respond.send_reset(Reason::INTERNAL_ERROR);
        return Rest::None;
    };
    match (answered.tunnel, hears) {
        (Some(tunnel), Some(hears)) => Rest::WebSocket(place, Tunnel::new(says, hears), Box::new(tunnel)),
        _ if ends => Rest::None,
        _ => Rest::Body(Pump::new(place.watch(body), says, Reason::INTERNAL_ERROR)),
    }
}

/// Listens to what a client says.
struct Ear {
    core: Rc<Core>,
    heard: Rc<RefCell<Heard>>,
}

/// What a client has said.
#[derive(Default)]
struct Heard {
    bytes: u64,
    headings: Headings,
}

impl Hears for Ear {
    fn hears(&mut self, read: Option<&[u8]>) {
        if let Some(read) = read {
            let mut heard = self.heard.borrow_mut();
            heard.bytes += read.len() as u64;
            heard.headings.read(self.core.now(), read);
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

/// Takes away the body of a reply that has none (RFC 9110, section 6.4.1), which would be sent. One that goes through has none.
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
