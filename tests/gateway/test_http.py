"""HTTP/1.1 through the gateway: routes, headers, bodies, framing, refusals."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from .scene import PATIENCE_SECONDS, Gateway, Request, Upstream, echo, until

CONFIG = """
[gateway]
forwarded = "both"

[gateway.listener.web]
address = "{web}"
header-size = "4kb"
body-size = "100kb"
header-time = "500ms"
body-idle = "500ms"
idle = "2s"

[gateway.route.api]
path-prefix = "/api"
pool = "api"
rewrite.prefix = "/inner"
request-headers = { remove = ["x-secret"], set = { x-set = "1" } }
response-headers = { add = { x-by = "skep" } }

[gateway.route.rest]
pool = "api"

[gateway.route.fixed]
path = "/fixed"
answer = { status = 418, body = "short and stout", headers = { x-pot = "tea" } }

[gateway.route.old]
path-prefix = "/old"
redirect = "https://{host}{path}{query}"

[gateway.route.inside]
path-prefix = "/inside"
answer = "in"
deny = "127.0.0.0/8"

[gateway.route.narrow]
path = "/narrow"
answer = "through"
limits = "few"

[gateway.limit.few]
requests = 1
per = "1h"
burst = 2
scope = "node"

[gateway.pool.api]
upstreams = [{ address = "UPSTREAM" }]
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(behave=behave) as one:
        yield one


@pytest.fixture(scope="module")
def gateway(upstream: Upstream) -> Iterator[Gateway]:
    text = CONFIG.replace("UPSTREAM", upstream.address).replace('answer = "in"', 'answer = { body = "in" }')
    with Gateway(text.replace('answer = "through"', 'answer = { body = "through" }')) as one:
        yield one  # type: ignore[misc]


