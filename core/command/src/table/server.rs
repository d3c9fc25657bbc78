//! Commands about the server: settings, state, checkpoints.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("acl", -2, 0, 0, "6.0.0").docs("Depends on the subcommand", "Looks at users and their rights."),
    command("acl|cat", -2, NOSCRIPT | LOADING | STALE, 0, "6.0.0")
        .syntax("[category]")
        .docs("O(1), or O(N) in the commands", "Names the categories, or the commands of one."),
    command("acl|deluser", -3, ADMIN | NOSCRIPT | LOADING | STALE, 0, "6.0.0")
        .syntax("username...")
        .docs("O(1) for each user", "Deletes users and closes their connections."),
    command("acl|dryrun", -4, ADMIN | NOSCRIPT | LOADING | STALE, 0, "7.0.0")
        .syntax("username command [arg...]")
        .docs("O(1)", "Tells whether a user may run a command, without running it."),
    command("acl|genpass", -2, NOSCRIPT | LOADING | STALE, 0, "6.0.0")
        .syntax("[bits:integer]")
        .docs("O(1)", "Draws a password."),
    command("acl|getuser", 3, ADMIN | NOSCRIPT | LOADING | STALE, 0, "6.0.0")
        .syntax("username")
        .docs("O(N) in the rules of the user", "Describes a user."),
    command("acl|help", 2, LOADING | STALE, 0, "6.0.0").docs("O(1)", "Explains the subcommands."),
    command("acl|list", 2, ADMIN | NOSCRIPT | LOADING | STALE, 0, "6.0.0")
        .docs("O(N) in the users", "Describes all users as rules."),
    command("acl|load", 2, ADMIN | NOSCRIPT | LOADING | STALE, 0, "6.0.0")
        .docs("O(1)", "Answers that the cluster keeps the users and there is no file of them."),
    command("acl|log", -2, ADMIN | NOSCRIPT | LOADING | STALE, 0, "6.0.0")
        .syntax("[count:integer | RESET]")
        .docs("O(N) in the entries returned", "Reads or forgets what was denied lately on this node."),
    command("acl|save", 2, ADMIN | NOSCRIPT | LOADING | STALE, 0, "6.0.0")
        .docs("O(1)", "Answers at once, since each change of a user is saved when it is answered."),
    command("acl|setuser", -3, ADMIN | NOSCRIPT | LOADING | STALE, 0, "6.0.0")
        .syntax("username [rule...]")
        .docs("O(N) in the rules", "Makes or changes a user."),
    command("acl|users", 2, ADMIN | NOSCRIPT | LOADING | STALE, 0, "6.0.0")
        .docs("O(N) in the users", "Names all users."),
    command("acl|whoami", 2, NOSCRIPT | LOADING | STALE, 0, "6.0.0")
        .docs("O(1)", "Names the user of this connection."),
    command("bgrewriteaof", 1, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, 0, "1.0.0")
        .docs("O(1)", "Takes a checkpoint in the background, so that the log can be cut."),
    command("bgsave", -1, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, 0, "1.0.0")
        .syntax("[SCHEDULE]")
        .docs("O(1)", "Takes a checkpoint in the background."),
    command("command", -1, LOADING | STALE, CONNECTION, "2.8.13")
        .tips(&["nondeterministic_output_order"])
        .docs("O(N) in the commands", "Describes all commands."),
    command("command|count", 2, LOADING | STALE, CONNECTION, "2.8.13").docs("O(1)", "Counts the commands."),
    command("command|docs", -2, LOADING | STALE, CONNECTION, "7.0.0")
        .tips(&["nondeterministic_output_order"])
        .syntax("[command-name...]")
        .docs("O(N) in the commands asked for", "Documents commands."),
    command("command|getkeys", -4, LOADING | STALE, CONNECTION, "2.8.13")
        .syntax("command-name [argument...]")
        .docs("O(N) in the arguments", "Picks the keys out of a command."),
    command("command|getkeysandflags", -4, LOADING | STALE, CONNECTION, "7.0.0")
        .syntax("command-name [argument...]")
        .docs("O(N) in the arguments", "Picks the keys out of a command, with what is done to them."),
    command("command|help", 2, LOADING | STALE, CONNECTION, "5.0.0")
        .docs("O(1)", "Explains the subcommands."),
    command("command|info", -2, LOADING | STALE, CONNECTION, "2.8.13")
        .tips(&["nondeterministic_output_order"])
        .syntax("[command-name...]")
        .docs("O(N) in the commands asked for", "Describes commands."),
    command("command|list", -2, LOADING | STALE, CONNECTION, "7.0.0")
        .tips(&["nondeterministic_output_order"])
        .syntax("[FILTERBY (MODULE module-name | ACLCAT category | PATTERN pattern)]")
        .docs("O(N) in the commands", "Names commands."),
    command("config", -2, 0, 0, "2.0.0").docs("Depends on the subcommand", "Reads and changes settings."),
    command("config|get", -3, ADMIN | NOSCRIPT | LOADING | STALE, 0, "2.0.0")
        .syntax("parameter...")
        .docs("O(N) in the settings", "Reads the settings that match patterns."),
    command("config|help", 2, LOADING | STALE, 0, "5.0.0").docs("O(1)", "Explains the subcommands."),
    command("config|resetstat", 2, ADMIN | NOSCRIPT | LOADING | STALE, 0, "2.0.0")
        .docs("O(1)", "Sets the counters of INFO to zero."),
    command("config|rewrite", 2, ADMIN | NOSCRIPT | LOADING | STALE, 0, "2.8.0")
        .docs("O(1)", "Writes the settings in force to the file."),
    command("config|set", -4, ADMIN | NOSCRIPT | LOADING | STALE, 0, "2.0.0")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .syntax("(parameter value)...")
        .docs("O(N) in the settings given", "Changes settings of the running server."),
    command("dbsize", 1, READONLY | FAST, KEYSPACE, "1.0.0")
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
        .docs("O(1)", "Counts the keys of the database."),
    command("debug", -2, ADMIN | NOSCRIPT | LOADING | STALE, 0, "1.0.0")
        .syntax("subcommand [argument...]")
        .docs("Depends on the subcommand", "Serves test suites."),
    command("failover", -1, ADMIN | NOSCRIPT | STALE, 0, "6.2.0")
        .syntax("[TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]")
        .docs("O(1)", "Is refused: leaders change by themselves."),
    command("flushall", -1, WRITE, KEYSPACE | DANGEROUS, "1.0.0")
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .syntax("[ASYNC | SYNC]")
        .docs("O(N) in all keys", "Deletes the keys of all databases."),
    command("flushdb", -1, WRITE, KEYSPACE | DANGEROUS, "1.0.0")
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .syntax("[ASYNC | SYNC]")
        .docs("O(N) in the keys of the database", "Deletes the keys of the database."),
    command("info", -1, LOADING | STALE, DANGEROUS, "1.0.0")
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .syntax("[section...]")
        .docs("O(1)", "Tells the state of the server, its counters and its settings."),
    command("lastsave", 1, LOADING | STALE | FAST, ADMIN_CATEGORY | DANGEROUS, "1.0.0")
        .tips(&["nondeterministic_output"])
        .docs("O(1)", "Gives the Unix time of the last checkpoint."),
    command("latency", -2, 0, 0, "2.8.13").docs("Depends on the subcommand", "Looks at what took long."),
    command("latency|doctor", 2, ADMIN | NOSCRIPT | LOADING | STALE, 0, "2.8.13")
        .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"])
        .docs("O(1)", "Says what took long, and what to do about it."),
    command("latency|graph", 3, ADMIN | NOSCRIPT | LOADING | STALE, 0, "2.8.13")
        .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"])
        .syntax("event")
        .docs("O(1)", "Draws the samples of an event."),
    command("latency|help", 2, LOADING | STALE, 0, "2.8.13").docs("O(1)", "Explains the subcommands."),
    command("latency|histogram", -2, ADMIN | NOSCRIPT | LOADING | STALE, 0, "7.0.0")
        .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"])
        .syntax("[command...]")
        .docs("O(N) in the commands", "Tells how calls of commands are spread over durations."),
    command("latency|history", 3, ADMIN | NOSCRIPT | LOADING | STALE, 0, "2.8.13")
        .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"])
        .syntax("event")
        .docs("O(1)", "Reads the samples of an event."),
    command("latency|latest", 2, ADMIN | NOSCRIPT | LOADING | STALE, 0, "2.8.13")
        .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"])
        .docs("O(1)", "Reads the newest sample of each event."),
    command("latency|reset", -2, ADMIN | NOSCRIPT | LOADING | STALE, 0, "2.8.13")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .syntax("[event...]")
        .docs("O(1)", "Forgets samples."),
    command("lolwut", -1, READONLY | FAST, 0, "5.0.0")
        .syntax("[VERSION version]")
        .docs("O(1)", "Draws something, and tells the version."),
    command("memory", -2, 0, 0, "4.0.0").docs("Depends on the subcommand", "Looks at the use of memory."),
    command("memory|doctor", 2, 0, 0, "4.0.0")
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .docs("O(1)", "Gives advice about the use of memory."),
    command("memory|help", 2, LOADING | STALE, 0, "4.0.0").docs("O(1)", "Explains the subcommands."),
    command("memory|malloc-stats", 2, 0, 0, "4.0.0")
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .docs("O(1)", "Tells what the allocator says about itself."),
    command("memory|purge", 2, 0, 0, "4.0.0")
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .docs("O(1)", "Asks the allocator to return what is free."),
    command("memory|stats", 2, 0, 0, "4.0.0")
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .docs("O(1)", "Tells where memory goes."),
    command("memory|usage", -3, READONLY, 0, "4.0.0")
        .keys_at(&[key(2, RO)])
        .syntax("key [SAMPLES count]")
        .docs("O(N) in the samples", "Estimates the memory of a key and its value."),
    command("module", -2, 0, 0, "4.0.0").docs("Depends on the subcommand", "Looks at loaded modules."),
    command("module|help", 2, LOADING | STALE, 0, "5.0.0").docs("O(1)", "Explains the subcommands."),
    command("module|list", 2, ADMIN | NOSCRIPT, 0, "4.0.0")
        .tips(&["nondeterministic_output_order"])
        .docs("O(N) in the modules", "Names the loaded modules."),
    command("module|load", -3, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, 0, "4.0.0")
        .syntax("path [arg...]")
        .docs("O(1)", "Is refused: there are no modules."),
    command("module|loadex", -3, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, 0, "7.0.0")
        .syntax("path [CONFIG (name value)...] [ARGS arg...]")
        .docs("O(1)", "Is refused: there are no modules."),
    command("module|unload", 3, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, 0, "4.0.0")
        .syntax("name")
        .docs("O(1)", "Is refused: there are no modules."),
    command("monitor", 1, ADMIN | NOSCRIPT | LOADING | STALE, 0, "1.0.0")
        .docs("O(1)", "Shows this connection all commands that the node is sent."),
    command("psync", -3, ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI, 0, "2.8.0")
        .syntax("replicationid offset")
        .docs("O(1)", "Is refused with what to use instead."),
    command("replconf", -1, ADMIN | NOSCRIPT | LOADING | STALE | ALLOW_BUSY, 0, "3.0.0")
        .docs("O(1)", "Is refused with what to use instead."),
    command("replicaof", 3, ADMIN | NOSCRIPT | STALE | NO_ASYNC_LOADING, 0, "5.0.0")
        .syntax("(host port | NO ONE)")
        .docs("O(1)", "Answers that replication is arranged by the cluster itself."),
    command("restore-asking", -4, WRITE | DENYOOM | ASKING, KEYSPACE | DANGEROUS, "3.0.0")
        .keys_at(&[key(1, OW | UPDATE)])
        .syntax(
            "key ttl:integer serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds:integer] [FREQ frequency]",
        )
        .docs("O(1)", "Is refused: use RESTORE."),
    command("role", 1, NOSCRIPT | LOADING | STALE | FAST, ADMIN_CATEGORY | DANGEROUS, "2.8.12")
        .docs("O(1)", "Tells the role of this node."),
    command("save", 1, ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI, 0, "1.0.0")
        .docs("O(N) in all keys", "Takes a checkpoint and waits for it."),
    command("shutdown", -1, ADMIN | NOSCRIPT | LOADING | STALE | NO_MULTI | ALLOW_BUSY, 0, "1.0.0")
        .syntax("[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]")
        .docs("O(N) in all keys with SAVE, else O(1)", "Stops the node."),
    command("slaveof", 3, ADMIN | NOSCRIPT | STALE | NO_ASYNC_LOADING, 0, "1.0.0")
        .deprecated("5.0.0", "REPLICAOF")
        .syntax("(host port | NO ONE)")
        .docs("O(1)", "Answers as REPLICAOF does."),
    command("slowlog", -2, 0, 0, "2.2.12")
        .docs("Depends on the subcommand", "Looks at commands that took long."),
    command("slowlog|get", -2, ADMIN | LOADING | STALE, 0, "2.2.12")
        .tips(&["request_policy:all_nodes", "nondeterministic_output"])
        .syntax("[count]")
        .docs("O(N) in the entries returned", "Reads the newest entries."),
    command("slowlog|help", 2, LOADING | STALE, 0, "6.2.0").docs("O(1)", "Explains the subcommands."),
    command("slowlog|len", 2, ADMIN | LOADING | STALE, 0, "2.2.12")
        .tips(&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"])
        .docs("O(1)", "Counts the entries."),
    command("slowlog|reset", 2, ADMIN | LOADING | STALE, 0, "2.2.12")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .docs("O(N) in the entries", "Forgets all entries."),
    command("swapdb", 3, WRITE | FAST, KEYSPACE | DANGEROUS, "4.0.0")
        .syntax("index1 index2")
        .docs("O(1)", "Exchanges the contents of two databases."),
    command("sync", 1, ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI, 0, "1.0.0")
        .docs("O(1)", "Is refused with what to use instead."),
    command("time", 1, LOADING | STALE | FAST, 0, "2.6.0")
        .tips(&["nondeterministic_output"])
        .docs("O(1)", "Gives the server's time."),
];
