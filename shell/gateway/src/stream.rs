//! A connection to a client or an upstream, with or without TLS, and bytes that were read from one too early.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
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
#[derive(Debug)]
pub(crate) struct Beneath {
    stream: TcpStream,
    written: u64,
}

impl Beneath {
    pub(crate) fn new(stream: TcpStream) -> Beneath {
        Beneath { stream, written: 0 }
    }

    fn wrote(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = result {
            self.written += n as u64;
        }
        result
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

/// What may take bytes as written that it still holds.
pub(crate) trait Holds: AsyncWrite + Unpin {
    /// Bytes that it has handed on, so far, of what it held; 0 of one that holds nothing.
    fn handed_on(&self) -> u64;
}

impl Stream {
    pub(crate) fn is_secure(&self) -> bool {
        matches!(self, Stream::Tls(_))
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

/// Writes to the stream inside; `$wrote` sees what came of each write.
macro_rules! writes_to_its_stream {
    ($type:ty, $wrote:expr $(, $own:ident: $bound:path)*) => {
        impl<$($own: $bound + Unpin),*> AsyncWrite for $type {
            fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                let result = Pin::new(&mut self.stream).poll_write(cx, buf);
                $wrote(&mut *self, result)
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
                $wrote(&mut *self, result)
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

writes_to_its_stream!(Beneath, Beneath::wrote);
writes_to_its_stream!(Rewound<S>, |_, result| result, S: AsyncWrite);
writes_to_its_stream!(Overheard<S, H>, |_, result| result, S: AsyncWrite, H: Hears);
