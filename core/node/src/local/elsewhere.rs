//! Commands of Redis that have no meaning here: each is refused with what to use instead.

use skep_base::{Args, Refusal};

use super::{Call, Group};
use crate::Node;

pub const COMMANDS: Group = &[
    ("cluster|addslots", slots),
    ("cluster|addslotsrange", slots),
    ("cluster|bumpepoch", slots),
    ("cluster|count-failure-reports", nodes),
    ("cluster|delslots", slots),
    ("cluster|delslotsrange", slots),
    ("cluster|failover", failover),
    ("cluster|flushslots", slots),
    ("cluster|forget", nodes),
    ("cluster|links", nodes),
    ("cluster|meet", meet),
    ("cluster|myshardid", shard_id),
    ("cluster|replicas", replicas),
    ("cluster|replicate", copies),
    ("cluster|reset", nodes),
    ("cluster|saveconfig", saveconfig),
    ("cluster|set-config-epoch", slots),
    ("cluster|setslot", slots),
    ("cluster|slaves", replicas),
    ("failover", failover),
    ("migrate", migrate),
    ("module|load", modules),
    ("module|loadex", modules),
    ("module|unload", modules),
    ("pfdebug", tests_of_redis),
    ("pfselftest", tests_of_redis),
    ("psync", replication),
    ("replconf", replication),
    ("restore-asking", restore_asking),
    ("sync", replication),
];

/// The error of a command that is refused, with its name and what to do.
fn refused(args: Args<'_>, is_container: bool, instead: &str) -> Result<(), Refusal> {
    let word = |at: usize| String::from_utf8_lossy(&args[at]).to_ascii_uppercase();
    let name = if is_container { format!("{} {}", word(0), word(1)) } else { word(0) };
    Err(Refusal::format(format!("ERR {name} is not available in skep: {instead}")))
}

fn slots(_: &mut Node, call: Call) -> Result<(), Refusal> {
    refused(call.args, true, "the cluster deals out slots by itself when it is founded (--shards)")
}

fn nodes(_: &mut Node, call: Call) -> Result<(), Refusal> {
    refused(
        call.args,
        true,
        "see CLUSTER NODES and `skep status`; `skep node drain` and `skep node remove` change members",
    )
}

fn meet(_: &mut Node, call: Call) -> Result<(), Refusal> {
    refused(call.args, true, "start the other node with `skep serve --join` and the peer address of this one")
}

fn shard_id(_: &mut Node, call: Call) -> Result<(), Refusal> {
    refused(call.args, true, "a node has copies of several shards; see CLUSTER SHARDS")
}

fn replicas(_: &mut Node, call: Call) -> Result<(), Refusal> {
    refused(
        call.args,
        true,
        "nodes are not replicas of other nodes, shards have copies on several: see CLUSTER SHARDS",
    )
}

fn copies(_: &mut Node, call: Call) -> Result<(), Refusal> {
    refused(call.args, true, "the cluster makes copies by itself, as many as --replicas says")
}

fn failover(_: &mut Node, call: Call) -> Result<(), Refusal> {
    let is_container = call.args.is(0, "cluster");
    refused(
        call.args,
        is_container,
        "leaders change by themselves; `skep node drain` or stopping a node takes its leadership away",
    )
}

fn saveconfig(_: &mut Node, call: Call) -> Result<(), Refusal> {
    refused(call.args, true, "the state of the cluster is on disk before a change of it is answered")
}

fn migrate(_: &mut Node, call: Call) -> Result<(), Refusal> {
    refused(
        call.args,
        false,
        "copies move by themselves; use DUMP and RESTORE to take a key to another system",
    )
}

fn modules(_: &mut Node, call: Call) -> Result<(), Refusal> {
    refused(call.args, true, "there are no modules")
}

fn tests_of_redis(_: &mut Node, call: Call) -> Result<(), Refusal> {
    refused(call.args, false, "it tests the inside of Redis")
}

fn replication(_: &mut Node, call: Call) -> Result<(), Refusal> {
    refused(
        call.args,
        false,
        "nodes replicate by consensus; start one with `skep serve --join` to add copies",
    )
}

fn restore_asking(_: &mut Node, call: Call) -> Result<(), Refusal> {
    refused(call.args, false, "use RESTORE")
}
