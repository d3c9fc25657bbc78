"""Streams and consumer groups. Ids are given, since `*` is the time of the server; idle times are 0 or far from what a run takes."""

from __future__ import annotations

from ..generator import Gen, Words

ODD_IDS = [
    b"0", b"0-0", b"-", b"+", b"$", b">", b"(", b"(-", b"(+", b"-1", b"1-", b"-5-1", b"1-1-1", b"01-1", b"1-01", b"+1-1", b"x", b"", b"1.5",
    b"1--1", b"18446744073709551615", b"18446744073709551615-18446744073709551615", b"(18446744073709551615-18446744073709551615",
    b"18446744073709551616-1", b"(0-0", b"9" * 128, b"1-*", b"1\x00",
]  # fmt: skip
GROUPS = [b"g", b"g", b"g2", b"other"]
CONSUMERS = [b"c", b"c", b"d", b"long-consumer-name-that-is-not-inline", b""]
FIELDS = [b"f", b"field", b"1", b"", b"-7", b"name" * 20]


def stream(gen: Gen) -> bytes:
    return gen.key("streams")


def at(gen: Gen) -> int:
    """The milliseconds that ids have reached: the generator knows no replies, so it counts for itself."""
    return getattr(gen, "stream_ms", 1)


def id_(gen: Gen, odd: float = 0.08) -> bytes:
    if gen.chance(odd):
        return gen.pick(ODD_IDS)
    ms = max(0, at(gen) - gen.rng.randrange(25))
    return b"%d" % ms if gen.chance(0.2) else b"%d-%d" % (ms, gen.rng.randrange(3))


def bound(gen: Gen) -> bytes:
    return gen.pick([b"-", b"+", id_(gen), id_(gen), b"(" + id_(gen)])


def new_id(gen: Gen) -> bytes:
    if gen.chance(0.06):
        return id_(gen, odd=0.5)
    if gen.chance(0.4):
        gen.stream_ms = at(gen) + gen.rng.randint(1, 3)
    return b"%d-*" % at(gen) if gen.chance(0.7) else b"%d-%d" % (at(gen), gen.rng.randrange(40))


def fields(gen: Gen) -> Words:
    if gen.chance(0.6):
        return [b"f", gen.value(), b"field", gen.value()]
    return [word for _ in range(gen.rng.randint(1, 4)) for word in (gen.pick(FIELDS), gen.value())]


def threshold(gen: Gen) -> Words:
    mark = gen.flag(b"~", b"=", probability=0.6)
    limit = [gen.case(b"LIMIT"), gen.small(0, 150)] if gen.chance(0.25) else []
    if gen.chance(0.6):
        return [gen.case(b"MAXLEN"), *mark, gen.small(0, 300), *limit]
    return [gen.case(b"MINID"), *mark, id_(gen), *limit]


def add(gen: Gen) -> Words:
    options = gen.shuffled(gen.flag(b"NOMKSTREAM", probability=0.1), threshold(gen) if gen.chance(0.15) else [])
    return [b"XADD", stream(gen), *options, new_id(gen), *fields(gen)]


def range_(gen: Gen) -> Words:
    count = [gen.case(b"COUNT"), gen.small()] if gen.chance(0.4) else []
    return [gen.pick([b"XRANGE", b"XREVRANGE"]), stream(gen), bound(gen), bound(gen), *count]


def read(gen: Gen) -> Words:
    count = [gen.case(b"COUNT"), gen.small()] if gen.chance(0.6) else []
    keys = [stream(gen) for _ in range(gen.rng.randint(1, 3))]
    ids = [gen.pick([b"$", b"0", b"0-0", id_(gen)]) for _ in keys]
    return [b"XREAD", *count, gen.case(b"STREAMS"), *keys, *ids]


def read_group(gen: Gen) -> Words:
    who = [gen.case(b"GROUP"), gen.pick(GROUPS), gen.pick(CONSUMERS)]
    count = [gen.case(b"COUNT"), gen.small()] if gen.chance(0.7) else []
    keys = [stream(gen) for _ in range(gen.pick([1, 1, 1, 2]))]
    ids = [gen.pick([b">", b">", b">", b"0", id_(gen)]) for _ in keys]
    return [b"XREADGROUP", *gen.shuffled(who, count, gen.flag(b"NOACK", probability=0.1)), gen.case(b"STREAMS"), *keys, *ids]


def create(gen: Gen) -> Words:
    tail = gen.shuffled(gen.flag(b"MKSTREAM", probability=0.6), [gen.case(b"ENTRIESREAD"), gen.small(-1, 9)] if gen.chance(0.2) else [])
    return [b"XGROUP", gen.case(b"CREATE"), stream(gen), gen.pick(GROUPS), gen.pick([b"0", b"0", b"$", id_(gen)]), *tail]


def group(gen: Gen) -> Words:
    who = [stream(gen), gen.pick(GROUPS)]
    return gen.pick(
        [
            lambda: [b"XGROUP", b"SETID", *who, gen.pick([b"0", b"$", b"-", b"+", id_(gen)]), *([b"ENTRIESREAD", gen.small(-1, 9)] if gen.chance(0.3) else [])],
            lambda: [b"XGROUP", b"DESTROY", *who],
            lambda: [b"XGROUP", b"CREATECONSUMER", *who, gen.pick(CONSUMERS)],
            lambda: [b"XGROUP", b"DELCONSUMER", *who, gen.pick(CONSUMERS)],
            lambda: [b"XGROUP", gen.pick([b"bogus", b"HELP", b"create"]), *who],
        ]
    )()


