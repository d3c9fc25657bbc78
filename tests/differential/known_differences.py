"""Where skep answers as Redis 7.4 does and redis-server 7.0.15 does not.

Each entry matches as narrowly as it can and says why. What no entry matches is a failure of the test.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.resp import Reply, is_error, text

from .comparing import Words, facts


@dataclass(frozen=True)
class Known:
    """One expected difference."""

    reason: str
    matches: Callable[[Words, Reply, Reply], bool]
    groups: tuple[str, ...] = ()
    """Only in streams of these groups; in all if there are none."""


def shortest(value: float) -> bytes:
    """A double as Redis 7.2 and later print it: whole numbers as integers, others with the fewest digits.

    Source: Redis 7.4 util.c d2string and deps/fpconv, read for the rule only.
    """
    if math.isinf(value):
        return b"inf" if value > 0 else b"-inf"
    if math.isnan(value):
        return b"nan"
    if value == 0:
        return b"-0" if math.copysign(1, value) < 0 else b"0"
    if value == int(value) and abs(value) <= 2**62:
        return b"%d" % int(value)
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or 0) - len(fraction)
    trimmed = digits.rstrip("0")
    power += len(digits) - len(trimmed)
    return (b"-" if value < 0 else b"") + _layout(trimmed, power).encode()


def _layout(digits: str, power: int) -> str:
    """Digits times ten to the power, laid out as fpconv does."""
    exponent = abs(power + len(digits) - 1)
    if power >= 0 and exponent < len(digits) + 7:
        return digits + "0" * power
    if power < 0 and (power > -7 or exponent < 4):
        point = len(digits) + power
        return f"0.{'0' * -point}{digits}" if point <= 0 else f"{digits[:point]}.{digits[point:]}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{tail}e{'-' if power + len(digits) - 1 < 0 else '+'}{exponent}"


def _number(reply: Reply) -> float | None:
    word = text(reply)
    if word is None or not re.fullmatch(rb"-?(\d+(\.\d+)?(e[+-]?\d+)?|inf|nan)", word):
        return None
    return float(word)


def only_doubles_reprinted(left: Reply, right: Reply) -> bool:
    """The replies are equal but for doubles, which are the same number, on the right in the shortest form."""
    if left == right:
        return True
    if left[0] != right[0]:
        return False
    if left[0] in "*~":
        return left[1] is not None and right[1] is not None and len(left[1]) == len(right[1]) and all(map(only_doubles_reprinted, left[1], right[1]))
    if left[0] == "%":
        return len(left[1]) == len(right[1]) and all(
            one[0] == two[0] and only_doubles_reprinted(one[1], two[1]) for one, two in zip(left[1], right[1], strict=True)
        )
    one, two = _number(left), _number(right)
    return one is not None and one == two and text(right) == shortest(two)


SCORED = frozenset(
    b"ZSCORE ZMSCORE ZINCRBY ZADD ZRANGE ZREVRANGE ZRANGEBYSCORE ZREVRANGEBYSCORE ZUNION ZINTER ZDIFF ZPOPMIN ZPOPMAX ZMPOP ZSCAN".split()
)


def scores(words: Words, left: Reply, right: Reply) -> bool:
    return words[0].upper() in SCORED and only_doubles_reprinted(left, right)


def encoding(words: Words, left: Reply, right: Reply) -> bool:
    if words[0].upper() != b"OBJECT" or len(words) < 2 or words[1].upper() != b"ENCODING":
        return False
    return (text(left), text(right)) in ((b"quicklist", b"listpack"), (b"hashtable", b"listpack"))


def rank_with_score(words: Words, left: Reply, right: Reply) -> bool:
    """`ZRANK key member WITHSCORE` exists since 7.2, so a fourth argument is no longer an arity error."""
    if words[0].upper() not in (b"ZRANK", b"ZREVRANK") or len(words) != 4:
        return False
    return left[0] == "-" and b"wrong number of arguments" in left[1] and right == ("-", b"ERR syntax error")


def bits_of_nothing(words: Words, left: Reply, right: Reply) -> bool:
    """7.2 and later look at the arguments of BITCOUNT and BITPOS before they look at the key."""
    if words[0].upper() not in (b"BITCOUNT", b"BITPOS"):
        return False
    key_first = left in ((":", 0), (":", -1)) or (is_error(left) and left[1].startswith(b"WRONGTYPE"))
    return key_first and is_error(right) and not right[1].startswith(b"WRONGTYPE")


HLL_CACHE = slice(8, 16)
"""Where a HyperLogLog keeps its last count."""


def count_not_cached(words: Words, left: Reply, right: Reply) -> bool:
    """PFCOUNT writes its result into the value in Redis. Here it is a read, which no log entry is spent on."""
    one, two = text(left), text(right)
    if one is None or two is None or not (one.startswith(b"HYLL") and two.startswith(b"HYLL")):
        return False
    blank = bytes(8)
    return one[: HLL_CACHE.start] + blank + one[HLL_CACHE.stop :] == two[: HLL_CACHE.start] + blank + two[HLL_CACHE.stop :]


def cursor(words: Words, left: Reply, right: Reply) -> bool:
    """7.4 reads cursors strictly; 7.0 takes what strtoul takes, a sign or nothing at all included."""
    if words[0].upper() not in (b"SCAN", b"SSCAN", b"HSCAN", b"ZSCAN"):
        return False
    given = words[1 if words[0].upper() == b"SCAN" else 2]
    return not given.isdigit() and right == ("-", b"ERR invalid cursor")


def encoding_of_the_past(words: Words, left: Reply, right: Reply) -> bool:
    """Redis never goes back to a smaller encoding when what asked for the larger one is gone; skep has no past."""
    if words[0].upper() != b"OBJECT" or len(words) < 2 or words[1].upper() != b"ENCODING":
        return False
    return (text(left), text(right)) in ((b"hashtable", b"intset"), (b"listpack", b"intset"))


def string_encoding(words: Words, left: Reply, right: Reply) -> bool:
    """Redis remembers how a string came to be (changed in place: `raw`); skep tells the encoding by the content."""
    if words[0].upper() != b"OBJECT" or len(words) < 2 or words[1].upper() != b"ENCODING":
        return False
    return (text(left), text(right)) in ((b"raw", b"embstr"), (b"raw", b"int"), (b"embstr", b"int"))


def smallest_count(words: Words, left: Reply, right: Reply) -> bool:
    """7.4 refuses the one integer that has no opposite."""
    smallest = b"-9223372036854775808" in words[2:]
    return smallest and words[0].upper() in (b"LREM", b"LPOS") and right[0] == "-" and b"must between" in right[1]


def shared_integer(words: Words, left: Reply, right: Reply) -> bool:
    """Redis shares small integers, but not those that it copied or computed in place."""
    if words[0].upper() != b"OBJECT" or len(words) < 2 or words[1].upper() != b"REFCOUNT":
        return False
    return (left, right) == ((":", 1), (":", 2147483647))


def text_behind_a_zero_byte(words: Words, left: Reply, right: Reply) -> bool:
    """Redis repeats an argument in an error up to its first zero byte, as C does."""
    if not any(b"\x00" in word for word in words) or not is_error(left) or not is_error(right):
        return False
    return left[1][:16] == right[1][:16] and b"\x00" not in left[1]


def bound_with_zero_byte(words: Words, left: Reply, right: Reply) -> bool:
    """Redis reads a bound of scores up to its first zero byte; skep refuses what is no number."""
    return (
        words[0].upper().startswith(b"Z")
        and any(b"\x00" in word for word in words[2:])
        and not is_error(left)
        and is_error(right)
        and b"min or max is not a float" in right[1]
    )


def keys_not_swept_yet(words: Words, left: Reply, right: Reply) -> bool:
    """Keys past their deadline count until they are removed: by Redis when they are looked at, by skep in its sweeps."""
    return words[0].upper() == b"DBSIZE" and left[0] == right[0] == ":" and 0 < abs(right[1] - left[1]) <= 3


def text_is_utf8(words: Words, left: Reply, right: Reply) -> bool:
    """Errors repeat what the caller sent. skep's errors are text: bytes that are none are shown as U+FFFD."""
    if not (is_error(left) and is_error(right) and left[1].startswith(b"ERR unknown")):
        return False
    return left[1].decode(errors="replace") == right[1].decode(errors="replace")


