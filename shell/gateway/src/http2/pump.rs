//! Sends a body over a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

/// A body that is told what becomes of its pieces.
pub(crate) trait Told: Body<Data = Bytes> + Unpin {
    /// A part of what there is has left.
    fn left(&self) {}

    /// There is something that the other side does not take; or, `holds` being false, no more.
    fn hold(&self, _holds: bool) {}
}

/// A body on its way. Invariant: no piece is asked of it before the one before has left. Dropped before its end, it resets the stream, and
/// what waits there for room is gone.
pub(crate) struct Pump<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// Waits for room.
    piece: Bytes,
    /// Nothing follows it.
    is_last: bool,
    broken: Reason,
    is_over: bool,
}

impl<B> Drop for Pump<B> {
    fn drop(&mut self) {
        // h2 would send what waits before it tells that nobody holds the stream any more.
        if !self.is_over {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}

impl<B: Told> Pump<B> {
    /// Sends `body`; if that breaks, the stream is reset with `broken`.
    pub(crate) fn new(body: B, stream: SendStream<Bytes>, broken: Reason) -> Pump<B> {
        Pump { body, stream, piece: Bytes::new(), is_last: false, broken, is_over: false }
    }

    /// Ready when all is sent, or nothing more can be: the body broke, or the other side takes no more.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let sent = self.poll_send(cx).map(|_| ());
        // Neither a body nor a window that stays closed tells that the stream was reset.
        let polled = if sent.is_ready() { sent } else { self.stream.poll_reset(cx).map(|_| ()) };
        self.is_over = polled.is_ready();
        polled
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            while !self.piece.is_empty() {
                if self.stream.capacity() == 0 {
                    match self.stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => continue,
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                        // Closed by then.
                        Poll::Ready(None) => return Poll::Ready(Ok(())),
                        Poll::Pending => {
                            self.body.hold(true);
                            return Poll::Pending;
                        }
                    }
                }
                // Not more than there is room for: of what h2 keeps nobody hears whether it left.
                let part = self.piece.split_to(self.piece.len().min(self.stream.capacity()));
                let ends = self.is_last && self.piece.is_empty();
                self.stream.send_data(part, ends)?;
                self.body.left();
                if ends {
                    return Poll::Ready(Ok(()));
                }
                if !self.piece.is_empty() {
                    self.stream.reserve_capacity(self.piece.len());
                }
            }
            self.body.hold(false);
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(self.stream.send_data(Bytes::new(), true));
            };
            let Ok(frame) = frame else {
                self.stream.send_reset(self.broken);
                return Poll::Ready(Ok(()));
            };
            match frame.into_data() {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => {
                    // Not before there is anything to send: what is promised to a stream is kept from all others of its
                    // connection (hyperium/hyper#4003).
                    self.stream.reserve_capacity(piece.len());
                    self.is_last = self.body.is_end_stream();
                    self.piece = piece;
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Poll::Ready(self.stream.send_trailers(trailers));
                    }
                }
            }
        }
    }
}
