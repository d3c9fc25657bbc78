//! `rewrite.path` of a route: what it may be, and which groups of `path-regex` it names.
//!
//! Invariant: a group that is named is one that the pattern has, so that no part of a path is lost without a word.

use super::scalar::{Pattern, compile_pattern};

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
    // Braces stand around names of groups; everything else is as in a path of a request.
    let bare = path.replace(['{', '}'], "");
    crate::router::normal_path(&bare).map(|_| ()).map_err(|bad| format!("is `{shown}`; {bad}"))
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

/// The groups that a path names, as [`regex::bytes::Captures::expand`] reads it: `$name` is as long as it can be, and `$$` is `$`.
fn groups(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[rest.find('$')? + 1..];
            if let Some(behind) = rest.strip_prefix('$') {
                rest = behind;
                continue;
            }
            let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            let group = match rest.strip_prefix('{') {
                Some(inner) => inner.split_once('}').map_or("", |(name, _)| name),
                None => &rest[..rest.bytes().take_while(|b| is_name(*b)).count()],
            };
            if !group.is_empty() {
                return Some(group);
            }
        }
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
        ] {
            let found = check(path).unwrap_err();
            assert!(found.contains(what) && found.contains(path), "{path}: {found}");
        }
        for good in ["/", "/files/$1", "/${name}/x", "/a%2Fb", "/$$/x", "/~a;b=c"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn groups_are_those_that_the_pattern_has() {
        let pattern = Pattern("/(?P<n>[a-z]+)/(.*)".to_owned());
        for good in ["/$1", "/${1}a/$2", "/$n/${n}x", "/$0", "/$$9", "/$", "/$-", "/x"] {
            assert_eq!(check_groups(good, Some(&pattern)), Ok(()), "{good}");
        }
        for (bad, group) in [("/$3", "3"), ("/${m}", "m"), ("/$1a", "1a"), ("/$n_", "n_"), ("/$1/$7", "7")] {
            let found = check_groups(bad, Some(&pattern)).unwrap_err();
            assert!(found.contains(&format!("no group `{group}`, it has $1, $2, ${{n}}")), "{bad}: {found}");
        }
        assert!(check_groups("/$1", Some(&Pattern("/a".to_owned()))).unwrap_err().contains("it has none"));
        assert!(check_groups("/${n}", None).unwrap_err().contains("this route has not"));
        assert_eq!(check_groups("/a$-/$$1", None), Ok(()));
    }
}
