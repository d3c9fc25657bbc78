//! Commands of Redis that have no meaning here: each is refused with what to use instead.

use skep_base::Refusal;

use super::{Call, Group};

pub const COMMANDS: Group = &[
    ("cluster|addslots", |_, call| refused(call, SLOTS)),
    ("cluster|addslotsrange", |_, call| refused(call, SLOTS)),
    ("cluster|bumpepoch", |_, call| refused(call, SLOTS)),
    ("cluster|count-failure-reports", |_, call| refused(call, NODES)),
    ("cluster|delslots", |_, call| refused(call, SLOTS)),
    ("cluster|delslotsrange", |_, call| refused(call, SLOTS)),
    ("cluster|failover", |_, call| refused(call, LEADERS)),
    ("cluster|flushslots", |_, call| refused(call, SLOTS)),
    ("cluster|forget", |_, call| refused(call, NODES)),
    ("cluster|links", |_, call| refused(call, NODES)),
    ("cluster|meet", |_, call| {
        refused(call, "start the other node with `skep serve --join` and the peer address of this one")
    }),
    ("cluster|myshardid", |_, call| refused(call, "a node has copies of several shards; see CLUSTER SHARDS")),
    ("cluster|replicas", |_, call| refused(call, REPLICAS)),
    ("cluster|replicate", |_, call| {
        refused(call, "the cluster makes copies by itself, as many as --replicas says")
    }),
    ("cluster|reset", |_, call| refused(call, NODES)),
    ("cluster|saveconfig", |_, call| {
        refused(call, "the state of the cluster is on disk before a change of it is answered")
    }),
    ("cluster|set-config-epoch", |_, call| refused(call, SLOTS)),
    ("cluster|setslot", |_, call| refused(call, SLOTS)),
    ("cluster|slaves", |_, call| refused(call, REPLICAS)),
    ("failover", |_, call| refused(call, LEADERS)),
    ("migrate", |_, call| {
        refused(call, "copies move by themselves; use DUMP and RESTORE to take a key to another system")
    }),
    ("module|load", |_, call| refused(call, MODULES)),
    ("module|loadex", |_, call| refused(call, MODULES)),
    ("module|unload", |_, call| refused(call, MODULES)),
    ("pfdebug", |_, call| refused(call, TESTS)),
    ("pfselftest", |_, call| refused(call, TESTS)),
    ("psync", |_, call| refused(call, REPLICATION)),
    ("replconf", |_, call| refused(call, REPLICATION)),
    ("restore-asking", |_, call| refused(call, "use RESTORE")),
    ("sync", |_, call| refused(call, REPLICATION)),
];

const SLOTS: &str = "the cluster deals out slots by itself when it is founded (--shards)";
const NODES: &str =
    "see CLUSTER NODES and `skep status`; `skep node drain` and `skep node remove` change members";
const LEADERS: &str =
    "leaders change by themselves; `skep node drain` or stopping a node takes its leadership away";
const REPLICAS: &str =
    "nodes are not replicas of other nodes, shards have copies on several: see CLUSTER SHARDS";
const MODULES: &str = "there are no modules";
const TESTS: &str = "it tests the inside of Redis";
const REPLICATION: &str = "nodes replicate by consensus; start one with `skep serve --join` to add copies";

/// The error of a command that is refused, with its name and what to do.
fn refused(call: Call<'_, '_>, instead: &str) -> Result<(), Refusal> {
    let name = skep_command::resolve(call.args)?.name.replace('|', " ").to_ascii_uppercase();
    Err(Refusal::format(format!("ERR {name} is not available in skep: {instead}")))
}
