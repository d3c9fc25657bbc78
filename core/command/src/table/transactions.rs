//! Commands that make several commands one.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("discard", 1, NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY, TRANSACTION, "2.0.0")
        .docs("O(N) in the queued commands", "Forgets the queued commands and the watched keys."),
    command("exec", 1, NOSCRIPT | LOADING | STALE | SKIP_SLOWLOG, TRANSACTION, "1.2.0").docs(
        "Depends on the queued commands",
        "Runs the queued commands as one, if no watched key has changed.",
    ),
    command("multi", 1, NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY, TRANSACTION, "1.2.0")
        .docs("O(1)", "Begins to queue commands."),
    command("unwatch", 1, NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY, TRANSACTION, "2.2.0")
        .docs("O(1)", "Forgets the watched keys."),
    command("watch", -2, NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY, TRANSACTION, "2.2.0")
        .keys_at(&[keys(1, -1, RO)])
        .syntax("key...")
        .docs("O(1) a key", "Has the next EXEC do nothing if one of the keys changes before it."),
];
