//! Commands that cluster-aware clients send.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("asking", 1, FAST, CONNECTION, "3.0.0").docs("O(1)", "Is accepted, and changes nothing."),
    command("cluster", -2, 0, 0, "3.0.0").docs("Depends on the subcommand", "Looks at the cluster."),
    command("cluster|addslots", -3, ADMIN | STALE | NO_ASYNC_LOADING, 0, "3.0.0")
        .syntax("slot:integer...")
        .docs("O(1)", "Is refused: the cluster deals out slots by itself."),
    command("cluster|addslotsrange", -4, ADMIN | STALE | NO_ASYNC_LOADING, 0, "7.0.0")
        .syntax("(start-slot:integer end-slot:integer)...")
        .docs("O(1)", "Is refused: the cluster deals out slots by itself."),
    command("cluster|bumpepoch", 2, ADMIN | STALE | NO_ASYNC_LOADING, 0, "3.0.0")
        .tips(&["nondeterministic_output"])
        .docs("O(1)", "Is refused: the cluster deals out slots by itself."),
    command("cluster|count-failure-reports", 3, ADMIN | STALE, 0, "3.0.0")
        .tips(&["nondeterministic_output"])
        .syntax("node-id")
        .docs("O(1)", "Is refused with what to use instead."),
    command("cluster|countkeysinslot", 3, STALE, 0, "3.0.0")
        .syntax("slot")
        .docs("O(1)", "Counts the keys of a slot."),
    command("cluster|delslots", -3, ADMIN | STALE | NO_ASYNC_LOADING, 0, "3.0.0")
        .syntax("slot:integer...")
        .docs("O(1)", "Is refused: the cluster deals out slots by itself."),
    command("cluster|delslotsrange", -4, ADMIN | STALE | NO_ASYNC_LOADING, 0, "7.0.0")
        .syntax("(start-slot:integer end-slot:integer)...")
        .docs("O(1)", "Is refused: the cluster deals out slots by itself."),
    command("cluster|failover", -2, ADMIN | STALE | NO_ASYNC_LOADING, 0, "3.0.0")
        .syntax("[FORCE | TAKEOVER]")
        .docs("O(1)", "Is refused: leaders change by themselves."),
    command("cluster|flushslots", 2, ADMIN | STALE | NO_ASYNC_LOADING, 0, "3.0.0")
        .docs("O(1)", "Is refused: the cluster deals out slots by itself."),
    command("cluster|forget", 3, ADMIN | STALE | NO_ASYNC_LOADING, 0, "3.0.0")
        .syntax("node-id")
        .docs("O(1)", "Is refused with what to use instead."),
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
    command("cluster|links", 2, STALE, 0, "7.0.0")
        .tips(&["nondeterministic_output"])
        .docs("O(1)", "Is refused with what to use instead."),
    command("cluster|meet", -4, ADMIN | STALE | NO_ASYNC_LOADING, 0, "3.0.0")
        .syntax("ip port [cluster_bus_port:integer]")
        .docs("O(1)", "Is refused: nodes join by --join."),
    command("cluster|myid", 2, STALE, 0, "3.0.0").docs("O(1)", "Gives the id of this node."),
    command("cluster|myshardid", 2, STALE, 0, "7.2.0")
        .tips(&["nondeterministic_output"])
        .docs("O(1)", "Is refused with what to use instead."),
    command("cluster|nodes", 2, STALE, 0, "3.0.0")
        .tips(&["nondeterministic_output"])
        .docs("O(N) in the nodes", "Lists the nodes as text."),
    command("cluster|replicas", 3, ADMIN | STALE, 0, "5.0.0")
        .tips(&["nondeterministic_output"])
        .syntax("node-id")
        .docs("O(1)", "Is refused with what to use instead."),
    command("cluster|replicate", 3, ADMIN | STALE | NO_ASYNC_LOADING, 0, "3.0.0")
        .syntax("node-id")
        .docs("O(1)", "Is refused with what to use instead."),
    command("cluster|reset", -2, ADMIN | NOSCRIPT | STALE, 0, "3.0.0")
        .syntax("[HARD | SOFT]")
        .docs("O(1)", "Is refused with what to use instead."),
    command("cluster|saveconfig", 2, ADMIN | STALE | NO_ASYNC_LOADING, 0, "3.0.0")
        .docs("O(1)", "Is refused with what to use instead."),
    command("cluster|set-config-epoch", 3, ADMIN | STALE | NO_ASYNC_LOADING, 0, "3.0.0")
        .syntax("config-epoch:integer")
        .docs("O(1)", "Is refused: the cluster deals out slots by itself."),
    command("cluster|setslot", -4, ADMIN | STALE | NO_ASYNC_LOADING, 0, "3.0.0")
        .syntax("slot:integer (IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE)")
        .docs("O(1)", "Is refused: the cluster deals out slots by itself."),
    command("cluster|shards", 2, STALE, 0, "7.0.0")
        .tips(&["nondeterministic_output"])
        .docs("O(N) in the shards", "Lists the shards with their slots and nodes."),
    command("cluster|slaves", 3, ADMIN | STALE, 0, "3.0.0")
        .deprecated("5.0.0", "CLUSTER REPLICAS")
        .tips(&["nondeterministic_output"])
        .syntax("node-id")
        .docs("O(1)", "Is refused with what to use instead."),
    command("cluster|slots", 2, STALE, 0, "3.0.0")
        .tips(&["nondeterministic_output"])
        .deprecated("7.0.0", "CLUSTER SHARDS")
        .docs("O(N) in the shards", "Lists the ranges of slots with their nodes."),
    command("readonly", 1, LOADING | STALE | FAST, CONNECTION, "3.0.0")
        .docs("O(1)", "Is accepted: reads are answered by any node."),
    command("readwrite", 1, LOADING | STALE | FAST, CONNECTION, "3.0.0")
        .docs("O(1)", "Is accepted: ends READONLY."),
    command("skep", -2, 0, 0, "7.4.0").docs("Depends on the subcommand", "Changes the cluster."),
    command("skep|gateway", -3, ADMIN | NOSCRIPT | STALE | NO_MULTI, 0, "7.4.0")
        .tips(&["nondeterministic_output"])
        .syntax("(LIST | GET [version:integer] | SET base:integer reason:string text:string)")
        .docs("O(N) in the text", "Tells or changes the gateway's configuration, which all nodes have."),
    command("skep|help", 2, LOADING | STALE, 0, "7.4.0").docs("O(1)", "Explains the subcommands."),
    command("skep|node", 4, ADMIN | NOSCRIPT | STALE | NO_MULTI, 0, "7.4.0")
        .syntax("<DRAIN | UNDRAIN | REMOVE> node:string")
        .docs("O(1)", "Takes everything off a node, ends that, or forgets a node that is empty."),
];
