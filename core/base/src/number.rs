//! Numbers as Redis reads and writes them. The text of a float is part of replicated state (`INCRBYFLOAT`), so it is
//! made here and nowhere else.

/// Parses a signed 64-bit integer the strict way: no blanks, no `+`, no leading zeros, no `-0`.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value: u64 = 0;
    for d in digits {
        if !d.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(d - b'0'))?;
    }
    if negative {
        (value <= 1 << 63).then(|| (value as i64).wrapping_neg())
    } else {
        i64::try_from(value).ok()
    }
}

/// Parses an unsigned 64-bit integer, as strict as [`parse_i64`].
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    if text.len() > 1 && text[0] == b'0' || text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0u64, |v, d| {
        if d.is_ascii_digit() { v.checked_mul(10)?.checked_add(u64::from(d - b'0')) } else { None }
    })
}

/// Parses a double as Redis does: decimal or hexadecimal, `inf`, `+inf`, `-infinity`; no blanks, no NaN, no overflow
/// of a finite text to infinity, no underflow of another number to zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    if text.is_empty() || !text.is_ascii() || text.starts_with(|c: char| c.is_whitespace()) {
        return None;
    }
    let (sign, body) = match text.as_bytes()[0] {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if body.eq_ignore_ascii_case("inf") || body.eq_ignore_ascii_case("infinity") {
        return Some(sign * f64::INFINITY);
    }
    if body.len() > 2 && (body.starts_with("0x") || body.starts_with("0X")) {
        return parse_hex(&body[2..]).map(|v| sign * v);
    }
    if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value: f64 = body.parse().ok()?;
    let mantissa = body.split(['e', 'E']).next().unwrap_or(body);
    let underflow = value == 0.0 && mantissa.contains(|c: char| ('1'..='9').contains(&c));
    (value.is_finite() && !underflow).then_some(sign * value)
}

/// The digits of `0x1.8p3` behind `0x`.
fn parse_hex(body: &str) -> Option<f64> {
    let (mantissa, exponent) = match body.find(['p', 'P']) {
        Some(at) => (&body[..at], body[at + 1..].parse::<i32>().ok()?),
        None => (body, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0f64;
    for c in whole.chars() {
        value = value * 16.0 + f64::from(c.to_digit(16)?);
    }
    let mut unit = 1.0 / 16.0;
    for c in fraction.chars() {
        value += f64::from(c.to_digit(16)?) * unit;
        unit /= 16.0;
    }
    let value = value * 2f64.powi(exponent.clamp(-2000, 2000));
    value.is_finite().then_some(value)
}

/// Writes a double as Redis 7.4 replies with it (`ZSCORE`, RESP3 doubles): the shortest text that reads back equal;
/// `inf`, `-inf`, `nan`; integers up to 2^62 without a point; an exponent like `1e+20` where the plain form would be long.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return out.extend_from_slice(b"nan");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
    }
    if value == 0.0 {
        return out.extend_from_slice(if value.is_sign_negative() { b"-0" } else { b"0" });
    }
    if value.fract() == 0.0 && value.abs() <= 4_611_686_018_427_387_904.0 {
        return write_i64(out, value as i64);
    }
    // Rust's `{:e}` gives the shortest digits that read back equal (Grisu with Dragon fallback).
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').expect("{:e} writes an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} writes a decimal exponent");
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    out.extend_from_slice(sign.as_bytes());
    emit_digits(out, digits.as_bytes(), exponent);
}

/// Lays out `digits` (the first one before the point) times 10^`exponent` as fpconv_dtoa does, which Redis 7.2+ uses.
fn emit_digits(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    let count = digits.len() as i32;
    let last = exponent - (count - 1); // power of ten of the last digit
    if last >= 0 && exponent.abs() < count + 7 {
        out.extend_from_slice(digits);
        out.resize(out.len() + last as usize, b'0');
        return;
    }
    if last < 0 && (last > -7 || exponent.abs() < 4) {
        if exponent < 0 {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + (-exponent - 1) as usize, b'0');
            out.extend_from_slice(digits);
        } else {
            let whole = exponent as usize + 1;
            out.extend_from_slice(&digits[..whole]);
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
        return;
    }
    out.push(digits[0]);
    if count > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.push(b'e');
    out.push(if exponent < 0 { b'-' } else { b'+' });
    write_i64(out, i64::from(exponent.abs()));
}

