//! A pipe between two sockets: the kernel moves pages from one to the other without a copy (splice(2)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::descriptors;

/// Room in a pipe, if the system grants it.
pub(crate) const PIPE_BYTES: usize = 256 << 10;
/// One with less room is slower than copying. Whoever has many pipes is given small ones (pipe(7), "pipe-user-pages-soft").
const PIPE_BYTES_MIN: usize = 64 << 10;

/// A pipe.
#[derive(Debug)]
pub(crate) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    /// Bytes in it.
    held: usize,
}

impl Pipe {
    /// A pipe, if one of use can be had.
    pub(crate) fn open() -> Option<Pipe> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let (out, into) = (descriptors::check(out)?, descriptors::check(into)?);
        let _ = fcntl_setpipe_size(&into, PIPE_BYTES);
        let room = fcntl_getpipe_size(&into).ok()?;
        (room >= PIPE_BYTES_MIN).then_some(Pipe { out, into, held: 0 })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes up to `most` bytes that have come for `from` into the empty pipe; 0 at the end.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || move_pages(from, &self.into, most)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.held += *result.as_ref().unwrap_or(&0);
                    return Poll::Ready(result);
                }
            }
        }
    }

    /// Gives some of what is in it to `to`.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || move_pages(&self.out, to, self.held)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                result => {
                    self.held -= *result.as_ref().unwrap_or(&0);
                    return Poll::Ready(result);
                }
            }
        }
    }
}

fn move_pages(from: &impl AsFd, to: &impl AsFd, most: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}
