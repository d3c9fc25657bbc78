"""The protocol itself: the same bytes, well formed and broken, to redis-server and to skep; all that comes back.

A wrong byte must close that connection with an error that says what was wrong, and no other connection.
"""

from __future__ import annotations

import random
import socket

import pytest

from harness.server import Redis, Skep

ENDING = b"*1\r\n$4\r\nQUIT\r\n"
"""Sent last, so that the server closes the connection and the reply is known to be whole."""

WELL_FORMED = {
    "inline": b"PING\r\n",
    "inline with a bare line feed": b"PING\n",
    "inline with arguments": b"SET a 1\r\nGET a\r\n",
    "inline with quotes": b'SET q "a b\\n\\x41\\"c"\r\nGET q\r\nSET q \'it\\\'s\'\r\nGET q\r\n',
    "inline with spaces around": b"   PING   hello  \r\n",
    "empty lines": b"\r\n\r\n\nPING\r\n",
    "pipeline": b"*1\r\n$4\r\nPING\r\n" * 50,
    "empty array": b"*0\r\nPING\r\n",
    "negative array": b"*-1\r\nPING\r\n",
    "far negative array": b"*-7\r\nPING\r\n",
    "binary": b"*3\r\n$3\r\nSET\r\n$3\r\n\x00\xff\r\r\n$4\r\n\r\n\r\n\r\n*2\r\n$3\r\nGET\r\n$3\r\n\x00\xff\r\r\n",
    "empty argument": b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    "resp3 handshake then ping": b"*2\r\n$5\r\nHELLO\r\n$1\r\n9\r\n*1\r\n$4\r\nPING\r\n",
    "inline with an empty quoted word": b'ECHO ""\r\n',
    "mixed inline and arrays": b"PING\r\n*1\r\n$4\r\nPING\r\nPING\r\n",
    "lower case": b"*1\r\n$4\r\npInG\r\n",
    "plus sign in sizes": b"*+1\r\n$4\r\nPING\r\n",
}
BROKEN = {
    "unbalanced quotes": b'SET a "b\r\n',
    "quote inside a word": b'SET a b"c"d\r\n',
    "array size is not a number": b"*x\r\n",
    "array size is empty": b"*\r\nPING\r\n",
    "array size far too large": b"*99999999999999999999\r\n",
    "bulk without its dollar": b"*1\r\n+PING\r\n",
    "bulk size is not a number": b"*1\r\n$x\r\nPING\r\n",
    "bulk size is negative": b"*1\r\n$-1\r\n",
    "bulk size too large": b"*1\r\n$536870913\r\n",
    "bulk size far too large": b"*1\r\n$99999999999999999999\r\n",
    "an HTTP request": b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a Host header": b"Host: example\r\n",
    "leading zeros": b"*01\r\n$04\r\nPING\r\n",
    "space in sizes": b"* 1\r\n$4\r\nPING\r\n",
}
ENDLESS = {
    "inline": b"a" * 65_537,
    "array header": b"*" + b"1" * 65_536,
    "bulk header": b"*1\r\n$" + b"1" * 65_537,
}
"""Lines that pass the limit of 64 KiB and have no end."""


def exchange(port: int, data: bytes, ending: bytes = ENDING) -> bytes:
    """Sends the bytes and QUIT, and returns everything up to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
        try:
            stream.sendall(data + ending)
            if ending:
                stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The server may have closed already; what it said before is still there to be read.
        received = b""
        while True:
            try:
                more = stream.recv(65536)
            except ConnectionResetError:
                return received
            if not more:
                return received
            received += more


@pytest.mark.parametrize("name", WELL_FORMED)
def test_well_formed_bytes_get_the_same_bytes(redis_server: Redis, quick_skep: Skep, name: str) -> None:
    assert exchange(quick_skep.port, WELL_FORMED[name]) == exchange(redis_server.port, WELL_FORMED[name])


@pytest.mark.parametrize("name", BROKEN)
def test_broken_bytes_get_the_same_error_and_close_only_their_connection(
    redis_server: Redis, quick_skep: Skep, name: str
) -> None:
    with quick_skep.connect() as other:
        expected, found = exchange(redis_server.port, BROKEN[name]), exchange(quick_skep.port, BROKEN[name])
        assert found == expected
        assert other.call("PING") == ("+", b"PONG")


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_lines_are_refused_before_they_fill_the_memory(redis_server: Redis, quick_skep: Skep, name: str) -> None:
    assert exchange(quick_skep.port, ENDLESS[name], b"") == exchange(redis_server.port, ENDLESS[name], b"")


def test_more_than_a_million_arguments_are_refused(quick_skep: Skep) -> None:
    """Our limit is smaller than Redis's, which would take two thousand million."""
    assert exchange(quick_skep.port, b"*1048577\r\n") == b"-ERR Protocol error: invalid multibulk length\r\n"


def test_bytes_one_at_a_time_get_the_same_replies(redis_server: Redis, quick_skep: Skep) -> None:
    data = WELL_FORMED["binary"] + b"PING\r\n" + WELL_FORMED["inline with quotes"]
    replies = []
    for port in (redis_server.port, quick_skep.port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(len(data)):
                stream.sendall(data[at : at + 1])
            stream.sendall(ENDING)
            received = b""
            while more := stream.recv(65536):
                received += more
            replies.append(received)
    assert replies[0] == replies[1]


def test_flipped_bytes_never_harm_the_server(quick_skep: Skep) -> None:
    """Random damage in a valid pipeline: whatever it answers, the server stays, and stays right."""
    rng = random.Random(7)
    source = b"".join(WELL_FORMED.values())
    for _ in range(300):
        data = bytearray(source[rng.randrange(len(source)) :][:400])
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        exchange(quick_skep.port, bytes(data))
    with quick_skep.connect() as connection:
        assert connection.call("PING") == ("+", b"PONG")
    assert "panicked" not in quick_skep.log()
