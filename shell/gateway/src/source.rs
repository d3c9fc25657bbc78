//! The body of a client's request: read once from the client, sent as often as attempts need it.
//!
//! Invariant: each attempt gets the body from its beginning and without a gap, or its body fails. What was read is kept up to
//! the route's limit; beyond it the gate is told that the body is gone, and no further attempt begins.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use skep_gate::protect::trailers::Trailers;
use tokio::time::{Instant, Sleep, sleep};

use crate::both_ways::BothWays;
use crate::h1::{BodyFault, Wire};
use crate::http2::{Received, Told};
use crate::progress::Progress;

/// Where a body comes from.
pub(crate) enum Inbound {
    Empty,
    H1 {
        wire: Rc<RefCell<Wire>>,
        length: Option<u64>,
    },
    H2(Received),
    /// Kept whole.
    Whole(Bytes),
}

impl Inbound {
    /// Whether there may be trailers behind it.
    pub(crate) fn may_have_trailers(&self) -> bool {
        match self {
            Inbound::Empty | Inbound::Whole(_) => false,
            Inbound::H1 { length, .. } => length.is_none(),
            Inbound::H2(body) => !body.is_end_stream(),
        }
    }
}

/// Why there is no more of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SourceFault {
    Gone,
    Malformed(&'static str),
    TooLarge,
    Late,
    /// Another attempt took what was not kept.
    NotKept,
}

impl SourceFault {
    /// What the client is told, if it still listens.
    pub(crate) fn answer(self) -> (StatusCode, &'static str) {
        match self {
            SourceFault::Gone => (StatusCode::BAD_REQUEST, "the request broke off"),
            SourceFault::Malformed(what) => (StatusCode::BAD_REQUEST, what),
            SourceFault::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
            SourceFault::Late => (StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
            SourceFault::NotKept => (StatusCode::BAD_GATEWAY, "the body could not be sent again"),
        }
    }
}

impl fmt::Display for SourceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.answer().1)
    }
}

impl std::error::Error for SourceFault {}

/// A piece: data, or trailers at the end.
#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Piece {
    fn of(frame: Frame<Bytes>) -> Piece {
        match frame.into_data() {
            Ok(bytes) => Piece::Data(bytes),
            Err(frame) => Piece::Trailers(frame.into_trailers().unwrap_or_default()),
        }
    }
}

/// A piece of which less than this was read is kept as a copy: the buffer that it came in may be many times as large. Copies
/// are joined up to as much.
const COPIED_BYTES_MAX: usize = 4 << 10;

struct State {
    from: Inbound,
    /// What is kept, each with the position of its first byte.
    pieces: Vec<(u64, Bytes)>,
    trailers: Option<HeaderMap>,
    /// Bytes before this one are not kept any more.
    first: u64,
    read: u64,
    ended: bool,
    fault: Option<SourceFault>,
    wakers: Vec<Waker>,
    late: Option<Pin<Box<Sleep>>>,
}

impl State {
    /// What is kept from byte `at` on, up to the end of its piece.
    fn from(&self, at: u64) -> Option<Bytes> {
        let after = self.pieces.partition_point(|(start, _)| *start <= at);
        let (start, bytes) = self.pieces[..after].last()?;
        let skipped = (at - start) as usize;
        (skipped < bytes.len()).then(|| bytes.slice(skipped..))
    }

    /// Keeps what was read last. Cost: memory of about its length; for who sends byte by byte, too.
    fn keep(&mut self, bytes: &Bytes) {
        let start = self.read - bytes.len() as u64;
        if bytes.len() >= COPIED_BYTES_MAX {
            return self.pieces.push((start, bytes.clone()));
        }
        match self.pieces.last_mut() {
            Some((_, last)) if last.len() + bytes.len() <= COPIED_BYTES_MAX => {
                *last = [&last[..], bytes].concat().into();
            }
            _ => self.pieces.push((start, Bytes::copy_from_slice(bytes))),
        }
    }

    fn let_go(&mut self) {
        self.pieces = Vec::new();
        self.first = self.read;
    }
}

/// A request's body.
pub(crate) struct Source {
    state: RefCell<State>,
    /// Bytes that are kept at most.
    keep: u64,
    size_max: u64,
    patience: Duration,
    /// The body cannot be sent again from its beginning.
    is_gone: Cell<bool>,
    /// What is read is for nobody yet.
    gathers: Cell<bool>,
    on_gone: RefCell<Option<Box<dyn FnOnce()>>>,
    length: Option<u64>,
    /// Which trailers go on; without it none does.
    trailers: OnceCell<Trailers>,
    /// Outlives the body.
    both_ways: Rc<BothWays>,
}