/// Writes a finite double with up to 17 digits behind the point and no exponent, as Redis does with coordinates.
pub fn write_f64_plain(out: &mut Vec<u8>, value: f64) {
    let text = format!("{value:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    out.extend_from_slice(if text == "-0" { b"0" } else { text.as_bytes() });
}

/// Appends `value` in decimal.
#[inline]
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(format_i64(value, &mut [0; 20]));
}

/// The decimal digits of 0 to 99: two at a time halve the divisions.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// `value` in decimal, at the end of `room`.
#[inline]
pub fn format_u64(value: u64, room: &mut [u8; 20]) -> &[u8] {
    let at = put_digits(value, room);
    &room[at..]
}

/// `value` in decimal, at the end of `room`.
#[inline]
pub fn format_i64(value: i64, room: &mut [u8; 20]) -> &[u8] {
    let mut at = put_digits(value.unsigned_abs(), room);
    if value < 0 {
        at -= 1;
        room[at] = b'-';
    }
    &room[at..]
}

/// Writes `rest` at the end of `room` and gives the place of its first digit.
#[inline]
fn put_digits(mut rest: u64, room: &mut [u8; 20]) -> usize {
    let mut at = room.len();
    while rest >= 100 {
        at -= 2;
        room[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    if rest >= 10 {
        at -= 2;
        room[at..at + 2].copy_from_slice(&PAIRS[rest as usize]);
    } else {
        at -= 1;
        room[at] = b'0' + rest as u8;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_as_they_are_read() {
        let powers = (0..20).map(|n| 10u64.pow(n)).flat_map(|p| [p - 1, p, p + 1, p + p / 10]);
        for value in powers.chain([0, 9, 10, 99, 100, u64::MAX, 1 << 63]) {
            assert_eq!(format_u64(value, &mut [0; 20]), value.to_string().as_bytes());
            for signed in [value as i64, (value as i64).wrapping_neg()] {
                assert_eq!(format_i64(signed, &mut [0; 20]), signed.to_string().as_bytes());
            }
        }
    }

    #[test]
    fn integers_are_read_strictly() {
        let table: [(&str, Option<i64>); 14] = [
            ("0", Some(0)),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("1 ", None),
            ("", None),
            ("-", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("1.0", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_i64(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
    }

    #[test]
    fn floats_are_written_as_redis_7_4_does() {
        let table: [(f64, &str); 15] = [
            (1.0, "1"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (3.15, "3.15"),
            (1e20, "1e+20"),
            (1e18, "1000000000000000000"),
            (1e22, "1e+22"),
            (1.5e-7, "1.5e-7"),
            (0.000001, "0.000001"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (-0.0, "-0"),
            (9007199254740993.0, "9007199254740992"),
            (10.6, "10.6"),
            (123456.789, "123456.789"),
        ];
        for (value, expected) in table {
            let mut out = Vec::new();
            write_f64(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn plain_floats_have_no_exponent_and_no_trailing_zeros() {
        let table = [(0.0, "0"), (-1e-30, "0"), (-180.0, "-180"), (0.1, "0.10000000000000001"), (2.5, "2.5")];
        for (value, expected) in table {
            let mut out = Vec::new();
            write_f64_plain(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn floats_are_read_as_redis_does() {
        for (text, expected) in [
            ("1", Some(1.0)),
            ("+1.5", Some(1.5)),
            (".5", Some(0.5)),
            ("1e3", Some(1000.0)),
            ("inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("0x10", Some(16.0)),
            ("0x1.8p1", Some(3.0)),
            ("nan", None),
            ("", None),
            (" 1", None),
            ("1 ", None),
            ("1e400", None),
            ("1e-400", None),
            ("0e-400", Some(0.0)),
            ("--1", None),
            ("e1", None),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), expected, "{text}");
        }
    }
}
