//! The commands on the keyspace, a file per group.

mod bitfield;
mod bitmaps;
mod choose;
pub(crate) mod copies;
mod dump;
mod expire;
mod geo;
mod hash_expiry;
mod hashes;
mod hyperloglog;
mod inspect;
mod keys;
pub(crate) mod lists;
mod once;
pub(crate) mod parse;
pub(crate) mod queues;
mod scan;
pub(crate) mod scripts;
mod set_algebra;
mod sets;
mod sort;
mod streams;
mod strings;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod transactions;
pub(crate) mod zsets;

use crate::dispatch::Handler;

/// The commands of one file.
pub type Group = &'static [(&'static str, Handler)];

/// All groups.
pub const ALL: &[Group] = &[
    bitmaps::COMMANDS,
    copies::COMMANDS,
    dump::COMMANDS,
    expire::COMMANDS,
    geo::COMMANDS,
    hash_expiry::COMMANDS,
    hashes::COMMANDS,
    hyperloglog::COMMANDS,
    inspect::COMMANDS,
    keys::COMMANDS,
    lists::COMMANDS,
    once::COMMANDS,
    queues::COMMANDS,
    scan::COMMANDS,
    scripts::COMMANDS,
    set_algebra::COMMANDS,
    sets::COMMANDS,
    sort::COMMANDS,
    streams::COMMANDS,
    strings::COMMANDS,
    transactions::COMMANDS,
    zsets::COMMANDS,
];
