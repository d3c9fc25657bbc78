"""Commands tell of the same events as redis-server, in the same order, and of none where it tells of none.

redis-server has a subscriber to its keyspace notifications; skep's keyspace is asked through
`core/keyspace/examples/events.rs`, which answers each command with its events. The streams are those of the other differential
tests, on their own keys of all types.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.example import Example
from harness.resp import Connection, Reply, is_error, items, show
from harness.server import Redis

from .generator import Words, stream
from .groups import GROUPS
from .running import line

ROOT = Path(__file__).resolve().parents[2]
SEEDS = int(os.environ.get("DIFFERENTIAL_SEEDS", "40"))
FIRST = int(os.environ.get("DIFFERENTIAL_FROM", "1"))
LENGTH = 120
FAILURES_SHOWN = 3
MARK = b"--mark--"

LEFT_OUT = frozenset([b"SCAN", b"SPOP", b"RANDOMKEY", b"SHUTDOWN", b"DEBUG", b"CONFIG", b"HELLO", b"RESET", b"AUTH", b"MULTI", b"EXEC"])
"""SPOP takes other members on each side; the others say nothing of keys, or change the connection."""


class Events(Example):
    """The example of events."""

    def __init__(self) -> None:
        super().__init__("skep-keyspace", "events")

    def ask(self, words: Words) -> tuple[Reply, list[bytes]]:
        answer = items(self.call(*words))
        assert answer is not None and len(answer) == 2
        return answer[0], [event[1] for event in items(answer[1]) or ()]


class Notified:
    """redis-server with a subscriber."""

    def __init__(self, port: int) -> None:
        self.asking, self.hearing = Connection(port), Connection(port)
        assert self.asking.call("CONFIG", "SET", "notify-keyspace-events", "EAnm") == ("+", b"OK")
        self.hearing.call("PSUBSCRIBE", "*")

    def close(self) -> None:
        self.asking.close()
        self.hearing.close()

    def ask(self, words: Words) -> tuple[Reply, list[bytes]]:
        reply = self.asking.pipeline([words, [b"PUBLISH", MARK, b""]])[0]
        events = []
        while True:
            message = items(self.hearing.read())
            assert message is not None
            channel, text = message[2][1], message[3][1]
            if channel == MARK:
                return reply, events
            database, _, name = channel.partition(b"__:")
            events.append(database.removeprefix(b"__keyevent@") + b":" + name + b":" + text)


@pytest.fixture(scope="module")
def sides(redis_server: Redis) -> Iterator[tuple[Notified, Events]]:
    redis, skep = Notified(redis_server.port), Events()
    yield redis, skep
    redis.close()
    skep.close()


def on(side: Notified | Events, words: Words) -> tuple[Reply, list[bytes]]:
    """Runs a command, or the dump and restore that some streams ask for."""
    if words[0] != b"@DUMPRESTORE":
        return side.ask(words)
    dump, events = side.ask([b"DUMP", words[1]])
    if dump[0] != "$" or dump[1] is None:
        return dump, events
    return side.ask([b"RESTORE", words[2], words[3], dump[1], *words[4:]])


def is_compared(words: Words) -> bool:
    return words[0].upper() not in LEFT_OUT


EARLY_CONSUMERS = frozenset([b"XREADGROUP", b"XCLAIM", b"XAUTOCLAIM"])
"""Since Redis 7.2, and so here, they make the consumer that asks even if it gets nothing; 7.0 makes it with its first entry."""


SORTS = frozenset([b"SORT", b"SORT_RO"])


def in_any_order(words: Words, events: list[bytes], others: Reply, reply: Reply) -> list[bytes]:
    """Members of sets, and elements of equal weight, come in another order, so SORT looks at keys of their names in another order;
    with a LIMIT at others."""
    if words[0].upper() not in SORTS:
        return events
    if any(word.upper() == b"LIMIT" for word in words):
        events = [b":".join(event.split(b":", 2)[:2]) if event.split(b":", 2)[1] == b"keymiss" else event for event in events]
    return sorted(event for event in events if reply == others or event.split(b":", 2)[1] != b"keymiss")


def compared(words: Words, events: list[bytes], reply: Reply) -> list[bytes]:
    """The events that must be equal. When what is past its deadline goes, by itself, is each server's own affair; and so is whether
    a command looks for its key before or after it finds that it is to be refused."""
    left_out = [b"expired"]
    if words[0].upper() in EARLY_CONSUMERS:
        left_out.append(b"xgroup-createconsumer")
    if words[0].upper() == b"XREAD" or is_error(reply):
        left_out.append(b"keymiss")  # For XREAD redis-server looks twice, and tells twice.
    return [event for event in events if event.split(b":", 2)[1] not in left_out]


def is_of_consumers(words: Words) -> bool:
    return words[0].upper() == b"XGROUP" and words[1].upper() in (b"CREATECONSUMER", b"DELCONSUMER")


def difference(redis: Notified, skep: Events, commands: list[Words]) -> str | None:
    """Tells of the first command with other events, and what came before it."""
    for side in (redis, skep):
        for words in ([b"SELECT", b"0"], [b"FLUSHALL"]):
            side.ask(words)
    for at, words in enumerate(commands):
        (one, told), (two, heard) = on(redis, words), on(skep, words)
        if is_of_consumers(words):
            continue  # One side may have made it before.
        told = in_any_order(words, compared(words, told, one), two, one)
        heard = in_any_order(words, compared(words, heard, two), one, two)
        if told != heard and is_error(one) == is_error(two):
            history = "\n".join(f"  {line(each)}" for each in commands[:at][-12:])
            return f"{history}\n> {line(words)}\n    redis: {told} {show(one)[:80]}\n    skep:  {heard} {show(two)[:80]}"
        if is_error(one) != is_error(two):
            return None  # Other tests compare replies, and know which differences are meant; the states differ from here on.
    return None


TABLES = ROOT / "core/keyspace/src/events/testdata"
OF_7_4 = ("HEXPIRE", "HPEXPIRE", "HEXPIREAT", "HPERSIST")
KEPT_BY_REDIS = "BITFIELD b OVERFLOW FAIL SET u8 24 256"
"""The string grows and no number is written: for clients' caches an event, for redis-server none."""


