"""Bitmaps, BITFIELD and HyperLogLog: strings seen as bits and registers."""

from __future__ import annotations

from ..generator import Gen, Words


def offset(gen: Gen) -> bytes:
    if gen.chance(0.08):
        return gen.pick([b"-1", b"4294967296", b"x", b"", b"9223372036854775808", b"1.5"])
    return b"%d" % gen.rng.randint(0, 120)


def span(gen: Gen) -> Words:
    roll = gen.rng.random()
    if roll < 0.3:
        return []
    if roll < 0.35:
        return [gen.index()]
    return [gen.index(), gen.index(), *gen.flag(b"BIT", b"BYTE", probability=0.4)]


def bitop(gen: Gen) -> Words:
    name = gen.case(gen.pick([b"AND", b"OR", b"XOR", b"NOT"])) if gen.chance(0.95) else b"NAND"
    keys = gen.keys("strings", 1 if name.upper() == b"NOT" and gen.chance(0.9) else 4)
    return [b"BITOP", name, gen.key("strings"), *keys]


def field_type(gen: Gen) -> bytes:
    if gen.chance(0.06):
        return gen.pick([b"u64", b"i65", b"u0", b"i0", b"x8", b"", b"u", b"i-1", b"u8x"])
    return gen.pick([b"u8", b"i8", b"u4", b"i5", b"u1", b"i1", b"u63", b"i64", b"u16", b"i32", b"u33"])


def field_offset(gen: Gen) -> bytes:
    if gen.chance(0.05):
        return gen.pick([b"-1", b"#-1", b"x", b"", b"#", b"4294967296", b"#9223372036854775807"])
    return (b"#" if gen.chance(0.3) else b"") + b"%d" % gen.rng.randint(0, 20)


def bitfield(gen: Gen) -> Words:
    words: Words = []
    for _ in range(gen.rng.randint(0, 5)):
        roll = gen.rng.random()
        if roll < 0.3:
            words += [gen.case(b"GET"), field_type(gen), field_offset(gen)]
        elif roll < 0.6:
            words += [gen.case(b"SET"), field_type(gen), field_offset(gen), gen.integer(0.05)]
        elif roll < 0.85:
            words += [gen.case(b"INCRBY"), field_type(gen), field_offset(gen), gen.integer(0.05)]
        else:
            words += [gen.case(b"OVERFLOW"), gen.case(gen.pick([b"WRAP", b"SAT", b"FAIL", b"FAIL", b"SAT", b"NONE"]))]
    return [b"BITFIELD", gen.key("strings"), *words]


def bitfield_ro(gen: Gen) -> Words:
    words: Words = []
    for _ in range(gen.rng.randint(0, 3)):
        words += [b"GET", field_type(gen), field_offset(gen)]
    if gen.chance(0.1):
        words += [b"SET", b"u8", b"0", b"1"]
    return [b"BITFIELD_RO", gen.key("strings"), *words]


BITS = [
    (5, lambda g: [b"SETBIT", g.key("strings"), offset(g), g.pick([b"0", b"1", b"1", b"2", b"x"][: 5 if g.chance(0.1) else 3])]),
    (4, lambda g: [b"GETBIT", g.key("strings"), offset(g)]),
    (4, lambda g: [b"SET", g.key("strings"), g.value()]),
    (2, lambda g: [b"SET", g.key("strings"), g.pick([b"\x00\xff\xf0", b"\xff" * 9, b"\x00" * 5, b"\x00\x0f" * 20])]),
    (5, lambda g: [b"BITCOUNT", g.key("strings"), *span(g)]),
    (6, lambda g: [b"BITPOS", g.key("strings"), g.pick([b"0", b"1", b"1", b"0", b"2", b"x"]), *span(g)]),
    (5, bitop),
    (8, bitfield),
    (3, bitfield_ro),
    (4, lambda g: [b"GET", g.key("strings")]),
    (1, lambda g: [b"STRLEN", g.key("strings")]),
    (1, lambda g: [b"DEL", g.key("strings")]),
    (1, lambda g: [b"RPUSH", g.key("lists"), b"x"]),
]


def elements(gen: Gen) -> Words:
    if gen.chance(0.1):
        start = gen.rng.randrange(3000)
        return [b"e%d" % i for i in range(start, start + 400)]
    return [b"e%d" % gen.rng.randrange(3000) for _ in range(gen.rng.randint(0, 8))]


HLL = [
    (8, lambda g: [b"PFADD", g.key("strings"), *elements(g)]),
    (5, lambda g: [b"PFCOUNT", *g.keys("strings", 3)]),
    (4, lambda g: [b"PFMERGE", g.key("strings"), *(g.keys("strings", 3) if g.chance(0.9) else [])]),
    (2, lambda g: [b"STRLEN", g.key("strings")]),
    (2, lambda g: [b"GET", g.key("strings")]),
    (0.5, lambda g: [b"SET", g.key("strings"), g.value()]),
    (0.5, lambda g: [b"SET", g.key("strings"), b"HYLL" + b"\x00" * 12]),
    (1, lambda g: [b"TYPE", g.key("strings")]),
    (1, lambda g: [b"DEL", g.key("strings")]),
    (0.5, lambda g: [b"RPUSH", g.key("lists"), b"x"]),
]
