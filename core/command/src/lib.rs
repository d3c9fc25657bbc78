//! The command table: what is known of each command without running it.
//!
//! Owns names, arity, flags, ACL categories, key positions and documentation, for dispatch, routing, ACLs and the
//! `COMMAND` family alike; no other place repeats them. Knows nothing of values and how commands are carried out.
//!
//! A command that is in the table is implemented; everything else is unknown to users.

pub mod describe;
mod flags;
mod keys;
mod lookup;
mod sort;
mod spec;
mod syntax;
mod table;

pub use flags::{Categories, Flags, KeyFlags};
pub use keys::{Key, KeyError, Keys};
pub use lookup::{id_of, lookup, lookup_full, resolve};
pub use sort::{SortPattern, carried_out, sort_patterns};
pub use spec::{Begin, CommandId, CommandSpec, Deprecation, Find, Group, KeySpec};
pub use table::{COMMAND_COUNT, COMMANDS, commands, entry};
