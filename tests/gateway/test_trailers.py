"""Trailers of HTTP/1.1, through HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
from collections.abc import Iterator

import pytest

from .scene import PATIENCE_SECONDS, Gateway, Request, Upstream, echo

KEY = "0123456789abcdef0123"

CONFIG = """
[gateway.listener.web]
address = "{web}"

[gateway.route.all]
pool = "api"
request-headers.remove = ["x-internal"]
response-headers.remove = ["x-private"]

[gateway.route.again]
path-prefix = "/again"
pool = "two"
retry.not-run = [503]
request-headers.remove = ["x-internal"]

[gateway.route.keyed]
path-prefix = "/keyed"
pool = "api"
idempotency = true

[gateway.route.bad]
path-prefix = "/bad"
pool = "api"

# The gateway itself is the HTTP/2 server: what comes back is taken by another route.
[gateway.route.h2]
path-prefix = "/over-h2"
pool = "h2"
rewrite.prefix = "/back"

[gateway.route.partners]
path-prefix = "/partners"
pool = "api"
auth = "partners"

[gateway.auth.partners.keys]
callers = [{ name = "acme", sha256 = "KEYHASH" }]

[gateway.pool.api]
upstreams = ["UPSTREAM"]
breaker = false
eject = false

[gateway.pool.two]
upstreams = ["UPSTREAM", "OTHER"]
breaker = false
eject = false

