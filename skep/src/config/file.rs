//! Settings from a TOML file: a flat table of the names in the table of settings, and `[gateway]`, which `skep-gate` reads.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use skep_settings::{Kind, find};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{Given, Origin, Problem};

/// A file of settings is a few kilobytes; a larger one is some other file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The table of the file that is the gateway's.
const GATEWAY: &str = "gateway";

/// What a file holds.
#[derive(Default)]
pub(super) struct Contents {
    /// Settings, in the order of their lines.
    pub(super) given: Vec<Given>,
    /// The gateway's configuration, if the file has one.
    pub(super) gateway: Option<skep_gate::Config>,
}

/// Reads the file at `path`.
pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> Contents {
    match read_text(path) {
        Ok(text) => parse(path, &text, problems),
        Err(error) => {
            problems.push(Problem { place: path.display().to_string(), what: error.to_string() });
            Contents::default()
        }
    }
}

/// The text of a small file.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the file is larger than {FILE_BYTES_MAX} bytes"),
        ));
    }
    Ok(text)
}

fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Contents {
    let place = |offset: usize| format!("{}:{}", path.display(), line(text, offset));
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = place(error.span().map_or(0, |span| span.start));
        // The first error of a line is the cause of those behind it.
        if problems.last().is_none_or(|last| last.place != place) {
            problems.push(Problem { place, what: error.message().replace('\n', ", ") });
        }
    }
    if !errors.is_empty() {
        return Contents::default();
    }
    let has_gateway = table.get_ref().iter().any(|(key, _)| key.get_ref() == GATEWAY);
    let gateway = match has_gateway.then(|| skep_gateway::read(text)) {
        Some(Ok(config)) => Some(config),
        Some(Err(errors)) => {
            let place = |line: usize| format!("{}:{line}", path.display());
            problems.extend(errors.into_iter().map(|error| Problem {
                place: place(error.line),
                what: format!("`{}` {}", error.key, error.what),
            }));
            None
        }
        None => None,
    };
    let mut entries: Vec<_> = table.get_ref().iter().filter(|(key, _)| key.get_ref() != GATEWAY).collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let given = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| Given {
        name: key.get_ref().to_string(),
        text: value_text(key.get_ref(), value.get_ref()),
        origin: Origin::File { path: path.to_owned(), line: line(text, key.span().start) },
    };
    Contents { given: entries.into_iter().map(given).collect(), gateway }
}

/// The number of the line that holds the byte at `offset`, from 1.
fn line(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count()
}

/// A value of the file as the text that a flag would have.
fn value_text(name: &str, value: &DeValue<'_>) -> Result<String, String> {
    // An unknown name is reported as such later, whatever its value is.
    let Some(spec) = find(name) else { return Ok(String::new()) };
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        // Not even a number that is too large is shown if it is a password.
        DeValue::Integer(number) if !matches!(spec.kind, Kind::Secret) => {
            i64::from_str_radix(number.as_str(), number.radix())
                .map(|n| n.to_string())
                .map_err(|_| wrong(name, &format!("`{}`", number.as_str()), spec.kind))
        }
        DeValue::Boolean(yes) => Ok(if *yes { "true" } else { "false" }.to_owned()),
        DeValue::Array(items) if matches!(spec.kind, Kind::Peers) => items
            .iter()
            .map(|item| item.get_ref().as_str().filter(|text| !text.contains(',')))
            .collect::<Option<Vec<&str>>>()
            .map(|peers| peers.join(","))
            .ok_or_else(|| wrong(name, "an array with something else than addresses in it", spec.kind)),
        other => Err(wrong(name, &format!("of type {}", other.type_str()), spec.kind)),
    }
}

fn wrong(name: &str, what: &str, kind: Kind) -> String {
    format!("`{name}` is {what}; it must be {}", kind.allowed())
}
