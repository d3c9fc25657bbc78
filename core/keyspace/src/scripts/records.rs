//! Scripts and libraries in checkpoints: a record each, in a fixed order, so that a cut may stop between any two.

use std::ops::Bound::{Excluded, Unbounded};

use skep_base::varint::{Malformed, Reader, put, put_bytes};

use super::{Function, Library, ScriptFlags, Scripts, Sha};

/// What a record holds. Part of the format.
const LOADED: u8 = 0;
const EVALUATED: u8 = 1;
const LIBRARY: u8 = 2;

/// How far a cut has come: what it wrote last.
#[derive(Clone, Default, Debug)]
pub(crate) enum Place {
    #[default]
    Start,
    Loaded(Sha),
    /// So many.
    Evaluated(usize),
    Library(String),
}

impl Place {
    /// What replicas must agree on and the record does not say: the order of those that were evaluated.
    pub fn seed(&self) -> u64 {
        match self {
            Place::Evaluated(count) => *count as u64,
            _ => 0,
        }
    }
}

impl Scripts {
    /// Appends the record behind `place`, and gives its own place; `None` at the end.
    pub(crate) fn put_record(&self, place: &Place, out: &mut Vec<u8>) -> Option<Place> {
        let after = match place {
            Place::Start => Some(Unbounded),
            Place::Loaded(sha) => Some(Excluded(*sha)),
            _ => None,
        };
        if let Some(after) = after
            && let Some((sha, source)) =
                self.sources.range((after, Unbounded)).find(|(_, source)| source.evaluated.is_none())
        {
            out.push(LOADED);
            put_bytes(out, &source.text);
            return Some(Place::Loaded(*sha));
        }
        let count = match place {
            Place::Start | Place::Loaded(_) => 0,
            Place::Evaluated(count) => *count,
            Place::Library(_) => self.evaluated.len(),
        };
        if let Some(sha) = self.evaluated.values().nth(count) {
            out.push(EVALUATED);
            put_bytes(out, &self.sources[sha].text);
            return Some(Place::Evaluated(count + 1));
        }
        let after = match place {
            Place::Library(name) => Excluded(name.as_str()),
            _ => Unbounded,
        };
        let (name, library) = self.libraries.range::<str, _>((after, Unbounded)).next()?;
        out.push(LIBRARY);
        put_library(out, library);
        Some(Place::Library(name.clone()))
    }

    /// Takes what [`Scripts::put_record`] wrote, in the order in which it wrote it.
    pub(crate) fn restore(&mut self, input: &mut Reader<'_>) -> Result<(), Malformed> {
        match input.u8()? {
            LOADED => {
                if self.load(input.bytes()?).is_err() {
                    return input.malformed("scripts within their limit");
                }
            }
            EVALUATED => {
                let source = input.bytes()?;
                self.remember(Sha::of(source), source);
            }
            LIBRARY => {
                let library = read_library(input)?;
                if self.add_library(library, false).is_err() {
                    return input.malformed("libraries that fit together");
                }
            }
            _ => return input.malformed("a script of kind 0 to 2"),
        }
        Ok(())
    }
}

fn put_library(out: &mut Vec<u8>, library: &Library) {
    put_bytes(out, library.name.as_bytes());
    put_bytes(out, &library.code);
    put(out, library.functions.len() as u64);
    for function in &library.functions {
        put_bytes(out, function.name.as_bytes());
        out.push(u8::from(function.description.is_some()));
        put_bytes(out, function.description.as_deref().unwrap_or_default());
        out.push(function.flags.bits());
    }
}

fn read_library(input: &mut Reader<'_>) -> Result<Library, Malformed> {
    let name = read_text(input)?;
    let code = input.bytes()?.to_vec();
    let mut functions = Vec::new();
    for _ in 0..input.count(4)? {
        let name = read_text(input)?;
        let has_description = input.u8()? == 1;
        let description = input.bytes()?.to_vec();
        let Some(flags) = ScriptFlags::from_bits(input.u8()?) else {
            return input.malformed("flags of a function");
        };
        functions.push(Function { name, description: has_description.then_some(description), flags });
    }
    Ok(Library { name, code, functions })
}

fn read_text(input: &mut Reader<'_>) -> Result<String, Malformed> {
    match std::str::from_utf8(input.bytes()?) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => input.malformed("a name in UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(number: u8) -> Library {
        let name = format!("f{number}");
        let mut flags = ScriptFlags::default();
        flags.insert(b"no-writes");
        let functions = vec![Function { name, description: (number > 0).then(|| b"d".to_vec()), flags }];
        Library { name: format!("lib{number}"), code: vec![number; 5], functions }
    }

    fn some() -> Scripts {
        let mut scripts = Scripts::default();
        for i in 0..3 {
            scripts.load(format!("return {i}").as_bytes()).unwrap();
            let source = format!("return 'evaluated {i}'");
            scripts.remember(Sha::of(source.as_bytes()), source.as_bytes());
            scripts.add_library(library(i), false).unwrap();
        }
        scripts.assert_invariants();
        scripts
    }

    fn records(scripts: &Scripts) -> Vec<Vec<u8>> {
        let (mut place, mut all) = (Place::Start, Vec::new());
        loop {
            let mut record = Vec::new();
            match scripts.put_record(&place, &mut record) {
                Some(next) => place = next,
                None => return all,
            }
            all.push(record);
        }
    }

    #[test]
    fn scripts_round_trip_and_no_prefix_or_flip_panics() {
        let scripts = some();
        let all = records(&scripts);
        assert_eq!(all.len(), 9);
        let mut copy = Scripts::default();
        for record in &all {
            let mut input = Reader::new(record);
            copy.restore(&mut input).unwrap();
            input.end().unwrap();
        }
        assert_eq!(copy, scripts);
        copy.assert_invariants();
        for record in &all {
            for cut in 0..record.len() {
                assert!(
                    Scripts::default().restore(&mut Reader::new(&record[..cut])).is_err(),
                    "cut at {cut}"
                );
            }
            for at in 0..record.len() {
                let mut flipped = record.clone();
                flipped[at] ^= 0x10;
                let mut copy = Scripts::default();
                let _ = copy.restore(&mut Reader::new(&flipped));
                copy.assert_invariants();
            }
        }
    }
}
