//! The `struct` library: packed binary data by a format, as Roberto Ierusalimschy's library of that name has it in Redis.

use crate::lua::{Native, Raise, Stack, to_integer};

/// The widest integer that a format may ask for (`i32`), in bytes.
const INTEGER_BYTES_MAX: usize = 32;
/// The alignment of `!` without a number.
const ALIGNMENT: usize = 8;

pub(crate) fn open(s: Stack) {
    s.push_table(0, 3);
    let functions: [(&str, Native); 3] = [("pack", pack), ("unpack", unpack), ("size", size)];
    for (name, function) in functions {
        s.push_native(function);
        s.set_field(-2, name);
    }
}

/// A format being read.
struct Format<'a> {
    text: &'a [u8],
    at: usize,
    big: bool,
    alignment: usize,
}

/// One letter of a format, with its size in bytes.
struct Item {
    letter: u8,
    size: usize,
}

impl<'a> Format<'a> {
    /// The format ends at its first zero, as a C string does.
    fn new(text: &'a [u8]) -> Format<'a> {
        let text = text.split(|&c| c == 0).next().unwrap_or_default();
        Format { text, at: 0, big: cfg!(target_endian = "big"), alignment: 1 }
    }

    fn next(&mut self) -> Result<Option<Item>, Raise> {
        let Some(&letter) = self.text.get(self.at) else { return Ok(None) };
        self.at += 1;
        let size = match letter {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.count(1)?,
            b'i' | b'I' => {
                let size = self.count(4)?;
                if size > INTEGER_BYTES_MAX {
                    let text = format!("integral size {size} is larger than limit of {INTEGER_BYTES_MAX}");
                    return Err(Raise::At(text));
                }
                size
            }
            _ => 0,
        };
        Ok(Some(Item { letter, size }))
    }

    /// The number that follows, or `default` if none does.
    fn count(&mut self, default: usize) -> Result<usize, Raise> {
        let digits = self.text[self.at..].iter().take_while(|c| c.is_ascii_digit()).count();
        if digits == 0 {
            return Ok(default);
        }
        let text = &self.text[self.at..self.at + digits];
        self.at += digits;
        let value = text.iter().try_fold(0i32, |n, c| n.checked_mul(10)?.checked_add(i32::from(c - b'0')));
        value.map(|n| n as usize).ok_or_else(|| Raise::At("integral size overflow".to_owned()))
    }

    /// Bytes in front of `item` at `position` that align it.
    fn padding(&self, position: usize, item: &Item) -> usize {
        if item.size == 0 || item.letter == b'c' {
            return 0;
        }
        let size = item.size.min(self.alignment);
        // Sizes that are no powers of two get what this makes of them, as in the original.
        (size.wrapping_sub(position & (size - 1))) & (size - 1)
    }

    /// Letters that set something.
    fn control(&mut self, s: Stack, letter: u8) -> Result<(), Raise> {
        match letter {
            b' ' => {}
            b'>' => self.big = true,
            b'<' => self.big = false,
            b'!' => {
                let alignment = self.count(ALIGNMENT)?;
                if !alignment.is_power_of_two() {
                    return Err(Raise::At(format!("alignment {alignment} is not a power of 2")));
                }
                self.alignment = alignment;
            }
            _ => {
                let letter = String::from_utf8_lossy(&[letter]).into_owned();
                return Err(s.bad_argument(1, &format!("invalid format option '{letter}'")));
            }
        }
        Ok(())
    }
}

fn pack(s: Stack) -> Result<i32, Raise> {
    let mut format = Format::new(s.check_string(1)?);
    let mut argument = 1;
    let mut out = Vec::new();
    s.push_nil(); // what a missing argument is
    while let Some(mut item) = format.next()? {
        s.work(1 + item.size / 4)?;
        let padding = format.padding(out.len(), &item);
        out.resize(out.len() + padding, 0);
        match item.letter {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                argument += 1;
                pack_integer(&mut out, s.check_number(argument)?, item.size, format.big);
            }
            b'x' => out.push(0),
            b'f' => {
                argument += 1;
                pack_bytes(&mut out, (canonical(s.check_number(argument)?) as f32).to_be_bytes(), format.big);
            }
            b'd' => {
                argument += 1;
                pack_bytes(&mut out, canonical(s.check_number(argument)?).to_be_bytes(), format.big);
            }
            b'c' | b's' => {
                argument += 1;
                let text = s.check_string(argument)?;
                if item.size == 0 {
                    item.size = text.len();
                }
                if text.len() < item.size {
                    return Err(s.bad_argument(argument + 1, "string too short"));
                }
                s.work(item.size / 4)?;
                s.room(out.len() + item.size)?;
                out.extend_from_slice(&text[..item.size]);
                if item.letter == b's' {
                    out.push(0);
                }
            }
            letter => format.control(s, letter)?,
        }
    }
    s.push_bytes(&out);
    Ok(1)
}

