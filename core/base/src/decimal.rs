//! Addition of decimal texts in 80-bit x87 arithmetic, as `INCRBYFLOAT` and `HINCRBYFLOAT` of Redis do it on x86-64.
//!
//! The text of the sum is replicated state, so it is computed in software: the same on every machine. Redis reads with
//! `strtold`, adds `long double`s and prints with `%.17Lf`, cutting trailing zeros; each of the three steps rounds, and
//! `0.1 + 0.2 = 0.3` holds only because of the first two. Owns no other arithmetic; doubles are in [`crate::number`].

use rustc_apfloat::ieee::X87DoubleExtended;
use rustc_apfloat::{Float, Round, Status};

use crate::number;

/// Redis copies a number into a buffer of 5 KiB, a zero byte included, before it reads it.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;

/// Digits printed behind the point.
const FRACTION_DIGITS: u32 = 17;

/// A finite or infinite 80-bit extended number. Never NaN.
#[derive(Clone, Copy, Debug)]
pub struct LongDouble(X87DoubleExtended);

impl LongDouble {
    /// Reads what `strtold` reads whole: decimal or hexadecimal with optional sign and exponent, `inf`, `infinity`. No
    /// blanks, no NaN, nothing that overflows or that is not zero but rounds to it. Cost: quadratic in the text, which is
    /// limited to 5 KiB.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (minus, body) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let signed = |value: X87DoubleExtended| Some(LongDouble(if minus { -value } else { value }));
        if body.eq_ignore_ascii_case(b"inf") || body.eq_ignore_ascii_case(b"infinity") {
            return signed(X87DoubleExtended::INFINITY);
        }
        let body = std::str::from_utf8(body).ok()?;
        let parsed = match body.strip_prefix("0x").or(body.strip_prefix("0X")) {
            None => {
                check_shape(body, 'e', u8::is_ascii_digit)?;
                X87DoubleExtended::from_str_r(body, Round::NearestTiesToEven)
            }
            Some(digits) if check_shape(digits, 'p', u8::is_ascii_hexdigit)? => {
                X87DoubleExtended::from_str_r(body, Round::NearestTiesToEven)
            }
            // The library insists on an exponent, C does not.
            Some(_) => X87DoubleExtended::from_str_r(&format!("{body}p0"), Round::NearestTiesToEven),
        };
        let parsed = parsed.ok()?;
        let vanished = parsed.status.contains(Status::UNDERFLOW) && parsed.value.is_zero();
        if vanished || !parsed.value.is_finite() {
            return None;
        }
        signed(parsed.value)
    }

    pub fn is_finite(self) -> bool {
        self.0.is_finite()
    }

    /// The rounded sum; `None` if it is infinite or not a number.
    pub fn plus(self, other: LongDouble) -> Option<LongDouble> {
        let sum = (self.0 + other.0).value;
        sum.is_finite().then_some(LongDouble(sum))
    }

    /// Appends the number with at most 17 digits behind the point, without trailing zeros or exponent. Negative zero is
    /// `0`, infinities are `inf` and `-inf`. At most 4,951 bytes.
    pub fn write(self, out: &mut Vec<u8>) {
        if !self.is_finite() {
            return out.extend_from_slice(if self.0.is_negative() { b"-inf" } else { b"inf" });
        }
        let bits = self.0.to_bits();
        let significand = bits as u64;
        let biased = (bits >> 64) as i32 & 0x7fff;
        // The value is significand * 2^exponent; subnormals share the smallest exponent.
        let exponent = biased.max(1) - 16_383 - 63;
        let start = out.len();
        if self.0.is_negative() {
            out.push(b'-');
        }
        match u32::try_from(exponent) {
            Ok(shift) => write_shifted(out, significand, shift),
            Err(_) => write_fraction(out, significand, exponent.unsigned_abs()),
        }
        if out[start..] == *b"-0" {
            out.remove(start);
        }
    }
}

