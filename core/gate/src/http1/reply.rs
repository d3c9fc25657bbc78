//! The head of an upstream's reply.
//!
//! Invariant: a reply that is taken has one framing (RFC 9112, section 6.3); two lengths, a length beside `Transfer-Encoding` and
//! a coding that is not `chunked` are refused.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, Method, Response, StatusCode, Version};

use super::body::Decoder;
use super::request::{end, framing, header_map, names};

const LINES_MAX: usize = 256;
const SIZE_MAX: usize = 256 << 10;

/// A reply's head, and how to read its body.
#[derive(Debug)]
pub struct Head {
    pub parts: Parts,
    pub decoder: Decoder,
    /// The upstream lets the connection be used again, if the body has an end of its own.
    pub keep_alive: bool,
}

/// Takes the head of a reply to a request with `method` from the beginning of `input`; none if more bytes are needed.
///
/// # Errors
/// What is wrong with it.
pub fn take(input: &mut BytesMut, method: &Method) -> Result<Option<Head>, &'static str> {
    match end(input) {
        Some(len) if len <= SIZE_MAX => {
            // Copied: tables of HPACK keep a header for as long as their connection lives, and would keep with it all that was read.
            let head = Bytes::copy_from_slice(&input[..len]);
            input.advance(len);
            parse(&head, method).map(Some)
        }
        None if input.len() <= SIZE_MAX => Ok(None),
        _ => Err("its head is too large"),
    }
}

fn parse(head: &Bytes, method: &Method) -> Result<Head, &'static str> {
    let mut lines = [const { MaybeUninit::uninit() }; LINES_MAX];
    let mut reply = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default();
    match parsed.parse_response_with_uninit_headers(&mut reply, head, &mut lines) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err("its head is broken"),
        Err(httparse::Error::TooManyHeaders) => return Err("it has too many header lines"),
        Err(_) => return Err("its status line or a header line is malformed"),
    }
    let version = if reply.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let status = StatusCode::from_u16(reply.code.unwrap_or(0)).map_err(|_| "its status is no number")?;
    let mut headers = header_map(head, reply.headers).map_err(|bad| bad.what)?;
    let decoder = decoder(&headers, version, status, method)?;
    let mut keep_alive = match version {
        Version::HTTP_11 => !names(&headers, "close"),
        _ => names(&headers, "keep-alive"),
    };
    if status == StatusCode::NO_CONTENT {
        // It may have neither (RFC 9110, section 8.6; RFC 9112, section 6.1). Who tells of a body may send one, too.
        let length = headers.remove(CONTENT_LENGTH).is_some_and(|length| length != "0");
        let coding = headers.remove(TRANSFER_ENCODING).is_some();
        keep_alive &= !length && !coding;
    }
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (status, version, headers);
    Ok(Head { parts, decoder, keep_alive })
}

/// Whether a reply with this status to such a request has a body, be it an empty one (RFC 9110, section 6.4.1).
pub fn has_body(method: &Method, status: StatusCode) -> bool {
    let has_none =
        status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    !has_none && *method != Method::HEAD
}

fn decoder(
    headers: &HeaderMap,
    version: Version,
    status: StatusCode,
    method: &Method,
) -> Result<Decoder, &'static str> {
    let is_framed = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
    // Without a body, too, it is told on how long it would be.
    let framed = if is_framed { Some(framing(headers, version).map_err(|bad| bad.what)?) } else { None };
    match framed {
        _ if !has_body(method, status) => Ok(Decoder::Done),
        Some(framing) => Ok(Decoder::new(framing)),
        None => Ok(Decoder::UntilClose),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::request::Framing;

    fn read(text: &str, method: &Method) -> Result<Option<Head>, &'static str> {
        take(&mut BytesMut::from(text), method)
    }

    #[test]
    fn a_header_that_is_kept_keeps_nothing_else_of_what_was_read() {
        let mut input = BytesMut::from("HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 5\r\n\r\nabcde");
        let head = take(&mut input, &Method::GET).unwrap().unwrap();
        assert_eq!((&head.parts.headers["x"], &input[..]), (&"y".parse().unwrap(), &b"abcde"[..]));
        assert!(input.freeze().is_unique());
    }

    #[test]
    fn replies_to_head_and_those_that_say_nothing_have_no_body() {
        for (method, status, expected) in [
            (Method::GET, 200, true),
            (Method::HEAD, 200, false),
            (Method::HEAD, 500, false),
            (Method::POST, 101, false),
            (Method::GET, 204, false),
            (Method::GET, 205, true),
            (Method::PUT, 304, false),
            (Method::GET, 404, true),
        ] {
            let found = has_body(&method, StatusCode::from_u16(status).unwrap());
            assert_eq!(found, expected, "{status} to {method}");
        }
    }

    #[test]
    fn a_body_is_framed_by_method_status_and_headers() {
        let chunked = Decoder::new(Framing::Chunked);
        for (method, text, decoder, keep_alive) in [
            (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Decoder::Length(5), true),
            (Method::GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunked, true),
            (Method::GET, "HTTP/1.1 200\r\n\r\n", Decoder::UntilClose, true),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 0\r\n\r\n",
                Decoder::Done,
                false,
            ),
            (Method::GET, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Decoder::Length(5), false),
            (
                Method::GET,
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n",
                Decoder::Length(5),
                true,
            ),
            (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Decoder::Done, true),
            (Method::GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Decoder::Done, true),
            (
                Method::POST,
                "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
                Decoder::Done,
                false,
            ),
            (Method::POST, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Decoder::Done, false),
            (Method::POST, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Decoder::Done, true),
            (Method::POST, "HTTP/1.1 200 OK\nContent-Length: 7\n\n", Decoder::Length(7), true),
        ] {
            for cut in 0..text.len() {
                assert!(read(&text[..cut], &method).unwrap().is_none(), "{text:?} at {cut}");
            }
            let head = read(text, &method).unwrap().unwrap();
            assert_eq!((head.decoder, head.keep_alive), (decoder, keep_alive), "{text:?}");
            let tells =
                [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| head.parts.headers.contains_key(name));
            assert!(!tells || head.parts.status != StatusCode::NO_CONTENT, "{text:?}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_reply() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        ] {
            assert!(read(text, &Method::GET).is_err(), "{text:?}");
        }
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
        assert!(read(text, &Method::HEAD).is_err(), "it would be told on");
        assert!(read(&"x".repeat(SIZE_MAX + 1), &Method::GET).is_err());
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(LINES_MAX + 1));
        assert!(read(&many, &Method::GET).is_err());
    }
}
