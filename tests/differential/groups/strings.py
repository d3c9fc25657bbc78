"""String commands, with SET's and GETEX's options in every combination."""

from __future__ import annotations

from ..generator import Gen, Words


def expiry(gen: Gen) -> Words:
    """An expiry option with its argument."""
    roll = gen.rng.random()
    if roll < 0.25:
        return [gen.case(b"EX"), gen.seconds_ahead()]
    if roll < 0.5:
        return [gen.case(b"PX"), gen.seconds_ahead() + b"000"]
    if roll < 0.7:
        return [gen.case(b"EXAT"), gen.deadline()]
    if roll < 0.9:
        return [gen.case(b"PXAT"), gen.deadline() + b"123"]
    return [gen.pick([b"EX", b"PX", b"EXAT", b"PXAT"]), gen.bad_expiry()]


def set_(gen: Gen) -> Words:
    parts = [gen.flag(b"NX", b"XX"), gen.flag(b"GET", probability=0.2), gen.flag(b"KEEPTTL", probability=0.15)]
    if gen.chance(0.3):
        parts.append(expiry(gen))
    if gen.chance(0.03):
        parts.append([gen.pick([b"NX", b"XX", b"KEEPTTL", b"PERSIST", b"bogus"])])
    return [b"SET", gen.key("strings"), gen.value(), *gen.shuffled(*parts)]


def getex(gen: Gen) -> Words:
    option: Words = []
    if gen.chance(0.6):
        option = expiry(gen)
    elif gen.chance(0.5):
        option = [gen.case(b"PERSIST")]
    if gen.chance(0.05):
        option += gen.pick([[b"PERSIST"], [b"KEEPTTL"], [b"NX"]])
    return [b"GETEX", gen.key("strings"), *option]


def lcs(gen: Gen) -> Words:
    parts = [
        gen.flag(b"LEN"),
        gen.flag(b"IDX"),
        gen.flag(b"WITHMATCHLEN"),
        [b"MINMATCHLEN", gen.small(0, 4)] if gen.chance(0.3) else [],
    ]
    return [b"LCS", gen.key("strings"), gen.key("strings"), *gen.shuffled(*parts)]


def setrange(gen: Gen) -> Words:
    far = gen.pick([b"536870912", b"4294967296", b"9223372036854775807", b"-1", b"x"])
    offset = far if gen.chance(0.1) else gen.small(0, 80)
    return [b"SETRANGE", gen.key("strings"), offset, gen.value()]


def pairs(gen: Gen) -> Words:
    return [word for _ in range(gen.rng.randint(1, 4)) for word in (gen.key("strings"), gen.value())]


GROUP = [
    (8, set_),
    (5, lambda g: [b"GET", g.key("strings")]),
    (2, lambda g: [b"SETNX", g.key("strings"), g.value()]),
    (1, lambda g: [b"SETEX", g.key("strings"), g.seconds_ahead() if g.chance(0.8) else g.bad_expiry(), g.value()]),
    (1, lambda g: [b"PSETEX", g.key("strings"), g.seconds_ahead() + b"000" if g.chance(0.8) else g.bad_expiry(), g.value()]),
    (2, lambda g: [b"GETSET", g.key("strings"), g.value()]),
    (1, lambda g: [b"GETDEL", g.key("strings")]),
    (3, getex),
    (2, lambda g: [b"MGET", *g.keys("strings")]),
    (2, lambda g: [b"MSET", *pairs(g)]),
    (1, lambda g: [b"MSETNX", *pairs(g)]),
    (3, lambda g: [b"INCR", g.key("strings")]),
    (3, lambda g: [b"DECR", g.key("strings")]),
    (3, lambda g: [b"INCRBY", g.key("strings"), g.integer()]),
    (3, lambda g: [b"DECRBY", g.key("strings"), g.integer()]),
    (3, lambda g: [b"INCRBYFLOAT", g.key("strings"), g.float()]),
    (2, lambda g: [b"SET", g.key("strings"), g.integer(0.0)]),
    (2, lambda g: [b"SET", g.key("strings"), g.float()]),
    (3, lambda g: [b"APPEND", g.key("strings"), g.value()]),
    (2, lambda g: [b"STRLEN", g.key("strings")]),
    (3, lambda g: [b"GETRANGE", g.key("strings"), g.index(), g.index()]),
    (1, lambda g: [b"SUBSTR", g.key("strings"), g.index(), g.index()]),
    (3, setrange),
    (2, lcs),
    (1, lambda g: [b"TTL", g.key("strings")]),
    (1, lambda g: [b"PTTL", g.key("strings")]),
    (1, lambda g: [b"EXPIRETIME", g.key("strings")]),
    (1, lambda g: [b"OBJECT", b"ENCODING", g.key("strings")]),
    (1, lambda g: [b"DEL", *g.keys("strings", 2)]),
    (0.7, lambda g: [b"HSET", g.key("hashes"), b"f", b"v"]),
]
