//! The body of a reply on its way to the client.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use skep_gate::Input;
use skep_gate::protect::trailers::Trailers;
use skep_gate::resilience::retry::Failure;
use tokio::time::{Instant, Sleep, sleep};

use crate::in_flight::InFlight;
use crate::pipe::Pipe;
use crate::upstream::Arriving;

/// Why a reply broke after its head was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReplyFault {
    Broken,
    Late,
}

impl fmt::Display for ReplyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplyFault::Broken => "the upstream broke its reply off",
            ReplyFault::Late => "the upstream paused for too long in its reply",
        })
    }
}

impl std::error::Error for ReplyFault {}

/// The body of a reply.
pub(crate) enum Reply {
    Whole(Option<Bytes>),
    Forwarded(Box<Forwarded>),
    /// A reply that goes through, of which this was read before.
    Resumed(VecDeque<Frame<Bytes>>, Box<Forwarded>),
}

/// An upstream's reply that goes through. When it ends, the gate is told; when it is dropped before, the client is gone.
pub(crate) struct Forwarded {
    body: Arriving,
    in_flight: InFlight,
    idle: Duration,
    late: Option<Pin<Box<Sleep>>>,
    ended: bool,
    /// Which trailers go on; none if the client takes none.
    trailers: Option<Trailers>,
}

impl Reply {
    pub(crate) fn whole(body: impl Into<Bytes>) -> Reply {
        Reply::Whole(Some(body.into()))
    }

    /// An upstream's reply, with the trailers that `trailers` lets through.
    pub(crate) fn forwarded(
        body: Arriving,
        in_flight: InFlight,
        idle: Duration,
        trailers: Option<Trailers>,
    ) -> Reply {
        if let Some(both_ways) = &in_flight.both_ways {
            both_ways.begin(idle);
        }
        let mut forwarded = Forwarded { body, in_flight, idle, late: None, ended: false, trailers };
        if forwarded.body.is_end_stream() {
            forwarded.end();
        }
        Reply::Forwarded(Box::new(forwarded))
    }

    /// A forwarded reply of which `read` was taken already.
    pub(crate) fn resumed(
        read: VecDeque<Frame<Bytes>>,
        body: Arriving,
        mut in_flight: InFlight,
        idle: Duration,
        trailers: Option<Trailers>,
    ) -> Reply {
        read.iter().filter_map(Frame::data_ref).for_each(|data| in_flight.sent(data.len()));
        match Reply::forwarded(body, in_flight, idle, trailers) {
            Reply::Forwarded(rest) => Reply::Resumed(read, rest),
            other => other,
        }
    }
}

impl Reply {
    /// Bytes of the body that can be moved to the client without being looked at.
    pub(crate) fn movable(&self) -> u64 {
        match self {
            Reply::Forwarded(forwarded) if !forwarded.ended => forwarded.body.movable(),
            _ => 0,
        }
    }

    /// Moves some of [`Self::movable`] into an empty pipe.
    ///
    /// # Errors
    /// The reply broke.
    pub(crate) fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<Result<(), ReplyFault>> {
        match self {
            Reply::Forwarded(forwarded) => forwarded.poll_move(cx, pipe),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl Forwarded {
    fn end(&mut self) {
        self.ended = true;
        self.late = None;
        if let Some(both_ways) = &self.in_flight.both_ways {
            both_ways.end();
        }
        self.in_flight.end(|request| Input::Done { request });
    }

    fn fail(&mut self, fault: ReplyFault) -> ReplyFault {
        self.ended = true;
        self.in_flight.fail(if fault == ReplyFault::Late { Failure::Timeout } else { Failure::Reset });
        fault
    }

    /// The upstream says nothing at the moment.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<ReplyFault> {
        let idle = self.idle;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(idle)));
        while late.as_mut().poll(cx).is_ready() {
            match self.in_flight.both_ways.as_ref().and_then(|both_ways| both_ways.patience()) {
                Some(until) => late.as_mut().reset(until),
                None => return Poll::Ready(self.fail(ReplyFault::Late)),
            }
        }
        Poll::Pending
    }

    fn came(&mut self, bytes: usize) {
        if let Some(late) = &mut self.late {
            late.as_mut().reset(Instant::now() + self.idle);
        }
        if let Some(both_ways) = &self.in_flight.both_ways {
            both_ways.upstream_says();
        }
        self.in_flight.sent(bytes);
        if self.body.is_end_stream() {
            self.end();
        }
    }

    /// The frame as the client gets it, if it does.
    fn pass(&self, frame: Frame<Bytes>) -> Option<Result<Frame<Bytes>, ReplyFault>> {
        if !frame.is_trailers() {
            return Some(Ok(frame));
        }
        let passed = self.trailers.as_ref()?.pass(frame.into_trailers().ok()?)?;
        Some(Ok(Frame::trailers(passed)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplyFault>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => self.poll_late(cx).map(|fault| Some(Err(fault))),
            Poll::Ready(Some(Ok(frame))) => {
                self.came(frame.data_ref().map_or(0, Bytes::len));
                if frame.is_trailers() && !self.ended {
                    self.end();
                }
                Poll::Ready(self.pass(frame))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(self.fail(ReplyFault::Broken)))),
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
        }
    }

    fn poll_move(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<(), ReplyFault>> {
        match self.body.poll_move(cx, pipe) {
            Poll::Pending => self.poll_late(cx).map(Err),
            Poll::Ready(Ok(bytes)) => {
                self.came(bytes);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(self.fail(ReplyFault::Broken))),
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = ReplyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyFault>>> {
        match self.get_mut() {
            Reply::Whole(body) => {
                let body = body.take().filter(|body| !body.is_empty());
                Poll::Ready(body.map(|body| Ok(Frame::data(body))))
            }
            Reply::Forwarded(forwarded) => forwarded.poll(cx),
            Reply::Resumed(read, rest) => match read.pop_front() {
                Some(frame) => Poll::Ready(rest.pass(frame)),
                None => rest.poll(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Whole(body) => body.as_ref().is_none_or(Bytes::is_empty),
            Reply::Forwarded(forwarded) => forwarded.ended,
            Reply::Resumed(read, rest) => read.is_empty() && rest.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64)),
            Reply::Forwarded(forwarded) if forwarded.ended => SizeHint::with_exact(0),
            Reply::Forwarded(forwarded) => forwarded.body.size_hint(),
            // Of a length that was told the rest is known, and with it all of it.
            // A told length leaves no place for trailers towards HTTP/1.1.
            Reply::Resumed(read, rest) if rest.trailers.is_some() && read.iter().any(Frame::is_trailers) => {
                SizeHint::new()
            }
            Reply::Resumed(read, rest) => {
                let left = if rest.ended { SizeHint::with_exact(0) } else { rest.body.size_hint() };
                let read: usize = read.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
                left.exact().map_or_else(SizeHint::new, |left| SizeHint::with_exact(left + read as u64))
            }
        }
    }
}
