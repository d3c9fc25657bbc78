//! A connection to an upstream, or a stream of one, over which another protocol is spoken.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::spawn_local;

use super::h2;
use crate::stream::{Rewound, Stream};

/// What carries it. Dropped, it is closed.
pub(crate) enum Upgraded {
    H1(Rewound<Stream>),
    H2(Tunnel),
}

/// A stream of HTTP/2, with its place in the connection.
pub(crate) struct Tunnel(Option<(Io, h2::Stream)>);

type Io = TokioIo<hyper::upgrade::Upgraded>;

impl Tunnel {
    pub(super) fn new(io: Io, stream: h2::Stream) -> Tunnel {
        Tunnel(Some((io, stream)))
    }

    fn io(&mut self) -> &mut Io {
        &mut self.0.as_mut().expect("it is there until it is dropped").0
    }
}

impl Drop for Tunnel {
    /// The task by which hyper sends ends once the upstream has made room for what it still holds, however long that takes. Until then
    /// the stream is open, and holds its place. What the upstream says meanwhile is thrown away.
    fn drop(&mut self) {
        if let Some((mut io, stream)) = self.0.take() {
            spawn_local(async move {
                let (mut hears, mut says) = tokio::io::split(&mut io);
                let mut nowhere = tokio::io::sink();
                let hearing = async {
                    let _ = tokio::io::copy(&mut hears, &mut nowhere).await;
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    _ = says.shutdown() => {}
                    () = hearing => {}
                }
                drop(stream);
            });
        }
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Upgraded::H1(_) => "Upgraded::H1",
            Upgraded::H2(_) => "Upgraded::H2",
        })
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Upgraded::H1(stream) => Pin::new(stream).poll_read(cx, buf),
            Upgraded::H2(tunnel) => Pin::new(tunnel.io()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Upgraded::H1(stream) => Pin::new(stream).poll_write(cx, buf),
            Upgraded::H2(tunnel) => Pin::new(tunnel.io()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Upgraded::H1(stream) => Pin::new(stream).poll_flush(cx),
            Upgraded::H2(tunnel) => Pin::new(tunnel.io()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Upgraded::H1(stream) => Pin::new(stream).poll_shutdown(cx),
            Upgraded::H2(tunnel) => Pin::new(tunnel.io()).poll_shutdown(cx),
        }
    }
}
