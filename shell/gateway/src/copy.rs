//! Bytes in both directions between two streams.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

/// As much as is read at once.
const PIECE_BYTES: usize = 64 << 10;
const PIECE_BYTES_FIRST: usize = 4 << 10;

/// Copies until both sides have ended, one broke, or nothing moved for `idle`. Gives the bytes that went from the first to the
/// second, and back.
pub(crate) async fn copy_both<A, B>(first: A, second: B, idle: Duration) -> (u64, u64)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut first_read, mut first_write) = tokio::io::split(first);
    let (mut second_read, mut second_write) = tokio::io::split(second);
    let (there, back) = (Cell::new(0), Cell::new(0));
    let moved = Cell::new(Instant::now());
    let both = async {
        let forth = one_way(&mut first_read, &mut second_write, &there, &moved);
        let back = one_way(&mut second_read, &mut first_write, &back, &moved);
        tokio::try_join!(forth, back)
    };
    let silence = async {
        loop {
            let until = moved.get() + idle;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    };
    tokio::select! {
        // Whichever way it ends, both connections are closed by being dropped.
        _ = both => {}
        () = silence => {}
    }
    (there.get(), back.get())
}

async fn one_way(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &Cell<u64>,
    moved: &Cell<Instant>,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(PIECE_BYTES_FIRST);
    loop {
        buffer.clear();
        let n = from.read_buf(&mut buffer).await?;
        if n == 0 {
            // The other direction may go on: half-closed connections are whole.
            return to.shutdown().await;
        }
        moved.set(Instant::now());
        to.write_all(&buffer).await?;
        to.flush().await?;
        moved.set(Instant::now());
        bytes.set(bytes.get() + n as u64);
        if n == buffer.capacity() && n < PIECE_BYTES {
            buffer.reserve(PIECE_BYTES);
        }
    }
}
