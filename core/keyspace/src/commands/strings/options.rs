//! The options of `SET` and `GETEX`.

use skep_base::{Args, Millis, Refusal};

use crate::commands::parse;

/// What `SET` asks of the key before it writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    None,
    /// `NX`
    Absent,
    /// `XX`
    Present,
}

/// What becomes of the key's deadline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Expiry<'a> {
    Unsaid,
    /// `KEEPTTL`
    Keep,
    /// `PERSIST`
    Persist,
    At(When<'a>),
}

/// A point in time as the caller wrote it; read when the command gets to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct When<'a> {
    amount: &'a [u8],
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// `EX`
    Seconds,
    /// `PX`
    Millis,
    /// `EXAT`
    UnixSeconds,
    /// `PXAT`
    UnixMillis,
}

/// All options of `SET`.
pub struct Options<'a> {
    pub condition: Condition,
    pub expiry: Expiry<'a>,
    pub get: bool,
}

impl<'a> Options<'a> {
    /// The options of `SET`, in any order.
    pub fn of_set(args: Args<'a>) -> Result<Options<'a>, Refusal> {
        let mut options = Options { condition: Condition::None, expiry: Expiry::Unsaid, get: false };
        let mut at = 0;
        while at < args.len() {
            if args.is(at, "nx") && options.condition != Condition::Present {
                options.condition = Condition::Absent;
            } else if args.is(at, "xx") && options.condition != Condition::Absent {
                options.condition = Condition::Present;
            } else if args.is(at, "get") {
                options.get = true;
            } else if args.is(at, "keepttl") && matches!(options.expiry, Expiry::Unsaid | Expiry::Keep) {
                options.expiry = Expiry::Keep;
            } else {
                at += take_when(&mut options.expiry, args, at)?;
            }
            at += 1;
        }
        Ok(options)
    }

    /// The options of `GETEX`.
    pub fn of_getex(args: Args<'a>) -> Result<Expiry<'a>, Refusal> {
        let mut expiry = Expiry::Unsaid;
        let mut at = 0;
        while at < args.len() {
            if args.is(at, "persist") && matches!(expiry, Expiry::Unsaid | Expiry::Persist) {
                expiry = Expiry::Persist;
            } else {
                at += take_when(&mut expiry, args, at)?;
            }
            at += 1;
        }
        Ok(expiry)
    }
}

/// Takes `EX`, `PX`, `EXAT` or `PXAT` and the amount behind it; gives the number of arguments behind the word. The same word
/// may come twice, two different ones may not.
fn take_when<'a>(expiry: &mut Expiry<'a>, args: Args<'a>, at: usize) -> Result<usize, Refusal> {
    let words = [
        ("ex", Unit::Seconds),
        ("px", Unit::Millis),
        ("exat", Unit::UnixSeconds),
        ("pxat", Unit::UnixMillis),
    ];
    let unit = words.iter().find(|(word, _)| args.is(at, word)).ok_or(Refusal::Syntax)?.1;
    let amount = args.get(at + 1).ok_or(Refusal::Syntax)?;
    match expiry {
        Expiry::Unsaid => {}
        Expiry::At(when) if when.unit == unit => {}
        _ => return Err(Refusal::Syntax),
    }
    *expiry = Expiry::At(When { amount, unit });
    Ok(1)
}

impl<'a> When<'a> {
    /// That many seconds from the stamp.
    pub fn in_seconds(amount: &'a [u8]) -> When<'a> {
        When { amount, unit: Unit::Seconds }
    }

    /// That many milliseconds from the stamp.
    pub fn in_millis(amount: &'a [u8]) -> When<'a> {
        When { amount, unit: Unit::Millis }
    }

    pub fn is_absolute(self) -> bool {
        matches!(self.unit, Unit::UnixSeconds | Unit::UnixMillis)
    }

    /// The deadline it means at `now`.
    ///
    /// # Errors
    /// [`Refusal::NotInteger`]; a text naming `command` if the amount is not above 0 or the sum passes 2^63 ms.
    pub fn deadline(self, command: &str, now: Millis) -> Result<Millis, Refusal> {
        let amount = parse::int(self.amount)?;
        let scale = match self.unit {
            Unit::Seconds | Unit::UnixSeconds => 1000,
            Unit::Millis | Unit::UnixMillis => 1,
        };
        let base = if self.is_absolute() { 0 } else { now.0 as i64 };
        let deadline = amount.checked_mul(scale).and_then(|ms| ms.checked_add(base));
        match deadline {
            Some(deadline) if amount > 0 => Ok(Millis(deadline as u64)),
            _ => Err(Refusal::format(format!("ERR invalid expire time in '{command}' command"))),
        }
    }
}