def two_stores(words: Words, left: Reply, right: Reply) -> bool:
    """Redis looks for keys with less care than it parses: `STORE STORE dst`, which SORT refuses, has a last STORE there."""
    upper = [word.upper() for word in words]
    return upper[:3] == [b"COMMAND", b"GETKEYS", b"SORT"] and upper.count(b"STORE") > 1


def unbalanced(words: Words, left: Reply, right: Reply) -> bool:
    """7.2 names the command in the error, and what XREADGROUP takes for an id."""
    return words[0].upper().startswith(b"XREAD") and left[0] == right[0] == "-" and b"Unbalanced" in left[1] and b"Unbalanced" in right[1]


def last_entry(words: Words, left: Reply, right: Reply) -> bool:
    """`XREAD STREAMS key +` exists since 7.4; XREADGROUP explains why it takes no `+`."""
    return words[0].upper().startswith(b"XREAD") and b"+" in words and left == ("-", b"ERR Invalid stream ID specified as stream command argument")


def created_by_a_claim(words: Words, left: Reply, right: Reply) -> bool:
    """XCLAIM and XAUTOCLAIM that find nothing create their consumer since 7.2."""
    return [word.upper() for word in words[:2]] == [b"XGROUP", b"CREATECONSUMER"] and (left, right) == ((":", 1), (":", 0))


