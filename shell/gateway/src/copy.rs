//! Bytes in both directions between two streams.
//!
//! Small things are copied, by way of the core's [`scratch`]: only what the other side does not take at once is held. A direction of plain TCP that fills its buffer again and again goes through a [`Pipe`] from there on.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until};

use crate::pipe::{PIPE_BYTES, Pipe};
use crate::scratch::{SCRATCH_BYTES, scratch};

/// After so many full pieces in a row a direction is worth a pipe.
const FULL_PIECES: u32 = 2;

/// Copies until both sides have ended, one broke, or nothing moved for `idle`. Gives the bytes that went from the first to the
/// second, and back.
pub(crate) async fn copy_both<A, B>(first: A, second: B, idle: Duration) -> (u64, u64)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut first_read, mut first_write) = tokio::io::split(first);
    let (mut second_read, mut second_write) = tokio::io::split(second);
    let (there, back) = (Way::new(), Way::new());
    let both = async {
        let forth = there.copy(&mut first_read, &mut second_write, u32::MAX);
        let back = back.copy(&mut second_read, &mut first_write, u32::MAX);
        tokio::try_join!(forth, back)
    };
    until_silent(both, [&there, &back], idle).await;
    (there.bytes.get(), back.bytes.get())
}

/// [`copy_both`] for plain TCP.
pub(crate) async fn copy_both_tcp(mut first: TcpStream, mut second: TcpStream, idle: Duration) -> (u64, u64) {
    let (first_read, first_write) = first.split();
    let (second_read, second_write) = second.split();
    let (there, back) = (Way::new(), Way::new());
    let one_way = async |way: &Way, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>| {
        if way.copy(&mut from, &mut to, FULL_PIECES).await? == Copied::Bulk {
            match Pipe::open() {
                Some(pipe) => {
                    way.splice(from.as_ref(), to.as_ref(), pipe).await?;
                    to.shutdown().await?;
                }
                None => _ = way.copy(&mut from, &mut to, u32::MAX).await?,
            }
        }
        Ok::<(), io::Error>(())
    };
    let both = async {
        tokio::try_join!(one_way(&there, first_read, second_write), one_way(&back, second_read, first_write))
    };
    until_silent(both, [&there, &back], idle).await;
    (there.bytes.get(), back.bytes.get())
}

/// Whichever way it ends, both connections are closed by being dropped.
async fn until_silent<T>(both: impl Future<Output = io::Result<T>>, ways: [&Way; 2], idle: Duration) {
    let silence = async {
        loop {
            let until = silent_since(ways) + idle;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    };
    tokio::select! {
        _ = both => {}
        () = silence => {}
    }
}

/// Since when nothing has moved: in neither direction, or in one of which the other side has something to take. Else a side that
/// takes nothing would hold the other's connection, and what waits on it, for as long as it says something itself.
fn silent_since(ways: [&Way; 2]) -> Instant {
    let last = ways[0].moved.get().max(ways[1].moved.get());
    let stuck = ways.iter().filter(|way| way.holds.get()).map(|way| way.moved.get());
    stuck.fold(last, Instant::min)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Copied {
    /// To the end, which the other side was told.
    All,
    /// There is so much that another way is worth while.
    Bulk,
}

/// One direction.
struct Way {
    bytes: Cell<u64>,
    moved: Cell<Instant>,
    /// Something was read that is not written yet.
    holds: Cell<bool>,
}

impl Way {
    fn new() -> Way {
        Way { bytes: Cell::new(0), moved: Cell::new(Instant::now()), holds: Cell::new(false) }
    }

    /// Something was read.
    fn takes(&self) {
        self.moved.set(Instant::now());
        self.holds.set(true);
    }

    /// So much of it was written, and whether there is more of it.
    fn gives(&self, bytes: usize, holds: bool) {
        self.moved.set(Instant::now());
        self.bytes.set(self.bytes.get() + bytes as u64);
        self.holds.set(holds);
    }

    /// So much of it was written, and there may be more of it; none is an error.
    fn gives_some(&self, bytes: usize) -> io::Result<usize> {
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.gives(bytes, true);
        Ok(bytes)
    }

    async fn copy(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        full_pieces: u32,
    ) -> io::Result<Copied> {
        let mut full = 0;
        while full < full_pieces {
            let mut held = Vec::new();
            let n = poll_fn(|cx| self.poll_piece(cx, from, to, &mut held)).await?;
            if n == 0 {
                // The other direction may go on: half-closed connections are whole.
                to.shutdown().await?;
                return Ok(Copied::All);
            }
            let mut left = &held[..];
            while !left.is_empty() {
                let n = to.write(left).await?;
                left = &left[self.gives_some(n)?..];
            }
            to.flush().await?;
            self.gives(0, false);
            full = if n >= SCRATCH_BYTES { full + 1 } else { 0 };
        }
        Ok(Copied::Bulk)
    }

    /// Reads a piece and writes as much of it as `to` takes at once; the rest is then in `held`. 0 at the end.
    fn poll_piece(
        &self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        held: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        scratch(|room| {
            let mut room = ReadBuf::new(room);
            ready!(Pin::new(from).poll_read(cx, &mut room))?;
            let read = room.filled();
            if !read.is_empty() {
                self.takes();
            }
            let mut left = read;
            while !left.is_empty() {
                match Pin::new(&mut *to).poll_write(cx, left) {
                    Poll::Ready(n) => left = &left[self.gives_some(n?)?..],
                    Poll::Pending => {
                        held.extend_from_slice(left);
                        break;
                    }
                }
            }
            Poll::Ready(Ok(read.len()))
        })
    }

    /// Moves what comes until the end.
    async fn splice(&self, from: &TcpStream, to: &TcpStream, mut pipe: Pipe) -> io::Result<()> {
        loop {
            let n = poll_fn(|cx| pipe.poll_fill(cx, from, PIPE_BYTES)).await?;
            if n == 0 {
                return Ok(());
            }
            self.takes();
            while !pipe.is_empty() {
                let n = poll_fn(|cx| pipe.poll_drain(cx, to)).await?;
                self.gives(n, !pipe.is_empty());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::{interval, timeout};

    use super::*;

    const IDLE: Duration = Duration::from_millis(200);
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_side_that_takes_nothing_ends_both_although_the_other_direction_moves() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (mut client, client_far) = duplex(64);
            let (upstream, upstream_far) = duplex(64);
            let (mut hears, mut says) = tokio::io::split(upstream);
            let talk = async {
                let mut pace = interval(IDLE / 10);
                while client.write_all(b"a word now and then").await.is_ok() {
                    pace.tick().await;
                }
            };
            let mut nowhere = tokio::io::sink();
            let all = async {
                tokio::join!(
                    copy_both(client_far, upstream_far, IDLE),
                    talk,
                    // More than fits on the way to the client, which takes none of it.
                    async { says.write_all(&[b'x'; 1 << 20]).await },
                    tokio::io::copy(&mut hears, &mut nowhere),
                )
            };
            let _ = timeout(PATIENCE, all).await.expect("it ends");
        });
    }
}
