#!/usr/bin/env python3
"""Compares skep's command table with a real redis-server (7.0): COMMAND INFO, DOCS, LIST and GETKEYS, in both
protocols. Facts (arity, flags, categories, key positions, tips) must be equal; texts are our own and are only looked
at for their presence. What Redis 7.2 and 7.4 changed is listed in NEWER, each with its reason.

    cargo build -p skep-command --example describe
    tests/tools/compare_command_table.py            # needs redis-server in PATH; exits 1 if something differs
"""

import io
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
DESCRIBE = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug" / "examples" / "describe"

# Commands that 7.0 does not have, and our own.
NEWER_COMMANDS = {
    "client|no-touch": "7.2", "client|setinfo": "7.2", "once": "skep",
    **{name: "7.4" for name in ("hexpire", "hpexpire", "hexpireat", "hpexpireat", "httl", "hpttl", "hexpiretime",
                                "hpexpiretime", "hpersist")},
}
# (command, fact): reason.
NEWER_FACTS = {
    ("zrank", "arity"): "7.2 added WITHSCORE",
    ("zrank", "words"): "7.2 added WITHSCORE",
    ("zrevrank", "arity"): "7.2 added WITHSCORE",
    ("zrevrank", "words"): "7.2 added WITHSCORE",
    ("hscan", "words"): "7.4 added NOVALUES",
    ("client|kill", "words"): "7.4 added MAXAGE",
    ("bitop", "words"): "Redis names no operations before 7.2",
}

# Calls that are answered otherwise on purpose.
ON_PURPOSE = {
    "pfmerge d": "valid, and its key is d: Redis fails over the empty list of sources",
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
    "getex a", "getdel a", "substr a 0 1", "sdiffstore a b c", "move a 1", "swapdb 0 1",
]


class Reader:
    """A RESP2/3 reader; sets become frozensets of their printed members, maps become dicts."""

    def __init__(self, stream):
        self.stream = stream

    def read(self):
        line = self.stream.readline()
        assert line.endswith(b"\r\n"), line
        kind, text = line[:1], line[1:-2].decode()
        if kind in b"+:-":
            return {b"+": text, b":": f"int {text}", b"-": f"error {text}"}[kind]
        if kind == b"_" or text == "-1":
            return f"null {kind.decode()}"
        count = int(text)
        if kind == b"$":
            data = self.stream.read(count + 2)
            return data[:-2].decode()
        if kind == b"%":
            return {self.read(): self.read() for _ in range(count)}
        items = [self.read() for _ in range(count)]
        return frozenset(map(repr, items)) if kind == b"~" else items


