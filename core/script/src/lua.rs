//! The interpreter's stack and values, as native functions and the engine see them: a thin cover of the C interface.
//!
//! INV-SCRIPT-1: no error leaves by `longjmp` over a Rust frame that has something to drop. The functions here do not raise
//! (memory is never refused, tables that are written are new or opened for it, keys are checked), a native function returns
//! its error as a [`Raise`], and [`entry`] raises it when nothing is left to drop.
//!
//! All `unsafe` of the crate is here and in `interpreter.rs`.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use skep_lua as ffi;
use skep_lua::lua_State;

use crate::shared::Shared;

/// The stack of a running thread. Indices are as in C: from 1, or from the top by -1.
///
/// A byte string read from it stays where it is for as long as it is on the stack, or in a table that is; whoever pops it
/// lets it go.
#[derive(Clone, Copy)]
pub(crate) struct Stack {
    l: *mut lua_State,
}

/// Why a native function ends without results.
pub(crate) enum Raise {
    /// A message, in front of which the place of the call in the script is put.
    At(String),
    /// The value on top of the stack.
    Top,
    /// The script has run out of work or memory; the interpreter raises that itself.
    Exhausted,
}

pub(crate) type Native = fn(Stack) -> Result<i32, Raise>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    None,
    Nil,
    Boolean,
    /// A light userdata: `cjson.null` is the only one.
    Null,
    Number,
    String,
    Table,
    Function,
    Other,
}

/// Where an error was raised.
pub(crate) struct Place {
    pub source: Vec<u8>,
    pub line: i32,
}

/// The upvalue of a native function that tells what it is an instance of (see [`Stack::push_native_with`]).
pub(crate) const INSTANCE: c_int = ffi::lua_upvalueindex(2);

/// What Lua calls in place of a native function: it finds the function in its first upvalue.
pub(crate) unsafe extern "C-unwind" fn entry(l: *mut lua_State) -> c_int {
    let results = run(l);
    if results >= 0 {
        return results;
    }
    // SAFETY: `run` has left a value to raise on top, and nothing in this frame is dropped.
    unsafe { ffi::lua_error(l) }
}

#[inline(never)]
fn run(l: *mut lua_State) -> c_int {
    let stack = Stack { l };
    // SAFETY: the first upvalue of every native closure is its function, put there by `push_native_with`.
    let native: Native = unsafe {
        let at = ffi::lua_touserdata(l, ffi::lua_upvalueindex(1));
        std::mem::transmute::<*mut c_void, Native>(at)
    };
    match native(stack) {
        Ok(results) => results,
        Err(Raise::Top) => -1,
        Err(Raise::At(message)) => {
            stack.push_place(1);
            stack.push_bytes(message.as_bytes());
            stack.join_two();
            -1
        }
        Err(Raise::Exhausted) => {
            stack.push_bytes(b"exhausted");
            -1
        }
    }
}

impl Stack {
    /// # Safety
    /// `l` is a thread of a state made by `Interpreter::new`, and alive while the result is used.
    pub unsafe fn new(l: *mut lua_State) -> Stack {
        Stack { l }
    }

    pub fn raw(self) -> *mut lua_State {
        self.l
    }

    /// What the engine and its native functions share. Valid while the interpreter is; nobody keeps a reference to a part of
    /// it over a call into Lua or the host.
    #[inline]
    pub fn shared(self) -> *mut Shared {
        let mut ud = ptr::null_mut();
        // SAFETY: the allocator's datum is the `Shared` of the interpreter.
        unsafe { ffi::lua_getallocf(self.l, &mut ud) };
        ud.cast()
    }

    // --- The stack ---

    #[inline]
    pub fn top(self) -> i32 {
        unsafe { ffi::lua_gettop(self.l) }
    }

    #[inline]
    pub fn set_top(self, top: i32) {
        unsafe { ffi::lua_settop(self.l, top) }
    }

    #[inline]
    pub fn pop(self, values: i32) {
        self.set_top(-values - 1);
    }

