"""Idempotency keys at one node: what the first request leaves, and what a repeat gets."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
from collections.abc import Iterator

import pytest

from . import scene
from .scene import PATIENCE_SECONDS, Answer, Gateway, Request, Upstream, reply, until

CONFIG = """
[gateway.listener.web]
address = "{web}"

[gateway.route.pay]
path-prefix = "/pay"
pool = "one"
idempotency = { body-size = "10kb", reply-size = "10kb", retention = "1h" }

[gateway.route.tenants]
host = "*.shop.example"
path-prefix = "/pay"
pool = "one"
idempotency = true

[gateway.route.strict]
path-prefix = "/strict"
pool = "one"
idempotency = { required = true, duplicate = "conflict", by = ["x-customer"] }

[gateway.route.short]
path-prefix = "/short"
pool = "one"
timeout = { request = "300ms", total = "1s" }
idempotency = true

[gateway.route.again]
path-prefix = "/again"
pool = "one"
idempotency = { unknown = "repeat" }

[gateway.route.pair]
path-prefix = "/pair"
pool = "pair"
retry = { repeat = "key" }
idempotency = true

[gateway.route.careful]
path-prefix = "/careful"
pool = "pair"
retry = { not-run = [503] }
idempotency = true

[gateway.route.plain]
path-prefix = "/plain"
pool = "one"

[gateway.pool.one]
upstreams = [{ address = "A" }]
eject = false
breaker = false

[gateway.pool.pair]
upstreams = [{ address = "A" }, { address = "B" }]
balance = "round-robin"
eject = false
breaker = false
"""

numbers = itertools.count()


def numbered(upstream: Upstream, request: Request, to: socket.socket) -> bool:
    """No two replies are the same."""
    headers = [("x-order", str(next(numbers))), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("date", "Sun, 22 Nov 2026 05:00:00 GMT")]
    to.sendall(reply(f"order {next(numbers)}".encode(), "201 Created", headers))
    return True


class Pair:
    def __init__(self) -> None:
        self.a, self.b = Upstream("a", behave=numbered), Upstream("b", behave=numbered)
        self.gateway: Gateway

    def post(self, path: str, key: str | None, body: bytes = b"{}", **headers: str) -> Answer:
        own = {} if key is None else {"idempotency-key": key}
        return self.gateway.ask("POST", path, body, {**own, **{k.replace("_", "-"): v for k, v in headers.items()}})

    def seen(self, path: str) -> int:
        return len(self.a.seen(path)) + len(self.b.seen(path))


@pytest.fixture(scope="module")
def scene_() -> Iterator[Pair]:
    pair = Pair()
    text = CONFIG.replace('"A"', f'"{pair.a.address}"').replace('"B"', f'"{pair.b.address}"')
    with pair.a, pair.b, Gateway(text) as gateway:
        pair.gateway = gateway
        yield pair


@pytest.fixture()
def pair(scene_: Pair) -> Pair:
    scene_.a.behave = scene_.b.behave = numbered
    return scene_


def told(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.header("idempotency-status")


def test_a_repeat_gets_the_first_reply_and_the_upstream_saw_one_request(pair: Pair) -> None:
    first = pair.post("/pay/1", "k1", authorization="a")
    assert first.status == 201 and first.header("idempotent-replayed") is None
    for _ in range(3):
        again = pair.post("/pay/1", "k1", authorization="a")
        assert (again.status, again.body) == (201, first.body)
        assert again.header("idempotent-replayed") == "true"
        kept = [line for line in again.headers if line[0] != "idempotent-replayed"]
        assert sorted(kept) == sorted(first.headers), "headers, too, each value of them"
    assert pair.seen("/pay/1") == 1
    assert pair.post("/pay/1", '"k1"', authorization="a").body == first.body, "quotes are no part of a key"
    assert pair.post("/pay/1", "k2", authorization="a").body != first.body
    assert pair.post("/pay/1", None, authorization="a").body != first.body, "without a key it is a request as others"
    assert pair.seen("/pay/1") == 3


def test_the_same_key_with_another_request_is_422(pair: Pair) -> None:
    pair.post("/pay/other", "o1", b"ten")
    for path, body in (("/pay/other", b"twenty"), ("/pay/another", b"ten"), ("/pay/other?x=1", b"ten")):
        assert told(pair.post(path, "o1", body)) == (422, "other-request")
    assert told(pair.gateway.ask("PUT", "/pay/other", b"ten", {"idempotency-key": "o1"})) == (422, "other-request")
    assert pair.seen("/pay/other") == 1 and pair.seen("/pay/another") == 0


class Gate:
    """An upstream's behaviour that waits to be let on."""

    def __init__(self) -> None:
        self.came, self.go_on = threading.Event(), threading.Event()

    def __call__(self, upstream: Upstream, request: Request, to: socket.socket) -> bool:
        self.came.set()
        self.go_on.wait(PATIENCE_SECONDS)
        return numbered(upstream, request, to)


