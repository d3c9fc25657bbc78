//! Commands that cluster-aware clients send.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("asking", 1, FAST, CONNECTION, "3.0.0").docs("O(1)", "Is accepted, and changes nothing."),
    command("cluster", -2, 0, 0, "3.0.0").docs("Depends on the subcommand", "Looks at the cluster."),
    command("cluster|countkeysinslot", 3, STALE, 0, "3.0.0")
        .syntax("slot")
        .docs("O(1)", "Counts the keys of a slot."),
    command("cluster|getkeysinslot", 4, STALE, 0, "3.0.0")
        .tips(&["nondeterministic_output"])
        .syntax("slot count")
        .docs("O(N) in the keys returned", "Lists keys of a slot."),
    command("cluster|help", 2, LOADING | STALE, 0, "5.0.0").docs("O(1)", "Explains the subcommands."),
    command("cluster|info", 2, STALE, 0, "3.0.0")
        .tips(&["nondeterministic_output"])
        .docs("O(1)", "Tells the state of the cluster."),
    command("cluster|keyslot", 3, STALE, 0, "3.0.0")
        .syntax("key:string")
        .docs("O(N) in the bytes of the key", "Computes the slot of a key."),
    command("cluster|myid", 2, STALE, 0, "3.0.0").docs("O(1)", "Gives the id of this node."),
    command("cluster|nodes", 2, STALE, 0, "3.0.0")
        .tips(&["nondeterministic_output"])
        .docs("O(N) in the nodes", "Lists the nodes as text."),
    command("cluster|shards", 2, STALE, 0, "7.0.0")
        .tips(&["nondeterministic_output"])
        .docs("O(N) in the shards", "Lists the shards with their slots and nodes."),
    command("cluster|slots", 2, STALE, 0, "3.0.0")
        .tips(&["nondeterministic_output"])
        .deprecated("7.0.0", "CLUSTER SHARDS")
        .docs("O(N) in the shards", "Lists the ranges of slots with their nodes."),
    command("readonly", 1, LOADING | STALE | FAST, CONNECTION, "3.0.0")
        .docs("O(1)", "Is accepted: reads are answered by any node."),
    command("readwrite", 1, LOADING | STALE | FAST, CONNECTION, "3.0.0")
        .docs("O(1)", "Is accepted: ends READONLY."),
    command("skep", -2, 0, 0, "7.4.0").docs("Depends on the subcommand", "Changes the cluster."),
    command("skep|help", 2, LOADING | STALE, 0, "7.4.0").docs("O(1)", "Explains the subcommands."),
    command("skep|node", 4, ADMIN | NOSCRIPT | STALE | NO_MULTI, 0, "7.4.0")
        .syntax("<DRAIN | UNDRAIN | REMOVE> node:string")
        .docs("O(1)", "Takes everything off a node, ends that, or forgets a node that is empty."),
];
