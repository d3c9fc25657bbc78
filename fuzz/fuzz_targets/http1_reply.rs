//! Replies of HTTP/1.1 cut in any way are read the same, and one that is taken is what hyper takes it for, trailers included.
#![no_main]

mod http1;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use libfuzzer_sys::fuzz_target;
use skep_gate::http1::body::{Decoder, Piece};
use skep_gate::http1::reply;

/// More lines than fit into what a fuzzer gives.
const LINES_MAX: usize = 4096;

#[derive(PartialEq, Debug)]
struct Seen {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
}

/// The reply in `input`, given in pieces, behind those that only announce it; none if it is not whole.
fn ours(input: &[u8], method: &Method, piece: usize) -> Result<Option<(Seen, Vec<u8>)>, &'static str> {
    let (mut buffer, mut given) = (BytesMut::new(), input.chunks(piece));
    let head = loop {
        match reply::take(&mut buffer, method)? {
            Some(head) if head.parts.status == StatusCode::SWITCHING_PROTOCOLS => return Ok(None),
            Some(head) if head.parts.status.is_informational() => {}
            Some(head) => break head,
            None => match given.next() {
                Some(more) => buffer.extend_from_slice(more),
                None => return Ok(None),
            },
        }
    };
    let (mut decoder, mut body, mut trailers) = (head.decoder, Vec::new(), HeaderMap::new());
    loop {
        match decoder.decode(&mut buffer).inspect_err(|what| assert_eq!(decoder, Decoder::Malformed(what)))? {
            Piece::Data(data) => body.extend_from_slice(&data),
            Piece::Trailers(found) => {
                assert!(!found.is_empty() && trailers.is_empty() && decoder.is_done());
                trailers = found;
            }
            Piece::Done => break,
            Piece::NeedMore => match given.next() {
                Some(more) => buffer.extend_from_slice(more),
                None if decoder == Decoder::UntilClose => break,
                None => return Ok(None),
            },
        }
    }
    let left = [&buffer[..], &given.collect::<Vec<_>>().concat()].concat();
    Ok(Some((Seen { status: head.parts.status, headers: head.parts.headers, body, trailers }, left)))
}

fn hypers(input: &[u8], method: &Method) -> Option<Seen> {
    let stream = http1::Canned { input: input.to_vec(), at: 0, waits: true };
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new().max_headers(LINES_MAX).handshake(stream).await.ok()?;
        let request = Request::builder().method(method).uri("/").body(Empty::<Bytes>::new()).expect("it is one");
        let asked = async {
            let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
            let body = body.collect().await.ok()?;
            let trailers = body.trailers().cloned().unwrap_or_default();
            let body = body.to_bytes().to_vec();
            Some(Seen { status: parts.status, headers: parts.headers, body, trailers })
        };
        let (mut asked, mut connection) = (std::pin::pin!(asked), std::pin::pin!(connection));
        let mut closed = false;
        std::future::poll_fn(|cx| {
            closed = closed || connection.as_mut().poll(cx).is_ready();
            asked.as_mut().poll(cx)
        })
        .await
    };
    http1::run(exchange).flatten()
}

fuzz_target!(|data: &[u8]| {
    let [choice, input @ ..] = data else { return };
    let method = if choice & 1 == 0 { Method::GET } else { Method::HEAD };
    let whole = ours(input, &method, input.len().max(1));
    for piece in [1, usize::from(choice >> 1) + 1] {
        match (ours(input, &method, piece), &whole) {
            // Which of several things is wrong first depends on what was there; that something is does not.
            (Err(_), Err(_)) => {}
            (found, whole) => assert_eq!(&found, whole, "in pieces of {piece}"),
        }
    }
    let Ok(Some((seen, left))) = whole else { return };
    assert!(input.ends_with(&left));
    let mut other = hypers(input, &method).expect("hyper takes what is taken here");
    if other.status == StatusCode::NO_CONTENT {
        // It has no body, whatever these say; here they are left out.
        other.headers.remove(header::CONTENT_LENGTH);
        other.headers.remove(header::TRANSFER_ENCODING);
    }
    assert_eq!(seen, other);
});
