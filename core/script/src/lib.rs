//! Lua 5.1 as Redis has it: scripts and functions that run commands, deterministically and within limits.
//!
//! [`Engine`] runs them on a [`Host`], a [`Runner`] for the commands of a keyspace; [`Scripts`] is what of them is replicated. The interpreter is Lua's own
//! (`third_party/lua`), which has no file, clock, locale or randomness. DESIGN.md beside this crate says how equal runs are
//! kept equal; docs/decisions/0012-scripts-run-on-every-replica.md why so.

mod api;
mod bit;
mod cjson;
mod cmsgpack;
mod cost;
mod engine;
mod from_lua;
mod functions;
mod header;
mod host;
mod interpreter;
mod invocation;
mod keyspace_host;
mod limits;
mod lua;
mod number;
mod reads;
mod runner;
mod shared;
mod structs;
mod to_lua;

pub use engine::{Engine, Usage};
pub use header::{Header, reads_only};
pub use host::{Host, LogLevel, UnknownCommand, refusals};
pub use invocation::Invocation;
pub use keyspace_host::{KeyspaceHost, ScriptCommands, Surroundings, Told};
pub use limits::{Limits, Run, SOURCE_BYTES_MAX};
pub use reads::ReadKeys;
pub use runner::Runner;
pub use skep_keyspace::scripts::{Function, Library, SOURCES_BYTES_MAX, ScriptFlags, Scripts, Sha};
