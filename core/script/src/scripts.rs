//! The scripts and libraries that the cluster knows: replicated state, without an interpreter.
//!
//! INV-SCRIPT-4: it changes by logged commands alone, in their order, and not by what runs; so replicas and restarts hold the
//! same.

use std::collections::{BTreeMap, VecDeque};

use skep_base::Refusal;
use skep_base::varint::{Malformed, Reader, put, put_bytes};

use crate::functions::{Function, Library};
use crate::header::Flags;
use crate::sha::Sha;

/// Scripts remembered from `EVAL` alone, as Redis 7.4 has it; `SCRIPT LOAD` keeps its own until they are flushed.
const EVALUATED_MAX: usize = 500;

/// Bytes of all sources together. Clients that build a new text for each call would else fill the memory.
pub const SOURCES_BYTES_MAX: usize = 256 << 20;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scripts {
    sources: BTreeMap<Sha, Source>,
    /// Those that were only evaluated, the oldest first.
    evaluated: VecDeque<Sha>,
    libraries: BTreeMap<String, Library>,
    bytes: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Source {
    text: Box<[u8]>,
    loaded: bool,
}

impl Scripts {
    /// Keeps a script that compiles, until it is flushed (`SCRIPT LOAD`).
    ///
    /// # Errors
    /// If there is no room; nothing is changed.
    pub fn load(&mut self, source: &[u8]) -> Result<Sha, Refusal> {
        let sha = Sha::of(source);
        if let Some(known) = self.sources.get_mut(&sha) {
            if !std::mem::replace(&mut known.loaded, true) {
                self.evaluated.retain(|evaluated| *evaluated != sha);
            }
            return Ok(sha);
        }
        self.check_room(source.len())?;
        self.insert(sha, source, true);
        Ok(sha)
    }

    /// Remembers a script that `EVAL` ran, in place of the oldest such one if they are many. One for which there is no room is
    /// not remembered.
    pub fn remember(&mut self, sha: Sha, source: &[u8]) {
        if self.sources.contains_key(&sha) {
            return;
        }
        if self.evaluated.len() >= EVALUATED_MAX {
            let oldest = self.evaluated.pop_front().expect("there are many");
            let removed = self.sources.remove(&oldest).expect("what was evaluated has a source");
            self.bytes -= removed.text.len();
        }
        if self.check_room(source.len()).is_ok() {
            self.insert(sha, source, false);
        }
    }

    pub fn source(&self, sha: Sha) -> Option<&[u8]> {
        self.sources.get(&sha).map(|source| &*source.text)
    }

    /// Forgets all scripts (`SCRIPT FLUSH`). Libraries stay.
    pub fn flush(&mut self) {
        self.bytes -= self.sources.values().map(|source| source.text.len()).sum::<usize>();
        self.sources.clear();
        self.evaluated.clear();
    }

    /// Adds a library, in place of the one of its name if `replace`.
    ///
    /// # Errors
    /// If there is one of that name, another library has a function of a name, or there is no room; nothing is changed.
    pub fn add_library(&mut self, library: Library, replace: bool) -> Result<(), Refusal> {
        let old = self.libraries.get(&library.name);
        if old.is_some() && !replace {
            return Err(Refusal::format(format!("ERR Library '{}' already exists", library.name)));
        }
        for function in &library.functions {
            if self.library_of(function.name.as_bytes()).is_some_and(|other| other.name != library.name) {
                return Err(Refusal::format(format!("ERR Function {} already exists", function.name)));
            }
        }
        self.check_room(library.code.len())?;
        self.bytes -= old.map_or(0, |old| old.code.len());
        self.bytes += library.code.len();
        self.libraries.insert(library.name.clone(), library);
        Ok(())
    }

    /// Removes a library.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn delete_library(&mut self, name: &[u8]) -> Result<(), Refusal> {
        let name = std::str::from_utf8(name).unwrap_or_default();
        let removed = self.libraries.remove(name).ok_or(Refusal::text("ERR Library not found"))?;
        self.bytes -= removed.code.len();
        Ok(())
    }

    /// Removes all libraries (`FUNCTION FLUSH`).
    pub fn flush_libraries(&mut self) {
        self.bytes -= self.libraries.values().map(|library| library.code.len()).sum::<usize>();
        self.libraries.clear();
    }

    /// The library that has function `name`, in any case. Cost: the number of functions.
    pub fn library_of(&self, name: &[u8]) -> Option<&Library> {
        self.libraries.values().find(|library| library.function(name).is_some())
    }

    /// All libraries, in the order of their names.
    pub fn libraries(&self) -> impl ExactSizeIterator<Item = &Library> {
        self.libraries.values()
    }

    fn check_room(&self, bytes: usize) -> Result<(), Refusal> {
        if self.bytes + bytes <= SOURCES_BYTES_MAX {
            return Ok(());
        }
        let text =
            format!("ERR scripts take {} bytes and {bytes} more, limit is {SOURCES_BYTES_MAX}", self.bytes);
        Err(Refusal::format(text))
    }

    fn insert(&mut self, sha: Sha, source: &[u8], loaded: bool) {
        self.bytes += source.len();
        self.sources.insert(sha, Source { text: source.into(), loaded });
        if !loaded {
            self.evaluated.push_back(sha);
        }
    }

    // --- Checkpoints ---

    /// Appends all of it. Equal states write equal bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let loaded = self.sources.values().filter(|source| source.loaded);
        put(out, loaded.clone().count() as u64);
        loaded.for_each(|source| put_bytes(out, &source.text));
        put(out, self.evaluated.len() as u64);
        self.evaluated.iter().for_each(|sha| put_bytes(out, &self.sources[sha].text));
        put(out, self.libraries.len() as u64);
        for library in self.libraries.values() {
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
    }

    /// Reads what [`Scripts::write`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`Malformed`], with the place.
    pub fn read(bytes: &[u8]) -> Result<Scripts, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut scripts = Scripts::default();
        for _ in 0..reader.count(1)? {
            let source = reader.bytes()?;
            if scripts.load(source).is_err() {
                return reader.malformed("scripts within their limit");
            }
        }
        let evaluated = reader.count(1)?;
        for _ in 0..evaluated {
            let source = reader.bytes()?;
            scripts.remember(Sha::of(source), source);
        }
        for _ in 0..reader.count(3)? {
            let library = read_library(&mut reader)?;
            if scripts.add_library(library, false).is_err() {
                return reader.malformed("libraries that fit together");
            }
        }
        // What was read must be what would be written: another order and repetitions are damage too.
        let mut again = Vec::with_capacity(bytes.len());
        scripts.write(&mut again);
        if again != bytes {
            return reader.malformed("scripts in their order, each once");
        }
        Ok(scripts)
    }
}

fn read_library(reader: &mut Reader) -> Result<Library, Malformed> {
    let name = read_text(reader)?;
    let code = reader.bytes()?.to_vec();
    let mut functions = Vec::new();
    for _ in 0..reader.count(4)? {
        let name = read_text(reader)?;
        let has_description = reader.u8()? == 1;
        let description = reader.bytes()?.to_vec();
        let Some(flags) = Flags::from_bits(reader.u8()?) else {
            return reader.malformed("flags of a function");
        };
        functions.push(Function { name, description: has_description.then_some(description), flags });
    }
    Ok(Library { name, code, functions })
}

fn read_text(reader: &mut Reader) -> Result<String, Malformed> {
    match std::str::from_utf8(reader.bytes()?) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => reader.malformed("a name in UTF-8"),
    }
}
