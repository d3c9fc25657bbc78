//! Hosts and paths in the one form in which they are compared.
//!
//! INV-GATE-2: what is matched is what is sent on. A path is brought to its normal form once, before routing, and the
//! upstream gets that form; what servers may read in several ways beyond it is judged in [`super::readings`].

use std::borrow::Cow;

use super::readings::{has_escaped_slash, merged};
use crate::config::{Config, EscapedSlashes};

/// Why a path is refused; the answer is 400.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadPath {
    /// It does not begin with `/`.
    NotAbsolute,
    /// A `%` without two hexadecimal digits behind it.
    BadEscape,
    /// A control character, a space, a backslash or a byte above 127, as it is or escaped as a control character.
    BadByte,
    /// `..` leads above the root.
    AboveRoot,
    /// `%2F` or `%5C`, which the configuration refuses.
    EscapedSlash,
}

impl std::fmt::Display for BadPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BadPath::NotAbsolute => "the path does not begin with /",
            BadPath::BadEscape => "the path has a % without two hexadecimal digits",
            BadPath::BadByte => "the path has a byte that no path may have",
            BadPath::AboveRoot => "the path leads above the root",
            BadPath::EscapedSlash => "the path has an escaped slash or backslash",
        })
    }
}

/// The path of a request as a configuration has it matched and sent on.
///
/// # Errors
/// [`BadPath`]: the request is to be answered 400.
pub fn request_path<'p>(config: &Config, path: &'p str) -> Result<Cow<'p, str>, BadPath> {
    let normal = normal_path(path)?;
    if config.escaped_slashes == EscapedSlashes::Refuse && has_escaped_slash(&normal) {
        return Err(BadPath::EscapedSlash);
    }
    match config.merge_slashes && normal.contains("//") {
        true => Ok(Cow::Owned(merged(&normal))),
        false => Ok(normal),
    }
}

/// A path in normal form (RFC 3986, section 6.2.2): escapes of letters, digits and `-._~` undone, all others in capitals,
/// dot segments removed. An escaped slash stays escaped, and so stays a part of its segment; empty segments stay, since
/// they mean something to object stores. Borrowed if it is normal already, which costs one pass over it.
///
/// # Errors
/// [`BadPath`]: the request is to be answered 400.
pub fn normal_path(path: &str) -> Result<Cow<'_, str>, BadPath> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(BadPath::NotAbsolute);
    }
    let mut normal = true;
    for (at, &b) in bytes.iter().enumerate() {
        match b {
            b'%' => normal = false,
            b'.' if bytes[at - 1] == b'/' => normal = false,
            b'\\' | 0..=0x20 | 0x7f.. => return Err(BadPath::BadByte),
            _ => {}
        }
    }
    if normal { Ok(Cow::Borrowed(path)) } else { without_dots(&unescaped(bytes)?).map(Cow::Owned) }
}

/// Whether a path is in normal form as it is.
pub fn is_normal(path: &str) -> bool {
    normal_path(path).as_deref() == Ok(path)
}

fn unescaped(bytes: &[u8]) -> Result<String, BadPath> {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&b) = rest.next() {
        if b != b'%' {
            out.push(char::from(b));
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(*b).to_digit(16)).ok_or(BadPath::BadEscape);
        let value = (digit()? * 16 + digit()?) as u8;
        match value {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => out.push(char::from(b)),
            0..=0x1f | 0x7f => return Err(BadPath::BadByte),
            b => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(DIGITS[usize::from(b >> 4)]));
                out.push(char::from(DIGITS[usize::from(b & 15)]));
            }
        }
    }
    Ok(out)
}

fn without_dots(path: &str) -> Result<String, BadPath> {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path[1..].split('/').collect();
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." && kept.pop().is_none() {
                    return Err(BadPath::AboveRoot);
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    Ok(format!("/{}", kept.join("/")))
}

/// True for a host name or an IPv4 address: labels of 1 to 63 letters, digits, `-` and `_`, at most 253 in all.
pub fn is_host(host: &str) -> bool {
    let mut label = 0;
    for b in host.bytes() {
        match b {
            b'.' if label > 0 => label = 0,
            b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' if label < 63 => label += 1,
            _ => return false,
        }
    }
    label > 0 && host.len() <= 253
}

