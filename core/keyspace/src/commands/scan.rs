//! The SCAN family: options and cursors, and SCAN itself.
//!
//! A dense array is walked downwards from its end. A removal moves the last entry, which the walk has passed already, so
//! every element that is there throughout is returned; an array that does not change gives each element exactly once.

use skep_base::{Args, Refusal, glob, slot_of};
use skep_base::{SLOT_COUNT, number};
use skep_resp::Reply;

use super::{Group, parse};
use crate::context::ReadCx;
use crate::dense::Keyed;
use crate::dispatch::Handler::Read;

pub const COMMANDS: Group = &[("scan", Read(scan))];

/// Elements visited by a call without `COUNT`, as in Redis.
const COUNT_DEFAULT: usize = 10;

/// What a call of the SCAN family asks for.
pub struct ScanOptions<'a> {
    pattern: Option<&'a [u8]>,
    /// Elements to visit.
    pub count: usize,
    /// `TYPE`, of SCAN.
    kind: Option<&'a [u8]>,
    /// `NOVALUES`, of HSCAN.
    pub no_values: bool,
}

impl<'a> ScanOptions<'a> {
    /// Reads the options behind the cursor of `command` (lower case).
    pub fn parse(options: Args<'a>, command: &str) -> Result<ScanOptions<'a>, Refusal> {
        let mut parsed = ScanOptions { pattern: None, count: COUNT_DEFAULT, kind: None, no_values: false };
        let mut at = 0;
        while at < options.len() {
            let value = options.get(at + 1);
            if let Some(value) = value.filter(|_| options.is(at, "count")) {
                let count = parse::int(value)?;
                parsed.count = usize::try_from(count).ok().filter(|c| *c > 0).ok_or(Refusal::Syntax)?;
                at += 2;
            } else if value.is_some() && options.is(at, "match") {
                parsed.pattern = value.filter(|pattern| *pattern != b"*");
                at += 2;
            } else if value.is_some() && options.is(at, "type") && command == "scan" {
                parsed.kind = value;
                at += 2;
            } else if options.is(at, "novalues") {
                if command != "hscan" {
                    return Err(Refusal::text("ERR NOVALUES option can only be used in HSCAN"));
                }
                parsed.no_values = true;
                at += 1;
            } else {
                return Err(Refusal::Syntax);
            }
        }
        Ok(parsed)
    }

    /// True if the pattern admits `name`.
    #[inline]
    pub fn admit(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }
}

/// Reads a cursor: digits, which may have a sign `+` or leading zeros.
pub fn cursor(arg: &[u8]) -> Result<u64, Refusal> {
    let digits = arg.strip_prefix(b"+").unwrap_or(arg);
    let zeros = digits.iter().take_while(|d| **d == b'0').count();
    let digits = if zeros == digits.len() { &digits[zeros.saturating_sub(1)..] } else { &digits[zeros..] };
    number::parse_u64(digits).ok_or(Refusal::text("ERR invalid cursor"))
}

/// The part of an array of `len` elements that a call visits, downwards, and the cursor behind it (0 at the end). The
/// cursor is the number of elements left below.
pub fn window(cursor: u64, len: usize, count: usize) -> (std::ops::Range<usize>, u64) {
    let end = if cursor == 0 { len } else { len.min(usize::try_from(cursor).unwrap_or(usize::MAX)) };
    let start = end.saturating_sub(count);
    (start..end, start as u64)
}

/// Writes the cursor, and announces the array of `elements` that the caller writes next.
pub fn reply_cursor(reply: &mut Reply, cursor: u64, elements: usize) {
    reply.array(2);
    reply.bulk_int(i64::try_from(cursor).expect("cursors are positions of at most 46 bits"));
    reply.array(elements);
}

/// The one slot in which all keys that match `pattern` lie, if it begins with literal text that holds a whole hash tag.
pub fn slot_of_pattern(pattern: &[u8]) -> Option<u16> {
    let literal = pattern.iter().position(|b| b"*?[\\".contains(b)).unwrap_or(pattern.len());
    let prefix = &pattern[..literal];
    let open = prefix.iter().position(|b| *b == b'{')?;
    let close = open + 1 + prefix[open + 1..].iter().position(|b| *b == b'}')?;
    (close > open + 1).then(|| slot_of(&prefix[..=close]))
}

/// A position in the walk over all slots: slots upwards, in each the array downwards. As a number for clients: the slot in
/// the low 14 bits, above them the number of entries left in it, 0 for all of them.
#[derive(Clone, Copy)]
struct KeyCursor {
    slot: u16,
    left: Option<usize>,
}

const SLOT_BITS: u32 = SLOT_COUNT.trailing_zeros();

impl KeyCursor {
    fn decode(cursor: u64) -> KeyCursor {
        let left = usize::try_from(cursor >> SLOT_BITS).unwrap_or(usize::MAX);
        KeyCursor { slot: cursor as u16 % SLOT_COUNT, left: (left > 0).then_some(left) }
    }

