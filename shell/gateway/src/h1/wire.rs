//! One HTTP/1.1 connection of a client: its bytes, and the body that is being read from them.
//!
//! The task of the connection reads heads and writes replies; a body is read by whoever sends it on, in another task of the
//! same thread. Never both at once: heads are read only when the body before is done.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use skep_gate::http1::body::{Decoder, Piece};
use skep_gate::http1::request::Framing;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::scratch::scratch;
use crate::stream::Stream;

/// Room that is made for a read: small while nothing speaks for much, so that many connections cost little.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// What of a request is read at once at most, into the core's buffer, and copied.
const FIRST_BYTES_MAX: usize = 16 << 10;
/// Bytes that are read ahead of the request that is being answered.
const AHEAD_BYTES_MAX: usize = 64 << 10;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Why a body broke off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BodyFault {
    /// The client is gone.
    Gone,
    /// It is malformed.
    Malformed(&'static str),
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: Stream,
    pub(crate) input: BytesMut,
    decoder: Decoder,
    /// What is left of the word that the client waits for before it sends its body.
    go_on: &'static [u8],
    read_bytes: usize,
    /// The connection's own task, which wants to know when the body is done.
    done: Option<Waker>,
    /// The client has closed, or the connection broke.
    closed: bool,
    /// The rest of the body is thrown away; who sends it on must not take what is left for all of it.
    discarded: bool,
}

impl Wire {
    pub(crate) fn new(stream: Stream, input: BytesMut) -> Wire {
        Wire {
            stream,
            input,
            decoder: Decoder::Done,
            go_on: b"",
            read_bytes: READ_BYTES_MIN,
            done: None,
            closed: false,
            discarded: false,
        }
    }

    /// A body with this framing comes.
    pub(crate) fn begin_body(&mut self, framing: Framing, expects: bool) {
        self.decoder = Decoder::new(framing);
        self.discarded = false;
        self.go_on = if expects && !self.decoder.is_done() { CONTINUE } else { b"" };
    }

    /// True if the body was read to its end.
    pub(crate) fn is_body_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// True if the client still waits for the word to send its body.
    pub(crate) fn is_body_unasked(&self) -> bool {
        self.go_on.len() == CONTINUE.len()
    }

    /// Reads more bytes; 0 at the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Ok(0));
        }
        // What was read keeps the buffer that it came in, so that a buffer is filled before there is another.
        if self.input.capacity() - self.input.len() < self.read_bytes / 4 {
            self.input.reserve(self.read_bytes);
        }
        let room = self.input.capacity() - self.input.len();
        let result = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input);
        match &result {
            Poll::Ready(Ok(0) | Err(_)) => self.closed = true,
            // Who fills the room has more to say.
            Poll::Ready(Ok(n)) if *n >= room => {
                self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
            }
            _ => {}
        }
        result
    }

    /// Reads the first bytes of what comes next; 0 at the end. Until they come no room is made for them.
    pub(crate) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Ok(0));
        }
        let result = scratch(|room| {
            let mut first = ReadBuf::new(&mut room[..FIRST_BYTES_MAX]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut first))?;
            self.input.extend_from_slice(first.filled());
            Poll::Ready(Ok(first.filled().len()))
        });
        match &result {
            Poll::Ready(Ok(0) | Err(_)) => self.closed = true,
            Poll::Ready(Ok(FIRST_BYTES_MAX)) => self.read_bytes = FIRST_BYTES_MAX * 2,
            _ => {}
        }
        result
    }

    /// Gives memory back while nothing is said.
    pub(crate) fn rest(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
            self.read_bytes = READ_BYTES_MIN;
        }
    }

    /// The next piece of the body; none at its end.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match self.discarded {
            true => Poll::Ready(Some(Err(BodyFault::Gone))),
            false => self.poll_rest(cx),
        }
    }

    /// Ready when whoever sends the body on has read all of it.
    pub(crate) fn poll_body_done(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.decoder.is_done() {
            return Poll::Ready(());
        }
        self.done = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What is left of the body, to be thrown away: nobody else gets any of it from here on.
    pub(crate) fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        self.discarded = true;
        self.poll_rest(cx)
    }

    /// Throws away what of the body was read already; nobody else gets any of it from here on.
    pub(crate) fn discard_input(&mut self) {
        self.discarded = true;
        // What is malformed is found again by whoever reads on.
        while let Ok(Piece::Data(_) | Piece::Trailers(_)) = self.decoder.decode(&mut self.input) {}
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        while !self.go_on.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, self.go_on) {
                Poll::Ready(Ok(n)) if n > 0 => self.go_on = &self.go_on[n..],
                Poll::Ready(_) => return Poll::Ready(Some(Err(BodyFault::Gone))),
                Poll::Pending => return Poll::Pending,
            }
            if self.go_on.is_empty()
                && let Poll::Ready(Err(_)) = Pin::new(&mut self.stream).poll_flush(cx)
            {
                return Poll::Ready(Some(Err(BodyFault::Gone)));
            }
        }
        loop {
            match self.decoder.decode(&mut self.input) {
                Ok(Piece::Data(bytes)) => {
                    self.tell_done();
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Ok(Piece::Trailers(trailers)) => {
                    self.tell_done();
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Piece::Done) => {
                    self.tell_done();
                    return Poll::Ready(None);
                }
                Ok(Piece::NeedMore) => {}
                Err(what) => return Poll::Ready(Some(Err(BodyFault::Malformed(what)))),
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(_) => return Poll::Ready(Some(Err(BodyFault::Gone))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn tell_done(&mut self) {
        if self.decoder.is_done()
            && let Some(waker) = self.done.take()
        {
            waker.wake();
        }
    }

    /// Ready when the client is gone. While it still sends its body others see that; what it sends ahead is kept.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.decoder.is_done() {
            self.done = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // As a rule nothing comes, and no room is made for it.
        let mut room = [MaybeUninit::uninit(); 1 << 10];
        while self.input.len() < AHEAD_BYTES_MAX && !self.closed {
            let mut ahead = ReadBuf::uninit(&mut room);
            match Pin::new(&mut self.stream).poll_read(cx, &mut ahead) {
                Poll::Ready(Ok(())) if !ahead.filled().is_empty() => {
                    self.input.extend_from_slice(ahead.filled())
                }
                Poll::Ready(_) => self.closed = true,
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.closed { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Writes some of `first`, then `second`.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        match (first.is_empty(), second.is_empty()) {
            (false, true) => stream.poll_write(cx, first),
            (true, _) => stream.poll_write(cx, second),
            (false, false) => {
                stream.poll_write_vectored(cx, &[io::IoSlice::new(first), io::IoSlice::new(second)])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn who_waits_for_a_request_holds_no_room_for_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let near = Stream::Tcp(listener.accept().await.unwrap().0);
            let mut wire = Wire::new(near, BytesMut::new());
            let mut room = None;
            let (got, ()) = tokio::join!(
                poll_fn(|cx| {
                    let polled = wire.poll_first(cx);
                    room = room.or(polled.is_pending().then_some(wire.input.capacity()));
                    polled
                }),
                async { far.write_all(b"GET").await.unwrap() }
            );
            assert_eq!((got.unwrap(), &wire.input[..]), (3, &b"GET"[..]));
            assert_eq!(room, Some(0), "while nothing had come");
        });
    }
}
