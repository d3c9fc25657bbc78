"""Commands on keys of any type: expiry in every form, RENAME, COPY, SCAN, DUMP and RESTORE, databases."""

from __future__ import annotations

from ..generator import Gen, Words
from .strings import set_


def make_value(gen: Gen) -> Words:
    """A value of any type, so that the rest of the group has something to work on."""
    return gen.pick(
        [
            lambda: set_(gen),
            lambda: [b"RPUSH", gen.key("lists"), *gen.members()],
            lambda: [b"SADD", gen.key("sets"), *gen.members()],
            lambda: [b"HSET", gen.key("hashes"), gen.member(), gen.value()],
            lambda: [b"ZADD", gen.key("zsets"), gen.float(), gen.member()],
            lambda: [b"XADD", gen.key("streams"), b"%d-*" % gen.rng.randint(1, 3), gen.member(), gen.value()],
        ]
    )()


def expire(gen: Gen) -> Words:
    name = gen.pick([b"EXPIRE", b"PEXPIRE", b"EXPIREAT", b"PEXPIREAT"])
    if gen.chance(0.15):
        when = gen.bad_expiry()
    elif name.endswith(b"AT"):
        when = gen.deadline()
    else:
        when = gen.seconds_ahead()
    if name.startswith(b"P") and when.isdigit() and len(when) < 16:
        when += b"000"
    flags = gen.flag(b"NX", b"XX", b"GT", b"LT", probability=0.4)
    if gen.chance(0.1):
        flags += [gen.pick([b"NX", b"XX", b"GT", b"LT", b"bogus"])]
    return [name, gen.any_key(), when, *flags]


def copy(gen: Gen) -> Words:
    tail = gen.shuffled(
        [gen.case(b"DB"), gen.pick([b"0", b"1", b"2", b"15", b"16", b"-1", b"x"])] if gen.chance(0.3) else [],
        gen.flag(b"REPLACE"),
    )
    return [b"COPY", gen.any_key(), gen.any_key(), *tail]


def scan(gen: Gen) -> Words:
    parts = [
        [gen.case(b"MATCH"), gen.pattern()] if gen.chance(0.4) else [],
        [gen.case(b"COUNT"), gen.small(1, 20)] if gen.chance(0.4) else [],
        [gen.case(b"TYPE"), gen.pick([b"string", b"list", b"SET", b"zset", b"hash", b"stream"])] if gen.chance(0.3) else [],
    ]
    cursor = b"0" if gen.chance(0.95) else gen.pick([b"x", b"-1", b"", b"99999999999999999999"])
    return [b"SCAN", cursor, *gen.shuffled(*parts)]


def object_(gen: Gen) -> Words:
    sub = gen.case(gen.pick([b"ENCODING", b"ENCODING", b"REFCOUNT", b"IDLETIME", b"FREQ", b"bogus"]))
    return [b"OBJECT", sub, gen.any_key()]


def dump_restore(gen: Gen) -> Words:
    """A value taken out with DUMP and put back under another name; the runner carries the payload."""
    ttl = gen.pick([b"0", b"0", b"%d000" % gen.rng.randint(10_000, 10_000_000), b"-1", b"x"])
    tail = gen.shuffled(
        gen.flag(b"REPLACE", probability=0.6),
        gen.flag(b"ABSTTL", probability=0.1),
        [b"IDLETIME", gen.small(0, 10)] if gen.chance(0.1) else [],
        [b"FREQ", gen.small(0, 10)] if gen.chance(0.1) else [],
    )
    return [b"@DUMPRESTORE", gen.any_key(), gen.any_key(), ttl, *tail]


def restore_garbage(gen: Gen) -> Words:
    payload = gen.pick([b"", b"x", b"\x00\x01a\x0a\x00" + b"\x00" * 8, b"\x00" * 20])
    return [b"RESTORE", gen.any_key(), b"0", payload, *gen.flag(b"REPLACE")]


DATABASES = [b"0", b"1", b"2", b"15"]


def database(gen: Gen) -> bytes:
    return gen.pick(DATABASES) if gen.chance(0.9) else gen.pick([b"16", b"-1", b"x", b"", b"9999999999"])


GROUP = [
    (14, make_value),
    (8, expire),
    (4, lambda g: [b"TTL", g.any_key()]),
    (3, lambda g: [b"PTTL", g.any_key()]),
    (3, lambda g: [b"EXPIRETIME", g.any_key()]),
    (3, lambda g: [b"PEXPIRETIME", g.any_key()]),
    (3, lambda g: [b"PERSIST", g.any_key()]),
    (3, lambda g: [b"RENAME", g.any_key(), g.any_key()]),
    (2, lambda g: [b"RENAMENX", g.any_key(), g.any_key()]),
    (4, copy),
    (3, lambda g: [b"TYPE", g.any_key()]),
    (3, lambda g: [b"EXISTS", *[g.any_key() for _ in range(3)]]),
    (2, lambda g: [b"TOUCH", *[g.any_key() for _ in range(3)]]),
    (2, lambda g: [b"DEL", *[g.any_key() for _ in range(2)]]),
    (2, lambda g: [b"UNLINK", *[g.any_key() for _ in range(2)]]),
    (2, lambda g: [b"KEYS", g.pattern()]),
    (3, scan),
    (1, lambda g: [b"RANDOMKEY"]),
    (3, object_),
    (4, dump_restore),
    (0.5, restore_garbage),
    (0.3, lambda g: [b"DUMP", g.pick([b"none", b"none2"])]),
    (2, lambda g: [b"DBSIZE"]),
    (2, lambda g: [b"GET", g.key("strings")]),
    (1, lambda g: [b"LRANGE", g.key("lists"), b"0", b"-1"]),
    (1, lambda g: [b"SMEMBERS", g.key("sets")]),
    (1, lambda g: [b"HGETALL", g.key("hashes")]),
    (1, lambda g: [b"ZRANGE", g.key("zsets"), b"0", b"-1", b"WITHSCORES"]),
    (1, lambda g: [b"XRANGE", g.key("streams"), b"-", b"+"]),
]

DATABASE_GROUP = [
    (10, make_value),
    (6, lambda g: [b"SELECT", database(g)]),
    (4, lambda g: [b"MOVE", g.any_key(), database(g)]),
    (3, lambda g: [b"SWAPDB", database(g), database(g)]),
    (1, lambda g: [b"FLUSHDB", *g.flag(b"ASYNC", b"SYNC", b"NOW", probability=0.5)]),
    (0.3, lambda g: [b"FLUSHALL", *g.flag(b"ASYNC", b"SYNC", b"NOW", probability=0.5)]),
    (3, lambda g: [b"DBSIZE"]),
    (3, copy),
    (3, expire),
    (3, lambda g: [b"TTL", g.any_key()]),
    (2, scan),
    (3, lambda g: [b"GET", g.key("strings")]),
    (2, lambda g: [b"EXISTS", g.any_key()]),
    (2, lambda g: [b"KEYS", b"*"]),
    (2, lambda g: [b"TYPE", g.any_key()]),
    (1, lambda g: [b"RENAME", g.any_key(), g.any_key()]),
    (1, lambda g: [b"LRANGE", g.key("lists"), b"0", b"-1"]),
    (1, lambda g: [b"HGETALL", g.key("hashes")]),
]