[gateway.pool.h2]
upstreams = ["{web}"]
protocol = "http2"
"""

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\n"
TRAILERS = b"x-sum: 1\r\nSet-Cookie: a=b\r\nContent-Type: x/y\r\nx-private: 2\r\nContent-Digest: d\r\nX-SUM: 2\r\n\r\n"
PASSED = b"5\r\nhello\r\n0\r\nx-sum: 1\r\nx-sum: 2\r\ncontent-digest: d\r\n\r\n"
BODY = (
    b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Internal: 2\r\nx_internal: 2\r\nX-Skep-Caller: root\r\nX_Skep_Caller: root\r\nHost: b\r\n"
    b"Content-Length: 7\r\nX-Forwarded-For: 1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nAuthorization: Basic eA==\r\n\r\n"
)


@pytest.fixture(scope="module")
def upstreams() -> Iterator[list[Upstream]]:
    """Two that keep one record of what they are asked."""
    busy: set[str] = set()

    def behave(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        if request.path.startswith("/again") and request.path not in busy:
            busy.add(request.path)
            to.sendall(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
        elif request.path.startswith("/bad"):
            to.sendall(HEAD + b"x-sum 1\r\n\r\n")
        elif request.method == "GET" or request.path.startswith("/keyed"):
            to.sendall(HEAD + TRAILERS)
        else:
            return echo(upstream, request, to)
        return True

    with Upstream(behave=behave) as upstream, Upstream(behave=behave, requests=upstream.requests) as other:
        yield [upstream, other]


@pytest.fixture(scope="module")
def upstream(upstreams: list[Upstream]) -> Upstream:
    return upstreams[0]


@pytest.fixture(scope="module")
def gateway(upstreams: list[Upstream]) -> Iterator[Gateway]:
    text = CONFIG.replace("UPSTREAM", upstreams[0].address).replace("OTHER", upstreams[1].address)
    with Gateway(text.replace("KEYHASH", hashlib.sha256(KEY.encode()).hexdigest())) as gateway:
        yield gateway


@pytest.mark.parametrize("path", ["/x", "/over-h2"])
def test_a_reply_has_its_trailers_for_a_client_that_takes_them(gateway: Gateway, upstream: Upstream, path: str) -> None:
    asks = f"GET {path} HTTP/1.1\r\nHost: a\r\nTE: gzip, trailers\r\n".encode()
    raw = gateway.raw(asks + b"\r\n" + asks + b"Connection: close\r\n\r\n")
    replies = raw.split(b"HTTP/1.1 200 OK")[1:]
    assert [reply[-len(PASSED) :] for reply in replies] == [PASSED] * 2, raw
    asked = upstream.requests[-1]
    assert (asked.header("te"), asked.header("connection")) == ("trailers", "te")


def test_a_client_of_http2_gets_them_unasked(gateway: Gateway) -> None:
    url = f"http://127.0.0.1:{gateway.web}/x"
    told = subprocess.run(["nghttp", "-nv", url], capture_output=True, text=True, timeout=PATIENCE_SECONDS).stdout
    last = re.sub(r"\x1b\[[0-9;]*m", "", told).split("DATA frame")[-1]
    lines = re.findall(r"recv \(stream_id=\d+\) ([^:\s]+): (\S+)", last)
    assert sorted(lines) == [("content-digest", "d"), ("x-sum", "1"), ("x-sum", "2")], told


def test_a_client_that_takes_no_trailers_gets_none(gateway: Gateway, upstream: Upstream) -> None:
    raw = gateway.raw(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert raw.endswith(b"5\r\nhello\r\n0\r\n\r\n"), raw
    assert upstream.requests[-1].header("te") is None
    raw = gateway.raw(b"GET /x HTTP/1.0\r\nHost: a\r\nTE: trailers\r\n\r\n")
    assert raw.endswith(b"\r\n\r\nhello"), raw


def test_a_connection_to_an_upstream_is_used_again_after_trailers(gateway: Gateway, upstream: Upstream) -> None:
    gateway.ask("GET", "/x")
    before = upstream.connections
    for _ in range(5):
        assert gateway.ask("GET", "/x").body == b"hello"
    assert upstream.connections == before


@pytest.mark.parametrize("path", ["/x", "/over-h2", "/partners", "/again", "/keyed"])
def test_trailers_of_a_request_reach_its_upstream_but_for_those_that_belong_before_the_body(
    gateway: Gateway, upstream: Upstream, path: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Host\r\nX-Api-Key: {KEY}\r\n"
    key = "Idempotency-Key: trailers\r\n" if path == "/keyed" else ""
    # Another request follows in the same bytes: it begins behind the trailers.
    last = b"POST /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlast"
    before = len(upstream.requests)
    raw = gateway.raw((head + key).encode() + b"\r\n" + BODY + last)
    assert raw.count(b"HTTP/1.1 200 OK") == 2, raw
    *sent, after = upstream.requests[before:]
    assert len(sent) == (2 if path == "/again" else 1)
    for request in sent:
        assert (request.body, request.header("trailer")) == (b"hello", "x-sum")
        # Routes without changes of headers have nothing against this one.
        internal = [("x-internal", "2"), ("x_internal", "2")] if path in ("/partners", "/keyed") else []
        assert request.trailers == [("x-sum", "1"), *internal]
    assert (after.path, after.body, after.trailers) == ("/last", b"last", [])


@pytest.mark.parametrize(
    "trailers",
    [
        b"X-Sum 1\r\n\r\n",
        b"X-Sum : 1\r\n\r\n",
        b"X-Sum: 1\r\n 2\r\n\r\n",
        b"X-Sum: 1\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"x: y\r\n" * 65 + b"\r\n",
        b"x: " + b"y" * 9000 + b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("path", ["/x", "/keyed", "/over-h2"])
def test_malformed_trailers_of_a_request_are_refused(gateway: Gateway, upstream: Upstream, trailers: bytes, path: str) -> None:
    before = len(upstream.requests)
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nIdempotency-Key: bad\r\n\r\n2\r\nab\r\n0\r\n".encode()
    raw = gateway.raw(head + trailers + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 400 ") and b"connection: close\r\n" in raw and raw.count(b"HTTP/1.1 ") == 1, raw
    assert len(upstream.requests) == before, "it never was whole"


def test_malformed_trailers_of_a_reply_break_it_off(gateway: Gateway, upstream: Upstream) -> None:
    raw = gateway.raw(b"GET /bad HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 200 ") and raw.endswith(b"5\r\nhello\r\n"), "no last chunk"
    before = upstream.connections
    assert gateway.ask("GET", "/x").body == b"hello"
    assert upstream.connections == before + 1, "the connection is not used again"


def test_a_reply_that_is_kept_is_kept_without_its_trailers(gateway: Gateway) -> None:
    head = b"POST /keyed HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nIdempotency-Key: k\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
    first, again = [gateway.raw(head).split(b"\r\n\r\n", 1) for _ in range(2)]
    assert first[1] == again[1] == b"hello"
    assert b"idempotent-replayed: true" in again[0] and b"idempotent-replayed" not in first[0]