/// Checks `digits[.digits][e[+-]digits]` with at least one digit before the exponent and one in it; gives whether there is
/// an exponent. The library's parser is more lenient.
fn check_shape(body: &str, mark: char, is_digit: fn(&u8) -> bool) -> Option<bool> {
    let (mantissa, exponent) = match body.find([mark, mark.to_ascii_uppercase()]) {
        Some(at) => (&body[..at], Some(&body[at + 1..])),
        None => (body, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = |part: &str| part.bytes().all(|b| is_digit(&b));
    if whole.len() + fraction.len() == 0 || !all(whole) || !all(fraction) {
        return None;
    }
    let Some(exponent) = exponent else { return Some(false) };
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some(true)
}

/// Appends `significand * 2^shift`.
fn write_shifted(out: &mut Vec<u8>, significand: u64, shift: u32) {
    const GROUP: u64 = 1_000_000_000; // nine digits at a time
    let mut limbs = vec![0u32; (shift / 32) as usize];
    let spread = u128::from(significand) << (shift % 32);
    limbs.extend([spread as u32, (spread >> 32) as u32, (spread >> 64) as u32]);
    let mut groups = Vec::new();
    while !limbs.is_empty() {
        let mut rest = 0u64;
        for limb in limbs.iter_mut().rev() {
            let value = rest << 32 | u64::from(*limb);
            *limb = (value / GROUP) as u32;
            rest = value % GROUP;
        }
        groups.push(rest);
        while limbs.last() == Some(&0) {
            limbs.pop();
        }
    }
    number::write_i64(out, groups.pop().unwrap_or(0) as i64);
    for group in groups.iter().rev() {
        out.extend_from_slice(format!("{group:09}").as_bytes());
    }
}

/// Appends `significand / 2^shift` for a shift above zero, rounded to 17 digits behind the point, ties to even as printf does.
fn write_fraction(out: &mut Vec<u8>, significand: u64, shift: u32) {
    let unit = 10u64.pow(FRACTION_DIGITS);
    let scaled = u128::from(significand) * u128::from(unit); // below 2^121
    let mut quotient = scaled.checked_shr(shift).unwrap_or(0);
    // With a shift of 122 and more the half is above any remainder.
    if shift < 122 {
        let half = 1u128 << (shift - 1);
        let remainder = scaled & (half << 1).wrapping_sub(1);
        if remainder > half || remainder == half && quotient & 1 == 1 {
            quotient += 1;
        }
    }
    number::write_i64(out, (quotient / u128::from(unit)) as i64);
    let fraction = format!("{:017}", quotient % u128::from(unit));
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let sum = LongDouble::parse(a.as_bytes())?.plus(LongDouble::parse(b.as_bytes())?)?;
        let mut out = Vec::new();
        sum.write(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    /// Sums printed by a C program on x86-64 glibc with `strtold`, `+` and `%.17Lf`, zeros cut.
    #[test]
    fn sums_are_those_of_c_on_x86() {
        for line in include_str!("../testdata/long_double.txt").lines().filter(|l| !l.starts_with('#')) {
            let [a, b, expected] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("three columns: {line}")
            };
            assert_eq!(sum(a, b).as_deref().unwrap_or("refused"), expected, "{a} + {b}");
        }
    }

    #[test]
    fn texts_are_read_whole_or_refused() {
        for text in [
            "",
            " 1",
            "1 ",
            "1\0",
            "nan",
            "-nan",
            "nan(1)",
            "e5",
            "1e",
            "1e+",
            ".",
            "-",
            "+-1",
            "--1",
            "0x",
            "0x.",
            "0x1p",
            "1e5000",
            "-1e5000",
            "1e-5000",
            "0x1p-99999",
            "1_0",
            "inf1",
            "infinit",
            "１",
            "1..2",
            "1.2.3",
            "1e1.5",
            "Infi",
        ] {
            assert!(LongDouble::parse(text.as_bytes()).is_none(), "{text:?}");
        }
        for text in [
            "5.",
            ".5",
            "0e99999999999999999999",
            "0x10",
            "0X.8p1",
            "0x1p+3",
            "inf",
            "-INFINITY",
            "+Inf",
            "1E5",
        ] {
            assert!(LongDouble::parse(text.as_bytes()).is_some(), "{text:?}");
        }
        assert!(LongDouble::parse(&[b'1'; TEXT_BYTES_MAX]).is_none(), "overflows");
        assert!(LongDouble::parse(&[b'0'; TEXT_BYTES_MAX]).is_some());
        assert!(LongDouble::parse(&[b'0'; TEXT_BYTES_MAX + 1]).is_none());
    }

    #[test]
    fn sums_that_are_no_number_are_refused() {
        assert_eq!(sum("inf", "-inf"), None);
        assert_eq!(sum("inf", "1"), None);
        assert_eq!(sum("1.1e4932", "1.1e4932"), None);
        assert_eq!(sum("-1", "1"), Some("0".into()));
        assert_eq!(sum("-0", "-0.0"), Some("0".into()));
        assert_eq!(sum("-1e-18", "0"), Some("0".into()));
    }
}