    /// Makes room for `values` more.
    ///
    /// # Errors
    /// [`Raise::At`] if the stack of a native function would become too large, telling `why`.
    pub fn reserve(self, values: i32, why: &str) -> Result<(), Raise> {
        if self.try_reserve(values) { Ok(()) } else { Err(Raise::At(format!("stack overflow ({why})"))) }
    }

    #[inline]
    pub fn try_reserve(self, values: i32) -> bool {
        unsafe { ffi::lua_checkstack(self.l, values) != 0 }
    }

    #[inline]
    pub fn push_copy(self, index: i32) {
        unsafe { ffi::lua_pushvalue(self.l, index) }
    }

    pub fn remove(self, index: i32) {
        unsafe { ffi::lua_remove(self.l, index) }
    }

    pub fn insert(self, index: i32) {
        unsafe { ffi::lua_insert(self.l, index) }
    }

    /// Pops the value on top and puts it at `index`.
    pub fn replace(self, index: i32) {
        unsafe { ffi::lua_replace(self.l, index) }
    }

    // --- Reading values ---

    #[inline]
    pub fn kind(self, index: i32) -> Kind {
        match unsafe { ffi::lua_type(self.l, index) } {
            -1 => Kind::None,
            ffi::LUA_TNIL => Kind::Nil,
            ffi::LUA_TBOOLEAN => Kind::Boolean,
            ffi::LUA_TLIGHTUSERDATA => Kind::Null,
            ffi::LUA_TNUMBER => Kind::Number,
            ffi::LUA_TSTRING => Kind::String,
            ffi::LUA_TTABLE => Kind::Table,
            ffi::LUA_TFUNCTION => Kind::Function,
            _ => Kind::Other,
        }
    }

