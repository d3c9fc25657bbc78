//! Commands that the node answers by itself: about connections, the server and the cluster.

mod acl;
mod client;
mod client_list;
mod cluster;
mod config;
mod connection;
mod elsewhere;
mod gateway;
mod info;
mod memory;
mod monitor;
mod pause;
mod pubsub;
mod scripting;
mod server;
mod skep;
mod slow;
#[cfg(test)]
mod tests;
mod tracking;

use skep_base::{Args, ConnId, Refusal};
use skep_command::{COMMAND_COUNT, CommandSpec, describe, lookup_full};
use skep_keyspace::Handler;
use skep_resp::Reply;

use crate::cells::DoPart;
use crate::transaction::{self, Steer};
use crate::{Node, Output};

pub(crate) use cluster::ShardNews;
pub(crate) use config::asks_cluster;
pub(crate) use info::Figures;
pub(crate) use monitor::Monitors;
pub(crate) use pause::Pause;
pub(crate) use pubsub::refused_while_listening;

/// One call of a command of the node.
pub(crate) struct Call<'a, 'r> {
    pub conn: ConnId,
    pub args: Args<'a>,
    pub reply: &'a mut Reply<'r>,
    pub out: &'a mut Vec<Output>,
    /// Whether the client gets the reply; `CLIENT REPLY ON` and `RESET` answer even while replies are off.
    pub heard: &'a mut bool,
}

/// A command of the node. On an `Err` nothing was changed, and the refusal is the reply.
pub(crate) type Local = fn(&mut Node, Call<'_, '_>) -> Result<(), Refusal>;

/// Who runs a command.
#[derive(Clone, Copy)]
pub(crate) enum Route {
    Keyspace(Handler),
    Local(Local),
    /// What steers how the client's own commands are run.
    Steer(Steer),
    /// A container without its subcommand.
    None,
}

/// From the command table to the functions.
pub(crate) struct Routes {
    by_id: Vec<Route>,
    parts: Vec<Option<DoPart>>,
}

/// The commands of one file that concern the whole node, with what each cell does for them.
type Parts = &'static [(&'static str, DoPart)];

const PARTS: &[Parts] = &[
    acl::PARTS,
    client::PARTS,
    client_list::PARTS,
    cluster::PARTS,
    config::PARTS,
    gateway::PARTS,
    info::PARTS,
    memory::PARTS,
    monitor::PARTS,
    server::PARTS,
    skep::PARTS,
    slow::PARTS,
    tracking::PARTS,
];

/// The commands of one file.
type Group = &'static [(&'static str, Local)];

const LOCAL: &[Group] = &[
    acl::COMMANDS,
    client::COMMANDS,
    client_list::COMMANDS,
    cluster::COMMANDS,
    config::COMMANDS,
    connection::COMMANDS,
    elsewhere::COMMANDS,
    gateway::COMMANDS,
    info::COMMANDS,
    memory::COMMANDS,
    monitor::COMMANDS,
    pubsub::COMMANDS,
    scripting::COMMANDS,
    server::COMMANDS,
    skep::COMMANDS,
    slow::COMMANDS,
    tracking::COMMANDS,
];

impl Routes {
    /// Panics if a function has a name that is not in the command table.
    pub fn new() -> Routes {
        let mut by_id = vec![Route::None; COMMAND_COUNT];
        let mut set = |name: &str, route: Route| {
            let Some(command) = lookup_full(name.as_bytes()) else {
                panic!("{name} is not in the command table")
            };
            by_id[command.id().index()] = route;
        };
        skep_keyspace::handlers().for_each(|(name, handler)| set(name, Route::Keyspace(handler)));
        LOCAL.iter().flat_map(|group| group.iter()).for_each(|(name, run)| set(name, Route::Local(*run)));
        // What shards do for them is not what a client calls.
        transaction::COMMANDS.iter().for_each(|(name, run)| set(name, Route::Steer(*run)));
        let mut parts = vec![None; COMMAND_COUNT];
        for (name, part) in PARTS.iter().flat_map(|group| group.iter()) {
            let Some(command) = lookup_full(name.as_bytes()) else {
                panic!("{name} is not in the command table")
            };
            parts[command.id().index()] = Some(*part);
        }
        Routes { by_id, parts }
    }

    /// What each cell does for a command about the whole node.
    pub fn part_of(&self, command: &CommandSpec) -> Option<DoPart> {
        self.parts[command.id().index()]
    }

    #[inline]
    pub fn of(&self, command: &CommandSpec) -> Route {
        self.by_id[command.id().index()]
    }
}

/// `HELP` of any container.
fn help(_: &mut Node, call: Call) -> Result<(), Refusal> {
    match lookup_full(&call.args[0].to_ascii_lowercase()) {
        Some(container) => describe::help(container, call.reply),
        None => return Err(Refusal::Syntax),
    }
    Ok(())
}

/// A subcommand with more arguments than it takes, where the table gives no upper bound.
fn too_many(args: Args<'_>) -> Refusal {
    Refusal::format(format!(
        "ERR unknown subcommand or wrong number of arguments for '{}'. Try {} HELP.",
        String::from_utf8_lossy(&args[1]),
        String::from_utf8_lossy(&args[0]).to_ascii_uppercase(),
    ))
}
