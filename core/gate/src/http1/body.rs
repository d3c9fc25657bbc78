//! The body of a request or a reply, out of the bytes of its connection, and the trailers behind it.
//!
//! Invariant: not a byte behind the body is taken; a body that is malformed has no end.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::request::{Framing, end, has_bare, header_map};

/// A line with a chunk's size, extensions included.
const SIZE_LINE_MAX: usize = 256;
/// All trailers of a body: a fourth of what heads may have by default. Who has more to say says it in the body.
const TRAILERS_BYTES_MAX: usize = 8 << 10;
/// Trailers of one body.
const TRAILERS_MAX: usize = 64;

/// Where in a body we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoder {
    /// So many bytes are left.
    Length(u64),
    /// A line with a size comes.
    Size,
    /// So many bytes of a chunk are left, and its CR LF.
    Chunk(u64),
    /// Trailers come, or the empty line in their place.
    Trailers,
    /// A reply's, which ends with its connection.
    UntilClose,
    Done,
    /// It was this, and what follows means nothing.
    Malformed(&'static str),
}

/// What `decode` found.
#[derive(PartialEq, Eq, Debug)]
pub enum Piece {
    Data(Bytes),
    /// The end of the body, with at least one field behind it.
    Trailers(HeaderMap),
    NeedMore,
    Done,
}

impl Decoder {
    /// At the beginning of a body.
    pub fn new(framing: Framing) -> Decoder {
        match framing {
            Framing::Length(0) => Decoder::Done,
            Framing::Length(n) => Decoder::Length(n),
            Framing::Chunked => Decoder::Size,
        }
    }

    /// True at its end.
    pub fn is_done(self) -> bool {
        self == Decoder::Done
    }

    /// The next piece of the body in `input`.
    ///
    /// # Errors
    /// What is wrong with it, and the same ever after; the connection cannot be used any further.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Piece, &'static str> {
        self.step(input).inspect_err(|what| *self = Decoder::Malformed(what))
    }

    fn step(&mut self, input: &mut BytesMut) -> Result<Piece, &'static str> {
        loop {
            match *self {
                Decoder::Done => return Ok(Piece::Done),
                Decoder::Malformed(what) => return Err(what),
                Decoder::Length(left) => {
                    if input.is_empty() {
                        return Ok(Piece::NeedMore);
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let left = left - take as u64;
                    *self = if left == 0 { Decoder::Done } else { Decoder::Length(left) };
                    return Ok(Piece::Data(input.split_to(take).freeze()));
                }
                Decoder::UntilClose => {
                    return Ok(match input.is_empty() {
                        true => Piece::NeedMore,
                        false => Piece::Data(input.split().freeze()),
                    });
                }
                Decoder::Size => {
                    let Some(line) = line(input, SIZE_LINE_MAX)? else { return Ok(Piece::NeedMore) };
                    *self = match size(&line)? {
                        0 => Decoder::Trailers,
                        n => Decoder::Chunk(n),
                    };
                }
                Decoder::Chunk(0) => match input.len() {
                    0 | 1 => return Ok(Piece::NeedMore),
                    _ if input.starts_with(b"\r\n") => {
                        let _ = input.split_to(2);
                        *self = Decoder::Size;
                    }
                    _ => return Err("a chunk is longer than its size says"),
                },
                Decoder::Chunk(left) => {
                    if input.is_empty() {
                        return Ok(Piece::NeedMore);
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    *self = Decoder::Chunk(left - take as u64);
                    return Ok(Piece::Data(input.split_to(take).freeze()));
                }
                Decoder::Trailers => {
                    let Some(section) = section(input)? else { return Ok(Piece::NeedMore) };
                    let found = trailers(&section)?;
                    *self = Decoder::Done;
                    return Ok(if found.is_empty() { Piece::Done } else { Piece::Trailers(found) });
                }
            }
        }
    }
}

/// A line without its CR LF.
fn line(input: &mut BytesMut, max: usize) -> Result<Option<Bytes>, &'static str> {
    let Some(at) = input.iter().take(max).position(|b| *b == b'\n') else {
        return if input.len() >= max { Err("a line of a chunked body is too long") } else { Ok(None) };
    };
    let line = input.split_to(at + 1).freeze();
    match line.strip_suffix(b"\r\n") {
        Some(bare) if !bare.contains(&b'\r') => Ok(Some(line.slice_ref(bare))),
        _ => Err("a line of a chunked body ends without CR LF"),
    }
}

/// The size of a chunk; extensions mean nothing to anybody.
fn size(line: &[u8]) -> Result<u64, &'static str> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let rest = &line[digits..];
    let plain = rest.is_empty() || rest.first() == Some(&b';');
    let text = std::str::from_utf8(&line[..digits]).unwrap_or("");
    let visible = rest.iter().all(|b| (0x20..0x7f).contains(b) || *b == b'\t');
    match u64::from_str_radix(text, 16) {
        Ok(n) if plain && visible && digits <= 15 => Ok(n),
        _ => Err("a chunk's size is malformed"),
    }
}

/// The trailers with the empty line behind them, once all of that is there.
fn section(input: &mut BytesMut) -> Result<Option<Bytes>, &'static str> {
    let len = if input.starts_with(b"\r\n") { Some(2) } else { end(input) };
    match len {
        Some(len) if len <= TRAILERS_BYTES_MAX => Ok(Some(input.split_to(len).freeze())),
        None if input.len() < TRAILERS_BYTES_MAX => Ok(None),
        _ => Err("the trailers are too large"),
    }
}

