//! Numbers as C reads and writes them: `strtod` and `printf("%.14g")`, which `cjson` is made of.

/// Appends `value` as `%.{precision}g` of C has it. `value` is finite.
pub(crate) fn write_g(out: &mut Vec<u8>, value: f64, precision: usize) {
    let precision = precision.max(1);
    let text = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = text.split_once('e').expect("{:e} writes an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} writes a decimal exponent");
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits: Vec<u8> = mantissa.bytes().filter(|c| *c != b'.').collect();
    let kept = digits.iter().rposition(|c| *c != b'0').map_or(1, |last| last + 1);
    let digits = &digits[..kept];
    out.extend_from_slice(sign.as_bytes());
    if exponent < -4 || exponent >= precision as i32 {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("e{sign}{:02}", exponent.abs()).as_bytes());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (-exponent - 1) as usize, b'0');
        out.extend_from_slice(digits);
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            out.extend_from_slice(digits);
            out.resize(out.len() + whole - digits.len(), b'0');
        } else {
            out.extend_from_slice(&digits[..whole]);
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    }
}

/// The number at the start of `text` and how long it is, as `strtod` has it: hexadecimal, infinity and NaN too.
pub(crate) fn read_c_double(text: &[u8]) -> Option<(f64, usize)> {
    let signed = matches!(text.first(), Some(b'-' | b'+'));
    let negative = text.first() == Some(&b'-');
    let at = usize::from(signed);
    let (value, len) = read_unsigned(&text[at..])?;
    Some((if negative { -value } else { value }, at + len))
}

fn read_unsigned(text: &[u8]) -> Option<(f64, usize)> {
    let starts = |word: &[u8]| text.get(..word.len()).is_some_and(|t| t.eq_ignore_ascii_case(word));
    if starts(b"infinity") {
        return Some((f64::INFINITY, 8));
    }
    if starts(b"inf") {
        return Some((f64::INFINITY, 3));
    }
    if starts(b"nan") {
        return Some((f64::NAN, 3));
    }
    if starts(b"0x")
        && let Some(found) = read_hexadecimal(&text[2..])
    {
        return Some((found.0, found.1 + 2));
    }
    let whole = digits_at(text, 0);
    let mut len = whole;
    let mut any = whole > 0;
    if text.get(len) == Some(&b'.') {
        let part = digits_at(text, len + 1);
        any |= part > 0;
        len += if any { 1 + part } else { 0 };
    }
    if !any {
        return None;
    }
    if matches!(text.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(len + 1), Some(b'-' | b'+')));
        let power = digits_at(text, len + 1 + sign);
        if power > 0 {
            len += 1 + sign + power;
        }
    }
    let number = std::str::from_utf8(&text[..len]).expect("digits, points and signs");
    Some((number.parse().expect("a decimal number"), len))
}

fn digits_at(text: &[u8], at: usize) -> usize {
    text.get(at..).unwrap_or_default().iter().take_while(|c| c.is_ascii_digit()).count()
}

fn read_hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    let mut value = 0f64;
    let mut len = 0;
    let mut digits = 0;
    let mut power = 0i32;
    let mut behind_point = false;
    while let Some(&c) = text.get(len) {
        if c == b'.' && !behind_point {
            behind_point = true;
        } else if let Some(digit) = char::from(c).to_digit(16) {
            digits += 1;
            // Digits that no longer fit a double only move the point; the last bit may differ from C's rounding.
            if value < 4_503_599_627_370_496.0 {
                value = value * 16.0 + f64::from(digit);
                power -= if behind_point { 4 } else { 0 };
            } else {
                power += if behind_point { 0 } else { 4 };
            }
        } else {
            break;
        }
        len += 1;
    }
    if digits == 0 {
        return None;
    }
    if matches!(text.get(len), Some(b'p' | b'P')) {
        let negative = text.get(len + 1) == Some(&b'-');
        let sign = usize::from(matches!(text.get(len + 1), Some(b'-' | b'+')));
        let count = digits_at(text, len + 1 + sign);
        if count > 0 {
            let digits = &text[len + 1 + sign..len + 1 + sign + count];
            let n = digits.iter().fold(0i32, |n, c| n.saturating_mul(10).saturating_add(i32::from(c - b'0')));
            power = power.saturating_add(if negative { -n } else { n });
            len += 1 + sign + count;
        }
    }
    Some((scale(value, power), len))
}

/// `value` times two to the `power`, in steps that neither overflow nor underflow early.
fn scale(mut value: f64, power: i32) -> f64 {
    let mut rest = power.clamp(-5000, 5000);
    while rest != 0 && value != 0.0 && value.is_finite() {
        let step = rest.clamp(-1000, 1000);
        value *= 2f64.powi(step);
        rest -= step;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn g(value: f64, precision: usize) -> String {
        let mut out = Vec::new();
        write_g(&mut out, value, precision);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_printf_does() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-12.5, "-12.5"),
            (1.0 / 3.0, "0.33333333333333"),
            (1e20, "1e+20"),
            (123_456_789_012_345_680.0, "1.2345678901235e+17"),
            (99_999_999_999_999.0, "99999999999999"),
            (100_000_000_000_000.0, "1e+14"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (1e300, "1e+300"),
        ] {
            assert_eq!(g(value, 14), text);
        }
        assert_eq!(g(2.666_66, 3), "2.67");
        assert_eq!(g(0.25, 1), "0.2");
        assert_eq!(g(999.9, 3), "1e+03");
    }

    #[test]
    fn numbers_are_read_as_strtod_does() {
        for (text, value, len) in [
            ("12,", 12.0, 2),
            ("-1.5e3]", -1500.0, 6),
            ("1e", 1.0, 1),
            ("1.e2", 100.0, 4),
            (".5", 0.5, 2),
            ("0x10", 16.0, 4),
            ("0x1.8p1", 3.0, 7),
            ("0xg", 0.0, 1),
            ("inf", f64::INFINITY, 3),
            ("-Infinity", f64::NEG_INFINITY, 9),
        ] {
            assert_eq!(read_c_double(text.as_bytes()), Some((value, len)), "{text}");
        }
        assert!(read_c_double(b"nan").unwrap().0.is_nan());
        for text in ["", "-", ".", "+x", "e5"] {
            assert_eq!(read_c_double(text.as_bytes()), None, "{text}");
        }
    }
}
