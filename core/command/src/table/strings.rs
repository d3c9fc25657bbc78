//! Commands on strings.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("append", 3, WRITE | DENYOOM | FAST, STRING, "2.0.0")
        .keys_at(&[key(1, RW | INSERT)])
        .syntax("key value")
        .docs("O(1) amortized", "Adds text to the end of a string."),
    command("decr", 2, WRITE | DENYOOM | FAST, STRING, "1.0.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .syntax("key")
        .docs("O(1)", "Takes one from the integer in a string."),
    command("decrby", 3, WRITE | DENYOOM | FAST, STRING, "1.0.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .syntax("key decrement")
        .docs("O(1)", "Takes a number from the integer in a string."),
    command("get", 2, READONLY | FAST, STRING, "1.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key")
        .docs("O(1)", "Reads a string."),
    command("getdel", 2, WRITE | FAST, STRING, "6.2.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE)])
        .syntax("key")
        .docs("O(1)", "Reads a string and deletes its key."),
    command("getex", -2, WRITE | FAST, STRING, "6.2.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE).note("changes at most the deadline")])
        .syntax(
            "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT \
             unix-time-milliseconds | PERSIST]",
        )
        .docs("O(1)", "Reads a string and sets or removes its deadline."),
    command("getrange", 4, READONLY, STRING, "2.4.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key start end")
        .docs("O(N) in the bytes returned", "Reads a part of a string by byte offsets."),
    command("getset", 3, WRITE | DENYOOM | FAST, STRING, "1.0.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .deprecated("6.2.0", "SET with GET")
        .syntax("key value")
        .docs("O(1)", "Sets a string and returns what it was before."),
    command("incr", 2, WRITE | DENYOOM | FAST, STRING, "1.0.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .syntax("key")
        .docs("O(1)", "Adds one to the integer in a string."),
    command("incrby", 3, WRITE | DENYOOM | FAST, STRING, "1.0.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .syntax("key increment")
        .docs("O(1)", "Adds a number to the integer in a string."),
    command("incrbyfloat", 3, WRITE | DENYOOM | FAST, STRING, "2.6.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .syntax("key increment:double")
        .docs("O(1)", "Adds a decimal number to the one in a string."),
    command("lcs", -3, READONLY, STRING, "7.0.0")
        .keys_at(&[keys(1, 1, RO | ACCESS)])
        .syntax("key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]")
        .docs(
            "O(N*M) in the lengths of both strings",
            "Finds the longest common subsequence of two strings.",
        ),
    command("mget", -2, READONLY | FAST, STRING, "1.0.0")
        .keys_at(&[keys(1, -1, RO | ACCESS)])
        .tips(&["request_policy:multi_shard"])
        .syntax("key...")
        .docs("O(N) in the keys", "Reads several strings."),
    command("mset", -3, WRITE | DENYOOM, STRING, "1.0.1")
        .keys_at(&[keys(1, -1, OW | UPDATE).step(2)])
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .syntax("(key value)...")
        .docs("O(N) in the keys", "Sets several strings at once."),
    command("msetnx", -3, WRITE | DENYOOM, STRING, "1.0.1")
        .keys_at(&[keys(1, -1, OW | INSERT).step(2)])
        .tips(&["request_policy:multi_shard", "response_policy:agg_min"])
        .syntax("(key value)...")
        .docs("O(N) in the keys", "Sets several strings if none of the keys exists."),
    command("psetex", 4, WRITE | DENYOOM, STRING, "2.6.0")
        .keys_at(&[key(1, OW | UPDATE)])
        .syntax("key milliseconds value")
        .docs("O(1)", "Sets a string with a lifetime in milliseconds."),
    command("set", -3, WRITE | DENYOOM, STRING, "1.0.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE | VARIABLE_FLAGS)
            .note("written only, unless GET asks for the old value")])
        .special(Special::Set)
        .syntax(
            "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
             PXAT unix-time-milliseconds | KEEPTTL]",
        )
        .docs("O(1)", "Sets a string, whatever the key held before."),
    command("setex", 4, WRITE | DENYOOM, STRING, "2.0.0")
        .keys_at(&[key(1, OW | UPDATE)])
        .syntax("key seconds value")
        .docs("O(1)", "Sets a string with a lifetime in seconds."),
    command("setnx", 3, WRITE | DENYOOM | FAST, STRING, "1.0.0")
        .keys_at(&[key(1, OW | INSERT)])
        .syntax("key value")
        .docs("O(1)", "Sets a string if the key does not exist."),
    command("setrange", 4, WRITE | DENYOOM, STRING, "2.2.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key offset value")
        .docs("O(N) in the bytes written", "Overwrites a part of a string from a byte offset on."),
    command("strlen", 2, READONLY | FAST, STRING, "2.2.0")
        .keys_at(&[key(1, RO)])
        .syntax("key")
        .docs("O(1)", "Gives the length of a string in bytes."),
    command("substr", 4, READONLY, STRING, "1.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .deprecated("2.0.0", "GETRANGE")
        .syntax("key start end")
        .docs("O(N) in the bytes returned", "Reads a part of a string by byte offsets."),
];