def behave(upstream: Upstream, request: Request, to: socket.socket) -> bool:
    if request.path == "/chunked":
        to.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")
        return True
    if request.path == "/until-close":
        to.sendall(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        return False
    if request.path == "/events":
        to.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        upstream.ended.wait(2)
        to.sendall(b"data: 2\n\n")
        return False
    if request.path == "/big":
        body = bytes(range(256)) * 4096
        to.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        return True
    if request.path == "/none":
        to.sendall(b"HTTP/1.1 204 No Content\r\nconnection: x-hop\r\nx-hop: 1\r\nx-end: 1\r\n\r\n")
        return True
    if request.path == "/ws":
        to.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        while more := to.recv(1000):
            to.sendall(more.upper())
        return False
    return echo(upstream, request, to)


def test_a_request_goes_to_the_upstream_of_its_route_as_the_route_changes_it(gateway: Gateway) -> None:
    answer = gateway.ask("GET", "/api/x?a=1&b", headers={"X-Secret": "s", "Host": "example.com", "X-Forwarded-For": "6.6.6.6"})
    assert answer.status == 200 and answer.header("x-by") == "skep"
    assert answer.json()["path"] == "/inner/x?a=1&b"
    assert answer.seen("x-secret") is None and answer.seen("x-set") == "1"
    assert answer.seen("host") == "example.com"
    assert answer.seen("x-forwarded-for") == "127.0.0.1", "who is not trusted is not believed"
    assert answer.seen("x-forwarded-host") == "example.com" and answer.seen("x-forwarded-proto") == "http"
    assert answer.seen("forwarded") == 'for=127.0.0.1;proto=http;host="example.com"'
    assert len(answer.seen("x-request-id") or "") == 32
    assert 0 < int(answer.seen("x-skep-timeout-ms") or "0") <= 30_000
    assert gateway.ask("GET", "/api/y", headers={"X-Request-Id": "mine"}).seen("x-request-id") == "mine"


def test_paths_have_one_spelling(gateway: Gateway) -> None:
    assert gateway.ask("GET", "/api/../%61pi/./x").json()["path"] == "/inner/x"
    assert gateway.ask("GET", "/a%2fb").json()["path"] == "/a%2Fb"
    assert gateway.ask("GET", "/../x").status == 400
    assert gateway.ask("GET", "/%00").status == 400


def test_answers_of_the_gateway_itself(gateway: Gateway) -> None:
    fixed = gateway.ask("GET", "/fixed")
    assert (fixed.status, fixed.body, fixed.header("x-pot")) == (418, b"short and stout", "tea")
    old = gateway.ask("GET", "/old/x?y", headers={"Host": "a.example:80"})
    assert (old.status, old.header("location")) == (308, "https://a.example/old/x?y")
    inside = gateway.ask("GET", "/inside")
    assert inside.status == 403 and inside.header("x-request-id")


def test_a_rate_limit_of_the_node_lets_its_burst_through(gateway: Gateway) -> None:
    answers = [gateway.ask("GET", "/narrow") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[0].header("ratelimit-policy") == '"few";q=1;w=3600'
    assert (answers[1].header("ratelimit") or "").startswith('"few";r=0;')
    assert int(answers[2].header("retry-after") or "0") > 3000


def test_bodies_go_through_in_both_forms(gateway: Gateway, upstream: Upstream) -> None:
    assert gateway.ask("POST", "/p", body=b"x" * 5000).json()["body"] == "x" * 5000
    raw = gateway.raw(
        b"POST /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"
    )
    assert b'"body": "abcde"' in raw
    empty = gateway.ask("POST", "/p", body=b"")
    assert empty.json()["body"] == "" and empty.seen("content-length") == "0"
    assert gateway.ask("GET", "/chunked").body == b"hello!"
    assert gateway.ask("GET", "/until-close").body == b"all of it"
    big = gateway.ask("GET", "/big")
    assert big.body == bytes(range(256)) * 4096 and big.header("content-length") == str(1 << 20)
    twice = gateway.raw(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert [part.partition(b"\r\n\r\n")[2] for part in twice.split(b"HTTP/1.1 200 OK\r\n")[1:]] == [big.body] * 2
    none = gateway.ask("GET", "/none")
    assert (none.status, none.body, none.header("x-hop"), none.header("x-end")) == (204, b"", None, "1")
    head = gateway.ask("HEAD", "/anything")
    assert (head.status, head.body, head.header("content-length")) == (200, b"", "0")


def test_a_connection_serves_many_requests_and_so_do_those_to_the_upstream(gateway: Gateway, upstream: Upstream) -> None:
    before = upstream.connections
    one = b"GET /k HTTP/1.1\r\nHost: a\r\n\r\n"
    raw = gateway.raw(one * 20 + b"GET /k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert raw.count(b"HTTP/1.1 200 OK") == 21, "also when they are all sent at once"
    assert upstream.connections - before <= 1


def test_http_1_0_is_served_and_closed(gateway: Gateway) -> None:
    raw = gateway.raw(b"GET /chunked HTTP/1.0\r\nHost: a\r\n\r\n")
    assert b"connection: close" in raw and b"chunked" not in raw and raw.endswith(b"hello!")


def test_a_client_that_waits_for_continue_is_told_to_go_on(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.web), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(b"hi")
        assert b'"body": "hi"' in connection.recv(10_000)


def test_events_arrive_while_the_reply_goes_on(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.web), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        began, got = time.monotonic(), b""
        while b"data: 1" not in got:
            got += connection.recv(1000)
        assert time.monotonic() - began < 2, "the first event came before the second was made"
        while b"data: 2" not in got:
            got += connection.recv(1000)


def test_a_websocket_is_carried_in_both_directions(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.web), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
        got = b""
        while not got.endswith(b"EARLY"):
            got += connection.recv(1000)
        assert got.startswith(b"HTTP/1.1 101") and b"upgrade: websocket" in got
        for word in (b"one", b"two" * 10_000):
            connection.sendall(word)
            back = b""
            while len(back) < len(word):
                back += connection.recv(100_000)
            assert back == word.upper()


def test_bodies_above_the_limit_are_refused(gateway: Gateway, upstream: Upstream) -> None:
    before = len(upstream.seen("/large"))
    raw = gateway.raw(b"POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 413") and b"x-request-id" in raw
    assert len(upstream.seen("/large")) == before
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    raw = gateway.raw(b"POST /large HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 8)
    assert raw.startswith(b"HTTP/1.1 413")


def test_a_client_that_stalls_in_its_body_is_told_so(gateway: Gateway) -> None:
    raw = gateway.raw(b"POST /stall HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    assert raw.startswith(b"HTTP/1.1 408")


def test_headers_drop_by_drop_end_in_time(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.web), timeout=PATIENCE_SECONDS) as connection:
        connection.settimeout(0.05)
        got, sent = b"", 0
        for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"x" * 2000:
            connection.sendall(bytes([byte]))
            sent += 1
            try:
                got = connection.recv(1000)
                break
            except TimeoutError:
                pass
        assert got.startswith(b"HTTP/1.1 408"), sent


def test_heads_that_are_too_large_are_refused(gateway: Gateway) -> None:
    raw = gateway.raw(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 5000 + b"\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 431")
    raw = gateway.raw(b"GET /" + b"x" * 5000)
    assert raw.startswith(b"HTTP/1.1 414")


SMUGGLING = {
    "CL.TE": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE.CL": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "TE.TE": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "one length twice": b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "a list of lengths": b"Content-Length: 1, 1\r\n\r\na",
    "a signed length": b"Content-Length: +1\r\n\r\na",
    "space before colon": b"Content-Length : 1\r\n\r\na",
    "a folded line": b"X: a\r\n b\r\n\r\n",
    "a folded coding": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare CR": b"X: a\rContent-Length: 5\r\n\r\n",
    "bare LF": b"X: a\nContent-Length: 5\r\n\r\n",
    "NUL": b"X: a\0b\r\n\r\n",
    "two hosts": b"Host: b\r\n\r\n",
    "a coding that hides": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a coding with a tail": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("case", SMUGGLING)
def test_what_two_servers_could_read_in_two_ways_is_refused(gateway: Gateway, upstream: Upstream, case: str) -> None:
    before = len(upstream.requests)
    raw = gateway.raw(b"POST /smuggled HTTP/1.1\r\nHost: a\r\n" + SMUGGLING[case] + b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 400 "), raw
    assert raw.count(b"HTTP/1.1") == 1, "nothing behind it is read"
    assert len(upstream.requests) == before


def test_a_broken_chunk_is_refused_and_its_rest_not_read(gateway: Gateway) -> None:
    raw = gateway.raw(b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 400 ") and raw.count(b"HTTP/1.1") == 1


def test_a_reply_that_comes_before_the_end_of_the_body_cuts_nothing_off(gateway: Gateway, upstream: Upstream) -> None:
    """The upload goes on to the upstream while its reply is with the client."""
    whole: list[bytes] = []
    usual = upstream.behave

    def early(own: Upstream, request: Request, to: socket.socket) -> bool:
        if request.path != "/early":
            return usual(own, request, to)
        whole.append(request.body)
        return True

    upstream.behave = early
    upstream.early = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly"
    try:
        with socket.create_connection(("127.0.0.1", gateway.web), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(b"POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            got = b""
            while not got.endswith(b"early"):
                got += connection.recv(1000)
            connection.sendall(b"3\r\ndef\r\n0\r\n\r\nGET /fixed HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: whole, "the upstream has all of it")
            assert whole == [b"abcdef"]
            while not got.endswith(b"short and stout"):
                more = connection.recv(1000)
                assert more, "the connection goes on"
                got += more
    finally:
        upstream.behave, upstream.early = usual, b""


def test_what_is_counted_is_shown(gateway: Gateway) -> None:
    gateway.ask("GET", "/counted")

    def shown() -> bool:
        text = gateway.metrics()
        return 'skep_gateway_requests_total{route="rest",status="2xx"}' in text and "skep_gateway_upstream_attempts_total{" in text

    until(shown, "the route and the upstream are in /metrics")


def test_a_client_that_leaves_ends_its_attempt(gateway: Gateway, upstream: Upstream) -> None:
    began = threading.Event()
    ended = threading.Event()
    usual = upstream.behave

    def watch(own: Upstream, request: Request, to: socket.socket) -> bool:
        if request.path != "/left":
            return usual(own, request, to)
        began.set()
        to.settimeout(PATIENCE_SECONDS)
        assert to.recv(1) == b"", "the gateway closes the connection"
        ended.set()
        return False

    upstream.behave = watch
    try:
        with socket.create_connection(("127.0.0.1", gateway.web)) as connection:
            connection.sendall(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n")
            assert began.wait(PATIENCE_SECONDS)
        assert ended.wait(PATIENCE_SECONDS)
    finally:
        upstream.behave = usual
