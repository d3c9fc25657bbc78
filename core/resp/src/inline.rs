//! Splits an inline command (a line as a person types it) into arguments, with Redis's rules of quoting.
//!
//! Bytes are bytes: a NUL is one like any other.

use skep_base::Span;

/// True if the line may hold quotes, so that its arguments are not simply slices of it.
pub fn is_quoted(line: &[u8]) -> bool {
    line.iter().any(|b| matches!(b, b'"' | b'\''))
}

/// The blanks of C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The blanks that end an unquoted argument; vertical tab and form feed do not.
fn ends_plain(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Splits a line without quotes; `spans` refer to `line`.
pub fn split_plain(line: &[u8], spans: &mut Vec<Span>) {
    let mut at = 0;
    while let Some(skip) = line[at..].iter().position(|b| !is_blank(*b)) {
        let start = at + skip;
        at = line[start..].iter().position(|b| ends_plain(*b)).map_or(line.len(), |n| start + n);
        spans.push(Span { start: start as u32, len: (at - start) as u32 });
    }
}

/// Splits a line with quotes into `scratch`, to which `spans` refer. False: a quote is not closed, or is closed in the
/// middle of an argument.
pub fn split_quoted(line: &[u8], scratch: &mut Vec<u8>, spans: &mut Vec<Span>) -> bool {
    let mut at = 0;
    while let Some(skip) = line[at..].iter().position(|b| !is_blank(*b)) {
        let start = scratch.len();
        match argument(line, at + skip, scratch) {
            Some(end) => at = end,
            None => return false,
        }
        spans.push(Span { start: start as u32, len: (scratch.len() - start) as u32 });
    }
    true
}

/// Appends the argument at `at`; gives the position behind it, or `None` for unbalanced quotes.
fn argument(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    loop {
        match line.get(at) {
            Some(b'"') => return closed(line, double_quoted(line, at + 1, out)?),
            Some(b'\'') => return closed(line, single_quoted(line, at + 1, out)?),
            Some(&byte) if !ends_plain(byte) => out.push(byte),
            _ => return Some(at),
        }
        at += 1;
    }
}

/// A closing quote ends the argument: a blank or the end of the line must follow.
fn closed(line: &[u8], at: usize) -> Option<usize> {
    line.get(at).is_none_or(|b| is_blank(*b)).then_some(at)
}

fn double_quoted(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    loop {
        match line[at.min(line.len())..] {
            [b'"', ..] => return Some(at + 1),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex(high) << 4 | hex(low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            [byte, ..] => {
                out.push(byte);
                at += 1;
            }
            [] => return None,
        }
    }
}

fn single_quoted(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    loop {
        match line[at.min(line.len())..] {
            [b'\'', ..] => return Some(at + 1),
            [b'\\', b'\'', ..] => {
                out.push(b'\'');
                at += 2;
            }
            [byte, ..] => {
                out.push(byte);
                at += 1;
            }
            [] => return None,
        }
    }
}

/// The value of an ASCII hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        other => other - b'A' + 10,
    }
}
