//! HTTP/1.1 with upstreams: one request after the other over a connection.
//!
//! Replies are read as strictly as requests, by `skep_gate::http1`: what two parsers could understand in two ways is none.
//! Invariant: a connection rests for another request only if its own was sent whole, its reply was read to an end that its head
//! told of, and nothing followed.

mod upload;

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{Method, Response, StatusCode};
use http_body::{Frame, SizeHint};
use skep_gate::http1::body::{Decoder, Piece};
use skep_gate::http1::reply;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio::time::timeout;
use tokio_util::io::poll_read_buf;

#[cfg(test)]
mod tests;

pub(crate) use upload::end_head;
use upload::{Broken, Upload};

use super::{Asking, Counted, SendFault, Upstream};
use crate::pipe::{PIPE_BYTES, Pipe};
use crate::progress::Progress;
use crate::scratch::scratch;
use crate::source::{Sending, Source};
use crate::stream::{Holds, Rewound, Stream};
use crate::task::Owned;

/// Room that is made for a read: small while replies are.
const READ_BYTES_MIN: usize = 8 << 10;
const READ_BYTES_MAX: usize = 128 << 10;
/// What an upstream may say before its reply: `100 Continue` and its kin.
const INTERIM_MAX: usize = 16;

/// A request: its head as it is written, and where its body comes from.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) head: Bytes,
    pub(crate) method: Method,
    pub(crate) source: Rc<Source>,
    pub(crate) progress: Rc<Progress>,
}

/// A connection that is counted.
pub(super) struct Connection {
    stream: Stream,
    input: BytesMut,
    read_bytes: usize,
    /// What is left of the request.
    upload: Option<Upload>,
    decoder: Decoder,
    /// It may be used again, as far as is known.
    reusable: bool,
    /// The reply has ended.
    replied: bool,
    /// Another protocol follows.
    upgraded: bool,
    /// The request cannot be completed; and who reads the reply and must know it.
    failed: bool,
    reader: Option<Waker>,
    pub(super) counted: Counted,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(stream: Stream, counted: Counted) -> Rc<RefCell<Connection>> {
        Rc::new(RefCell::new(Connection {
            stream,
            input: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            upload: None,
            decoder: Decoder::Done,
            reusable: true,
            replied: false,
            upgraded: false,
            failed: false,
            reader: None,
            counted,
        }))
    }

