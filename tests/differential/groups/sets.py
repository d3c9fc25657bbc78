"""Set commands. SPOP is made equal on both sides by the runner after each use."""

from __future__ import annotations

from ..generator import Gen, Words


def operate(name: bytes):  # noqa: ANN201 - a maker
    return lambda gen: [name, *gen.keys("sets")]


def store(name: bytes):  # noqa: ANN201 - a maker
    return lambda gen: [name, gen.key("sets"), *gen.keys("sets")]


def random_count(gen: Gen) -> bytes:
    return gen.pick([b"0", b"1", b"2", b"3", b"100", b"x", b"-1", b"-7", b"9223372036854775807", b"-9223372036854775808"])


def spop(gen: Gen) -> Words:
    return [b"SPOP", gen.key("sets"), *([random_count(gen)] if gen.chance(0.6) else [])]


def srandmember(gen: Gen) -> Words:
    return [b"SRANDMEMBER", gen.key("sets"), *([random_count(gen)] if gen.chance(0.7) else [])]


def intercard(gen: Gen) -> Words:
    keys = gen.keys("sets")
    count = b"%d" % len(keys) if gen.chance(0.93) else gen.small(0, 4)
    return [b"SINTERCARD", count, *keys, *([gen.case(b"LIMIT"), gen.small(0, 4)] if gen.chance(0.4) else [])]


def scan(gen: Gen) -> Words:
    parts = [
        [gen.case(b"MATCH"), gen.pattern()] if gen.chance(0.4) else [],
        [gen.case(b"COUNT"), gen.small(1, 20)] if gen.chance(0.5) else [],
    ]
    return [b"SSCAN", gen.key("sets"), b"0", *gen.shuffled(*parts)]


def integers(gen: Gen) -> Words:
    return [b"%d" % gen.rng.randint(-50, 50) for _ in range(gen.rng.randint(1, 12))]


GROUP = [
    (8, lambda g: [b"SADD", g.key("sets"), *g.members()]),
    (3, lambda g: [b"SADD", g.key("sets"), *integers(g)]),
    (1, lambda g: [b"SADD", g.key("sets"), *[b"%d" % i for i in range(g.pick([130, 600]))]]),
    (3, lambda g: [b"SREM", g.key("sets"), *g.members()]),
    (4, lambda g: [b"SMEMBERS", g.key("sets")]),
    (2, lambda g: [b"SCARD", g.key("sets")]),
    (2, lambda g: [b"SISMEMBER", g.key("sets"), g.member()]),
    (2, lambda g: [b"SMISMEMBER", g.key("sets"), *g.members()]),
    (2, lambda g: [b"SMOVE", g.key("sets"), g.key("sets"), g.member()]),
    (3, spop),
    (3, srandmember),
    (2, operate(b"SINTER")),
    (2, operate(b"SUNION")),
    (2, operate(b"SDIFF")),
    (2, store(b"SINTERSTORE")),
    (2, store(b"SUNIONSTORE")),
    (2, store(b"SDIFFSTORE")),
    (2, intercard),
    (3, scan),
    (1, lambda g: [b"OBJECT", b"ENCODING", g.key("sets")]),
    (1, lambda g: [b"DEL", g.key("sets")]),
    (0.7, lambda g: [b"SET", g.key("strings"), g.value()]),
]
