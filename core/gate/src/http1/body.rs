//! The body of a request or a reply, out of the bytes of its connection.
//!
//! Invariant: not a byte behind the body is taken.

use bytes::{Bytes, BytesMut};

use super::request::{Framing, is_token};

/// A line with a chunk's size, extensions included.
const SIZE_LINE_MAX: usize = 256;
/// Trailers, which are read and thrown away.
const TRAILERS_BYTES_MAX: usize = 8 << 10;

/// Where in a body we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoder {
    /// So many bytes are left.
    Length(u64),
    /// A line with a size comes.
    Size,
    /// So many bytes of a chunk are left, and its CR LF.
    Chunk(u64),
    /// Trailers come; so many bytes of them were read.
    Trailers(usize),
    /// A reply's, which ends with its connection.
    UntilClose,
    Done,
}

/// What `decode` found.
#[derive(PartialEq, Eq, Debug)]
pub enum Piece {
    Data(Bytes),
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
    /// What is wrong with it; the connection cannot be used any further.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Piece, &'static str> {
        loop {
            match *self {
                Decoder::Done => return Ok(Piece::Done),
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
                        0 => Decoder::Trailers(0),
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
                Decoder::Trailers(so_far) => {
                    let Some(line) = line(input, TRAILERS_BYTES_MAX)? else { return Ok(Piece::NeedMore) };
                    let so_far = so_far + line.len() + 2;
                    if so_far > TRAILERS_BYTES_MAX {
                        return Err("the trailers are too large");
                    }
                    if !line.is_empty() && !is_field(&line) {
                        return Err("a trailer is malformed");
                    }
                    *self = if line.is_empty() { Decoder::Done } else { Decoder::Trailers(so_far) };
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

/// A name, a colon, and a value: what a line behind the last chunk must be, though nobody reads it.
fn is_field(line: &[u8]) -> bool {
    let colon = line.iter().position(|b| *b == b':').unwrap_or(0);
    let (name, value) = line.split_at(colon);
    let visible = |b: &u8| *b >= b' ' && *b != 0x7f || *b == b'\t';
    !name.is_empty() && name.iter().all(|b| is_token(*b)) && value.iter().all(visible)
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
        let chunked = b"4\r\nWiki\r\nA;name=\"x y\"\r\npedia in c\r\n0\r\nX-Trailer: a\r\n\r\nGET /";
        for step in 1..chunked.len() {
            let (body, left, done) = all(Framing::Chunked, chunked, step).unwrap();
            assert_eq!((&body[..], left, done), (&b"Wikipedia in c"[..], 5, true), "{step}");
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
        ] {
            assert!(all(Framing::Chunked, text.as_bytes(), 100).is_err(), "{text:?}");
        }
        let long = format!("4;{}", "x".repeat(300));
        assert!(all(Framing::Chunked, long.as_bytes(), 100).is_err());
        let trailers = format!("0\r\n{}", "X: y\r\n".repeat(2000));
        assert!(all(Framing::Chunked, trailers.as_bytes(), 100).is_err());
    }
}
