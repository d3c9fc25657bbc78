"""When two replies to the same command count as the same.

Most must be equal to the byte. Some commands promise no order, some answer with the time that is left, and some with
what they like; each has its rule here, and the rule is as narrow as the promise.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.resp import Reply, is_error, items

Words = list[bytes]

TTL_SECONDS_APART = 3
"""How much later the second server may have got the command: machines under test are busy."""


def same_kind(left: Reply, right: Reply) -> bool:
    """The same type of reply, for what depends on the machine or on the version."""
    return left[0] == right[0] and (left[1:] == (None,)) == (right[1:] == (None,))


def same(left: Reply, right: Reply) -> bool:
    return left == right


def unordered(left: Reply, right: Reply) -> bool:
    """The same elements in any order; a map's pairs stay pairs."""
    if left[0] != right[0] or left[0] not in "*~%" or left[1] is None or right[1] is None:
        return left == right
    return sorted(left[1], key=repr) == sorted(right[1], key=repr)


def unordered_pairs(left: Reply, right: Reply) -> bool:
    """A flat array of pairs (RESP2's form of a map): the pairs in any order."""
    if left[0] == "%" or items(left) is None or items(right) is None:
        return unordered(left, right)
    return left[0] == right[0] and sorted(pairs(left[1]), key=repr) == sorted(pairs(right[1]), key=repr)


def pairs(flat: tuple) -> list[tuple]:
    return list(zip(flat[0::2], flat[1::2], strict=False)) + ([("odd", flat[-1])] if len(flat) % 2 else [])


def within(distance: int) -> Callable[[Reply, Reply], bool]:
    """Integers at most `distance` apart; the negative ones (-1: no expiry, -2: no key) must be equal."""

    def compare(left: Reply, right: Reply) -> bool:
        if left[0] != ":" or right[0] != ":" or left[1] < 0 or right[1] < 0:
            return left == right
        return abs(left[1] - right[1]) <= distance

    return compare


HELLO_VARIES = (b"version", b"id")


def hello(left: Reply, right: Reply) -> bool:
    """The handshake's map: version and connection id differ, the rest does not."""

    def fields(reply: Reply) -> list[tuple]:
        flat = reply[1] if reply[0] == "%" else tuple(pairs(reply[1] or ()))
        return [(name, value[0] if name[1] in HELLO_VARIES else value) for name, value in flat]

    return left[0] == right[0] and left[0] in "*%" and fields(left) == fields(right)


def geo(words: Words) -> Callable[[Reply, Reply], bool]:
    """Without ASC or DESC the order of places is free (COUNT implies an order)."""
    options = {word.upper() for word in words}
    return same if options & {b"ASC", b"DESC", b"COUNT"} else unordered


def same_length(left: Reply, right: Reply) -> bool:
    return left[0] == right[0] and len(items(left) or ()) == len(items(right) or ())


def sort(words: Words) -> Callable[[Reply, Reply], bool]:
    """BY a pattern without `*` means "do not sort", which leaves a set in any order. BY with ALPHA leaves elements of
    equal weight in any order (Redis does not break that tie), and LIMIT then cuts out any of them."""
    options = [word.upper() for word in words]
    if b"BY" not in options:
        return same
    at = options.index(b"BY")
    pattern = words[at + 1] if at + 1 < len(words) else b""
    free = b"ALPHA" in options if b"*" in pattern else not words[1].startswith((b"sl:", b"sz:"))
    if not free:
        return same
    return same_length if b"LIMIT" in options else unordered


CLOCKED = frozenset((b"idle", b"seen-time"))
"""Facts of XINFO that hang on the time."""
NEWER_OR_INNER = frozenset((b"inactive", b"active-time", b"entries-read", b"lag", b"radix-tree-nodes"))
"""Facts of XINFO that 7.2 or 7.4 added or tells otherwise, and the inside of Redis's radix tree."""
UNIX_MS = 1_000_000_000_000
"""Integers above it are times."""


