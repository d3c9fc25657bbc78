//! One state of the interpreter with the libraries that a script may see, and nothing else.
//!
//! INV-SCRIPT-2: what a script can reach and change is made by its own run. Globals, libraries and the metatable of strings are
//! read-only; the settings of `cjson`, `redis.setresp` and random numbers begin anew with each run.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ffi::{CString, c_int, c_void};
use std::ptr;

use skep_lua as ffi;
use skep_lua::lua_State;

use crate::limits::{MEMORY_MAX, Run};
use crate::lua::{Kind, Raise, Stack};
use crate::shared::Shared;
use crate::{api, bit, cjson, cmsgpack, functions, structs};

/// Of what a state runs: scripts, or functions of libraries. Both are apart, as in Redis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Runs {
    Scripts,
    Functions,
}

pub(crate) struct Interpreter {
    l: *mut lua_State,
    shared: *mut Shared,
}

// SAFETY: both pointers are to what this alone owns, and neither Lua nor `Shared` knows what thread it runs on.
unsafe impl Send for Interpreter {}

/// A compiled chunk, kept in the registry.
#[derive(Debug)]
pub(crate) struct Chunk(c_int);

/// Globals of the base library that scripts do not have.
const REMOVED: &[&str] = &["newproxy", "setfenv", "getfenv", "print", "dofile", "loadfile"];

/// Bytes that a run may leave to the next ones to collect; a large run cleans up itself.
const GARBAGE_KEPT: isize = 1 << 20;

/// Every block is aligned for any of Lua's types.
const ALIGNMENT: usize = 16;

/// Lua's allocator: Rust's, which aborts when there is no memory, so that Lua never raises for the lack of it.
unsafe extern "C" fn allocate(_: *mut c_void, block: *mut c_void, old: usize, new: usize) -> *mut c_void {
    let layout = |size: usize| Layout::from_size_align(size, ALIGNMENT).expect("Lua's sizes fit a layout");
    // SAFETY: a block that is not null was made here with the size that Lua gives back.
    unsafe {
        let made = if new == 0 {
            if !block.is_null() {
                dealloc(block.cast(), layout(old));
            }
            return ptr::null_mut();
        } else if block.is_null() {
            alloc(layout(new))
        } else {
            realloc(block.cast(), layout(old), new)
        };
        if made.is_null() {
            handle_alloc_error(layout(new));
        }
        made.cast()
    }
}

impl Interpreter {
    pub fn new(runs: Runs) -> Interpreter {
        let shared = Box::into_raw(Box::new(Shared::new()));
        // SAFETY: `allocate` is an allocator as Lua wants it, and never fails.
        let l = unsafe { ffi::lua_newstate(allocate, shared.cast()) };
        assert!(!l.is_null(), "the allocator never fails");
        let interpreter = Interpreter { l, shared };
        interpreter.open(runs);
        interpreter
    }

    pub fn stack(&self) -> Stack {
        // SAFETY: the state lives as long as `self`.
        unsafe { Stack::new(self.l) }
    }

    pub fn shared(&mut self) -> &mut Shared {
        // SAFETY: no native function runs while the engine holds `self`.
        unsafe { &mut *self.shared }
    }

    fn open(&self, runs: Runs) {
        let s = self.stack();
        let libraries: [ffi::lua_CFunction; 4] =
            [ffi::luaopen_base, ffi::luaopen_table, ffi::luaopen_string, ffi::luaopen_math];
        for library in libraries {
            // SAFETY: the libraries are opened in a new state, protected.
            let status = unsafe {
                ffi::lua_pushcclosure(self.l, library, 0);
                ffi::lua_pcall(self.l, 0, 0, 0)
            };
            assert_eq!(status, 0, "a library of Lua does not open");
        }
        s.push_globals();
        for name in REMOVED {
            s.push_nil();
            s.set_field(-2, name);
        }
        api::open(s);
        if runs == Runs::Functions {
            s.push_native(functions::register_function);
            s.set_field(-2, "register_function");
        }
        s.push_copy(-1);
        s.set_field(-3, "server");
        s.set_field(-2, "redis");
        cjson::open(s, 0);
        s.set_field(-2, "cjson");
        for (name, open) in
            [("cmsgpack", cmsgpack::open as fn(Stack)), ("struct", structs::open), ("bit", bit::open)]
        {
            open(s);
            s.set_field(-2, name);
        }
        s.push_table(0, 1);
        s.push_native(clock);
        s.set_field(-2, "clock");
        s.set_field(-2, "os");
        s.push_table(0, 1);
        s.push_native(no_such_global);
        s.set_field(-2, "__index");
        s.set_metatable(-2);
        protect(s);
        s.push_bytes(b"");
        let found = s.push_metatable(-1);
        assert!(found, "strings have a metatable");
        protect(s);
        s.set_top(0);
    }

    /// Compiles `source`, whose errors are told as of `name`.
    ///
    /// # Errors
    /// The compiler's message.
    pub fn compile(&self, source: &[u8], name: &str) -> Result<Chunk, Vec<u8>> {
        let s = self.stack();
        let name = CString::new(name).expect("names of chunks hold no zero");
        // SAFETY: loading is protected, and leaves the function or a message on the stack.
        unsafe {
            ffi::skep_begin(self.l, isize::MAX / 4, isize::MAX / 4, 0);
            if ffi::luaL_loadbuffer(self.l, source.as_ptr().cast(), source.len(), name.as_ptr()) != 0 {
                let message = s.text(-1).unwrap_or_default().to_vec();
                s.pop(1);
                return Err(message);
            }
            Ok(Chunk(ffi::luaL_ref(self.l, ffi::LUA_REGISTRYINDEX)))
        }
    }

