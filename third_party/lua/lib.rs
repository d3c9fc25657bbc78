//! The C interface of Lua 5.1 as far as `core/script` uses it, and the functions that the patched interpreter takes from
//! Rust. The patches, and why they are there, are in README.md.
//!
//! A function marked *raises* may leave by `longjmp`: no frame with something to drop may lie between it and the
//! protected call. The others do not raise, given enough stack: memory is never refused (the allocator aborts, as
//! Rust's does), and what a script may allocate is counted apart.

#![no_std]
#![allow(non_camel_case_types)]

use core::ffi::{c_char, c_int, c_uint, c_void};

/// A thread of the interpreter.
#[repr(C)]
pub struct lua_State {
    private: [u8; 0],
}

pub type lua_CFunction = unsafe extern "C-unwind" fn(*mut lua_State) -> c_int;
pub type lua_Alloc = unsafe extern "C" fn(*mut c_void, *mut c_void, usize, usize) -> *mut c_void;

pub const LUA_MULTRET: c_int = -1;
pub const LUA_REGISTRYINDEX: c_int = -10000;
pub const LUA_GLOBALSINDEX: c_int = -10002;

pub const LUA_TNIL: c_int = 0;
pub const LUA_TBOOLEAN: c_int = 1;
pub const LUA_TLIGHTUSERDATA: c_int = 2;
pub const LUA_TNUMBER: c_int = 3;
pub const LUA_TSTRING: c_int = 4;
pub const LUA_TTABLE: c_int = 5;
pub const LUA_TFUNCTION: c_int = 6;

/// `lua_gc`: collects all garbage.
pub const LUA_GCCOLLECT: c_int = 2;

/// What ran out, as [`skep_exhausted`] tells it.
pub const SKEP_WORK: c_int = 1;
pub const SKEP_MEMORY: c_int = 2;

/// Where the upvalue `index` of the running function is.
pub const fn lua_upvalueindex(index: c_int) -> c_int {
    LUA_GLOBALSINDEX - index
}

/// What is known of a running function.
#[repr(C)]
pub struct lua_Debug {
    pub event: c_int,
    pub name: *const c_char,
    pub namewhat: *const c_char,
    pub what: *const c_char,
    pub source: *const c_char,
    pub currentline: c_int,
    pub nups: c_int,
    pub linedefined: c_int,
    pub lastlinedefined: c_int,
    pub short_src: [c_char; 60],
    pub i_ci: c_int,
}