fn unpack(s: Stack) -> Result<i32, Raise> {
    let mut format = Format::new(s.check_string(1)?);
    let data = s.check_string(2)?;
    let start = s.check_integer_or(3, 1)?;
    if start < 1 {
        return Err(s.bad_argument(3, "offset must be 1 or greater"));
    }
    let mut at = start as usize - 1;
    let mut results = 0;
    while let Some(item) = format.next()? {
        s.work(1)?;
        at += format.padding(at, &item);
        let mut size = item.size;
        let too_short = || s.bad_argument(2, "data string too short");
        let field = |size: usize| data.get(at..).and_then(|rest| rest.get(..size)).ok_or_else(too_short);
        let bytes = field(size)?;
        s.reserve(2, "too many results")?;
        match item.letter {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let signed = item.letter.is_ascii_lowercase();
                s.push_number(unpack_integer(bytes, signed, format.big));
                results += 1;
            }
            b'x' => {}
            b'f' => {
                let bytes: [u8; 4] = bytes.try_into().expect("its size is 4");
                let bits = if format.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
                s.push_number(f64::from(f32::from_bits(bits)));
                results += 1;
            }
            b'd' => {
                let bytes: [u8; 8] = bytes.try_into().expect("its size is 8");
                let bits = if format.big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) };
                s.push_number(f64::from_bits(bits));
                results += 1;
            }
            b'c' => {
                let mut bytes = bytes;
                if size == 0 {
                    let length = if results == 0 { None } else { s.number(-1) };
                    let Some(length) = length else {
                        return Err(Raise::At("format 'c0' needs a previous size".to_owned()));
                    };
                    s.pop(1);
                    results -= 1;
                    size = usize::try_from(to_integer(length)).map_err(|_| too_short())?;
                    bytes = field(size)?;
                }
                s.push_bytes(bytes);
                results += 1;
            }
            b's' => {
                let rest = data.get(at..).ok_or_else(too_short)?;
                let Some(end) = rest.iter().position(|&c| c == 0) else {
                    return Err(Raise::At("unfinished string in data".to_owned()));
                };
                s.work(end / 4)?;
                s.push_bytes(&rest[..end]);
                size = end + 1;
                results += 1;
            }
            letter => format.control(s, letter)?,
        }
        at += size;
    }
    s.push_number(at as f64 + 1.0);
    Ok(results + 1)
}

fn size(s: Stack) -> Result<i32, Raise> {
    let mut format = Format::new(s.check_string(1)?);
    let mut at = 0usize;
    while let Some(item) = format.next()? {
        s.work(1)?;
        at = at.saturating_add(format.padding(at, &item));
        match item.letter {
            b's' => return Err(s.bad_argument(1, "option 's' has no fixed size")),
            b'c' if item.size == 0 => return Err(s.bad_argument(1, "option 'c0' has no fixed size")),
            letter if !letter.is_ascii_alphanumeric() => format.control(s, letter)?,
            _ => {}
        }
        at = at.saturating_add(item.size);
    }
    s.push_number(at as f64);
    Ok(1)
}

/// NaN with one and the same bits on every processor.
pub(crate) fn canonical(number: f64) -> f64 {
    if number.is_nan() { f64::from_bits(0xfff8_0000_0000_0000) } else { number }
}

fn pack_integer(out: &mut Vec<u8>, number: f64, size: usize, big: bool) {
    let mut value = if (0.0..18_446_744_073_709_551_616.0).contains(&number) {
        number as u64
    } else {
        to_integer(number) as u64
    };
    let start = out.len();
    for _ in 0..size {
        out.push(value as u8);
        value >>= 8;
    }
    if big {
        out[start..].reverse();
    }
}

fn pack_bytes<const N: usize>(out: &mut Vec<u8>, mut big_endian: [u8; N], big: bool) {
    if !big {
        big_endian.reverse();
    }
    out.extend_from_slice(&big_endian);
}

/// Integers wider than 8 bytes give their low 64 bits.
fn unpack_integer(bytes: &[u8], signed: bool, big: bool) -> f64 {
    let join = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    let mut value = if big { bytes.iter().fold(0, join) } else { bytes.iter().rev().fold(0, join) };
    if !signed {
        return value as f64;
    }
    let bits = 8 * bytes.len();
    if (1..64).contains(&bits) && value >> (bits - 1) & 1 == 1 {
        value |= u64::MAX << bits;
    }
    value as i64 as f64
}
