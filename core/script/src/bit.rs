//! The `bit` library: operations on 32-bit integers, as LuaBitOp (bitop.luajit.org) has them.

use crate::lua::{Kind, Raise, Stack};

pub(crate) fn open(s: Stack) {
    s.push_table(0, 12);
    let functions: [(&str, crate::lua::Native); 12] = [
        ("tobit", |s| push(s, bits(s, 1)?)),
        ("bnot", |s| push(s, !bits(s, 1)?)),
        ("band", |s| fold(s, |a, b| a & b)),
        ("bor", |s| fold(s, |a, b| a | b)),
        ("bxor", |s| fold(s, |a, b| a ^ b)),
        ("lshift", |s| shift(s, |a, n| a << n)),
        ("rshift", |s| shift(s, |a, n| a >> n)),
        ("arshift", |s| shift(s, |a, n| (a as i32 >> n) as u32)),
        ("rol", |s| shift(s, u32::rotate_left)),
        ("ror", |s| shift(s, u32::rotate_right)),
        ("bswap", |s| push(s, bits(s, 1)?.swap_bytes())),
        ("tohex", tohex),
    ];
    for (name, function) in functions {
        s.push_native(function);
        s.set_field(-2, name);
    }
}

/// The argument, rounded to the nearest integer and taken modulo 2^32.
fn bits(s: Stack, argument: i32) -> Result<u32, Raise> {
    // 2^52 + 2^51: the integer ends up in the low bits of the mantissa.
    let shifted = s.check_number(argument)? + 6_755_399_441_055_744.0;
    Ok(shifted.to_bits() as u32)
}

fn push(s: Stack, bits: u32) -> Result<i32, Raise> {
    s.push_number(f64::from(bits as i32));
    Ok(1)
}

fn fold(s: Stack, operation: fn(u32, u32) -> u32) -> Result<i32, Raise> {
    let mut result = bits(s, 1)?;
    for argument in 2..=s.top() {
        result = operation(result, bits(s, argument)?);
    }
    push(s, result)
}

fn shift(s: Stack, operation: fn(u32, u32) -> u32) -> Result<i32, Raise> {
    let value = bits(s, 1)?;
    push(s, operation(value, bits(s, 2)? & 31))
}

fn tohex(s: Stack) -> Result<i32, Raise> {
    let value = bits(s, 1)?;
    let digits = if s.kind(2) == Kind::None { 8 } else { bits(s, 2)? as i32 };
    let text = if digits < 0 { format!("{value:08X}") } else { format!("{value:08x}") };
    let digits = digits.unsigned_abs().min(8) as usize;
    s.push_bytes(&text.as_bytes()[8 - digits..]);
    Ok(1)
}
