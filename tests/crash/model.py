"""What one connection wrote, as a sequence of operations and the state after each.

A connection's commands are carried out in order, so after a crash its keys must look as they did after some operation:
not before the last acknowledged one, and not after the last one sent. Every value names its operation, so that a value
from elsewhere, twice or out of order cannot pass for the right one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.resp import Connection, Reply, items

FIELDS = 40
SLOTS = 60


@dataclass
class State:
    """The keys of one connection."""

    strings: dict[bytes, bytes] = field(default_factory=dict)
    hash: dict[bytes, bytes] = field(default_factory=dict)
    list: list[bytes] = field(default_factory=list)
    members: set[bytes] = field(default_factory=set)
    scores: dict[bytes, int] = field(default_factory=dict)
    count: int = 0


class Writer:
    """The operations of connection `name`, numbered from 0, each a pure function of its number and the state."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State()
        self.next = 0

    def key(self, kind: str) -> bytes:
        return f"{self.name}:{kind}".encode()

    def command(self, number: int) -> list[bytes]:
        """The command of operation `number`. It does not depend on the state, so many can be sent before a reply."""
        value = f"{self.name}-{number}".encode()
        match number % 9:
            case 0 | 1:
                return [b"SET", self.key(f"s{number % SLOTS}"), value]
            case 2:
                return [b"RPUSH", self.key("list"), value]
            case 3:
                return [b"INCR", self.key("count")]
            case 4:
                return [b"HSET", self.key("hash"), b"f%d" % (number % FIELDS), value]
            case 5:
                return [b"SADD", self.key("set"), b"%d" % number]
            case 6:
                return [b"ZADD", self.key("zset"), b"%d" % number, b"m%d" % (number % FIELDS)]
            case 7:
                return [b"MSET", self.key("a"), value, self.key("b"), value, self.key("c"), value]
            case _:
                return [b"LPOP", self.key("list")] if number % 2 else [b"SREM", self.key("set"), b"%d" % (number - 30)]

    def apply(self) -> Reply:
        """Carries out the next operation on the state and returns the reply that the server must give."""
        number, state = self.next, self.state
        words = self.command(number)
        self.next += 1
        match words[0]:
            case b"SET":
                state.strings[words[1]] = words[2]
            case b"MSET":
                state.strings.update(zip(words[1::2], words[2::2], strict=True))
            case b"RPUSH":
                state.list.append(words[2])
                return (":", len(state.list))
            case b"LPOP":
                return ("$", state.list.pop(0) if state.list else None)
            case b"INCR":
                state.count += 1
                return (":", state.count)
            case b"HSET":
                new = words[2] not in state.hash
                state.hash[words[2]] = words[3]
                return (":", int(new))
            case b"SADD":
                state.members.add(words[2])
                return (":", 1)
            case b"SREM":
                there = words[2] in state.members
                state.members.discard(words[2])
                return (":", int(there))
            case b"ZADD":
                new = words[3] not in state.scores
                state.scores[words[3]] = int(words[2])
                return (":", int(new))
        return ("+", b"OK")

    def read(self, server: Connection) -> State:
        """The state that the server has."""
        names = sorted({self.key(f"s{slot}") for slot in range(SLOTS)} | {self.key(name) for name in "abc"})
        strings = items(server.call("MGET", *names)) or ()
        found = State(strings={name: value[1] for name, value in zip(names, strings, strict=True) if value[1] is not None})
        flat = [each[1] for each in items(server.call("HGETALL", self.key("hash"))) or ()]
        found.hash = dict(zip(flat[0::2], flat[1::2], strict=True))
        found.list = [each[1] for each in items(server.call("LRANGE", self.key("list"), 0, -1)) or ()]
        found.members = {each[1] for each in items(server.call("SMEMBERS", self.key("set"))) or ()}
        flat = [each[1] for each in items(server.call("ZRANGE", self.key("zset"), 0, -1, "WITHSCORES")) or ()]
        found.scores = {member: int(score) for member, score in zip(flat[0::2], flat[1::2], strict=True)}
        found.count = int(server.call("GET", self.key("count"))[1] or 0)
        return found

    def settle(self, server: Connection, sent: int) -> int:
        """Advances the state to where the server is, at most to operation `sent`. Returns the operations advanced.

        Raises AssertionError if the server is behind what was acknowledged, or anywhere that was never sent.
        """
        found = self.read(server)
        acknowledged = self.next
        first = difference(self.state, found)
        while self.state != found:
            if self.next >= sent:
                raise AssertionError(
                    f"{self.name}: the server's state is none of those between operation {acknowledged} (the last one "
                    f"acknowledged) and {sent} (the last one sent). Against {acknowledged}: {first}; "
                    f"against {sent}: {difference(self.state, found)}"
                )
            self.apply()
        return self.next - acknowledged


def difference(expected: State, found: State) -> str:
    """In which parts the states differ, with a few of the values."""
    parts = []
    for name in ("strings", "hash", "scores"):
        left, right = getattr(expected, name), getattr(found, name)
        keys = [key for key in left.keys() | right.keys() if left.get(key) != right.get(key)]
        if keys:
            parts.append(f"{name}: " + ", ".join(f"{k!r} expected {left.get(k)!r} found {right.get(k)!r}" for k in sorted(keys)[:3]))
    if expected.list != found.list:
        parts.append(f"list: expected {len(expected.list)} {expected.list[-2:]} found {len(found.list)} {found.list[-2:]}")
    if expected.members != found.members:
        parts.append(f"set: {sorted(expected.members ^ found.members)[:5]}")
    if expected.count != found.count:
        parts.append(f"count: expected {expected.count} found {found.count}")
    return "; ".join(parts) or "nothing"
