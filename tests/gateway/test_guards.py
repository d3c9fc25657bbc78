"""What a pool and a route do about an upstream that fails, hangs, is slow, resets in mid-body or sends garbage: ejection, breakers,
bulkheads."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from . import scene
from .scene import PATIENCE_SECONDS, Behaviour, Gateway, Request, Upstream, echo, until

CONFIG = """
[gateway.listener.web]
address = "{web}"

[gateway.route.ejecting]
path-prefix = "/ejecting"
pool = "ejecting"
retry = false
timeout = { request = "300ms", idle = "300ms" }

[gateway.pool.ejecting]
upstreams = ["A", "B", "C"]
balance = "round-robin"
breaker = false
eject = { consecutive = 3, failure-rate = false, time = "1s" }

[gateway.route.breaking]
path-prefix = "/breaking"
pool = "breaking"
retry = false
timeout = { request = "300ms", idle = "300ms" }

[gateway.pool.breaking]
upstreams = ["A"]
eject = false
breaker = { consecutive = 3, cool-down = "300ms", cool-down-max = "300ms", trials = 1 }

[gateway.route.slow]
path-prefix = "/slow"
pool = "slow"
retry = false

[gateway.pool.slow]
upstreams = ["A"]
eject = false
breaker = { slow = "50ms", slow-share = "50%", requests = 4, cool-down = "300ms", trials = 1 }

[gateway.route.whole]
path-prefix = "/whole"
pool = "plain"
retry = false
breaker = { consecutive = 3, cool-down = "300ms", trials = 1 }

[gateway.route.narrow]
path-prefix = "/narrow"
pool = "plain"
bulkhead = { requests = 2, queue = { size = 1, time = "20s", standing = "20s" } }

[gateway.route.wide]
path-prefix = "/wide"
pool = "plain"

[gateway.pool.plain]
upstreams = ["A"]
eject = false
breaker = false
"""


class Three:
    def __init__(self) -> None:
        self.a, self.b, self.c = (Upstream(name) for name in "abc")
        self.gateway: Gateway

    def all(self) -> list[Upstream]:
        return [self.a, self.b, self.c]

    def get(self, path: str) -> int:
        """Its status; 0 if the reply broke."""
        try:
            return self.gateway.ask("GET", path).status
        except (http.client.HTTPException, OSError):
            return 0

    def asked(self, upstream: Upstream, path: str, count: int = 12) -> int:
        """How many of so many requests came to an upstream."""
        before = len(upstream.requests)
        for _ in range(count):
            self.get(path)
        return len(upstream.requests) - before


@pytest.fixture()
def three() -> Iterator[Three]:
    three = Three()
    text = CONFIG
    for upstream in three.all():
        text = text.replace(f'"{upstream.name.upper()}"', f'"{upstream.address}"')
    with three.a, three.b, three.c, Gateway(text) as gateway:
        three.gateway = gateway  # type: ignore[assignment]
        yield three


def slow(upstream: Upstream, request: Request, to: socket.socket) -> bool:
    upstream.ended.wait(0.1)
    return echo(upstream, request, to)


FAULTS: dict[str, tuple[Behaviour, int]] = {
    "fails": (scene.status(500), 500),
    "hangs": (scene.hang, 504),
    "resets": (scene.reset, 502),
    "resets in mid-body": (scene.reset_in_body, 0),
    "sends garbage": (scene.garbage, 502),
}
"""What an upstream does, and what its client sees."""


@pytest.mark.parametrize("fault", FAULTS)
def test_an_upstream_that_fails_is_ejected_and_comes_back(three: Three, fault: str) -> None:
    behave, seen = FAULTS[fault]
    three.b.behave = behave
    statuses: list[int] = []

    def is_out() -> bool:
        statuses.extend(three.get("/ejecting") for _ in range(3))
        return "skep_gateway_ejections_total 1" in three.gateway.metrics() or statuses[-6:] == [200] * 6

    until(is_out, "it is out")
    assert set(statuses) == {200, seen}
    assert statuses.count(seen) <= 4, "three in a row, and one that was under way"
    three.b.behave = echo
    until(lambda: three.asked(three.b, "/ejecting", 3), "it is back after its time")


def test_of_two_that_fail_one_stays_in(three: Three) -> None:
    three.a.behave = three.b.behave = scene.status(500)
    statuses = [three.get("/ejecting") for _ in range(60)]
    assert statuses.count(500) > 15, "at most a third of three may be out, so one of the two is asked on"
    assert statuses.count(200) > 15


def test_a_client_that_asks_too_much_ejects_nobody(three: Three) -> None:
    three.b.behave = scene.status(429)
    statuses = [three.get("/ejecting") for _ in range(60)]
    assert statuses.count(429) == 20


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "fails"] + ["is not there"])
def test_a_breaker_opens_lets_one_try_and_closes(three: Three, fault: str) -> None:
    behave, seen = FAULTS.get(fault, (echo, 502))
    three.a.behave = behave
    if fault == "is not there":
        three.a.stop()
    assert [three.get("/breaking") for _ in range(3)] == [seen] * 3
    before = len(three.a.requests)
    assert three.get("/breaking") == 503
    assert len(three.a.requests) == before, "what is open is not asked"
    # It is tried now and then, and what fails opens it again.
    until(lambda: three.get("/breaking") == seen, "a trial")
    until(lambda: three.get("/breaking") == 503, "it opens again")
    three.a.behave = echo
    if fault == "is not there":
        three.a.listen()
    until(lambda: three.get("/breaking") == 200, "a trial goes well")
    assert [three.get("/breaking") for _ in range(10)] == [200] * 10


def test_a_breaker_opens_for_what_is_too_slow(three: Three) -> None:
    three.a.behave = slow
    statuses = [three.get("/slow") for _ in range(6)]
    assert statuses == [200] * 4 + [503] * 2
    three.a.behave = echo
    until(lambda: three.get("/slow") == 200, "a trial goes well")


def test_a_breaker_of_a_route_closes_the_route_and_no_other(three: Three) -> None:
    three.a.behave = scene.status(503)
    statuses = [three.get("/whole") for _ in range(3)]
    three.a.behave = echo
    answer = three.gateway.ask("GET", "/whole")
    assert (statuses, answer.status) == ([503] * 3, 503)
    assert b"breaker is open" in answer.body and answer.header("retry-after")
    assert three.get("/wide") == 200
    until(lambda: three.get("/whole") == 200, "a trial goes well")


def test_a_bulkhead_keeps_one_route_from_taking_all(three: Three) -> None:
    free = threading.Event()

    def wait(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        if request.path.startswith("/narrow"):
            free.wait(PATIENCE_SECONDS)
        return echo(upstream, request, to)

    three.a.behave = wait
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(three.get, "/narrow") for _ in range(5)]
        until(lambda: sum(one.done() for one in asked) == 2, "two find no place and no place to wait")
        assert [one.result() for one in asked if one.done()] == [503] * 2
        assert len(three.a.seen("/narrow")) == 2
        assert three.get("/wide") == 200, "another route goes on"
        free.set()
        assert sorted(one.result() for one in asked) == [200] * 3 + [503] * 2


def test_a_client_that_sends_its_body_slowly_opens_no_breaker(three: Three) -> None:
    body = b"POST /breaking HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\nconnection: close\r\n\r\n"
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", three.gateway.web), timeout=PATIENCE_SECONDS) as client:
            client.sendall(body)
            # Longer in all than the reply may take.
            for _ in range(10):
                client.sendall(b"0123456789")
                time.sleep(0.05)
            assert client.recv(12) == b"HTTP/1.1 200"