impl Source {
    /// A body of at most `size_max` bytes, of which `keep` are kept, without a pause longer than `patience`.
    pub(crate) fn new(from: Inbound, keep: u64, size_max: u64, patience: Duration) -> Rc<Source> {
        let length = match &from {
            Inbound::Empty => Some(0),
            Inbound::H1 { length, .. } => *length,
            Inbound::H2(body) => match body.is_end_stream() {
                true => Some(0),
                false => body.size_hint().exact(),
            },
            Inbound::Whole(bytes) => Some(bytes.len() as u64),
        };
        let ended = length == Some(0);
        let state = State {
            from: if ended { Inbound::Empty } else { from },
            pieces: Vec::new(),
            trailers: None,
            first: 0,
            read: 0,
            ended,
            fault: None,
            wakers: Vec::new(),
            late: None,
        };
        Rc::new(Source {
            state: RefCell::new(state),
            keep,
            size_max,
            patience,
            is_gone: Cell::new(false),
            gathers: Cell::new(false),
            on_gone: RefCell::new(None),
            length,
            trailers: OnceCell::new(),
            both_ways: Rc::new(BothWays::new()),
        })
    }

    /// Lets trailers go on, as far as `which` lets them.
    pub(crate) fn pass_trailers(&self, which: Trailers) {
        self.trailers.get_or_init(|| which);
    }

    /// True if the body is longer than it may be, as far as its head says.
    pub(crate) fn is_too_large(&self) -> bool {
        self.length.is_some_and(|n| n > self.size_max)
    }

    /// Its length, if its head told.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// How long a pause may be.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == Some(0)
    }

    /// What is wrong with the client's side, if something is.
    pub(crate) fn fault(&self) -> Option<SourceFault> {
        self.state.borrow().fault
    }

    /// What the reply tells it, and it the reply, also after the body is dropped.
    pub(crate) fn both_ways(&self) -> Rc<BothWays> {
        Rc::clone(&self.both_ways)
    }

    /// Waits until this much of it was read, or its end, or its fault. All of it is there for an attempt, although a piece of it may
    /// go beyond the limit.
    pub(crate) async fn gather(&self, bytes: u64) {
        let _gathering = Gathering::begin(self);
        poll_fn(|cx| {
            loop {
                let (read, ended) = {
                    let state = self.state.borrow();
                    (state.read, state.ended || state.fault.is_some())
                };
                if ended || read >= bytes || self.poll_at(cx, read).is_pending() {
                    return if ended || read >= bytes { Poll::Ready(()) } else { Poll::Pending };
                }
            }
        })
        .await;
        // What goes beyond the limit is there to be sent, and not to be sent again.
        self.is_gone.set(self.state.borrow().read > self.keep);
    }

    /// True while it can be sent again from its beginning.
    pub(crate) fn is_kept(&self) -> bool {
        !self.is_gone.get()
    }

    /// `tell` is called once, when the body can no longer be sent again from its beginning.
    pub(crate) fn on_gone(&self, tell: impl FnOnce() + 'static) {
        *self.on_gone.borrow_mut() = Some(Box::new(tell));
    }

    /// The whole body, if it ended and all of it is kept.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        let state = self.state.borrow();
        if !state.ended || self.is_gone.get() {
            return None;
        }
        let pieces: Vec<&[u8]> = state.pieces.iter().map(|(_, bytes)| &bytes[..]).collect();
        Some(pieces.concat().into())
    }

    /// Reads all of the body, of which all must be kept.
    pub(crate) async fn hold(self: &Rc<Source>) -> Result<Bytes, SourceFault> {
        let mut body = Sending::new(self);
        while let Some(piece) = body.frame().await {
            piece?;
        }
        self.whole().ok_or(SourceFault::TooLarge)
    }

    /// True if byte `at` is known to be the end, without trailers.
    fn ends_at(&self, at: u64) -> bool {
        let state = self.state.borrow();
        state.ended && state.read == at && state.trailers.is_none()
    }

    fn keeps(&self, state: &State) -> bool {
        !self.is_gone.get() && (state.read <= self.keep || self.gathers.get())
    }

    /// What comes from byte `at` on.
    fn poll_at(&self, cx: &mut Context<'_>, at: u64) -> Poll<Option<Result<Piece, SourceFault>>> {
        let mut state = self.state.borrow_mut();
        if at < state.first {
            return Poll::Ready(Some(Err(SourceFault::NotKept)));
        }
        if let Some(bytes) = state.from(at) {
            return Poll::Ready(Some(Ok(Piece::Data(bytes))));
        }
        if let Some(trailers) = &state.trailers {
            return Poll::Ready(Some(Ok(Piece::Trailers(trailers.clone()))));
        }
        if let Some(fault) = state.fault {
            return Poll::Ready(Some(Err(fault)));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        let found = match &mut state.from {
            Inbound::Empty => Poll::Ready(None),
            Inbound::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then_some(Ok(Piece::Data(bytes))))
            }
            Inbound::H1 { wire, .. } => wire.borrow_mut().poll_body(cx).map(|found| {
                found.map(|found| match found {
                    Ok(frame) => Ok(Piece::of(frame)),
                    Err(BodyFault::Gone) => Err(SourceFault::Gone),
                    Err(BodyFault::Malformed(what)) => Err(SourceFault::Malformed(what)),
                })
            }),
            Inbound::H2(body) => body
                .poll_frame(cx)
                .map(|found| found.map(|found| found.map(Piece::of).map_err(|_| SourceFault::Gone))),
        };
        let Poll::Ready(found) = found else {
            self.both_ways.ask();
            if !state.wakers.iter().any(|w| w.will_wake(cx.waker())) {
                state.wakers.push(cx.waker().clone());
            }
            let patience = self.patience;
            let late = state.late.get_or_insert_with(|| Box::pin(sleep(patience)));
            while late.as_mut().poll(cx).is_ready() {
                if let Some(until) = self.both_ways.patience() {
                    // The reply may end before, and has then nothing to say for it.
                    late.as_mut().reset(until.min(Instant::now() + patience));
                    continue;
                }
                state.fault = Some(SourceFault::Late);
                self.both_ways.client_is_late();
                return Poll::Ready(Some(Err(SourceFault::Late)));
            }
            return Poll::Pending;
        };
        if let Some(late) = &mut state.late {
            late.as_mut().reset(Instant::now() + self.patience);
        }
        self.both_ways.client_says();
        state.wakers.drain(..).for_each(Waker::wake);
        match found {
            None => {
                state.ended = true;
                state.late = None;
                self.both_ways.end();
                Poll::Ready(None)
            }
            Some(Err(fault)) => {
                state.fault = Some(fault);
                self.both_ways.fail();
                Poll::Ready(Some(Err(fault)))
            }
            Some(Ok(piece)) => {
                if let Piece::Data(bytes) = &piece {
                    state.read += bytes.len() as u64;
                }
                // Who sends a known length may not ask for what follows it.
                state.ended |= match &state.from {
                    Inbound::H1 { .. } => self.length == Some(state.read),
                    Inbound::H2(body) => body.is_end_stream(),
                    _ => false,
                };
                // What the connection says behind them is another request's.
                state.ended |= matches!(piece, Piece::Trailers(_));
                if state.ended {
                    self.both_ways.end();
                }
                if state.read > self.size_max {
                    state.fault = Some(SourceFault::TooLarge);
                    self.both_ways.fail();
                    return Poll::Ready(Some(Err(SourceFault::TooLarge)));
                }
                match &piece {
                    Piece::Trailers(trailers) => state.trailers = Some(trailers.clone()),
                    Piece::Data(bytes) if self.keeps(&state) => state.keep(bytes),
                    Piece::Data(_) => {
                        state.let_go();
                        drop(state);
                        if !self.is_gone.replace(true)
                            && let Some(tell) = self.on_gone.borrow_mut().take()
                        {
                            tell();
                        }
                    }
                }
                Poll::Ready(Some(Ok(piece)))
            }
        }
    }
}

