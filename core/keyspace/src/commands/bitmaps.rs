//! Strings as arrays of bits. Redis 7.4 reads every argument before it looks at the key; 7.0 did not.

use std::ops::Range;

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::{Group, bitfield, parse};
use crate::bits;
use crate::context::{ReadCx, WriteCx};
use crate::db::NEVER;
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;
use crate::types::Str;

pub const COMMANDS: Group = &[
    ("setbit", Write(setbit)),
    ("getbit", Read(getbit)),
    ("bitcount", Read(bitcount)),
    ("bitpos", Read(bitpos)),
    ("bitop", Write(bitop)),
    ("bitfield", Write(bitfield::bitfield)),
    ("bitfield_ro", Read(bitfield::bitfield_ro)),
];

/// An offset in bits, within the longest string.
pub fn bit_offset(arg: &[u8]) -> Result<usize, Refusal> {
    scaled_bit_offset(arg, 1)
}

/// An offset in units of `scale` bits.
pub fn scaled_bit_offset(arg: &[u8], scale: i64) -> Result<usize, Refusal> {
    skep_base::number::parse_i64(arg)
        .and_then(|offset| usize::try_from(offset.checked_mul(scale)?).ok())
        .filter(|offset| offset / 8 < parse::STRING_BYTES_MAX)
        .ok_or(Refusal::text("ERR bit offset is not an integer or out of range"))
}

fn setbit(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let offset = bit_offset(&args[2])?;
    let bit = match &args[3] {
        b"0" => false,
        b"1" => true,
        _ => return Err(Refusal::text("ERR bit is not an integer or out of range")),
    };
    let (before, grows) = cx.update_or_create(&args[1], |value: &mut Str| {
        let grows = value.len() <= offset / 8;
        Ok((bits::set(value.grow_to(offset / 8 + 1), offset, bit), grows))
    })?;
    cx.event_if(grows || before != bit, Class::String, "setbit", &args[1]);
    reply.int(i64::from(before));
    Ok(())
}

fn getbit(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let offset = bit_offset(&args[2])?;
    let bit = cx.read::<Str>(&args[1])?.is_some_and(|value| bits::get(value.as_slice(), offset));
    reply.int(i64::from(bit));
    Ok(())
}

fn bitcount(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let span = match args.len() {
        2 => Span { start: 0, end: -1, bits_each: 8 },
        4 | 5 => Span { start: parse::int(&args[2])?, end: parse::int(&args[3])?, bits_each: unit(args, 4)? },
        _ => return Err(Refusal::Syntax),
    };
    let value = cx.read::<Str>(&args[1])?.map_or(&b""[..], Str::as_slice);
    let range = if span.start < 0 && span.end < 0 && span.start > span.end { 0..0 } else { span.of(value) };
    reply.len(bits::count(value, range));
    Ok(())
}

fn bitpos(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let bit = match parse::int(&args[2])? {
        0 => false,
        1 => true,
        _ => return Err(Refusal::text("ERR The bit argument must be 1 or 0.")),
    };
    if args.len() > 6 {
        return Err(Refusal::Syntax);
    }
    let start = args.get(3).map_or(Ok(0), parse::int)?;
    let bits_each = unit(args, 5)?;
    let end = args.get(4).map(parse::int).transpose()?;
    let Some(value) = cx.read::<Str>(&args[1])? else {
        // No key is endless zeros.
        reply.int(if bit { -1 } else { 0 });
        return Ok(());
    };
    let value = value.as_slice();
    let range = Span { start, end: end.unwrap_or(-1), bits_each }.of(value);
    let behind = range.end;
    match bits::position(value, range.clone(), bit) {
        Some(at) => reply.len(at),
        // Zeros follow the value, unless the caller said where to end.
        None if !bit && end.is_none() && !range.is_empty() => reply.len(behind),
        None => reply.int(-1),
    }
    Ok(())
}

/// `BYTE` or `BIT` at `at`, as the bits of one; bytes if it is not said.
fn unit(args: Args, at: usize) -> Result<i64, Refusal> {
    if args.get(at).is_none() || args.is(at, "byte") {
        Ok(8)
    } else if args.is(at, "bit") {
        Ok(1)
    } else {
        Err(Refusal::Syntax)
    }
}

/// A range as the caller wrote it, inclusive, from the end if negative.
struct Span {
    start: i64,
    end: i64,
    /// Bits of the unit that `start` and `end` count.
    bits_each: i64,
}

impl Span {
    /// The bits of `value` that it means. A bound before the first unit means the first.
    fn of(&self, value: &[u8]) -> Range<usize> {
        let units = value.len() as i64 * 8 / self.bits_each;
        let bound = |at: i64| if at < 0 { at.saturating_add(units).max(0) } else { at };
        let (start, end) = (bound(self.start), bound(self.end).min(units - 1));
        if start > end {
            return 0..0;
        }
        (start * self.bits_each) as usize..((end + 1) * self.bits_each) as usize
    }
}

fn bitop(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (target, sources) = (&args[2], args.from(3));
    let operators = ["and", "or", "xor", "not"];
    let operator = *operators.iter().find(|name| args.is(1, name)).ok_or(Refusal::Syntax)?;
    if operator == "not" && sources.len() != 1 {
        return Err(Refusal::text("ERR BITOP NOT must be called with a single source key."));
    }
    let mut values = Vec::with_capacity(sources.len());
    for key in sources.iter() {
        values.push(cx.read_value::<Str>(key)?.map_or(&b""[..], Str::as_slice));
    }
    let len = values.iter().map(|v| v.len()).max().unwrap_or(0);
    let mut result = vec![0; len];
    result[..values[0].len()].copy_from_slice(values[0]);
    match operator {
        "and" => fold(&mut result, &values[1..], |a, b| a & b),
        "or" => fold(&mut result, &values[1..], |a, b| a | b),
        "xor" => fold(&mut result, &values[1..], |a, b| a ^ b),
        _ => result.iter_mut().for_each(|byte| *byte = !*byte),
    }
    if len > 0 {
        cx.put(target, Str::from_vec(result), NEVER);
        cx.event(Class::String, "set", target);
    } else if cx.remove(target) {
        cx.event(Class::Generic, "del", target);
    }
    reply.len(len);
    Ok(())
}

/// Combines `result` with each of `values`, as if they were filled up with zeros. A loop that the compiler turns into
/// vector instructions.
fn fold(result: &mut [u8], values: &[&[u8]], combine: impl Fn(u8, u8) -> u8) {
    for value in values {
        let (head, tail) = result.split_at_mut(value.len());
        for (a, b) in head.iter_mut().zip(*value) {
            *a = combine(*a, *b);
        }
        for a in tail {
            *a = combine(*a, 0);
        }
    }
}