def near(left: Reply, right: Reply) -> bool:
    return left[0] == right[0] == ":" and abs(left[1] - right[1]) <= TTL_SECONDS_APART * 1000


def xpending(left: Reply, right: Reply) -> bool:
    """Rows of id, consumer, idle time and count; or the short form, which has no times."""
    one, two = items(left), items(right)
    if one is None or two is None or not one or one[0][0] == ":":
        return left == right
    return len(one) == len(two) and all(
        x[:2] == y[:2] and x[3] == y[3] and near(x[2], y[2]) for x, y in ((items(a), items(b)) for a, b in zip(one, two, strict=True))
    )


def xinfo(left: Reply, right: Reply) -> bool:
    """The facts that both know: times nearly, everything else exactly."""
    if left == right or (left[0] == right[0] == ":" and min(left[1], right[1]) > UNIX_MS and near(left, right)):
        return True
    if left[0] not in "*%" or left[0] != right[0]:
        return False
    one, two = facts(left), facts(right)
    if one is not None and two is not None:
        if one.get(b"consumers", (None,))[0] == ":":  # A number of them.
            one, two = ({name: fact for name, fact in each.items() if name != b"consumers"} for each in (one, two))
        return one.keys() == two.keys() and all(near(one[name], two[name]) if name in CLOCKED else xinfo(one[name], two[name]) for name in one)
    one, two = ([each for each in items(side) or () if not is_idle(each)] for side in (left, right))
    return len(one) == len(two) and all(map(xinfo, one, two))


def is_idle(reply: Reply) -> bool:
    """A consumer that has nothing: XCLAIM and XAUTOCLAIM that find nothing create one since 7.2."""
    found = facts(reply) if reply[0] in "*%" and reply[1] else None
    return found is not None and b"last-delivered-id" not in found and (":", 0) in (found.get(b"pel-count"), found.get(b"pending"))


def facts(reply: Reply) -> dict[bytes, Reply] | None:
    """A map of XINFO without what the versions tell differently; None for what is none."""
    flat = list(reply[1]) if reply[0] == "%" else pairs(reply[1] or ())
    if not flat or any(len(pair) != 2 or pair[0] not in (("$", b"name"), ("$", b"length")) for pair in flat[:1]):
        return None
    return {name[1]: value for name, value in flat if name[1] not in NEWER_OR_INNER}


UNORDERED = frozenset(b"SMEMBERS SINTER SUNION SDIFF KEYS HKEYS HVALS".split())
SECONDS_LEFT = frozenset(b"TTL EXPIRETIME".split())
MILLIS_LEFT = frozenset(b"PTTL PEXPIRETIME".split())


def rule(words: Words) -> Callable[[Reply, Reply], bool]:
    """The rule for one command."""
    name = words[0].upper()
    if name in UNORDERED:
        return unordered
    if name == b"HGETALL":
        return unordered_pairs
    if name in SECONDS_LEFT:
        return within(TTL_SECONDS_APART)
    if name in MILLIS_LEFT:
        return within(TTL_SECONDS_APART * 1000)
    if name.startswith(b"GEORADIUS") or name == b"GEOSEARCH":
        return geo(words)
    if name in (b"SORT", b"SORT_RO"):
        return sort(words)
    if len(words) == 2 and words[1].upper() == b"HELP":
        return same_kind  # skep explains itself in its own words.
    if name in (b"TIME", b"DUMP") or (name == b"MEMORY" and words[1].upper() == b"USAGE") or (name == b"COMMAND" and len(words) <= 2) or (name == b"CONFIG" and words[-1] == b"*"):
        return same_kind
    if name == b"XPENDING":
        return xpending
    if name == b"XINFO":
        return xinfo
    if name == b"HELLO":
        return hello
    if name == b"OBJECT" and len(words) > 1 and words[1].upper() in (b"IDLETIME", b"FREQ"):
        return within(TTL_SECONDS_APART)
    return same


def equal(words: Words, left: Reply, right: Reply) -> bool:
    if is_error(left) or is_error(right):
        return left == right
    return rule(words)(left, right)
