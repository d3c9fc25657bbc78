//! The streams of one HTTP/2 connection with a client: which of them wait for it, and for how long.
//!
//! A reply's next piece is asked for once the client has made room for the last one. A client that gives no room, and answers pings,
//! would so hold an upstream's connection for each of its streams. Each stream is therefore a task that is ended from here.
//!
//! Invariant: a stream whose client takes no piece for its listener's `body-idle`, and a quarter of it at most, is reset, and the
//! gate is told that the client is gone.
//!
//! How those that end look to [`Haste`], which says when their client resets too many of them, is told here as well.
//!
//! Cost: one timer for a connection, two readings of the clock for a stream, and a note for each piece of a reply.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use skep_base::Micros;
use skep_gate::protect::haste::Haste;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};

use crate::http2::Told;
use crate::reply::{Reply, ReplyFault};

/// The longest piece that a client must take as a whole: as much as a frame holds (RFC 9113, section 4.2).
const PIECE_BYTES_MAX: usize = 16 << 10;
/// How often streams are looked at in the shortest time that is counted.
const LOOKS: u32 = 4;
/// The streams of one connection.
#[derive(Clone)]
pub(crate) struct Streams(Rc<Inner>);

#[derive(Default)]
struct Inner {
    /// By number; an empty place is the number of none.
    live: RefCell<Vec<Option<Watched>>>,
    /// One has begun since the last look.
    used: Cell<bool>,
    /// One has begun at all.
    begun: Cell<bool>,
    haste: Cell<Haste>,
    /// Told when there is too much of it.
    overrun: Notify,
}

/// One stream.
struct Watched {
    since: Instant,
    /// Its reply has begun.
    answered: bool,
    task: Option<AbortHandle>,
    /// Its client has a piece of the reply to take.
    waits: bool,
    /// Looks since it was given that.
    looks: u32,
}

impl Default for Watched {
    fn default() -> Watched {
        Watched { since: Instant::now(), answered: false, task: None, waits: false, looks: 0 }
    }
}

/// How often to look, and how many looks are too many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) period: Duration,
    looks_max: u32,
}

impl Pace {
    /// For clients that may take nothing for `patience`, on a connection that may rest for `idle`.
    pub(crate) fn new(patience: Duration, idle: Duration) -> Pace {
        let period = patience.min(idle) / LOOKS;
        Pace { period, looks_max: patience.div_duration_f64(period).ceil() as u32 }
    }
}

impl Streams {
    pub(crate) fn new() -> Streams {
        Streams(Rc::default())
    }

    /// Ends the streams whose clients took nothing for too long. True if any was there since the last look.
    pub(crate) fn look(&self, pace: Pace) -> bool {
        let mut live = self.0.live.borrow_mut();
        let mut any = self.0.used.take();
        for stream in live.iter_mut().flatten() {
            any = true;
            stream.looks += u32::from(stream.waits);
            if stream.looks > pace.looks_max
                && let Some(task) = &stream.task
            {
                // Dropped by its runtime, later: the stream is reset then.
                task.abort();
            }
        }
        any
    }

    /// True once the head of a request has come.
    pub(crate) fn have_begun(&self) -> bool {
        self.0.begun.get()
    }

    /// Ends when the client has reset too many streams at once.
    pub(crate) async fn overrun(&self) {
        self.0.overrun.notified().await;
    }

    fn count(&self, stream: &Watched) {
        let mut haste = self.0.haste.get();
        if haste.ended(stream.answered, Micros(stream.since.elapsed().as_micros() as u64)) {
            self.0.overrun.notify_one();
        }
        self.0.haste.set(haste);
    }

    /// Runs the task of a stream.
    pub(crate) fn spawn<F: Future<Output = ()> + 'static>(&self, task: impl FnOnce(Place) -> F) {
        let place = self.begin();
        let at = place.at;
        let task = spawn_local(task(place));
        self.with(at, |stream| stream.task = Some(task.abort_handle()));
    }

    fn begin(&self) -> Place {
        let mut live = self.0.live.borrow_mut();
        let at = live.iter().position(Option::is_none).unwrap_or(live.len());
        let begun = Some(Watched::default());
        match live.get_mut(at) {
            Some(empty) => *empty = begun,
            None => live.push(begun),
        }
        self.0.used.set(true);
        self.0.begun.set(true);
        Place { streams: self.clone(), at }
    }

    fn with(&self, at: usize, change: impl FnOnce(&mut Watched)) {
        if let Some(Some(stream)) = self.0.live.borrow_mut().get_mut(at) {
            change(stream);
        }
    }
}

/// The number of a stream, which is given back when this is dropped.
pub(crate) struct Place {
    streams: Streams,
    at: usize,
}

impl Place {
    /// Its reply begins.
    pub(crate) fn answers(&self) {
        self.streams.with(self.at, |stream| stream.answered = true);
    }

    /// The body of its reply.
    pub(crate) fn watch(self, reply: Reply) -> Taken {
        Taken { reply, rest: Bytes::new(), place: self }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let ended = self.streams.0.live.borrow_mut()[self.at].take();
        if let Some(stream) = ended {
            self.streams.count(&stream);
        }
    }
}

/// A reply in pieces, each of which its client is to take in time.
pub(crate) struct Taken {
    reply: Reply,
    /// Of a longer piece.
    rest: Bytes,
    place: Place,
}

impl Taken {
    fn cut(&mut self, mut piece: Bytes) -> Frame<Bytes> {
        self.rest = piece.split_off(piece.len().min(PIECE_BYTES_MAX));
        Frame::data(piece)
    }
}

impl Told for Taken {}

impl Body for Taken {
    type Data = Bytes;
    type Error = ReplyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyFault>>> {
        let taken = self.get_mut();
        let polled = match taken.rest.is_empty() {
            false => {
                let rest = std::mem::take(&mut taken.rest);
                Poll::Ready(Some(Ok(taken.cut(rest))))
            }
            true => Pin::new(&mut taken.reply).poll_frame(cx).map(|frame| {
                frame.map(|frame| match frame?.into_data() {
                    Ok(piece) => Ok(taken.cut(piece)),
                    Err(trailers) => Ok(trailers),
                })
            }),
        };
        let waits = polled.is_ready();
        taken.place.streams.with(taken.place.at, |stream| (stream.waits, stream.looks) = (waits, 0));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (of_reply, rest) = (self.reply.size_hint(), self.rest.len() as u64);
        match of_reply.exact() {
            Some(left) => SizeHint::with_exact(left + rest),
            None => of_reply,
        }
    }
}
