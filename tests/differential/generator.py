"""Where random commands come from: a seeded generator with the values at which servers go wrong.

A stream is made before it is run and does not depend on replies, so it can be repeated from its seed and shrunk by
leaving commands out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Words = list[bytes]

I64_MAX = 9223372036854775807
I64_MIN = -9223372036854775808

INTEGERS = [0, 1, -1, 2, 3, 5, 10, -10, 100, 12345, I64_MAX, I64_MAX - 1, I64_MIN, I64_MIN + 1]
NEAR_INTEGERS = [
    b"9223372036854775808", b"-9223372036854775809", b"18446744073709551615", b"01", b"+1", b" 1", b"1 ", b"",
    b"-", b"-0", b"1.0", b"1e3", b"0x10", b"ten", b"1\x00", b"\xff\xfe", b"99999999999999999999999",
]  # fmt: skip
FLOATS = [
    b"0", b"1", b"-1", b"1.5", b"-2.25", b"3.0e3", b"0.1", b"0.3", b"1e-5", b"123456.789", b"1e15", b"1e17", b"-0",
    b"3.14159265358979", b"100", b"17179869184", b"0.5", b"1e300", b"5e-324", b"1.7976931348623157e308",
]  # fmt: skip
ODD_FLOATS = [
    b"inf", b"-inf", b"+inf", b"nan", b"-nan", b"Infinity", b"1e400", b"1e-400", b"", b" 1.5", b"1.5 ", b"1,5", b"abc",
    b"0x1p3", b"1.5\x00", b"(1", b"1e", b".5", b"5.", b"+3", b"--1",
]  # fmt: skip
STRINGS = [
    b"", b"a", b"b", b"c", b"foo", b"bar", b"hello world", b"Hello", b"\x00", b"\xff\xfe\x00\x01", b"a\r\nb",
    b"-OK", b"+", b"x" * 44, b"x" * 45, b"y" * 64, b"z" * 65, b"w" * 300, "größe".encode(), b"[a-z]*", b"1", b"12",
    b"-7", b"3.0", b"10", b"nil", b"*", b"?",
]  # fmt: skip
MEMBERS = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"1", b"2", b"3", b"-5", b"", b"\xff", b"long" * 20]
WEIRD = [
    b"", b"0", b"-1", b"1", b"foo", b"nan", b"inf", b"-inf", b"(1", b"[a", b"+", b"-", b"1.5", b"\x00",
    b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"NX", b"XX", b"GET", b"LIMIT", b"COUNT",
    b"EX", b"WITHSCORES", b"MATCH", b"4294967296", b"KEEPTTL", b"LEFT", b"*",
]  # fmt: skip
PATTERNS = [
    b"*", b"?", b"a*", b"*a", b"[a-c]", b"[^a]", b"h?llo", b"\\*", b"", b"*:*", b"[", b"[a", b"[]", b"k*", b"s:?", b"**",
    b"[b-a]", b"\\", b"z*", b"[^", b"[a-", b"*1", b"h[ae]llo", b"[\\]]",
]  # fmt: skip

KEYS_PER_TYPE = 3
TYPES = "strings", "lists", "sets", "zsets", "hashes", "streams"
PREFIX = {"strings": b"s:", "lists": b"l:", "sets": b"t:", "zsets": b"z:", "hashes": b"h:", "streams": b"x:"}
FAR = 4102444800
"""2100-01-01 in seconds: a deadline that no test run reaches, so TTL commands cannot race with the clock."""


class Gen:
    """Random words. Every choice goes through `rng`, so the seed decides everything."""

    def __init__(self, seed: int | str) -> None:
        self.rng = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def pick(self, options: Sequence):  # noqa: ANN201 - the element type is the caller's
        return self.rng.choice(options)

    def case(self, word: bytes) -> bytes:
        """Options are read without regard to case."""
        return self.pick([word, word, word.lower(), word.title()])

    def key(self, kind: str) -> bytes:
        """Mostly a key of the type, now and then one of another type or one that is never set."""
        roll = self.rng.random()
        if roll < 0.90:
            return PREFIX[kind] + b"%d" % self.rng.randrange(KEYS_PER_TYPE)
        if roll < 0.97:
            return PREFIX[self.pick(TYPES)] + b"%d" % self.rng.randrange(KEYS_PER_TYPE)
        return self.pick([b"none", b"", b"\x00bin\xff", b"none2"])

    def fixed_key(self, prefix: bytes) -> bytes:
        """A key that only ever holds one type, or none at all: for replies that are defined for that type alone."""
        return prefix + b"%d" % self.rng.randrange(KEYS_PER_TYPE) if self.chance(0.97) else b"none"

    def any_key(self) -> bytes:
        return self.key(self.pick(TYPES))

    def keys(self, kind: str, most: int = 4) -> Words:
        return [self.key(kind) for _ in range(self.rng.randint(1, most))]

    def value(self) -> bytes:
        roll = self.rng.random()
        if roll < 0.5:
            return self.pick(STRINGS)
        if roll < 0.75:
            return self.integer()
        if roll < 0.85:
            return self.pick(FLOATS)
        return b"v%d" % self.rng.randrange(1000)

    def member(self) -> bytes:
        return self.pick(MEMBERS) if self.chance(0.9) else b"m%d" % self.rng.randrange(40)

    def members(self, most: int = 5) -> Words:
        return [self.member() for _ in range(self.rng.randint(1, most))]

    def integer(self, odd: float = 0.1) -> bytes:
        if self.chance(odd):
            return self.pick(NEAR_INTEGERS)
        if self.chance(0.5):
            return b"%d" % self.rng.randint(-20, 20)
        return b"%d" % self.pick(INTEGERS)

    def small(self, low: int = 0, high: int = 10, odd: float = 0.06) -> bytes:
        """A number for counts and sizes: small, so that it cannot ask for gigabytes."""
        if self.chance(odd):
            return self.pick([b"-1", b"0", b"x", b"", b"1.5", b"9223372036854775808", b"-9223372036854775808"])
        return b"%d" % self.rng.randint(low, high)

    def index(self) -> bytes:
        if self.chance(0.08):
            return self.integer(odd=0.4)
        return b"%d" % self.rng.randint(-8, 8)

    def float(self, odd: float = 0.12) -> bytes:
        if self.chance(odd):
            return self.pick(ODD_FLOATS)
        roll = self.rng.random()
        if roll < 0.4:
            return self.pick(FLOATS)
        if roll < 0.7:
            return b"%d" % self.rng.randint(-10, 10)
        return repr(self.rng.uniform(-100, 100)).encode()

    def pattern(self) -> bytes:
        return self.pick(PATTERNS)

    def flag(self, *options: bytes, probability: float = 0.3) -> Words:
        """Perhaps one of the options."""
        return [self.case(self.pick(options))] if self.chance(probability) else []

    def shuffled(self, *parts: Words) -> Words:
        """The parts in random order: options may stand in any."""
        order = [part for part in parts if part]
        self.rng.shuffle(order)
        return [word for part in order for word in part]

    def seconds_ahead(self) -> bytes:
        """A relative expiry: far enough not to fire, and with so many values that two are never equal by accident."""
        return b"%d" % self.rng.randint(10_000, 10_000_000)

    def bad_expiry(self) -> bytes:
        return self.pick([b"0", b"-1", b"-100", b"x", b"", b"1.5", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775", b"9223372036854775808", b" 1"])

    def deadline(self) -> bytes:
        """An absolute expiry in seconds: far, or long past."""
        return b"%d" % (FAR + self.rng.randrange(5)) if self.chance(0.85) else self.pick([b"1", b"1000000000"])

    def mutate(self, words: Words) -> Words:
        """Breaks a command in one place: what parsers meet when a caller is wrong."""
        words = list(words)
        spot = self.rng.randrange(1, len(words)) if len(words) > 1 else None
        roll = self.rng.random()
        if spot is None or roll < 0.2:
            words.append(self.pick(WEIRD))
        elif roll < 0.45:
            del words[spot]
        elif roll < 0.6:
            words.insert(spot, words[spot])
        elif roll < 0.9:
            words[spot] = self.pick(WEIRD)
        else:
            other = self.rng.randrange(1, len(words))
            words[spot], words[other] = words[other], words[spot]
        return words


NAMES = b"n:"
"""Sorted sets whose scores are all 0: ranges by name mean nothing on others."""
UNBROKEN = [
    *([b"ZADD", NAMES + b"%d" % number] for number in range(KEYS_PER_TYPE)),
    *([b"XSETID", PREFIX["streams"] + b"%d" % number] for number in range(KEYS_PER_TYPE)),
]
"""Commands that are never broken: a score other than 0 would make ranges by name undefined, and 7.4 refuses ids that 7.0 sets."""

LOWEST = (b"%d" % I64_MIN, b"%d" % (I64_MIN + 1))


def agreed(words: Words) -> Words:
    """The command without the numbers that leave different values behind, after which nothing could be compared.

    LREM takes the smallest integer in 7.0 and refuses it in 7.4. BITFIELD's SET with OVERFLOW SAT takes numbers far below
    the field's range for numbers above it, in Redis, since a difference overflows; skep sets the smallest. An id `*` is the
    time of the server.
    """
    if words[0] == b"LREM":
        return [LOWEST[1] if word == LOWEST[0] else word for word in words]
    if words[0] == b"XADD":
        return [b"5-*" if word == b"*" else word for word in words]
    if words[0] == b"BITFIELD":
        return [b"-4611686018427387904" if word in LOWEST else word for word in words]
    return words


EXPIRY_OPTIONS = frozenset((b"EX", b"PX"))
EXPIRY_COMMANDS = frozenset((b"EXPIRE", b"PEXPIRE", b"SETEX", b"PSETEX"))


def short_lived(words: Words) -> bool:
    """Whether the command sets an expiry that could fire on one server before the other is asked."""
    spots = [at + 1 for at, word in enumerate(words) if word.upper() in EXPIRY_OPTIONS]
    if words[0].upper() in EXPIRY_COMMANDS:
        spots.append(2)
    return any(at < len(words) and words[at].isdigit() and 0 < int(words[at]) < 10_000 for at in spots)


Maker = Callable[[Gen], Words]
"""Makes one command."""


def stream(group: Sequence[tuple[float, Maker]], seed: int | str, length: int, broken: float = 0.06) -> list[Words]:
    """`length` commands drawn from weighted makers; `broken` is the share that is then mutated."""
    gen = Gen(seed)
    weights = [weight for weight, _ in group]
    makers = [maker for _, maker in group]
    commands = []
    for maker in gen.rng.choices(makers, weights, k=length):
        words = maker(gen)
        if gen.chance(broken) and not words[0].startswith(b"@") and words[:1] + words[1:2] not in UNBROKEN:
            changed = gen.mutate(words)
            words = words if short_lived(changed) else changed
        commands.append(agreed(words))
    return commands
