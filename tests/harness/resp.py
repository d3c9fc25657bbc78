"""A RESP client that keeps each reply's type and bytes.

Ordinary clients turn replies into their language's values, which hides what a comparison must see: a null array
is not a null bulk, and the double `,1` is not the bulk `1`. Here a reply is a tuple whose first item is RESP's type
byte, so two replies are equal exactly when the servers sent the same thing.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

Reply = tuple
Command = Sequence[bytes]

AGGREGATES = ("*", "~", ">")


class ConnectionLost(Exception):
    """The server closed the connection or did not answer in time."""


class Malformed(Exception):
    """The server sent bytes that are not RESP."""


def encode(command: Command) -> bytes:
    """The command as a RESP array of bulk strings, which is how every client sends it."""
    parts = [b"*%d\r\n" % len(command)]
    for word in command:
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)


class Connection:
    """One connection. Replies are tuples as told above; nested replies are tuples of replies."""

    def __init__(self, port: int, host: str = "127.0.0.1", timeout: float = 30.0) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.at = 0

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send_raw(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise ConnectionLost(str(error)) from error

    def send(self, commands: Iterable[Command]) -> None:
        self.send_raw(b"".join(encode(command) for command in commands))

    def call(self, *words: bytes | str | int) -> Reply:
        """Sends one command and returns its reply."""
        self.send([[as_bytes(word) for word in words]])
        return self.read()

    def pipeline(self, commands: Sequence[Command]) -> list[Reply]:
        """Sends all commands in chunks and returns their replies in order."""
        replies: list[Reply] = []
        for start in range(0, len(commands), 64):
            chunk = commands[start : start + 64]
            self.send(chunk)
            replies.extend(self.read() for _ in chunk)
        return replies

    def read(self) -> Reply:
        line = self._line()
        kind, rest = chr(line[0]), line[1:]
        if kind in "+-":
            return (kind, rest)
        if kind == ":":
            return (kind, int(rest))
        if kind in ",(":
            return (kind, rest)
        if kind == "#":
            return (kind, rest == b"t")
        if kind == "_":
            return (kind,)
        if kind in "$=":
            size = int(rest)
            return (kind, None if size < 0 else self._exact(size))
        if kind in AGGREGATES:
            size = int(rest)
            return (kind, None if size < 0 else tuple(self.read() for _ in range(size)))
        if kind == "%":
            return (kind, tuple((self.read(), self.read()) for _ in range(int(rest))))
        raise Malformed(f"unexpected reply line {line[:80]!r}")

    def _receive(self, most: int) -> bytes:
        try:
            data = self.socket.recv(most)
        except OSError as error:
            raise ConnectionLost(str(error)) from error
        if not data:
            raise ConnectionLost("closed by the server")
        return data

    def _fill(self) -> None:
        self.buffer = self.buffer[self.at :] + self._receive(1 << 16)
        self.at = 0

    def _line(self) -> bytes:
        while True:
            end = self.buffer.find(b"\r\n", self.at)
            if end >= 0:
                line = self.buffer[self.at : end]
                self.at = end + 2
                if not line:
                    raise Malformed("empty reply line")
                return line
            self._fill()

    def _exact(self, size: int) -> bytes:
        missing = size + 2 - (len(self.buffer) - self.at)
        if missing > 0:
            parts = [self.buffer[self.at :]]
            while missing > 0:
                parts.append(self._receive(min(missing, 1 << 20)))
                missing -= len(parts[-1])
            self.buffer, self.at = b"".join(parts), 0
        data = self.buffer[self.at : self.at + size]
        if self.buffer[self.at + size : self.at + size + 2] != b"\r\n":
            raise Malformed("bulk string without its line end")
        self.at += size + 2
        return data


def as_bytes(word: bytes | str | int | float) -> bytes:
    """A command word from the types that tests write by hand."""
    if isinstance(word, bytes):
        return word
    return str(word).encode()


def is_error(reply: Reply) -> bool:
    return reply[0] == "-"


def items(reply: Reply) -> tuple | None:
    """The elements of an array or set reply, or None for anything else, null arrays included."""
    return reply[1] if reply[0] in AGGREGATES else None


def text(reply: Reply) -> bytes | None:
    """The bytes of a bulk, simple, double or verbatim reply, else None."""
    return reply[1] if reply[0] in "$+,=" else None


def show(reply: Reply, limit: int = 600) -> str:
    """One line for a person."""
    line = _show(reply)
    return line if len(line) <= limit else line[:limit] + f"... ({len(line)} characters)"


def _show(reply: Reply) -> str:
    kind = reply[0]
    if kind == "_":
        return "null"
    if kind == "%":
        return "map{" + ", ".join(f"{_show(k)}: {_show(v)}" for k, v in reply[1]) + "}"
    if kind in AGGREGATES:
        if reply[1] is None:
            return "null-array"
        return {"*": "", "~": "set", ">": "push"}[kind] + "[" + ", ".join(map(_show, reply[1])) + "]"
    if kind == "$":
        return "null-bulk" if reply[1] is None else repr(reply[1])[1:]
    if kind == ":":
        return f"(int) {reply[1]}"
    return kind + (reply[1].decode("latin-1") if isinstance(reply[1], bytes) else str(reply[1]))
