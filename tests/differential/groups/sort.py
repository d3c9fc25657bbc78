"""SORT with BY, GET, LIMIT and STORE over lists, sets and sorted sets."""

from __future__ import annotations

from ..generator import Gen, Words


LISTS, SETS, ZSETS = b"sl:", b"st:", b"sz:"
"""Keys of one type each: `BY nosort` gives lists and sorted sets in their order, and sets in any."""


def numbers(gen: Gen) -> Words:
    return [b"%d" % gen.rng.randint(0, 9) if gen.chance(0.9) else gen.float(0.1).rstrip(b"\x00") for _ in range(gen.rng.randint(1, 6))]


def source(gen: Gen) -> bytes:
    return gen.fixed_key(gen.pick([LISTS, LISTS, SETS, ZSETS])) if gen.chance(0.95) else gen.key("hashes")


def sort(gen: Gen) -> Words:
    name = b"SORT" if gen.chance(0.8) else b"SORT_RO"
    gets = [[gen.case(b"GET"), gen.pick([b"#", b"s:*", b"h:*->a", b"h:0->*", b"none*", b"nostar"])] for _ in range(gen.pick([0, 0, 0, 1, 2]))]
    tail = gen.shuffled(
        [gen.case(b"BY"), gen.pick([b"s:*", b"h:*->a", b"nosort", b"none*", b"x"])] if gen.chance(0.4) else [],
        [gen.case(b"LIMIT"), gen.index(), gen.index()] if gen.chance(0.3) else [],
        gen.flag(b"ASC", b"DESC", probability=0.5),
        gen.flag(b"ALPHA", probability=0.5),
        [gen.case(b"STORE"), gen.key("lists")] if name == b"SORT" and gen.chance(0.2) else [],
        *gets,
    )
    chosen = {word.upper() for word in tail}
    if {b"BY", b"ALPHA", b"STORE"} <= chosen:
        # The order of equal weights is free, and a stored list would carry the difference along.
        return [name, source(gen)]
    return [name, source(gen), *tail]


GROUP = [
    (4, lambda g: [b"RPUSH", g.fixed_key(LISTS), *numbers(g)]),
    (2, lambda g: [b"RPUSH", g.fixed_key(LISTS), *g.members()]),
    (2, lambda g: [b"SADD", g.fixed_key(SETS), *numbers(g)]),
    (2, lambda g: [b"ZADD", g.fixed_key(ZSETS), *[w for n in numbers(g) for w in (b"%d" % g.rng.randint(0, 5), n)]]),
    (2, lambda g: [b"SET", g.key("strings"), b"%d" % g.rng.randint(0, 50)]),
    (1, lambda g: [b"SET", g.key("strings"), g.value()]),
    (2, lambda g: [b"HSET", g.key("hashes"), b"a", b"%d" % g.rng.randint(0, 50)]),
    (1, lambda g: [b"DEL", source(g)]),
    (12, sort),
    (1, lambda g: [b"RPUSH", g.key("lists"), *numbers(g)]),
    (3, lambda g: [b"LRANGE", g.key("lists"), b"0", b"-1"]),
]
