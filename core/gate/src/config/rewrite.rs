//! `rewrite.path` of a route: what it may be, and which groups of `path-regex` it names.
//!
//! Invariant: a group that is named is one that the pattern has, so that no part of a path is lost without a word.

use super::scalar::{Pattern, compile_pattern};

/// What a target may have in all, its query included ([`http::uri::PathAndQuery`]).
const TARGET_BYTES_MAX: usize = 65_534;

/// Says what is wrong with a path that is to be sent, whatever the pattern.
///
/// # Errors
/// The sentence for the configuration's error.
pub(super) fn check(path: &str) -> Result<(), String> {
    let shown = path.escape_debug();
    if !path.starts_with('/') {
        return Err(format!("is `{shown}`; it must begin with /"));
    }
    if path.contains(['?', '#']) {
        return Err(format!(
            "is `{shown}`; it is a path alone, and the query of the request is kept: leave out ? and #"
        ));
    }
    let text = sample(path);
    match crate::router::normal_path(&text) {
        Err(bad) => Err(format!("is `{shown}`; {bad}")),
        Ok(normal) if normal != text => Err(format!(
            "is `{shown}`; it must be in normal form: without dot segments, with escapes in capitals, and of no letter, digit, -, \
             ., _ or ~"
        )),
        Ok(_) if text.len() > TARGET_BYTES_MAX => {
            Err(format!("is too long; a path has at most {TARGET_BYTES_MAX} bytes"))
        }
        Ok(_) => match http::uri::PathAndQuery::try_from(text) {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("is `{shown}`; {}", crate::router::BadPath::BadByte)),
        },
    }
}

/// Says what is wrong between a path and the pattern whose groups it names.
///
/// # Errors
/// The sentence for the configuration's error.
pub(super) fn check_groups(path: &str, pattern: Option<&Pattern>) -> Result<(), String> {
    let Some(pattern) = pattern else {
        return match groups(path).next() {
            Some(group) => Err(format!(
                "is `{path}`; ${group} is a group of path-regex, which this route has not: leave it out, or set one"
            )),
            None => Ok(()),
        };
    };
    let pattern = compile_pattern(&pattern.0).expect("a pattern is compiled when it is read");
    let has = |group: &str| match group.parse::<usize>() {
        Ok(number) => number < pattern.captures_len(),
        Err(_) => pattern.capture_names().flatten().any(|name| name == group),
    };
    match groups(path).find(|group| !has(group)) {
        None => Ok(()),
        Some(group) => {
            let numbers = (1..pattern.captures_len()).map(|n| format!("${n}"));
            let names = pattern.capture_names().flatten().map(|name| format!("${{{name}}}"));
            let known: Vec<String> = numbers.chain(names).collect();
            let known = if known.is_empty() {
                "it has none".to_owned()
            } else {
                format!("it has {}", known.join(", "))
            };
            Err(format!(
                "is `{path}`; path-regex has no group `{group}`, {known}. Behind a number a letter needs braces: ${{1}}a"
            ))
        }
    }
}

/// A part of a path as it is written.
#[derive(PartialEq, Eq, Debug)]
enum Part<'p> {
    Text(&'p str),
    /// What a group of the pattern becomes.
    Group(&'p str),
}

/// The groups that a path names.
fn groups(path: &str) -> impl Iterator<Item = &str> {
    parts(path).filter_map(|part| match part {
        Part::Group(name) => Some(name),
        Part::Text(_) => None,
    })
}

/// What could be sent: with a letter that is no digit of an escape in place of each group. Whether what comes in its place makes a
/// path is judged with each request.
fn sample(path: &str) -> String {
    let part = |part| match part {
        Part::Text(text) => text,
        Part::Group(_) => "x",
    };
    parts(path).map(part).collect()
}

/// A path in its parts, as [`regex::bytes::Captures::expand`] reads it: `$name` is as long as it can be, and `$$` is `$`.
fn parts(path: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let Some(behind) = rest.strip_prefix('$') else {
            let (text, others) = rest.split_at(rest.find('$').unwrap_or(rest.len()));
            rest = others;
            return (!text.is_empty()).then_some(Part::Text(text));
        };
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let bare = behind.bytes().take_while(|b| is_name(b)).count();
        let (part, others) = match behind.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, others)) => (Part::Group(name), others),
            None if bare > 0 => (Part::Group(&behind[..bare]), &behind[bare..]),
            None => (Part::Text("$"), behind.strip_prefix('$').unwrap_or(behind)),
        };
        rest = others;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_that_can_be_sent() {
        for (path, what) in [
            ("a", "it must begin with /"),
            ("/a?b=c", "leave out ? and #"),
            ("/a#b", "leave out ? and #"),
            ("/a b", "the path has a byte that no path may have"),
            ("/ä", "the path has a byte that no path may have"),
            ("/a%2", "the path has a % without two hexadecimal digits"),
            ("/../a", "the path leads above the root"),
            ("/a<b", "the path has a byte that no path may have"),
            ("/a$1>", "the path has a byte that no path may have"),
            ("/a/../b", "it must be in normal form"),
            ("/a/../$1", "it must be in normal form"),
            ("/a/./$1", "it must be in normal form"),
            ("/..", "the path leads above the root"),
            ("/a/.", "it must be in normal form"),
            ("/%61", "it must be in normal form"),
            ("/a%2fb", "it must be in normal form"),
            ("/a%$1", "the path has a % without two hexadecimal digits"),
        ] {
            let found = check(path).unwrap_err();
            assert!(found.contains(what) && found.contains(path), "{path}: {found}");
        }
        for good in ["/", "/files/$1", "/${name}/x", "/a%2Fb", "/$$/x", "/~a;b=c", "/.$1", "/a//b", "/{x}"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert!(check(&format!("/{}", "a".repeat(70_000))).unwrap_err().contains("too long"));
    }

    #[test]
    fn groups_are_those_that_the_pattern_has() {
        let pattern = Pattern("/(?P<n>[a-z]+)/(.*)".to_owned());
        let all = "/a$1b${n}$$2$-${}${x/$";
        let (text, group) = (Part::Text, Part::Group);
        assert_eq!(
            parts(all).collect::<Vec<_>>(),
            [
                text("/a"),
                group("1b"),
                group("n"),
                text("$"),
                text("2"),
                text("$"),
                text("-"),
                group(""),
                text("$"),
                text("{x/"),
                text("$"),
            ]
        );
        for good in ["/$1", "/${1}a/$2", "/$n/${n}x", "/$0", "/$$9", "/$", "/$-", "/x"] {
            assert_eq!(check_groups(good, Some(&pattern)), Ok(()), "{good}");
        }
        for (bad, group) in
            [("/$3", "3"), ("/${m}", "m"), ("/$1a", "1a"), ("/$n_", "n_"), ("/$1/$7", "7"), ("/x/${}", "")]
        {
            let found = check_groups(bad, Some(&pattern)).unwrap_err();
            assert!(found.contains(&format!("no group `{group}`, it has $1, $2, ${{n}}")), "{bad}: {found}");
        }
        assert!(check_groups("/$1", Some(&Pattern("/a".to_owned()))).unwrap_err().contains("it has none"));
        assert!(check_groups("/${n}", None).unwrap_err().contains("this route has not"));
        assert_eq!(check_groups("/a$-/$$1", None), Ok(()));
    }
}