/// While it is there, all that is read is kept.
struct Gathering<'a>(&'a Source);

impl Gathering<'_> {
    fn begin(source: &Source) -> Gathering<'_> {
        source.gathers.set(true);
        Gathering(source)
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.0.gathers.set(false);
    }
}

/// The body as one attempt sends it.
pub(crate) struct Sending {
    source: Rc<Source>,
    done: bool,
    sent: u64,
    pub(crate) progress: Rc<Progress>,
}

impl Sending {
    pub(crate) fn new(source: &Rc<Source>) -> Sending {
        Sending::with(source, Progress::new())
    }

    /// One that tells how far it is.
    pub(crate) fn with(source: &Rc<Source>, progress: Rc<Progress>) -> Sending {
        Sending { source: Rc::clone(source), done: source.is_empty(), sent: 0, progress }
    }

    /// How long a pause may be.
    pub(crate) fn patience(&self) -> Duration {
        self.source.patience
    }

    /// Tells whether there is something of it that the upstream does not take.
    pub(crate) fn hold(&self, holds: bool) {
        self.progress.hold(holds);
        self.source.both_ways.hold(holds);
    }
}

impl Told for Sending {
    fn left(&self) {
        self.progress.has_moved();
    }

    fn hold(&self, holds: bool) {
        Sending::hold(self, holds);
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = SourceFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SourceFault>>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        let found = this.source.poll_at(cx, this.sent);
        this.progress.next(found.is_ready());
        match found {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                this.done = true;
                this.progress.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(fault))) => {
                this.done = true;
                Poll::Ready(Some(Err(fault)))
            }
            Poll::Ready(Some(Ok(piece))) => {
                match piece {
                    Piece::Data(bytes) => {
                        this.sent += bytes.len() as u64;
                        this.done = this.source.ends_at(this.sent);
                        // Who knows the length may not ask for what follows it.
                        if this.done || this.source.length == Some(this.sent) {
                            this.progress.end();
                        }
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                    Piece::Trailers(all) => {
                        this.done = true;
                        this.progress.end();
                        let passed = this.source.trailers.get().and_then(|which| which.pass(all));
                        Poll::Ready(passed.map(|passed| Ok(Frame::trailers(passed))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        match self.source.length {
            Some(n) => SizeHint::with_exact(n.saturating_sub(self.sent)),
            None => SizeHint::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use skep_gate::http1::request::Framing;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;
    use crate::stream::Stream;

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    fn whole(text: &'static [u8], keep: u64, max: u64) -> Rc<Source> {
        Source::new(Inbound::Whole(Bytes::from_static(text)), keep, max, Duration::from_secs(1))
    }

    #[test]
    fn what_is_gathered_is_sent_from_its_beginning_although_it_is_more_than_is_kept() {
        run(async {
            let source = whole(b"0123456789", 4, 100);
            source.gather(4).await;
            assert!(!source.is_kept(), "one piece went beyond the limit");
            let sent = Sending::new(&source).collect().await.unwrap().to_bytes();
            assert_eq!(&sent[..], b"0123456789");
        });
    }

    #[test]
    fn a_body_that_is_kept_is_sent_twice_and_one_that_is_too_long_is_not() {
        run(async {
            let source = whole(b"hello", 5, 100);
            for _ in 0..2 {
                assert_eq!(Sending::new(&source).collect().await.unwrap().to_bytes(), "hello");
            }
            assert_eq!(source.whole().unwrap(), "hello");

            let source = whole(b"hello", 4, 100);
            let told = Rc::new(Cell::new(0));
            let tell = Rc::clone(&told);
            source.on_gone(move || tell.set(tell.get() + 1));
            let mut second = Sending::new(&source);
            assert_eq!(Sending::new(&source).collect().await.unwrap().to_bytes(), "hello");
            assert_eq!(told.get(), 1);
            let fault = second.frame().await.unwrap().err();
            assert_eq!(fault, Some(SourceFault::NotKept));
            assert_eq!(source.whole(), None);
        });
    }

    #[test]
    fn a_body_that_comes_byte_by_byte_is_kept_in_as_much_memory_as_it_is_long() {
        let mut state = State {
            from: Inbound::Empty,
            pieces: Vec::new(),
            trailers: None,
            first: 0,
            read: 0,
            ended: false,
            fault: None,
            wakers: Vec::new(),
            late: None,
        };
        let text: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
        // Each of them a view of a large buffer, as reads give them; some larger ones between.
        let read = Bytes::from(text.clone());
        let mut at = 0;
        for len in std::iter::repeat_n(1, 9_000).chain([5_000, 1, 0, 4_095, 4_096 - 2_192]) {
            state.read += len as u64;
            state.keep(&read.slice(at..at + len));
            at += len;
        }
        assert!(state.pieces.len() < 10, "{} pieces", state.pieces.len());
        for begin in [0, 1, 4_095, 4_096, 8_999, 9_000, 14_000, at - 1] {
            let mut found = Vec::new();
            while let Some(bytes) = state.from((begin + found.len()) as u64) {
                found.extend_from_slice(&bytes);
            }
            assert_eq!(found, text[begin..at], "from {begin}");
        }
        assert_eq!(state.from(at as u64), None);
    }

    #[test]
    fn a_silent_body_has_no_more_than_its_own_time_once_the_reply_has_ended() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let mut wire = Wire::new(Stream::Tcp(accepted.unwrap().0), BytesMut::new());
            wire.begin_body(Framing::Length(10), false);
            let from = Inbound::H1 { wire: Rc::new(RefCell::new(wire)), length: Some(10) };
            let patience = Duration::from_millis(50);
            let source = Source::new(from, 0, 100, patience);
            let both_ways = source.both_ways();
            both_ways.begin(Duration::from_secs(3_600));
            let mut body = Sending::new(&source);
            assert!(timeout(patience * 4, body.frame()).await.is_err(), "the reply speaks for it");
            both_ways.end();
            let fault = timeout(Duration::from_secs(30), body.frame()).await.unwrap().unwrap().err();
            assert_eq!(fault, Some(SourceFault::Late));
        });
    }

    #[test]
    fn a_body_longer_than_allowed_fails() {
        run(async {
            let source = whole(b"hello", 100, 4);
            assert!(source.is_too_large());
            assert!(Sending::new(&source).collect().await.is_err());
            assert_eq!(source.fault(), Some(SourceFault::TooLarge));
        });
    }
}