/// Read as strictly as the lines of a head.
fn trailers(section: &Bytes) -> Result<HeaderMap, &'static str> {
    if section == "\r\n" {
        return Ok(HeaderMap::new());
    }
    if has_bare(section) {
        return Err("a line of the trailers ends without CR LF, or CR stands alone");
    }
    let mut lines = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    match httparse::parse_headers(section, &mut lines) {
        Ok(httparse::Status::Complete((_, found))) => header_map(section, found).map_err(|bad| bad.what),
        Err(httparse::Error::TooManyHeaders) => Err("there are too many trailers"),
        _ => Err("a trailer is malformed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(framing: Framing, text: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), &'static str> {
        let (mut decoder, mut input, mut out) = (Decoder::new(framing), BytesMut::new(), Vec::new());
        let mut given = text.chunks(step);
        loop {
            match decoder.decode(&mut input)? {
                Piece::Data(bytes) => out.extend_from_slice(&bytes),
                Piece::Trailers(found) => {
                    assert!(decoder.is_done());
                    for (name, value) in &found {
                        out.extend_from_slice(
                            &[b"|", name.as_str().as_bytes(), b"=", value.as_bytes()].concat(),
                        );
                    }
                }
                Piece::Done => return Ok((out, input.len() + given.map(<[u8]>::len).sum::<usize>(), true)),
                Piece::NeedMore => match given.next() {
                    Some(more) => input.extend_from_slice(more),
                    None => return Ok((out, 0, false)),
                },
            }
        }
    }

    #[test]
    fn bodies_are_read_however_they_are_cut_and_not_a_byte_further() {
        let chunked =
            b"4\r\nWiki\r\nA;name=\"x y\"\r\npedia in c\r\n0\r\nX-Sum: a\r\nY:\r\nx-sum:  b c \r\n\r\nGET /";
        let bare = b"1\r\na\r\n0\r\n\r\nGET /";
        for step in 1..chunked.len() {
            let (body, left, done) = all(Framing::Chunked, chunked, step).unwrap();
            let expected = b"Wikipedia in c|x-sum=a|x-sum=b c|y=";
            assert_eq!((&body[..], left, done), (&expected[..], 5, true), "{step}");
            let (body, left, done) = all(Framing::Chunked, bare, step).unwrap();
            assert_eq!((&body[..], left, done), (&b"a"[..], 5, true), "{step}");
            let (body, left, done) = all(Framing::Length(6), b"abcdefgh", step).unwrap();
            assert_eq!((&body[..], left, done), (&b"abcdef"[..], 2, true));
        }
        for cut in 0..chunked.len() - 5 {
            assert!(!all(Framing::Chunked, &chunked[..cut], 3).unwrap().2, "{cut}");
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for text in [
            "-1\r\n",
            "\r\n",
            " 4\r\nWiki\r\n",
            "4 \r\nWiki\r\n",
            "0x4\r\nWiki\r\n",
            "4\nWiki\r\n",
            "4\r\nWikiX\r\n",
            "4\r\nWiki\n0\r\n\r\n",
            "4;a\rb\r\nWiki\r\n",
            "4;a\0b\r\nWiki\r\n",
            "FFFFFFFFFFFFFFFF\r\n",
            "10000000000000000\r\n",
            // What could be the next request for somebody else.
            "0\r\nGET / HTTP/1.1\r\n\r\n",
            "0\r\nX\r\n\r\n",
            "0\r\n: y\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\nX: a\r\n b\r\n\r\n",
            "0\r\nX: a\0b\r\n\r\n",
            "0\r\nX: a\rb\r\n\r\n",
            "0\r\nX: a\n\r\n",
            "0\r\nX: a\r\n\n",
            "0\r\n\nX: a\r\n\r\n",
            "0\r\n\n\n",
            "0\r\n\n\r\n",
            "0\r\n\n\nGET / HTTP/1.1\r\n\r\n",
            "0\r\n X: a\r\n\r\n",
            "0\r\nX:\r\n a\r\n\r\n",
        ] {
            for step in [1, 100] {
                assert!(all(Framing::Chunked, text.as_bytes(), step).is_err(), "{text:?}");
            }
        }
        let long = format!("4;{}", "x".repeat(300));
        assert!(all(Framing::Chunked, long.as_bytes(), 100).is_err());
    }

    #[test]
    fn trailers_have_a_largest_size_and_number() {
        for (lines, len, good) in [
            (TRAILERS_MAX, 1, true),
            (TRAILERS_MAX + 1, 1, false),
            (1, TRAILERS_BYTES_MAX - 5, false),
            (1, TRAILERS_BYTES_MAX - 6, true),
        ] {
            let line = format!("X: {}\r\n", "y".repeat(len - 1));
            let text = format!("0\r\n{}\r\n", line.repeat(lines));
            for step in [1000, text.len()] {
                assert_eq!(all(Framing::Chunked, text.as_bytes(), step).is_ok(), good, "{lines} of {len}");
            }
        }
        let endless = format!("0\r\nX: {}", "y".repeat(TRAILERS_BYTES_MAX));
        assert!(all(Framing::Chunked, endless.as_bytes(), 1000).is_err(), "nobody waits for its end");
    }

    #[test]
    fn a_malformed_body_never_ends_well() {
        for bad in ["0\r\nX y\r\n\r\n", "zz\r\n", "0\r\nX: y\n\r\n", "1\r\nab\r\n"] {
            let text = format!("{bad}0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
            let (mut decoder, mut input) = (Decoder::new(Framing::Chunked), BytesMut::from(&*text));
            let first = loop {
                match decoder.decode(&mut input) {
                    Ok(Piece::Data(_)) => {}
                    found => break found.expect_err(bad),
                }
            };
            for _ in 0..3 {
                assert_eq!(decoder.decode(&mut input), Err(first), "{bad:?}");
            }
            assert!(!decoder.is_done());
        }
    }
}
