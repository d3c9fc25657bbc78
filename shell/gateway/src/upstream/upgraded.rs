//! A connection to an upstream, or a stream of one, over which another protocol is spoken.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::h2;
use crate::http2::Tunnel;
use crate::stream::{Rewound, Stream};

/// What carries it. Dropped, it is closed.
pub(crate) enum Upgraded {
    H1(Rewound<Stream>),
    /// A stream of HTTP/2, with its place in the connection.
    H2 {
        tunnel: Tunnel,
        _place: h2::Stream,
    },
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Upgraded::H1(_) => "Upgraded::H1",
            Upgraded::H2 { .. } => "Upgraded::H2",
        })
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Upgraded::H1(stream) => Pin::new(stream).poll_read(cx, buf),
            Upgraded::H2 { tunnel, .. } => Pin::new(tunnel).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Upgraded::H1(stream) => Pin::new(stream).poll_write(cx, buf),
            Upgraded::H2 { tunnel, .. } => Pin::new(tunnel).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Upgraded::H1(stream) => Pin::new(stream).poll_flush(cx),
            Upgraded::H2 { tunnel, .. } => Pin::new(tunnel).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Upgraded::H1(stream) => Pin::new(stream).poll_shutdown(cx),
            Upgraded::H2 { tunnel, .. } => Pin::new(tunnel).poll_shutdown(cx),
        }
    }
}
