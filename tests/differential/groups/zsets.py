"""Sorted set commands: ZADD's flags, every range form, and the set operations with weights and aggregates."""

from __future__ import annotations

from ..generator import NAMES, Gen, Words


def zadd(gen: Gen) -> Words:
    flags = gen.shuffled(
        gen.flag(b"NX", b"XX", probability=0.3),
        gen.flag(b"GT", b"LT", probability=0.3),
        gen.flag(b"CH", probability=0.3),
        gen.flag(b"INCR", probability=0.15),
    )
    most = 1 if b"INCR" in [flag.upper() for flag in flags] and gen.chance(0.8) else 4
    pairs = [word for member in gen.members(most) for word in (gen.float(), member)]
    return [b"ZADD", gen.key("zsets"), *flags, *pairs]


def fill(gen: Gen) -> Words:
    """Members of one score, so that ranges by name mean something."""
    return [b"ZADD", gen.fixed_key(NAMES), *[word for member in gen.members(6) for word in (b"0", member)]]


def score_bound(gen: Gen) -> bytes:
    if gen.chance(0.06):
        return gen.pick([b"", b"(", b"x", b"nan", b"(nan", b"[1", b"((1"])
    if gen.chance(0.3):
        return gen.pick([b"-inf", b"+inf", b"inf", b"(inf", b"(-inf"])
    return (b"(" if gen.chance(0.3) else b"") + b"%d" % gen.rng.randint(-12, 12)


def name_bound(gen: Gen) -> bytes:
    if gen.chance(0.06):
        return gen.pick([b"", b"a", b"++", b"--", b"+a", b"(", b"["])
    if gen.chance(0.3):
        return gen.pick([b"-", b"+"])
    return gen.pick([b"[", b"("]) + gen.member()


def limit(gen: Gen, probability: float = 0.3) -> Words:
    return [gen.case(b"LIMIT"), gen.index(), gen.index()] if gen.chance(probability) else []


def bounds(gen: Gen, kind: str) -> Words:
    make = {"score": score_bound, "name": name_bound, "rank": Gen.index}[kind]
    return [make(gen), make(gen)]


def ranged_key(gen: Gen, kind: str) -> bytes:
    return gen.fixed_key(NAMES) if kind == "name" else gen.key("zsets")


def zrange(gen: Gen) -> Words:
    kind = gen.pick(["score", "name", "rank", "rank"])
    by = {"score": [gen.case(b"BYSCORE")], "name": [gen.case(b"BYLEX")], "rank": []}[kind]
    tail = gen.shuffled(
        by,
        gen.flag(b"REV"),
        limit(gen, 0.05 if kind == "rank" else 0.35),
        gen.flag(b"WITHSCORES", probability=0.05 if kind == "name" else 0.4),
    )
    return [b"ZRANGE", ranged_key(gen, kind), *bounds(gen, kind), *tail]


def zrangestore(gen: Gen) -> Words:
    kind = gen.pick(["score", "name", "rank"])
    by = {"score": [b"BYSCORE"], "name": [b"BYLEX"], "rank": []}[kind]
    tail = gen.shuffled(by, gen.flag(b"REV"), limit(gen, 0.05 if kind == "rank" else 0.3))
    return [b"ZRANGESTORE", gen.key("zsets"), ranged_key(gen, kind), *bounds(gen, kind), *tail]


def by_score(name: bytes):  # noqa: ANN201 - a maker
    def maker(gen: Gen) -> Words:
        return [name, gen.key("zsets"), *bounds(gen, "score"), *gen.shuffled(gen.flag(b"WITHSCORES"), limit(gen))]

    return maker


def by_name(name: bytes):  # noqa: ANN201 - a maker
    return lambda gen: [name, gen.fixed_key(NAMES), *bounds(gen, "name"), *limit(gen)]


def plain_range(name: bytes, kind: str):  # noqa: ANN201 - a maker
    return lambda gen: [name, ranged_key(gen, kind), *bounds(gen, kind)]


def operand_keys(gen: Gen) -> Words:
    """Sets may stand where sorted sets do."""
    keys = [gen.key("sets") if gen.chance(0.25) else gen.key("zsets") for _ in range(gen.rng.randint(1, 3))]
    count = b"%d" % len(keys) if gen.chance(0.94) else gen.small(0, 4)
    return [count, *keys]


