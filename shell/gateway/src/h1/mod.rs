//! HTTP/1.1 with clients: one request after the other over a connection.
//!
//! Heads and bodies are read by `skep_gate::http1`, strictly: a framework that repairs what is ambiguous hides it. A connection that rests
//! holds no buffer.

mod tunnel;
mod wire;
mod write;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Response, Version};
use skep_gate::http1::request::{self, Bad, Framing, Head};
use tokio::io::AsyncWrite;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::control::duration;
use crate::figures::count;
use crate::listen::Connection;
use crate::proxy::{self, Answered};
use crate::reply::Reply;
use crate::source::Inbound;
use crate::stream::Stream;
pub(crate) use wire::{BodyFault, Wire};
use write::{Asked, write};
pub(crate) use write::{put_end, put_hex};

/// A client that is told that its request is no good may go on sending for so long; closing at once would take the answer
/// away from it again.
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(1);
pub(crate) const LINGER_BYTES_MAX: usize = 256 << 10;

/// Times and sizes of a listener.
struct Limits {
    idle: Duration,
    header_time: Duration,
    header_size: usize,
    body_idle: Duration,
}

/// Serves a connection until it ends. `input` was read from it already.
///
/// # Errors
/// The connection broke.
pub(crate) async fn serve(connection: Connection, stream: Stream, input: BytesMut) -> io::Result<()> {
    let wire = Rc::new(RefCell::new(Wire::new(stream, input)));
    // Both are kept from one rest to the next: to set them up anew costs each request more than to leave them be.
    let (mut late, mut closed) = (pin!(sleep(Duration::ZERO)), pin!(connection.listening.closed()));
    while let Some(limits) = limits(&connection) {
        let is_empty = wire.borrow().input.is_empty();
        if is_empty {
            wire.borrow_mut().rest();
            late.as_mut().reset(Instant::now() + limits.idle);
            let mut has_rested = false;
            let first = poll_fn(|cx| {
                let polled = wire.borrow_mut().poll_first(cx);
                has_rested |= polled.is_pending();
                polled
            });
            let first = tokio::select! {
                biased;
                first = first => first,
                () = &mut late => break,
                // Nobody asks for anything: it may end.
                () = &mut closed => break,
            };
            if !matches!(first, Ok(n) if n > 0) {
                // Who closes while nothing is under way reads no more: there is nobody to be told that nothing follows.
                if has_rested && wire.borrow().stream.is_closed_by_peer() {
                    return Ok(());
                }
                break;
            }
        }
        let head = match read_head(&wire, &limits).await {
            Ok(Some(head)) => head,
            Ok(None) => break,
            Err(bad) => {
                count(&connection.core.malformed);
                tracing::debug!(
                    status = bad.status.as_u16(),
                    why = bad.what,
                    "gateway: a request is refused"
                );
                // On the heap, as what is rare: what a connection could need it holds while it rests.
                return Box::pin(refuse(&wire, bad, limits.body_idle)).await;
            }
        };
        if !Box::pin(exchange(&connection, &wire, head, &limits)).await? {
            return Ok(());
        }
    }
    shut(&wire, LINGER_TIME).await
}

/// Says that nothing follows, which over TLS are bytes of their own that a client may not take: without them it must hold what came
/// before for cut off.
async fn shut(wire: &Rc<RefCell<Wire>>, patience: Duration) -> io::Result<()> {
    let said = poll_fn(|cx| AsyncWrite::poll_shutdown(Pin::new(&mut wire.borrow_mut().stream), cx));
    timeout(patience, said).await?
}

fn limits(connection: &Connection) -> Option<Limits> {
    // A listener that is gone, or drains, begins nothing new.
    if connection.listening.is_closing() {
        return None;
    }
    let plan = connection.core.plan();
    let listener = &plan.snapshot.config.listeners[connection.listening.id()?.at()].it;
    Some(Limits {
        idle: duration(listener.idle),
        header_time: duration(listener.header_time),
        header_size: listener.header_size.0 as usize,
        body_idle: duration(listener.body_idle),
    })
}

/// The next head; none if the client is gone or too slow before it said anything of use.
async fn read_head(wire: &Rc<RefCell<Wire>>, limits: &Limits) -> Result<Option<Head>, Bad> {
    let mut until = None;
    loop {
        if let Some(head) = request::take(&mut wire.borrow_mut().input, limits.header_size)? {
            return Ok(Some(head));
        }
        let until = *until.get_or_insert_with(|| Instant::now() + limits.header_time);
        let more = poll_fn(|cx| wire.borrow_mut().poll_fill(cx));
        match timeout_at(until, more).await {
            Ok(Ok(n)) if n > 0 => {}
            Ok(_) => return Ok(None),
            Err(_) => {
                let status = http::StatusCode::REQUEST_TIMEOUT;
                return Err(Bad { status, what: "the headers did not come in time" });
            }
        }
    }
}