/// True for what a `Host` header may be: a name or an IPv6 address in brackets, with or without a port. A name may end with a dot,
/// and a port be empty (RFC 3986, sections 3.2.2 and 3.2.3).
pub fn is_authority(authority: &str) -> bool {
    are_of_authority(split_port(authority))
}

fn are_of_authority((host, port): (&str, Option<&str>)) -> bool {
    let is_v6 = |h: &str| h.strip_prefix('[').and_then(|h| h.strip_suffix(']')).is_some_and(is_v6);
    let is_port = |p: &str| p.is_empty() || p.parse::<u16>().is_ok() && p.bytes().all(|b| b.is_ascii_digit());
    (is_host(host.strip_suffix('.').unwrap_or(host)) || is_v6(host)) && port.is_none_or(is_port)
}

/// An authority without the final dot of its name and without an empty port: as it is sent on, so that upstreams see the name that
/// was matched. None if it is no authority.
pub fn plain_authority(authority: &str) -> Option<Cow<'_, str>> {
    let (host, port) = split_port(authority);
    let bare = host.strip_suffix('.').unwrap_or(host);
    are_of_authority((host, port)).then(|| match port {
        Some("") | None => Cow::Borrowed(bare),
        Some(_) if bare == host => Cow::Borrowed(authority),
        Some(port) => Cow::Owned(format!("{bare}:{port}")),
    })
}

fn is_v6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// The name and the port of an authority.
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    // Byte by byte from the end, since ports are short.
    let Some(at) = authority.bytes().rposition(|b| b == b':') else { return (authority, None) };
    match (&authority[..at], &authority[at + 1..]) {
        (host, port) if host.ends_with(']') || !host.bytes().any(|b| b == b':') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// What a `Host` header names, as it is compared: without port and final dot, in lower case.
pub fn normal_host(authority: &str) -> Cow<'_, str> {
    let host = split_port(authority).0;
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}

/// The names that a redirect's location may hold in braces.
const PLACES: [&str; 4] = ["{scheme}", "{host}", "{path}", "{query}"];

