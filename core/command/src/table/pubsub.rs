//! Commands for messages to whoever listens.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("psubscribe", -2, PUBSUB | NOSCRIPT | LOADING | STALE, PUBSUB_CATEGORY, "2.0.0")
        .syntax("pattern:pattern...")
        .docs("O(N) in the patterns given", "Listens to the channels that match patterns."),
    command("publish", 3, PUBSUB | LOADING | STALE | FAST, PUBSUB_CATEGORY, "2.0.0")
        .syntax("channel:string message:string")
        .docs(
            "O(N+M) in the subscribers of the channel and the patterns of the cluster",
            "Sends a message to the subscribers of a channel, on all nodes.",
        ),
    command("pubsub", -2, 0, 0, "2.8.0")
        .docs("Depends on the subcommand", "Looks at channels and subscribers."),
    command("pubsub|channels", -2, PUBSUB | LOADING | STALE, PUBSUB_CATEGORY, "2.8.0")
        .syntax("[pattern:pattern]")
        .docs("O(N log N) in the channels with subscribers", "Lists the channels that have subscribers."),
    command("pubsub|help", 2, LOADING | STALE, 0, "6.2.0").docs("O(1)", "Explains the subcommands."),
    command("pubsub|numpat", 2, PUBSUB | LOADING | STALE, PUBSUB_CATEGORY, "2.8.0")
        .docs("O(N) in the patterns", "Counts the patterns that have subscribers."),
    command("pubsub|numsub", -2, PUBSUB | LOADING | STALE, PUBSUB_CATEGORY, "2.8.0")
        .syntax("[channel...]")
        .docs("O(N) in the channels given", "Counts the subscribers of channels."),
    command("pubsub|shardchannels", -2, PUBSUB | LOADING | STALE, PUBSUB_CATEGORY, "7.0.0")
        .syntax("[pattern:pattern]")
        .docs(
            "O(N log N) in the shard channels with subscribers",
            "Lists the shard channels that have subscribers.",
        ),
    command("pubsub|shardnumsub", -2, PUBSUB | LOADING | STALE, PUBSUB_CATEGORY, "7.0.0")
        .syntax("[shardchannel...]")
        .docs("O(N) in the shard channels given", "Counts the subscribers of shard channels."),
    command("punsubscribe", -1, PUBSUB | NOSCRIPT | LOADING | STALE, PUBSUB_CATEGORY, "2.0.0")
        .syntax("[pattern:pattern...]")
        .docs("O(N) in the patterns given", "Ends listening to patterns, to all if none is given."),
    command("spublish", 3, PUBSUB | LOADING | STALE | FAST, PUBSUB_CATEGORY, "7.0.0")
        .keys_at(&[key(1, NOT_KEY)])
        .syntax("shardchannel message:string")
        .docs(
            "O(N) in the subscribers of the shard channel",
            "Sends a message to the subscribers of a shard channel.",
        ),
    command("ssubscribe", -2, PUBSUB | NOSCRIPT | LOADING | STALE, PUBSUB_CATEGORY, "7.0.0")
        .keys_at(&[keys(1, -1, NOT_KEY)])
        .syntax("shardchannel...")
        .docs("O(N) in the shard channels given", "Listens to shard channels."),
    command("subscribe", -2, PUBSUB | NOSCRIPT | LOADING | STALE, PUBSUB_CATEGORY, "2.0.0")
        .syntax("channel...")
        .docs("O(N) in the channels given", "Listens to channels."),
    command("sunsubscribe", -1, PUBSUB | NOSCRIPT | LOADING | STALE, PUBSUB_CATEGORY, "7.0.0")
        .keys_at(&[keys(1, -1, NOT_KEY)])
        .syntax("[shardchannel...]")
        .docs(
            "O(N) in the shard channels given",
            "Ends listening to shard channels, to all if none is given.",
        ),
    command("unsubscribe", -1, PUBSUB | NOSCRIPT | LOADING | STALE, PUBSUB_CATEGORY, "2.0.0")
        .syntax("[channel...]")
        .docs("O(N) in the channels given", "Ends listening to channels, to all if none is given."),
];
