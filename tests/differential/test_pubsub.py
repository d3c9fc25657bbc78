"""Pub/sub and keyspace notifications: the same steps of several connections to redis-server and to skep give the same messages
and replies, in RESP2 and RESP3.

After each step all connections are read up to the answer of a second PING of their own, so what the step caused is there. What
several patterns bring comes in Redis's hash order, so what one step brings to one connection is compared in sorted order.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from harness.resp import Connection, Reply
from harness.server import Redis, Server, Skep

Heard = list[tuple[str, list[Reply]]]

PROTOCOLS = {"a": 2, "b": 3, "c": 2, "d": 3, "e": 3}
"""Connections and what they speak."""

STEPS = """
a SUBSCRIBE one two one
b SUBSCRIBE one
b PSUBSCRIBE o* ?ne [op]ne
c PSUBSCRIBE *
d SSUBSCRIBE one
e PUBLISH one 1
e PUBLISH two 2
e PUBLISH three 3
e SPUBLISH one 4
e SPUBLISH two 5
e PUBSUB CHANNELS o*
e PUBSUB CHANNELS t*
e PUBSUB NUMSUB one two three
e PUBSUB NUMPAT
e PUBSUB SHARDCHANNELS
e PUBSUB SHARDNUMSUB one two
a GET x
a PUBLISH one x
a PING
a PING hello
a PING a b
a HELLO 3
a CLIENT GETNAME
b GET x
b PUBLISH one self
b PING
b PING hello
a UNSUBSCRIBE two none
a UNSUBSCRIBE
a UNSUBSCRIBE
a SUNSUBSCRIBE
a PUNSUBSCRIBE
a GET x
c PUNSUBSCRIBE *
c GET x
c PSUBSCRIBE
c SUBSCRIBE
c PUBLISH one
c PUBSUB
c PUBSUB NOPE
c PUBSUB NUMPAT x
c PUBSUB CHANNELS a b
d SUNSUBSCRIBE one
d SUNSUBSCRIBE
e PUBLISH one again
b RESET
e PUBLISH one nobody
a SSUBSCRIBE s
a GET x
a SUBSCRIBE one
a SUNSUBSCRIBE s
a GET x
a RESET
a GET x
e CLIENT REPLY OFF ; SUBSCRIBE quiet ; GET x ; PUBLISH quiet y ; CLIENT REPLY ON
e PUBLISH quiet x
e UNSUBSCRIBE
e HELLO 2
e SUBSCRIBE z
e GET x
e QUIT
b PUBLISH z x
"""


def run(server: Server, steps: list[tuple[str, list[str]]]) -> list[Heard]:
    connections = {name: server.connect() for name in PROTOCOLS}
    for name, protocol in PROTOCOLS.items():
        connections[name].call("HELLO", protocol)
    heard = []
    for number, (who, command) in enumerate(steps):
        together = " ".join(command).split(" ; ") if ";" in command else [command]
        connections[who].send([word.encode() for word in (each.split() if isinstance(each, str) else each)] for each in together)
        # Who acts first: what it did is done when its PING is answered.
        order = [who, *(name for name in connections if name != who)]
        step = [(name, drain(connections[name], f"ping-{number}")) for name in order if name in connections]
        heard.append(sorted(step))
        if command == ["QUIT"]:
            del connections[who]
    for connection in connections.values():
        connection.close()
    return heard


def drain(connection: Connection, marker: str) -> list[Reply]:
    """All that comes before the answer of a second PING: a server tells of prefixes when it has run all that it has read, so the
    first, if it was read with the command, may be answered before."""
    heard = []
    try:
        for ping in [f"{marker}-1".encode(), f"{marker}-2".encode()]:
            ends = (("$", ping), ("*", (("$", b"pong"), ("$", ping))))
            connection.send([[b"PING", ping]])
            while (reply := connection.read()) not in ends:
                # HELLO names versions and numbers, which are others.
                heard.append(("hello",) if "b'server'" in repr(reply) else reply)
    except Exception as lost:  # noqa: BLE001 - the kind of loss is what is compared
        heard.append(("lost", type(lost).__name__))
    return sorted(heard, key=repr)


def random_steps(seed: int, count: int) -> list[tuple[str, list[str]]]:
    draw = random.Random(seed)
    names = ["", "a", "b", "ab", "a*", "*", "[ab]", "\\*", "news.1", "news.2", "news.*"]

    def some() -> list[str]:
        return [draw.choice(names) for _ in range(draw.randint(1, 3))]

    makers: list[Callable[[], list[str]]] = [
        lambda: ["SUBSCRIBE", *some()], lambda: ["PSUBSCRIBE", *some()], lambda: ["SSUBSCRIBE", *some()],
        lambda: ["UNSUBSCRIBE", *some()], lambda: ["PUNSUBSCRIBE", *some()], lambda: ["SUNSUBSCRIBE", *some()],
        lambda: ["PUBSUB", "NUMSUB", *some()], lambda: ["PUBSUB", "SHARDNUMSUB", *some()], lambda: ["PUBSUB", "NUMPAT"],
        lambda: ["RESET"], lambda: ["GET", "x"],
    ]  # fmt: skip
    publish: list[Callable[[], list[str]]] = [
        lambda: ["PUBLISH", draw.choice(names), draw.choice(names)],
        lambda: ["SPUBLISH", draw.choice(names), draw.choice(names)],
    ]
    everyone = list(PROTOCOLS)
    return [(draw.choice(everyone), draw.choice(makers if draw.random() < 0.5 else publish)()) for _ in range(count)]


def compare(steps: list[tuple[str, list[str]]]) -> None:
    with Redis() as redis, Skep() as skep:
        expected, got = run(redis, steps), run(skep, steps)
    for step, right, ours in zip(steps, expected, got, strict=True):
        assert ours == right, f"{step}:\n redis {right}\n skep  {ours}"


def words(text: str) -> list[tuple[str, list[str]]]:
    return [(line.split()[0], line.split()[1:]) for line in text.strip().splitlines()]


def test_each_command_answers_and_tells_as_redis_does() -> None:
    compare(words(STEPS))


@pytest.mark.parametrize("seed", range(4))
def test_connections_that_listen_and_publish_at_random_hear_the_same(seed: int) -> None:
    compare(random_steps(seed, 400))


EVENTS = """
e CONFIG SET notify-keyspace-events AKE
a PSUBSCRIBE __key*
b SUBSCRIBE __keyevent@0__:set __keyspace@0__:k __keyevent@0__:expired
e SET k 1
e SET k 2 EX 100
e APPEND k 3
e INCR n
e EXPIRE n 100
e PERSIST n
e RENAME n m
e RPUSH l 1 2 3
e LPOP l
e LTRIM l 5 6
e HSET h f 1
e HDEL h f
e SADD s 1 2
e SREM s 1
e SPOP s
e ZADD z 1 a
e ZINCRBY z 1 a
e ZREM z a
e XADD x 1-1 f v
e XDEL x 1-1
e COPY k k2
e MOVE k2 3
e GETDEL k
e SETRANGE r 0 abc
e GETEX r EX 100
e EXPIREAT r 1
e DEL nothing
e MSET p 1 q 2
e DEL p q
e CONFIG SET notify-keyspace-events Kg$
e SET k 1
e RPUSH l 1
e DEL l k
e CONFIG SET notify-keyspace-events ElK
e RPUSH l 1
e DEL l
e FLUSHALL
e CONFIG SET notify-keyspace-events KEn
e SET new 1
e SET new 2
e CONFIG SET notify-keyspace-events q
"""


def test_what_happens_to_keys_is_told_as_redis_tells_it() -> None:
    compare(words(EVENTS))


def test_clients_that_listen_are_shown_as_redis_shows_them() -> None:
    def shown(server: Server) -> list[str]:
        with server.connect() as listens, server.connect() as asks:
            listens.call("HELLO", "3")
            for command in ["SUBSCRIBE a", "PSUBSCRIBE p*", "SSUBSCRIBE s"]:
                listens.call(*command.split())
            line = asks.call("CLIENT", "LIST", "TYPE", "pubsub")[1].decode()
            fields = dict(field.split("=", 1) for field in line.split())
            info = asks.call("INFO", "everything")[1].decode().splitlines()
            counts = [each for each in info if each.startswith("pubsub")]
            killed = asks.call("CLIENT", "KILL", "TYPE", "pubsub")
            return [fields[name] for name in ("flags", "sub", "psub", "ssub", "cmd")] + sorted(counts) + [str(killed)]

    with Redis() as redis, Skep() as skep:
        expected = [each for each in shown(redis) if not each.startswith("pubsub_clients")]
        got = [each for each in shown(skep) if not each.startswith(("pubsub_clients", "pubsubshard"))]
        expected = [each for each in expected if not each.startswith("pubsubshard")]
    assert got == expected
