//! The commands on the keyspace, a file per group.

mod keys;
mod strings;
#[cfg(test)]
pub(crate) mod testing;

use crate::dispatch::Handler;

/// The commands of one file.
pub type Group = &'static [(&'static str, Handler)];

/// All groups.
pub const ALL: &[Group] = &[keys::COMMANDS, strings::COMMANDS];
