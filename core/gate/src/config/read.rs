//! TOML into sections: finds every error of a text, each with its line, key and value.
//!
//! Invariant: a key that no section asks for is an error, so nothing in a file is silently without effect.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use skep_settings::nearest_of;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fields::{Fields, Named, Scalar, Section};

/// As many errors as are worth reading; one wrong line may cause many.
const ERRORS_MAX: usize = 50;
/// As much of a wrong value as an error repeats.
const SHOWN_CHARS_MAX: usize = 100;
/// A name of a route, pool, listener or limit.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// Why a configuration is refused: one place in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The line, from 1.
    pub line: usize,
    /// The key with its tables: `gateway.route.api.retry.attempts`. Empty if the text is no TOML.
    pub key: String,
    /// What is wrong, with the value.
    pub what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "line {}: {}", self.line, self.what),
            key => write!(f, "line {}: `{key}` {}", self.line, self.what),
        }
    }
}

impl std::error::Error for ConfigError {}

/// What a reading found: the errors, and the line of each key for errors that are found later.
pub(super) struct Found {
    /// Where each line of the text begins.
    starts: Vec<usize>,
    errors: RefCell<Vec<ConfigError>>,
    lines: RefCell<BTreeMap<String, usize>>,
}

impl Found {
    pub(super) fn new(text: &str) -> Found {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Found { starts, errors: RefCell::default(), lines: RefCell::default() }
    }

    /// Adds an error about `key`, at the line of the key or of the nearest table around it that the file has.
    pub(super) fn wrong(&self, key: &str, what: String) {
        let lines = self.lines.borrow();
        let mut at = key;
        let line = loop {
            if let Some(line) = lines.get(at) {
                break *line;
            }
            match at.rfind('.') {
                Some(dot) => at = &at[..dot],
                None => break 1,
            }
        };
        self.push(line, key, what);
    }

    pub(super) fn wrong_at(&self, offset: usize, key: &str, what: String) {
        self.push(self.line(offset), key, what);
    }

    fn push(&self, line: usize, key: &str, what: String) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < ERRORS_MAX {
            errors.push(ConfigError { line, key: key.to_owned(), what });
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|e| e.line);
        errors
    }

    pub(super) fn is_clean(&self) -> bool {
        self.errors.borrow().is_empty()
    }
}

/// Reads `section` from `table`, whose key is `path`.
pub(super) fn section<S: Section>(found: &Found, path: &str, table: &DeTable<'_>, section: &mut S) {
    let mut reader = Reader { found, path, table, known: Vec::new() };
    section.fields(&mut reader);
    reader.refuse_unknown();
    let mut wrong = Vec::new();
    section.check(&mut wrong);
    for (key, what) in wrong {
        found.wrong(&format!("{path}.{key}"), what);
    }
}

struct Reader<'r> {
    found: &'r Found,
    path: &'r str,
    table: &'r DeTable<'r>,
    known: Vec<&'static str>,
}

impl<'r> Reader<'r> {
    /// The value of `key`, remembered as known, and its path.
    fn take(&mut self, key: &'static str) -> Option<(&'r Spanned<DeValue<'r>>, String)> {
        self.known.push(key);
        let (name, value) = self.table.get_key_value(key)?;
        let path = format!("{}.{key}", self.path);
        self.found.lines.borrow_mut().insert(path.clone(), self.found.line(name.span().start));
        Some((value, path))
    }

    fn read<T: Scalar>(&self, path: &str, value: &Spanned<DeValue<'_>>) -> Option<T> {
        let read = T::read(value.get_ref());
        if read.is_none() {
            let is = match value.get_ref() {
                DeValue::String(text) if T::IS_SECRET => format!("a text of {} bytes", text.len()),
                value => shown(value),
            };
            self.found.wrong_at(value.span().start, path, format!("is {is}; it must be {}", T::form()));
        }
        read
    }

    fn is_too_many(&self, path: &str, value: &Spanned<DeValue<'_>>, count: usize, max: usize) -> bool {
        if count > max {
            self.found.wrong_at(value.span().start, path, format!("has {count} parts, the limit is {max}"));
        }
        count > max
    }

    fn table_of(&self, path: &str, value: &'r Spanned<DeValue<'r>>) -> Option<&'r DeTable<'r>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let what = format!("is {}; it must be a table", shown(value.get_ref()));
            self.found.wrong_at(value.span().start, path, what);
        }
        table
    }

    fn section_from<S: Section>(&self, path: &str, value: &'r Spanned<DeValue<'r>>, into: &mut S) {
        if let (Some(key), DeValue::String(_)) = (S::SHORTHAND, value.get_ref()) {
            let mut table = DeTable::new();
            let key = Spanned::new(value.span(), std::borrow::Cow::Borrowed(key));
            table.insert(key, value.clone());
            section(self.found, path, &table, into);
        } else if let Some(table) = self.table_of(path, value) {
            section(self.found, path, table, into);
        }
    }

    fn refuse_unknown(&self) {
        for name in self.table.keys() {
            if self.known.contains(&&**name.get_ref()) {
                continue;
            }
            let near = match nearest_of(name.get_ref(), self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys are {}", self.known.join(", ")),
            };
            let key = format!("{}.{}", self.path, shown_text(name.get_ref()));
            self.found.wrong_at(name.span().start, &key, format!("is not known; {near}"));
        }
    }

    fn in_order(table: &'r DeTable<'r>) -> Vec<(&'r str, std::ops::Range<usize>, &'r Spanned<DeValue<'r>>)> {
        let mut entries: Vec<_> = table.iter().map(|(k, v)| (&**k.get_ref(), k.span(), v)).collect();
        entries.sort_by_key(|(_, span, _)| span.start);
        entries
    }
}

