"""Commands whose replies are random: checked against what the value holds, then made equal on both sides."""

from __future__ import annotations

from collections import Counter

from harness.resp import Connection, Reply, is_error, items

from .comparing import Words, pairs

RANDOM_READS = frozenset(b"SRANDMEMBER HRANDFIELD ZRANDMEMBER RANDOMKEY".split())
CONTENT = {b"SRANDMEMBER": (b"SMEMBERS",), b"HRANDFIELD": (b"HKEYS",), b"ZRANDMEMBER": (b"ZRANGE", b"0", b"-1")}


def is_random(words: Words) -> bool:
    name = words[0].upper()
    return name in RANDOM_READS or name == b"SPOP"


def run(words: Words, left: Connection, right: Connection) -> tuple[Reply, Reply, str | None]:
    """Runs a random command on both. Returns the replies and what is wrong with them, if anything is."""
    name = words[0].upper()
    if name == b"SPOP":
        return _spop(words, left, right)
    one, two = left.call(*words), right.call(*words)
    if is_error(one) or is_error(two):
        return one, two, None if one == two else "one is an error"
    if name == b"RANDOMKEY":
        known = {item for item in items(right.call("KEYS", "*")) or ()}
        if one[0] != two[0] or (one[1:] == (None,)) != (two[1:] == (None,)):
            return one, two, "one found a key"
        return one, two, None if two[1:] == (None,) or two == ("_",) or two in known else "no such key"
    return one, two, _shape(one, two) or _drawn(words, two, right)


def _shape(one: Reply, two: Reply) -> str | None:
    """Both draw the same number of elements, in the same form."""
    first, second = items(one), items(two)
    if first is None or second is None:
        null = (one == ("$", None) or one == ("_",)) != (two == ("$", None) or two == ("_",))
        return "one drew nothing" if null or one[0] != two[0] else None
    if one[0] != two[0] or len(first) != len(second):
        return "other number of elements"
    return "other form" if [each[0] for each in first] != [each[0] for each in second] else None


def _drawn(words: Words, reply: Reply, server: Connection) -> str | None:
    """What was drawn is in the value; with a positive count each element at most once."""
    how = CONTENT[words[0].upper()]
    held = set(items(server.call(how[0], words[1], *how[1:])) or ())
    drawn = items(reply)
    if drawn is None:
        return None if reply in held or reply in (("$", None), ("_",)) else "not an element"
    if len(words) > 3:
        flat = drawn and drawn[0][0] != "*"
        drawn = tuple(first for first, _ in pairs(drawn)) if flat else tuple(each[1][0] for each in drawn)
    if any(each not in held for each in drawn):
        return "not an element"
    twice = int(words[2]) >= 0 and max(Counter(drawn).values(), default=0) > 1 if len(words) > 2 else False
    return "drawn twice" if twice else None


def _spop(words: Words, left: Connection, right: Connection) -> tuple[Reply, Reply, str | None]:
    key = words[1] if len(words) > 1 else b""
    before = set(items(right.call("SMEMBERS", key)) or ())
    one, two = left.call(*words), right.call(*words)
    wrong = None
    if is_error(one) or is_error(two):
        return one, two, None if one == two else "one is an error"
    wrong = _shape(one, two)
    popped_left = items(one) if items(one) is not None else ([one] if one[0] == "$" and one[1] is not None else [])
    popped_right = items(two) if items(two) is not None else ([two] if two[0] == "$" and two[1] is not None else [])
    assert popped_left is not None and popped_right is not None
    if any(("$", each[1]) not in before for each in popped_right):
        wrong = "popped what was not there"
    if len(set(popped_right)) != len(popped_right):
        wrong = "popped twice"
    back = [each[1] for each in popped_right if each not in set(popped_left)]
    away = [each[1] for each in popped_left if each not in set(popped_right)]
    if back:
        right.call("SADD", key, *back)
    if away:
        right.call("SREM", key, *away)
    return one, two, wrong