    fn encode(self) -> u64 {
        (self.left.unwrap_or(0) as u64) << SLOT_BITS | u64::from(self.slot)
    }
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
fn scan(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let at = KeyCursor::decode(cursor(&args[1])?);
    let options = ScanOptions::parse(args.from(2), "scan")?;
    let mut found = Vec::new();
    let next = walk(cx, at, &options, &mut found);
    reply_cursor(reply, next.map_or(0, KeyCursor::encode), found.len());
    found.into_iter().for_each(|key| reply.bulk(key));
    Ok(())
}

/// Visits up to `options.count` keys from `cursor` on; gives where to go on, or `None` at the end.
fn walk<'a>(
    cx: &ReadCx<'a>,
    mut cursor: KeyCursor,
    options: &ScanOptions,
    found: &mut Vec<&'a [u8]>,
) -> Option<KeyCursor> {
    // With a pattern whose keys lie in one slot the others are passed over.
    let only = options.pattern.and_then(slot_of_pattern);
    if let Some(only) = only
        && cursor.slot < only
    {
        cursor = KeyCursor { slot: only, left: None };
    }
    let mut left_to_visit = options.count;
    loop {
        let slot = cx.keyspace.next_used_slot(cx.db, cursor.slot)?;
        if only.is_some_and(|only| slot > only) {
            return None;
        }
        if slot != cursor.slot {
            cursor = KeyCursor { slot, left: None };
        }
        if left_to_visit == 0 {
            return Some(cursor);
        }
        let entries = cx.keyspace.slot_entries(cx.db, slot);
        let len = entries.len();
        let end = cursor.left.unwrap_or(len).min(len);
        let start = end.saturating_sub(left_to_visit);
        found.extend(entries.rev().skip(len - end).take(end - start).filter_map(|entry| {
            let wanted = cx.keyspace.shows(entry, cx.now)
                && options.admit(entry.key())
                && options.kind.is_none_or(|k| k.eq_ignore_ascii_case(entry.value.kind().name().as_bytes()));
            wanted.then(|| entry.key())
        }));
        left_to_visit -= end - start;
        if start > 0 {
            return Some(KeyCursor { slot, left: Some(start) });
        }
        if slot + 1 == SLOT_COUNT {
            return None;
        }
        cursor = KeyCursor { slot: slot + 1, left: None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_leniently() {
        for (text, expected) in [("0", Some(0)), ("007", Some(7)), ("+3", Some(3)), ("000", Some(0))] {
            assert_eq!(cursor(text.as_bytes()).ok(), expected, "{text}");
        }
        for text in ["", "-1", "a", "1x", " 1", "99999999999999999999"] {
            assert!(cursor(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_with_a_literal_tag_lie_in_one_slot() {
        let table: [(&str, Option<&str>); 8] = [
            ("{a}*", Some("{a}x")),
            ("x{a}:*", Some("x{a}:1")),
            ("*{a}", None),
            ("{a*}", None),
            ("{}*", None),
            ("{a\\}b}", None),
            ("a*", None),
            ("{a}", Some("{a}")),
        ];
        for (pattern, key) in table {
            assert_eq!(slot_of_pattern(pattern.as_bytes()), key.map(|k| slot_of(k.as_bytes())), "{pattern}");
        }
    }
}
