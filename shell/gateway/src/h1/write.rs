//! Replies over HTTP/1.1: head, framing, pieces.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE};
use http::response::Parts;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body::Body;
use skep_base::number::format_u64;
use skep_gate::http1::reply::has_body;
use tokio::io::AsyncWrite;
use tokio::time::{Sleep, sleep, timeout};

use super::wire::Wire;
use crate::date::date;
use crate::pipe::Pipe;
use crate::reply::Reply;
use crate::stream::Holds;

/// Up to this a piece is copied behind the head, so that both leave as one write.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// A body of which as much is still to come is moved by the kernel, if that can be.
const MOVED_BYTES_MIN: u64 = 128 << 10;

/// What of the request decides about the form of its reply.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// Writes a whole reply. True if the connection can be used again.
///
/// # Errors
/// The client does not take it, or the reply broke; the connection is of no more use.
pub(super) async fn write(
    wire: &Rc<RefCell<Wire>>,
    asked: &Asked,
    parts: Parts,
    mut body: Reply,
    patience: Duration,
) -> io::Result<bool> {
    let status = parts.status;
    let bodiless = !has_body(&asked.method, status);
    let form = match body.size_hint().exact() {
        _ if bodiless => Form::None,
        Some(n) => Form::Length(n),
        None if asked.version == Version::HTTP_11 => Form::Chunked,
        None => Form::UntilClose,
    };
    let keep_alive = asked.keep_alive && form != Form::UntilClose;
    // Room for a head and for a body that is joined to it.
    let joined = match form {
        Form::Length(n) if n <= JOINED_BYTES_MAX as u64 => n as usize,
        _ => 0,
    };
    let mut out = BytesMut::with_capacity(1024 + joined);
    put_head(&mut out, asked, &parts, form, keep_alive);
    if bodiless {
        // What the upstream sends in spite of that is not for anybody.
        write_all(wire, &mut out, Bytes::new(), patience).await?;
        return Ok(keep_alive);
    }
    let mut trailers = None;
    loop {
        // What is there at once leaves with the head.
        let mut first = true;
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Pending if first && !out.is_empty() => {
                first = false;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
        })
        .await;
        match frame {
            None => write_all(wire, &mut out, Bytes::new(), patience).await?,
            Some(Some(Ok(frame))) => {
                let data = match frame.into_data() {
                    Ok(data) => data,
                    Err(frame) => {
                        trailers = frame.into_trailers().ok();
                        continue;
                    }
                };
                put_piece(wire, &mut out, data, form, patience).await?;
                if body.movable() >= MOVED_BYTES_MIN
                    && wire.borrow().stream.tcp().is_some()
                    && let Some(pipe) = Pipe::open()
                {
                    write_all(wire, &mut out, Bytes::new(), patience).await?;
                    move_all(wire, &mut body, pipe, patience).await?;
                }
            }
            Some(Some(Err(fault))) => {
                // The client must see that something is missing: what is there leaves, and the connection breaks.
                write_all(wire, &mut out, Bytes::new(), patience).await?;
                return Err(io::Error::other(fault));
            }
            Some(None) => break,
        }
    }
    if form == Form::Chunked {
        // Elsewhere there is no place for trailers.
        put_end(&mut out, trailers.as_ref());
    }
    write_all(wire, &mut out, Bytes::new(), patience).await?;
    Ok(keep_alive)
}

/// Moves what is left of a body to the client without looking at it.
///
/// # Errors
/// The client does not take it, or the reply broke; the connection is of no more use.
async fn move_all(
    wire: &Rc<RefCell<Wire>>,
    body: &mut Reply,
    mut pipe: Pipe,
    patience: Duration,
) -> io::Result<()> {
    while body.movable() > 0 || !pipe.is_empty() {
        if pipe.is_empty() {
            poll_fn(|cx| body.poll_move(cx, &mut pipe)).await.map_err(io::Error::other)?;
        }
        let drain = poll_fn(|cx| match wire.borrow().stream.tcp() {
            Some(client) => pipe.poll_drain(cx, client),
            None => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        });
        timeout(patience, drain).await??;
    }
    Ok(())
}