    /// The name of the value's type, as Lua's messages have it (`no value` past the arguments).
    pub fn type_name(self, index: i32) -> &'static str {
        // SAFETY: the names are constants of the library.
        let name = unsafe { CStr::from_ptr(ffi::lua_typename(self.l, ffi::lua_type(self.l, index))) };
        name.to_str().expect("names of types are ASCII")
    }

    /// The number at `index`, or a string there that reads as one.
    #[inline]
    pub fn number(self, index: i32) -> Option<f64> {
        let is_number = unsafe { ffi::lua_isnumber(self.l, index) != 0 };
        is_number.then(|| unsafe { ffi::lua_tonumber(self.l, index) })
    }

    pub fn boolean(self, index: i32) -> bool {
        unsafe { ffi::lua_toboolean(self.l, index) != 0 }
    }

    /// The string at `index`. `None` for anything else, numbers too.
    #[inline]
    pub fn string<'a>(self, index: i32) -> Option<&'a [u8]> {
        if self.kind(index) != Kind::String {
            return None;
        }
        let mut len = 0;
        // SAFETY: a string's bytes stay in place while it is alive (see the type's comment).
        unsafe {
            let bytes = ffi::lua_tolstring(self.l, index, &mut len);
            Some(std::slice::from_raw_parts(bytes.cast(), len))
        }
    }

    /// The string at `index`, or the number there, which becomes one in place (so not for keys while a table is walked).
    pub fn text<'a>(self, index: i32) -> Option<&'a [u8]> {
        if self.kind(index) == Kind::Number {
            let mut len = 0;
            unsafe { ffi::lua_tolstring(self.l, index, &mut len) };
        }
        self.string(index)
    }

    /// The place of a table or function in the order of creation; it stands in for an address.
    pub fn serial(self, index: i32) -> u32 {
        unsafe { ffi::skep_serial(self.l, index) }
    }

    // --- Pushing values ---

    #[inline]
    pub fn push_nil(self) {
        unsafe { ffi::lua_pushnil(self.l) }
    }

    #[inline]
    pub fn push_number(self, number: f64) {
        unsafe { ffi::lua_pushnumber(self.l, number) }
    }

    #[inline]
    pub fn push_boolean(self, value: bool) {
        unsafe { ffi::lua_pushboolean(self.l, c_int::from(value)) }
    }

    #[inline]
    pub fn push_bytes(self, bytes: &[u8]) {
        unsafe { ffi::lua_pushlstring(self.l, bytes.as_ptr().cast(), bytes.len()) }
    }

    /// `cjson.null`.
    pub fn push_null(self) {
        unsafe { ffi::lua_pushlightuserdata(self.l, ptr::null_mut()) }
    }

    pub fn push_native(self, native: Native) {
        self.push_native_with(native, 0);
    }

    /// A native function that finds `instance` again with [`Stack::instance`].
    pub fn push_native_with(self, native: Native, instance: u32) {
        unsafe {
            ffi::lua_pushlightuserdata(self.l, native as *mut c_void);
            ffi::lua_pushnumber(self.l, f64::from(instance));
            ffi::lua_pushcclosure(self.l, entry, 2);
        }
    }

    pub fn instance(self) -> u32 {
        unsafe { ffi::lua_tonumber(self.l, INSTANCE) as u32 }
    }

    /// Pushes `source:line: ` of the caller `level`s up, or an empty string.
    fn push_place(self, level: c_int) {
        unsafe { ffi::luaL_where(self.l, level) }
    }

    /// Replaces the two strings on top by the both in a row.
    fn join_two(self) {
        let mut joined = self.string(-2).unwrap_or_default().to_vec();
        joined.extend_from_slice(self.string(-1).unwrap_or_default());
        self.pop(2);
        self.push_bytes(&joined);
    }

    // --- Tables ---

    #[inline]
    pub fn push_table(self, elements: usize, fields: usize) {
        // A size is a hint; what a table grows to is counted as it grows.
        let hint = |n: usize| n.min(1 << 16) as c_int;
        unsafe { ffi::lua_createtable(self.l, hint(elements), hint(fields)) }
    }

    /// Pushes `t[n]`, past metamethods.
    #[inline]
    pub fn get_index(self, table: i32, n: i32) {
        unsafe { ffi::lua_rawgeti(self.l, table, n) }
    }

    /// `t[n]` = the value on top, which is popped. `t` is not read-only.
    #[inline]
    pub fn set_index(self, table: i32, n: i32) {
        unsafe { ffi::lua_rawseti(self.l, table, n) }
    }

    /// Pushes `t[name]`, past metamethods. `table` counts from the top as it is before.
    #[inline]
    pub fn get_field(self, table: i32, name: &str) {
        self.push_bytes(name.as_bytes());
        unsafe { ffi::lua_rawget(self.l, below(table)) }
    }

    /// `t[name]` = the value on top, which is popped. `t` is not read-only.
    #[inline]
    pub fn set_field(self, table: i32, name: &str) {
        self.push_bytes(name.as_bytes());
        self.insert(-2);
        unsafe { ffi::lua_rawset(self.l, below(table)) }
    }

    /// `t[key]` = the value on top with the key below it; both are popped. `t` is not read-only.
    ///
    /// # Errors
    /// [`Raise::At`] for a key that is nil or not a number, as Lua itself has it.
    pub fn set(self, table: i32) -> Result<(), Raise> {
        match self.kind(-2) {
            Kind::Nil => return Err(Raise::At("table index is nil".to_owned())),
            Kind::Number if self.number(-2).is_some_and(f64::is_nan) => {
                return Err(Raise::At("table index is NaN".to_owned()));
            }
            _ => {}
        }
        unsafe { ffi::lua_rawset(self.l, table) };
        Ok(())
    }

    /// Replaces the key on top by the next key and its value. Without a next one the key is popped, and the answer false.
    /// Begins with nil; the table does not change meanwhile.
    #[inline]
    pub fn next(self, table: i32) -> bool {
        unsafe { ffi::lua_next(self.l, table) != 0 }
    }

    pub fn set_readonly(self, table: i32, readonly: bool) {
        unsafe { ffi::skep_setreadonly(self.l, table, c_int::from(readonly)) }
    }

    /// Pops a table and makes it the metatable of the value at `index`, which is not read-only.
    pub fn set_metatable(self, index: i32) {
        unsafe { ffi::lua_setmetatable(self.l, index) };
    }

    /// Pushes the metatable of the value at `index`, if it has one.
    pub fn push_metatable(self, index: i32) -> bool {
        unsafe { ffi::lua_getmetatable(self.l, index) != 0 }
    }

    /// Pushes the table of globals.
    pub fn push_globals(self) {
        self.push_copy(ffi::LUA_GLOBALSINDEX);
    }

    // --- Work and errors ---

    /// Counts work done outside of the interpreter (one unit is about one instruction).
    ///
    /// # Errors
    /// [`Raise::Exhausted`] if there is none left.
    #[inline]
    pub fn work(self, units: usize) -> Result<(), Raise> {
        if unsafe { ffi::skep_trywork(self.l, units) != 0 } { Ok(()) } else { Err(Raise::Exhausted) }
    }

    /// Makes sure that a string of so many bytes could be made. What a native function collects outside of the interpreter is no
    /// longer than that: it is counted as memory only when it is pushed.
    ///
    /// # Errors
    /// [`Raise::Exhausted`] if there is less memory left.
    #[inline]
    pub fn room(self, bytes: usize) -> Result<(), Raise> {
        if unsafe { ffi::skep_trymemory(self.l, bytes) != 0 } { Ok(()) } else { Err(Raise::Exhausted) }
    }

    /// The function at call `level` and its line: 0 is the running one.
    pub fn place(self, level: i32) -> Option<(bool, Place)> {
        // SAFETY: `lua_Debug` is plain data that `lua_getstack` and `lua_getinfo` fill in.
        unsafe {
            let mut ar: ffi::lua_Debug = std::mem::zeroed();
            if ffi::lua_getstack(self.l, level, &mut ar) == 0 {
                return None;
            }
            ffi::lua_getinfo(self.l, c"Sl".as_ptr(), &mut ar);
            let is_native = CStr::from_ptr(ar.what).to_bytes() == b"C";
            let source = CStr::from_ptr(ar.source).to_bytes().to_vec();
            Some((is_native, Place { source, line: ar.currentline }))
        }
    }

    /// The error of a wrong argument of the running native function, in Lua's words.
    pub fn bad_argument(self, argument: i32, problem: &str) -> Raise {
        let mut name = "?".to_owned();
        let mut argument = argument;
        // SAFETY: as in `place`; a name that is there is a C string.
        unsafe {
            let mut ar: ffi::lua_Debug = std::mem::zeroed();
            if ffi::lua_getstack(self.l, 0, &mut ar) != 0 {
                ffi::lua_getinfo(self.l, c"n".as_ptr(), &mut ar);
                if !ar.name.is_null() {
                    name = CStr::from_ptr(ar.name).to_string_lossy().into_owned();
                }
                if CStr::from_ptr(ar.namewhat).to_bytes() == b"method" {
                    argument -= 1;
                    if argument == 0 {
                        return Raise::At(format!("calling '{name}' on bad self ({problem})"));
                    }
                }
            }
        }
        Raise::At(format!("bad argument #{argument} to '{name}' ({problem})"))
    }

    /// The error of an argument of a wrong type.
    pub fn wrong_type(self, argument: i32, expected: &str) -> Raise {
        let problem = format!("{expected} expected, got {}", self.type_name(argument));
        self.bad_argument(argument, &problem)
    }

    /// The string argument, or the number made one.
    pub fn check_string<'a>(self, argument: i32) -> Result<&'a [u8], Raise> {
        self.text(argument).ok_or_else(|| self.wrong_type(argument, "string"))
    }

    pub fn check_number(self, argument: i32) -> Result<f64, Raise> {
        self.number(argument).ok_or_else(|| self.wrong_type(argument, "number"))
    }

    /// The argument as an integer, or `default` if it is missing or nil.
    pub fn check_integer_or(self, argument: i32, default: i64) -> Result<i64, Raise> {
        match self.kind(argument) {
            Kind::None | Kind::Nil => Ok(default),
            _ => self.check_number(argument).map(to_integer),
        }
    }
}

/// An index counted from the top, after one more value was pushed.
fn below(index: i32) -> i32 {
    if index < 0 && index > ffi::LUA_REGISTRYINDEX { index - 1 } else { index }
}

/// A number as an integer, out of range and NaN as x86 has it.
pub(crate) fn to_integer(number: f64) -> i64 {
    let in_range = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number);
    if in_range { number as i64 } else { i64::MIN }
}
