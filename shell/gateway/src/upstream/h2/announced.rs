//! What an HTTP/2 server announces, read off its first bytes as they go by.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use skep_gate::http2::{Announcement, Preface};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// What the server of a connection has announced, and that it says something.
#[derive(Debug, Default)]
pub(super) struct Announced {
    said: Cell<Option<Said>>,
    told: Notify,
    /// Bytes that were read of its connection.
    heard: Cell<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Said {
    This(Announcement),
    /// The connection ended before.
    Nothing,
}

impl Announced {
    /// Waits for the server's settings: whether it takes the extended CONNECT; none if its connection ended before them.
    pub(super) async fn takes_connect(&self) -> Option<bool> {
        self.spoken().await.map(|found| found.connect)
    }

    /// Waits for the server's settings; none if its connection ended before them.
    pub(super) async fn spoken(&self) -> Option<Announcement> {
        loop {
            match self.said.get() {
                Some(Said::This(found)) => return Some(found),
                Some(Said::Nothing) => return None,
                None => self.told.notified().await,
            }
        }
    }

    /// Grows with everything that its connection says.
    pub(super) fn heard(&self) -> u64 {
        self.heard.get()
    }

    /// What it has announced by now.
    pub(super) fn found(&self) -> Option<Announcement> {
        match self.said.get() {
            Some(Said::This(found)) => Some(found),
            _ => None,
        }
    }

    fn say(&self, said: Said) {
        self.said.set(Some(said));
        self.told.notify_waiters();
    }
}

/// A connection whose server's first frame is looked at.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    /// None when all is said.
    preface: Option<Preface>,
    announced: Rc<Announced>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S) -> (Watched<S>, Rc<Announced>) {
        let announced = Rc::<Announced>::default();
        (Watched { stream, preface: Some(Preface::default()), announced: Rc::clone(&announced) }, announced)
    }

    fn say(&mut self, said: Said) {
        if self.preface.take().is_some() {
            self.announced.say(said);
        }
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        self.say(Said::Nothing);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.announced.heard.set(self.announced.heard.get() + (buf.filled().len() - before) as u64);
        if let Some(preface) = &mut self.preface {
            match (&polled, &buf.filled()[before..]) {
                (Poll::Pending, _) => {}
                (Poll::Ready(Ok(())), read) if !read.is_empty() => {
                    if let Some(found) = preface.read(read) {
                        self.say(Said::This(found));
                    }
                }
                (Poll::Ready(_), _) => self.say(Said::Nothing),
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
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
