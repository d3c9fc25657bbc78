//! A connection to a client or an upstream, with or without TLS, and bytes that were read from one too early.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::{io, iter};

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<Beneath>>),
}

/// TCP beneath TLS, which takes up to 64 KiB as written that it still holds: it counts what has gone on.
///
/// While it is told to hold, it takes what is written and keeps it. That goes in front of the next write after that, as one with
/// it, or with the next flush.
#[derive(Debug)]
pub(crate) struct Beneath {
    stream: TcpStream,
    written: u64,
    held: Vec<u8>,
    holds: bool,
}

impl Beneath {
    pub(crate) fn new(stream: TcpStream) -> Beneath {
        Beneath { stream, written: 0, held: Vec::new(), holds: false }
    }

    pub(crate) fn hold(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// Writes what it holds.
    pub(crate) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            ready!(self.poll_write_with_held(cx, &[]))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives how many bytes of `bufs` were written behind what it holds.
    fn poll_write_with_held(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<_> = iter::once(io::IoSlice::new(&self.held)).chain(bufs.iter().copied()).collect();
        let wrote = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &all))?;
        if wrote == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.written += wrote as u64;
        let of_held = wrote.min(self.held.len());
        self.held.drain(..of_held);
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        Poll::Ready(Ok(wrote - of_held))
    }
}

impl Drop for Beneath {
    /// A handshake that failed ends with saying why.
    fn drop(&mut self) {
        if !self.held.is_empty() {
            let _ = self.stream.try_write(&self.held);
        }
    }
}

impl AsyncRead for Beneath {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Beneath {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.holds {
            bufs.iter().for_each(|buf| self.held.extend_from_slice(buf));
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        while !self.held.is_empty() {
            let wrote = ready!(self.poll_write_with_held(cx, bufs))?;
            if wrote > 0 {
                return Poll::Ready(Ok(wrote));
            }
        }
        let wrote = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.written += wrote as u64;
        Poll::Ready(Ok(wrote))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.holds {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_held(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What may take bytes as written that it still holds.
pub(crate) trait Holds: AsyncWrite + Unpin {
    /// Bytes that it has handed on, so far, of what it held; 0 of one that holds nothing.
    fn handed_on(&self) -> u64;
}

impl Stream {
    pub(crate) fn is_secure(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// True if the other side has closed its side of the connection, or all of it.
    pub(crate) fn is_closed_by_peer(&self) -> bool {
        let tcp = match self {
            Stream::Tcp(stream) => stream,
            Stream::Tls(stream) => &stream.get_ref().0.stream,
        };
        match SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]) {
            Ok(waiting) => waiting == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// The connection itself, if nothing but bytes of ours goes over it.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(stream) => Some(stream),
            Stream::Tls(_) => None,
        }
    }
}

impl Holds for Stream {
    fn handed_on(&self) -> u64 {
        match self {
            Stream::Tcp(_) => 0,
            Stream::Tls(stream) => stream.get_ref().0.written,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A stream in front of which bytes stand that were read already.
#[derive(Debug)]
pub(crate) struct Rewound<S> {
    first: BytesMut,
    stream: S,
}

impl<S> Rewound<S> {
    pub(crate) fn new(first: BytesMut, stream: S) -> Rewound<S> {
        // Nothing, in a buffer, is a buffer all the same.
        let first = if first.is_empty() { BytesMut::new() } else { first };
        Rewound { first, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let take = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..take]);
            self.first.advance(take);
            if self.first.is_empty() {
                self.first = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

/// Hears what is read of a stream.
pub(crate) trait Hears: Unpin {
    /// What has come; none at the stream's end, be it that it broke.
    fn hears(&mut self, read: Option<&[u8]>);
}

/// A stream of which something else hears what is read.
#[derive(Debug)]
pub(crate) struct Overheard<S, H> {
    stream: S,
    ear: H,
}

impl<S, H> Overheard<S, H> {
    pub(crate) fn new(stream: S, ear: H) -> Overheard<S, H> {
        Overheard { stream, ear }
    }
}

impl<S: AsyncRead + Unpin, H: Hears> AsyncRead for Overheard<S, H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        match (&polled, &buf.filled()[before..]) {
            (Poll::Pending, _) => {}
            (Poll::Ready(Ok(())), read) if !read.is_empty() => self.ear.hears(Some(read)),
            (Poll::Ready(_), _) => self.ear.hears(None),
        }
        polled
    }
}

/// Writes to the stream inside.
macro_rules! writes_to_its_stream {
    ($type:ty $(, $own:ident: $bound:path)*) => {
        impl<$($own: $bound + Unpin),*> AsyncWrite for $type {
            fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.stream).poll_write(cx, buf)
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
            }

            fn is_write_vectored(&self) -> bool {
                self.stream.is_write_vectored()
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_flush(cx)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_shutdown(cx)
            }
        }
    };
}

writes_to_its_stream!(Rewound<S>, S: AsyncWrite);
writes_to_its_stream!(Overheard<S, H>, S: AsyncWrite, H: Hears);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Both ends of a connection.
    async fn ends() -> (Beneath, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Beneath::new(near), listener.accept().await.unwrap().0)
    }

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn what_is_held_leaves_in_front_of_what_follows_and_with_it() {
        run(async {
            let (mut near, mut far) = ends().await;
            near.hold(true);
            near.write_all(b"held ").await.unwrap();
            near.flush().await.unwrap();
            assert_eq!(near.written, 0);
            near.hold(false);
            near.write_all(b"follows").await.unwrap();
            let mut got = [0; 100];
            let n = far.read(&mut got).await.unwrap();
            assert_eq!(&got[..n], b"held follows", "as one write");
            assert_eq!((near.written, near.held.capacity()), (12, 0));
        });
    }

    #[test]
    fn what_is_held_is_lost_neither_to_a_full_socket_nor_to_a_flush_nor_to_an_end() {
        run(async {
            let (mut near, mut far) = ends().await;
            near.hold(true);
            let expected: Vec<u8> = (0..20_000_000_u32).map(|at| at as u8).collect();
            near.write_all(&expected[..9_000_000]).await.unwrap();
            near.hold(false);
            let write = async {
                near.write_all(&expected[9_000_000..19_000_000]).await.unwrap();
                near.hold(true);
                near.write_all(&expected[19_000_000..19_999_990]).await.unwrap();
                near.hold(false);
                near.flush().await.unwrap();
                assert_eq!(near.written, 19_999_990);
                near.hold(true);
                near.write_all(&expected[19_999_990..]).await.unwrap();
                drop(near);
            };
            let mut got = Vec::new();
            let (_, read) = tokio::join!(write, far.read_to_end(&mut got));
            read.unwrap();
            assert!(got == expected, "{} bytes", got.len());
        });
    }
}