def test_a_duplicate_meanwhile_waits_or_is_409(pair: Pair) -> None:
    for path in ("/pay/slow", "/strict/slow"):
        pair.a.behave = gate = Gate()
        answers: list[Answer] = []

        def post(path: str = path, answers: list[Answer] = answers) -> None:
            answers.append(pair.post(path, "s1"))

        threads = [threading.Thread(target=post) for _ in range(5)]
        threads[0].start()
        assert gate.came.wait(PATIENCE_SECONDS)
        for thread in threads[1:]:
            thread.start()
        if path == "/strict/slow":
            for thread in threads[1:]:
                thread.join(PATIENCE_SECONDS)
            assert [told(answer) for answer in answers] == [(409, "under-way")] * 4
            assert all(answer.header("retry-after") for answer in answers)
        gate.go_on.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        assert len(answers) == 5
        made = {answer.body for answer in answers if answer.status == 201}
        assert len(made) == 1 and pair.seen(path) == 1
        if path == "/pay/slow":
            assert {answer.status for answer in answers} == {201}


def test_what_is_no_key_is_400_and_reaches_nobody(pair: Pair) -> None:
    one = b"POST /strict/bad HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n%b\r\n{}"
    for lines in (b"", b"Idempotency-Key:\r\n", b"Idempotency-Key: a\r\nIdempotency-Key: a\r\n", b"Idempotency-Key: %b\r\n" % (b"k" * 256)):
        assert pair.gateway.raw(one % lines).startswith(b"HTTP/1.1 400 "), lines
    upgrade = b"Idempotency-Key: u\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    assert pair.gateway.raw(one.replace(b"Connection: close\r\n", b"Connection: close\r\n" + upgrade) % b"").startswith(b"HTTP/1.1 400 ")
    assert pair.seen("/strict/bad") == 0
    assert pair.gateway.ask("GET", "/strict/read").status == 201, "reading needs no key"


