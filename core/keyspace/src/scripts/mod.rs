//! The scripts and libraries that a shard knows: replicated state, without an interpreter. Who runs them is a
//! [`Interpreter`], a cache beside the state.
//!
//! INV-SCRIPT-4: it changes by logged commands alone, in their order, and not by what runs; so replicas and restarts hold the
//! same.

mod library;
mod records;
mod sha;

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use crate::context::{ReadCx, WriteCx};

pub use library::{Function, Library, ScriptFlags};
pub(crate) use records::Place;
pub use sha::Sha;

/// Runs scripts on the keyspace that keeps it. Nothing of it is replicated: what a run answers and does follows from the
/// scripts that are known, the call, and the keyspace.
pub trait Interpreter: Send {
    /// Carries out a command that runs or compiles scripts (`EVAL`, `SCRIPT LOAD`, `FUNCTION LOAD` and their kin).
    ///
    /// # Errors
    /// In Redis's words; nothing was changed.
    fn write(&mut self, cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal>;

    /// The same, of a call that only reads. A script that writes is refused its writes.
    ///
    /// # Errors
    /// As [`Interpreter::write`].
    fn read(&mut self, cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal>;

    /// What the script says of itself that `args` call; `None` if it is not known, `Some(None)` if it has no first line for that.
    fn flags(&self, scripts: &Scripts, args: Args) -> Option<Option<ScriptFlags>>;

    /// A call of a script as its client sent it, without what its node has added: by it a repeat is known.
    fn as_sent<'a>(&self, args: Args<'a>) -> Args<'a>;

    /// What scripts have logged since it was asked last, with the level as Redis numbers it.
    fn take_logged(&mut self) -> Vec<(u8, Vec<u8>)>;

    /// What scripts did since it was asked last that the node of their client is to know.
    fn take_notes(&mut self) -> Vec<ScriptNote>;
}

/// Something that a script did, for the node of its client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScriptNote {
    Denied(ScriptDenial),
    /// It has read a key that its call does not name.
    Read(Box<[u8]>),
    /// The same of more keys than are noted.
    ReadMany,
}

/// Something that a script's user may not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptDenial {
    pub forbidden: Forbidden,
    /// The command, key or channel.
    pub object: Vec<u8>,
    pub user: Vec<u8>,
}

/// What is forbidden. Its numbers are told to other nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Forbidden {
    Command = 0,
    Key = 1,
    Channel = 2,
}

/// Scripts remembered from `EVAL` alone, as Redis 7.4 has it: one that is called again counts as the newest. `SCRIPT LOAD` keeps its
/// own until they are flushed.
const EVALUATED_MAX: usize = 500;

/// Bytes of all sources together. Clients that build a new text for each call would else fill the memory.
pub const SOURCES_BYTES_MAX: usize = 256 << 20;

/// What a source is counted for beside its bytes, so that their number has a limit as well: about a million.
const SOURCE_OVERHEAD_BYTES: usize = 256;

/// Cloned in no time for its texts, which are shared: a cut keeps the state where it was begun.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scripts {
    sources: BTreeMap<Sha, Source>,
    /// Those that were only evaluated, by their numbers: the one that was called longest ago first.
    evaluated: BTreeMap<u64, Sha>,
    libraries: BTreeMap<String, Arc<Library>>,
    bytes: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Source {
    text: Arc<[u8]>,
    /// Where it is among those that were only evaluated; `None` if it was loaded. Numbers order and mean nothing else.
    evaluated: Option<u64>,
}

impl Scripts {
    /// Keeps a script that compiles, until it is flushed (`SCRIPT LOAD`).
    ///
    /// # Errors
    /// If there is no room; nothing is changed.
    pub fn load(&mut self, source: &[u8]) -> Result<Sha, Refusal> {
        let sha = Sha::of(source);
        if let Some(known) = self.sources.get_mut(&sha) {
            if let Some(number) = known.evaluated.take() {
                self.evaluated.remove(&number);
            }
            return Ok(sha);
        }
        self.check_room(source.len())?;
        self.insert(sha, source, None);
        Ok(sha)
    }

