//! What one row of the table says, and how a row is found by name.

use crate::{Kind, SETTINGS};

/// One setting: everything that flags, variables, the file and `CONFIG` need to know about it.
#[derive(Clone, Copy, Debug)]
pub struct SettingSpec {
    /// Lower case with dashes; the flag is `--name`, the variable `SKEP_NAME`, the key of the file `name`.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// The default in the form that [`Kind::parse`] takes.
    pub default: &'static str,
    /// Whether and when a change does something.
    pub effect: Effect,
    /// What the value counts (`ms`, `s`, `bytes`), or nothing.
    pub unit: &'static str,
    /// One or two sentences for `--help`, `examples/skep.toml` and people who read the table.
    pub doc: &'static str,
}

/// Whether a setting does something, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Read at start from flag, variable and file; `CONFIG SET` changes it at once.
    Live,
    /// As `Live`, and one value for the whole cluster: what `CONFIG SET` says at any node holds at all, and from then on what a
    /// node reads at start does not.
    Shared,
    /// Read at start from flag, variable and file; `CONFIG SET` refuses.
    AtStart,
    /// `CONFIG SET` changes at once what commands report and nothing else; it is not read at start.
    Reported,
    /// A Redis setting without a counterpart here. `CONFIG SET` takes and remembers it, so that clients and test suites
    /// that set it go on, and nothing else happens; at start it is an error, so that nobody counts on it.
    Remembered,
    /// A fact that `CONFIG GET` tells and nothing changes.
    Fact,
}

impl SettingSpec {
    pub(crate) const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        effect: Effect,
        unit: &'static str,
        doc: &'static str,
    ) -> SettingSpec {
        SettingSpec { name, kind, default, effect, unit, doc }
    }

    /// True if it may be given at start, as a variable and in the file.
    pub fn at_start(&self) -> bool {
        matches!(self.effect, Effect::Live | Effect::Shared | Effect::AtStart)
    }

    /// True if it may be given as a flag. A secret may not: other users of the machine see a command line.
    pub fn is_flag(&self) -> bool {
        self.at_start() && !matches!(self.kind, Kind::Secret)
    }

    /// The placeholder for its value in `--help`.
    pub fn placeholder(&self) -> &'static str {
        match (self.kind, self.unit) {
            (Kind::YesNo, _) => "YES|NO",
            (Kind::Int { .. }, "ms") => "MS",
            (Kind::Int { .. }, "s") => "SECONDS",
            (Kind::Int { .. }, "min") => "MINUTES",
            (Kind::Int { .. }, _) => "N",
            (Kind::Bytes { .. }, _) => "BYTES",
            (Kind::Choice(_), _) => "WORD",
            (Kind::Dir, _) => "DIR",
            (Kind::File, _) => "FILE",
            (Kind::Label, _) => "NAME",
            (Kind::Listen, _) => "ADDR",
            (Kind::Host, _) => "HOST",
            (Kind::Peers, _) => "ADDR,ADDR",
            (Kind::OutputLimits, _) => "LIMITS",
            _ => "TEXT",
        }
    }

    /// The name of its environment variable: `SKEP_DATA_DIR` for `data-dir`.
    pub fn variable(&self) -> String {
        format!("SKEP_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

/// The row called `name`, ignoring the case of ASCII letters, as `CONFIG` does.
pub fn find(name: &str) -> Option<&'static SettingSpec> {
    position(name).map(|at| &SETTINGS[at])
}

/// The start-up setting whose name is most like `name`, if any is like enough to be meant by it.
pub fn nearest(name: &str) -> Option<&'static str> {
    nearest_of(name, SETTINGS.iter().filter(|s| s.at_start()).map(|s| s.name))
}

/// The candidate most like `name`, if at most a third of its letters differ; the first of several.
pub fn nearest_of<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer texts are no name that anybody mistyped, and the comparison costs O(n x m).
    const NAME_BYTES_MAX: usize = 64;
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('_', "-");
    candidates
        .map(|candidate| (strsim::osa_distance(&name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

pub(crate) fn position(name: &str) -> Option<usize> {
    SETTINGS.iter().position(|s| s.name.eq_ignore_ascii_case(name))
}

/// The row called `name`, found at compile time; a name that is not in the table does not compile.
pub(crate) const fn index_of(name: &str) -> usize {
    let mut at = 0;
    while at < SETTINGS.len() {
        if same(SETTINGS[at].name.as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("no such setting")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_only_if_it_is_near() {
        for (given, expected) in [
            ("lisen", Some("listen")),
            ("data_dir", Some("data-dir")),
            ("datadir", Some("data-dir")),
            ("max-memory", Some("maxmemory")),
            ("htp-listen", Some("http-listen")),
            ("replica", Some("replicas")),
            ("password", None),
            ("xyzzy", None),
            ("", None),
        ] {
            assert_eq!(nearest(given), expected, "{given}");
        }
        assert_eq!(nearest(&"listen".repeat(1000)), None);
    }

    #[test]
    fn names_are_unique_and_in_order_of_form() {
        for (at, spec) in SETTINGS.iter().enumerate() {
            assert_eq!(position(spec.name), Some(at), "{} is in the table twice", spec.name);
            assert!(
                spec.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'_'),
                "{}",
                spec.name
            );
            assert!(!spec.doc.is_empty() && !spec.doc.ends_with(' '), "{}", spec.name);
        }
        assert_eq!(find("DATA-Dir").unwrap().variable(), "SKEP_DATA_DIR");
    }
}