impl Fields for Reader<'_> {
    fn one<T: Scalar>(&mut self, key: &'static str, value: &mut T) {
        if let Some((given, path)) = self.take(key)
            && let Some(read) = self.read(&path, given)
        {
            *value = read;
        }
    }

    fn ranged<T: Scalar + PartialOrd>(&mut self, key: &'static str, value: &mut T, range: RangeInclusive<T>) {
        let Some((given, path)) = self.take(key) else { return };
        match self.read::<T>(&path, given) {
            Some(read) if !range.contains(&read) => {
                let (low, high) = (range.start().show(), range.end().show());
                let what = format!("is {}; it must be {low} to {high}", read.show());
                self.found.wrong_at(given.span().start, &path, what.replace('"', ""));
            }
            Some(read) => *value = read,
            None => {}
        }
    }

    fn maybe<T: Scalar>(&mut self, key: &'static str, value: &mut Option<T>) {
        if let Some((given, path)) = self.take(key)
            && let Some(read) = self.read(&path, given)
        {
            *value = Some(read);
        }
    }

    fn list<T: Scalar>(&mut self, key: &'static str, value: &mut Vec<T>, max: usize) {
        let Some((given, path)) = self.take(key) else { return };
        let items = match given.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![given],
        };
        if !self.is_too_many(&path, given, items.len(), max) {
            *value = items.into_iter().filter_map(|item| self.read(&path, item)).collect();
        }
    }

    fn map<K: Scalar, T: Scalar>(&mut self, key: &'static str, value: &mut Vec<(K, T)>, max: usize) {
        let Some((given, path)) = self.take(key) else { return };
        let Some(table) = self.table_of(&path, given) else { return };
        if self.is_too_many(&path, given, table.len(), max) {
            return;
        }
        value.clear();
        for (name, span, item) in Self::in_order(table) {
            let path = format!("{path}.{}", shown_text(name));
            let name = Spanned::new(span, DeValue::String(name.into()));
            if let (Some(name), Some(item)) = (self.read(&path, &name), self.read(&path, item)) {
                value.push((name, item));
            }
        }
    }

    fn section<S: Section>(&mut self, key: &'static str, value: &mut S) {
        if let Some((given, path)) = self.take(key) {
            self.section_from(&path, given, value);
        }
    }

    fn maybe_section<S: Section>(&mut self, key: &'static str, value: &mut Option<S>) {
        let Some((given, path)) = self.take(key) else { return };
        if given.get_ref().as_bool() == Some(false) {
            *value = None;
            return;
        }
        let mut it = S::default();
        match given.get_ref().as_bool() {
            // Defaults alone may not be enough, so they are checked like all else.
            Some(true) => section(self.found, &path, &DeTable::new(), &mut it),
            _ => self.section_from(&path, given, &mut it),
        }
        *value = Some(it);
    }

    fn sections<S: Section>(&mut self, key: &'static str, value: &mut Vec<S>, max: usize) {
        let Some((given, path)) = self.take(key) else { return };
        let items: Vec<_> = match given.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            DeValue::Table(_) => vec![given],
            DeValue::String(_) if S::SHORTHAND.is_some() => vec![given],
            value => {
                let what = format!("is {}; it must be a list", shown(value));
                return self.found.wrong_at(given.span().start, &path, what);
            }
        };
        if self.is_too_many(&path, given, items.len(), max) {
            return;
        }
        value.clear();
        for (at, item) in items.into_iter().enumerate() {
            let path = format!("{path}.{at}");
            self.found.lines.borrow_mut().insert(path.clone(), self.found.line(item.span().start));
            let mut it = S::default();
            self.section_from(&path, item, &mut it);
            value.push(it);
        }
    }

    fn named<S: Section>(&mut self, key: &'static str, value: &mut Vec<Named<S>>, max: usize) {
        let Some((given, path)) = self.take(key) else { return };
        let Some(table) = self.table_of(&path, given) else { return };
        if self.is_too_many(&path, given, table.len(), max) {
            return;
        }
        value.clear();
        for (name, span, item) in Self::in_order(table) {
            let path = format!("{path}.{}", shown_text(name));
            if !is_name(name) {
                let what = format!("is no name; it must be 1 to {NAME_BYTES_MAX} of a-z A-Z 0-9 - _");
                self.found.wrong_at(span.start, &path, what);
                continue;
            }
            self.found.lines.borrow_mut().insert(path.clone(), self.found.line(span.start));
            let mut it = S::default();
            self.section_from(&path, item, &mut it);
            value.push(Named { name: name.to_owned(), it });
        }
    }
}

/// What TOML takes as a bare key, so that names need no quotes in paths, diffs and metrics.
fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A value as an error shows it: one line, not too long.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("`{}`", shown_text(text)),
        DeValue::Integer(n) => format!("`{}`", shown_text(n.as_str())),
        DeValue::Float(n) => format!("`{}`", shown_text(n.as_str())),
        DeValue::Boolean(yes) => format!("`{yes}`"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn shown_text(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}