IDLE = [b"0", b"0", b"0", b"1000000", b"100000000", b"-1", b"x"]


def claim(gen: Gen) -> Words:
    ids = [id_(gen) for _ in range(gen.rng.randint(1, 4))]
    options = gen.shuffled(
        gen.flag(b"FORCE"),
        gen.flag(b"JUSTID", probability=0.2),
        gen.pick([[], [], [b"IDLE", b"5000000"], [b"TIME", b"12345"], [b"IDLE", b"-5"], [b"TIME", b"99999999999999"], [b"IDLE", b"x"]]),
        [b"RETRYCOUNT", gen.small(-1, 9)] if gen.chance(0.2) else [],
        [b"LASTID", id_(gen)] if gen.chance(0.1) else [],
    )
    return [b"XCLAIM", stream(gen), gen.pick(GROUPS), gen.pick(CONSUMERS), gen.pick(IDLE), *ids, *options]


def autoclaim(gen: Gen) -> Words:
    tail = gen.shuffled([gen.case(b"COUNT"), gen.small(1, 6)] if gen.chance(0.5) else [], gen.flag(b"JUSTID"))
    return [b"XAUTOCLAIM", stream(gen), gen.pick(GROUPS), gen.pick(CONSUMERS), gen.pick(IDLE), gen.pick([b"0", b"-", id_(gen), b"(" + id_(gen)]), *tail]


def pending(gen: Gen) -> Words:
    if gen.chance(0.3):
        return [b"XPENDING", stream(gen), gen.pick(GROUPS)]
    idle = [gen.case(b"IDLE"), gen.pick(IDLE)] if gen.chance(0.3) else []
    return [b"XPENDING", stream(gen), gen.pick(GROUPS), *idle, bound(gen), bound(gen), gen.small(), *gen.flag(*CONSUMERS, probability=0.4)]


def set_id(gen: Gen) -> Words:
    """Never below what was deleted: 7.4 refuses that, 7.0 does it."""
    reached = b"%d-%d" % (at(gen) + 1, gen.rng.randrange(3))
    tail = gen.shuffled(
        [gen.case(b"ENTRIESADDED"), gen.small(-1, 400)] if gen.chance(0.4) else [],
        [gen.case(b"MAXDELETEDID"), id_(gen)] if gen.chance(0.4) else [],
    )
    gen.stream_ms = at(gen) + 2
    return [b"XSETID", stream(gen), reached, *tail]


def info(gen: Gen) -> Words:
    full = gen.flag(b"FULL", probability=0.5)
    count = [b"COUNT", gen.small()] if full and gen.chance(0.4) else []
    return gen.pick(
        [
            lambda: [b"XINFO", b"STREAM", stream(gen), *full, *count],
            lambda: [b"XINFO", b"GROUPS", stream(gen)],
            lambda: [b"XINFO", b"CONSUMERS", stream(gen), gen.pick(GROUPS)],
        ]
    )()


GROUP = [
    (26, add),
    (9, range_),
    (3, lambda g: [b"XRANGE", stream(g), b"-", b"+"]),
    (2, lambda g: [b"XREVRANGE", stream(g), b"+", b"-"]),
    (3, lambda g: [b"XLEN", stream(g)]),
    (6, lambda g: [b"XDEL", stream(g), *[id_(g) for _ in range(g.rng.randint(1, 4))]]),
    (3, lambda g: [b"XTRIM", stream(g), *threshold(g)]),
    (1, set_id),
    (6, read),
    (5, create),
    (4, group),
    (12, read_group),
    (6, lambda g: [b"XACK", stream(g), g.pick(GROUPS), *[id_(g) for _ in range(g.rng.randint(1, 4))]]),
    (6, claim),
    (5, autoclaim),
    (6, pending),
    (6, info),
    (1, lambda g: [b"TYPE", stream(g)]),
    (1, lambda g: [b"OBJECT", b"ENCODING", stream(g)]),
    (1, lambda g: [b"COPY", stream(g), stream(g), *g.flag(b"REPLACE")]),
    (1, lambda g: [b"RENAME", stream(g), stream(g)]),
    (0.5, lambda g: [b"DEL", stream(g)]),
    (0.3, lambda g: [b"SET", g.key("strings"), g.value()]),
]


def burst(gen: Gen) -> Words:
    """One of many entries in the same stream, so that it comes to several blocks."""
    gen.stream_ms = at(gen) + 1
    return [b"XADD", b"x:0", b"%d-*" % at(gen), b"f", b"v%d" % at(gen), *([b"g", b"x" * 90] if gen.chance(0.2) else [])]


LONG_GROUP = [
    (60, burst),
    (3, lambda g: [b"XTRIM", b"x:0", *threshold(g)]),
    (3, lambda g: [b"XADD", b"x:0", *threshold(g), b"%d-*" % at(g), b"f", b"v"]),
    (5, lambda g: [b"XDEL", b"x:0", *[b"%d-0" % g.rng.randint(1, at(g)) for _ in range(6)]]),
    (3, lambda g: [b"XINFO", b"STREAM", b"x:0"]),
    (2, lambda g: [b"XRANGE", b"x:0", b"%d" % g.rng.randint(0, at(g)), b"+", b"COUNT", b"5"]),
    (2, lambda g: [b"XREVRANGE", b"x:0", b"%d" % g.rng.randint(0, at(g)), b"-", b"COUNT", b"5"]),
    (1, lambda g: [b"XLEN", b"x:0"]),
]
