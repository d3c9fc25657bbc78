"""maxmemory: refused writes, evicted keys, and both after a restart."""

from __future__ import annotations

import pytest

from harness.resp import Connection
from harness.server import Skep

OK = ("+", b"OK")
LIMIT = "20mb"
VALUE = b"v" * 1000
ENOUGH = 40_000
"""Twice as many keys as the limit has room for."""


def fill(connection: Connection, count: int = ENOUGH, *options: str) -> tuple[int, int]:
    """Writes keys; returns how many were taken and how many were refused with OOM."""
    words = [option.encode() for option in options]
    replies = connection.pipeline([[b"SET", b"key:%06d" % number, VALUE, *words] for number in range(count)])
    taken = replies.count(OK)
    refused = sum(reply == ("-", b"OOM command not allowed when used memory > 'maxmemory'.") for reply in replies)
    assert taken + refused == count, next(reply for reply in replies if reply != OK and not reply[1].startswith(b"OOM"))
    return taken, refused


def stat(connection: Connection, name: str) -> int:
    text = connection.call("INFO", "everything")[1].decode()
    return int(next(line.split(":")[1] for line in text.splitlines() if line.startswith(name + ":")))


def start(policy: str) -> Skep:
    return Skep(extra=["--maxmemory", LIMIT, "--maxmemory-policy", policy, "--durability", "memory"])


def test_noeviction_refuses_what_grows_and_nothing_else() -> None:
    with start("noeviction") as skep, skep.connect() as connection:
        taken, refused = fill(connection)
        assert refused > 1000 and taken > 5000
        assert connection.call("DBSIZE") == (":", taken)
        assert connection.call("GET", "key:000000") == ("$", VALUE)
        assert connection.call("LPUSH", "list", "x")[0] == "-"
        assert connection.call("EXPIRE", "key:000001", 1000) == (":", 1)
        assert connection.call("DEL", *[f"key:{number:06}" for number in range(3000)]) == (":", 3000)
        assert connection.call("SET", "again", "x") == OK
        assert connection.call("CONFIG", "SET", "maxmemory", "100mb") == OK
        assert fill(connection, 3000) == (3000, 0)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_allkeys_evicts_instead_of_refusing(policy: str) -> None:
    with start(policy) as skep, skep.connect() as connection:
        taken, refused = fill(connection)
        assert refused == 0 and taken == ENOUGH
        left = connection.call("DBSIZE")[1]
        assert 3000 < left < ENOUGH
        assert stat(connection, "evicted_keys") >= ENOUGH - left
        limit = 20 * 1024 * 1024
        assert stat(connection, "used_memory") < limit * 1.1


def test_what_is_used_often_stays() -> None:
    """About 20 of the 50 would be left by chance. LFU only: times of use are whole seconds, too coarse for LRU here."""
    with start("allkeys-lfu") as skep, skep.connect() as connection:
        hot = [b"key:%06d" % number for number in range(50)]
        for key in hot:
            connection.call("SET", key, VALUE)
        for first in range(1000, ENOUGH, 500):
            connection.pipeline([[b"SET", b"key:%06d" % number, VALUE] for number in range(first, first + 500)])
            connection.pipeline([[b"GET", key] for key in hot] * 3)
        there = sum(reply[1] is not None for reply in connection.pipeline([[b"GET", key] for key in hot]))
        assert there >= 40, f"only {there} of 50 keys in use are left"


def test_volatile_ttl_evicts_only_what_expires_anyway() -> None:
    with start("volatile-ttl") as skep, skep.connect() as connection:
        for number in range(100):
            connection.call("SET", f"stays:{number}", "x")
        assert fill(connection, ENOUGH, "EX", "100000")[1] == 0
        assert connection.call("EXISTS", *[f"stays:{number}" for number in range(100)]) == (":", 100)
        connection.call("FLUSHALL")
        taken, refused = fill(connection)
        assert refused > 0, "without an expiry nothing may be evicted"


def test_evicted_keys_stay_evicted_after_a_restart() -> None:
    """Eviction is a logged write: the restarted node has the same keys."""
    with start("allkeys-lru") as skep:
        with skep.connect() as connection:
            fill(connection)
            before = sorted(each[1] for each in connection.call("KEYS", "*")[1])
        assert skep.terminate() == 0
        skep.start()
        with skep.connect() as connection:
            assert sorted(each[1] for each in connection.call("KEYS", "*")[1]) == before
