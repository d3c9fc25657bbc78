"""What Redis 7.4 has and Debian's 7.0.15 lacks: requests and the replies that the documentation of 7.4 promises.

Sources: the command pages of HEXPIRE and its family, HSCAN, ZRANK, CLIENT SETINFO and CLIENT NO-TOUCH, and the release
notes of 7.2 and 7.4.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from harness.resp import Connection, Reply
from harness.server import Skep

OK: Reply = ("+", b"OK")
NIL: Reply = ("$", None)


def n(value: int) -> Reply:
    return (":", value)


def b(value: str) -> Reply:
    return ("$", value.encode())


def ints(*values: int) -> Reply:
    return ("*", tuple(n(value) for value in values))


def bulks(*values: str | None) -> Reply:
    return ("*", tuple(NIL if value is None else b(value) for value in values))


def error(text: str) -> Reply:
    return ("-", text.encode())


FIELDS_MISSING = error("ERR Mandatory argument FIELDS is missing or not at the right position")
FIELDS_COUNT = error("ERR The `numfields` parameter must match the number of arguments")
FIELDS_NONE = error("ERR Parameter `numFields` should be greater than 0")
WRONG_TYPE = error("WRONGTYPE Operation against a key holding the wrong kind of value")
FAR = 4102444800

SCENARIOS: dict[str, list[tuple[str, Reply]]] = {
    "a field gets, shows and loses an expiry": [
        ("HSET h a 1 b 2", n(2)),
        (f"HEXPIREAT h {FAR} FIELDS 2 a none", ints(1, -2)),
        ("HEXPIRETIME h FIELDS 3 a b none", ints(FAR, -1, -2)),
        ("HPEXPIRETIME h FIELDS 1 a", ints(FAR * 1000)),
        ("HPERSIST h FIELDS 3 a b none", ints(1, -1, -2)),
        ("HTTL h FIELDS 1 a", ints(-1)),
        ("HGETALL h", bulks("a", "1", "b", "2")),
    ],
    "milliseconds": [
        ("HSET h a 1", n(1)),
        (f"HPEXPIREAT h {FAR * 1000 + 123} FIELDS 1 a", ints(1)),
        ("HPEXPIRETIME h FIELDS 1 a", ints(FAR * 1000 + 123)),
        ("HEXPIRETIME h FIELDS 1 a", ints(FAR + 1)),
    ],
    "no such key": [
        ("HEXPIRE none 10 FIELDS 2 a b", ints(-2, -2)),
        ("HPEXPIRE none 10 FIELDS 1 a", ints(-2)),
        ("HTTL none FIELDS 2 a b", ints(-2, -2)),
        ("HPTTL none FIELDS 1 a", ints(-2)),
        ("HEXPIRETIME none FIELDS 1 a", ints(-2)),
        ("HPERSIST none FIELDS 2 a b", ints(-2, -2)),
        ("EXISTS none", n(0)),
    ],
    "NX sets only the first expiry": [
        ("HSET h a 1", n(1)),
        (f"HEXPIREAT h {FAR} NX FIELDS 1 a", ints(1)),
        (f"HEXPIREAT h {FAR + 5} NX FIELDS 1 a", ints(0)),
        ("HEXPIRETIME h FIELDS 1 a", ints(FAR)),
    ],
    "XX sets only a further expiry": [
        ("HSET h a 1", n(1)),
        (f"HEXPIREAT h {FAR} XX FIELDS 1 a", ints(0)),
        ("HTTL h FIELDS 1 a", ints(-1)),
        (f"HEXPIREAT h {FAR} FIELDS 1 a", ints(1)),
        (f"HEXPIREAT h {FAR + 5} xx FIELDS 1 a", ints(1)),
        ("HEXPIRETIME h FIELDS 1 a", ints(FAR + 5)),
    ],
    "GT takes a later one, and no expiry is the latest": [
        ("HSET h a 1", n(1)),
        (f"HEXPIREAT h {FAR} GT FIELDS 1 a", ints(0)),
        (f"HEXPIREAT h {FAR} FIELDS 1 a", ints(1)),
        (f"HEXPIREAT h {FAR} GT FIELDS 1 a", ints(0)),
        (f"HEXPIREAT h {FAR + 1} GT FIELDS 1 a", ints(1)),
    ],
    "LT takes an earlier one, and any is earlier than none": [
        ("HSET h a 1", n(1)),
        (f"HEXPIREAT h {FAR} LT FIELDS 1 a", ints(1)),
        (f"HEXPIREAT h {FAR} LT FIELDS 1 a", ints(0)),
        (f"HEXPIREAT h {FAR - 1} LT FIELDS 1 a", ints(1)),
    ],
    "a past deadline deletes the field, and the last field the hash": [
        ("HSET h a 1 b 2", n(2)),
        ("HEXPIRE h 0 FIELDS 1 a", ints(2)),
        ("HGETALL h", bulks("b", "2")),
        ("HPEXPIREAT h 1 FIELDS 1 b", ints(2)),
        ("EXISTS h", n(0)),
        ("TYPE h", ("+", b"none")),
    ],
    "a new value has no expiry": [
        ("HSET h a 1", n(1)),
        (f"HEXPIREAT h {FAR} FIELDS 1 a", ints(1)),
        ("HSET h a 2", n(0)),
        ("HTTL h FIELDS 1 a", ints(-1)),
    ],
    "a changed number keeps its expiry": [
        ("HSET h a 1", n(1)),
        (f"HEXPIREAT h {FAR} FIELDS 1 a", ints(1)),
        ("HINCRBY h a 2", n(3)),
        ("HINCRBYFLOAT h a 0.5", b("3.5")),
        ("HEXPIRETIME h FIELDS 1 a", ints(FAR)),
    ],
    "expiries of fields go with the hash": [
        ("HSET h a 1 b 2", n(2)),
        (f"HEXPIREAT h {FAR} FIELDS 1 a", ints(1)),
        ("COPY h copy", n(1)),
        ("RENAME h moved", OK),
        ("HEXPIRETIME copy FIELDS 2 a b", ints(FAR, -1)),
        ("HEXPIRETIME moved FIELDS 2 a b", ints(FAR, -1)),
        ("MOVE moved 3", n(1)),
        ("SELECT 3", OK),
        ("HEXPIRETIME moved FIELDS 2 a b", ints(FAR, -1)),
    ],
    "the same field twice": [
        ("HSET h a 1", n(1)),
        (f"HEXPIREAT h {FAR} FIELDS 2 a a", ints(1, 1)),
        (f"HEXPIREAT h {FAR} NX FIELDS 2 a a", ints(0, 0)),
    ],
    "the key's own expiry is another": [
        ("HSET h a 1", n(1)),
        (f"EXPIREAT h {FAR}", n(1)),
        ("HTTL h FIELDS 1 a", ints(-1)),
        (f"HEXPIREAT h {FAR + 9} FIELDS 1 a", ints(1)),
        ("EXPIRETIME h", n(FAR)),
    ],
    "mistakes in HEXPIRE": [
        ("HSET h a 1", n(1)),
        ("SET s 1", OK),
        ("HEXPIRE h 10 FIELDS 1", error("ERR wrong number of arguments for 'hexpire' command")),
        ("HEXPIRE h 10 FIELDZ 1 a", FIELDS_MISSING),
        ("HEXPIRE h 10 BOGUS FIELDS 1 a", FIELDS_MISSING),
        ("HEXPIRE h 10 NX XX FIELDS 1 a", FIELDS_MISSING),
        ("HEXPIRE h 10 FIELDS 0 a", FIELDS_NONE),
        ("HEXPIRE h 10 FIELDS x a", FIELDS_NONE),
        ("HEXPIRE h 10 FIELDS 2 a", FIELDS_COUNT),
        ("HEXPIRE h 10 FIELDS 1 a b", FIELDS_COUNT),
        ("HEXPIRE h x FIELDS 1 a", error("ERR value is not an integer or out of range")),
        ("HEXPIRE h -1 FIELDS 1 a", error("ERR invalid expire time, must be >= 0")),
        ("HEXPIRE h 9223372036854775807 FIELDS 1 a", error("ERR invalid expire time in 'hexpire' command")),
        ("HPEXPIREAT h 9223372036854775807 FIELDS 1 a", error("ERR invalid expire time in 'hpexpireat' command")),
        ("HEXPIRE s 10 FIELDS 1 a", WRONG_TYPE),
        ("HGETALL h", bulks("a", "1")),
        ("HTTL h FIELDS 1 a", ints(-1)),
    ],
    "mistakes in the commands that read": [
        ("HSET h a 1", n(1)),
        ("SET s 1", OK),
        ("HTTL h FIELDS 1", error("ERR wrong number of arguments for 'httl' command")),
        ("HTTL h BOGUS 1 a", FIELDS_MISSING),
        ("HTTL h FIELDS 2 a", FIELDS_COUNT),
        ("HPTTL s FIELDS 1 a", WRONG_TYPE),
        ("HPERSIST h FIELDS 2 a", FIELDS_COUNT),
        ("HPERSIST s FIELDS 1 a", WRONG_TYPE),
        ("HEXPIRETIME h FIELDS 1 a b", FIELDS_COUNT),
        ("HPEXPIRETIME s FIELDS 1 a", WRONG_TYPE),
    ],
    "HSCAN NOVALUES": [
        ("HSET h a 1", n(1)),
        ("HSCAN h 0 NOVALUES", ("*", (b("0"), bulks("a")))),
        ("HSCAN h 0 COUNT 10 novalues MATCH *", ("*", (b("0"), bulks("a")))),
        ("HSCAN none 0 NOVALUES", ("*", (b("0"), bulks()))),
        ("SADD s x", n(1)),
        ("SSCAN s 0 NOVALUES", error("ERR NOVALUES option can only be used in HSCAN")),
    ],
    "ZRANK WITHSCORE": [
        ("ZADD z 1 a 2.5 b", n(2)),
        ("ZRANK z b WITHSCORE", ("*", (n(1), b("2.5")))),
        ("ZREVRANK z b withscore", ("*", (n(0), b("2.5")))),
        ("ZRANK z none WITHSCORE", ("*", None)),
        ("ZRANK none a WITHSCORE", ("*", None)),
        ("ZRANK z none", NIL),
        ("ZRANK z a BOGUS", error("ERR syntax error")),
    ],
    "small collections are listpacks": [
        ("RPUSH l a", n(1)),
        ("OBJECT ENCODING l", b("listpack")),
        ("SADD s a", n(1)),
        ("OBJECT ENCODING s", b("listpack")),
        ("SADD i 1", n(1)),
        ("OBJECT ENCODING i", b("intset")),
        ("HSET h a 1", n(1)),
        ("OBJECT ENCODING h", b("listpack")),
    ],
    "doubles have the fewest digits": [
        ("ZADD z 0.1 a 3.3 b 1e17 c 1e300 d", n(4)),
        ("ZRANGE z 0 -1 WITHSCORES", bulks("a", "0.1", "b", "3.3", "c", "100000000000000000", "d", "1e+300")),
        ("ZINCRBY z 0.2 a", b("0.30000000000000004")),
    ],
    "connections": [
        ("CLIENT SETINFO LIB-NAME test", OK),
        ("CLIENT SETINFO lib-ver 1.2.3", OK),
        ("CLIENT SETINFO LIB-AGE 3", error("ERR Unrecognized option 'LIB-AGE'")),
        ("CLIENT SETINFO LIB-NAME new\nline", error("ERR LIB-NAME cannot contain spaces, newlines or special characters.")),
        ("CLIENT NO-TOUCH on", OK),
        ("CLIENT NO-TOUCH off", OK),
        ("CLIENT NO-TOUCH maybe", error("ERR syntax error")),
    ],
}  # fmt: skip


@pytest.fixture()
def connection(quick_skep: Skep) -> Iterator[Connection]:
    with quick_skep.connect() as connection:
        assert connection.call("FLUSHALL") == OK
        yield connection


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(connection: Connection, name: str) -> None:
    for request, expected in SCENARIOS[name]:
        words = request.split(" ")
        reply = connection.call(*words)
        assert reply == expected, request


def test_expired_fields_are_never_seen(connection: Connection) -> None:
    connection.call("HSET", "h", "a", "1", "b", "2", "c", "3")
    assert connection.call("HPEXPIRE", "h", "30", "FIELDS", "2", "a", "b") == ints(1, 1)
    end = time.monotonic() + 10
    while connection.call("HGET", "h", "a") != NIL:
        assert time.monotonic() < end, "the field outlived its deadline"
    assert connection.call("HGETALL", "h") == bulks("c", "3")
    assert connection.call("HEXISTS", "h", "b") == n(0)
    assert connection.call("HMGET", "h", "a", "b", "c") == bulks(None, None, "3")
    assert connection.call("HSET", "h", "a", "4") == n(1), "the field is new again"


def test_hash_vanishes_with_its_last_field(connection: Connection) -> None:
    connection.call("HSET", "h", "a", "1")
    connection.call("HPEXPIRE", "h", "20", "FIELDS", "1", "a")
    end = time.monotonic() + 10
    while connection.call("EXISTS", "h") != n(0):
        assert time.monotonic() < end, "the hash outlived its fields"
    assert connection.call("TYPE", "h") == ("+", b"none")


def test_rank_with_score_in_resp3(connection: Connection) -> None:
    connection.call("HELLO", "3")
    connection.call("ZADD", "z", "1", "a", "2.5", "b")
    assert connection.call("ZRANK", "z", "b", "WITHSCORE") == ("*", (n(1), (",", b"2.5")))
    assert connection.call("ZRANK", "z", "none", "WITHSCORE") == ("_",)


def test_handshake_says_redis_74(connection: Connection) -> None:
    reply = connection.call("HELLO", "3")
    assert reply[0] == "%"
    fields = dict(reply[1])
    assert fields[b("server")] == b("redis")
    version = fields[b("version")][1]
    assert version.startswith(b"7.4."), version
    assert fields[b("proto")] == n(3)
    assert fields[b("mode")] == b("standalone")
    assert fields[b("role")] == b("master")
    assert fields[b("modules")] == ("*", ())


def test_waitaof_tells_of_this_disk_and_of_others(connection: Connection) -> None:
    connection.call("SET", "k", "v")
    assert connection.call("WAITAOF", 1, 0, 0) == ints(1, 0)
    assert connection.call("WAITAOF", 1, 1, 20) == ints(1, 0)
    assert connection.call("WAITAOF", 2, 1, 20) == error("ERR value is out of range, value must between 0 and 1")
    assert connection.call("WAITAOF", 1, -1, 20) == error("ERR value is out of range, must be positive")
    assert connection.call("WAITAOF", 1, 1, -1) == error("ERR timeout is negative")