def serve():
    """Starts redis-server on a free port; gives the process and a connection."""
    folder = tempfile.mkdtemp()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(["redis-server", "--port", str(port), "--save", "", "--dir", folder],
                              stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while True:
        try:
            return server, socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                server.kill()
                sys.exit("redis-server did not start")
            time.sleep(0.02)


def both(connection, requests):
    """The replies of Redis and of skep to the same inline requests."""
    text = "".join(r + "\r\n" for r in requests).encode()
    connection.sendall(text)
    described = subprocess.run([DESCRIBE], input=text, stdout=subprocess.PIPE, check=True).stdout
    theirs, ours = Reader(connection.makefile("rb")), Reader(io.BytesIO(described))
    return [(r, theirs.read(), ours.read()) for r in requests]


FACTS = ["name", "arity", "flags", "first", "last", "step", "categories", "tips", "keys", "subcommands"]


def facts_of(entry):
    """Every command of a COMMAND INFO reply as {name: {fact: value}}, subcommands included, notes left out."""
    found = {}
    for item in entry:
        facts = dict(zip(FACTS, item, strict=True))
        subs = facts.pop("subcommands")
        facts["keys"] = [without_notes(k) for k in facts["keys"]] if isinstance(facts["keys"], list) else facts["keys"]
        for fact in ("flags", "categories", "tips"):
            if isinstance(facts[fact], list):
                facts[fact] = sorted(facts[fact])
        found[facts["name"]] = facts
        facts["subcommands"] = "array" if isinstance(subs, list) and subs else "empty"
        found.update(facts_of(subs if isinstance(subs, list) else []))
    return found


def without_notes(spec):
    spec = list(spec)
    if "notes" in spec:
        at = spec.index("notes")
        del spec[at:at + 2]
        spec.append("has a note")
    return spec


def main():
    server, connection = serve()
    differences = []
    try:
        (_, theirs, ours), (_, _, count), (_, their_names, our_names) = both(
            connection, ["COMMAND", "COMMAND COUNT", "COMMAND LIST"])
        if f"int {len(ours)}" != count:
            differences.append(f"COMMAND COUNT says {count}, COMMAND lists {len(ours)}")
        theirs, ours = facts_of(theirs), facts_of(ours)
        if set(their_names) != set(theirs) or set(our_names) != set(ours):
            differences.append("COMMAND LIST does not name all commands and subcommands")
        for name, facts in ours.items():
            if name not in theirs:
                if name not in NEWER_COMMANDS:
                    differences.append(f"{name}: Redis has no such command")
                continue
            for fact, value in facts.items():
                expected = theirs[name][fact]
                if value != expected and (name, fact) not in NEWER_FACTS:
                    differences.append(f"{name} {fact}: ours {value}, Redis {expected}")
        names = [n for n in ours if n in theirs]
        differences += compare_docs(connection, names)
        differences += compare_calls(connection)
        missing = sorted(n for n in theirs if n not in ours)
        print(f"{len(ours)} commands compared; not in our table: {' '.join(missing)}")
    finally:
        connection.close()
        server.terminate()
        server.wait()
    print("\n".join(differences) or "no difference")
    sys.exit(1 if differences else 0)


def words_of(arguments):
    """The words that are typed as they stand in an arguments tree of COMMAND DOCS."""
    found = set()
    for argument in arguments or []:
        found |= {argument["token"]} if "token" in argument else set()
        found |= words_of(argument.get("arguments"))
    return found


def compare_docs(connection, names):
    """Since, group, deprecation and the words of the syntax are facts; summary and complexity must be there."""
    differences = []
    requests = ["HELLO 3"] + [f"COMMAND DOCS {n}" for n in names] + ["HELLO 2"]
    for request, theirs, ours in both(connection, requests)[1:-1]:
        name = request.split()[-1]
        their, our = theirs[name], ours[name]
        for fact in ("since", "group", "deprecated_since"):
            if their.get(fact) != our.get(fact):
                differences.append(f"{name} {fact}: ours {our.get(fact)}, Redis {their.get(fact)}")
        their_words, our_words = words_of(their.get("arguments")), words_of(our.get("arguments"))
        if their_words != our_words and (name, "words") not in NEWER_FACTS:
            differences.append(f"{name} words: ours {sorted(our_words)}, Redis {sorted(their_words)}")
        for text in ("summary", "complexity"):
            if not our.get(text):
                differences.append(f"{name}: no {text}")
    return differences


def compare_calls(connection):
    """Replies that must be equal as a whole, shapes in both protocols included."""
    requests = []
    for protocol in (2, 3):
        requests.append(f"HELLO {protocol}")
        for call in CALLS:
            requests += [f"COMMAND GETKEYS {call}", f"COMMAND GETKEYSANDFLAGS {call}"]
        requests += [f"COMMAND INFO {n}" for n in ("get", "nope", "mset config|get get|x", "zinter", "lcs", "geosearch")]
        requests += ["COMMAND LIST FILTERBY MODULE x", "COMMAND LIST FILTERBY ACLCAT nope", "COMMAND LIST FOO",
                     "COMMAND LIST FILTERBY FOO x", "COMMAND LIST FILTERBY ACLCAT", "COMMAND FOO", "COMMAND DOCS nope",
                     "COMMAND LIST FILTERBY PATTERN CONFIG|G*", "COMMAND COUNT x", "COMMAND LIST FILTERBY PATTERN G?T",
                     "COMMAND LIST FILTERBY PATTERN nope*"]
    on_purpose = {f"COMMAND {sub} {call}" for call in ON_PURPOSE for sub in ("GETKEYS", "GETKEYSANDFLAGS")}
    return [f"{r}: ours {ours}, Redis {theirs}" for r, theirs, ours in both(connection, requests)
            if ours != theirs and not r.startswith("HELLO") and r not in on_purpose]


main()
