//! Sends a body over a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

/// A body on its way. Invariant: no piece is asked of it before there was room for the one before. Dropped before its end, it resets the
/// stream, and what waits there for room is gone.
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

impl<B: Body<Data = Bytes> + Unpin> Pump<B> {
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
            if !self.piece.is_empty() {
                while self.stream.capacity() == 0 {
                    match ready!(self.stream.poll_capacity(cx)) {
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Poll::Ready(Err(error)),
                        // Closed by then.
                        None => return Poll::Ready(Ok(())),
                    }
                }
                // It goes as its window allows; h2 keeps the rest.
                self.stream.send_data(std::mem::take(&mut self.piece), self.is_last)?;
                if self.is_last {
                    return Poll::Ready(Ok(()));
                }
            }
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
                    // As little as can be asked for before there is anything to send: what is promised to a stream is
                    // kept from all others of its connection (hyperium/hyper#4003).
                    self.stream.reserve_capacity(1);
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
