//! Commands on HyperLogLogs, which are strings.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("pfadd", -2, WRITE | DENYOOM | FAST, HYPERLOGLOG, "2.8.9")
        .keys_at(&[key(1, RW | INSERT)])
        .syntax("key [element...]")
        .docs("O(N) in the elements", "Adds elements to a HyperLogLog."),
    command("pfcount", -2, READONLY, HYPERLOGLOG, "2.8.9")
        .keys_at(&[keys(1, -1, RW | ACCESS).note("may refresh the cached count")])
        .syntax("key...")
        .docs("O(N) in the keys", "Estimates how many distinct elements were added."),
    command("pfdebug", 3, WRITE | DENYOOM | ADMIN, HYPERLOGLOG, "2.8.9")
        .keys_at(&[key(2, RW | ACCESS)])
        .syntax("subcommand key")
        .docs("O(1)", "Is refused: it tests the inside of Redis."),
    command("pfmerge", -2, WRITE | DENYOOM, HYPERLOGLOG, "2.8.9")
        .keys_at(&[key(1, RW | ACCESS | INSERT), keys(2, -1, RO | ACCESS)])
        .syntax("destkey [sourcekey...]")
        .docs("O(N) in the keys", "Unites several HyperLogLogs in one."),
    command("pfselftest", 1, ADMIN, HYPERLOGLOG, "2.8.9")
        .docs("O(1)", "Is refused: it tests the inside of Redis."),
];