    pub fn forget(&self, chunk: Chunk) {
        // SAFETY: the reference is this state's, and is used no more.
        unsafe { ffi::luaL_unref(self.l, ffi::LUA_REGISTRYINDEX, chunk.0) }
    }

    /// Begins a run: whatever ran before leaves no trace in it.
    pub fn begin(&mut self, run: Run) {
        let (work, memory) = (run.limits.work as isize, run.limits.memory.min(MEMORY_MAX));
        // SAFETY: no native function runs.
        unsafe {
            (*self.shared).begin(work, memory as usize);
            ffi::skep_begin(self.l, work, memory as isize, run.seed);
        }
    }

    pub fn push_chunk(&self, chunk: &Chunk) {
        self.stack().get_index(ffi::LUA_REGISTRYINDEX, chunk.0);
    }

    /// Sets globals that the next run sees: each is a table of `texts`.
    pub fn set_global_texts<'a>(&self, name: &str, texts: impl ExactSizeIterator<Item = &'a [u8]>) {
        let s = self.stack();
        s.push_globals();
        s.set_readonly(-1, false);
        push_texts(s, texts);
        s.set_field(-2, name);
        s.set_readonly(-1, true);
        s.pop(1);
    }

    /// Calls the function below its `arguments` on the stack. Leaves its one result there, or what was raised: a table
    /// with `err`, unless the script was exhausted.
    pub fn call(&self, arguments: i32) -> bool {
        let s = self.stack();
        s.push_native(on_error);
        let handler = s.top() - arguments - 1;
        s.insert(handler);
        // SAFETY: the call is protected.
        let status = unsafe { ffi::lua_pcall(self.l, arguments, 1, handler) };
        s.remove(handler);
        status == 0
    }

    /// What the run has used up, if anything.
    pub fn exhausted(&self) -> Option<&'static str> {
        match unsafe { ffi::skep_exhausted(self.l) } {
            0 => None,
            ffi::SKEP_MEMORY => Some("memory"),
            _ => Some("steps"),
        }
    }

    /// Steps that the run has taken so far.
    pub fn work_done(&self) -> u64 {
        // SAFETY: plain reads.
        unsafe { ((*self.shared).work - ffi::skep_workleft(self.l)).max(0) as u64 }
    }

    /// Lets go of what the run has made.
    pub fn end(&self) {
        self.stack().set_top(0);
        // SAFETY: no native function runs.
        unsafe {
            (*self.shared).end();
            if ffi::skep_allocated(self.l) > GARBAGE_KEPT {
                ffi::lua_gc(self.l, ffi::LUA_GCCOLLECT, 0);
            }
        }
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        // SAFETY: nobody uses the state or `Shared` after this; the state is closed first, since it is what points there.
        unsafe {
            ffi::lua_close(self.l);
            drop(Box::from_raw(self.shared));
        }
    }
}

/// Pushes an array of strings.
pub(crate) fn push_texts<'a>(s: Stack, texts: impl ExactSizeIterator<Item = &'a [u8]>) {
    s.push_table(texts.len(), 0);
    for (index, text) in texts.enumerate() {
        s.push_bytes(text);
        s.set_index(-2, index as i32 + 1);
    }
}

/// Makes the table on top read-only, with all that hangs on it, and pops it.
fn protect(s: Stack) {
    // A table that was met before is read-only already, but there is no asking; `_G` is the only one in a circle.
    s.push_nil();
    while s.next(-2) {
        let is_itself = s.serial(-1) == s.serial(-3);
        if s.kind(-1) == Kind::Table && !is_itself {
            protect(s);
        } else {
            s.pop(1);
        }
    }
    if s.push_metatable(-1) {
        protect(s);
    }
    s.set_readonly(-1, true);
    s.pop(1);
}

/// `__index` of the globals.
fn no_such_global(s: Stack) -> Result<i32, Raise> {
    let name = String::from_utf8_lossy(s.text(2).unwrap_or_default()).into_owned();
    Err(Raise::At(format!("Script attempted to access nonexistent global variable '{name}'")))
}

/// `os.clock`: the work done so far as seconds, a hundred million steps each. A real clock would differ between replicas.
fn clock(s: Stack) -> Result<i32, Raise> {
    // SAFETY: plain reads.
    let done = unsafe { (*s.shared()).work - ffi::skep_workleft(s.raw()) };
    s.push_number(done as f64 / 100_000_000.0);
    Ok(1)
}

/// What Lua calls with an error that nobody in the script catches: makes it a table, and notes where it was raised.
fn on_error(s: Stack) -> Result<i32, Raise> {
    let place = match s.place(1) {
        Some((true, _)) | None => s.place(2),
        found => found,
    };
    s.push_table(0, 4);
    if s.kind(1) == Kind::Table {
        s.get_field(1, "err");
    } else {
        let text = match s.kind(1) {
            Kind::Nil | Kind::None => b"nil".to_vec(),
            Kind::Boolean => s.boolean(1).to_string().into_bytes(),
            Kind::String | Kind::Number => s.text(1).unwrap_or_default().to_vec(),
            _ => format!("{}: 0x{:08x}", s.type_name(1), s.serial(1)).into_bytes(),
        };
        s.push_bytes(&[b"ERR ", &text[..]].concat());
    }
    s.set_field(2, "err");
    if let Some((_, place)) = place {
        s.push_bytes(&place.source);
        s.set_field(2, "source");
        s.push_number(f64::from(place.line));
        s.set_field(2, "line");
    }
    Ok(1)
}