/// One request and its reply. True if another may follow.
async fn exchange(
    connection: &Connection,
    wire: &Rc<RefCell<Wire>>,
    head: Head,
    limits: &Limits,
) -> io::Result<bool> {
    let Head { parts, framing, keep_alive, expects } = head;
    wire.borrow_mut().begin_body(framing, expects);
    let mut asked = Asked { method: parts.method.clone(), version: parts.version, keep_alive };
    let body = match framing {
        Framing::Length(0) => Inbound::Empty,
        Framing::Length(n) => Inbound::H1 { wire: Rc::clone(wire), length: Some(n) },
        Framing::Chunked => Inbound::H1 { wire: Rc::clone(wire), length: None },
    };
    let answered = {
        // On the heap, and only while it lasts: a connection that rests is many times smaller than one that asks.
        let mut carried = Box::pin(proxy::carry(connection, Box::new(parts), body));
        // Who goes while its request is under way needs no answer.
        poll_fn(|cx| match carried.as_mut().poll(cx) {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            Poll::Pending => wire.borrow_mut().poll_gone(cx).map(|()| None),
        })
        .await
    };
    let Some(Answered { response, tunnel }) = answered else { return Ok(false) };
    discard_what_is_here(wire);
    // A body that nobody asked for, or that is not all here, makes what follows it unreadable.
    let (unasked, done) = (wire.borrow().is_body_unasked(), wire.borrow().is_body_done());
    asked.keep_alive &= !unasked && !connection.listening.is_closing() && !connection.core.is_draining();
    let refused = !done && response.status().is_client_error();
    asked.keep_alive &= !refused;
    let (parts, body) = response.into_parts();
    let again = write(wire, &asked, parts, body, limits.body_idle).await?;
    if let Some(tunnel) = tunnel {
        Box::pin(tunnel::carry(wire, tunnel)).await;
        return Ok(false);
    }
    let done = wire.borrow().is_body_done();
    match (again, done) {
        (true, true) => Ok(true),
        // The reply came before the end of the body, which may still be on its way to the upstream.
        (true, false) => {
            let rest = poll_fn(|cx| wire.borrow_mut().poll_body_done(cx));
            let came = timeout(LINGER_TIME, rest).await.is_ok();
            if !came {
                linger(wire).await;
                shut(wire, limits.body_idle).await?;
            }
            Ok(came)
        }
        (false, _) => {
            if refused || unasked {
                linger(wire).await;
                shut(wire, LINGER_TIME).await?;
            } else {
                // The client takes the last of its reply in its own time, as what came before.
                shut(wire, limits.body_idle).await?;
            }
            Ok(false)
        }
    }
}

/// Throws away what has come of a body that nobody reads any more: a short one that an answer of the gateway itself had no use for
/// costs its client neither the connection nor time.
fn discard_what_is_here(wire: &Rc<RefCell<Wire>>) {
    let is_read = Rc::strong_count(wire) > 1;
    let mut wire = wire.borrow_mut();
    if !is_read && !wire.is_body_unasked() {
        wire.discard_input();
    }
}

/// Reads and throws away what is left of a body, for a moment.
async fn linger(wire: &Rc<RefCell<Wire>>) {
    let mut left = LINGER_BYTES_MAX;
    let rest = poll_fn(|cx| {
        loop {
            match wire.borrow_mut().poll_discard(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(()),
                Poll::Ready(Some(Ok(frame))) => {
                    match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                        Some(less) => left = less,
                        None => return Poll::Ready(()),
                    }
                }
            }
        }
    });
    let _ = timeout(LINGER_TIME, rest).await;
}

/// Answers what is no good request, and ends the connection.
async fn refuse(wire: &Rc<RefCell<Wire>>, bad: Bad, patience: Duration) -> io::Result<()> {
    let mut response = Response::new(Reply::whole(format!("{} {}\n", bad.status.as_u16(), bad.what)));
    *response.status_mut() = bad.status;
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, text);
    let asked = Asked { method: Method::GET, version: Version::HTTP_11, keep_alive: false };
    let (parts, body) = response.into_parts();
    write(wire, &asked, parts, body, patience).await?;
    shut(wire, LINGER_TIME).await?;
    // What it still sends is read for a moment, so that the answer reaches it.
    let mut left = LINGER_BYTES_MAX;
    let rest = poll_fn(|cx| {
        let mut wire = wire.borrow_mut();
        loop {
            wire.input.clear();
            match wire.poll_fill(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(n)) if n > 0 && n <= left => left -= n,
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    });
    let _ = timeout(LINGER_TIME, rest).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::crypto::ring;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::sleep;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::stream::Beneath;

    const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stage/localhost.pem");
    const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stage/localhost.key");

    /// Both ends of a connection with TLS.
    async fn secure() -> (Stream, tokio_rustls::client::TlsStream<TcpStream>) {
        let certificate = CertificateDer::from_pem_file(CERTIFICATE).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let client = client.with_safe_default_protocol_versions().unwrap();
        let client = TlsConnector::from(Arc::new(client.with_root_certificates(roots).with_no_client_auth()));
        let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::from_pem_file(KEY).unwrap();
        let server = server.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let server = TlsAcceptor::from(Arc::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let (to, from) = tokio::join!(TcpStream::connect(to), listener.accept());
        let (client, server) = tokio::join!(
            client.connect("localhost".try_into().unwrap(), to.unwrap()),
            server.accept(Beneath::new(from.unwrap().0))
        );
        (Stream::Tls(Box::new(server.unwrap().into())), client.unwrap())
    }

    #[test]
    fn a_client_that_takes_nothing_for_a_while_sees_over_tls_that_its_reply_is_whole() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (stream, mut client) = secure().await;
            let wire = Rc::new(RefCell::new(Wire::new(stream, BytesMut::new())));
            let mut sent = 0;
            // Until there is no room for more.
            let write = || {
                poll_fn(|cx| {
                    AsyncWrite::poll_write(Pin::new(&mut wire.borrow_mut().stream), cx, &[0; 1 << 14])
                })
            };
            while let Ok(wrote) = timeout(LINGER_TIME / 4, write()).await {
                sent += wrote.unwrap();
            }
            let shut = async {
                let shut = shut(&wire, Duration::from_secs(30)).await;
                drop(wire);
                shut
            };
            let take = async {
                sleep(LINGER_TIME * 3 / 2).await;
                let mut got = Vec::new();
                client.read_to_end(&mut got).await.map(|_| got.len())
            };
            let (shut, took) = tokio::join!(shut, take);
            assert_eq!(took.unwrap(), sent, "and the end was said");
            shut.unwrap();
        });
    }
}
