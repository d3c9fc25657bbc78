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
        b';' => true,
        b'%' => ESCAPES.iter().any(|(escape, _)| path[at..].starts_with(escape)),
        b'/' => path[at + 1..].starts_with('/'),
        _ => false,
    };
    if !path.bytes().enumerate().any(unusual) {
        return Some(Vec::new());
    }
    let mut found: Vec<String> = Vec::new();
    // A server may undo any of the escapes and leave the others, and cut before that or after.
    let there = ESCAPES
        .iter()
        .enumerate()
        .map(|(at, (escape, _))| usize::from(path.contains(escape)) << at)
        .sum::<usize>();
    for undone in (0..=there).filter(|undone| undone & !there == 0) {
        let first = undo(path, undone);
        for reading in [undo(&cut(path), undone), cut(&first), first] {
            let reading = merged(&reading);
            if reading.split('/').any(|segment| matches!(segment, "." | "..")) {
                return None;
            }
            if reading != path && !found.contains(&reading) {
                found.push(reading);
            }
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

/// Escapes that some servers undo before they divide a path.
const ESCAPES: [(&str, &str); 3] = [("%2F", "/"), ("%5C", "/"), ("%3B", ";")];

/// Without the escapes whose bits are set.
fn undo(path: &str, bits: usize) -> String {
    let chosen = ESCAPES.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
    chosen.fold(path.to_owned(), |path, (_, (escape, byte))| path.replace(escape, byte))
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
            ("/x;%2Fadmin", some(&["/x", "/x/admin", "/x;/admin"])),
            ("/admin%3Bx", some(&["/admin;x", "/admin"])),
            ("/;%2Fadmin", some(&["/", "/admin", "/;/admin"])),
            ("/%3B%5Cx", some(&["/%3B/x", "/;%5Cx", "/", "/;/x", "/x"])),
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