    /// Remembers a script that was called, as the newest of those that were only evaluated, in place of the oldest if they are many.
    /// One for which there is no room is not remembered. Cost: O(log n).
    pub fn remember(&mut self, sha: Sha, source: &[u8]) {
        let newest = self.evaluated.last_key_value().map_or(0, |(number, _)| number + 1);
        if let Some(known) = self.sources.get_mut(&sha) {
            if let Some(number) = &mut known.evaluated {
                self.evaluated.remove(number);
                *number = newest;
                self.evaluated.insert(newest, sha);
            }
            return;
        }
        if self.evaluated.len() >= EVALUATED_MAX {
            let (_, oldest) = self.evaluated.pop_first().expect("there are many");
            let removed = self.sources.remove(&oldest).expect("what was evaluated has a source");
            self.bytes -= weight(&removed.text);
        }
        if self.check_room(source.len()).is_ok() {
            self.insert(sha, source, Some(newest));
        }
    }

    /// True if remembering it would change nothing: it was loaded, or called last. Cost: a look-up.
    pub fn is_remembered(&self, sha: Sha) -> bool {
        let newest = || self.evaluated.last_key_value().map(|(number, _)| *number);
        self.sources.get(&sha).is_some_and(|known| known.evaluated.is_none() || known.evaluated == newest())
    }

    pub fn source(&self, sha: Sha) -> Option<&Arc<[u8]>> {
        self.sources.get(&sha).map(|source| &source.text)
    }

    /// Scripts known, and the bytes that they and the libraries take.
    pub fn figures(&self) -> (usize, usize) {
        (self.sources.len(), self.bytes)
    }

    /// Forgets all scripts (`SCRIPT FLUSH`). Libraries stay.
    pub fn flush(&mut self) {
        self.bytes -= self.sources.values().map(|source| weight(&source.text)).sum::<usize>();
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
        self.bytes -= old.map_or(0, |old| weight(&old.code));
        self.bytes += weight(&library.code);
        self.libraries.insert(library.name.clone(), Arc::new(library));
        Ok(())
    }

    /// Removes a library.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn delete_library(&mut self, name: &[u8]) -> Result<(), Refusal> {
        let name = std::str::from_utf8(name).unwrap_or_default();
        let removed = self.libraries.remove(name).ok_or(Refusal::text("ERR Library not found"))?;
        self.bytes -= weight(&removed.code);
        Ok(())
    }

    /// Removes all libraries (`FUNCTION FLUSH`).
    pub fn flush_libraries(&mut self) {
        self.bytes -= self.libraries.values().map(|library| weight(&library.code)).sum::<usize>();
        self.libraries.clear();
    }

    /// The library that has function `name`, in any case. Cost: the number of functions.
    pub fn library_of(&self, name: &[u8]) -> Option<&Arc<Library>> {
        self.libraries.values().find(|library| library.function(name).is_some())
    }

    /// All libraries, in the order of their names.
    pub fn libraries(&self) -> impl ExactSizeIterator<Item = &Arc<Library>> {
        self.libraries.values()
    }

    /// Panics if the parts disagree. Cost: O(sources).
    pub fn assert_invariants(&self) {
        let sources = self.sources.values().map(|source| weight(&source.text)).sum::<usize>();
        let libraries = self.libraries.values().map(|library| weight(&library.code)).sum::<usize>();
        assert_eq!(self.bytes, sources + libraries, "bytes of scripts");
        let evaluated = self.sources.values().filter(|source| source.evaluated.is_some()).count();
        assert_eq!(evaluated, self.evaluated.len(), "evaluated scripts in their order");
        for (number, sha) in &self.evaluated {
            let known = self.sources.get(sha).map(|source| source.evaluated);
            assert_eq!(known, Some(Some(*number)), "an evaluated script and its place");
        }
    }

    fn check_room(&self, bytes: usize) -> Result<(), Refusal> {
        if self.bytes + bytes + SOURCE_OVERHEAD_BYTES <= SOURCES_BYTES_MAX {
            return Ok(());
        }
        let text =
            format!("ERR scripts take {} bytes and {bytes} more, limit is {SOURCES_BYTES_MAX}", self.bytes);
        Err(Refusal::format(text))
    }

    fn insert(&mut self, sha: Sha, source: &[u8], evaluated: Option<u64>) {
        self.bytes += weight(source);
        self.sources.insert(sha, Source { text: source.into(), evaluated });
        self.evaluated.extend(evaluated.map(|number| (number, sha)));
    }
}

fn weight(source: &[u8]) -> usize {
    source.len() + SOURCE_OVERHEAD_BYTES
}
