"""Who gets what: splits, hashes, hedges, the share of the log, and whom a PROXY header names."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from .scene import PATIENCE_SECONDS, Gateway, Request, Upstream, echo, status, until

CONFIG = """
[gateway]
access-log.share = "0.01%"

[gateway.listener.web]
address = "{web}"

[gateway.listener.bytes]
address = "{bytes}"
protocol = "tcp"
pool = "bytes"

[gateway.route.canary]
path-prefix = "/canary"
split = [{ pool = "b" }, { pool = "a", weight = 3 }]

[gateway.route.canary-by]
path-prefix = "/by"
split = [{ pool = "b" }, { pool = "a", weight = 3 }]
split-by = "header:x-user"

[gateway.route.hashed]
path-prefix = "/hashed"
pool = "hashed"

[gateway.route.hedged]
path-prefix = "/hedged"
pool = "hashed"
hedge = { after = "20ms" }

[gateway.route.all]
pool = "a"

[gateway.pool.a]
upstreams = ["A"]
eject = false
breaker = false

[gateway.pool.b]
upstreams = ["B"]

[gateway.pool.hashed]
upstreams = ["A", "B"]
balance = "ring"
hash-by = "header:x-user"

[gateway.pool.bytes]
upstreams = ["BYTES"]
send-proxy = "v2"
"""


class Pair:
    gateway: Gateway

    def __init__(self, a: Upstream, b: Upstream, plain: socket.socket) -> None:
        self.a, self.b, self.plain = a, b, plain


@pytest.fixture(scope="module")
def pair_() -> Iterator[Pair]:
    with Upstream("a") as a, Upstream("b") as b, socket.create_server(("127.0.0.1", 0)) as plain:
        pair = Pair(a, b, plain)
        text = CONFIG.replace('"A"', f'"{a.address}"').replace('"B"', f'"{b.address}"')
        with Gateway(text.replace("BYTES", f"127.0.0.1:{plain.getsockname()[1]}"), ("web", "bytes")) as gateway:
            pair.gateway = gateway  # type: ignore[assignment]
            yield pair


@pytest.fixture()
def pair(pair_: Pair) -> Pair:
    pair_.a.behave = pair_.b.behave = echo
    pair_.a.requests.clear()
    pair_.b.requests.clear()
    return pair_


def by(pair: Pair, path: str, user: int) -> str:
    return str(pair.gateway.ask("GET", path, headers={"X-User": f"user {user}"}).json()["upstream"])


def test_a_split_sends_each_part_its_share(pair: Pair) -> None:
    found = Counter(pair.gateway.ask("GET", "/canary").json()["upstream"] for _ in range(400))
    # A quarter is 100, give or take 9: five times that is never.
    assert 50 < found["b"] < 150 and sum(found.values()) == 400, found


@pytest.mark.parametrize("path", ["/by", "/hashed"])
def test_who_is_known_by_a_header_stays_in_its_part_and_at_its_upstream(pair: Pair, path: str) -> None:
    first = [by(pair, path, user) for user in range(40)]
    assert set(first) == {"a", "b"}, "it is more than one"
    for _ in range(3):
        assert [by(pair, path, user) for user in range(40)] == first


def test_a_hedge_answers_for_an_upstream_that_is_only_slow(pair: Pair) -> None:
    served, late = threading.Event(), threading.Event()

    def slow(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        # It answers in the end, when the other has.
        assert served.wait(PATIENCE_SECONDS)
        try:
            return echo(upstream, request, to)
        finally:
            late.set()

    user = next(user for user in range(100) if by(pair, "/hashed", user) == "a")
    pair.a.requests.clear()
    pair.a.behave = slow
    assert by(pair, "/hedged/get", user) == "b"
    assert [request.path for request in pair.a.requests] == ["/hedged/get"], "it was asked first"
    served.set()
    assert late.wait(PATIENCE_SECONDS)
    # Nobody else waits for a POST, and what came late is in nobody's way.
    answer = pair.gateway.ask("POST", "/hedged/post", body=b"x", headers={"X-User": f"user {user}"})
    assert answer.json()["upstream"] == "a" and answer.json()["path"] == "/hedged/post"
    assert not pair.b.seen("/hedged/post")


def test_a_log_of_few_has_a_line_for_each_that_failed(pair: Pair) -> None:
    def asks(code: int, count: int) -> set[str]:
        pair.a.behave = status(code)
        ids = {f"{code}-{n}" for n in range(count)}
        for request in ids:
            assert pair.gateway.ask("GET", "/any", headers={"X-Request-Id": request}).status == code
        return ids

    well, failed = asks(200, 200), asks(500, 20) | asks(503, 20)

    def logged() -> set[str]:
        lines = [json.loads(line) for line in pair.gateway.log().splitlines() if line.startswith("{")]
        return {line.get("id") for line in lines}

    until(lambda: failed <= logged(), "each of those that failed has a line")
    # One in ten thousand is 0 of 200, or 1, or once in a lifetime a few.
    assert len(logged() & well) < 10


def test_an_upstream_is_told_by_a_header_of_version_2_who_speaks(pair: Pair) -> None:
    with socket.create_connection(("127.0.0.1", pair.gateway.ports["bytes"]), timeout=PATIENCE_SECONDS) as client:
        client.sendall(b"word")
        pair.plain.settimeout(PATIENCE_SECONDS)
        upstream, _ = pair.plain.accept()
        with upstream:
            upstream.settimeout(PATIENCE_SECONDS)
            ports = struct.pack(">HH", client.getsockname()[1], pair.gateway.ports["bytes"])
            wanted = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([127, 0, 0, 1] * 2) + ports + b"word"
            got = b""
            while len(got) < len(wanted):
                more = upstream.recv(1000)
                assert more, got
                got += more
            assert got == wanted
            upstream.sendall(b"said")
        assert client.recv(1000) == b"said"
