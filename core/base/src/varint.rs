//! LEB128 lengths, as used in log entries and checkpoints, and the bounded reader over them.

use std::fmt;

/// Appends `value` in 1 to 10 bytes.
#[inline]
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `bytes` behind their length.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Encoded bytes that do not parse: where, and what was expected there. Checksummed input that gives this is a bug or a
/// newer format; unchecksummed input is just bad.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// Bytes from the start of what was given to [`Reader::new`].
    pub offset: usize,
    pub expected: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at offset {}", self.expected, self.offset)
    }
}

impl std::error::Error for Malformed {}

/// Reads fields from the front of a buffer. Never panics, never allocates by an announced size.
#[derive(Clone)]
pub struct Reader<'a> {
    buffer: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub fn new(buffer: &'a [u8]) -> Reader<'a> {
        Reader { buffer, offset: 0 }
    }

    #[inline]
    pub fn offset(&self) -> usize {
        self.offset
    }

    #[inline]
    pub fn left(&self) -> usize {
        self.buffer.len() - self.offset
    }

    pub fn malformed<T>(&self, expected: &'static str) -> Result<T, Malformed> {
        Err(Malformed { offset: self.offset, expected })
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let Some(byte) = self.buffer.get(self.offset) else { return self.malformed("a byte") };
        self.offset += 1;
        Ok(*byte)
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        // Nearly all are lengths and counts of one byte.
        if let Some(byte) = self.buffer.get(self.offset)
            && *byte < 0x80
        {
            self.offset += 1;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return self.malformed("a 64-bit length");
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        self.malformed("the end of a length")
    }

    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        if self.left() < len {
            return self.malformed("more bytes");
        }
        let bytes = &self.buffer[self.offset..self.offset + len];
        self.offset += len;
        Ok(bytes)
    }

    /// A length and that many bytes.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.varint()?;
        match usize::try_from(len) {
            Ok(len) => self.take(len),
            Err(_) => self.malformed("more bytes"),
        }
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        let b = self.take(8)?;
        Ok(u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
    }

    pub fn f64(&mut self) -> Result<f64, Malformed> {
        self.u64().map(f64::from_bits)
    }

    /// A count that the rest of the buffer can hold at `bytes_each_min`: safe to reserve for.
    #[inline]
    pub fn count(&mut self, bytes_each_min: usize) -> Result<usize, Malformed> {
        let count = self.varint()?;
        if count > (self.left() / bytes_each_min.max(1)) as u64 {
            return self.malformed("a count that fits the rest");
        }
        Ok(count as usize)
    }

    pub fn end(&self) -> Result<(), Malformed> {
        if self.left() == 0 { Ok(()) } else { self.malformed("the end") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_and_refuse_every_prefix() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(Reader::new(&out).varint(), Ok(value));
            for cut in 0..out.len() {
                assert!(Reader::new(&out[..cut]).varint().is_err());
            }
        }
        assert!(Reader::new(&[0xff; 10]).varint().is_err());
        assert!(Reader::new(&[0xff, 0xff, 0x03]).bytes().is_err());
    }
}
