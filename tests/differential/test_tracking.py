"""Client-side caching: the same steps of several connections to redis-server and to skep give the same pushes and replies."""

from __future__ import annotations

import random

import pytest

from .test_pubsub import compare, words

STEPS = """
b CLIENT TRACKING ON
b GET a
b MGET a x y
b EXISTS h
e SET a 1
e SET a 2
e MSET x 1 y 2 z 3
e HSET h f 1
b HGETALL h
e HDEL h f
b GET own
b SET own 1
b GET gone
e DEL gone
e SET gone 1
b GET gone
e DEL gone
b TTL a
e EXPIRE a 100
b GET a
e RENAME a a2
b GET a
e FLUSHALL
b CLIENT TRACKINGINFO
b CLIENT GETREDIR
b CLIENT TRACKING ON BCAST
b CLIENT TRACKING ON OPTIN OPTOUT
b CLIENT TRACKING ON PREFIX x
b CLIENT TRACKING ON REDIRECT x
b CLIENT TRACKING ON REDIRECT 99999
b CLIENT TRACKING ON x
b CLIENT TRACKING ON REDIRECT
b CLIENT TRACKING x
b CLIENT TRACKING
b CLIENT CACHING YES
b CLIENT CACHING NO
b CLIENT CACHING x
b CLIENT TRACKING OFF
b CLIENT CACHING YES
b CLIENT TRACKINGINFO
b CLIENT GETREDIR
e SET a 1
b CLIENT TRACKING ON OPTIN
b GET a
b CLIENT CACHING YES ; GET b ; GET c
b CLIENT TRACKINGINFO
e SET a 1
e SET b 1
e SET c 1
b CLIENT TRACKING ON OPTOUT
b CLIENT TRACKING OFF
b CLIENT TRACKING ON OPTOUT
b CLIENT CACHING NO ; GET a
b GET b
e SET a 1
e SET b 1
b CLIENT TRACKING ON OPTOUT NOLOOP
b GET b
b SET b 1
b GET b
e SET b 2
b CLIENT TRACKING OFF
d CLIENT TRACKING ON BCAST PREFIX u: PREFIX u:1
d CLIENT TRACKING ON BCAST PREFIX u: PREFIX v:
d CLIENT TRACKING ON BCAST PREFIX u:1
d CLIENT TRACKING ON BCAST PREFIX w
d CLIENT TRACKINGINFO
e SET u:1 1
e SET v:1 1
e SET other 1
e MSET u:1 1
d SET w 1
d CLIENT TRACKING ON BCAST PREFIX z NOLOOP
d SET w 1
e FLUSHALL
d RESET
e SET u:1 1
d HELLO 3
a CLIENT TRACKING ON
a GET a
e SET a 1
a CLIENT TRACKING OFF
b MULTI ; GET a ; SET n 1 ; EXEC
b CLIENT TRACKING ON
b MULTI ; GET a ; GET n ; EXEC
e SET a 1
e SET n 1
"""


def test_clients_are_told_of_keys_as_redis_tells_them() -> None:
    compare(words(STEPS))


@pytest.mark.parametrize("seed", range(3))
def test_clients_that_read_and_write_at_random_are_told_the_same(seed: int) -> None:
    draw = random.Random(seed)
    keys = ["a", "b", "ab", "user:1", "user:2", "l", "h"]
    steps: list[tuple[str, list[str]]] = [
        ("b", ["CLIENT", "TRACKING", "ON"]),
        ("d", ["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "user:", "PREFIX", "a", "NOLOOP"]),
        ("e", ["CLIENT", "TRACKING", "ON", "OPTIN", "NOLOOP"]),
    ]
    for _ in range(400):
        key = draw.choice(keys)
        steps.append(
            (
                draw.choice("abcde"),
                draw.choice(
                    [
                        ["GET", key], ["MGET", key, draw.choice(keys)], ["SET", key, "1"], ["DEL", key], ["APPEND", key, "x"],
                        ["EXPIRE", key, "1000"], ["PERSIST", key], ["RPUSH", key, "1"], ["LPOP", key], ["LRANGE", key, "0", "-1"],
                        ["HSET", key, "f", "1"], ["HGET", key, "f"], ["RENAME", key, draw.choice(keys)], ["COPY", key, draw.choice(keys)],
                        ["GETDEL", key], ["SETNX", key, "1"], ["TYPE", key], ["EXISTS", key], ["TTL", key],
                        ["CLIENT", "CACHING", "YES", ";", "GET", key],
                    ]
                ),
            )
        )  # fmt: skip
    compare(steps)