def table(name: str) -> list[tuple[str, str]]:
    """Commands and their events, up to the first that redis-server 7.0 does not know."""
    rows: list[tuple[str, str]] = []
    for text in (TABLES / f"{name}.txt").read_text().splitlines():
        if text.startswith("> "):
            rows.append((text[2:], ""))
        elif text and not text.startswith("#"):
            rows[-1] = (rows[-1][0], text)
    ends = [at for at, (command, _) in enumerate(rows) if command.startswith(OF_7_4)]
    return [row for row in rows[: min(ends, default=len(rows))] if row[0] != KEPT_BY_REDIS]


@pytest.mark.parametrize("name", ("strings", "keys", "lists", "hashes", "sets", "zsets", "bytes", "streams", "misses"))
def test_the_tables_that_the_keyspace_is_held_to_are_those_of_redis(redis_server: Redis, name: str) -> None:
    redis = Notified(redis_server.port)
    redis.ask([b"FLUSHALL"])
    rows = table(name)
    assert len(rows) > 10
    for command, expected in rows:
        _, told = redis.ask([b"" if word == '""' else word.encode() for word in command.split()])
        shown = []
        for event in told:
            if b":keymiss:" in event and name != "misses":
                continue
            database, event_name, key = event.decode().split(":", 2)
            shown.append(f"{event_name} {key}" if database == "0" else f"{database}: {event_name} {key}")
        assert ", ".join(shown) == expected, command
    redis.close()


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "server"])
def test_events_are_those_of_redis(sides: tuple[Notified, Events], group: str) -> None:
    failures = []
    for seed in range(FIRST, FIRST + SEEDS):
        commands = [words for words in stream(GROUPS[group], f"events/{group}/{seed}", LENGTH) if is_compared(words)]
        found = difference(*sides, commands)
        if found is not None:
            failures.append(f"group {group}, seed {seed}:\n{found}")
            if len(failures) == FAILURES_SHOWN:
                break
    assert not failures, "\n\n" + "\n\n".join(failures)
