"""List commands but the blocking ones, which belong to the job-library issue."""

from __future__ import annotations

from ..generator import Gen, Words

ENDS = (b"LEFT", b"RIGHT")


def end(gen: Gen) -> bytes:
    return gen.case(gen.pick(ENDS)) if gen.chance(0.97) else gen.pick([b"UP", b"", b"LEF"])


def values(gen: Gen, most: int = 5) -> Words:
    return [gen.pick(b"a b c d a b".split()) if gen.chance(0.7) else gen.value() for _ in range(gen.rng.randint(1, most))]


def pop(name: bytes):  # noqa: ANN201 - a maker
    def maker(gen: Gen) -> Words:
        return [name, gen.key("lists"), *([gen.small(0, 6)] if gen.chance(0.5) else [])]

    return maker


def lpos(gen: Gen) -> Words:
    parts = [
        [gen.case(b"RANK"), gen.index()] if gen.chance(0.4) else [],
        [gen.case(b"COUNT"), gen.small(0, 4)] if gen.chance(0.4) else [],
        [gen.case(b"MAXLEN"), gen.small(0, 8)] if gen.chance(0.3) else [],
    ]
    return [b"LPOS", gen.key("lists"), *values(gen, 1), *gen.shuffled(*parts)]


def lmpop(gen: Gen) -> Words:
    keys = gen.keys("lists")
    count = b"%d" % len(keys) if gen.chance(0.93) else gen.small(0, 4)
    tail = [gen.case(b"COUNT"), gen.small(1, 6)] if gen.chance(0.5) else []
    return [b"LMPOP", count, *keys, end(gen), *tail]


GROUP = [
    (4, lambda g: [b"RPUSH", g.key("lists"), *values(g)]),
    (4, lambda g: [b"LPUSH", g.key("lists"), *values(g)]),
    (1, lambda g: [b"RPUSH", g.key("lists"), *([b"item%d" % i for i in range(200)])]),
    (1, lambda g: [b"RPUSHX", g.key("lists"), *values(g, 2)]),
    (1, lambda g: [b"LPUSHX", g.key("lists"), *values(g, 2)]),
    (3, pop(b"LPOP")),
    (3, pop(b"RPOP")),
    (2, lambda g: [b"LLEN", g.key("lists")]),
    (5, lambda g: [b"LRANGE", g.key("lists"), g.index(), g.index()]),
    (4, lambda g: [b"LRANGE", g.key("lists"), b"0", b"-1"]),
    (2, lambda g: [b"LINDEX", g.key("lists"), g.index()]),
    (2, lambda g: [b"LSET", g.key("lists"), g.index(), g.value()]),
    (3, lambda g: [b"LINSERT", g.key("lists"), g.case(g.pick([b"BEFORE", b"AFTER", b"NEAR"])), *values(g, 1), g.value()]),
    (3, lambda g: [b"LREM", g.key("lists"), g.index(), *values(g, 1)]),
    (2, lambda g: [b"LTRIM", g.key("lists"), g.index(), g.index()]),
    (3, lpos),
    (3, lambda g: [b"LMOVE", g.key("lists"), g.key("lists"), end(g), end(g)]),
    (2, lambda g: [b"RPOPLPUSH", g.key("lists"), g.key("lists")]),
    (3, lmpop),
    (1, lambda g: [b"DEL", g.key("lists")]),
    (1, lambda g: [b"EXISTS", g.key("lists")]),
    (1, lambda g: [b"TYPE", g.key("lists")]),
    (0.7, lambda g: [b"SET", g.key("strings"), g.value()]),
]
