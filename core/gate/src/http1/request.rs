//! The head of an HTTP/1.1 request, read strictly (RFC 9112): what two parsers could understand in two ways is refused.
//!
//! Invariant: a head that is taken has one framing. `Content-Length` beside `Transfer-Encoding`, either of them twice, a line
//! that ends without CR, a folded line, a space before a colon and a coding that is not `chunked` are all refused.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use memchr::{memchr_iter, memchr2_iter};

use crate::router::is_authority;

/// Header lines of one request.
const LINES_MAX: usize = 128;

/// How long a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// So many bytes; 0 without a body.
    Length(u64),
    Chunked,
}

/// A request's head.
#[derive(Debug)]
pub struct Head {
    pub parts: Parts,
    pub framing: Framing,
    /// The client wants to go on with this connection.
    pub keep_alive: bool,
    /// It waits for a word before it sends the body.
    pub expects: bool,
}

/// Why a head is refused; the connection ends with the answer, since nobody knows where the next request would begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bad {
    pub status: StatusCode,
    pub what: &'static str,
}

fn bad(what: &'static str) -> Bad {
    Bad { status: StatusCode::BAD_REQUEST, what }
}

fn bad_status(status: StatusCode, what: &'static str) -> Bad {
    Bad { status, what }
}

/// The length of the head that `input` begins with, its empty line included; none if it is not all there.
pub(super) fn end(input: &[u8]) -> Option<usize> {
    // An empty line, with or without CR; which of them is judged later.
    memchr_iter(b'\n', input).find_map(|at| match &input[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// Takes a head from the beginning of `input`; none if more bytes are needed.
///
/// # Errors
/// [`Bad`]: what there is can never become a good head, or is larger than `size_max`.
pub fn take(input: &mut BytesMut, size_max: usize) -> Result<Option<Head>, Bad> {
    // Empty lines before a request are a known bug of old clients (RFC 9112, section 2.2).
    while input.starts_with(b"\r\n") {
        let _ = input.split_to(2);
    }
    let Some(len) = end(input) else {
        if input.len() > size_max {
            return Err(too_large(input));
        }
        // What can be no request at all is told at once, not after the time for a head.
        if input.first().is_some_and(|b| !is_token(*b) && *b != b'\r') {
            return Err(bad("the request line does not begin with a method"));
        }
        return Ok(None);
    };
    if len > size_max {
        return Err(too_large(input));
    }
    let head = input.split_to(len).freeze();
    parse(&head).map(Some)
}

fn too_large(input: &[u8]) -> Bad {
    match input.contains(&b'\n') {
        true => bad_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large"),
        false => bad_status(StatusCode::URI_TOO_LONG, "the request line is too long"),
    }
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Whether CR or LF stands alone in lines that end with one.
pub(super) fn has_bare(lines: &[u8]) -> bool {
    memchr2_iter(b'\r', b'\n', lines).any(|at| match lines[at] {
        b'\r' => lines.get(at + 1) != Some(&b'\n'),
        _ => at == 0 || lines[at - 1] != b'\r',
    })
}

fn parse(head: &Bytes) -> Result<Head, Bad> {
    if has_bare(head) {
        return Err(bad("a line ends without CR LF, or CR stands alone"));
    }
    // Not filled beforehand: four kilobytes for each request.
    let mut lines = [const { MaybeUninit::uninit() }; LINES_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut lines) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(bad("the head is broken")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(bad_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many header lines"));
        }
        Err(httparse::Error::Version) if has_version(head) => {
            return Err(bad_status(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.0, 1.1 and 2"));
        }
        Err(_) => return Err(bad("the request line or a header line is malformed")),
    }
    let version = if request.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let slice = |text: &[u8]| head.slice_ref(text);
    let method = Method::from_bytes(request.method.unwrap_or("").as_bytes()).map_err(|_| bad("no method"))?;
    if method == Method::CONNECT {
        return Err(bad_status(StatusCode::NOT_IMPLEMENTED, "CONNECT is not served"));
    }
    let target = slice(request.path.unwrap_or("").as_bytes());
    let uri = Uri::from_maybe_shared(target).map_err(|_| bad("the request target is malformed"))?;
    let mut headers = header_map(head, request.headers)?;
    check_host(&mut headers, &uri, version)?;
    let framing = framing(&headers, version)?;
    let keep_alive = match version {
        Version::HTTP_11 => !names(&headers, "close"),
        _ => names(&headers, "keep-alive"),
    };
    let expects = match headers.get(EXPECT) {
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => version == Version::HTTP_11,
        Some(_) => return Err(bad_status(StatusCode::EXPECTATION_FAILED, "this expectation is not known")),
        None => false,
    };
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, headers);
    Ok(Head { parts, framing, keep_alive, expects })
}

/// The header lines that were found in `head`, without a copy of their values.
pub(super) fn header_map(head: &Bytes, lines: &[httparse::Header<'_>]) -> Result<HeaderMap, Bad> {
    let mut headers = HeaderMap::with_capacity(lines.len() + 8);
    for line in lines {
        let name =
            HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| bad("a header's name is malformed"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value))
            .map_err(|_| bad("a header's value has a byte that none may have"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Whether the request line has three parts, of which the last is a version, whichever.
fn has_version(head: &[u8]) -> bool {
    let line = head.split(|b| *b == b'\r').next().unwrap_or(b"");
    let mut parts = line.split(|b| *b == b' ').skip(2);
    parts.next().is_some_and(|version| version.starts_with(b"HTTP/")) && parts.next().is_none()
}

/// Whether `Connection` has this word.
pub(super) fn names(headers: &HeaderMap, word: &str) -> bool {
    let has = |value: &HeaderValue| {
        value.as_bytes().split(|b| *b == b',').any(|w| w.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    headers.get_all(CONNECTION).iter().any(has)
}

/// One host, and the same one in the target if that has one (RFC 9112, section 3.2).
fn check_host(headers: &mut HeaderMap, uri: &Uri, version: Version) -> Result<(), Bad> {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(bad("there is more than one Host header"));
    }
    let host = match host {
        Some(host) => {
            Some(host.to_str().ok().filter(|h| is_authority(h)).ok_or(bad("the Host is malformed"))?)
        }
        None => None,
    };
    match (host, uri.authority()) {
        (None, None) if version == Version::HTTP_11 => Err(bad("there is no Host header")),
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority.as_str()) => {
            Err(bad("the Host is another than that of the request target"))
        }
        (None, Some(authority)) => {
            if !is_authority(authority.as_str()) {
                return Err(bad("the request target's host is malformed"));
            }
            let value =
                HeaderValue::from_str(authority.as_str()).map_err(|_| bad("the host is malformed"))?;
            headers.insert(HOST, value);
            Ok(())
        }
        _ => Ok(()),
    }
}

pub(super) fn framing(headers: &HeaderMap, version: Version) -> Result<Framing, Bad> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match ((lengths.next(), lengths.next()), (codings.next(), codings.next())) {
        ((None, _), (None, _)) => Ok(Framing::Length(0)),
        ((Some(length), None), (None, _)) => {
            let digits = length.as_bytes();
            let number = (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
            let value = digits.iter().fold(0u64, |n, b| n.wrapping_mul(10).wrapping_add(u64::from(b & 15)));
            number.then_some(Framing::Length(value)).ok_or(bad("the Content-Length is no number"))
        }
        ((None, _), (Some(coding), None)) => {
            if version != Version::HTTP_11 {
                return Err(bad("Transfer-Encoding in HTTP/1.0"));
            }
            match coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                true => Ok(Framing::Chunked),
                false => Err(bad("the Transfer-Encoding is not chunked")),
            }
        }
        ((Some(_), _), (Some(_), _)) => Err(bad("Content-Length beside Transfer-Encoding")),
        ((Some(_), Some(_)), _) => Err(bad("there is more than one Content-Length")),
        (_, (Some(_), Some(_))) => Err(bad("there is more than one Transfer-Encoding")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Head>, Bad> {
        take(&mut BytesMut::from(text), 32 << 10)
    }

    /// Cases from the literature on request smuggling, RFC 9112 and what servers got wrong.
    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let host = "Host: a\r\n";
        for (text, status) in [
            (
                format!("POST / HTTP/1.1\r\n{host}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
                400,
            ),
            (
                format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"),
                400,
            ),
            (format!("POST / HTTP/1.1\r\n{host}Content-Length: 3\r\nContent-Length: 4\r\n\r\n"), 400),
            (format!("POST / HTTP/1.1\r\n{host}Content-Length: 3\r\nContent-Length: 3\r\n\r\n"), 400),
            (format!("POST / HTTP/1.1\r\n{host}Content-Length: 3, 3\r\n\r\n"), 400),
            (format!("POST / HTTP/1.1\r\n{host}Content-Length: +3\r\n\r\n"), 400),
            (format!("POST / HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n"), 400),
            (format!("POST / HTTP/1.1\r\n{host}Content-Length: 0x3\r\n\r\n"), 400),
            (format!("POST / HTTP/1.1\r\n{host}Content-Length:\r\n\r\n"), 400),
            (format!("POST / HTTP/1.1\r\n{host}Content-Length: 99999999999999999999\r\n\r\n"), 400),
            (format!("POST / HTTP/1.1\r\n{host}Content-Length : 3\r\n\r\n"), 400),
            (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding : chunked\r\n\r\n"), 400),
            (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked, identity\r\n\r\n"), 400),
            (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n"), 400),
            (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n"), 400),
            (
                format!(
                    "POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"
                ),
                400,
            ),
            (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding:\r\n chunked\r\n\r\n"), 400),
            (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: \x0bchunked\r\n\r\n"), 400),
            (format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}X: a\r\n b\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}X: a\rb\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}X: a\nY: b\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}X: a\0b\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\n{host}\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}: x\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{host}X Y: x\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n {host}\r\n"), 400),
            (format!("GET  / HTTP/1.1\r\n{host}\r\n"), 400),
            (format!("GET /a b HTTP/1.1\r\n{host}\r\n"), 400),
            (format!("GET / HTTP/1.1 \r\n{host}\r\n"), 400),
            (format!("GET / HTTP/2.0\r\n{host}\r\n"), 505),
            (format!("GET / HTTP/1.1\r\n{host}Host: b\r\n\r\n"), 400),
            (format!("GET http://b/ HTTP/1.1\r\n{host}\r\n"), 400),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: \r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            (format!("CONNECT a:80 HTTP/1.1\r\n{host}\r\n"), 501),
            (format!("GET / HTTP/1.1\r\n{host}Expect: magic\r\n\r\n"), 417),
            ("\x16\x03\x01".to_owned(), 400),
        ] {
            let found = read(&text);
            assert_eq!(
                found.as_ref().map_err(|b| b.status.as_u16()).err(),
                Some(&status).copied(),
                "{text:?}: {found:?}"
            );
        }
    }

    #[test]
    fn plain_requests_are_taken_at_whatever_byte_they_are_cut() {
        let text = "\r\nPOST http://A:80/x?y HTTP/1.1\r\nhost: a:80\r\nContent-Length: 12\r\nConnection: x, Close\r\n\r\nbody";
        for cut in 0..text.len() - 4 {
            assert!(read(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let mut input = BytesMut::from(text);
        let head = take(&mut input, 4096).unwrap().unwrap();
        assert_eq!(&input[..], b"body");
        assert_eq!((head.framing, head.keep_alive, head.expects), (Framing::Length(12), false, false));
        assert_eq!(head.parts.uri.path(), "/x");
        let head = read("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap();
        assert!(!head.keep_alive);
        let head =
            read("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nExpect: 100-Continue\r\n\r\n");
        let head = head.unwrap().unwrap();
        assert_eq!((head.framing, head.keep_alive, head.expects), (Framing::Chunked, true, true));
    }

    #[test]
    fn heads_have_a_largest_size_and_number_of_lines() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(4096));
        assert_eq!(take(&mut BytesMut::from(&*long), 4096).unwrap_err().status, 431);
        let long = format!("GET /{}", "x".repeat(4096));
        assert_eq!(take(&mut BytesMut::from(&*long), 4096).unwrap_err().status, 414);
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(LINES_MAX));
        assert_eq!(read(&many).unwrap_err().status, 431);
    }
}
