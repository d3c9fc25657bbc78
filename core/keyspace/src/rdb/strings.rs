//! Reading lengths and strings: plain, as integers, or compressed with LZF.

use std::borrow::Cow;

use skep_base::number;
use skep_base::varint::{Malformed, Reader};

use crate::commands::parse::STRING_BYTES_MAX;

/// First bytes of lengths that do not fit 14 bits, and of strings in special forms.
pub const LEN_32: u8 = 0x80;
pub const LEN_64: u8 = 0x81;
pub const INT_8: u8 = 0xc0;
pub const INT_16: u8 = 0xc1;
pub const INT_32: u8 = 0xc2;
pub const LZF: u8 = 0xc3;

/// What the compressed strings of one payload may come to: twice the longest value. Compression takes up to 88 to 1, so that
/// without a limit a payload of the permitted size could ask for more than any machine has.
const UNPACKED_BYTES_MAX: usize = 2 * STRING_BYTES_MAX;

/// Reads the parts of a payload's body.
pub struct Source<'a> {
    pub bytes: Reader<'a>,
    /// Bytes that compressed strings may still come to.
    unpacked_left: usize,
}

impl<'a> Source<'a> {
    pub fn new(body: &'a [u8]) -> Source<'a> {
        Source { bytes: Reader::new(body), unpacked_left: UNPACKED_BYTES_MAX }
    }

    /// A length or count. It has not been compared with anything.
    pub fn len(&mut self) -> Result<u64, Malformed> {
        let first = self.bytes.u8()?;
        self.len_after(first)
    }

    fn len_after(&mut self, first: u8) -> Result<u64, Malformed> {
        match first {
            0..=0x3f => Ok(u64::from(first)),
            0x40..=0x7f => Ok(u64::from(first & 0x3f) << 8 | u64::from(self.bytes.u8()?)),
            LEN_32 => self.bytes.u32().map(|len| u64::from(len.swap_bytes())),
            LEN_64 => self.bytes.u64().map(u64::swap_bytes),
            _ => self.bytes.malformed("a length"),
        }
    }

    /// A string in any form.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let first = self.bytes.u8()?;
        Ok(match first {
            INT_8 => int(i64::from(self.bytes.u8()? as i8)),
            INT_16 => int(little_endian(self.bytes.take(2)?)),
            INT_32 => int(little_endian(self.bytes.take(4)?)),
            LZF => Cow::Owned(self.lzf()?),
            _ => {
                let len = self.len_after(first)?;
                Cow::Borrowed(self.take(len)?)
            }
        })
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        match usize::try_from(len) {
            Ok(len) => self.bytes.take(len),
            Err(_) => self.bytes.malformed("more bytes"),
        }
    }

    fn lzf(&mut self) -> Result<Vec<u8>, Malformed> {
        let packed_len = self.len()?;
        let len = self.len()?;
        let packed = self.take(packed_len)?;
        let limit = STRING_BYTES_MAX.min(self.unpacked_left);
        let Some(len) = usize::try_from(len).ok().filter(|len| *len <= limit) else {
            return self.bytes.malformed("less text in compressed strings");
        };
        self.unpacked_left -= len;
        unpack(packed, len)
    }
}

/// The text of an integer.
pub fn int<'a>(value: i64) -> Cow<'a, [u8]> {
    Cow::Owned(number::format_i64(value, &mut [0; 20]).to_vec())
}

/// A signed integer of 1 to 8 bytes.
pub fn little_endian(bytes: &[u8]) -> i64 {
    let mut room = [0; 8];
    room[..bytes.len()].copy_from_slice(bytes);
    let unused = 64 - 8 * bytes.len();
    i64::from_le_bytes(room) << unused >> unused
}

/// Undoes LZF: runs of up to 32 literal bytes, and copies of 3 to 264 bytes from up to 8 KiB back.
fn unpack(packed: &[u8], len: usize) -> Result<Vec<u8>, Malformed> {
    const LITERALS_MAX: u8 = 32;
    const COPY_LONG: usize = 7;
    let mut out: Vec<u8> = Vec::new();
    let mut input = Reader::new(packed);
    while input.left() > 0 {
        let control = input.u8()?;
        if control < LITERALS_MAX {
            out.extend_from_slice(input.take(usize::from(control) + 1)?);
        } else {
            let mut count = usize::from(control >> 5);
            if count == COPY_LONG {
                count += usize::from(input.u8()?);
            }
            let back = (usize::from(control & 0x1f) << 8 | usize::from(input.u8()?)) + 1;
            let Some(from) = out.len().checked_sub(back) else {
                return input.malformed("a copy of what was unpacked");
            };
            // The copy may reach into what it writes.
            (from..from + count + 2).for_each(|at| out.push(out[at]));
        }
        if out.len() > len {
            return input.malformed("no more text than announced");
        }
    }
    if out.len() == len { Ok(out) } else { input.malformed("as much text as announced") }
}