    /// True if the upstream has neither closed nor said anything while the connection rested.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        // A task that has done much in this turn is told by tokio that nothing is there, whatever is.
        let looked = unconstrained(poll_fn(|cx| {
            Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut byte))
        }));
        pin!(looked).poll(&mut cx).is_pending()
    }

    fn begin(&mut self, upload: Upload) {
        self.upload = Some(upload);
        self.replied = false;
    }

    /// Sends what is left of the request.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Some(upload) = &mut self.upload else { return Poll::Ready(Ok(())) };
        let result = ready!(upload.poll(&mut self.stream, cx));
        self.upload = None;
        self.reusable &= result.is_ok();
        Poll::Ready(result)
    }

    /// Reads more bytes; 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(self.read_bytes);
        let room = self.input.capacity() - self.input.len();
        let n = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input))?;
        // Who fills the room has more to say.
        if n >= room {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        }
        Poll::Ready(Ok(n))
    }

    /// Reads more of a head; 0 at the end. Until its first bytes come no room is made for them.
    fn poll_fill_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.input.is_empty() {
            return self.poll_fill(cx);
        }
        let n = scratch(|room| {
            let mut first = ReadBuf::new(&mut room[..READ_BYTES_MIN]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut first))?;
            self.input.extend_from_slice(first.filled());
            Poll::Ready(io::Result::Ok(first.filled().len()))
        });
        let n = ready!(n)?;
        if n == READ_BYTES_MIN {
            self.read_bytes = READ_BYTES_MIN * 2;
        }
        Poll::Ready(Ok(n))
    }

    /// Reads the head of the reply; `interim` of those before it were read.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        interim: &mut usize,
    ) -> Poll<Result<Parts, SendFault>> {
        loop {
            match reply::take(&mut self.input, method) {
                Ok(Some(head)) if head.parts.status == StatusCode::SWITCHING_PROTOCOLS => {
                    self.upgraded = true;
                    return Poll::Ready(Ok(head.parts));
                }
                Ok(Some(head)) if head.parts.status.is_informational() && *interim < INTERIM_MAX => {
                    *interim += 1;
                }
                Ok(Some(head)) if !head.parts.status.is_informational() => {
                    self.decoder = head.decoder;
                    self.reusable &= head.keep_alive && head.decoder != Decoder::UntilClose;
                    return Poll::Ready(Ok(head.parts));
                }
                Ok(None) => match ready!(self.poll_fill_head(cx)) {
                    Ok(n) if n > 0 => {}
                    _ => return Poll::Ready(Err(SendFault::Reset)),
                },
                found => {
                    let what = found.err().unwrap_or("too many of those before a reply");
                    tracing::debug!(what, upstream = %self.counted.0.key.address, "gateway: a reply is refused");
                    return Poll::Ready(Err(SendFault::Reset));
                }
            }
        }
    }

    /// Whoever reads the reply is told if the request cannot be completed, at once or when that happens.
    fn check(&mut self, cx: &Context<'_>) -> io::Result<()> {
        if self.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.upload.is_some() {
            self.reader = Some(cx.waker().clone());
        }
        Ok(())
    }

    /// The next piece of the reply's body; none at its end.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.check(cx)?;
        loop {
            match self.decoder.decode(&mut self.input) {
                Ok(Piece::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Ok(Piece::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Piece::Done) => return Poll::Ready(None),
                Ok(Piece::NeedMore) => {}
                Err(what) => return Poll::Ready(Some(Err(io::Error::other(what)))),
            }
            match ready!(self.poll_fill(cx)) {
                Ok(n) if n > 0 => {}
                Ok(_) if self.decoder == Decoder::UntilClose => self.decoder = Decoder::Done,
                Ok(_) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// The client broke its request off, which the upstream waits for.
    fn fail(&mut self) {
        self.failed = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// True if another request may follow, after the end of a reply.
    pub(super) fn is_reusable(&self) -> bool {
        self.reusable && self.upload.is_none() && self.input.is_empty()
    }

    /// Gives memory back while nothing is asked.
    pub(super) fn rest(&mut self) {
        self.input = BytesMut::new();
        self.read_bytes = READ_BYTES_MIN;
    }
}

/// Sends a request, and gives the head of its reply. What is left of the request by then is sent while the reply is read.
///
/// # Errors
/// [`SendFault`]; the request is given back if not a byte of it was written.
pub(super) async fn send(
    connection: Rc<RefCell<Connection>>,
    request: Request,
) -> Result<Response<Arriving>, SendFault> {
    let body = Sending::with(&request.source, Rc::clone(&request.progress));
    let patience = request.source.patience();
    connection.borrow_mut().begin(Upload::new(request.head.clone(), body));
    let mut interim = 0;
    let parts = poll_fn(|cx| {
        let mut connection = connection.borrow_mut();
        match connection.poll_upload(cx) {
            Poll::Ready(Err(Broken::Untouched)) => Poll::Ready(Err(None)),
            Poll::Ready(Err(Broken::Client)) => Poll::Ready(Err(Some(SendFault::Reset))),
            // An upstream may answer before it has read everything, and close.
            _ => connection.poll_head(cx, &request.method, &mut interim).map_err(Some),
        }
    })
    .await;
    match parts {
        Ok(parts) => Ok(Response::from_parts(parts, Arriving::new(connection, patience))),
        Err(None) => Err(SendFault::NotSent(Some(Asking::H1(request)))),
        Err(Some(fault)) => Err(fault),
    }
}

/// Sends what is left of a request whose reply is being read, or has ended. While it is read, whoever reads it says how long the
/// upstream may be silent; after that the upstream must take some of the request within `patience`, or it would hold the
/// connection for as long as it likes.
async fn upload(connection: Rc<RefCell<Connection>>, patience: Duration) {
    let mut before = None;
    loop {
        let sent = timeout(patience, poll_fn(|cx| connection.borrow_mut().poll_upload(cx))).await;
        let replied = connection.borrow().replied;
        match sent {
            Ok(Err(Broken::Client)) => return connection.borrow_mut().fail(),
            Ok(Ok(())) if replied => return Upstream::rest(connection),
            Ok(_) => return,
            Err(_) => {
                let written = {
                    let connection = connection.borrow();
                    let written = connection.upload.as_ref().map(|upload| upload.written);
                    (written, connection.stream.handed_on())
                };
                if replied && before.replace(written) == Some(written) {
                    return;
                }
            }
        }
    }
}

/// The body of a reply, with the connection that it comes over. At its end the connection rests; dropped before, it is closed.
#[derive(Debug)]
pub(crate) struct Arriving {
    /// None when the reply has ended.
    connection: Option<Rc<RefCell<Connection>>>,
    /// Sends what is left of the request, so that it does not wait for whoever reads the reply.
    uploading: Option<Owned>,
}

impl Arriving {
    fn new(connection: Rc<RefCell<Connection>>, patience: Duration) -> Arriving {
        let mut arriving = Arriving { connection: None, uploading: None };
        let (uploads, ended) = {
            let connection = connection.borrow();
            (connection.upload.is_some(), connection.decoder.is_done())
        };
        if uploads {
            arriving.uploading = Some(Owned::spawn(upload(Rc::clone(&connection), patience)));
        }
        arriving.connection = Some(connection);
        if ended {
            arriving.end();
        }
        arriving
    }

    /// The reply has ended. What is left of the request goes on its way.
    fn end(&mut self) {
        // After an upgrade the connection stays, for what follows.
        let Some(connection) = self.connection.take_if(|connection| !connection.borrow().upgraded) else {
            return;
        };
        connection.borrow_mut().replied = true;
        match self.uploading.take().filter(|_| connection.borrow().upload.is_some()) {
            Some(uploading) => uploading.let_go(),
            None => Upstream::rest(connection),
        }
    }

    pub(super) fn into_upgraded(mut self) -> Option<Rewound<Stream>> {
        let connection = Rc::into_inner(self.connection.take()?)?.into_inner();
        connection.upgraded.then_some(Rewound::new(connection.input, connection.stream))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(connection) = &self.connection else { return Poll::Ready(None) };
        let mut connection = connection.borrow_mut();
        let found = ready!(connection.poll_body(cx));
        let ended = connection.decoder.is_done();
        drop(connection);
        if ended {
            self.end();
        }
        Poll::Ready(found)
    }

    /// Bytes of the body that are still to come over plain TCP and can be moved without being looked at.
    pub(super) fn movable(&self) -> u64 {
        let Some(connection) = &self.connection else { return 0 };
        let connection = connection.borrow();
        match (connection.decoder, &connection.stream) {
            (Decoder::Length(left), Stream::Tcp(_)) if connection.input.is_empty() => left,
            _ => 0,
        }
    }

    /// Moves what comes of [`Self::movable`] into an empty pipe.
    ///
    /// # Errors
    /// The connection broke, or ended before the body did.
    pub(super) fn poll_move(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        let Some(connection) = &self.connection else { return Poll::Ready(Ok(0)) };
        let mut connection = connection.borrow_mut();
        connection.check(cx)?;
        let (Decoder::Length(left), Stream::Tcp(stream)) = (connection.decoder, &connection.stream) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIPE_BYTES);
        let n = ready!(pipe.poll_fill(cx, stream, most))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let left = left - n as u64;
        connection.decoder = if left == 0 { Decoder::Done } else { Decoder::Length(left) };
        drop(connection);
        if left == 0 {
            self.end();
        }
        Poll::Ready(Ok(n))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.connection.is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let connection = self.connection.as_ref().map(|connection| connection.borrow().decoder);
        match connection {
            None | Some(Decoder::Done) => SizeHint::with_exact(0),
            Some(Decoder::Length(left)) => SizeHint::with_exact(left),
            _ => SizeHint::new(),
        }
    }
}
