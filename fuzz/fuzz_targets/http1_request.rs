//! Requests of HTTP/1.1 cut in any way are read the same, and one that is taken is what hyper takes it for, trailers included.
#![no_main]

mod http1;

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use libfuzzer_sys::fuzz_target;
use skep_gate::http1::body::{Decoder, Piece};
use skep_gate::http1::request::{self, Bad};

const SIZE_MAX: usize = 16 << 10;
/// More lines than fit into what a fuzzer gives.
const LINES_MAX: usize = 4096;

#[derive(PartialEq, Debug)]
struct Seen {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
}

/// The first request of `input`, given in pieces, and what is left behind it; none if it is not whole.
fn ours(input: &[u8], piece: usize) -> Result<Option<(Seen, Vec<u8>)>, Result<Bad, &'static str>> {
    let (mut buffer, mut given) = (BytesMut::new(), input.chunks(piece));
    let head = loop {
        if let Some(head) = request::take(&mut buffer, SIZE_MAX).map_err(Ok)? {
            break head;
        }
        match given.next() {
            Some(more) => buffer.extend_from_slice(more),
            None => return Ok(None),
        }
    };
    let (mut decoder, mut body, mut trailers) = (Decoder::new(head.framing), Vec::new(), HeaderMap::new());
    loop {
        let found = decoder.decode(&mut buffer);
        match found.inspect_err(|what| assert_eq!(decoder, Decoder::Malformed(what))).map_err(Err)? {
            Piece::Data(data) => body.extend_from_slice(&data),
            Piece::Trailers(found) => {
                assert!(!found.is_empty() && trailers.is_empty() && decoder.is_done());
                trailers = found;
            }
            Piece::Done => break,
            Piece::NeedMore => match given.next() {
                Some(more) => buffer.extend_from_slice(more),
                None => return Ok(None),
            },
        }
    }
    let left = [&buffer[..], &given.collect::<Vec<_>>().concat()].concat();
    let parts = head.parts;
    Ok(Some((Seen { method: parts.method, uri: parts.uri, headers: parts.headers, body, trailers }, left)))
}

/// The first request that hyper's server gives its service whole.
fn hypers(input: &[u8]) -> Option<Seen> {
    let found = Rc::new(RefCell::new(None));
    let service = service_fn(|request: Request<Incoming>| {
        let found = Rc::clone(&found);
        async move {
            let (parts, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                let trailers = body.trailers().cloned().unwrap_or_default();
                let body = body.to_bytes().to_vec();
                found.borrow_mut().get_or_insert(Seen { method: parts.method, uri: parts.uri, headers: parts.headers, body, trailers });
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let stream = http1::Canned { input: input.to_vec(), at: 0, waits: false };
    let mut builder = hyper::server::conn::http1::Builder::new();
    let _ = http1::run(builder.half_close(true).max_headers(LINES_MAX).serve_connection(stream, service));
    found.take()
}

fuzz_target!(|data: &[u8]| {
    let [choice, input @ ..] = data else { return };
    let whole = ours(input, input.len().max(1));
    // A head that is too large may be told so earlier or later.
    if input.len() <= SIZE_MAX {
        for piece in [1, usize::from(*choice) + 1] {
            match (ours(input, piece), &whole) {
                // Which of several things is wrong first depends on what was there; that something is does not.
                (Err(_), Err(_)) => {}
                (found, whole) => assert_eq!(&found, whole, "in pieces of {piece}"),
            }
        }
    }
    let Ok(Some((mut seen, left))) = whole else { return };
    assert!(input.ends_with(&left));
    let mut other = hypers(input).expect("hyper takes what is taken here");
    // It stands in the target, too, and here is made of that if it is missing.
    seen.headers.remove(header::HOST);
    other.headers.remove(header::HOST);
    assert_eq!(seen, other);
});
