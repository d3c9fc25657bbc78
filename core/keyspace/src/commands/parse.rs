//! Arguments as numbers, with the refusals that Redis gives.

use skep_base::number;
use skep_base::{Args, Refusal};

use crate::keyspace::DB_COUNT;

/// A signed 64-bit integer.
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

/// An integer of `min..=max`, with Redis's own text for one outside.
pub fn int_between(arg: &[u8], min: i64, max: i64) -> Result<i64, Refusal> {
    let value = int(arg)?;
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(Refusal::format(format!("ERR value is out of range, value must between {min} and {max}")))
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
