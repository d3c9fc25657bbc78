//! HTTP/2 with upstreams: connections that requests share.
//!
//! Invariant: over a connection go no more requests at once than its upstream allows, and [`REQUESTS_MAX`] at most.

mod announced;
mod websocket;

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use skep_base::Micros;
use skep_gate::http2::{
    ANSWER, Care, KeepAlive, REQUESTS_MAX, Unanswered, is_silent, requests_at_once, unanswered,
};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::sleep;

use super::{Asking, Counted, FULL_PAUSE, Held, Lease, NoConnection, SendFault, Upstream, Waiting, connect};
use crate::control::duration;
use crate::gather::Gathered;
use crate::http2::{Pump, Received, ping};
use crate::source::Sending;
use crate::stream::Overheard;
use announced::{Announced, Ear, watch};
pub(crate) use websocket::Opening;
pub(super) use websocket::open;

type Socket = Gathered<Overheard<crate::stream::Stream, Ear>>;

/// What a reply may have sent that its client has not taken; and of the connection as much for each of them, so that clients that
/// take nothing stop nobody else's reply.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = REQUESTS_MAX * STREAM_WINDOW_BYTES;
/// What h2 keeps of a request's body that is to be sent.
const SEND_BYTES_MAX: usize = 1 << 20;
/// Headers and trailers of a reply.
const HEADERS_BYTES_MAX: u32 = 16 << 10;

/// A connection.
pub(super) struct Shared {
    sender: SendRequest<Bytes>,
    socket: Socket,
    announced: Rc<Announced>,
    streams: Cell<u32>,
    since: Cell<Instant>,
    /// It is to get no new requests.
    leaves: Cell<bool>,
    closed: Cell<bool>,
    counted: Counted,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl Shared {
    fn has_room(&self) -> bool {
        let takes = !self.closed.get() && !self.leaves.get();
        takes && self.streams.get() < requests_at_once(self.announced.found())
    }

    /// True if it can be closed, because it has rested for `idle` or is closed already.
    pub(super) fn is_old(&self, idle: Duration) -> bool {
        self.closed.get() || (self.streams.get() == 0 && self.since.get().elapsed() >= idle)
    }
}

/// A place for one request in a connection.
#[derive(Debug)]
pub(crate) struct Stream(Rc<Shared>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.since.set(Instant::now());
        let upstream = &self.0.counted.0;
        if self.0.leaves.get() && self.0.streams.get() == 0 {
            upstream.shared.borrow_mut().retain(|shared| !Rc::ptr_eq(shared, &self.0));
        }
        upstream.freed.notify_one();
    }
}

impl Upstream {
    /// A place in a connection that is there.
    pub(super) fn shared_one(&self) -> Option<Stream> {
        let shared = self.shared.borrow();
        let found = shared.iter().find(|shared| shared.has_room())?;
        found.streams.set(found.streams.get() + 1);
        Some(Stream(Rc::clone(found)))
    }

    pub(super) async fn take_h2(self: &Rc<Self>, place: &mut Waiting<impl Fn(bool)>) -> io::Result<Lease> {
        loop {
            if let Some(lease) = self.take_now() {
                return Ok(lease);
            }
            let is_full = self.open.get() >= self.connections_max.get();
            if self.connecting.get() || is_full {
                place.set(!self.connecting.get());
                self.freed.notified().await;
                continue;
            }
            let connecting = Connecting::begin(self);
            let counted = self.count();
            let socket = match connect(&self.place(), self.tls.as_ref(), || place.set(false)).await {
                Ok(socket) => socket,
                Err(NoConnection::Fault(error)) => return Err(error),
                Err(NoConnection::Full) => {
                    place.set(true);
                    // Those that wait for this one wait on: each would find as much.
                    sleep(FULL_PAUSE).await;
                    continue;
                }
            };
            let (socket, announced) = watch(socket);
            let socket = Gathered::new(socket);
            let mut builder = Builder::new();
            builder
                .enable_push(false)
                .initial_max_send_streams(REQUESTS_MAX as usize)
                .initial_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_send_buffer_size(SEND_BYTES_MAX)
                .max_header_list_size(HEADERS_BYTES_MAX);
            let shaken = builder.handshake::<_, Bytes>(socket.clone()).await;
            let (sender, connection) = shaken.map_err(io::Error::other)?;
            // How many may share it is known when it has spoken; until then nobody makes another beside it.
            let spoken = Rc::clone(&announced);
            spawn_local(async move {
                spoken.spoken().await;
                drop(connecting);
            });
            let shared = Rc::new(Shared {
                sender,
                socket: socket.clone(),
                announced,
                streams: Cell::new(1),
                since: Cell::new(Instant::now()),
                leaves: Cell::new(false),
                closed: Cell::new(false),
                counted,
            });
            let carried = carry(connection, Rc::downgrade(&shared), self.keep_alive.get());
            spawn_local(async move { socket.run(pin!(carried)).await });
            if !self.retired.get() {
                self.shared.borrow_mut().push(Rc::clone(&shared));
            }
            return Ok(Lease { held: Held::H2(Stream(shared)), is_used: false });
        }
    }
}

/// One makes a connection, and others wait for it.
struct Connecting(Rc<Upstream>);

impl Connecting {
    fn begin(upstream: &Rc<Upstream>) -> Connecting {
        upstream.connecting.set(true);
        Connecting(Rc::clone(upstream))
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.freed.notify_waiters();
        self.0.freed.notify_one();
    }
}

