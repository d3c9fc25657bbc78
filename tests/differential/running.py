"""Runs a stream of commands on two servers and finds the first reply that differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.resp import Connection, ConnectionLost, Malformed, Reply, is_error, items, show

from . import chance
from .comparing import Words, equal, pairs

CHUNK = 50
SCAN_ROUNDS = 2000
SCANS = {b"SCAN": 1, b"SSCAN": 2, b"HSCAN": 2, b"ZSCAN": 2}
"""Each scan command and where its cursor stands."""

SORTS = frozenset([b"SORT", b"SORT_RO"])
NOT_A_FLOAT: Words = [b"ZINCRBY", b"errno", b"x", b"m"]
"""Refused by both servers. Redis sets errno to 0 for it: its SORT takes an ERANGE that any earlier command left behind for
one of its own, and refuses what it would sort otherwise."""

Excuse = Callable[[Words, Reply, Reply, str], str | None]
"""Tells why a difference is expected, or None."""


@dataclass
class Difference:
    """The first command to which the servers answered differently."""

    at: int
    words: Words
    left: str
    right: str
    note: str = ""

    def __str__(self) -> str:
        note = f"  ({self.note})" if self.note else ""
        return f"{line(self.words)}{note}\n    left:  {self.left}\n    right: {self.right}"


def line(words: Words, limit: int = 300) -> str:
    """A command as a person would type it."""
    text = " ".join(repr(word)[1:] if not word.isalnum() else word.decode() for word in words)
    return text if len(text) <= limit else text[:limit] + " ..."


class Pair:
    """Two servers under comparison. `excuse` knows the differences that are meant; some only in streams of one `group`."""

    def __init__(self, left_port: int, right_port: int, excuse: Excuse, connect: Callable[[int], Connection] = Connection) -> None:
        self.ports = left_port, right_port
        self.excuse = excuse
        self.connect = connect
        self.left = Connection(left_port)
        self.right = connect(right_port)
        self.group = ""
        self.commands = 0
        self.excused: dict[str, int] = {}

    def close(self) -> None:
        self.left.close()
        self.right.close()

    def reset(self, protocol: int) -> None:
        """Both servers empty, both connections as new."""
        for attempt in (1, 2):
            try:
                for side in (self.left, self.right):
                    for reply in side.pipeline([[b"RESET"], [b"FLUSHALL"], [b"HELLO", b"%d" % protocol]]):
                        if is_error(reply):
                            raise AssertionError(f"the server refused to be reset: {show(reply)}")
                return
            except (ConnectionLost, Malformed):
                if attempt == 2:
                    raise
                self.close()
                self.left, self.right = Connection(self.ports[0]), self.connect(self.ports[1])

    def run(self, commands: list[Words], protocol: int) -> Difference | None:
        """Runs the stream on empty servers up to the first difference."""
        self.reset(protocol)
        start = 0
        while start < len(commands):
            end = start
            while end < len(commands) and end - start < CHUNK and not needs_care(commands[end]):
                end += 1
            found = self._plain(commands, start, end) if end > start else self._careful(commands[start], start)
            if found is not None:
                return found
            start = max(end, start + 1)
        return None

    def _plain(self, commands: list[Words], start: int, end: int) -> Difference | None:
        chunk = commands[start:end]
        self.commands += len(chunk)
        try:
            self.left.send(chunk)
            self.right.send(chunk)
        except ConnectionLost as lost:
            return Difference(start, chunk[0], "", "", f"while sending: {lost}")
        found = None
        for offset, words in enumerate(chunk):
            one, two = _read(self.left), _read(self.right)
            if found is None:
                found = self._judge(start + offset, words, one, two)
            if found is not None and ("lost" in (one[0], two[0])):
                break
        return found

    def _judge(self, at: int, words: Words, one: Reply, two: Reply, note: str = "") -> Difference | None:
        if not note and equal(words, one, two):
            return None
        reason = self.excuse(words, one, two, self.group) if "lost" not in (one[0], two[0]) else None
        if reason is not None:
            self.excused[reason] = self.excused.get(reason, 0) + 1
            return None
        return Difference(at, words, show(one), show(two), note)

    def _careful(self, words: Words, at: int) -> Difference | None:
        self.commands += 1
        try:
            if words[0] == b"@DUMPRESTORE":
                return self._dump_restore(words, at)
            if words[0].upper() in SCANS:
                one, two = scan_all(self.left, words), scan_all(self.right, words)
                return self._judge(at, words, one, two)
            if words[0].upper() in SORTS:
                one, two = (side.pipeline([NOT_A_FLOAT, words])[1] for side in (self.left, self.right))
                return self._judge(at, words, one, two)
            one, two, wrong = chance.run(words, self.left, self.right)
            return None if wrong is None else self._judge(at, words, one, two, wrong)
        except (ConnectionLost, Malformed, ValueError) as error:
            return Difference(at, words, "", "", f"{type(error).__name__}: {error}")

    def _dump_restore(self, words: Words, at: int) -> Difference | None:
        replies = []
        for side in (self.left, self.right):
            dump = side.call("DUMP", words[1])
            if dump[0] == "$" and dump[1] is not None:
                dump = side.call("RESTORE", words[2], words[3], dump[1], *words[4:])
            replies.append(dump)
        return self._judge(at, words, *replies)


def needs_care(words: Words) -> bool:
    return words[0].startswith(b"@") or words[0].upper() in SCANS or words[0].upper() in SORTS or chance.is_random(words)


def _read(side: Connection) -> Reply:
    try:
        return side.read()
    except (ConnectionLost, Malformed) as error:
        return ("lost", f"{type(error).__name__}: {error}")


def scan_all(side: Connection, words: Words) -> Reply:
    """Follows the cursor to its end. The elements come back sorted and once each: a scan may repeat some."""
    name = words[0].upper()
    spot = SCANS[name]
    found: set = set()
    reply = side.call(*words)
    for _ in range(SCAN_ROUNDS):
        parts = items(reply)
        if parts is None or len(parts) != 2 or items(parts[1]) is None:
            return reply
        if words[spot] != b"0":
            return ("*", ())  # What a cursor made up by the caller finds is not promised; that it is taken, is.
        elements = parts[1][1]
        found.update([("*", pair) for pair in pairs(elements)] if name in (b"HSCAN", b"ZSCAN") else elements)
        if parts[0] == ("$", b"0"):
            return ("*", tuple(sorted(found, key=repr)))
        reply = side.call(*words[:spot], parts[0][1], *words[spot + 1 :])
    return ("-", b"the scan did not end")


def shrink(pair: Pair, commands: list[Words], protocol: int, found: Difference, tries: int = 400) -> tuple[list[Words], Difference]:
    """A shorter stream that still differs: leaves out ever smaller runs of commands while a difference stays."""
    commands = commands[: found.at + 1]
    size = max(len(commands) // 2, 1)
    while tries > 0:
        at, removed = 0, False
        while at < len(commands) - 1 and tries > 0:
            trial = commands[:at] + commands[at + size :]
            tries -= 1
            other = pair.run(trial, protocol) if trial else None
            if other is not None and other.words[0].upper() == found.words[0].upper():
                commands, found, removed = trial[: other.at + 1], other, True
            else:
                at += size
        if size == 1 and not removed:
            break
        size = max(size // 2, 1)
    return commands, found
