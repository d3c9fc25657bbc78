//! The rows, in a file per group, joined into one array at compile time.
//!
//! Invariant: the subcommands of a container follow it directly, so that a row's id is its place and a container's
//! subcommands are a slice. The order of groups is free.

mod bitmaps;
mod cluster;
mod connection;
mod generic;
mod geo;
mod hashes;
mod hyperloglog;
mod lists;
mod pubsub;
mod queues;
mod scripting;
mod server;
mod sets;
mod sorted_sets;
mod streams;
mod strings;
mod transactions;

use crate::spec::{CommandSpec, Group, command};

/// The words that rows are written in.
mod prelude {
    pub(super) use crate::flags::words::{categories::*, flags::*, key_flags::*};
    pub(super) use crate::spec::{CommandSpec, Special, command, counted_keys, hidden, key, keys, keyword};
}

const GROUPS: [(Group, &[CommandSpec]); 17] = [
    (Group::Connection, connection::COMMANDS),
    (Group::Server, server::COMMANDS),
    (Group::Cluster, cluster::COMMANDS),
    (Group::Generic, generic::COMMANDS),
    (Group::String, strings::COMMANDS),
    (Group::Bitmap, bitmaps::COMMANDS),
    (Group::HyperLogLog, hyperloglog::COMMANDS),
    (Group::Hash, hashes::COMMANDS),
    (Group::List, lists::COMMANDS),
    (Group::Set, sets::COMMANDS),
    (Group::SortedSet, sorted_sets::COMMANDS),
    (Group::Geo, geo::COMMANDS),
    (Group::Queue, queues::COMMANDS),
    (Group::Stream, streams::COMMANDS),
    (Group::PubSub, pubsub::COMMANDS),
    (Group::Scripting, scripting::COMMANDS),
    (Group::Transactions, transactions::COMMANDS),
];

/// Number of commands and subcommands: the length of arrays indexed by [`crate::CommandId`].
pub const COMMAND_COUNT: usize = count();

/// All commands; each container is followed by its subcommands.
pub static COMMANDS: [CommandSpec; COMMAND_COUNT] = join();

/// The commands, without the subcommands.
pub fn commands() -> impl Iterator<Item = &'static CommandSpec> + Clone {
    COMMANDS.iter().filter(|c| !c.is_subcommand())
}

/// The row at `index` of the table.
pub fn entry(index: usize) -> Option<&'static CommandSpec> {
    COMMANDS.get(index)
}

const fn count() -> usize {
    let (mut group, mut total) = (0, 0);
    while group < GROUPS.len() {
        total += GROUPS[group].1.len();
        group += 1;
    }
    total
}

const fn join() -> [CommandSpec; COMMAND_COUNT] {
    let mut table = [command("", 0, 0, 0, ""); COMMAND_COUNT];
    let (mut group, mut at, mut container) = (0, 0, 0);
    while group < GROUPS.len() {
        let (name, rows) = GROUPS[group];
        let mut row = 0;
        while row < rows.len() {
            table[at] = rows[row];
            table[at].group = name;
            table[at].id = at as u16;
            if is_subcommand(rows[row].name) {
                table[container].subcommand_count += 1;
            } else {
                container = at;
            }
            at += 1;
            row += 1;
        }
        group += 1;
    }
    table
}

const fn is_subcommand(name: &str) -> bool {
    let name = name.as_bytes();
    let mut at = 0;
    while at < name.len() {
        if name[at] == b'|' {
            return true;
        }
        at += 1;
    }
    false
}
