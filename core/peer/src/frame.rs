//! Frames: length of the body u32, CRC-32C of the body u32, CRC-32C of these eight bytes u32, body; numbers little-endian.
//! The body is one message or several. The header has a checksum of its own, since a length that was damaged would
//! else swallow what follows for as long as the other side gives signs of life.
//!
//! A frame that lies wholly in what was read is given out in place; only one that is cut by the end of a read is
//! collected in a buffer, which grows as bytes come in and never by what a header announces.

use std::fmt;

use crate::lanes::{PIECE_BYTES_MAX, PIECE_MESSAGE_BYTES_MAX};

pub const FRAME_HEADER_BYTES: usize = 12;

/// A frame that has grown to this is closed, and the next message begins another: large enough that checksum and header
/// cost nothing, small enough that the receiver starts on it while the rest is under way, and from its cache.
pub(crate) const FRAME_BODY_BYTES_FULL: usize = PIECE_BYTES_MAX;

/// The largest body: one that was not full yet, and the largest piece behind it.
pub const FRAME_BODY_BYTES_MAX: usize = FRAME_BODY_BYTES_FULL + PIECE_MESSAGE_BYTES_MAX;

/// The largest body before the other side has proved that it knows the password. A handshake takes a few hundred bytes,
/// with the longest names about 9 KiB.
pub const HANDSHAKE_BODY_BYTES_MAX: usize = 64 << 10;

/// A buffer that holds more is given back when it runs empty: four full frames.
pub(crate) const BUFFER_BYTES_KEPT: usize = 4 * FRAME_BODY_BYTES_FULL;

/// Begins a frame at the end of `out`. Returns where, for [`seal`].
pub(crate) fn begin(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    out.len() - FRAME_HEADER_BYTES
}

/// Completes the frame that began at `start` and reaches to the end of `out`.
pub(crate) fn seal(out: &mut [u8], start: usize) {
    let (header, body) = out[start..].split_at_mut(FRAME_HEADER_BYTES);
    assert!(body.len() <= FRAME_BODY_BYTES_MAX, "a frame of {} bytes was built", body.len());
    header[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    header[4..8].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let crc = crc32c::crc32c(&header[..8]);
    header[8..].copy_from_slice(&crc.to_le_bytes());
}

/// Bytes that are no frame. The stream cannot be followed any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoFrame {
    /// No header of a frame: damaged, or of another protocol.
    Header,
    Length {
        len: usize,
        max: usize,
    },
    Checksum {
        announced: u32,
        found: u32,
        len: usize,
    },
}

impl fmt::Display for NoFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoFrame::Header => f.write_str("what came is not the header of a frame between skep nodes"),
            NoFrame::Length { len, max } => {
                write!(f, "frame of {len} bytes announced, 1 to {max} are allowed")
            }
            NoFrame::Checksum { announced, found, len } => {
                write!(
                    f,
                    "checksum {found:08x} of a frame of {len} bytes differs from the announced {announced:08x}"
                )
            }
        }
    }
}

impl std::error::Error for NoFrame {}

struct Header {
    body_len: usize,
    crc: u32,
}

fn header(bytes: &[u8], body_bytes_max: usize) -> Result<Header, NoFrame> {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if word(8) != crc32c::crc32c(&bytes[..8]) {
        return Err(NoFrame::Header);
    }
    let body_len = word(0) as usize;
    if body_len == 0 || body_len > body_bytes_max {
        return Err(NoFrame::Length { len: body_len, max: body_bytes_max });
    }
    Ok(Header { body_len, crc: word(4) })
}

impl Header {
    fn check(&self, body: &[u8]) -> Result<(), NoFrame> {
        let found = crc32c::crc32c(body);
        if found == self.crc {
            Ok(())
        } else {
            Err(NoFrame::Checksum { announced: self.crc, found, len: self.body_len })
        }
    }
}

/// Finds the frames in a stream of bytes that comes in pieces.
#[derive(Default)]
pub struct FrameReader {
    /// A frame of which more is to come, header included, or one that was given out by the call before.
    buffer: Vec<u8>,
    given_out: bool,
}