/// Says what is wrong with the location of a redirect, if something is.
///
/// # Errors
/// The sentence for the configuration's error.
pub fn check_location(to: &str) -> Result<(), String> {
    if to.is_empty() {
        return Err("is missing; it must be a location such as https://{host}{path}".to_owned());
    }
    if to.bytes().any(|b| !(0x21..0x7f).contains(&b)) {
        return Err(format!("is `{}`; a location has no spaces and only ASCII", to.escape_debug()));
    }
    let mut rest = to.to_owned();
    PLACES.iter().for_each(|place| rest = rest.replace(place, ""));
    match rest.contains(['{', '}']) {
        true => Err(format!("is `{to}`; only {} may stand in braces", PLACES.join(" "))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for (given, expected) in [
            ("/", Ok("/")),
            ("/a/b", Ok("/a/b")),
            ("/a//b/", Ok("/a//b/")),
            ("/a/./b/../c", Ok("/a/c")),
            ("/a/..", Ok("/")),
            ("/a/.", Ok("/a/")),
            ("/a/b/..", Ok("/a/")),
            ("/%61%2e%2E/x", Ok("/a../x")),
            ("/a/%2e%2e/admin", Ok("/admin")),
            ("/a%2fb", Ok("/a%2Fb")),
            ("/.well-known/x", Ok("/.well-known/x")),
            ("/...", Ok("/...")),
            ("/a%25", Ok("/a%25")),
            ("/../x", Err(BadPath::AboveRoot)),
            ("/%2e%2e/x", Err(BadPath::AboveRoot)),
            ("a", Err(BadPath::NotAbsolute)),
            ("", Err(BadPath::NotAbsolute)),
            ("/%", Err(BadPath::BadEscape)),
            ("/%4", Err(BadPath::BadEscape)),
            ("/%zz", Err(BadPath::BadEscape)),
            ("/%00", Err(BadPath::BadByte)),
            ("/%0a", Err(BadPath::BadByte)),
            ("/a b", Err(BadPath::BadByte)),
            ("/a\\b", Err(BadPath::BadByte)),
            ("/é", Err(BadPath::BadByte)),
        ] {
            let found = normal_path(given);
            assert_eq!(found.as_deref(), expected.as_ref().map(|e| *e), "{given}");
            if let Ok(found) = found {
                assert_eq!(normal_path(&found).as_deref(), Ok(&*found), "{given} has two normal forms");
            }
        }
    }

    #[test]
    fn adjacent_slashes_are_one_and_escaped_ones_refused_as_the_configuration_says() {
        let plain = Config::default();
        let strict = Config { escaped_slashes: EscapedSlashes::Refuse, ..Config::default() };
        let keeps = Config { merge_slashes: false, ..Config::default() };
        for (path, by_default, refused, kept) in [
            ("/a/b", Ok("/a/b"), Ok("/a/b"), Ok("/a/b")),
            ("//a///b//", Ok("/a/b/"), Ok("/a/b/"), Ok("//a///b//")),
            ("/a/..//b", Ok("/b"), Ok("/b"), Ok("//b")),
            ("/a%2fb", Ok("/a%2Fb"), Err(BadPath::EscapedSlash), Ok("/a%2Fb")),
            ("/a%5Cb", Ok("/a%5Cb"), Err(BadPath::EscapedSlash), Ok("/a%5Cb")),
            ("/%2e%2e", Err(BadPath::AboveRoot), Err(BadPath::AboveRoot), Err(BadPath::AboveRoot)),
        ] {
            for (config, expected) in [(&plain, by_default), (&strict, refused), (&keeps, kept)] {
                let found = request_path(config, path);
                assert_eq!(found.as_deref(), expected.as_ref().map(|path| *path), "{path}");
            }
        }
    }

    #[test]
    fn hosts_are_compared_without_port_case_and_final_dot() {
        for (given, expected) in [
            ("Api.Example.com:8080", "api.example.com"),
            ("a.", "a"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(normal_host(given), expected, "{given}");
        }
        for bad in [
            "", "a..b", "a b", "a\r\nx", "-é", "a/b", "a@b", ".", "a..", ":", ":80", ".:80", "[::1].",
            "a:+80", "a:-1", "a:65536", "a:80:", "a::", "[]", "a:80.",
        ] {
            assert!(!is_authority(bad) && plain_authority(bad).is_none(), "{bad:?}");
        }
        for (good, plain) in [
            ("a", "a"),
            ("a:80", "a:80"),
            ("[::1]:80", "[::1]:80"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("a_b-c.d", "a_b-c.d"),
            ("A.example.", "A.example"),
            ("a.example:", "a.example"),
            ("a.example.:", "a.example"),
            ("a.example.:8080", "a.example:8080"),
            ("[::1]:", "[::1]"),
        ] {
            assert!(is_authority(good), "{good:?}");
            assert_eq!(plain_authority(good).as_deref(), Some(plain), "{good:?}");
            assert_eq!(
                normal_host(good),
                normal_host(plain),
                "INV-GATE-2: {good:?} is matched as it is sent"
            );
        }
    }

    #[test]
    fn a_host_has_labels_of_63_and_253_bytes_at_most() {
        let label = |len: usize| "a".repeat(len);
        let of = |last: usize| [label(63), label(63), label(63), label(last)].join(".");
        assert_eq!((of(61).len(), of(62).len()), (253, 254));
        for (host, as_host, as_authority) in [
            (label(63), true, true),
            (label(64), false, false),
            (format!("b.{}.c", label(63)), true, true),
            (format!("b.{}.c", label(64)), false, false),
            (of(61), true, true),
            (of(62), false, false),
            // The dot at the end is none of a name's bytes.
            (of(61) + ".", false, true),
            (of(62) + ".", false, false),
            (of(61) + ".:8080", false, true),
            (of(61) + "..", false, false),
        ] {
            assert_eq!((is_host(&host), is_authority(&host)), (as_host, as_authority), "{host}");
        }
    }
}