def combine(name: bytes, stores: bool):  # noqa: ANN201 - a maker
    def maker(gen: Gen) -> Words:
        operands = operand_keys(gen)
        weights = [gen.case(b"WEIGHTS"), *[gen.float(0.08) for _ in operands[1:]]] if gen.chance(0.3) else []
        aggregate = [gen.case(b"AGGREGATE"), gen.case(gen.pick([b"SUM", b"MIN", b"MAX", b"AVG"][: 4 if gen.chance(0.1) else 3]))]
        if b"DIFF" in name and gen.chance(0.9):
            weights, aggregate = [], []
        tail = gen.shuffled(
            weights,
            aggregate if gen.chance(0.4) else [],
            gen.flag(b"WITHSCORES", probability=0.03 if stores else 0.5),
        )
        return [name, *([gen.key("zsets")] if stores else []), *operands, *tail]

    return maker


def intercard(gen: Gen) -> Words:
    return [b"ZINTERCARD", *operand_keys(gen), *([gen.case(b"LIMIT"), gen.small(0, 4)] if gen.chance(0.4) else [])]


def pop(name: bytes):  # noqa: ANN201 - a maker
    return lambda gen: [name, gen.key("zsets"), *([gen.small(0, 5)] if gen.chance(0.5) else [])]


def zmpop(gen: Gen) -> Words:
    tail = [gen.case(b"COUNT"), gen.small(1, 5)] if gen.chance(0.5) else []
    return [b"ZMPOP", *operand_keys(gen), gen.case(gen.pick([b"MIN", b"MAX", b"MAX", b"MIN", b"MID"])), *tail]


def randmember(gen: Gen) -> Words:
    if gen.chance(0.3):
        return [b"ZRANDMEMBER", gen.key("zsets")]
    count = gen.pick([b"0", b"1", b"3", b"100", b"-4", b"x", b"9223372036854775807", b"-9223372036854775808"])
    return [b"ZRANDMEMBER", gen.key("zsets"), count, *gen.flag(b"WITHSCORES", probability=0.4)]


def rank(name: bytes):  # noqa: ANN201 - a maker
    return lambda gen: [name, gen.key("zsets"), gen.member()]


def scan(gen: Gen) -> Words:
    parts = [
        [gen.case(b"MATCH"), gen.pattern()] if gen.chance(0.4) else [],
        [gen.case(b"COUNT"), gen.small(1, 20)] if gen.chance(0.5) else [],
    ]
    return [b"ZSCAN", gen.key("zsets"), b"0", *gen.shuffled(*parts)]


GROUP = [
    (9, zadd),
    (4, fill),
    (1, lambda g: [b"ZADD", g.key("zsets"), *[w for i in range(140) for w in (b"%d" % (i % 30), b"e%d" % i)]]),
    (2, lambda g: [b"SADD", g.key("sets"), *g.members()]),
    (2, lambda g: [b"ZREM", g.key("zsets"), *g.members()]),
    (2, lambda g: [b"ZSCORE", g.key("zsets"), g.member()]),
    (2, lambda g: [b"ZMSCORE", g.key("zsets"), *g.members()]),
    (1, lambda g: [b"ZCARD", g.key("zsets")]),
    (4, lambda g: [b"ZINCRBY", g.key("zsets"), g.float(), g.member()]),
    (2, rank(b"ZRANK")),
    (2, rank(b"ZREVRANK")),
    (2, plain_range(b"ZCOUNT", "score")),
    (2, plain_range(b"ZLEXCOUNT", "name")),
    (6, zrange),
    (3, lambda g: [b"ZRANGE", g.key("zsets"), b"0", b"-1", b"WITHSCORES"]),
    (2, lambda g: [b"ZREVRANGE", g.key("zsets"), *bounds(g, "rank"), *g.flag(b"WITHSCORES")]),
    (2, by_score(b"ZRANGEBYSCORE")),
    (2, by_score(b"ZREVRANGEBYSCORE")),
    (2, by_name(b"ZRANGEBYLEX")),
    (2, by_name(b"ZREVRANGEBYLEX")),
    (2, zrangestore),
    (1, plain_range(b"ZREMRANGEBYRANK", "rank")),
    (1, plain_range(b"ZREMRANGEBYSCORE", "score")),
    (1, plain_range(b"ZREMRANGEBYLEX", "name")),
    (2, combine(b"ZUNION", False)),
    (2, combine(b"ZINTER", False)),
    (2, combine(b"ZDIFF", False)),
    (2, combine(b"ZUNIONSTORE", True)),
    (2, combine(b"ZINTERSTORE", True)),
    (2, combine(b"ZDIFFSTORE", True)),
    (2, intercard),
    (2, pop(b"ZPOPMIN")),
    (2, pop(b"ZPOPMAX")),
    (2, zmpop),
    (2, randmember),
    (2, scan),
    (1, lambda g: [b"OBJECT", b"ENCODING", g.key("zsets")]),
    (1, lambda g: [b"DEL", g.key("zsets")]),
    (0.7, lambda g: [b"SET", g.key("strings"), g.value()]),
]
