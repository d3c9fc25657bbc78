//! HTTP/2 with upstreams, by hyper: connections that requests share.
//!
//! Invariant: over a connection go no more requests at once than its upstream allows, and [`STREAMS_MAX`] at most.

mod announced;
mod websocket;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWrite;

use super::{Arriving, Asking, Counted, Held, Lease, SendFault, Upstream, Waiting, connect};
use crate::gather::Gathered;
use crate::source::Sending;
use announced::{Announced, Watched};
pub(crate) use websocket::Opening;
pub(super) use websocket::open;

/// Streams of one HTTP/2 connection, as many as every server should allow (RFC 9113, section 6.5.2).
const STREAMS_MAX: usize = 100;

/// A connection.
#[derive(Debug)]
pub(super) struct Shared {
    sender: http2::SendRequest<Sending>,
    announced: Rc<Announced>,
    streams: Cell<usize>,
    since: Cell<Instant>,
    _counted: Counted,
}

impl Shared {
    fn has_room(&self) -> bool {
        // What it allows is known once it has spoken. Who allows none is asked all the same, as hyper does, and left by time limits.
        let allowed = self.announced.streams().map_or(STREAMS_MAX, |n| (n as usize).clamp(1, STREAMS_MAX));
        !self.sender.is_closed() && self.streams.get() < allowed
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
        self.0._counted.0.freed.notify_one();
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
            place.set(!self.connecting.get() && self.open.get() >= self.connections_max.get());
            if self.connecting.get() || place.waits {
                self.freed.notified().await;
                continue;
            }
            let connecting = Connecting::begin(self);
            let counted = self.count();
            let socket = connect(&self.place, self.tls.as_ref()).await?;
            let (socket, announced) = Watched::new(socket);
            let socket = Gathered::new(socket);
            let shaken = http2::Builder::new(WritingExecutor(socket.clone()))
                .timer(TokioTimer::new())
                .keep_alive_interval(self.keep_alive.get())
                .handshake(TokioIo::new(socket))
                .await;
            let (sender, connection) = shaken.map_err(io::Error::other)?;
            tokio::task::spawn_local(async move {
                let _ = connection.await;
            });
            let since = Cell::new(Instant::now());
            let shared =
                Rc::new(Shared { sender, announced, streams: Cell::new(1), since, _counted: counted });
            if !self.retired.get() {
                self.shared.borrow_mut().push(Rc::clone(&shared));
            }
            drop(connecting);
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
    let mut sender = stream.0.sender.clone();
    let sent = sender.try_send_request(request).await;
    let response = sent.map_err(|fault| why(fault, |request| Asking::H2(Box::new(request))))?;
    Ok(response.map(|body| Arriving::H2 { body, _stream: stream }))
}

/// `again` makes of a request that was not touched what can be sent elsewhere.
fn why(
    mut fault: TrySendError<Request<Sending>>,
    again: impl FnOnce(Request<Sending>) -> Asking,
) -> SendFault {
    if let Some(request) = fault.take_message() {
        return SendFault::NotSent(Some(again(request)));
    }
    // RFC 9113, section 8.7: the upstream says that it did not touch it. h2 ends with a GOAWAY that it was sent, rather than with
    // the end of the connection, only those streams that are above the last one of that, and those not begun.
    let error = fault.into_error();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        if let Some(reset) = inner.downcast_ref::<h2::Error>() {
            let untouched = match reset.reason() {
                Some(h2::Reason::REFUSED_STREAM) => true,
                Some(h2::Reason::NO_ERROR) => reset.is_go_away() && reset.is_remote(),
                _ => false,
            };
            return if untouched { SendFault::NotSent(None) } else { SendFault::Reset };
        }
        source = inner.source();
    }
    SendFault::Reset
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
