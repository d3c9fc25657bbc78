//! Commands on keys, whatever they hold.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("copy", -3, WRITE | DENYOOM, KEYSPACE, "6.2.0")
        .keys_at(&[key(1, RO | ACCESS), key(2, OW | UPDATE)])
        .syntax("source destination [DB destination-db] [REPLACE]")
        .docs("O(N) in the elements of the value", "Copies a value to another key."),
    command("del", -2, WRITE, KEYSPACE, "1.0.0")
        .keys_at(&[keys(1, -1, RM | DELETE)])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .syntax("key...")
        .docs("O(N) in the keys and their elements", "Deletes keys."),
    command("dump", 2, READONLY, KEYSPACE, "2.6.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key")
        .docs("O(N) in the bytes of the value", "Writes a value as bytes that RESTORE reads."),
    command("exists", -2, READONLY | FAST, KEYSPACE, "1.0.0")
        .keys_at(&[keys(1, -1, RO)])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .syntax("key...")
        .docs("O(N) in the keys", "Counts how many of the keys exist."),
    command("expire", -3, WRITE | FAST, KEYSPACE, "1.0.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key seconds [NX | XX | GT | LT]")
        .docs("O(1)", "Gives a key a lifetime in seconds."),
    command("expireat", -3, WRITE | FAST, KEYSPACE, "1.2.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key unix-time-seconds [NX | XX | GT | LT]")
        .docs("O(1)", "Gives a key a deadline in Unix seconds."),
    command("expiretime", 2, READONLY | FAST, KEYSPACE, "7.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key")
        .docs("O(1)", "Reads the deadline of a key in Unix seconds."),
    command("keys", 2, READONLY, KEYSPACE | DANGEROUS, "1.0.0")
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .syntax("pattern")
        .docs("O(N) in the keys of the database", "Lists the keys that match a pattern."),
    command("migrate", -6, WRITE, KEYSPACE | DANGEROUS, "2.6.0")
        .keys_at(&[key(3, RW | ACCESS | DELETE)])
        .tips(&["nondeterministic_output"])
        .syntax(
            "host port (key | \"\") destination-db timeout:integer [COPY] [REPLACE] [AUTH password | AUTH2 (username \
             password)] [KEYS key...]",
        )
        .docs("O(1)", "Is refused: copies move by themselves."),
    command("move", 3, WRITE | FAST, KEYSPACE, "1.0.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .syntax("key db")
        .docs("O(1)", "Moves a key to another database."),
    command("object", -2, 0, 0, "2.2.3").docs("Depends on the subcommand", "Tells how a value is kept."),
    command("object|encoding", 3, READONLY, KEYSPACE, "2.2.3")
        .keys_at(&[key(2, RO)])
        .tips(&["nondeterministic_output"])
        .syntax("key")
        .docs("O(1)", "Names the representation of a value."),
    command("object|freq", 3, READONLY, KEYSPACE, "4.0.0")
        .keys_at(&[key(2, RO)])
        .tips(&["nondeterministic_output"])
        .syntax("key")
        .docs("O(1)", "Tells how often a key was used, under an LFU policy."),
    command("object|help", 2, LOADING | STALE, KEYSPACE, "6.2.0").docs("O(1)", "Explains the subcommands."),
    command("object|idletime", 3, READONLY, KEYSPACE, "2.2.3")
        .keys_at(&[key(2, RO)])
        .tips(&["nondeterministic_output"])
        .syntax("key")
        .docs("O(1)", "Gives the seconds since a key was used."),
    command("object|refcount", 3, READONLY, KEYSPACE, "2.2.3")
        .keys_at(&[key(2, RO)])
        .tips(&["nondeterministic_output"])
        .syntax("key")
        .docs("O(1)", "Gives the number of references to a value."),
    command("once", -3, WRITE | DENYOOM | MOVABLEKEYS, KEYSPACE, "7.4.0")
        .keys_at(&[hidden(RW | ACCESS | UPDATE).note("the keys are those of the command behind the token")])
        .special(Special::Once)
        .syntax("token command [arg...]")
        .docs("As the command", "Runs a write at most once for its token; a repeat gets the first reply."),
    command("persist", 2, WRITE | FAST, KEYSPACE, "2.2.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key")
        .docs("O(1)", "Takes the deadline of a key away."),
    command("pexpire", -3, WRITE | FAST, KEYSPACE, "2.6.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key milliseconds [NX | XX | GT | LT]")
        .docs("O(1)", "Gives a key a lifetime in milliseconds."),
    command("pexpireat", -3, WRITE | FAST, KEYSPACE, "2.6.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key unix-time-milliseconds [NX | XX | GT | LT]")
        .docs("O(1)", "Gives a key a deadline in Unix milliseconds."),
    command("pexpiretime", 2, READONLY | FAST, KEYSPACE, "7.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key")
        .docs("O(1)", "Reads the deadline of a key in Unix milliseconds."),
    command("pttl", 2, READONLY | FAST, KEYSPACE, "2.6.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key")
        .docs("O(1)", "Reads what is left of a key's lifetime in milliseconds."),
    command("randomkey", 1, READONLY, KEYSPACE, "1.0.0")
        .tips(&["request_policy:all_shards", "nondeterministic_output"])
        .docs("O(1)", "Picks a key of the database at random."),
    command("rename", 3, WRITE, KEYSPACE, "1.0.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE), key(2, OW | UPDATE)])
        .syntax("key newkey")
        .docs("O(1)", "Gives a key another name, replacing what had that name."),
    command("renamenx", 3, WRITE | FAST, KEYSPACE, "1.0.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE), key(2, OW | INSERT)])
        .syntax("key newkey")
        .docs("O(1)", "Gives a key another name if that is free."),
    command("restore", -4, WRITE | DENYOOM, KEYSPACE | DANGEROUS, "2.6.0")
        .keys_at(&[key(1, OW | UPDATE)])
        .syntax("key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]")
        .docs("O(N) in the bytes of the value", "Makes a key from the bytes that DUMP wrote."),
    command("scan", -2, READONLY, KEYSPACE, "2.8.0")
        .tips(&["nondeterministic_output", "request_policy:special"])
        .syntax("cursor [MATCH pattern] [COUNT count] [TYPE type]")
        .docs("O(1) a call, O(N) for a whole round", "Walks through the keys of the database in steps."),
    command("sort", -2, WRITE | DENYOOM | MOVABLEKEYS, SET | SORTEDSET | LIST | DANGEROUS, "1.0.0")
        .keys_at(&[
            key(1, RO | ACCESS),
            hidden(RO | ACCESS).note("BY and GET patterns name keys by what the list or set holds"),
            hidden(OW | UPDATE).note("STORE may stand anywhere"),
        ])
        .special(Special::Sort)
        .syntax(
            "key [BY pattern] [LIMIT offset count] [GET pattern]... [ASC | DESC] [ALPHA] [STORE \
             destination]",
        )
        .docs(
            "O(N+M*log(M)) in all elements and those returned",
            "Sorts the elements of a list or set, and may store the result.",
        ),
    command("sort_ro", -2, READONLY | MOVABLEKEYS, SET | SORTEDSET | LIST | DANGEROUS, "7.0.0")
        .keys_at(&[
            key(1, RO | ACCESS),
            hidden(RO | ACCESS).note("BY and GET patterns name keys by what the list or set holds"),
        ])
        .syntax("key [BY pattern] [LIMIT offset count] [GET pattern]... [ASC | DESC] [ALPHA]")
        .docs("O(N+M*log(M)) in all elements and those returned", "Sorts the elements of a list or set."),
    command("touch", -2, READONLY | FAST, KEYSPACE, "3.2.1")
        .keys_at(&[keys(1, -1, RO)])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .syntax("key...")
        .docs("O(N) in the keys", "Marks keys as used just now."),
    command("ttl", 2, READONLY | FAST, KEYSPACE, "1.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key")
        .docs("O(1)", "Reads what is left of a key's lifetime in seconds."),
    command("type", 2, READONLY | FAST, KEYSPACE, "1.0.0")
        .keys_at(&[key(1, RO)])
        .syntax("key")
        .docs("O(1)", "Names the type of a value."),
    command("unlink", -2, WRITE | FAST, KEYSPACE, "4.0.0")
        .keys_at(&[keys(1, -1, RM | DELETE)])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .syntax("key...")
        .docs("O(N) in the keys", "Deletes keys and frees their memory later."),
    command("wait", 3, NOSCRIPT | BLOCKING, CONNECTION, "3.0.0")
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .syntax("numreplicas:integer timeout:integer")
        .docs("O(1)", "Waits until so many more copies hold on disk what the connection wrote."),
    command("waitaof", 4, NOSCRIPT | BLOCKING, CONNECTION, "7.2.0")
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .syntax("numlocal:integer numreplicas:integer timeout:integer")
        .docs("O(1)", "As WAIT, and until the leader has it on disk."),
];
