//! Commands that run scripts and functions, and that keep them.

use super::prelude::*;

const WORST: &str =
    "What a script does to its keys is not known, so the worst is assumed: it reads and changes them.";
const WORST_READ: &str =
    "What a script does to its keys is not known, so the worst is assumed: it reads them.";
const DEPENDS: &str = "Depends on the script";

const RUNS: u32 = NOSCRIPT | STALE | SKIP_MONITOR | NO_MANDATORY_KEYS | MOVABLEKEYS;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("eval", -3, RUNS, SCRIPTING, "2.6.0")
        .keys_at(&[counted_keys(2, RW | ACCESS | UPDATE).note(WORST)])
        .syntax("script numkeys:integer [key...] [arg...]")
        .docs(DEPENDS, "Runs a script in Lua."),
    command("eval_ro", -3, RUNS | READONLY, SCRIPTING, "7.0.0")
        .keys_at(&[counted_keys(2, RO | ACCESS).note(WORST_READ)])
        .syntax("script numkeys:integer [key...] [arg...]")
        .docs(DEPENDS, "Runs a script in Lua that only reads."),
    command("evalsha", -3, RUNS, SCRIPTING, "2.6.0")
        .keys_at(&[counted_keys(2, RW | ACCESS | UPDATE)])
        .syntax("sha1 numkeys:integer [key...] [arg...]")
        .docs(DEPENDS, "Runs a script that is known, by the SHA-1 of its source."),
    command("evalsha_ro", -3, RUNS | READONLY, SCRIPTING, "7.0.0")
        .keys_at(&[counted_keys(2, RO | ACCESS)])
        .syntax("sha1 numkeys:integer [key...] [arg...]")
        .docs(DEPENDS, "Runs a script that is known and only reads, by the SHA-1 of its source."),
    command("fcall", -3, RUNS, SCRIPTING, "7.0.0")
        .keys_at(&[counted_keys(2, RW | ACCESS | UPDATE).note(WORST)])
        .syntax("function numkeys:integer [key...] [arg...]")
        .docs("Depends on the function", "Runs a function of a library."),
    command("fcall_ro", -3, RUNS | READONLY, SCRIPTING, "7.0.0")
        .keys_at(&[counted_keys(2, RO | ACCESS).note(WORST_READ)])
        .syntax("function numkeys:integer [key...] [arg...]")
        .docs("Depends on the function", "Runs a function of a library that only reads."),
    command("function", -2, 0, 0, "7.0.0").docs("Depends on the subcommand", "Keeps libraries of functions."),
    command("function|delete", 3, WRITE | NOSCRIPT, SCRIPTING, "7.0.0")
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .syntax("library-name")
        .docs("O(1)", "Removes a library and its functions."),
    command("function|dump", 2, NOSCRIPT, SCRIPTING, "7.0.0")
        .docs("O(N) in the libraries", "Writes all libraries as bytes that FUNCTION RESTORE reads."),
    command("function|flush", -2, WRITE | NOSCRIPT, SCRIPTING, "7.0.0")
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .syntax("[ASYNC | SYNC]")
        .docs("O(N) in the libraries", "Removes all libraries."),
    command("function|help", 2, LOADING | STALE, SCRIPTING, "7.0.0")
        .docs("O(1)", "Explains the subcommands."),
    command("function|kill", 2, NOSCRIPT | ALLOW_BUSY, SCRIPTING, "7.0.0")
        .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
        .docs("O(1)", "Finds nothing to end: functions end by themselves within their limits."),
    command("function|list", -2, NOSCRIPT, SCRIPTING, "7.0.0")
        .tips(&["nondeterministic_output_order"])
        .syntax("[LIBRARYNAME library-name-pattern] [WITHCODE]")
        .docs("O(N) in the functions", "Lists libraries and their functions."),
    command("function|load", -3, WRITE | DENYOOM | NOSCRIPT, SCRIPTING, "7.0.0")
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .syntax("[REPLACE] function-code")
        .docs("O(N) in the bytes of the code", "Adds a library of functions."),
    command("function|restore", -3, WRITE | DENYOOM | NOSCRIPT, SCRIPTING, "7.0.0")
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .syntax("serialized-value [FLUSH | APPEND | REPLACE]")
        .docs("O(N) in the functions", "Adds the libraries that FUNCTION DUMP wrote."),
    command("function|stats", 2, NOSCRIPT | ALLOW_BUSY, SCRIPTING, "7.0.0")
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .docs("O(N) in the libraries", "Counts libraries and functions."),
    command("script", -2, 0, 0, "2.6.0").docs("Depends on the subcommand", "Keeps scripts."),
    command("script|debug", 3, NOSCRIPT, SCRIPTING, "3.2.0")
        .syntax("(YES | SYNC | NO)")
        .docs("O(1)", "Is refused but for NO: there is no debugger."),
    command("script|exists", -3, NOSCRIPT, SCRIPTING, "2.6.0")
        .tips(&["request_policy:all_shards", "response_policy:agg_logical_and"])
        .syntax("sha1...")
        .docs("O(N) in the names", "Tells which scripts are known."),
    command("script|flush", -2, NOSCRIPT, SCRIPTING, "2.6.0")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .syntax("[ASYNC | SYNC]")
        .docs("O(N) in the scripts", "Forgets all scripts."),
    command("script|help", 2, LOADING | STALE, SCRIPTING, "5.0.0").docs("O(1)", "Explains the subcommands."),
    command("script|kill", 2, NOSCRIPT | ALLOW_BUSY, SCRIPTING, "2.6.0")
        .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
        .docs("O(1)", "Finds nothing to end: scripts end by themselves within their limits."),
    command("script|load", 3, NOSCRIPT | STALE, SCRIPTING, "2.6.0")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .syntax("script")
        .docs("O(N) in the bytes of the script", "Keeps a script, to be run by its SHA-1."),
    // Of Valkey 8.0.
    command("script|show", 3, NOSCRIPT | STALE, SCRIPTING, "8.0.0")
        .syntax("sha1")
        .docs("O(N) in the bytes of the script", "Gives the source of a script that is known."),
];
