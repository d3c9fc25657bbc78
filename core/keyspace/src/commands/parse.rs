//! Arguments as numbers and positions, with the refusals that Redis gives.

use std::ops::Range;

use skep_base::number;
use skep_base::{Args, Refusal};

use crate::keyspace::DB_COUNT;

/// The longest string value: Redis's default `proto-max-bulk-len`.
pub const STRING_BYTES_MAX: usize = 512 << 20;

/// A signed 64-bit integer.
#[inline]
pub fn int(arg: &[u8]) -> Result<i64, Refusal> {
    number::parse_i64(arg).ok_or(Refusal::NotInteger)
}

/// An integer of `min..=max`; anything else is refused with `message`.
pub fn int_within(arg: &[u8], min: i64, max: i64, message: &'static str) -> Result<i64, Refusal> {
    match number::parse_i64(arg) {
        Some(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(Refusal::text(message)),
    }
}

/// An integer of `min` or more, as a count; anything else is refused with `message`.
pub fn at_least(min: u32, arg: &[u8], message: &'static str) -> Result<usize, Refusal> {
    int_within(arg, i64::from(min), i64::MAX, message).map(|count| count as usize)
}

/// An integer of `min..=max`, with Redis's own text for one outside.
pub fn int_between(arg: &[u8], min: i64, max: i64) -> Result<i64, Refusal> {
    let value = int(arg)?;
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(Refusal::format(format!("ERR value is out of range, value must between {min} and {max}")))
    }
}

/// The position that `index` means in a sequence of `len`: from the end if negative. `None` outside.
pub fn position(index: i64, len: usize) -> Option<usize> {
    let at = if index < 0 { index + len as i64 } else { index };
    usize::try_from(at).ok().filter(|at| *at < len)
}

/// The positions from `start` to `end` inclusive, each from the end if negative, cut to a sequence of `len`. Empty if they
/// do not meet it.
pub fn positions(start: i64, end: i64, len: usize) -> Range<usize> {
    let len = len as i64;
    let start = if start < 0 { (start + len).max(0) } else { start };
    let end = if end < 0 { end + len } else { end.min(len - 1) };
    if start > end || start >= len { 0..0 } else { start as usize..end as usize + 1 }
}

/// Refuses a string that would become `len` bytes long.
pub fn check_string_len(len: usize) -> Result<(), Refusal> {
    if len > STRING_BYTES_MAX {
        return Err(Refusal::text("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    Ok(())
}

/// Above this a time to wait cannot be added to any time of the day.
const WAIT_MS_MAX: i64 = i64::MAX - (1 << 43);

/// A time to wait in seconds, with a fraction; gives milliseconds, rounded up, 0 for no end.
pub fn wait_seconds(arg: &[u8]) -> Result<u64, Refusal> {
    // Nearly always whole seconds, and asked for several times on a call's way.
    if arg.len() <= 9 && !arg.is_empty() && arg.iter().all(u8::is_ascii_digit) {
        return Ok(arg.iter().fold(0, |seconds, digit| 10 * seconds + u64::from(digit - b'0')) * 1_000);
    }
    let seconds =
        number::parse_f64(arg).ok_or(Refusal::text("ERR timeout is not a float or out of range"))?;
    // A double that is too large becomes the largest integer, which is refused below.
    wait_within((seconds * 1_000.0).ceil() as i64)
}

/// A time to wait in whole milliseconds, 0 for no end.
pub fn wait_ms(arg: &[u8]) -> Result<u64, Refusal> {
    wait_within(number::parse_i64(arg).ok_or(Refusal::text("ERR timeout is not an integer or out of range"))?)
}

fn wait_within(ms: i64) -> Result<u64, Refusal> {
    match u64::try_from(ms) {
        Err(_) => Err(Refusal::text("ERR timeout is negative")),
        Ok(_) if ms > WAIT_MS_MAX => Err(Refusal::text("ERR timeout is out of range")),
        Ok(ms) => Ok(ms),
    }
}

/// The number of a database.
pub fn database(arg: &[u8]) -> Result<u8, Refusal> {
    let number = int_between(arg, i64::from(i32::MIN), i64::from(i32::MAX))?;
    database_number(number)
}

/// `number` as a database's, if there are so many.
pub fn database_number(number: i64) -> Result<u8, Refusal> {
    u8::try_from(number).ok().filter(|n| *n < DB_COUNT).ok_or(Refusal::text("ERR DB index is out of range"))
}

/// The most elements that one random choice with repeats returns. Redis has no limit but its memory.
const RANDOM_REPEATS_MAX: i64 = 16 << 20;

/// How many random elements are asked for (`SRANDMEMBER`, `HRANDFIELD`, `ZRANDMEMBER`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RandomCount {
    /// At most this many, all different.
    Distinct(usize),
    /// Exactly this many, each drawn from all.
    Repeats(usize),
}

/// Reads a count that is negative for choice with repeats.
pub fn random_count(arg: &[u8]) -> Result<RandomCount, Refusal> {
    let count = int_between(arg, -i64::MAX, i64::MAX)?;
    if count >= 0 {
        Ok(RandomCount::Distinct(count as usize))
    } else if count >= -RANDOM_REPEATS_MAX {
        Ok(RandomCount::Repeats(count.unsigned_abs() as usize))
    } else {
        Err(Refusal::text("ERR value is out of range"))
    }
}

/// Reads `[count [WORD]]` behind the key of a random choice; true if `WORD` is there. `None` without a count.
pub fn random_options(args: Args, word: &str) -> Result<Option<(RandomCount, bool)>, Refusal> {
    let Some(count) = args.get(2) else { return Ok(None) };
    let count_number = int_between(count, -i64::MAX, i64::MAX)?;
    let pairs = args.len() > 3;
    if args.len() > 4 || pairs && !args.is(3, word) {
        return Err(Refusal::Syntax);
    }
    if pairs && count_number.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(Refusal::text("ERR value is out of range"));
    }
    Ok(Some((random_count(count)?, pairs)))
}