def test_a_body_above_the_limit_is_413_and_the_upstream_untouched(pair: Pair) -> None:
    limit = 10 << 10
    assert pair.post("/pay/big", "b1", b"x" * limit).status == 201
    assert pair.post("/pay/big", "b1", b"x" * limit).header("idempotent-replayed") == "true"
    assert pair.post("/pay/big", "b2", b"x" * (limit + 1)).status == 413
    chunked = b"POST /pay/big HTTP/1.1\r\nHost: a\r\nConnection: close\r\nIdempotency-Key: b3\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b"1000\r\n" + b"y" * 0x1000 + b"\r\n"
    assert pair.gateway.raw(chunked + piece * 3 + b"0\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    assert pair.gateway.raw(chunked + piece * 2 + b"0\r\n\r\n").startswith(b"HTTP/1.1 201 ")
    assert pair.seen("/pay/big") == 2
    assert pair.post("/plain/big", "b2", b"x" * (limit + 1)).status == 201, "other routes have no such limit"


def test_a_reply_above_the_limit_is_passed_on_and_not_kept(pair: Pair) -> None:
    body = bytes(range(256)) * 400

    def long(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        if request.path == "/pay/known":
            to.sendall(reply(body))
        else:
            to.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for at in range(0, len(body), 1000):
                piece = body[at : at + 1000]
                to.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            to.sendall(b"0\r\n\r\n")
        return True

    pair.a.behave = long
    for path in ("/pay/known", "/pay/chunked"):
        assert pair.post(path, "l" + path).body == body
        assert told(pair.post(path, "l" + path)) == (409, "not-kept")
        assert pair.seen(path) == 1


def test_a_stream_of_events_comes_as_it_is_sent(pair: Pair) -> None:
    go_on = threading.Event()

    def events(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        to.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        assert go_on.wait(PATIENCE_SECONDS)
        to.sendall(b"data: 2\n\n")
        return False

    pair.a.behave = events
    connection = http.client.HTTPConnection("127.0.0.1", pair.gateway.web, timeout=PATIENCE_SECONDS)
    connection.request("POST", "/pay/events", b"{}", {"idempotency-key": "e1"})
    response = connection.getresponse()
    assert response.read(9) == b"data: 1\n\n"
    go_on.set()
    assert response.read() == b"data: 2\n\n"
    assert told(pair.post("/pay/events", "e1")) == (409, "not-kept")
    assert pair.seen("/pay/events") == 1


@pytest.mark.parametrize("fault", ["reset", "reset_in_body", "garbage", "hang"])
def test_an_outcome_that_is_not_known_is_told_and_the_request_not_sent_again(pair: Pair, fault: str) -> None:
    pair.a.behave = {"reset": scene.reset, "reset_in_body": scene.reset_in_body, "garbage": scene.garbage, "hang": scene.hang}[fault]
    path = f"/short/{fault}"
    assert pair.post(path, "u" + fault).status in (502, 504)
    pair.a.behave = numbered
    for _ in range(2):
        assert told(pair.post(path, "u" + fault)) == (409, "unknown")
    assert pair.seen(path) == 1


def test_where_the_upstream_honours_keys_an_unknown_outcome_is_tried_again(pair: Pair) -> None:
    pair.a.behave = scene.reset
    assert pair.post("/again/1", "r1").status == 502
    pair.a.behave = numbered
    assert pair.post("/again/1", "r1").status == 201
    assert pair.post("/again/1", "r1").header("idempotent-replayed") == "true"
    assert pair.seen("/again/1") == 2


def test_what_did_nothing_leaves_its_key_free_and_a_500_does_not(pair: Pair) -> None:
    pair.a.stop()
    try:
        assert pair.post("/pay/down", "d1").status == 502
    finally:
        pair.a.listen()
    assert pair.post("/pay/down", "d1").status == 201
    pair.a.behave = scene.status(429)
    assert pair.post("/pay/busy", "d2").status == 429
    pair.a.behave = numbered
    assert pair.post("/pay/busy", "d2").status == 201
    pair.a.behave = scene.status(500)
    assert pair.post("/pay/broken", "d3").status == 500
    pair.a.behave = numbered
    again = pair.post("/pay/broken", "d3")
    assert (again.status, again.header("idempotent-replayed")) == (500, "true")
    # Where a status says that nothing was done, it frees the key once nobody else can be asked.
    pair.a.behave = pair.b.behave = scene.status(503)
    assert pair.post("/careful/1", "d4").status == 503
    pair.a.behave = pair.b.behave = numbered
    assert pair.post("/careful/1", "d4").status == 201


def test_a_key_lets_a_post_be_tried_elsewhere_only_if_the_route_says_so(pair: Pair) -> None:
    pair.a.behave = scene.reset
    answers = [pair.post(f"/pair/{n}", f"p{n}") for n in range(4)]
    assert {answer.status for answer in answers} == {201}
    assert sum(len(pair.a.seen(f"/pair/{n}")) for n in range(4)) >= 1, "some were tried at the bad one first"
    for n, answer in enumerate(answers):
        assert pair.post(f"/pair/{n}", f"p{n}").body == answer.body
    answers = [pair.post(f"/careful/p{n}", f"p{n}") for n in range(4)]
    assert {answer.status for answer in answers} == {201, 502}
    assert all(pair.seen(f"/careful/p{n}") == 1 for n in range(4))


def test_a_client_that_goes_away_finds_its_reply_later(pair: Pair) -> None:
    pair.a.behave = gate = Gate()
    with socket.create_connection(("127.0.0.1", pair.gateway.web)) as connection:
        connection.sendall(b"POST /pay/gone HTTP/1.1\r\nHost: a\r\nIdempotency-Key: g1\r\nContent-Length: 2\r\n\r\n{}")
        assert gate.came.wait(PATIENCE_SECONDS)
    gate.go_on.set()
    again = pair.post("/pay/gone", "g1")
    assert (again.status, again.header("idempotent-replayed")) == (201, "true")
    assert pair.seen("/pay/gone") == 1


def test_nobody_gets_the_reply_of_another_caller(pair: Pair) -> None:
    mine = pair.post("/pay/mine", "c1", authorization="Bearer ann")
    assert pair.post("/pay/mine", "c1", authorization="Bearer bob").body != mine.body
    assert pair.post("/pay/mine", "c1").body != mine.body
    assert pair.post("/pay/mine", "c1", authorization="Bearer ann").body == mine.body
    mine = pair.post("/strict/mine", "c1", x_customer="ann", authorization="Bearer 1")
    assert pair.post("/strict/mine", "c1", x_customer="ann", authorization="Bearer 2").body == mine.body


def test_nobody_gets_the_reply_of_another_tenant_or_another_users_session(pair: Pair) -> None:
    mine = pair.post("/pay/host", "h1", host="a.shop.example")
    other = pair.post("/pay/host", "h1", host="b.shop.example")
    assert (other.status, other.header("idempotent-replayed")) == (201, None)
    again = pair.post("/pay/host", "h1", host="A.shop.example")
    assert (again.body, again.all("set-cookie")) == (mine.body, []), "who is not known gets no session by a key"
    assert mine.all("set-cookie") == ["a=1", "b=2"]
    first = pair.post("/pay/user", "h2", cookie="user=ann")
    assert told(pair.post("/pay/user", "h2", cookie="user=bob")) == (422, "other-request")
    assert told(pair.post("/pay/user", "h2")) == (422, "other-request")
    assert pair.post("/pay/user", "h2", cookie="user=ann").body == first.body
    pair.post("/pay/kind", "h3", content_type="application/json")
    assert told(pair.post("/pay/kind", "h3", content_type="application/xml")) == (422, "other-request")
    assert (pair.seen("/pay/host"), pair.seen("/pay/user"), pair.seen("/pay/kind")) == (2, 1, 1)


def test_a_reply_is_kept_for_as_long_as_the_route_says(pair: Pair) -> None:
    with pair.gateway.connect() as store:
        before = set(store.call("KEYS", "skep.gateway.once:*")[1])
        first = pair.post("/pay/kept", "t1")
        ((_, name),) = set(store.call("KEYS", "skep.gateway.once:*")[1]) - before
        kind, left = store.call("PTTL", name)
        assert kind == ":" and 3_500_000 < int(left) <= 3_600_000, left
        assert store.call("DEL", name) == (":", 1)
        assert pair.post("/pay/kept", "t1").body != first.body, "and then the key is free"
        # Something else under the name is not taken for a reply, and nothing is sent.
        assert store.call("SET", name, "what is this") == ("+", b"OK")
        assert told(pair.post("/pay/kept", "t1")) == (409, "unknown")
        assert pair.seen("/pay/kept") == 2


SMALL = """
[gateway.listener.web]
address = "{web}"

[gateway.route.pay]
path-prefix = "/pay"
pool = "p"
idempotency = true

[gateway.route.plain]
pool = "p"

[gateway.pool.p]
upstreams = [{ address = "A" }]
"""


def test_answers_are_counted_by_kind_and_a_first_request_is_two_writes() -> None:
    with Upstream(behave=numbered) as upstream, Gateway(SMALL.replace("A", upstream.address)) as gateway:

        def metric(name: str) -> int:
            lines = [line for line in gateway.metrics().splitlines() if line.startswith(name)]
            return int(float(lines[0].split()[-1])) if lines else 0

        def mark(total: int) -> None:
            """One more write, and all that there were are so many in the end. What is counted is shown a while later."""
            assert gateway_store.call("SET", "mark", total) == ("+", b"OK")
            until(lambda: metric("skep_log_entries_applied_total") >= total, f"{total} entries")
            assert metric("skep_log_entries_applied_total") == total

        count = 50
        with gateway.connect() as gateway_store:
            assert gateway_store.call("SET", "mark", 0) == ("+", b"OK")
            found = [0]
            # What is shown is up to a second old; two hundred looks that are the same span more than that.
            until(lambda: found.append(metric("skep_log_entries_applied_total")) or len(found) > 200 and found[-1] == found[-200], "it is idle")
            total = found[-1]
            for path, body, status, writes in (
                ("/plain", b"{}", 201, 0),
                ("/pay", b"{}", 201, 2),
                ("/pay", b"{}", 201, 1),
                ("/pay", b"other", 422, 1),
            ):
                for n in range(count):
                    assert gateway.ask("POST", path, body, {"idempotency-key": f"k{n}"}).status == status
                total += writes * count + 1
                mark(total)
        assert len(upstream.seen("/pay")) == count
        kinds = ("first", "replayed", "other-request")
        names = [f'skep_gateway_keyed_answers_total{{kind="{kind}"}}' for kind in kinds]
        until(lambda: [metric(name) for name in names] == [count] * 3, "each is counted once")
        assert metric("skep_gateway_keyed_in_flight") == 0


def test_a_node_that_stops_keeps_the_reply_that_nobody_waits_for() -> None:
    with Upstream(behave=(gate := Gate())) as upstream, Gateway(SMALL.replace("A", upstream.address)) as gateway:
        # The cluster keeps its first configuration, and with it the port.
        port = gateway.web
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"POST /pay HTTP/1.1\r\nHost: a\r\nIdempotency-Key: stop\r\nContent-Length: 2\r\n\r\n{}")
            assert gate.came.wait(PATIENCE_SECONDS)
        assert gateway.process is not None
        gateway.process.terminate()

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return False
            except ConnectionRefusedError:
                return True

        until(refused, "it takes no more")
        gate.go_on.set()
        assert gateway.wait_end() == 0
        gateway.start()
        again = gateway.ask("POST", "/pay", b"{}", {"idempotency-key": "stop"}, port=port)
        assert (again.status, again.header("idempotent-replayed")) == (201, "true")
        assert len(upstream.seen("/pay")) == 1
