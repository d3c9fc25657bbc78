//! HTTP/2 with upstreams, by hyper: connections that requests share.
//!
//! Invariant: over a connection go no more requests at once than its upstream allows, and [`REQUESTS_MAX`] at most.

mod announced;
mod websocket;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use skep_base::Micros;
use skep_gate::http2::{REQUESTS_MAX, Unanswered, is_silent, requests_at_once, unanswered};
use tokio::io::AsyncWrite;
use tokio::time::sleep;

use super::{
    Arriving, Asking, Counted, FULL_PAUSE, Held, Lease, NoConnection, SendFault, Upstream, Waiting, connect,
};
use crate::gather::Gathered;
use crate::source::Sending;
use announced::{Announced, watch};
pub(crate) use websocket::Opening;
pub(super) use websocket::open;

/// What a reply may have sent that its client has not taken; and of the connection as much for each of them, so that clients that
/// take nothing stop nobody else's reply.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = REQUESTS_MAX * STREAM_WINDOW_BYTES;

/// A connection.
#[derive(Debug)]
pub(super) struct Shared {
    sender: http2::SendRequest<Sending>,
    announced: Rc<Announced>,
    streams: Cell<u32>,
    since: Cell<Instant>,
    /// It is to get no new requests.
    leaves: Cell<bool>,
    counted: Counted,
}

impl Shared {
    fn has_room(&self) -> bool {
        let takes = !self.sender.is_closed() && !self.leaves.get();
        takes && self.streams.get() < requests_at_once(self.announced.found())
    }

    /// True if it can be closed, because it has rested for `idle` or is closed already.
    pub(super) fn is_old(&self, idle: Duration) -> bool {
        self.sender.is_closed() || (self.streams.get() == 0 && self.since.get().elapsed() >= idle)
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
    pub(super) async fn take_h2(self: &Rc<Self>, place: &mut Waiting<impl Fn(bool)>) -> io::Result<Lease> {
        loop {
            let found = {
                let shared = self.shared.borrow();
                shared.iter().find(|shared| shared.has_room()).cloned()
            };
            if let Some(shared) = found {
                shared.streams.set(shared.streams.get() + 1);
                return Ok(Lease { held: Held::H2(Stream(shared)), is_used: true });
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
            let shaken = http2::Builder::new(WritingExecutor(socket.clone()))
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .keep_alive_interval(self.keep_alive.get())
                .handshake(TokioIo::new(socket))
                .await;
            let (sender, connection) = shaken.map_err(io::Error::other)?;
            tokio::task::spawn_local(async move {
                let _ = connection.await;
            });
            let since = Cell::new(Instant::now());
            // How many may share it is known when it has spoken; until then nobody makes another beside it.
            let spoken = Rc::clone(&announced);
            tokio::task::spawn_local(async move {
                spoken.spoken().await;
                drop(connecting);
            });
            let shared = Rc::new(Shared {
                sender,
                announced,
                streams: Cell::new(1),
                since,
                leaves: Cell::new(false),
                counted,
            });
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

/// Sends a request, and gives the head of its reply.
///
/// # Errors
/// [`SendFault`].
pub(super) async fn send(stream: Stream, request: Request<Sending>) -> Result<Response<Arriving>, SendFault> {
    let response = stream.ask(request, |request| Asking::H2(Box::new(request))).await?;
    Ok(response.map(|body| Arriving::H2 { body, _stream: stream }))
}

impl Stream {
    /// Sends a request; `again` makes of one that was not touched what can be sent elsewhere.
    async fn ask(
        &self,
        request: Request<Sending>,
        again: impl FnOnce(Request<Sending>) -> Asking,
    ) -> Result<Response<Incoming>, SendFault> {
        let waits = Awaits { shared: &self.0, since: Instant::now(), heard: self.0.announced.heard() };
        let sent = self.0.sender.clone().try_send_request(request).await;
        waits.ends();
        sent.map_err(|mut fault| {
            if let Some(request) = fault.take_message() {
                return SendFault::NotSent(Some(again(request)));
            }
            match why(&fault.into_error()) {
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

/// h2 ends with a GOAWAY that it was sent, rather than with the end of the connection, only those streams that are above the last
/// one of that, and those not begun.
fn why(error: &hyper::Error) -> Unanswered {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(reset) = inner.downcast_ref::<h2::Error>() {
            return unanswered(reset.reason().map(u32::from), reset.is_go_away() && reset.is_remote());
        }
        source = inner.source();
    }
    Unanswered::MayHaveRun
}

/// Runs the tasks of a connection to an upstream, one of which writes to it.
struct WritingExecutor<S>(Gathered<S>);

impl<S> Clone for WritingExecutor<S> {
    fn clone(&self) -> WritingExecutor<S> {
        WritingExecutor(self.0.clone())
    }
}

impl<S, F> hyper::rt::Executor<F> for WritingExecutor<S>
where
    S: AsyncWrite + Unpin + 'static,
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        let stream = self.0.clone();
        tokio::task::spawn_local(async move { stream.run(task).await });
    }
}
