"""Transactions answer as in redis-server: random sessions of several connections, the same to both, the same replies back.
"""

from __future__ import annotations

import random
from itertools import count

import pytest

from harness.resp import Connection, Reply, is_error, show
from harness.server import Redis, Skep

CONNECTIONS = 3
STEPS = 1500
KEYS = ("a", "b", "c")
FRESH = count()


def writes(rng: random.Random) -> tuple[str, ...]:
    key, other = rng.choice(KEYS), rng.choice(KEYS)
    fresh = str(next(FRESH))
    return rng.choice(
        (
            ("SET", key, fresh),
            ("SET", key, fresh),
            ("APPEND", key, fresh),
            ("INCRBYFLOAT", key, "1.5"),
            ("INCR", key),
            ("RPUSH", key, fresh),
            ("HSET", key, fresh, fresh),
            ("SADD", key, fresh),
            ("SADD", key, "same"),
            ("SREM", key, "none"),
            ("HSETNX", key, "same", fresh),
            ("LREM", key, "0", "none"),
            ("ZADD", key, "1", "same"),
            ("ZADD", key, fresh, fresh),
            ("DEL", key),
            ("RENAME", key, other),
            ("COPY", key, other, "REPLACE"),
            ("EXPIRE", key, str(1000 + int(fresh))),
            ("MSET", key, fresh, other, fresh),
            ("GETSET", key, fresh),
            ("SWAPDB", "0", "1"),
            ("FLUSHDB",),
            ("XADD", key, f"{fresh}-1", "f", fresh),
            ("XTRIM", key, "MAXLEN", "2"),
            ("XGROUP", "CREATE", key, "g", "0", "MKSTREAM"),
            ("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", key, ">"),
        )
    )


def anything(rng: random.Random) -> tuple[str, ...]:
    key = rng.choice(KEYS)
    return rng.choice(
        (
            writes(rng),
            writes(rng),
            writes(rng),
            ("GET", key),
            ("TYPE", key),
            ("EXISTS", *KEYS),
            ("LRANGE", key, "0", "-1"),
            ("PING",),
            ("ECHO", key),
            ("SELECT", rng.choice("01")),
            ("SELECT", "99"),
            ("NOSUCH", key),
            ("GET",),
            ("INCR", key, key),
            ("EVAL", "return redis.call('incrby', KEYS[1], ARGV[1])", "1", key, "3"),
            ("XRANGE", key, "-", "+"),
            ("XACK", key, "g", "1-1"),
            ("CLIENT", "GETNAME"),
            ("DBSIZE",),
        )
    )


class Session:
    """One connection to each server."""

    def __init__(self, left: Connection, right: Connection) -> None:
        self.sides = (left, right)
        self.open = False
        self.db = 0
        self.watched: dict[tuple[int, str], bool] = {}
        """Whether each was there when it was watched."""

    def call(self, *words: str) -> tuple[Reply, Reply]:
        left, right = (side.call(*words) for side in self.sides)
        return left, right


def same(left: Reply, right: Reply) -> bool:
    if is_error(left) and is_error(right):
        return left[1].split(b" ")[0] == right[1].split(b" ")[0]
    return left == right


@pytest.mark.parametrize("protocol", (2, 3))
@pytest.mark.parametrize("seed", range(4))
def test_random_sessions_answer_as_in_redis(redis_server: Redis, quick_skep: Skep, seed: int, protocol: int) -> None:
    rng = random.Random(f"transactions/{seed}")
    sessions = [Session(redis_server.connect(), quick_skep.connect()) for _ in range(CONNECTIONS)]
    told: list[str] = []
    outcomes = {"done": 0, "stopped": 0, "refused": 0}
    for session in sessions:
        session.call("HELLO", str(protocol))
    sessions[0].call("FLUSHALL")
    for _ in range(STEPS):
        at = rng.randrange(CONNECTIONS)
        session = sessions[at]
        steps: list[tuple[str, ...]] = [anything(rng)]
        if rng.random() < 0.12:
            steps = [("MULTI",)]
        elif rng.random() < 0.2:
            steps = [("WATCH", *rng.sample(KEYS, rng.randint(1, 2)))]
        elif session.open and rng.random() < 0.3:
            steps = [rng.choice((("EXEC",), ("EXEC",), ("EXEC",), ("DISCARD",), ("EXEC", "x"), ("UNWATCH",)))]
        elif rng.random() < 0.03:
            steps = [rng.choice((("UNWATCH",), ("EXEC",), ("DISCARD",), ("RESET",)))]
        for words in steps:
            left, right = session.call(*words)
            told.append(f"{at}: {' '.join(words)} -> {show(left)}")
            assert same(left, right), "\n".join([*told[-60:], f"redis: {show(left)}", f"skep:  {show(right)}"])
            note(session, words, left, outcomes)
            if words == ("RESET",):
                session.call("HELLO", str(protocol))
    for session in sessions:
        for side in session.sides:
            side.close()
    assert all(number > 5 for number in outcomes.values()), outcomes


def note(session: Session, words: tuple[str, ...], reply: Reply, outcomes: dict[str, int]) -> None:
    match words[0]:
        case "MULTI":
            session.open = session.open or not is_error(reply)
        case "EXEC" | "DISCARD" | "RESET":
            if words[0] == "EXEC" and session.open:
                kind = "refused" if is_error(reply) else "done" if reply[0] == "*" and reply[1] is not None else "stopped"
                outcomes[kind] += 1
            session.open = False
            session.watched.clear()
        case "UNWATCH" if not session.open:
            session.watched.clear()


def test_a_watched_key_that_expires_stops_the_transaction_in_both(redis_server: Redis, quick_skep: Skep) -> None:
    for server in (redis_server, quick_skep):
        with server.connect() as one, server.connect() as other:
            other.call("SET", "volatile", "1", "PX", "1")
            other.call("SET", "stays", "1")
            while other.call("EXISTS", "volatile") == (":", 1):
                pass
            assert one.call("WATCH", "volatile") == ("+", b"OK")
            one.call("MULTI")
            one.call("PING")
            assert one.call("EXEC")[0] == "*", "it had expired before it was watched"
            other.call("SET", "volatile", "1", "PX", "60")
            one.call("WATCH", "volatile")
            while other.call("EXISTS", "volatile") == (":", 1):
                pass
            one.call("MULTI")
            one.call("PING")
            assert one.call("EXEC") in (("*", None), ("_", None)), "it expired while it was watched"
