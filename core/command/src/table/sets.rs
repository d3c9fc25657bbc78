//! Commands on sets.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("sadd", -3, WRITE | DENYOOM | FAST, SET, "1.0.0")
        .keys_at(&[key(1, RW | INSERT)])
        .syntax("key member...")
        .docs("O(N) in the members", "Adds members to a set."),
    command("scard", 2, READONLY | FAST, SET, "1.0.0")
        .keys_at(&[key(1, RO)])
        .syntax("key")
        .docs("O(1)", "Counts the members of a set."),
    command("sdiff", -2, READONLY, SET, "1.0.0")
        .keys_at(&[keys(1, -1, RO | ACCESS)])
        .tips(&["nondeterministic_output_order"])
        .syntax("key...")
        .docs("O(N) in the members of all sets", "Gives the members of the first set that no other has."),
    command("sdiffstore", -3, WRITE | DENYOOM, SET, "1.0.0")
        .keys_at(&[key(1, OW | UPDATE), keys(2, -1, RO | ACCESS)])
        .syntax("destination key...")
        .docs("O(N) in the members of all sets", "Stores the members of the first set that no other has."),
    command("sinter", -2, READONLY, SET, "1.0.0")
        .keys_at(&[keys(1, -1, RO | ACCESS)])
        .tips(&["nondeterministic_output_order"])
        .syntax("key...")
        .docs("O(N*M) in the smallest set and the number of sets", "Gives the members that all sets have."),
    command("sintercard", -3, READONLY | MOVABLEKEYS, SET, "7.0.0")
        .keys_at(&[counted_keys(1, RO | ACCESS)])
        .syntax("numkeys key... [LIMIT limit]")
        .docs("O(N*M) in the smallest set and the number of sets", "Counts the members that all sets have."),
    command("sinterstore", -3, WRITE | DENYOOM, SET, "1.0.0")
        .keys_at(&[key(1, RW | UPDATE), keys(2, -1, RO | ACCESS)])
        .syntax("destination key...")
        .docs("O(N*M) in the smallest set and the number of sets", "Stores the members that all sets have."),
    command("sismember", 3, READONLY | FAST, SET, "1.0.0")
        .keys_at(&[key(1, RO)])
        .syntax("key member")
        .docs("O(1)", "Tells if a set has a member."),
    command("smembers", 2, READONLY, SET, "1.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output_order"])
        .syntax("key")
        .docs("O(N) in the size of the set", "Reads all members of a set."),
    command("smismember", -3, READONLY | FAST, SET, "6.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key member...")
        .docs("O(N) in the members", "Tells which of several members a set has."),
    command("smove", 4, WRITE | FAST, SET, "1.0.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE), key(2, RW | INSERT)])
        .syntax("source destination member")
        .docs("O(1)", "Moves a member from one set to another."),
    command("spop", -2, WRITE | FAST, SET, "1.0.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE)])
        .tips(&["nondeterministic_output"])
        .syntax("key [count]")
        .docs("O(N) in the members taken", "Takes random members from a set."),
    command("srandmember", -2, READONLY, SET, "1.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key [count]")
        .docs("O(N) in the members returned", "Picks members of a set at random."),
    command("srem", -3, WRITE | FAST, SET, "1.0.0")
        .keys_at(&[key(1, RW | DELETE)])
        .syntax("key member...")
        .docs("O(N) in the members", "Removes members from a set."),
    command("sscan", -3, READONLY, SET, "2.8.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key cursor [MATCH pattern] [COUNT count]")
        .docs("O(1) a call, O(N) for a whole round", "Walks through the members of a set in steps."),
    command("sunion", -2, READONLY, SET, "1.0.0")
        .keys_at(&[keys(1, -1, RO | ACCESS)])
        .tips(&["nondeterministic_output_order"])
        .syntax("key...")
        .docs("O(N) in the members of all sets", "Gives the members that any of the sets has."),
    command("sunionstore", -3, WRITE | DENYOOM, SET, "1.0.0")
        .keys_at(&[key(1, OW | UPDATE), keys(2, -1, RO | ACCESS)])
        .syntax("destination key...")
        .docs("O(N) in the members of all sets", "Stores the members that any of the sets has."),
];
