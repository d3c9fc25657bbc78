"""Hash commands. The HEXPIRE family is absent from Redis 7.0; test_redis74.py has it."""

from __future__ import annotations

from ..generator import Gen, Words


def fields(gen: Gen, most: int = 4) -> Words:
    return gen.members(most)


def pairs(gen: Gen) -> Words:
    return [word for field in gen.members(4) for word in (field, gen.value())]


def randfield(gen: Gen) -> Words:
    if gen.chance(0.3):
        return [b"HRANDFIELD", gen.key("hashes")]
    count = gen.pick([b"100", b"-5", b"2", b"0", b"1", b"-1", b"x", b"9223372036854775807", b"-9223372036854775808"])
    return [b"HRANDFIELD", gen.key("hashes"), count, *gen.flag(b"WITHVALUES", probability=0.4)]


def scan(gen: Gen) -> Words:
    parts = [
        [gen.case(b"MATCH"), gen.pattern()] if gen.chance(0.4) else [],
        [gen.case(b"COUNT"), gen.small(1, 20)] if gen.chance(0.5) else [],
    ]
    return [b"HSCAN", gen.key("hashes"), b"0" if gen.chance(0.95) else gen.pick([b"x", b"-1", b"", b"99999999999999999999"]), *gen.shuffled(*parts)]


GROUP = [
    (8, lambda g: [b"HSET", g.key("hashes"), *pairs(g)]),
    (2, lambda g: [b"HMSET", g.key("hashes"), *pairs(g)]),
    (1, lambda g: [b"HSET", g.key("hashes"), *[w for i in range(140) for w in (b"f%d" % i, b"%d" % i)]]),
    (2, lambda g: [b"HSETNX", g.key("hashes"), g.member(), g.value()]),
    (3, lambda g: [b"HGET", g.key("hashes"), g.member()]),
    (3, lambda g: [b"HMGET", g.key("hashes"), *fields(g)]),
    (4, lambda g: [b"HGETALL", g.key("hashes")]),
    (2, lambda g: [b"HKEYS", g.key("hashes")]),
    (2, lambda g: [b"HVALS", g.key("hashes")]),
    (2, lambda g: [b"HLEN", g.key("hashes")]),
    (2, lambda g: [b"HEXISTS", g.key("hashes"), g.member()]),
    (3, lambda g: [b"HDEL", g.key("hashes"), *fields(g)]),
    (1, lambda g: [b"HDEL", g.key("hashes"), *[b"f%d" % i for i in range(139)]]),
    (2, lambda g: [b"HSTRLEN", g.key("hashes"), g.member()]),
    (4, lambda g: [b"HINCRBY", g.key("hashes"), g.member(), g.integer()]),
    (4, lambda g: [b"HINCRBYFLOAT", g.key("hashes"), g.member(), g.float()]),
    (2, lambda g: [b"HSET", g.key("hashes"), g.member(), g.float()]),
    (2, lambda g: [b"HSET", g.key("hashes"), g.member(), g.integer(0)]),
    (3, randfield),
    (3, scan),
    (1, lambda g: [b"DEL", g.key("hashes")]),
    (1, lambda g: [b"EXISTS", g.key("hashes")]),
    (0.7, lambda g: [b"SET", g.key("strings"), g.value()]),
]
