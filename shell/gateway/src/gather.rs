//! The writes of an HTTP/2 connection, gathered over one turn of its task.
//!
//! h2 writes each frame of data by itself (`h2::codec::FramedWrite` flushes before it takes the next one), which is a call of the
//! system, and a segment, for every small reply of many that are ready at once. Here its writes are kept, and written
//! together when the turn is over; large ones go through as they come. What is kept is bounded: a connection that takes
//! no more is told to wait.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is kept in one turn before it is written.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// A write of this size costs more to keep than to do.
const LARGE_BYTES: usize = 8 << 10;

thread_local! {
    /// The buffer that turns use one after another: a connection at rest holds none.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection whose writes are gathered; clones are the same connection.
pub(crate) struct Gathered<S>(Rc<RefCell<Gathering<S>>>);

struct Gathering<S> {
    stream: S,
    kept: Vec<u8>,
    /// Bytes of `kept` that are written.
    written: usize,
    /// Bytes that a large write did not take of what it was given.
    owed: usize,
    /// Counts what the tasks of the connection do to it, to tell which of them it is that writes.
    writes: u64,
    /// Bytes that the stream has taken.
    sent: u64,
    /// The stream may hold bytes of its own, such as those of TLS, until it is flushed.
    flushes: bool,
    /// Why the connection broke at the end of a turn, for who writes next.
    broken: Option<io::Error>,
}

impl<S> Clone for Gathered<S> {
    fn clone(&self) -> Gathered<S> {
        Gathered(Rc::clone(&self.0))
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    pub(crate) fn new(stream: S) -> Gathered<S> {
        Gathered(Rc::new(RefCell::new(Gathering {
            stream,
            kept: Vec::new(),
            written: 0,
            owed: 0,
            writes: 0,
            sent: 0,
            flushes: false,
            broken: None,
        })))
    }

    /// True if all that was to be written at once is written or kept: here a frame of somebody else's can follow.
    pub(crate) fn is_between_writes(&self) -> bool {
        self.0.borrow().owed == 0
    }

    /// Bytes that have left for the other side, so far.
    pub(crate) fn sent(&self) -> u64 {
        self.0.borrow().sent
    }

    /// Runs a task of the connection. One task alone writes; each of its turns ends with writing what it left.
    pub(crate) async fn run<F: Future>(&self, mut task: Pin<&mut F>) -> F::Output {
        let mut is_writer = false;
        poll_fn(|cx| self.poll_turn(cx, &mut is_writer, task.as_mut())).await
    }

    fn poll_turn<F: Future>(
        &self,
        cx: &mut Context<'_>,
        is_writer: &mut bool,
        mut task: Pin<&mut F>,
    ) -> Poll<F::Output> {
        let before = self.0.borrow().writes;
        let polled = task.as_mut().poll(cx);
        let mut own = self.0.borrow_mut();
        *is_writer |= own.writes != before;
        if !*is_writer {
            return polled;
        }
        match own.poll_write_kept(cx) {
            Poll::Ready(Err(error)) if polled.is_pending() => {
                own.broken = Some(error);
                drop(own);
                task.poll(cx)
            }
            _ => polled,
        }
    }
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    /// Writes all that is kept, and has the stream write what it holds.
    fn poll_write_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.kept.len() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.kept[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.sent += count as u64;
        }
        if self.written > 0 {
            self.written = 0;
            self.kept.clear();
            let free = std::mem::take(&mut self.kept);
            SPARE.with_borrow_mut(|spare| {
                if spare.capacity() == 0 {
                    *spare = free;
                }
            });
        }
        if self.flushes {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.flushes = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let own = &mut *self.0.borrow_mut();
        own.writes += 1;
        if let Some(error) = own.broken.take() {
            return Poll::Ready(Err(error));
        }
        let len = bufs.iter().map(|buf| buf.len()).sum();
        if len >= LARGE_BYTES || own.kept.len() + len > KEPT_BYTES_MAX {
            ready!(own.poll_write_kept(cx))?;
        }
        own.flushes = true;
        if len >= LARGE_BYTES {
            let wrote = ready!(Pin::new(&mut own.stream).poll_write_vectored(cx, bufs))?;
            own.owed = len - wrote;
            own.sent += wrote as u64;
            return Poll::Ready(Ok(wrote));
        }
        own.owed = 0;
        if own.kept.capacity() == 0 {
            own.kept = SPARE.take();
        }
        bufs.iter().for_each(|buf| own.kept.extend_from_slice(buf));
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is kept is written at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let own = &mut *self.0.borrow_mut();
        own.writes += 1;
        match own.broken.take() {
            Some(error) => Poll::Ready(Err(error)),
            None if own.kept.is_empty() => own.poll_write_kept(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let own = &mut *self.0.borrow_mut();
        ready!(own.poll_write_kept(cx))?;
        Pin::new(&mut own.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// Counts the writes to a stream.
    struct Counting<S>(S, Rc<RefCell<Vec<usize>>>);

    impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<S> {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let count = ready!(Pin::new(&mut self.0).poll_write(cx, buf))?;
            self.1.borrow_mut().push(count);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
    }

    #[test]
    fn small_writes_of_a_turn_are_one_and_large_ones_go_through_in_order() {
        run(async {
            let (near, mut far) = duplex(1 << 20);
            let writes = Rc::default();
            let stream = Gathered::new(Counting(near, Rc::clone(&writes)));
            let mut own = stream.clone();
            stream
                .run(pin!(async {
                    for _ in 0..10 {
                        own.write_all(&[b'a'; 100]).await.unwrap();
                        own.flush().await.unwrap();
                    }
                }))
                .await;
            assert_eq!(*writes.borrow(), [1_000]);
            stream
                .run(pin!(async {
                    own.write_all(b"b").await.unwrap();
                    own.write_all(&[b'c'; LARGE_BYTES]).await.unwrap();
                    own.write_all(b"d").await.unwrap();
                    own.shutdown().await.unwrap();
                }))
                .await;
            assert_eq!(*writes.borrow(), [1_000, 1, LARGE_BYTES, 1]);
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            let expected =
                [vec![b'a'; 1_000], b"b".to_vec(), vec![b'c'; LARGE_BYTES], b"d".to_vec()].concat();
            assert!(all == expected, "{} bytes", all.len());
            assert_eq!(stream.0.borrow().kept.capacity(), 0, "a connection at rest holds no buffer");
        });
    }

    #[test]
    fn who_writes_more_than_is_read_waits_and_loses_nothing() {
        run(async {
            let (near, mut far) = duplex(1_000);
            let stream = Gathered::new(near);
            let mut own = stream.clone();
            let total = 3 * KEPT_BYTES_MAX;
            let write = pin!(async {
                let bytes: Vec<u8> = (0..total).map(|at| at as u8).collect();
                for part in bytes.chunks(777) {
                    own.write_all(part).await.unwrap();
                    own.flush().await.unwrap();
                    let kept = own.0.borrow().kept.len();
                    assert!(kept <= KEPT_BYTES_MAX, "{kept} bytes are kept");
                }
                own.shutdown().await.unwrap();
            });
            let mut all = Vec::new();
            let read = far.read_to_end(&mut all);
            let (_, read) = tokio::join!(stream.run(write), read);
            read.unwrap();
            assert!(all.len() == total && all.iter().enumerate().all(|(at, byte)| *byte == at as u8));
        });
    }

    #[test]
    fn a_large_write_that_is_taken_in_part_leaves_the_rest_owed() {
        run(async {
            let (near, mut far) = duplex(1_000);
            let stream = Gathered::new(near);
            let mut own = stream.clone();
            let large = [b'x'; LARGE_BYTES];
            let wrote = own.write(&large).await.unwrap();
            assert_eq!((wrote, stream.is_between_writes()), (1_000, false));
            far.read_exact(&mut [0; 1_000]).await.unwrap();
            own.write_all(&large[wrote..]).await.unwrap();
            assert!(stream.is_between_writes());
        });
    }

    #[test]
    fn what_breaks_at_the_end_of_a_turn_is_told_to_who_writes() {
        run(async {
            let (near, far) = duplex(1_000);
            drop(far);
            let stream = Gathered::new(near);
            let mut own = stream.clone();
            let error = stream
                .run(pin!(async {
                    own.write_all(b"a").await.unwrap();
                    // The turn ends here; the connection turns out to be broken.
                    poll_fn(|cx| match Pin::new(&mut own).poll_flush(cx) {
                        Poll::Ready(Ok(())) => Poll::Pending,
                        broken => broken,
                    })
                    .await
                }))
                .await
                .expect_err("it is broken");
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        });
    }
}