def empty_block(words: Words, left: Reply, right: Reply) -> bool:
    """Redis keeps a block of which MINID removed all that was left if the last of it had been deleted before; skep does not."""
    if [word.upper() for word in words[:2]] != [b"XINFO", b"STREAM"] or is_error(left) or is_error(right):
        return False
    (one, blocks), (two, fewer) = (_without_blocks(side) for side in (left, right))
    return one == two and blocks > fewer


def _without_blocks(reply: Reply) -> tuple[dict, int]:
    known = facts(reply) or {}
    return {name: value for name, value in known.items() if name != b"radix-tree-keys"}, known.get(b"radix-tree-keys", (":", 0))[1]


def nearly_equal(left: Reply, right: Reply) -> bool:
    if left[0] == right[0] and left[0] in "*~" and left[1] is not None and right[1] is not None:
        return len(left[1]) == len(right[1]) and all(map(nearly_equal, left[1], right[1]))
    one, two = _number(left), _number(right)
    return left == right or (one is not None and two is not None and math.isclose(one, two, rel_tol=1e-14))


def sines(words: Words, left: Reply, right: Reply) -> bool:
    """Distances that STOREDIST stored: skep's sines are the same on every machine, Redis's are those of its C library."""
    return words[0].upper() == b"ZRANGE" and words[-1].upper() == b"WITHSCORES" and nearly_equal(left, right)


KNOWN = (
    Known("7.2 words the error of unbalanced streams anew", unbalanced),
    Known("7.4 gave XREAD the id +", last_entry),
    Known("7.2 creates the consumer of a claim that finds nothing", created_by_a_claim),
    Known("Redis may keep a block without entries", empty_block),
    Known("stored distances differ in their last digits", sines, ("geo", "mixed")),
    Known("the keys of a SORT that is refused anyway", two_stores),
    Known("errors are UTF-8", text_is_utf8),
    Known("Redis's error texts end at a zero byte", text_behind_a_zero_byte),
    Known("Redis's bounds of scores end at a zero byte", bound_with_zero_byte),
    Known("DBSIZE counts keys past their deadline until they are swept", keys_not_swept_yet),
    Known("skep reports every small integer as shared, Redis by its history", shared_integer),
    Known("7.4 refuses cursors that are not plain numbers", cursor),
    Known("skep names the encoding that fits the content of the moment", encoding_of_the_past),
    Known("7.2 prints doubles with the fewest digits, 7.0 with 17", scores),
    Known("7.2 keeps small lists and small sets of strings as listpacks", encoding),
    Known("skep tells a string's encoding by its content, Redis also by its history", string_encoding),
    Known("7.4 refuses -9223372036854775808 as count of LREM and rank of LPOS", smallest_count),
    Known("7.2 gave ZRANK and ZREVRANK the option WITHSCORE", rank_with_score),
    Known("PFCOUNT does not write the count into the value", count_not_cached),
    Known("7.2 checks BITCOUNT's and BITPOS's arguments before it looks for the key", bits_of_nothing),
)


def excuse(words: Words, left: Reply, right: Reply, group: str = "") -> str | None:
    """The reason why this difference is meant in a stream of this group, or None."""
    here = (known for known in KNOWN if not known.groups or group in known.groups)
    return next((known.reason for known in here if known.matches(words, left, right)), None)


def nothing(words: Words, left: Reply, right: Reply, group: str = "") -> str | None:
    """For two servers of one version: no difference is meant."""
    return None
