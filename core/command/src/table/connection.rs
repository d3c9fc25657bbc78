//! Commands about the connection itself.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("auth", -2, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY, CONNECTION, "1.0.0")
        .syntax("[username] password")
        .docs("O(1)", "Logs the connection in."),
    command("client", -2, 0, 0, "2.4.0")
        .docs("Depends on the subcommand", "Looks at and steers client connections."),
    command("client|caching", 3, NOSCRIPT | LOADING | STALE, CONNECTION, "6.0.0")
        .syntax("(YES | NO)")
        .docs("O(1)", "Says whether the keys that the next command reads are cached by this connection."),
    command("client|getname", 2, NOSCRIPT | LOADING | STALE, CONNECTION, "2.6.9")
        .docs("O(1)", "Gives the name of this connection."),
    command("client|getredir", 2, NOSCRIPT | LOADING | STALE, CONNECTION, "6.0.0")
        .docs("O(1)", "Gives the connection to which tracking messages go."),
    command("client|help", 2, LOADING | STALE, CONNECTION, "5.0.0").docs("O(1)", "Explains the subcommands."),
    command("client|id", 2, NOSCRIPT | LOADING | STALE, CONNECTION, "5.0.0")
        .docs("O(1)", "Gives the number of this connection."),
    command("client|info", 2, NOSCRIPT | LOADING | STALE, CONNECTION, "6.2.0")
        .tips(&["nondeterministic_output"])
        .docs("O(1)", "Describes this connection."),
    command("client|kill", -3, ADMIN | NOSCRIPT | LOADING | STALE, CONNECTION, "2.4.0")
        .syntax(
            "(ip-port | (ID client-id | TYPE (NORMAL | MASTER | SLAVE | REPLICA | PUBSUB) | USER \
             username | ADDR ip-port | LADDR ip-port | SKIPME yes-no | MAXAGE \
             maxage:integer)...)",
        )
        .docs("O(N) in the connections", "Closes connections."),
    command("client|list", -2, ADMIN | NOSCRIPT | LOADING | STALE, CONNECTION, "2.4.0")
        .tips(&["nondeterministic_output"])
        .syntax("[TYPE (NORMAL | MASTER | REPLICA | PUBSUB)] [ID client-id...]")
        .docs("O(N) in the connections", "Describes connections."),
    command("client|no-evict", 3, ADMIN | NOSCRIPT | LOADING | STALE, CONNECTION, "7.0.0")
        .syntax("(ON | OFF)")
        .docs("O(1)", "Spares this connection when client memory runs out."),
    command("client|no-touch", 3, NOSCRIPT | LOADING | STALE, CONNECTION, "7.2.0")
        .syntax("(ON | OFF)")
        .docs("O(1)", "Lets this connection read keys without marking them as used."),
    command("client|pause", -3, ADMIN | NOSCRIPT | LOADING | STALE, CONNECTION, "2.9.50")
        .syntax("timeout [WRITE | ALL]")
        .docs("O(1)", "Holds back the commands of all connections for a while."),
    command("client|reply", 3, NOSCRIPT | LOADING | STALE, CONNECTION, "3.2.0")
        .syntax("(ON | OFF | SKIP)")
        .docs("O(1)", "Turns the replies to this connection off and on."),
    command("client|setinfo", 4, NOSCRIPT | LOADING | STALE, CONNECTION, "7.2.0")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .syntax("(LIB-NAME libname | LIB-VER libver)")
        .docs("O(1)", "Names the client library and its version."),
    command("client|setname", 3, NOSCRIPT | LOADING | STALE, CONNECTION, "2.6.9")
        .syntax("connection-name")
        .docs("O(1)", "Names this connection."),
    command("client|tracking", -3, NOSCRIPT | LOADING | STALE, CONNECTION, "6.0.0")
        .syntax("(ON | OFF) [REDIRECT client-id] [PREFIX prefix:string]... [BCAST] [OPTIN] [OPTOUT] [NOLOOP]")
        .docs(
            "O(N) in the prefixes",
            "Tells this connection which of the keys that it has read have changed.",
        ),
    command("client|trackinginfo", 2, NOSCRIPT | LOADING | STALE, CONNECTION, "6.2.0")
        .docs("O(1)", "Describes the state of tracking for this connection."),
    command("client|unblock", -3, ADMIN | NOSCRIPT | LOADING | STALE, CONNECTION, "5.0.0")
        .syntax("client-id [TIMEOUT | ERROR]")
        .docs("O(1)", "Wakes a connection that waits in a blocking command."),
    command("client|unpause", 2, ADMIN | NOSCRIPT | LOADING | STALE, CONNECTION, "6.2.0")
        .docs("O(1)", "Ends CLIENT PAUSE."),
    command("echo", 2, LOADING | STALE | FAST, CONNECTION, "1.0.0")
        .syntax("message")
        .docs("O(1)", "Returns its argument."),
    command("hello", -1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY, CONNECTION, "6.0.0")
        .syntax("[protover [AUTH username password] [SETNAME clientname]]")
        .docs("O(1)", "Agrees on a protocol version, and may log in and name the connection."),
    command("ping", -1, FAST, CONNECTION, "1.0.0")
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .syntax("[message]")
        .docs("O(1)", "Answers, to show that the server is there."),
    command("quit", -1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY, CONNECTION, "1.0.0")
        .docs("O(1)", "Closes the connection."),
    command("reset", 1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY, CONNECTION, "6.2.0")
        .docs("O(1)", "Makes the connection as it was when it was opened."),
    command("select", 2, LOADING | STALE | FAST, CONNECTION, "1.0.0")
        .syntax("index")
        .docs("O(1)", "Chooses the database of the connection."),
];
