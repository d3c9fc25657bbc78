//! The other ways in which a server may read a path that the gateway has brought to its normal form.
//!
//! Servers differ about three things that RFC 3986 leaves to them: some make one of adjacent slashes (nginx, Apache), some undo
//! escaped slashes and backslashes before they look for `/` (many frameworks), some cut path parameters from segments
//! (`/admin;x` is `/admin` to Tomcat and Jetty). So a path can be of one route here and mean one of another there.
//!
//! INV-GATE-2: a path goes on only if each of these readings takes the route that it takes as it is.

/// The readings of a path in normal form that differ from it, without adjacent slashes; none if one of them has a dot segment, which
/// leads elsewhere wherever it is followed. An empty list, and no memory, for nearly all paths.
pub(super) fn readings(path: &str) -> Option<Vec<String>> {
    let unusual = |(at, b): (usize, u8)| match b {
        b';' | b'%' => true,
        b'/' => path[at + 1..].starts_with('/'),
        _ => false,
    };
    if !path.bytes().enumerate().any(unusual) {
        return Some(Vec::new());
    }
    let (cut, open) = (cut(path), open(path));
    let (cut_last, open_last) = (self::cut(&open), self::open(&cut));
    let mut found: Vec<String> = Vec::new();
    for reading in [path, &cut, &open, &cut_last, &open_last] {
        let reading = merged(reading);
        if reading.split('/').any(|segment| matches!(segment, "." | "..")) {
            return None;
        }
        if reading != path && !found.contains(&reading) {
            found.push(reading);
        }
    }
    Some(found)
}

/// One slash of adjacent ones.
pub(super) fn merged(path: &str) -> String {
    let mut last = ' ';
    path.chars().filter(|c| !(std::mem::replace(&mut last, *c) == '/' && *c == '/')).collect()
}

/// Without path parameters.
fn cut(path: &str) -> String {
    let bare: Vec<&str> =
        path.split('/').map(|segment| segment.split(';').next().unwrap_or(segment)).collect();
    bare.join("/")
}

/// With slashes for those that are escaped, and for backslashes.
fn open(path: &str) -> String {
    path.replace("%2F", "/").replace("%5C", "/")
}

/// Whether a path in normal form has an escaped slash or backslash.
pub(super) fn has_escaped_slash(path: &str) -> bool {
    path.contains("%2F") || path.contains("%5C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_readings_that_servers_are_known_for() {
        let some = |list: &[&str]| Some(list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        for (path, expected) in [
            ("/a/b-c", some(&[])),
            ("/a%25/%C3%A9", some(&[])),
            ("//admin/x", some(&["/admin/x"])),
            ("/a//", some(&["/a/"])),
            ("/admin%2Fx", some(&["/admin/x"])),
            ("/%2Fadmin", some(&["/admin"])),
            ("/%5Cadmin", some(&["/admin"])),
            ("/admin;x=1/y;z", some(&["/admin/y"])),
            ("/;x/admin", some(&["/admin"])),
            ("/x;%2Fadmin", some(&["/x", "/x;/admin", "/x/admin"])),
            ("/;%2Fadmin", some(&["/", "/;/admin", "/admin"])),
            ("/a%2F..%2Fadmin", None),
            ("/a%2F..;%2Fadmin", None),
            ("/a/..;/admin", None),
            ("/a/..;x=/admin", None),
            ("/a%5C.", None),
            ("/...;x", some(&["/..."])),
        ] {
            assert_eq!(readings(path), expected, "{path}");
        }
    }
}
