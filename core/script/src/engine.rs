//! The engine: runs scripts and functions on a host, and keeps what it has compiled.
//!
//! It holds nothing that is replicated. What a run answers and does follows from its source, its arguments, the limits and
//! what the host answers, and from nothing that ran before (INV-SCRIPT-2, INV-SCRIPT-3).

use std::collections::BTreeMap;
use std::fmt::Display;

use skep_base::Refusal;
use skep_keyspace::scripts::{Library, Sha};
use skep_resp::Reply;

use crate::api::with_host;
use crate::from_lua::{Unfit, write_error, write_reply};
use crate::functions::{CALLBACK, Registering};
use crate::header::{self, Header};
use crate::host::Host;
use crate::interpreter::{Chunk, Interpreter, Runs, push_texts};
use crate::invocation::Invocation;
use crate::limits::{COMPILED_BYTES_MAX, COMPILED_MAX, Limits, Run, SOURCE_BYTES_MAX};
use crate::lua::Kind;

/// What a run has used. The same on every replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pub work: u64,
}

/// Runs scripts, one at a time. About 150 KB, and what is compiled.
pub struct Engine {
    scripts: Interpreter,
    functions: Interpreter,
    compiled_scripts: Compiled,
    compiled_libraries: Compiled,
}

/// Compiled sources by their SHA-1.
#[derive(Default)]
struct Compiled {
    chunks: BTreeMap<Sha, Known>,
    /// Bytes of their sources.
    source_bytes: usize,
    uses: u64,
}

/// A compiled source.
struct Known {
    chunk: Chunk,
    header: Header,
    source_bytes: usize,
    /// When it was used last, in uses.
    used: u64,
}

impl Compiled {
    fn get(&mut self, sha: Sha) -> Option<(&Chunk, Header)> {
        self.uses += 1;
        let known = self.chunks.get_mut(&sha)?;
        known.used = self.uses;
        Some((&known.chunk, known.header))
    }

    fn insert(
        &mut self,
        interpreter: &Interpreter,
        sha: Sha,
        source: &[u8],
        (chunk, header): (Chunk, Header),
    ) {
        while self.chunks.len() >= COMPILED_MAX
            || (self.source_bytes + source.len() > COMPILED_BYTES_MAX && !self.chunks.is_empty())
        {
            let oldest = self.chunks.iter().min_by_key(|(_, known)| known.used).map(|(sha, _)| *sha);
            let oldest = oldest.and_then(|sha| self.chunks.remove(&sha)).expect("there are some");
            self.source_bytes -= oldest.source_bytes;
            interpreter.forget(oldest.chunk);
        }
        self.source_bytes += source.len();
        self.chunks.insert(sha, Known { chunk, header, source_bytes: source.len(), used: self.uses });
    }
}

impl Default for Engine {
    fn default() -> Engine {
        Engine::new()
    }
}

impl Engine {
    pub fn new() -> Engine {
        Engine {
            scripts: Interpreter::new(Runs::Scripts),
            functions: Interpreter::new(Runs::Functions),
            compiled_scripts: Compiled::default(),
            compiled_libraries: Compiled::default(),
        }
    }

    /// Compiles a script whose name is `sha`, if it is not compiled yet, and tells what its first line says.
    ///
    /// # Errors
    /// In Redis's words, if it does not compile, its first line is wrong, or it is too long.
    pub fn compile(&mut self, source: &[u8], sha: Sha) -> Result<Header, Refusal> {
        if let Some((_, header)) = self.compiled_scripts.get(sha) {
            return Ok(header);
        }
        check_length(source)?;
        let (header, start) = header::of_script(source)?;
        let chunk = self.scripts.compile(&source[start..], "@user_script").map_err(|message| {
            let message = String::from_utf8_lossy(&message).into_owned();
            Refusal::format(format!("ERR Error compiling script (new function): {message}"))
        })?;
        self.compiled_scripts.insert(&self.scripts, sha, source, (chunk, header));
        Ok(header)
    }

    /// Runs a script whose name is `sha` and writes its reply, which is an error if it fails. What its commands did stays.
    pub fn eval(
        &mut self,
        source: &[u8],
        sha: Sha,
        call: &Invocation,
        run: Run,
        host: &mut dyn Host,
        reply: &mut Reply,
    ) -> Usage {
        if let Err(refusal) = self.compile(source, sha) {
            reply.refusal(&refusal);
            return Usage::default();
        }
        let (chunk, _) = self.compiled_scripts.get(sha).expect("compiled above");
        let lua = &mut self.scripts;
        lua.begin(run);
        lua.set_global_texts("KEYS", call.keys());
        lua.set_global_texts("ARGV", call.args());
        lua.push_chunk(chunk);
        let done = with_host(lua.stack(), host, || lua.call(0));
        finish(lua, done, sha, run.limits, reply)
    }

