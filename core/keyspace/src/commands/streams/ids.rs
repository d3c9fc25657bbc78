//! Ids as arguments, as lenient as Redis reads them, and in replies.

use skep_base::{Refusal, number};
use skep_resp::Reply;

use crate::types::StreamId;
use crate::types::stream::ID_TEXT_MAX;

pub const INVALID_ID: Refusal = Refusal::text("ERR Invalid stream ID specified as stream command argument");
const INVALID_START: Refusal = Refusal::text("ERR invalid start ID for the interval");
const INVALID_END: Refusal = Refusal::text("ERR invalid end ID for the interval");

/// The longest text that is looked at.
const TEXT_MAX: usize = 127;

/// An id for a new entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewId {
    /// `*`
    Auto,
    /// `ms-*`
    AutoSeq(u64),
    Given(StreamId),
}

/// `ms`, `ms-seq`, `-` or `+`; `missing_seq` is the number that `ms` alone has.
pub fn id(arg: &[u8], missing_seq: u64) -> Result<StreamId, Refusal> {
    match arg {
        b"-" => Ok(StreamId::ZERO),
        b"+" => Ok(StreamId::MAX),
        _ => strict(arg, missing_seq),
    }
}

/// `ms` or `ms-seq`.
pub fn strict(arg: &[u8], missing_seq: u64) -> Result<StreamId, Refusal> {
    match new_id(arg, missing_seq)? {
        NewId::Given(id) => Ok(id),
        _ => Err(INVALID_ID),
    }
}

/// What `XADD` takes: `*`, `ms-*`, `ms` or `ms-seq`.
pub fn for_entry(arg: &[u8]) -> Result<NewId, Refusal> {
    if arg == b"*" { Ok(NewId::Auto) } else { new_id(arg, 0) }
}

fn new_id(arg: &[u8], missing_seq: u64) -> Result<NewId, Refusal> {
    if arg.len() > TEXT_MAX || arg == b"-" || arg == b"+" {
        return Err(INVALID_ID);
    }
    // Redis reads a C string.
    let text = arg.split(|b| *b == 0).next().unwrap_or_default();
    let (ms, seq) = match text.iter().position(|b| *b == b'-') {
        None => (text, None),
        Some(at) => (&text[..at], Some(&text[at + 1..])),
    };
    let ms = lenient_u64(ms).ok_or(INVALID_ID)?;
    match seq {
        None => Ok(NewId::Given(StreamId::new(ms, missing_seq))),
        Some(b"*") => Ok(NewId::AutoSeq(ms)),
        Some(seq) => Ok(NewId::Given(StreamId::new(ms, lenient_u64(seq).ok_or(INVALID_ID)?))),
    }
}

/// A number as C's `strtoull` reads it, but for negative ones in their usual form.
fn lenient_u64(text: &[u8]) -> Option<u64> {
    if let Some(value) = number::parse_i64(text) {
        return u64::try_from(value).ok();
    }
    let blanks = text.iter().take_while(|b| matches!(b, b' ' | b'\t'..=b'\r')).count();
    let (negative, digits) = match &text[blanks..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().try_fold(0u64, |v, d| v.checked_mul(10)?.checked_add(u64::from(d - b'0')))?;
    Some(if negative { value.wrapping_neg() } else { value })
}

/// The first id of an interval: an id, or one behind `(` that is not included.
pub fn interval_start(arg: &[u8]) -> Result<StreamId, Refusal> {
    match arg {
        [b'(', id @ ..] if !id.is_empty() => strict(id, 0)?.next().ok_or(INVALID_START),
        _ => id(arg, 0),
    }
}

/// The last id of an interval, as [`interval_start`].
pub fn interval_end(arg: &[u8]) -> Result<StreamId, Refusal> {
    match arg {
        [b'(', id @ ..] if !id.is_empty() => strict(id, u64::MAX)?.previous().ok_or(INVALID_END),
        _ => id(arg, u64::MAX),
    }
}

/// Replies with an id.
pub fn reply_id(reply: &mut Reply, id: StreamId) {
    reply.bulk(id.text(&mut [0; ID_TEXT_MAX]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_leniently_as_by_redis() {
        let table: [(&[u8], Option<_>); 24] = [
            (b"5", Some((5, 9))),
            (b"5-3", Some((5, 3))),
            (b"0-0", Some((0, 0))),
            (b"18446744073709551615-18446744073709551615", Some((u64::MAX, u64::MAX))),
            (b"18446744073709551616", None),
            (b"007-01", Some((7, 1))),
            (b" 5-+3", Some((5, 3))),
            (b"5-\t3", Some((5, 3))),
            (b"5 ", None),
            (b"5-3-2", None),
            (b"5--3", None),
            (b"5--03", Some((5, 3u64.wrapping_neg()))),
            (b"5\x00junk", Some((5, 9))),
            (b"\x005", None),
            (b"", None),
            (b"-", None),
            (b"+", None),
            (b"-5", None),
            (b"5-", None),
            (b"5-*", None),
            (b"*", None),
            (b"1.5", None),
            (b"0x5", None),
            (b"ten", None),
        ];
        for (text, expected) in table {
            let found = strict(text, 9).ok().map(|id| (id.ms, id.seq));
            assert_eq!(found, expected, "{}", text.escape_ascii());
        }
        assert!(strict(&[b'0'; 127], 0).is_ok());
        assert!(strict(&[b'0'; 128], 0).is_err());
        assert_eq!(for_entry(b"5-*"), Ok(NewId::AutoSeq(5)));
        assert_eq!(for_entry(b"*"), Ok(NewId::Auto));
    }
}
