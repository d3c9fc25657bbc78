"""Every command that both servers know, with every number of arguments up to a few: arity, types, first errors.

Streams draw from makers that know each command's form; this looks at each command without knowing it.
"""

from __future__ import annotations

import pytest

from harness.resp import Connection, is_error, items
from harness.server import Redis, Skep

from .comparing import equal
from .known_differences import excuse

ARGUMENTS = ["k", "1", "2", "a", "b", "3"]
LEFT_OUT = {
    # End or change the connection or the server, wait, draw at random, or answer with what only this machine has.
    "hrandfield", "srandmember", "zrandmember", "spop", "randomkey",
    "shutdown", "monitor", "sync", "psync", "debug", "replconf", "replicaof", "slaveof", "failover", "hello", "reset", "quit", "auth", "client",
    "config", "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "info", "command", "lolwut", "time",
    "memory", "latency", "slowlog", "acl", "module", "cluster", "wait", "lastsave", "bgsave", "bgrewriteaof", "save", "role", "asking",
    "readonly", "readwrite", "blpop", "brpop", "brpoplpush", "blmove", "blmpop", "bzpopmin", "bzpopmax", "bzmpop", "xread", "xreadgroup", "restore-asking", "pfdebug", "pfselftest", "script", "function", "pubsub", "select", "swapdb",
    # What follows would be queued, compared with what was watched, or be refused by skep with what to use instead.
    "multi", "exec", "discard", "watch", "unwatch", "migrate",
    # Redis looks for the script before it looks at the number of keys.
    "evalsha", "evalsha_ro",
}  # fmt: skip
VALUES = {
    "nothing": [],
    "a string": [["SET", "k", "5"]],
    "a list": [["RPUSH", "k", "1", "2", "a"]],
    "a hash": [["HSET", "k", "1", "2", "a", "b"]],
    "a set": [["SADD", "k", "1"]],
    "a sorted set": [["ZADD", "k", "1", "1"]],
}


def names(connection: Connection) -> set[str]:
    return {each[1].decode() for each in items(connection.call("COMMAND", "LIST")) or ()}


def top_level(connection: Connection) -> set[str]:
    return {name for name in names(connection) if "|" not in name} - LEFT_OUT


@pytest.mark.parametrize("holds", VALUES)
def test_every_command_with_every_number_of_arguments(redis_server: Redis, quick_skep: Skep, holds: str) -> None:
    wrong = []
    with redis_server.connect() as left, quick_skep.connect() as right:
        known = sorted(top_level(left) & top_level(right))
        assert len(known) > 120, known
        for name in known:
            for count in range(len(ARGUMENTS) + 1):
                words = [name.upper(), *ARGUMENTS[:count]]
                for side in (left, right):
                    side.call("FLUSHALL")
                    for command in VALUES[holds]:
                        side.call(*command)
                one, two = left.call(*words), right.call(*words)
                as_bytes = [word.encode() for word in words]
                if not equal(as_bytes, one, two) and excuse(as_bytes, one, two) is None:
                    wrong.append(f"{' '.join(words)}: {one} and {two}")
    assert not wrong, f"{len(wrong)} differences with {holds} at k\n" + "\n".join(wrong[:40])


def test_every_command_of_the_issue_is_there(redis_server: Redis, quick_skep: Skep) -> None:
    """What Redis has in these groups, skep has too, but what belongs to later issues."""
    later = set("blpop brpop brpoplpush blmove blmpop bzpopmin bzpopmax bzmpop".split())  # With the job libraries.
    groups = ("string", "list", "set", "sortedset", "hash", "bitmap", "hyperloglog", "geo", "keyspace")
    with redis_server.connect() as left, quick_skep.connect() as right:
        have, missing = names(right), []
        for group in groups:
            listed = items(left.call("COMMAND", "LIST", "FILTERBY", "ACLCAT", group)) or ()
            missing += [each[1].decode() for each in listed if each[1].decode() not in have | later]
        missing = [name for name in missing if not name.startswith(("x", "pfdebug", "pfselftest", "restore-asking", "migrate", "wait", "object|help"))]
        assert missing == []
        assert not is_error(right.call("COMMAND", "DOCS"))