    /// Runs a library's code to see what it registers.
    ///
    /// # Errors
    /// In Redis's words.
    pub fn load_library(&mut self, code: &[u8], run: Run) -> Result<Library, Refusal> {
        check_length(code)?;
        let (name, start) = header::of_library(code)?;
        let compile_error = |message: Vec<u8>| {
            Refusal::format(format!("ERR Error compiling function: {}", String::from_utf8_lossy(&message)))
        };
        let chunk = self.functions.compile(&code[start..], "@user_function").map_err(compile_error)?;
        self.functions.begin(run);
        let registered = register(&mut self.functions, &chunk, None);
        self.functions.end();
        self.functions.forget(chunk);
        let mut functions = registered.map_err(|message| {
            Refusal::format(format!("ERR Error registering functions: {}", String::from_utf8_lossy(&message)))
        })?;
        if functions.functions.is_empty() {
            return Err(Refusal::text("ERR No functions registered"));
        }
        functions.functions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Library { name, code: code.to_vec(), functions: functions.functions })
    }

    /// Runs a function of `library` and writes its reply, which is an error if it fails. What its commands did stays.
    ///
    /// The library's code runs anew first: variables that its functions share do not outlive a call, since replicas that
    /// started at different times would have different ones.
    ///
    /// Panics if `library` has no such function.
    pub fn fcall(
        &mut self,
        library: &Library,
        call: &Invocation,
        run: Run,
        host: &mut dyn Host,
        reply: &mut Reply,
    ) -> Usage {
        let function =
            library.function(call.subject).expect("the caller has found the function in this library");
        let sha = Sha::of(&library.code);
        if self.compiled_libraries.get(sha).is_none() {
            let (_, start) = header::of_library(&library.code).expect("a library that was loaded");
            let chunk = match self.functions.compile(&library.code[start..], "@user_function") {
                Ok(chunk) => chunk,
                // It was loaded, by a release whose compiler took it.
                Err(message) => {
                    write_error(reply, &[b"ERR Error compiling function: ", &message[..]].concat());
                    return Usage::default();
                }
            };
            let compiled = (chunk, Header { flags: None });
            self.compiled_libraries.insert(&self.functions, sha, &library.code, compiled);
        }
        self.functions.begin(run);
        let (chunk, _) = self.compiled_libraries.get(sha).expect("compiled above");
        let registered = register(&mut self.functions, chunk, Some(&function.name));
        let lua = &mut self.functions;
        if let Err(message) = registered {
            lua.end();
            write_error(reply, &message);
            return usage(lua);
        }
        let s = lua.stack();
        s.get_field(skep_lua::LUA_REGISTRYINDEX, CALLBACK);
        push_texts(s, call.keys());
        push_texts(s, call.args());
        let done = with_host(s, host, || lua.call(2));
        finish(lua, done, &function.name, run.limits, reply)
    }
}

/// Runs the code of a library. The callback of the function that is `wanted` is in the registry afterwards.
fn register(lua: &mut Interpreter, chunk: &Chunk, wanted: Option<&str>) -> Result<Registering, Vec<u8>> {
    let wanted = wanted.map(str::to_owned);
    lua.shared().registering = Some(Registering { wanted, ..Registering::default() });
    lua.push_chunk(chunk);
    let done = lua.call(0);
    let registered = lua.shared().registering.take().expect("it was put there");
    if done {
        lua.stack().pop(1);
        return Ok(registered);
    }
    Err(error_text(lua).0)
}

fn check_length(source: &[u8]) -> Result<(), Refusal> {
    if source.len() <= SOURCE_BYTES_MAX {
        return Ok(());
    }
    Err(Refusal::format(format!("ERR script is {} bytes, limit is {SOURCE_BYTES_MAX}", source.len())))
}

/// Answers with the result of a run, which is on the stack, or with what was raised.
fn finish(lua: &mut Interpreter, done: bool, name: impl Display, limits: Limits, reply: &mut Reply) -> Usage {
    let spoken = lua.shared().protocol;
    let result = if done { write_reply(lua.stack(), spoken, limits.memory as usize, reply) } else { Ok(()) };
    if !done || matches!(result, Err(Unfit::Exhausted)) {
        let (mut text, place) = match result {
            Ok(()) => error_text(lua),
            Err(_) => (exhausted_text("steps"), None),
        };
        text.extend_from_slice(format!(" script: {name}").as_bytes());
        if let Some((source, line)) = place {
            text.extend_from_slice(b", on ");
            text.extend_from_slice(&source);
            text.extend_from_slice(format!(":{line}.").as_bytes());
        }
        write_error(reply, &text);
    } else if let Err(Unfit::TooDeep) = result {
        write_error(reply, b"ERR reached lua stack limit");
    } else if let Err(Unfit::TooBig) = result {
        write_error(
            reply,
            format!("ERR script: {name} returned more than {} bytes", limits.memory).as_bytes(),
        );
    }
    lua.end();
    usage(lua)
}

fn usage(lua: &Interpreter) -> Usage {
    Usage { work: lua.work_done() }
}

fn exhausted_text(what: &str) -> Vec<u8> {
    format!("ERR script ran out of {what}; what it did so far stays.").into_bytes()
}

/// The text of what was raised, and where that was.
fn error_text(lua: &Interpreter) -> (Vec<u8>, Option<(Vec<u8>, i64)>) {
    if let Some(what) = lua.exhausted() {
        return (exhausted_text(what), None);
    }
    let s = lua.stack();
    if s.kind(-1) != Kind::Table {
        // Raised without a handler: an error in the handler itself, or of the stack.
        let text = s.text(-1).unwrap_or(b"unknown error");
        return ([b"ERR ", text].concat(), None);
    }
    let raised = s.top();
    s.get_field(raised, "err");
    s.get_field(raised, "source");
    s.get_field(raised, "line");
    let text = s.text(-3).unwrap_or(b"ERR unknown error").to_vec();
    let source = s.string(-2).map(<[u8]>::to_vec);
    let line = s.number(-1).map_or(0, |line| line as i64);
    s.pop(3);
    (text, source.map(|source| (source, line)))
}
