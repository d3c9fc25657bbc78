//! Commands on streams and their consumer groups.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("xack", -4, WRITE | FAST, STREAM, "5.0.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key group id...")
        .docs("O(1) for each id", "Acknowledges entries that a consumer group has delivered."),
    command("xadd", -5, WRITE | DENYOOM | FAST, STREAM, "5.0.0")
        .keys_at(&[key(1, RW | UPDATE).note("UPDATE instead of INSERT because of the optional trimming feature")])
        .tips(&["nondeterministic_output"])
        .syntax(
            "key [NOMKSTREAM] [(MAXLEN | MINID) [= | ~] threshold [LIMIT count]] (* | id) (field value)...",
        )
        .docs("O(1), O(N) in the entries trimmed", "Appends an entry to a stream."),
    command("xautoclaim", -6, WRITE | FAST, STREAM, "6.2.0")
        .keys_at(&[key(1, RW | DELETE)])
        .tips(&["nondeterministic_output"])
        .syntax("key group consumer min-idle-time start:string [COUNT count] [JUSTID]")
        .docs(
            "O(1) if COUNT is small",
            "Gives to a consumer what others have not acknowledged for some time, as a walk in steps.",
        ),
    command("xclaim", -6, WRITE | FAST, STREAM, "5.0.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .tips(&["nondeterministic_output"])
        .syntax(
            "key group consumer min-idle-time id... [IDLE ms:integer] [TIME unix-time-milliseconds] [RETRYCOUNT count] \
             [FORCE] [JUSTID] [LASTID lastid]",
        )
        .docs("O(log N) in what is not acknowledged", "Gives entries that are not acknowledged to another consumer."),
    command("xdel", -3, WRITE | FAST, STREAM, "5.0.0")
        .keys_at(&[key(1, RW | DELETE)])
        .syntax("key id...")
        .docs("O(1) for each id", "Deletes entries of a stream."),
    command("xgroup", -2, 0, 0, "5.0.0").docs("Depends on the subcommand", "Manages consumer groups."),
    command("xgroup|create", -5, WRITE | DENYOOM, STREAM, "5.0.0")
        .keys_at(&[key(2, RW | INSERT)])
        .syntax("key group (id | $) [MKSTREAM] [ENTRIESREAD entries-read:integer]")
        .docs("O(1)", "Creates a consumer group."),
    command("xgroup|createconsumer", 5, WRITE | DENYOOM, STREAM, "6.2.0")
        .keys_at(&[key(2, RW | INSERT)])
        .syntax("key group consumer")
        .docs("O(1)", "Creates a consumer in a group."),
    command("xgroup|delconsumer", 5, WRITE, STREAM, "5.0.0")
        .keys_at(&[key(2, RW | DELETE)])
        .syntax("key group consumer")
        .docs("O(N) in what it has not acknowledged", "Deletes a consumer with what it has not acknowledged."),
    command("xgroup|destroy", 4, WRITE, STREAM, "5.0.0")
        .keys_at(&[key(2, RW | DELETE)])
        .syntax("key group")
        .docs("O(N) in what is not acknowledged", "Deletes a consumer group."),
    command("xgroup|help", 2, LOADING | STALE, STREAM, "5.0.0").docs("O(1)", "Explains the subcommands."),
    command("xgroup|setid", -5, WRITE, STREAM, "5.0.0")
        .keys_at(&[key(2, RW | UPDATE)])
        .syntax("key group (id | $) [ENTRIESREAD entries-read:integer]")
        .docs("O(1)", "Sets the id up to which a group counts as served."),
    command("xinfo", -2, 0, 0, "5.0.0").docs("Depends on the subcommand", "Describes streams and their groups."),
    command("xinfo|consumers", 4, READONLY, STREAM, "5.0.0")
        .keys_at(&[key(2, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key group")
        .docs("O(N) in the consumers", "Lists the consumers of a group."),
    command("xinfo|groups", 3, READONLY, STREAM, "5.0.0")
        .keys_at(&[key(2, RO | ACCESS)])
        .syntax("key")
        .docs("O(N) in the groups", "Lists the consumer groups of a stream."),
    command("xinfo|help", 2, LOADING | STALE, STREAM, "5.0.0").docs("O(1)", "Explains the subcommands."),
    command("xinfo|stream", -3, READONLY, STREAM, "5.0.0")
        .keys_at(&[key(2, RO | ACCESS)])
        .syntax("key [FULL [COUNT count]]")
        .docs("O(1), with FULL O(N) in what is shown", "Describes a stream."),
    command("xlen", 2, READONLY | FAST, STREAM, "5.0.0")
        .keys_at(&[key(1, RO)])
        .syntax("key")
        .docs("O(1)", "Counts the entries of a stream."),
    command("xpending", -3, READONLY, STREAM, "5.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key group [[IDLE min-idle-time:integer] start:string end:string count [consumer]]")
        .docs("O(N) in the entries returned", "Tells what a group has delivered and nobody acknowledged."),
    command("xrange", -4, READONLY, STREAM, "5.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key start:string end:string [COUNT count]")
        .docs("O(log N + M) in the entries and those returned", "Reads entries of a stream by a range of ids."),
    command("xread", -4, READONLY | BLOCKING | MOVABLEKEYS, STREAM, "5.0.0")
        .keys_at(&[keyword("STREAMS", 1, RO | ACCESS).first_half()])
        .special(Special::Streams)
        .syntax("[COUNT count] [BLOCK milliseconds] STREAMS (key... id...)")
        .docs("O(log N + M) in the entries and those returned", "Reads entries of several streams above an id of each."),
    command("xreadgroup", -7, WRITE | BLOCKING | MOVABLEKEYS, STREAM, "5.0.0")
        .keys_at(&[keyword("STREAMS", 4, RO | ACCESS).first_half()])
        .special(Special::Streams)
        .syntax("GROUP (group consumer) [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS (key... id...)")
        .docs(
            "O(log N + M) in the entries and those returned",
            "Reads, as a consumer of a group, new entries or those it has not acknowledged.",
        ),
    command("xrevrange", -4, READONLY, STREAM, "5.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key end:string start:string [COUNT count]")
        .docs("O(log N + M) in the entries and those returned", "Reads entries of a stream by a range of ids, downwards."),
    command("xsetid", -3, WRITE | DENYOOM | FAST, STREAM, "5.0.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key last-id [ENTRIESADDED entries-added:integer] [MAXDELETEDID max-deleted-id]")
        .docs("O(1)", "Sets the last id of a stream."),
    command("xtrim", -4, WRITE, STREAM, "5.0.0")
        .keys_at(&[key(1, RW | DELETE)])
        .tips(&["nondeterministic_output"])
        .syntax("key (MAXLEN | MINID) [= | ~] threshold [LIMIT count]")
        .docs("O(N) in the entries trimmed", "Deletes entries from the front of a stream."),
];
