"""What COMMAND tells about each command: COMMAND, INFO, DOCS, LIST, GETKEYS and GETKEYSANDFLAGS, in both protocols.

Facts (arity, flags, categories, key positions, tips, the words of the syntax) must be Redis's, since clients route and check
by them; texts are our own and only have to be there. What Redis 7.2 and 7.4 changed is listed with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.resp import Connection, Reply, items, text
from harness.server import Redis, Skep

from .comparing import pairs

NEWER_COMMANDS = set(
    "client|no-touch client|setinfo cluster|myshardid hexpire hpexpire hexpireat hpexpireat httl hpttl hexpiretime hpexpiretime hpersist waitaof script|show".split()
)
"""Redis has them since 7.2 and 7.4; SCRIPT SHOW is of Valkey 8.0."""

OWN_COMMANDS = {
    "once", "skep", "skep|gateway", "skep|help", "skep|node",
    "qack", "qadd", "qbeat", "qcron", "qdrop", "qfail", "qget", "qinfo", "qlist", "qredo", "qset", "qtake",
}  # fmt: skip
"""Redis has no such commands."""

NEWER_FACTS = {
    ("zrank", "arity"): "7.2 added WITHSCORE",
    ("zrank", "words"): "7.2 added WITHSCORE",
    ("zrevrank", "arity"): "7.2 added WITHSCORE",
    ("zrevrank", "words"): "7.2 added WITHSCORE",
    ("hscan", "words"): "7.4 added NOVALUES",
    ("client|kill", "words"): "7.4 added MAXAGE",
    ("migrate", "keys"): "KEYS is not looked for: it is refused anyway",
    ("migrate", "flags"): "KEYS is not looked for: it is refused anyway",
    ("migrate", "words"): "the empty key is not among the words",
    ("bitop", "words"): "Redis names no operations before 7.2",
    ("wait", "flags"): "7.2 added blocking",
    ("wait", "categories"): "7.2 added blocking",
}

ON_PURPOSE = {
    "pfmerge d": "valid, and its key is d: Redis fails over the empty list of sources",
    "xread streams a b 0": "refused anyway: Redis counts half of three words as one key",
    "xread nope streams a 0": "refused anyway: Redis finds STREAMS behind what is no option",
}

CALLS = [
    "get a", "get", "ping", "nope", "nope a", "config get x", "config foo x", "config", "mset a 1 b 2", "mset a 1 b",
    "set a b", "set a b get", "set a b ex 100 get", "set a b ex get", "bitfield a", "bitfield a get u8 0",
    "bitfield a set u8 0 1", "bitfield a get u8 0 get u8 8", "bitfield a get u8 0 incrby u8 0 1",
    "bitfield a overflow sat incrby u8 0 1", "bitfield_ro a get u8 0", "sort a", "sort a store b",
    "sort a by x store get b get store store c", "sort a limit 0 store get # store d", "sort_ro a get b store c",
    "georadius a 1 2 3 km", "georadius a 1 2 3 km store b storedist c", "georadius a 1 2 3 km count 1 storedist c",
    "georadiusbymember a m 3 km store b", "georadius_ro a 1 2 3 km", "geosearchstore a b frommember m byradius 1 m",
    "zunionstore d 2 a", "zunionstore d x a", "zunionstore d 0 a", "zunionstore d 1 a b", "zunionstore d 2 a b weights 1 2",
    "zinter 2 a b", "zinter 9223372036854775807 a b", "zdiff -1 a", "lmpop -1 a left", "lmpop 2 a b left",
    "sintercard 2 a b limit 1", "bitop and d a b c", "pfcount a b c", "pfmerge d a b", "pfmerge d", "lmove a b left right",
    "object encoding x", "memory usage x samples 5", "copy a b", "rename a b", "smove a b m", "zrangestore a b 0 1",
    "del a b c", "touch a", "migrate", "xread", "lcs a b len", "restore k 0 x", "object help", "dbsize", "client kill a",
    "xread streams a b 0 0", "xread count 1 block 5 streams streams a 0 streams", "xread streams a", "xread streams a b 0",
    "xread count 1 streams", "xread nope streams a 0", "xreadgroup group g c noack streams a >", "xgroup create k g 0", "xinfo stream k full",
    "getex a", "getdel a", "substr a 0 1", "sdiffstore a b c", "move a 1", "swapdb 0 1",
]  # fmt: skip

QUESTIONS = [
    *(f"COMMAND INFO {names}" for names in ("get", "nope", "mset config|get get|x", "zinter", "lcs", "geosearch")),
    "COMMAND LIST FILTERBY MODULE x", "COMMAND LIST FILTERBY ACLCAT nope", "COMMAND LIST FOO", "COMMAND LIST FILTERBY FOO x",
    "COMMAND LIST FILTERBY ACLCAT", "COMMAND FOO", "COMMAND DOCS nope", "COMMAND LIST FILTERBY PATTERN CONFIG|G*",
    "COMMAND COUNT x", "COMMAND LIST FILTERBY PATTERN G?T", "COMMAND LIST FILTERBY PATTERN nope*",
]  # fmt: skip

FACTS = ("name", "arity", "flags", "first", "last", "step", "categories", "tips", "keys", "subcommands")
UNORDERED_FACTS = ("flags", "categories", "tips")


@pytest.fixture
def both(redis_server: Redis, quick_skep: Skep) -> Iterator[tuple[Connection, Connection]]:
    with redis_server.connect() as left, quick_skep.connect() as right:
        yield left, right


def names(reply: Reply) -> set[str]:
    return {text(each).decode() for each in items(reply)}


def table(entries: Reply) -> dict[str, dict[str, object]]:
    """Every command of a reply to COMMAND, subcommands included, with its facts."""
    found: dict[str, dict[str, object]] = {}
    for entry in items(entries):
        facts: dict[str, object] = dict(zip(FACTS, items(entry), strict=True))
        subcommands = facts["subcommands"]
        facts["subcommands"] = len(items(subcommands) or ()) > 0
        for fact in UNORDERED_FACTS:
            facts[fact] = sorted(items(facts[fact]) or (), key=repr)
        facts["keys"] = [without_notes(key) for key in items(facts["keys"]) or ()]
        found[text(facts.pop("name")).decode()] = facts
        found.update(table(subcommands))
    return found


def without_notes(key: Reply) -> list[tuple]:
    """A key specification with a note only where there is one: its text is our own."""
    fields = list(key[1]) if key[0] == "%" else pairs(key[1])
    return [(name, "a note") if text(name) == b"notes" else (name, value) for name, value in fields]


def test_the_facts_about_each_command_are_those_of_redis(both: tuple[Connection, Connection]) -> None:
    theirs, ours = (table(side.call("COMMAND")) for side in both)
    unknown = set(ours) - set(theirs)
    assert unknown <= NEWER_COMMANDS | OWN_COMMANDS, "Redis has no such commands"
    different = [
        f"{name} {fact}: ours {value}, Redis {theirs[name][fact]}"
        for name, facts in ours.items()
        if name in theirs
        for fact, value in facts.items()
        if value != theirs[name][fact] and (name, fact) not in NEWER_FACTS
    ]
    assert not different, "\n".join(different)


def test_list_and_count_tell_of_the_same_commands(both: tuple[Connection, Connection]) -> None:
    for side in both:
        entries = side.call("COMMAND")
        assert side.call("COMMAND", "COUNT") == (":", len(items(entries)))
        assert names(side.call("COMMAND", "LIST")) == set(table(entries))


def words_of(arguments: Reply | None) -> set[bytes]:
    """The words that are typed as they stand, from an arguments tree of COMMAND DOCS."""
    found = set()
    for argument in items(arguments or ("*", ())):
        fields = {text(name): value for name, value in argument[1]}
        found |= {text(fields[b"token"])} if b"token" in fields else set()
        found |= words_of(fields.get(b"arguments"))
    return found


def test_the_documentation_has_the_words_of_redis(both: tuple[Connection, Connection]) -> None:
    """Since, group, deprecation and the words of the syntax are facts; summary and complexity must be there."""
    for side in both:
        side.call("HELLO", "3")
    left, right = both
    known = sorted(names(left.call("COMMAND", "LIST")) & names(right.call("COMMAND", "LIST")))
    assert len(known) > 200
    wrong = []
    for name in known:
        one, two = ({text(key): value for key, value in side.call("COMMAND", "DOCS", name)[1][0][1][1]} for side in both)
        wrong += [f"{name} {fact}: {two.get(fact)}, Redis {one.get(fact)}" for fact in (b"since", b"group", b"deprecated_since") if one.get(fact) != two.get(fact)]
        wrong += [f"{name}: no {fact}" for fact in (b"summary", b"complexity") if not text(two.get(fact, ("$", b"")))]
        theirs, ours = words_of(one.get(b"arguments")), words_of(two.get(b"arguments"))
        if theirs != ours and (name, "words") not in NEWER_FACTS:
            wrong.append(f"{name} words: {sorted(ours)}, Redis {sorted(theirs)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_keys_of_calls_and_descriptions_are_equal_to_the_byte(both: tuple[Connection, Connection], protocol: str) -> None:
    for side in both:
        side.call("HELLO", protocol)
    calls = [call for call in CALLS if call not in ON_PURPOSE]
    questions = [f"COMMAND {sub} {call}" for call in calls for sub in ("GETKEYS", "GETKEYSANDFLAGS")] + QUESTIONS
    wrong = []
    for question in questions:
        one, two = (side.call(*question.split()) for side in both)
        if one != two:
            wrong.append(f"{question}: ours {two}, Redis {one}")
    assert not wrong, "\n".join(wrong)