async fn put_piece(
    wire: &Rc<RefCell<Wire>>,
    out: &mut BytesMut,
    data: Bytes,
    form: Form,
    patience: Duration,
) -> io::Result<()> {
    if data.is_empty() {
        return Ok(());
    }
    if form == Form::Chunked {
        put_hex(out, data.len());
    }
    if out.len() + data.len() <= JOINED_BYTES_MAX {
        out.put_slice(&data);
        if form == Form::Chunked {
            out.put_slice(b"\r\n");
        }
        // It leaves when there is nothing more at once.
        return Ok(());
    }
    write_all(wire, out, data, patience).await?;
    if form == Form::Chunked {
        out.put_slice(b"\r\n");
    }
    Ok(())
}

/// The line with a chunk's size.
pub(crate) fn put_hex(out: &mut BytesMut, n: usize) {
    use std::fmt::Write;
    write!(out, "{n:x}\r\n").expect("a buffer takes every write");
}

/// The end of a chunked body.
pub(crate) fn put_end(out: &mut BytesMut, trailers: Option<&HeaderMap>) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.put_slice(part);
        }
    }
    out.put_slice(b"\r\n");
}

fn put_head(out: &mut BytesMut, asked: &Asked, parts: &Parts, form: Form, keep_alive: bool) {
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(parts.status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(parts.status.canonical_reason().unwrap_or("").as_bytes());
    out.put_slice(b"\r\n");
    let upgrades = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in &parts.headers {
        let kept = match *name {
            CONNECTION | UPGRADE => upgrades,
            TRANSFER_ENCODING => false,
            // A reply without a body may tell the length that it would have had.
            CONTENT_LENGTH => form == Form::None && asked.method == Method::HEAD,
            _ => true,
        };
        if kept {
            out.put_slice(name.as_str().as_bytes());
            out.put_slice(b": ");
            out.put_slice(value.as_bytes());
            out.put_slice(b"\r\n");
        }
    }
    match form {
        Form::Length(n) => {
            out.put_slice(b"content-length: ");
            out.put_slice(format_u64(n, &mut [0; 20]));
            out.put_slice(b"\r\n");
        }
        Form::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
        Form::None | Form::UntilClose => {}
    }
    if !upgrades {
        match (keep_alive, asked.version) {
            (false, _) => out.put_slice(b"connection: close\r\n"),
            (true, Version::HTTP_10) => out.put_slice(b"connection: keep-alive\r\n"),
            _ => {}
        }
    }
    if !parts.headers.contains_key(DATE) {
        out.put_slice(b"date: ");
        out.put_slice(date().as_bytes());
        out.put_slice(b"\r\n");
    }
    out.put_slice(b"\r\n");
}

/// Writes all of `out`, which is empty then, and of `data`, and waits until TLS holds nothing of it either.
///
/// # Errors
/// The connection is broken, or nothing of it was taken for `patience`.
pub(super) async fn write_all(
    wire: &Rc<RefCell<Wire>>,
    out: &mut BytesMut,
    mut data: Bytes,
    patience: Duration,
) -> io::Result<()> {
    let mut stall = Stall { patience, handed_on: 0, sleep: None };
    poll_fn(|cx| {
        let mut wire = wire.borrow_mut();
        while out.has_remaining() || data.has_remaining() {
            match wire.poll_write(cx, out, &data) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    stall.sleep = None;
                    let of_out = n.min(out.len());
                    out.advance(of_out);
                    data.advance(n - of_out);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return stall.poll(cx, &wire.stream).map(Err),
            }
        }
        match Pin::new(&mut wire.stream).poll_flush(cx) {
            Poll::Pending => stall.poll(cx, &wire.stream).map(Err),
            flushed => flushed,
        }
    })
    .await
}

/// Since when a client takes nothing.
struct Stall {
    patience: Duration,
    handed_on: u64,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// Ready when `stream` has taken nothing for too long, neither from us nor of what it holds.
    fn poll(&mut self, cx: &mut Context<'_>, stream: &impl Holds) -> Poll<io::Error> {
        let handed_on = stream.handed_on();
        if self.handed_on != handed_on {
            (self.handed_on, self.sleep) = (handed_on, None);
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        sleep.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }
}
