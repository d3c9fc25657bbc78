//! `BITFIELD`: numbers of any width within a string.

use skep_base::{Args, Refusal, number};
use skep_resp::Reply;

use super::{bitmaps, parse};
use crate::bits;
use crate::context::{ReadCx, WriteCx};
use crate::events::Class;
use crate::types::Str;

/// One step of the command.
struct Operation {
    action: Action,
    field: Field,
}

enum Action {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

/// A number's place and form: 1 to 63 bits unsigned or 1 to 64 signed.
#[derive(Clone, Copy)]
struct Field {
    offset: usize,
    width: u32,
    signed: bool,
}

pub fn bitfield(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let operations = parse_operations(args.from(2))?;
    let Some(bytes_needed) = bytes_written(&operations) else {
        return read_fields(&cx.as_read(), &args[1], &operations, reply);
    };
    // As in Redis, the string grows even if every write then fails.
    let value = cx.modify_or_create::<Str>(&args[1])?;
    let grows = value.len() < bytes_needed;
    let bytes = value.grow_to(bytes_needed);
    let mut changed = false;
    reply.array(operations.len());
    for Operation { action, field } in &operations {
        let old = field.read(bytes);
        let (wanted, overflow) = match *action {
            Action::Get => {
                reply.int(old);
                continue;
            }
            Action::Set(value, overflow) => (field.widen(value), overflow),
            Action::Add(amount, overflow) => (i128::from(old) + i128::from(amount), overflow),
        };
        match field.fit(wanted, overflow) {
            None => reply.null(),
            Some(new) => {
                changed |= grows || new != old;
                bits::set_field(bytes, field.offset, field.width, new as u64);
                reply.int(if matches!(action, Action::Set(..)) { old } else { new });
            }
        }
    }
    if changed {
        cx.event(Class::String, "setbit", &args[1]);
    } else if grows {
        cx.event(Class::Silent, "setbit", &args[1]); // Redis tells of no growth alone
    } else {
        cx.spare_watchers(&args[1]);
    }
    Ok(())
}

pub fn bitfield_ro(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let operations = parse_operations(args.from(2))?;
    if bytes_written(&operations).is_some() {
        return Err(Refusal::text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_fields(cx, &args[1], &operations, reply)
}

fn read_fields(cx: &ReadCx, key: &[u8], operations: &[Operation], reply: &mut Reply) -> Result<(), Refusal> {
    let value = cx.read::<Str>(key)?.map_or(&b""[..], Str::as_slice);
    reply.array(operations.len());
    operations.iter().for_each(|operation| reply.int(operation.field.read(value)));
    Ok(())
}

/// The length that the string needs for all writes; `None` if there is none.
fn bytes_written(operations: &[Operation]) -> Option<usize> {
    let writes = operations.iter().filter(|o| !matches!(o.action, Action::Get));
    writes.map(|o| (o.field.offset + o.field.width as usize).div_ceil(8)).max()
}

fn parse_operations(args: Args) -> Result<Vec<Operation>, Refusal> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 0;
    while at < args.len() {
        let behind = args.len() - at - 1;
        if args.is(at, "overflow") && behind >= 1 {
            overflow = parse_overflow(args, at + 1)?;
            at += 2;
            continue;
        }
        let (is_set, is_add) = (args.is(at, "set"), args.is(at, "incrby"));
        if !(args.is(at, "get") && behind >= 2 || (is_set || is_add) && behind >= 3) {
            return Err(Refusal::Syntax);
        }
        let field = Field::parse(&args[at + 1], &args[at + 2])?;
        let action = if is_set {
            Action::Set(parse::int(&args[at + 3])?, overflow)
        } else if is_add {
            Action::Add(parse::int(&args[at + 3])?, overflow)
        } else {
            Action::Get
        };
        operations.push(Operation { action, field });
        at += if is_set || is_add { 4 } else { 3 };
    }
    Ok(operations)
}

fn parse_overflow(args: Args, at: usize) -> Result<Overflow, Refusal> {
    if args.is(at, "wrap") {
        Ok(Overflow::Wrap)
    } else if args.is(at, "sat") {
        Ok(Overflow::Saturate)
    } else if args.is(at, "fail") {
        Ok(Overflow::Fail)
    } else {
        Err(Refusal::text("ERR Invalid OVERFLOW type specified"))
    }
}

impl Field {
    /// Reads `u8` or `i16`, and an offset in bits, or in fields behind a `#`.
    fn parse(form: &[u8], offset: &[u8]) -> Result<Field, Refusal> {
        let (signed, width) = match form {
            [b'i', width @ ..] => (true, number::parse_i64(width)),
            [b'u', width @ ..] => (false, number::parse_i64(width)),
            _ => (false, None),
        };
        let width_max = if signed { 64 } else { 63 };
        let Some(width) = width.filter(|w| (1..=width_max).contains(w)) else {
            return Err(Refusal::text(
                "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
            ));
        };
        let offset = match offset {
            [b'#', count @ ..] => bitmaps::scaled_bit_offset(count, width)?,
            _ => bitmaps::bit_offset(offset)?,
        };
        Ok(Field { offset, width: width as u32, signed })
    }

    fn read(self, bytes: &[u8]) -> i64 {
        self.extend(bits::field(bytes, self.offset, self.width))
    }

    /// The low bits of `raw` as a number of this form.
    fn extend(self, raw: u64) -> i64 {
        let unused = 64 - self.width;
        if self.signed { (raw << unused) as i64 >> unused } else { (raw << unused >> unused) as i64 }
    }

    /// An argument of `SET` without bounds: for an unsigned field -1 is the largest number of 64 bits.
    fn widen(self, value: i64) -> i128 {
        if self.signed { i128::from(value) } else { i128::from(value as u64) }
    }

    /// `wanted` if the field can hold it, else what `overflow` makes of it.
    fn fit(self, wanted: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = if self.signed {
            (-(1i128 << (self.width - 1)), (1i128 << (self.width - 1)) - 1)
        } else {
            (0, (1i128 << self.width) - 1)
        };
        let bounded = wanted.clamp(min, max);
        if bounded == wanted {
            return Some(wanted as i64);
        }
        match overflow {
            Overflow::Wrap => Some(self.extend(wanted as u64)),
            Overflow::Saturate => Some(bounded as i64),
            Overflow::Fail => None,
        }
    }
}
