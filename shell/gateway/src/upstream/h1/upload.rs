//! A request on its way to an upstream: its head, and its body in pieces as the client sends them.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::Method;
use http_body::Body;

use crate::h1::{put_end, put_hex};
use crate::source::{Sending, Source};
use crate::stream::Holds;

/// Up to this a piece is copied behind what leaves before it, so that both leave as one write.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// Writes the end of a request's head: how long its body is, and the empty line.
pub(crate) fn end_head(head: &mut BytesMut, method: &Method, source: &Source) {
    use std::fmt::Write;
    match source.length() {
        // A body is not expected of these (RFC 9110, section 8.6).
        Some(0) if matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS) => {}
        Some(n) => write!(head, "content-length: {n}\r\n").expect("a buffer takes every write"),
        None => head.put_slice(b"transfer-encoding: chunked\r\n"),
    }
    head.put_slice(b"\r\n");
}

/// Why a request could not be sent whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    /// The connection, before a byte was written.
    Untouched,
    /// The connection, after that.
    Cut,
    /// The client's body.
    Client,
}

/// What is left of a request.
pub(super) struct Upload {
    body: Sending,
    chunked: bool,
    ended: bool,
    /// What leaves next.
    out: BytesMut,
    /// What leaves behind it, without a copy.
    piece: Bytes,
    /// What the connection had handed on before the first byte of this; none until that is to be written.
    began: Option<u64>,
    /// Bytes that the connection took.
    pub(super) written: u64,
    /// It takes no more at the moment.
    holds: bool,
}

impl Upload {
    pub(super) fn new(head: Bytes, body: Sending) -> Upload {
        let chunked = body.size_hint().exact().is_none();
        let ended = !chunked && is_empty(&body);
        // What a body begins with is joined to the head, which else leaves as it is.
        let (out, piece) = match ended {
            true => (BytesMut::new(), head),
            false => (BytesMut::from(head), Bytes::new()),
        };
        Upload { body, chunked, ended, out, piece, began: None, written: 0, holds: false }
    }

    /// Sends until all of it is sent.
    ///
    /// # Errors
    /// [`Broken`]. What the upstream has said before can be read all the same.
    pub(super) fn poll(&mut self, stream: &mut impl Holds, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            self.gather(cx)?;
            if self.out.is_empty() && self.piece.is_empty() {
                // TLS may hold what it took; it would hold that until more comes.
                let flushed = Pin::new(&mut *stream).poll_flush(cx);
                self.hold(flushed.is_pending());
                return match ready!(flushed) {
                    Err(_) => Poll::Ready(Err(Broken::Cut)),
                    Ok(()) if self.ended => Poll::Ready(Ok(())),
                    Ok(()) => Poll::Pending,
                };
            }
            let began = *self.began.get_or_insert_with(|| stream.handed_on());
            let wrote = match (self.out.is_empty(), self.piece.is_empty()) {
                (_, true) => Pin::new(&mut *stream).poll_write(cx, &self.out),
                (true, false) => Pin::new(&mut *stream).poll_write(cx, &self.piece),
                (false, false) => {
                    let both = [IoSlice::new(&self.out), IoSlice::new(&self.piece)];
                    Pin::new(&mut *stream).poll_write_vectored(cx, &both)
                }
            };
            self.hold(wrote.is_pending());
            match ready!(wrote) {
                Ok(n) if n > 0 => self.wrote(n),
                // TLS tells of an error, and not that a part of the same write had gone on before it.
                _ if self.written == 0 && stream.handed_on() == began => {
                    return Poll::Ready(Err(Broken::Untouched));
                }
                _ => return Poll::Ready(Err(Broken::Cut)),
            }
        }
    }

    fn hold(&mut self, holds: bool) {
        if self.holds != holds {
            self.holds = holds;
            self.body.hold(holds);
        }
    }

    /// Takes in as much of the body as is there and leaves with one write.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        while !self.ended && self.piece.is_empty() && self.out.len() < JOINED_BYTES_MAX {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => self.put(data),
                    Ok(_) => {}
                    Err(frame) if self.chunked => {
                        self.ended = true;
                        put_end(&mut self.out, frame.trailers_ref());
                    }
                    // Behind a body whose length was told there is no place for them.
                    Err(_) => {}
                },
                Poll::Ready(Some(Err(_))) => return Err(Broken::Client),
                Poll::Ready(None) if self.chunked => {
                    self.ended = true;
                    put_end(&mut self.out, None);
                }
                // It is shorter than its head told.
                Poll::Ready(None) => return Err(Broken::Client),
            }
            self.ended |= !self.chunked && is_empty(&self.body);
        }
        Ok(())
    }

    fn put(&mut self, data: Bytes) {
        if self.chunked {
            put_hex(&mut self.out, data.len());
        }
        if self.out.len() + data.len() > JOINED_BYTES_MAX {
            self.piece = data;
            return;
        }
        self.out.put_slice(&data);
        if self.chunked {
            self.out.put_slice(b"\r\n");
        }
    }

    fn wrote(&mut self, n: usize) {
        self.body.progress.has_moved();
        self.written += n as u64;
        let of_out = n.min(self.out.len());
        self.out.advance(of_out);
        if n > of_out {
            self.piece.advance(n - of_out);
            if self.piece.is_empty() && self.chunked {
                self.out.put_slice(b"\r\n");
            }
        }
    }
}

impl Drop for Upload {
    /// Of a body that two attempts send, the other may be the one that is answered.
    fn drop(&mut self) {
        self.hold(false);
    }
}

fn is_empty(body: &Sending) -> bool {
    body.size_hint().exact() == Some(0)
}
