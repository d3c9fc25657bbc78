//! Bytes in both directions over a stream, after a CONNECT.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is written at once at most: as much as a frame holds (RFC 9113, section 4.2).
const PIECE_BYTES_MAX: usize = 16 << 10;

/// A stream as a connection. What is written has room in the windows, so that h2 keeps none of it for long. Dropped, it is closed; if
/// not both sides have ended, by a reset.
pub(crate) struct Tunnel {
    hears: RecvStream,
    says: SendStream<Bytes>,
    /// Read, and not taken yet.
    piece: Bytes,
    has_ended: bool,
}

impl Tunnel {
    pub(crate) fn new(says: SendStream<Bytes>, hears: RecvStream) -> Tunnel {
        Tunnel { hears, says, piece: Bytes::new(), has_ended: false }
    }

    /// Waits until there is room for a part of `bytes`.
    fn poll_room(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<io::Result<usize>> {
        self.says.reserve_capacity(bytes);
        while self.says.capacity() == 0 {
            match self.says.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io::Error::other(error))),
                Poll::Ready(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Poll::Pending => {
                    let _ = ready!(self.says.poll_reset(cx));
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
            }
        }
        Poll::Ready(Ok(self.says.capacity().min(bytes)))
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(self.hears.poll_data(cx)) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => {
                    return Poll::Ready(match error.reason() {
                        Some(Reason::NO_ERROR | Reason::CANCEL) => Ok(()),
                        _ => Err(io::Error::other(error)),
                    });
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let take = self.piece.len().min(buf.remaining());
        buf.put_slice(&self.piece[..take]);
        self.piece.advance(take);
        let _ = self.hears.flow_control().release_capacity(take);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.poll_room(cx, buf.len().min(PIECE_BYTES_MAX)))?;
        let piece = Bytes::copy_from_slice(&buf[..room]);
        Poll::Ready(self.says.send_data(piece, false).map(|()| room).map_err(io::Error::other))
    }

    /// h2 writes by itself what has room.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.has_ended, true) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(self.says.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