impl FrameReader {
    pub fn new() -> FrameReader {
        FrameReader::default()
    }

    /// The body of the next frame in the bytes kept and `rest`, from which what it took is removed. `None` if `rest` was
    /// all kept. The largest body that is allowed may be another for each frame.
    ///
    /// # Errors
    /// [`NoFrame`]; nothing more can be read.
    ///
    /// Cost: a pass over the body for its checksum; a copy of it only if a read ended within the frame.
    pub fn next<'s, 'b: 's>(
        &'s mut self,
        rest: &mut &'b [u8],
        body_bytes_max: usize,
    ) -> Result<Option<&'s [u8]>, NoFrame> {
        if self.given_out {
            self.given_out = false;
            self.buffer.clear();
        }
        if self.buffer.is_empty()
            && let Some((start, all)) = rest.split_at_checked(FRAME_HEADER_BYTES)
        {
            let header = header(start, body_bytes_max)?;
            if let Some((body, after)) = all.split_at_checked(header.body_len) {
                header.check(body)?;
                *rest = after;
                return Ok(Some(body));
            }
        }
        self.next_collected(rest, body_bytes_max)
    }

    fn next_collected(&mut self, rest: &mut &[u8], body_bytes_max: usize) -> Result<Option<&[u8]>, NoFrame> {
        if !self.collect(rest, FRAME_HEADER_BYTES) {
            return Ok(None);
        }
        let header = header(&self.buffer, body_bytes_max)?;
        if !self.collect(rest, FRAME_HEADER_BYTES + header.body_len) {
            return Ok(None);
        }
        let body = &self.buffer[FRAME_HEADER_BYTES..];
        header.check(body)?;
        self.given_out = true;
        Ok(Some(body))
    }

    /// Moves bytes from `rest` until the buffer holds `wanted`. True if it does.
    fn collect(&mut self, rest: &mut &[u8], wanted: usize) -> bool {
        let have = self.buffer.len();
        let (taken, after) = rest.split_at(rest.len().min(wanted.saturating_sub(have)));
        if self.buffer.capacity() < have + taken.len() {
            // Doubles as a vector does by itself, but never past the end of the frame.
            let target = (2 * have).clamp(have + taken.len(), wanted.max(have + taken.len()));
            self.buffer.reserve_exact(target - have);
        }
        self.buffer.extend_from_slice(taken);
        *rest = after;
        self.buffer.len() >= wanted
    }

    /// Bytes that the buffer takes.
    pub fn memory_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// INV-PEER-3.
    pub(crate) fn assert_invariants(&self) {
        assert!(self.buffer.len() <= FRAME_HEADER_BYTES + FRAME_BODY_BYTES_MAX);
        let (held, kept) = (self.buffer.capacity(), self.buffer.len());
        assert!(
            held <= BUFFER_BYTES_KEPT.max(2 * kept),
            "INV-PEER-3: {held} bytes are allocated for {kept} that came"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        let start = begin(&mut out);
        out.extend_from_slice(body);
        seal(&mut out, start);
        out.split_off(start)
    }

    fn read_all(reader: &mut FrameReader, mut bytes: &[u8], max: usize) -> Result<Vec<Vec<u8>>, NoFrame> {
        let mut bodies = Vec::new();
        while let Some(body) = reader.next(&mut bytes, max)? {
            bodies.push(body.to_vec());
        }
        assert!(bytes.is_empty());
        reader.assert_invariants();
        Ok(bodies)
    }

    proptest! {
        #[test]
        fn frames_cut_in_any_way_give_the_same_bodies(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 1..6),
            pieces in proptest::collection::vec(1..400usize, 1..20),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
            let mut reader = FrameReader::new();
            let (mut found, mut rest, mut pieces) = (Vec::new(), &stream[..], pieces.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
                found.extend(read_all(&mut reader, piece, 300).unwrap());
                rest = after;
            }
            prop_assert_eq!(found, bodies);
        }

        #[test]
        fn noise_never_panics_nor_allocates_what_it_announces(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FrameReader::new();
            let _ = read_all(&mut reader, &noise, FRAME_BODY_BYTES_MAX);
            prop_assert!(reader.memory_bytes() <= 2 * noise.len().max(FRAME_HEADER_BYTES));
        }
    }

    #[test]
    fn a_frame_that_came_whole_is_read_in_place() {
        let stream = [framed(b"first"), framed(b"second"), framed(b"third")].concat();
        let (mut reader, mut rest) = (FrameReader::new(), &stream[..stream.len() - 1]);
        for expected in [&b"first"[..], b"second"] {
            let body = reader.next(&mut rest, 100).unwrap().unwrap();
            assert_eq!(body, expected);
            assert!(stream.as_ptr_range().contains(&body.as_ptr()), "{expected:?} was copied");
        }
        assert_eq!(reader.next(&mut rest, 100), Ok(None));
        assert!(reader.memory_bytes() <= FRAME_HEADER_BYTES + b"third".len(), "{}", reader.memory_bytes());
        let mut last = &stream[stream.len() - 1..];
        assert_eq!(reader.next(&mut last, 100), Ok(Some(&b"third"[..])));
    }

    #[test]
    fn every_prefix_waits_for_more() {
        let stream = framed(b"some body");
        for cut in 0..stream.len() {
            assert_eq!(
                read_all(&mut FrameReader::new(), &stream[..cut], 100),
                Ok(Vec::new()),
                "cut at {cut}"
            );
        }
        assert_eq!(read_all(&mut FrameReader::new(), &stream, 100), Ok(vec![b"some body".to_vec()]));
    }

    #[test]
    fn every_flipped_bit_is_found_out() {
        let stream = [framed(b"some body"), framed(&[7; 60])].concat();
        for at in 0..FRAME_HEADER_BYTES + 9 {
            for bit in 0..8 {
                let mut damaged = stream.clone();
                damaged[at] ^= 1 << bit;
                // A length that grew waits for what will never come or takes it for its own; no body is given out.
                let found = read_all(&mut FrameReader::new(), &damaged, 100);
                assert!(
                    found.as_ref().is_err() || found == Ok(Vec::new()),
                    "bit {bit} of byte {at}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn lengths_out_of_bounds_are_refused_as_soon_as_they_are_known() {
        for len in [0, 101, u32::MAX] {
            let start = [len.to_le_bytes(), [0; 4]].concat();
            let header = [&start[..], &crc32c::crc32c(&start).to_le_bytes()].concat();
            let mut reader = FrameReader::new();
            assert_eq!(read_all(&mut reader, &header[..11], 100), Ok(Vec::new()));
            let refused = Err(NoFrame::Length { len: len as usize, max: 100 });
            assert_eq!(read_all(&mut reader, &header[11..], 100), refused);
            assert_eq!(read_all(&mut FrameReader::new(), &header, 100), refused);
        }
    }

    #[test]
    fn the_bound_may_change_between_frames() {
        let stream = [framed(&[1; 10]), framed(&[2; 1000])].concat();
        let (mut reader, mut rest) = (FrameReader::new(), &stream[..]);
        assert_eq!(reader.next(&mut rest, 10), Ok(Some(&[1; 10][..])));
        assert_eq!(reader.next(&mut rest, 1000), Ok(Some(&[2; 1000][..])));
    }

    #[test]
    fn a_frame_takes_memory_as_it_comes() {
        let stream = framed(&[5; 120_000]);
        let mut reader = FrameReader::new();
        let mut came = 0;
        for piece in stream.chunks(1_000) {
            came += piece.len();
            let found = read_all(&mut reader, piece, FRAME_BODY_BYTES_MAX).unwrap();
            assert_eq!(found.len(), usize::from(came == stream.len()));
            assert!(
                reader.memory_bytes() <= (2 * came).min(stream.len()),
                "{} of {came}",
                reader.memory_bytes()
            );
        }
    }
}
