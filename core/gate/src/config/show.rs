//! Sections into text: every key with its value, one a line, as TOML that reads back to the same configuration; and the
//! difference of two configurations.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::RangeInclusive;

use super::Config;
use super::fields::{Fields, Named, Scalar, Section};

/// A key with its tables, and its value. Lists keep their items apart, so that a difference names items.
pub(super) enum Shown {
    One(String),
    List(Vec<String>),
}

impl Shown {
    pub(super) fn text(&self) -> String {
        match self {
            Shown::One(text) => text.clone(),
            Shown::List(items) => format!("[{}]", items.join(", ")),
        }
    }
}

/// All keys of `section` in order, absent ones left out; secret ones as they may be seen, if `masked`.
pub(super) fn lines<S: Section>(path: &str, section: &S, masked: bool) -> Vec<(String, Shown)> {
    let mut writer = Writer { path: path.to_owned(), lines: Vec::new(), masked };
    section.clone().fields(&mut writer);
    writer.lines
}

/// The configuration as TOML, one key a line.
pub(super) fn text(config: &Config) -> String {
    let mut out = String::new();
    for (key, value) in lines("gateway", config, false) {
        writeln!(out, "{key} = {}", value.text()).expect("writing to a String cannot fail");
    }
    out
}

/// What changes from `old` to `new`, a line each: `+ key = value`, `- key = value`, `~ key = old -> new`, and
/// `~ key: + item` for lists. Empty if nothing changes. Keys with default values are shown too, since a default of today
/// is what the cluster runs with.
pub(super) fn difference(old: &Config, new: &Config) -> String {
    let (old_lines, new_lines) = (lines("gateway", old, true), lines("gateway", new, true));
    let index = |lines: &[(String, Shown)]| -> BTreeMap<String, usize> {
        lines.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect()
    };
    let (in_old, in_new) = (index(&old_lines), index(&new_lines));
    let mut out = String::new();
    let mut say = |line: std::fmt::Arguments<'_>| {
        out.write_fmt(line).expect("writing to a String cannot fail");
        out.push('\n');
    };
    for (key, value) in &old_lines {
        match in_new.get(key).map(|at| &new_lines[*at].1) {
            None => say(format_args!("- {key} = {}", value.text())),
            Some(now) if now.text() == value.text() => {}
            Some(now) => match (value, now) {
                (Shown::List(was), Shown::List(is)) if !same_items(was, is) => {
                    was.iter().filter(|i| !is.contains(i)).for_each(|i| say(format_args!("~ {key}: - {i}")));
                    is.iter().filter(|i| !was.contains(i)).for_each(|i| say(format_args!("~ {key}: + {i}")));
                }
                _ => say(format_args!("~ {key} = {} -> {}", value.text(), now.text())),
            },
        }
    }
    for (key, value) in new_lines.iter().filter(|(key, _)| !in_old.contains_key(key)) {
        say(format_args!("+ {key} = {}", value.text()));
    }
    // The order of routes decides between equally specific ones, so it is a part of what they say.
    let order = |of: &Config, other: &Config| -> Vec<String> {
        let both = |r: &&Named<_>| other.routes.iter().any(|o| o.name == r.name);
        of.routes.iter().filter(both).map(|r| r.name.clone()).collect()
    };
    let (was, is) = (order(old, new), order(new, old));
    if was != is {
        say(format_args!("~ order of routes = {} -> {}", was.join(", "), is.join(", ")));
    }
    out
}

/// True if the lists differ in order or repetition only; then they are shown whole.
fn same_items(a: &[String], b: &[String]) -> bool {
    a.iter().all(|i| b.contains(i)) && b.iter().all(|i| a.contains(i))
}

struct Writer {
    path: String,
    lines: Vec<(String, Shown)>,
    masked: bool,
}

impl Writer {
    fn show<T: Scalar>(&self, value: &T) -> String {
        let text = value.show();
        if !(T::IS_SECRET && self.masked) {
            return text;
        }
        // Enough to see that it is another.
        let print: Vec<u8> = crate::hex(&crate::digest([text.as_bytes()])).take(8).collect();
        format!("\"(a secret, {})\"", String::from_utf8_lossy(&print))
    }

    fn push(&mut self, key: &str, value: Shown) {
        self.lines.push((format!("{}.{key}", self.path), value));
    }

    fn inside<S: Section>(&mut self, key: &str, section: &mut S) {
        let length = self.path.len();
        self.path.push('.');
        self.path.push_str(key);
        section.fields(self);
        self.path.truncate(length);
    }
}

impl Fields for Writer {
    fn one<T: Scalar>(&mut self, key: &'static str, value: &mut T) {
        self.push(key, Shown::One(self.show(value)));
    }

    fn ranged<T: Scalar + PartialOrd>(&mut self, key: &'static str, value: &mut T, _: RangeInclusive<T>) {
        self.push(key, Shown::One(value.show()));
    }

    fn maybe<T: Scalar>(&mut self, key: &'static str, value: &mut Option<T>) {
        if let Some(value) = value {
            self.push(key, Shown::One(self.show(value)));
        }
    }

    fn list<T: Scalar>(&mut self, key: &'static str, value: &mut Vec<T>, _: usize) {
        self.push(key, Shown::List(value.iter().map(|item| self.show(item)).collect()));
    }

    fn map<K: Scalar, T: Scalar>(&mut self, key: &'static str, value: &mut Vec<(K, T)>, _: usize) {
        for (name, item) in value {
            self.push(&format!("{key}.{}", name.show()), Shown::One(self.show(item)));
        }
    }

    fn section<S: Section>(&mut self, key: &'static str, value: &mut S) {
        self.inside(key, value);
    }

    fn maybe_section<S: Section>(&mut self, key: &'static str, value: &mut Option<S>) {
        match value {
            // A section without keys set would leave no trace of being there.
            Some(section) => {
                let before = self.lines.len();
                self.inside(key, section);
                if self.lines.len() == before {
                    self.push(key, Shown::One("true".to_owned()));
                }
            }
            None => self.push(key, Shown::One("false".to_owned())),
        }
    }

    fn sections<S: Section>(&mut self, key: &'static str, value: &mut Vec<S>, _: usize) {
        let inline = |section: &S| {
            let keys = lines("", section, self.masked);
            let keys: Vec<_> = keys.iter().map(|(k, v)| format!("{} = {}", &k[1..], v.text())).collect();
            format!("{{ {} }}", keys.join(", "))
        };
        self.push(key, Shown::List(value.iter().map(inline).collect()));
    }

    fn named<S: Section>(&mut self, key: &'static str, value: &mut Vec<Named<S>>, _: usize) {
        for named in value {
            self.inside(&format!("{key}.{}", named.name), &mut named.it);
        }
    }
}