/// Moves what a connection has to say and to hear, until it ends or nobody is there any more.
async fn carry(mut connection: Connection<Socket, Bytes>, shared: Weak<Shared>, interval: Duration) {
    let mut pings = connection.ping_pong();
    let mut keep_alive = KeepAlive::new(Micros(interval.as_micros() as u64), ANSWER);
    let mut wait = interval;
    let mut carried = pin!(connection);
    loop {
        tokio::select! {
            biased;
            _ = carried.as_mut() => break,
            () = sleep(wait) => {}
        }
        let Some(shared) = shared.upgrade() else {
            let _ = carried.await;
            return;
        };
        let (care, next) = keep_alive.look(shared.streams.get() > 0, shared.announced.heard());
        wait = duration(next);
        match (care, &mut pings) {
            (Care::Ask, Some(pings)) => ping(pings).await,
            (Care::GiveUp, _) => break,
            _ => {}
        }
    }
    if let Some(shared) = shared.upgrade() {
        shared.closed.set(true);
    }
}

/// Sends a request, and gives the head of its reply.
///
/// # Errors
/// [`SendFault`].
pub(super) async fn send(
    stream: Stream,
    request: Box<Request<Sending>>,
) -> Result<Response<super::Arriving>, SendFault> {
    let Some(mut sender) = stream.sender() else {
        return Err(SendFault::NotSent(Some(Asking::H2(request))));
    };
    let (head, body) = request.into_parts();
    let ends = body.is_end_stream();
    let sent = sender.send_request(Request::from_parts(head, ()), ends);
    let (response, says) = sent.map_err(|_| SendFault::NotSent(None))?;
    let patience = body.patience();
    let progress = Rc::clone(&body.progress);
    let mut upload = (!ends).then(|| Pump::new(body, says, Reason::CANCEL));
    let response = stream.head(response, |cx| {
        if upload.as_mut().is_some_and(|upload| upload.poll(cx).is_ready()) {
            upload = None;
        }
    });
    let response = response.await?;
    let stream = Rc::new(stream);
    let upload = upload.map(|mut upload| {
        let (place, replied) = (Rc::clone(&stream), Rc::<Notify>::default());
        let told = Rc::clone(&replied);
        let task = spawn_local(async move {
            let stalled = async {
                // While the reply is under way, whoever reads it says how long the upstream may be silent.
                told.notified().await;
                progress.has_moved();
                progress.stalled(patience).await;
            };
            tokio::select! {
                () = poll_fn(|cx| upload.poll(cx)) => {}
                () = stalled => {}
            }
            drop(place);
        });
        Uploading { task: task.abort_handle(), replied }
    });
    let (head, body) = response.into_parts();
    let body = Received::new(&head.headers, body);
    Ok(Response::from_parts(head, super::Arriving::H2(Arriving { body, upload, _stream: stream })))
}

/// The body of a reply. Dropped before its end, it ends its request as well; what is still to be sent of that after the end of
/// the reply goes on, and keeps its place.
#[derive(Debug)]
pub(crate) struct Arriving {
    body: Received,
    upload: Option<Uploading>,
    _stream: Rc<Stream>,
}

/// What is still to be sent of a request.
#[derive(Debug)]
struct Uploading {
    task: AbortHandle,
    /// Told at the end of the reply.
    replied: Rc<Notify>,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        match &self.upload {
            Some(upload) if self.body.is_end_stream() => upload.replied.notify_one(),
            Some(upload) => upload.task.abort(),
            None => {}
        }
    }
}

impl Arriving {
    fn new(body: Received, stream: Stream) -> Arriving {
        Arriving { body, upload: None, _stream: Rc::new(stream) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.body.poll_frame(cx)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Stream {
    /// What begins a request; none if the connection takes no more.
    fn sender(&self) -> Option<SendRequest<Bytes>> {
        let mut sender = self.0.sender.clone();
        // A clone has begun nothing that it could wait for.
        if let Poll::Ready(Err(_)) = sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            self.0.leaves.set(true);
            return None;
        }
        Some(sender)
    }

    /// The head of the reply to a request that was just begun; `beside` is done whenever it is asked for.
    async fn head(
        &self,
        mut response: ResponseFuture,
        mut beside: impl FnMut(&mut Context<'_>),
    ) -> Result<Response<RecvStream>, SendFault> {
        let waits = Awaits { shared: &self.0, since: Instant::now(), heard: self.0.announced.heard() };
        let sent = self.0.socket.sent();
        let found = poll_fn(|cx| {
            beside(cx);
            Pin::new(&mut response).poll(cx)
        })
        .await;
        waits.ends();
        found.map_err(|error| {
            let code = error.reason().map(u32::from);
            let by_goaway = error.is_go_away() && error.is_remote();
            match unanswered(code, by_goaway, self.0.socket.sent() != sent) {
                Unanswered::Refused => SendFault::NotSent(None),
                Unanswered::Leaving => {
                    self.0.leaves.set(true);
                    SendFault::Leaving
                }
                Unanswered::MayHaveRun => SendFault::Reset,
            }
        })
    }
}

/// A request whose reply is awaited. Dropped before that, it may have learned that the connection says nothing any more.
struct Awaits<'a> {
    shared: &'a Shared,
    since: Instant,
    heard: u64,
}

impl Awaits<'_> {
    fn ends(self) {
        std::mem::forget(self);
    }
}

impl Drop for Awaits<'_> {
    fn drop(&mut self) {
        let waited = Micros(self.since.elapsed().as_micros() as u64);
        if is_silent(waited, self.shared.announced.heard() != self.heard) {
            self.shared.leaves.set(true);
        }
    }
}
