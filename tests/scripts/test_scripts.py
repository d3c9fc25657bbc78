"""Scripts and functions answer as in redis-server: the same commands to both, the same bytes back.

The engine is asked through `core/script/examples/scripts.rs`, a keyspace behind standard input and output, and through a node.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.example import Example
from harness.resp import Connection, Reply, show
from harness.server import Redis, Skep

from .corpus import FUNCTIONS, SCRIPTS, VERSION_DIFFERENCES


@pytest.fixture(scope="module", params=("alone", "node"))
def engine(request: pytest.FixtureRequest, quick_skep: Skep) -> Iterator[Connection]:
    """The engine alone, and behind a node and its log."""
    engine = Example("skep-script", "scripts") if request.param == "alone" else quick_skep.connect()
    yield engine
    engine.close()


def both(left: Connection, right: Connection, *words: bytes) -> tuple[Reply, Reply]:
    return left.call(*words), right.call(*words)


@pytest.mark.parametrize("protocol", (2, 3))
@pytest.mark.parametrize("group", SCRIPTS)
def test_scripts_answer_as_in_redis(redis_server: Redis, engine: Connection, group: str, protocol: int) -> None:
    found = []
    with Connection(redis_server.port) as redis:
        both(redis, engine, b"HELLO", b"%d" % protocol)
        for script in SCRIPTS[group]:
            both(redis, engine, b"FLUSHALL")
            one, two = both(redis, engine, b"EVAL", script, b"2", b"k1", b"k2", b"a1", b"2", b"-3.5")
            if one != two and script not in VERSION_DIFFERENCES:
                found.append(f"{script!r}\n    redis: {show(one)}\n    skep:  {show(two)}")
    assert not found, f"{len(found)} of {len(SCRIPTS[group])} scripts differ\n" + "\n".join(found)


@pytest.mark.parametrize("protocol", (2, 3))
def test_libraries_and_their_functions_answer_as_in_redis(redis_server: Redis, engine: Connection, protocol: int) -> None:
    found = []
    with Connection(redis_server.port) as redis:
        both(redis, engine, b"HELLO", b"%d" % protocol)
        both(redis, engine, b"FLUSHALL")
        both(redis, engine, b"FUNCTION", b"FLUSH")
        both(redis, engine, b"SCRIPT", b"FLUSH")
        for words in FUNCTIONS:
            one, two = both(redis, engine, *words)
            if one != two:
                found.append(f"{words!r}\n    redis: {show(one)}\n    skep:  {show(two)}")
    assert not found, f"{len(found)} of {len(FUNCTIONS)} commands differ\n" + "\n".join(found)


WITHOUT_MEMORY = [
    b"return redis.call('set', KEYS[1], 1)",
    b"return redis.pcall('set', KEYS[1], 1).err",
    b"redis.pcall('set', KEYS[1], 1) return redis.call('set', KEYS[1], 2)",
    b"return redis.call('get', KEYS[1])",
    b"redis.call('get', KEYS[1]) return redis.call('set', KEYS[1], 3)",
    b"redis.call('del', 'none') return redis.call('set', KEYS[1], 4)",
    b"redis.call('expire', KEYS[1], 1000) return redis.call('rpush', KEYS[2], 5, 6)",
    b"return redis.call('lpop', KEYS[2])",
    b"return redis.call('publish', 'c', 'm')",
    b"redis.pcall('publish', 'c', 'm') return redis.call('append', KEYS[1], 7)",
    b"return redis.call('nosuch')",
    b"#!lua\nreturn redis.call('get', KEYS[1])",
    b"#!lua\nreturn redis.call('set', KEYS[1], 8)",
    b"#!lua flags=no-writes\nreturn redis.call('get', KEYS[1])",
    b"#!lua flags=no-writes\nreturn redis.call('set', KEYS[1], 9)",
    b"#!lua flags=allow-oom\nreturn redis.call('set', KEYS[1], 10)",
    b"return redis.call('get', KEYS[1])",
]


def test_scripts_for_which_there_is_no_memory_answer_as_in_redis(redis_server: Redis, quick_skep: Skep) -> None:
    found = []
    with Connection(redis_server.port) as redis, quick_skep.connect() as skep:
        both(redis, skep, b"FLUSHALL")
        both(redis, skep, b"SET", b"k1", b"before")
        both(redis, skep, b"CONFIG", b"SET", b"maxmemory", b"1")
        try:
            for script in WITHOUT_MEMORY:
                one, two = both(redis, skep, b"EVAL", script, b"2", b"k1", b"k2")
                if one != two:
                    found.append(f"{script!r}\n    redis: {show(one)}\n    skep:  {show(two)}")
        finally:
            both(redis, skep, b"CONFIG", b"SET", b"maxmemory", b"0")
    assert not found, f"{len(found)} of {len(WITHOUT_MEMORY)} scripts differ\n" + "\n".join(found)
