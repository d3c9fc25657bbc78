//! Commands on hashes, the deadlines of their fields included.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("hdel", -3, WRITE | FAST, HASH, "2.0.0")
        .keys_at(&[key(1, RW | DELETE)])
        .syntax("key field...")
        .docs("O(N) in the fields", "Deletes fields of a hash."),
    command("hexists", 3, READONLY | FAST, HASH, "2.0.0")
        .keys_at(&[key(1, RO)])
        .syntax("key field")
        .docs("O(1)", "Tells if a hash has a field."),
    command("hexpire", -6, WRITE | DENYOOM | FAST, HASH, "7.4.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key seconds [NX | XX | GT | LT] FIELDS numfields field...")
        .docs("O(N) in the fields", "Gives hash fields a lifetime in seconds."),
    command("hexpireat", -6, WRITE | DENYOOM | FAST, HASH, "7.4.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field...")
        .docs("O(N) in the fields", "Gives hash fields a deadline in Unix seconds."),
    command("hexpiretime", -5, READONLY | FAST, HASH, "7.4.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key FIELDS numfields field...")
        .docs("O(N) in the fields", "Reads the deadlines of hash fields in Unix seconds."),
    command("hget", 3, READONLY | FAST, HASH, "2.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key field")
        .docs("O(1)", "Reads a field of a hash."),
    command("hgetall", 2, READONLY, HASH, "2.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output_order"])
        .syntax("key")
        .docs("O(N) in the size of the hash", "Reads all fields and values of a hash."),
    command("hincrby", 4, WRITE | DENYOOM | FAST, HASH, "2.0.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .syntax("key field increment")
        .docs("O(1)", "Adds a number to the integer in a hash field."),
    command("hincrbyfloat", 4, WRITE | DENYOOM | FAST, HASH, "2.6.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .syntax("key field increment:double")
        .docs("O(1)", "Adds a decimal number to the one in a hash field."),
    command("hkeys", 2, READONLY, HASH, "2.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output_order"])
        .syntax("key")
        .docs("O(N) in the size of the hash", "Reads the names of all fields of a hash."),
    command("hlen", 2, READONLY | FAST, HASH, "2.0.0")
        .keys_at(&[key(1, RO)])
        .syntax("key")
        .docs("O(1)", "Counts the fields of a hash."),
    command("hmget", -3, READONLY | FAST, HASH, "2.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key field...")
        .docs("O(N) in the fields", "Reads several fields of a hash."),
    command("hmset", -4, WRITE | DENYOOM | FAST, HASH, "2.0.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .deprecated("4.0.0", "HSET")
        .syntax("key (field value)...")
        .docs("O(N) in the fields", "Sets several fields of a hash."),
    command("hpersist", -5, WRITE | FAST, HASH, "7.4.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key FIELDS numfields field...")
        .docs("O(N) in the fields", "Takes the deadlines of hash fields away."),
    command("hpexpire", -6, WRITE | DENYOOM | FAST, HASH, "7.4.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key milliseconds [NX | XX | GT | LT] FIELDS numfields field...")
        .docs("O(N) in the fields", "Gives hash fields a lifetime in milliseconds."),
    command("hpexpireat", -6, WRITE | DENYOOM | FAST, HASH, "7.4.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field...")
        .docs("O(N) in the fields", "Gives hash fields a deadline in Unix milliseconds."),
    command("hpexpiretime", -5, READONLY | FAST, HASH, "7.4.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key FIELDS numfields field...")
        .docs("O(N) in the fields", "Reads the deadlines of hash fields in Unix milliseconds."),
    command("hpttl", -5, READONLY | FAST, HASH, "7.4.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key FIELDS numfields field...")
        .docs("O(N) in the fields", "Reads what is left of the lifetimes of hash fields in milliseconds."),
    command("hrandfield", -2, READONLY, HASH, "6.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key [count [WITHVALUES]]")
        .docs("O(N) in the fields returned", "Picks fields of a hash at random."),
    command("hscan", -3, READONLY, HASH, "2.8.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key cursor [MATCH pattern] [COUNT count] [NOVALUES]")
        .docs("O(1) a call, O(N) for a whole round", "Walks through the fields of a hash in steps."),
    command("hset", -4, WRITE | DENYOOM | FAST, HASH, "2.0.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key (field value)...")
        .docs("O(N) in the fields", "Sets fields of a hash."),
    command("hsetnx", 4, WRITE | DENYOOM | FAST, HASH, "2.0.0")
        .keys_at(&[key(1, RW | INSERT)])
        .syntax("key field value")
        .docs("O(1)", "Sets a field of a hash if it does not exist."),
    command("hstrlen", 3, READONLY | FAST, HASH, "3.2.0")
        .keys_at(&[key(1, RO)])
        .syntax("key field")
        .docs("O(1)", "Gives the length of a hash field's value in bytes."),
    command("httl", -5, READONLY | FAST, HASH, "7.4.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key FIELDS numfields field...")
        .docs("O(N) in the fields", "Reads what is left of the lifetimes of hash fields in seconds."),
    command("hvals", 2, READONLY, HASH, "2.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output_order"])
        .syntax("key")
        .docs("O(N) in the size of the hash", "Reads all values of a hash."),
];
