//! Reading the packed forms of small collections: listpack, ziplist, intset and zipmap, each a single string.
//!
//! Each is an iterator over elements as text; the first malformed one ends it. Lengths for walking backwards are passed
//! over, since nothing here does.

use std::borrow::Cow;

use skep_base::varint::{Malformed, Reader};

use super::strings::{int, little_endian};

/// An element, or why there is none.
pub type Item<'a> = Result<Cow<'a, [u8]>, Malformed>;

/// Ends listpacks, ziplists and zipmaps.
const END: u8 = 0xff;

/// A count that did not fit its 16 bits.
const COUNT_UNKNOWN: u16 = u16::MAX;

/// The elements behind the common head of listpack and ziplist: after `head` bytes that start with the size, and a count.
fn elements<'a>(
    pack: &'a [u8],
    head: usize,
    element: fn(&mut Reader<'a>) -> Item<'a>,
) -> Result<impl Iterator<Item = Item<'a>>, Malformed> {
    let mut input = Reader::new(pack);
    if input.u32()? as usize != pack.len() {
        return input.malformed("the size of the pack");
    }
    input.take(head - 4)?;
    let announced = u16::from_le_bytes([input.u8()?, input.u8()?]);
    let mut count = 0;
    Ok(until_error(move || {
        if pack.get(input.offset()) == Some(&END) {
            if input.left() > 1 || announced != COUNT_UNKNOWN && usize::from(announced) != count {
                return Some(input.malformed("the end of the pack"));
            }
            return None;
        }
        count += 1;
        Some(element(&mut input))
    }))
}

/// What `next` gives, up to `None` or the first error.
fn until_error<'a>(mut next: impl FnMut() -> Option<Item<'a>>) -> impl Iterator<Item = Item<'a>> {
    let mut failed = false;
    std::iter::from_fn(move || {
        let item = if failed { None } else { next() };
        failed = matches!(item, Some(Err(_)));
        item
    })
}

/// Elements of a listpack.
pub fn listpack(pack: &[u8]) -> Result<impl Iterator<Item = Item<'_>>, Malformed> {
    elements(pack, 4, listpack_element)
}

fn listpack_element<'a>(input: &mut Reader<'a>) -> Item<'a> {
    let start = input.offset();
    let first = input.u8()?;
    let item = match first {
        0..=0x7f => int(i64::from(first)),
        0x80..=0xbf => Cow::Borrowed(input.take(usize::from(first & 0x3f))?),
        0xc0..=0xdf => {
            let value = i64::from(first & 0x1f) << 8 | i64::from(input.u8()?);
            int(value << 51 >> 51) // 13 bits with a sign
        }
        0xe0..=0xef => {
            let len = usize::from(first & 0x0f) << 8 | usize::from(input.u8()?);
            Cow::Borrowed(input.take(len)?)
        }
        0xf0 => {
            let len = input.u32()? as usize;
            Cow::Borrowed(input.take(len)?)
        }
        0xf1 => int(little_endian(input.take(2)?)),
        0xf2 => int(little_endian(input.take(3)?)),
        0xf3 => int(little_endian(input.take(4)?)),
        0xf4 => int(little_endian(input.take(8)?)),
        _ => return input.malformed("an element of a listpack"),
    };
    // The element's length again, in groups of 7 bits.
    input.take(match input.offset() - start {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        0x20_0000..=0xfff_ffff => 4,
        _ => 5,
    })?;
    Ok(item)
}

/// Elements of a ziplist.
pub fn ziplist(pack: &[u8]) -> Result<impl Iterator<Item = Item<'_>>, Malformed> {
    elements(pack, 8, ziplist_element)
}

fn ziplist_element<'a>(input: &mut Reader<'a>) -> Item<'a> {
    /// Stands before a length of the previous element that takes four bytes.
    const PREVIOUS_LONG: u8 = 0xfe;
    if input.u8()? == PREVIOUS_LONG {
        input.take(4)?;
    }
    let first = input.u8()?;
    let text_len = match first {
        0..=0x3f => usize::from(first),
        0x40..=0x7f => usize::from(first & 0x3f) << 8 | usize::from(input.u8()?),
        0x80 => input.u32()?.swap_bytes() as usize,
        0xc0 => return Ok(int(little_endian(input.take(2)?))),
        0xd0 => return Ok(int(little_endian(input.take(4)?))),
        0xe0 => return Ok(int(little_endian(input.take(8)?))),
        0xf0 => return Ok(int(little_endian(input.take(3)?))),
        0xfe => return Ok(int(little_endian(input.take(1)?))),
        0xf1..=0xfd => return Ok(int(i64::from(first & 0x0f) - 1)),
        _ => return input.malformed("an element of a ziplist"),
    };
    input.take(text_len).map(Cow::Borrowed)
}

/// Members of an intset, which are in ascending order.
pub fn intset(pack: &[u8]) -> Result<impl Iterator<Item = Item<'_>>, Malformed> {
    let mut input = Reader::new(pack);
    let width = input.u32()? as usize;
    let count = input.u32()? as usize;
    if ![2, 4, 8].contains(&width) || count.checked_mul(width) != Some(input.left()) {
        return input.malformed("a set of integers");
    }
    let mut previous = None;
    Ok(until_error(move || {
        if input.left() == 0 {
            return None;
        }
        Some(input.take(width).map(little_endian).and_then(|value| {
            if previous.replace(value).is_some_and(|p| p >= value) {
                return input.malformed("ascending integers");
            }
            Ok(int(value))
        }))
    }))
}

/// Fields and values of a zipmap, in turn: the form of small hashes before Redis 2.6.
pub fn zipmap(pack: &[u8]) -> Result<impl Iterator<Item = Item<'_>>, Malformed> {
    let mut input = Reader::new(pack);
    input.u8()?; // a count that may be out of date
    let mut is_value = false;
    Ok(until_error(move || {
        if pack.get(input.offset()) == Some(&END) && !is_value {
            return (input.left() > 1).then(|| input.malformed("the end of the map"));
        }
        let item = zipmap_text(&mut input, is_value);
        is_value = !is_value;
        Some(item)
    }))
}

fn zipmap_text<'a>(input: &mut Reader<'a>, is_value: bool) -> Item<'a> {
    /// Stands before a length of four bytes.
    const LONG: u8 = 0xfe;
    let len = match input.u8()? {
        END => return input.malformed("a length"),
        LONG => input.u32()? as usize,
        short => usize::from(short),
    };
    let unused = if is_value { usize::from(input.u8()?) } else { 0 };
    let text = input.take(len)?;
    input.take(unused)?;
    Ok(Cow::Borrowed(text))
}
