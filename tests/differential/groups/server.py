"""Connection and server commands whose replies do not depend on the machine."""

from __future__ import annotations

from ..generator import Gen, Words

NAMES = (
    b"GET SET DEL MSET HSET LPUSH SADD ZADD ZUNIONSTORE SORT BITOP EXPIRE OBJECT CONFIG CLIENT PING GEORADIUS LMPOP ZINTER COPY "
    b"SINTERCARD RENAME LMOVE PFCOUNT PFMERGE GETEX ECHO SELECT KEYS SCAN"
).split()


def getkeys(gen: Gen) -> Words:
    target = gen.pick(
        [
            lambda: [b"GET", gen.any_key()],
            lambda: [b"MSET", gen.any_key(), b"1", gen.any_key(), b"2"],
            lambda: [b"ZUNIONSTORE", b"dst", b"2", gen.any_key(), gen.any_key()],
            lambda: [b"SORT", gen.any_key(), b"BY", b"w*", b"STORE", b"dst"],
            lambda: [b"BITOP", b"AND", b"dst", gen.any_key(), gen.any_key()],
            lambda: [b"LMPOP", b"2", gen.any_key(), gen.any_key(), b"LEFT"],
            lambda: [b"ZINTER", b"1", gen.any_key()],
            lambda: [b"OBJECT", b"ENCODING", gen.any_key()],
            lambda: [b"GEORADIUS", gen.any_key(), b"1", b"2", b"3", b"m", b"STORE", b"dst"],
            lambda: [b"COPY", b"a", b"b"],
            lambda: [b"PING"],
            lambda: [b"nosuch", b"x"],
            lambda: [gen.pick(NAMES), b"1", b"2", b"3"],
            lambda: [gen.pick(NAMES)],
        ]
    )()
    return [b"COMMAND", b"GETKEYS", *target]


def unknown(gen: Gen) -> Words:
    name = gen.pick([b"NOSUCH", b"", b"g\x00t", b"GETT", b"set!", b"x" * 200, b"a b", b"foo'bar"])
    return [name, *[gen.value() for _ in range(gen.rng.randrange(4))]]


def unknown_sub(gen: Gen) -> Words:
    return [gen.pick([b"CLIENT", b"CONFIG", b"OBJECT", b"COMMAND", b"MEMORY"]), gen.pick([b"NOSUCH", b"", b"x\x00"]), *gen.pick([[], [b"a"], [b"a", b"b"]])]


GROUP = [
    (3, lambda g: [b"PING", *([g.value()] if g.chance(0.5) else [])]),
    (2, lambda g: [b"ECHO", g.value()]),
    (2, lambda g: [b"SELECT", g.pick([b"0", b"3", b"15", b"16", b"-1", b"x", b"1.5", b""])]),
    (2, lambda g: [b"CLIENT", g.case(b"SETNAME"), g.pick([b"", b"name", b"with space", b"new\nline", b"caf\xc3\xa9", b"a-b:c"])]),
    (2, lambda g: [b"CLIENT", b"GETNAME"]),
    (1, lambda g: [b"CLIENT", b"NO-EVICT", g.pick([b"on", b"off", b"x"])]),
    (1, lambda g: [b"CLIENT", b"UNBLOCK", g.pick([b"999999", b"x", b"0"]), *g.flag(b"TIMEOUT", b"ERROR", b"bogus")]),
    (1, lambda g: [b"CLIENT", b"REPLY", g.pick([b"on", b"x"])]),
    (3, getkeys),
    (2, unknown),
    (2, unknown_sub),
    (2, lambda g: [g.pick(NAMES)]),
    (1, lambda g: [b"HELLO", g.pick([b"1", b"4", b"x", b"", b"-1"])]),
    (1, lambda g: [b"HELLO", b"3", *g.pick([[b"bogus"], [b"SETNAME"], [b"AUTH", b"default"], [b"SETNAME", b"with space"]])]),
    (1, lambda g: [b"AUTH", *g.pick([[b"pw"], [b"default", b"pw"], [b"nouser", b"pw"], [b"a", b"b", b"c"]])]),
    (1, lambda g: [b"DBSIZE"]),
    (1, lambda g: [b"CONFIG", b"GET", g.pick([b"nosuch", b"maxmemory-policy", b"databases", b"maxmemory", b"nosuch*"])]),
    (1, lambda g: [b"CONFIG", b"SET", g.pick([b"nosuch", b"maxmemory-policy", b"maxmemory"]), g.pick([b"bogus", b"x"])]),
    (1, lambda g: [b"CONFIG", b"GET"]),
    (1, lambda g: [b"COMMAND", b"COUNT", b"x"]),
    (1, lambda g: [b"COMMAND", b"LIST", b"FILTERBY", g.pick([b"MODULE", b"bogus"]), b"x"]),
    (1, lambda g: [b"COMMAND", b"INFO", b"nosuch"]),
    (1, lambda g: [b"TIME", b"x"]),
    (1, lambda g: [b"FLUSHALL", b"bogus"]),
    (1, lambda g: [b"FLUSHDB", b"SYNC", b"ASYNC"]),
    (1, lambda g: [b"OBJECT", b"HELP", b"x"]),
    (1, lambda g: [b"RESET"]),
    (1, lambda g: [b"SET", g.key("strings"), g.value()]),
    (1, lambda g: [b"MEMORY", b"USAGE", b"none", *g.pick([[], [b"SAMPLES", b"5"], [b"SAMPLES", b"-1"], [b"bogus"]])]),
]
