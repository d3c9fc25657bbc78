"""ACLs beside redis-server's: random rules mean the same, and errors are the same words.

redis-server 7.0 prints rules about commands in another form than 7.4 (it works out which categories describe the commands best),
so those are compared by what they allow.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from harness.resp import Connection, Reply, items
from harness.resp import text as bytes_of
from harness.server import Redis, Skep

OK = ("+", b"OK")


def text(reply: Reply) -> str:
    return (bytes_of(reply) or b"").decode()


COMMANDS = ["get", "set", "mget", "del", "config", "config|get", "config|set", "acl", "acl|list", "select", "incr", "lpush", "client", "client|kill", "hset", "ping", "sort", "nope", "config|nope"]
CATEGORIES = ["all", "read", "write", "string", "hash", "list", "keyspace", "admin", "dangerous", "fast", "slow", "connection", "nope"]
PATTERNS = ["*", "a*", "b", "?", "[ab]*", "a", "x y", ""]

TRIED = [
    "GET a", "GET b1", "SET a 1", "SET b 1 GET", "MGET a b", "MSET a 1 b 2", "DEL a", "INCR b", "COPY a b", "RENAME b a", "EXISTS b", "TYPE a", "LPUSH a x",
    "LMOVE a b LEFT RIGHT", "HSET b f v", "HGETALL a", "SORT a", "SORT a STORE b", "SUNIONSTORE a b c", "ZADD a 1 m", "GETEX a", "GETDEL b", "BITFIELD a GET u8 0",
    "CONFIG GET x", "CONFIG SET x y", "CLIENT KILL x", "CLIENT ID", "ACL LIST", "ACL WHOAMI", "SELECT 0", "SELECT 1", "PING", "ECHO x", "FLUSHALL", "DBSIZE",
    "KEYS *", "AUTH x", "COMMAND COUNT", "OBJECT ENCODING a", "XADD a * f v", "XREAD STREAMS a b 0 0", "TIME", "GETSET a 1", "APPEND b x", "SPOP a", "EXPIRE a 1", "TTL b",
]  # fmt: skip


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Connection, Connection]]:
    with Redis() as redis, Skep() as skep, redis.connect() as left, skep.connect() as right:
        yield left, right


def rule(chance: random.Random, inner: bool = False) -> str:
    kind = chance.randrange(11 if inner else 16)
    if kind < 3:
        return chance.choice("+-") + chance.choice(COMMANDS)
    if kind < 6:
        return chance.choice("+-") + "@" + chance.choice(CATEGORIES)
    if kind < 9:
        return chance.choice(["~", "~", "%R~", "%W~", "%RW~", "%x~"]) + chance.choice(PATTERNS)
    if kind == 9:
        return "&" + chance.choice(PATTERNS)
    if kind == 10:
        return chance.choice(["allkeys", "resetkeys", "allchannels", "resetchannels", "allcommands", "nocommands", "+select|0"])
    if kind == 11:
        return "(" + " ".join(rule(chance, inner=True) for _ in range(chance.randrange(4))) + ")"
    if kind == 12:
        return chance.choice(["clearselectors", "reset", "nonsense", "(+get", "#12"])
    if kind == 13:
        return chance.choice([">p", ">q", "<p", "nopass", "resetpass"])
    return chance.choice(["on", "off", "ON"])


def described(reply: Reply) -> object:
    """ACL GETUSER but for the rules about commands; 7.0 does not say whether payloads are checked."""
    if reply in (("*", None), ("$", None), ("_", None)):
        return None
    words = items(reply) or ()
    fields = {text(words[at]): words[at + 1] for at in range(0, len(words), 2)}
    fields.pop("commands")
    flags = [text(flag) for flag in items(fields["flags"]) or () if "sanitize" not in text(flag)]
    selectors = set()
    for selector in items(fields["selectors"]) or ():
        inner = items(selector) or ()
        # skep keeps a selector once that is given twice.
        selectors.add(tuple(inner[at + 1] for at in range(0, len(inner), 2) if text(inner[at]) != "commands"))
    return flags, fields["passwords"], fields["keys"], fields["channels"], selectors


def verdict(reply: Reply) -> object:
    """7.4 names the user where 7.0 says "this user"."""
    if reply[0] == "$" and isinstance(reply[1], bytes):
        return reply[1].replace(b"User u has", b"This user has")
    return reply


@pytest.mark.parametrize("seed", range(12))
def test_random_rules_mean_what_they_mean_to_redis(pair: tuple[Connection, Connection], seed: int) -> None:
    chance = random.Random(seed)
    left, right = pair
    for _ in range(25):
        if chance.random() < 0.3:
            assert left.call("ACL", "DELUSER", "u") == right.call("ACL", "DELUSER", "u")
        rules = [rule(chance) for _ in range(chance.randrange(1, 7))]
        told = [one.call("ACL", "SETUSER", "u", *rules) for one in pair]
        assert told[0] == told[1], rules
        assert described(left.call("ACL", "GETUSER", "u")) == described(right.call("ACL", "GETUSER", "u")), rules
        if left.call("ACL", "GETUSER", "u")[1] is None:
            continue
        for tried in TRIED:
            wanted, got = [verdict(one.call("ACL", "DRYRUN", "u", *tried.split())) for one in pair]
            assert wanted == got, (rules, tried, right.call("ACL", "LIST"))


def test_what_is_listed_makes_the_same_user_again(pair: tuple[Connection, Connection]) -> None:
    _, skep = pair
    chance = random.Random(99)
    for _ in range(50):
        skep.call("ACL", "SETUSER", "u", *[rule(chance) for _ in range(5)])
    lines = {text(line).split(" ", 2)[1]: text(line).split(" ", 2)[2] for line in items(skep.call("ACL", "LIST")) or ()}
    if "u" in lines:
        words = lines["u"].replace("(", "\0(").split("\0")
        rules = words[0].split() + [selector.strip() for selector in words[1:]]
        assert skep.call("ACL", "SETUSER", "again", *rules) == OK
        again = {text(line).split(" ", 2)[1]: text(line).split(" ", 2)[2] for line in items(skep.call("ACL", "LIST")) or ()}
        assert again["again"] == lines["u"]


CONVERSATIONS = [
    ["ACL", "SETUSER", "a b", "on"],
    ["ACL", "SETUSER", "v", "+nope"],
    ["ACL", "SETUSER", "v", "(+get"],
    ["ACL", "SETUSER", "v", "+config|get|a"],
    ["ACL", "SETUSER", "v", "-select|0"],
    ["ACL", "SETUSER", "v", "~*", "~a"],
    ["ACL", "SETUSER", "v", "&*", "&a"],
    ["ACL", "SETUSER", "v", "<p"],
    ["ACL", "SETUSER", "v", "#12"],
    ["ACL", "GETUSER", "nobody"],
    ["ACL", "DELUSER", "default"],
    ["ACL", "DELUSER", "nobody"],
    ["ACL", "CAT", "nope"],
    ["ACL", "GENPASS", "0"],
    ["ACL", "GENPASS", "4097"],
    ["ACL", "GENPASS", "x"],
    ["ACL", "LOG", "x"],
    ["ACL", "LOG", "RESET"],
    ["ACL", "WHOAMI"],
    ["ACL", "DRYRUN", "nobody", "get"],
    ["ACL", "DRYRUN", "default", "nope"],
    ["ACL", "DRYRUN", "default", "get"],
    ["ACL", "NOPE"],
    ["ACL"],
    ["AUTH", "nobody", "x"],
    ["AUTH", "x"],
    ["CLIENT", "KILL", "USER", "nobody"],
]


def test_errors_are_the_words_of_redis(pair: tuple[Connection, Connection]) -> None:
    left, right = pair
    for words in CONVERSATIONS:
        assert left.call(*words) == right.call(*words), words


def test_a_denied_command_is_answered_and_logged(pair: tuple[Connection, Connection]) -> None:
    for one in pair:
        assert one.call("ACL", "SETUSER", "w", "reset", "on", ">p", "~a*", "+get", "+auth") == OK
        assert one.call("ACL", "LOG", "RESET") == OK
        assert one.call("AUTH", "w", "p") == OK
    _, skep = pair
    assert skep.call("SET", "a", "1") == ("-", b"NOPERM User w has no permissions to run the 'set' command")
    assert skep.call("GET", "b") == ("-", b"NOPERM No permissions to access a key")
    for one in pair:
        assert one.call("AUTH", "default", "x") == OK
    entries = items(skep.call("ACL", "LOG")) or ()
    reasons = [dict(zip(map(text, (items(e) or ())[0::2]), (items(e) or ())[1::2], strict=True))["reason"] for e in entries]
    assert sorted(text(reason) for reason in reasons) == ["command", "key"]


def test_what_a_script_is_denied_is_logged_as_in_redis(pair: tuple[Connection, Connection]) -> None:
    logged = []
    for one in pair:
        assert one.call("ACL", "SETUSER", "s", "reset", "on", ">p", "~own", "+@all", "-set") == OK
        assert one.call("ACL", "LOG", "RESET") == OK
        assert one.call("AUTH", "s", "p") == OK
        one.call("EVAL", "return redis.call('set', 'own', 1)", "1", "own")
        one.call("EVAL", "redis.pcall('get', 'his') redis.pcall('publish', 'c', 'm') return redis.call('get', 'his')", "1", "own")
        one.call("MULTI")
        one.call("EVAL", "return redis.pcall('lpush', 'own', 1, redis.pcall('del', 'hers').err)", "1", "own")
        one.call("EXEC")
        assert one.call("AUTH", "default", "x") == OK
        entries = [list(map(text, items(entry) or ())) for entry in items(one.call("ACL", "LOG")) or ()]
        shown = [dict(zip(entry[0::2], entry[1::2], strict=True)) for entry in entries]
        assert all("user=s" in entry["client-info"] for entry in shown), shown
        logged.append([{name: entry[name] for name in ("reason", "context", "object", "username")} for entry in shown])
    assert logged[0] == logged[1] and len(logged[0]) >= 4, logged
