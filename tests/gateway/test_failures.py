"""Upstreams that fail, hang, reset, send garbage, come and go; and the gateway's own stop."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from . import scene
from .scene import PATIENCE_SECONDS, Gateway, Request, Upstream, echo, until

CONFIG = """
[gateway.listener.web]
address = "{web}"

[gateway.access-log]

[gateway.route.pair]
path-prefix = "/pair"
pool = "pair"

[gateway.route.single]
path-prefix = "/single"
pool = "single"
timeout = { request = "300ms", idle = "300ms" }

[gateway.route.backed]
path-prefix = "/backed"
pool = "probed"
failover = { pool = "backup", back-after = "0s" }

[gateway.route.sticky]
path-prefix = "/sticky"
pool = "sticky"

[gateway.pool.pair]
upstreams = [{ address = "A" }, { address = "B" }]
balance = "round-robin"
eject = false
breaker = false

[gateway.route.load]
path-prefix = "/load"
pool = "load"

[gateway.pool.load]
upstreams = [{ address = "A" }, { address = "B" }]

[gateway.pool.single]
upstreams = [{ address = "A" }]
eject = false
breaker = false

[gateway.pool.probed]
upstreams = [{ address = "A" }]
health = { path = "/health", interval = "200ms", timeout = "200ms", rise = 1, fall = 1 }

[gateway.pool.backup]
upstreams = [{ address = "B" }]

