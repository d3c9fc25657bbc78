"""GEO commands: places around Sicily and at the edges of the map."""

from __future__ import annotations

from ..generator import Gen, Words

UNITS = (b"m", b"km", b"mi", b"ft")


def unit(gen: Gen) -> bytes:
    return gen.case(gen.pick(UNITS)) if gen.chance(0.95) else b"yd"


def place(gen: Gen) -> Words:
    if gen.chance(0.06):
        return [gen.float(0.4), gen.float(0.4)]
    if gen.chance(0.1):
        return gen.pick([[b"180", b"85.05112878"], [b"-180", b"-85.05112878"], [b"0", b"0"], [b"181", b"0"], [b"0", b"86"]])
    return [b"%.6f" % gen.rng.uniform(12, 16), b"%.6f" % gen.rng.uniform(36, 39)]


def geoadd(gen: Gen) -> Words:
    flags = gen.shuffled(gen.flag(b"NX", b"XX", probability=0.2), gen.flag(b"CH", probability=0.2))
    return [b"GEOADD", gen.key("zsets"), *flags, *[word for member in gen.members(3) for word in (*place(gen), member)]]


def radius(gen: Gen) -> bytes:
    return gen.pick([b"10", b"100", b"250.5", b"1000", b"0", b"20000"]) if gen.chance(0.94) else gen.pick([b"-1", b"x", b"nan"])


def details(gen: Gen) -> list[Words]:
    """COUNT without ANY keeps to the nearest, so that the answer is one and the same."""
    order = [gen.case(gen.pick([b"ASC", b"DESC"]))] if gen.chance(0.8) else []
    count = [gen.case(b"COUNT"), gen.small(1, 5)] if gen.chance(0.3) else []
    return [order, count]


def with_flags(gen: Gen) -> list[Words]:
    return [gen.flag(b"WITHCOORD"), gen.flag(b"WITHDIST"), gen.flag(b"WITHHASH")]


def origin(gen: Gen) -> Words:
    if gen.chance(0.5):
        return [gen.case(b"FROMMEMBER"), gen.member()]
    return [gen.case(b"FROMLONLAT"), *place(gen)]


def shape(gen: Gen) -> Words:
    if gen.chance(0.5):
        return [gen.case(b"BYRADIUS"), radius(gen), unit(gen)]
    return [gen.case(b"BYBOX"), radius(gen), radius(gen), unit(gen)]


def search(gen: Gen) -> Words:
    return [b"GEOSEARCH", gen.key("zsets"), *gen.shuffled(origin(gen), shape(gen), *details(gen), *with_flags(gen))]


def searchstore(gen: Gen) -> Words:
    tail = gen.shuffled(origin(gen), shape(gen), *details(gen), gen.flag(b"STOREDIST"))
    return [b"GEOSEARCHSTORE", gen.key("zsets"), gen.key("zsets"), *tail]


def georadius(gen: Gen) -> Words:
    by_member = gen.chance(0.5)
    name = b"GEORADIUSBYMEMBER" if by_member else b"GEORADIUS"
    name += b"_RO" if gen.chance(0.4) else b""
    centre = [gen.member()] if by_member else place(gen)
    store = [gen.case(gen.pick([b"STORE", b"STOREDIST"])), gen.key("zsets")] if gen.chance(0.15) else []
    flags = [] if store and gen.chance(0.8) else with_flags(gen)
    return [name, gen.key("zsets"), *centre, radius(gen), unit(gen), *gen.shuffled(*details(gen), *flags, store)]


GROUP = [
    (8, geoadd),
    (3, lambda g: [b"GEOPOS", g.key("zsets"), *g.members(3)]),
    (3, lambda g: [b"GEOHASH", g.key("zsets"), *g.members(3)]),
    (3, lambda g: [b"GEODIST", g.key("zsets"), g.member(), g.member(), *([unit(g)] if g.chance(0.6) else [])]),
    (8, search),
    (3, searchstore),
    (5, georadius),
    (3, lambda g: [b"ZRANGE", g.key("zsets"), b"0", b"-1", b"WITHSCORES"]),
    (1, lambda g: [b"ZREM", g.key("zsets"), g.member()]),
    (0.5, lambda g: [b"SET", g.key("strings"), g.value()]),
]
