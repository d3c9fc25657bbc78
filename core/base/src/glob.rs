//! Redis's glob patterns (`KEYS`, `SCAN MATCH`, `PSUBSCRIBE`).

/// True if `text` matches `pattern`: `*`, `?`, `[a-c]`, `[^a]`, `\x`; bytes, not characters. An empty text is matched by
/// the empty pattern alone, not by `*`: so it is in Redis, whose commands take the pattern `*` for no pattern.
///
/// Cost: O(pattern x text) at the worst, by backing up only to the last star; no recursion, so no pattern can take a
/// node down (compare CVE-2022-36021).
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_with(pattern, text, false)
}

/// As [`matches`], ignoring the case of ASCII letters if `ignore_case`.
pub fn matches_with(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if t == text.len() {
            return p == pattern.len();
        }
        if p < pattern.len()
            && let Some(after) = one(pattern, p, text[t], ignore_case)
        {
            p = after;
            t += 1;
            continue;
        }
        match &mut star {
            Some((after_star, from)) => {
                *from += 1;
                (p, t) = (*after_star, *from);
            }
            None => return false,
        }
    }
}

/// Matches `byte` against the single element at `p`; gives the position behind that element.
fn one(pattern: &[u8], p: usize, byte: u8, ignore_case: bool) -> Option<usize> {
    let fold = |b: u8| if ignore_case { b.to_ascii_lowercase() } else { b };
    match pattern[p] {
        b'?' => Some(p + 1),
        b'[' => class(pattern, p + 1, fold(byte), fold),
        b'\\' if p + 1 < pattern.len() => (fold(pattern[p + 1]) == fold(byte)).then_some(p + 2),
        literal => (fold(literal) == fold(byte)).then_some(p + 1),
    }
}

/// An unclosed class ends with the pattern, as in Redis.
fn class(pattern: &[u8], mut p: usize, byte: u8, fold: impl Fn(u8) -> u8) -> Option<usize> {
    let negated = pattern.get(p) == Some(&b'^');
    if negated {
        p += 1;
    }
    let mut found = false;
    loop {
        match pattern.get(p) {
            None => break,
            Some(b']') => {
                p += 1;
                break;
            }
            Some(b'\\') if p + 1 < pattern.len() => {
                found |= fold(pattern[p + 1]) == byte;
                p += 2;
            }
            Some(&low) if pattern.get(p + 1) == Some(&b'-') && p + 2 < pattern.len() => {
                let (a, b) = (fold(low), fold(pattern[p + 2]));
                found |= (a.min(b)..=a.max(b)).contains(&byte);
                p += 3;
            }
            Some(&literal) => {
                found |= fold(literal) == byte;
                p += 1;
            }
        }
    }
    (found != negated).then_some(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        let table: [(&str, &str, bool); 25] = [
            ("*", "", false),
            ("**", "", false),
            ("", "", true),
            ("a*", "a", true),
            ("*", "anything", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hbllo", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a*b*c", "axxbxxc", true),
            ("a*b*c", "axxbxx", false),
            ("[abc", "a", true),
            ("[\\]]", "]", true),
            ("", "", true),
            ("", "x", false),
            ("**a", "bba", true),
            ("a\\", "a\\", true),
            ("x[", "x", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
        }
        assert!(matches_with(b"HeL*", b"hello", true));
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let pattern = b"a*".repeat(200);
        assert!(!matches(&[&pattern[..], b"b"].concat(), &b"a".repeat(5_000)));
    }
}
