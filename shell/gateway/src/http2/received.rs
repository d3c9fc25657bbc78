//! A body as it comes over a stream.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};

/// A body. Dropped before its end, the stream is reset, unless something else holds it.
#[derive(Debug)]
pub(crate) struct Received {
    stream: RecvStream,
    /// Bytes that are to come, if its head told.
    left: Option<u64>,
    /// Trailers may follow, and nothing else.
    at_trailers: bool,
}

impl Received {
    /// The body behind a head with these lines. That it is as long as they say is seen to by h2.
    pub(crate) fn new(headers: &HeaderMap, stream: RecvStream) -> Received {
        let left = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Received { stream, left, at_trailers: false }
    }

    /// Bytes as they come, whose place in the windows is given back, then trailers.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.at_trailers {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(piece)) => {
                    let _ = self.stream.flow_control().release_capacity(piece.len());
                    self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Err(error)) => return Poll::Ready(self.broken(error)),
                None => self.at_trailers = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(self.broken(error)),
        }
    }

    /// Who has said all and wants no more of the other side resets the stream without an error (RFC 9113, section 8.1), which h2 takes for
    /// no fault of a body that has ended before. One that has not is whole only if its length says so.
    fn broken(&mut self, error: h2::Error) -> Option<io::Result<Frame<Bytes>>> {
        let is_calm = error.is_remote() && error.reason() == Some(Reason::NO_ERROR);
        let is_whole = is_calm && self.left == Some(0);
        (!is_whole).then(|| Err(io::Error::other(error)))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