unsafe extern "C-unwind" {
    pub fn lua_newstate(alloc: lua_Alloc, ud: *mut c_void) -> *mut lua_State;
    pub fn lua_close(l: *mut lua_State);
    pub fn lua_getallocf(l: *mut lua_State, ud: *mut *mut c_void) -> lua_Alloc;

    pub fn lua_gettop(l: *mut lua_State) -> c_int;
    pub fn lua_settop(l: *mut lua_State, index: c_int);
    pub fn lua_pushvalue(l: *mut lua_State, index: c_int);
    pub fn lua_remove(l: *mut lua_State, index: c_int);
    pub fn lua_insert(l: *mut lua_State, index: c_int);
    pub fn lua_replace(l: *mut lua_State, index: c_int);
    pub fn lua_checkstack(l: *mut lua_State, extra: c_int) -> c_int;

    pub fn lua_type(l: *mut lua_State, index: c_int) -> c_int;
    pub fn lua_typename(l: *mut lua_State, tp: c_int) -> *const c_char;
    pub fn lua_isnumber(l: *mut lua_State, index: c_int) -> c_int;
    pub fn lua_isstring(l: *mut lua_State, index: c_int) -> c_int;
    pub fn lua_tonumber(l: *mut lua_State, index: c_int) -> f64;
    pub fn lua_toboolean(l: *mut lua_State, index: c_int) -> c_int;
    pub fn lua_tolstring(l: *mut lua_State, index: c_int, len: *mut usize) -> *const c_char;
    pub fn lua_touserdata(l: *mut lua_State, index: c_int) -> *mut c_void;
    pub fn lua_topointer(l: *mut lua_State, index: c_int) -> *const c_void;
    pub fn lua_objlen(l: *mut lua_State, index: c_int) -> usize;

    pub fn lua_pushnil(l: *mut lua_State);
    pub fn lua_pushnumber(l: *mut lua_State, n: f64);
    pub fn lua_pushlstring(l: *mut lua_State, s: *const c_char, len: usize);
    pub fn lua_pushcclosure(l: *mut lua_State, f: lua_CFunction, upvalues: c_int);
    pub fn lua_pushboolean(l: *mut lua_State, b: c_int);
    pub fn lua_pushlightuserdata(l: *mut lua_State, p: *mut c_void);

    pub fn lua_createtable(l: *mut lua_State, array: c_int, records: c_int);
    pub fn lua_rawget(l: *mut lua_State, index: c_int);
    pub fn lua_rawgeti(l: *mut lua_State, index: c_int, n: c_int);
    /// Raises if the table is read-only, or the key nil or not a number.
    pub fn lua_rawset(l: *mut lua_State, index: c_int);
    /// Raises if the table is read-only.
    pub fn lua_rawseti(l: *mut lua_State, index: c_int, n: c_int);
    /// Raises if the table is read-only.
    pub fn lua_setmetatable(l: *mut lua_State, index: c_int) -> c_int;
    pub fn lua_getmetatable(l: *mut lua_State, index: c_int) -> c_int;
    pub fn lua_setfenv(l: *mut lua_State, index: c_int) -> c_int;
    /// Raises if the key is not in the table.
    pub fn lua_next(l: *mut lua_State, index: c_int) -> c_int;

    pub fn lua_gc(l: *mut lua_State, what: c_int, argument: c_int) -> c_int;
    pub fn lua_pcall(l: *mut lua_State, args: c_int, results: c_int, handler: c_int) -> c_int;
    /// Raises.
    pub fn lua_error(l: *mut lua_State) -> c_int;
    pub fn luaL_loadbuffer(l: *mut lua_State, s: *const c_char, len: usize, name: *const c_char) -> c_int;
    pub fn luaL_where(l: *mut lua_State, level: c_int);
    pub fn luaL_ref(l: *mut lua_State, table: c_int) -> c_int;
    pub fn luaL_unref(l: *mut lua_State, table: c_int, reference: c_int);
    pub fn lua_getstack(l: *mut lua_State, level: c_int, ar: *mut lua_Debug) -> c_int;
    pub fn lua_getinfo(l: *mut lua_State, what: *const c_char, ar: *mut lua_Debug) -> c_int;

    pub fn luaopen_base(l: *mut lua_State) -> c_int;
    pub fn luaopen_table(l: *mut lua_State) -> c_int;
    pub fn luaopen_string(l: *mut lua_State) -> c_int;
    pub fn luaopen_math(l: *mut lua_State) -> c_int;

    /// Begins a run on the main thread: so much work and memory, random numbers from `seed`, serials from the start.
    pub fn skep_begin(l: *mut lua_State, work: isize, memory: isize, seed: u64);
    /// What ran out, or 0.
    pub fn skep_exhausted(l: *mut lua_State) -> c_int;
    pub fn skep_workleft(l: *mut lua_State) -> isize;
    /// Bytes allocated since the run began.
    pub fn skep_allocated(l: *mut lua_State) -> isize;
    /// Counts work done outside of the interpreter. 0 if there is none left; the script ends at its next step.
    pub fn skep_trywork(l: *mut lua_State, units: usize) -> c_int;
    /// Asks whether so many bytes could be allocated. 0 if they are too many; the script ends at its next step.
    pub fn skep_trymemory(l: *mut lua_State, bytes: usize) -> c_int;
    pub fn skep_setreadonly(l: *mut lua_State, index: c_int, readonly: c_int);
    pub fn skep_serial(l: *mut lua_State, index: c_int) -> c_uint;
}

macro_rules! numbers {
    ($($name:ident($($x:ident),*) = $of:ident;)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name($($x: f64),*) -> f64 {
                libm::$of($($x),*)
            }
        )*
    };
}

// The same results on every machine, which the C library does not promise.
numbers! {
    skep_sin(x) = sin;
    skep_sinh(x) = sinh;
    skep_cos(x) = cos;
    skep_cosh(x) = cosh;
    skep_tan(x) = tan;
    skep_tanh(x) = tanh;
    skep_asin(x) = asin;
    skep_acos(x) = acos;
    skep_atan(x) = atan;
    skep_atan2(y, x) = atan2;
    skep_exp(x) = exp;
    skep_log(x) = log;
    skep_log10(x) = log10;
    skep_pow(x, y) = pow;
}