[gateway.pool.sticky]
upstreams = [{ address = "A" }, { address = "B" }]
sticky = { cookie = "s" }
"""


class Pair:
    def __init__(self) -> None:
        self.a, self.b = Upstream("a"), Upstream("b")
        self.gateway: Gateway

    def calm(self) -> None:
        self.a.behave = self.b.behave = echo
        self.a.requests.clear()
        self.b.requests.clear()


@pytest.fixture(scope="module")
def scene_() -> Iterator[Pair]:
    pair = Pair()
    text = CONFIG.replace('"A"', f'"{pair.a.address}"').replace('"B"', f'"{pair.b.address}"')
    with pair.a, pair.b, Gateway(text) as gateway:
        pair.gateway = gateway  # type: ignore[assignment]
        yield pair


@pytest.fixture()
def pair(scene_: Pair) -> Pair:
    scene_.calm()
    return scene_


def test_both_upstreams_of_a_pool_serve(pair: Pair) -> None:
    found = {pair.gateway.ask("GET", "/pair").json()["upstream"] for _ in range(4)}
    assert found == {"a", "b"}


@pytest.mark.parametrize("fault", ["reset", "garbage", "hang_up", "status"])
def test_a_get_is_sent_to_the_other_upstream_and_a_post_is_not(pair: Pair, fault: str) -> None:
    behaviours = {
        "reset": scene.reset,
        "garbage": scene.garbage,
        "hang_up": lambda *_: False,
        "status": scene.status(503),
    }
    pair.a.behave = behaviours[fault]
    # Both get their turn, so one of two requests meets the bad one.
    for _ in range(3):
        answer = pair.gateway.ask("GET", f"/pair/{fault}")
        assert (answer.status, answer.json()["upstream"]) == (200, "b")
    assert {r.header("x-skep-attempt") for r in pair.a.seen(f"/pair/{fault}")} == {"1"}
    assert "2" in {r.header("x-skep-attempt") for r in pair.b.seen(f"/pair/{fault}")}
    statuses = {pair.gateway.ask("POST", f"/pair/p-{fault}", body=b"once").status for _ in range(4)}
    assert statuses == {200, 503 if fault == "status" else 502}
    assert len(pair.a.seen(f"/pair/p-{fault}") + pair.b.seen(f"/pair/p-{fault}")) == 4, "each was sent once"


def test_a_body_is_sent_again_from_its_beginning_if_it_is_kept(pair: Pair) -> None:
    pair.a.behave = scene.status(503)
    for size, expected in ((60_000, [200, 200]), (70_000, [200, 503])):
        body = bytes(range(256)) * (size // 256)
        answers = [pair.gateway.ask("PUT", f"/pair/{size}", body=body) for _ in range(2)]
        assert sorted(answer.status for answer in answers) == expected
        assert all(r.body == body for r in pair.b.seen(f"/pair/{size}"))


def test_an_upstream_that_refuses_connections_costs_nobody_an_answer(pair: Pair) -> None:
    pair.a.stop()
    try:
        for _ in range(4):
            answer = pair.gateway.ask("POST", "/pair", body=b"x")
            assert (answer.status, answer.json()["upstream"]) == (200, "b"), "nothing was sent, so a POST goes on"
    finally:
        pair.a.listen()


def test_an_upstream_that_hangs_is_given_up_in_time(pair: Pair) -> None:
    pair.a.behave = scene.hang
    answer = pair.gateway.ask("GET", "/single/hang")
    assert answer.status == 504 and answer.header("x-request-id")
    assert b"the upstream did not answer in time" in answer.body


def test_a_reply_that_breaks_off_breaks_off_for_the_client_too(pair: Pair) -> None:
    pair.a.behave = scene.reset_in_body
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        pair.gateway.ask("GET", "/single/cut")

    def stall(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        to.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        upstream.ended.wait(PATIENCE_SECONDS)
        return False

    pair.a.behave = stall
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        pair.gateway.ask("GET", "/single/stalled")


def test_a_large_reply_that_breaks_off_or_pauses_is_not_taken_for_a_whole_one(pair: Pair) -> None:
    body = bytes(range(256)) * 4096
    for path, ends in (("cut", True), ("stalled", False)):

        def part(upstream: Upstream, request: Request, to: socket.socket, ends: bool = ends) -> bool:
            to.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body[: len(body) // 2])
            return False if ends else scene.hang(upstream, request, to)

        pair.a.behave = part
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)) as broken:
            pair.gateway.ask("GET", f"/single/{path}")
        if isinstance(broken.value, http.client.IncompleteRead):
            assert broken.value.partial == body[: len(body) // 2], "what came is there, and nothing else"


def test_a_client_that_goes_in_the_middle_of_a_large_reply_takes_nothing_with_it(pair: Pair) -> None:
    body = bytes(range(256)) * 32_768

    def large(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        to.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        return True

    pair.a.behave = large
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", pair.gateway.web), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(b"GET /single/large HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(100_000).startswith(b"HTTP/1.1 200")
    assert pair.gateway.ask("GET", "/single/large").body == body


def test_a_connection_that_the_upstream_closed_while_it_rested_is_not_noticed(pair: Pair) -> None:
    used: list[socket.socket] = []

    def once(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        used.append(to)
        return echo(upstream, request, to) and False

    pair.a.behave = once
    for _ in range(20):
        assert pair.gateway.ask("POST", "/single/once", body=b"x").status == 200
        until(lambda: used[-1].fileno() < 0, "the upstream has closed the connection")


def test_the_backup_takes_over_and_gives_back(pair: Pair) -> None:
    def ill(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        return scene.status(500)(upstream, request, to) if request.path == "/health" else echo(upstream, request, to)

    def serves(name: str) -> bool:
        return pair.gateway.ask("GET", "/backed").json()["upstream"] == name

    until(lambda: serves("a"), "the primary serves")
    pair.a.behave = ill
    until(lambda: serves("b"), "the backup has taken over")
    pair.a.behave = echo
    until(lambda: serves("a"), "the primary serves again")


def test_a_session_stays_at_its_upstream(pair: Pair) -> None:
    first = pair.gateway.ask("GET", "/sticky")
    cookie = (first.header("set-cookie") or "").split(";")[0]
    assert cookie.startswith("s=") and "HttpOnly" in (first.header("set-cookie") or "")
    for _ in range(10):
        answer = pair.gateway.ask("GET", "/sticky", headers={"Cookie": f"x=y; {cookie}"})
        assert answer.json()["upstream"] == first.json()["upstream"]
        assert answer.header("set-cookie") is None
    forged = cookie[:-1] + ("0" if cookie[-1] != "0" else "1")
    assert pair.gateway.ask("GET", "/sticky", headers={"Cookie": forged}).header("set-cookie")


def test_the_access_log_has_a_line_for_a_request(pair: Pair) -> None:
    pair.gateway.ask("GET", "/single/logged?x=1", headers={"X-Request-Id": "id-1"})

    def line() -> dict | None:
        lines = [json.loads(text) for text in pair.gateway.log().splitlines() if text.startswith("{")]
        return next((line for line in lines if line.get("id") == "id-1"), None)

    found = until(line, "the line is there")
    assert found["status"] == 200 and found["route"] == "single" and found["upstream"] == pair.a.address  # type: ignore[index]
    assert found["path"] == "/single/logged" and found["client"] == "127.0.0.1"  # type: ignore[index]


def test_an_upstream_is_killed_under_load_and_idempotent_requests_are_all_answered(pair: Pair) -> None:
    """POSTs are numbered: none reaches an upstream twice."""
    statuses: dict[str, list[int]] = {"GET": [], "POST": []}
    ends = time.monotonic() + 3
    lock = threading.Lock()

    def client(number: int) -> None:
        count = 0
        while time.monotonic() < ends:
            count += 1
            method = "POST" if count % 3 == 0 else "GET"
            answer = pair.gateway.ask(method, f"/load/{number}-{count}", body=b"x" if method == "POST" else None)
            with lock:
                statuses[method].append(answer.status)

    clients = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for thread in clients:
        thread.start()
    for _ in range(3):
        time.sleep(0.3)
        pair.a.stop()
        time.sleep(0.3)
        pair.a.listen()
    for thread in clients:
        thread.join()
    assert len(statuses["GET"]) > 50 and set(statuses["GET"]) == {200}
    assert set(statuses["POST"]) <= {200, 502}
    posts = [r.path for r in pair.a.requests + pair.b.requests if r.method == "POST"]
    assert len(posts) == len(set(posts)), "a POST was sent twice"


def test_sigterm_lets_the_request_under_way_end_and_takes_no_more() -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        began.set()
        go_on.wait(PATIENCE_SECONDS)
        return echo(upstream, request, to)

    with Upstream(behave=slow) as upstream:
        text = '[gateway.listener.web]\naddress = "{web}"\n[gateway.route.all]\npool = "p"\n[gateway.pool.p]\n'
        with Gateway(text + f'upstreams = [{{ address = "{upstream.address}" }}]\n') as gateway:
            idle = socket.create_connection(("127.0.0.1", gateway.web))
            with socket.create_connection(("127.0.0.1", gateway.web), timeout=PATIENCE_SECONDS) as busy:
                busy.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
                assert began.wait(PATIENCE_SECONDS)
                assert gateway.process is not None
                gateway.process.terminate()
                idle.settimeout(PATIENCE_SECONDS)
                assert idle.recv(1) == b"", "a connection without a request is closed"

                def refused() -> bool:
                    try:
                        socket.create_connection(("127.0.0.1", gateway.web)).close()
                        return False
                    except ConnectionRefusedError:
                        return True

                until(refused, "no more connections are taken")
                go_on.set()
                got = b""
                while more := busy.recv(10_000):
                    got += more
                assert got.startswith(b"HTTP/1.1 200") and b"connection: close" in got
            assert gateway.wait_end() == 0


def test_connections_above_the_limit_are_closed_and_the_others_served() -> None:
    text = '[gateway.listener.web]\naddress = "{web}"\nconnections = 3\n[gateway.route.all]\nanswer.body = "served"\n'
    one = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with Gateway(text) as gateway:
        kept = [socket.create_connection(("127.0.0.1", gateway.web), timeout=PATIENCE_SECONDS) for _ in range(3)]
        for each in kept:
            each.sendall(one)
            assert each.recv(1000).endswith(b"served")
        with socket.create_connection(("127.0.0.1", gateway.web), timeout=PATIENCE_SECONDS) as more:
            try:
                assert more.recv(1) == b""
            except ConnectionResetError:
                pass
        kept.pop().close()

        def served() -> bool:
            try:
                return gateway.ask("GET", "/").body == b"served"
            except (OSError, http.client.HTTPException):
                return False

        until(served, "there is room for one again")
        until(lambda: "skep_gateway_turned_away_total" in gateway.metrics(), "it is counted")


def test_two_thousand_silent_connections_stop_nobody() -> None:
    """Each sends a part of a head, and then nothing."""
    text = '[gateway.listener.web]\naddress = "{web}"\nheader-time = "3s"\n[gateway.route.all]\nanswer.body = "served"\n'
    with Gateway(text) as gateway:
        slow = [socket.create_connection(("127.0.0.1", gateway.web), timeout=PATIENCE_SECONDS) for _ in range(2000)]
        for each in slow:
            each.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-")
        assert all(gateway.ask("GET", "/").body == b"served" for _ in range(20))
        for each in slow:
            assert each.recv(1000).startswith(b"HTTP/1.1 408"), "and all of them end"
            each.close()


def test_a_file_that_is_missing_is_told_and_the_node_serves_on() -> None:
    gateway = Gateway('[gateway.listener.web]\naddress = "{web}"\ntls.certificates = [{ cert = "/no", key = "/no" }]\n')
    try:
        gateway.spawn()
        told = until(gateway.in_force, "what became of the configuration is told")
        assert "version 1" in str(told) and "/no" in str(told), told
        with gateway.connect() as connection:
            assert connection.call("PING") == ("+", b"PONG")
    finally:
        gateway.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('[gateway.listener.web]\naddress = "{web}"\nprotcol = "http"\n', "did you mean `protocol`"),
        ('[gateway.listener.web]\naddress = "nowhere"\n', "gateway.listener.web.address"),
    ],
)
def test_what_is_wrong_is_told_at_start(wrong: str, said: str) -> None:
    gateway = Gateway(wrong)
    try:
        gateway.spawn()
        assert gateway.wait_end() != 0
        assert said in gateway.log()
    finally:
        gateway.close()
