"""Limits under load: hedges, queues, budgets, connections that rest or dribble, configurations that change all the time."""

from __future__ import annotations

import http.client
import resource
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .scene import PATIENCE_SECONDS, Gateway, Request, Upstream, echo, reply, shout, until, websocket

CONFIG = """
[gateway.listener.web]
address = "{web}"
header-time = "2s"
idle = "1h"

[gateway.listener.bytes]
address = "{bytes}"
protocol = "tcp"
pool = "tunnels"
idle = "1h"

[gateway.route.tunnels]
path-prefix = "/tunnels"
pool = "tunnels"
timeout.idle = "1h"

[gateway.route.ws]
path-prefix = "/ws"
pool = "plain"
timeout.idle = "1h"

[gateway.route.hedged]
path-prefix = "/hedged"
pool = "hedged"
hedge = { after = "20ms" }

[gateway.route.queued]
path-prefix = "/queued"
pool = "queued"

[gateway.route.half]
path-prefix = "/half"
pool = "half"
retry = { attempts = 3, back-off = "1ms", budget = "20%", budget-min = 10 }
breaker = false

[gateway.route.closing]
path-prefix = "/closing"
pool = "closing"
breaker = false

[gateway.route.plain]
pool = "plain"

[gateway.pool.hedged]
upstreams = ["A", "B"]
balance = "round-robin"

[gateway.pool.queued]
upstreams = ["C"]
requests = 1
queue = { size = 1, time = "30s", standing = "1min" }

[gateway.pool.half]
upstreams = ["A", "B", "C"]
balance = "round-robin"
eject = false
breaker = false

[gateway.pool.closing]
upstreams = ["D"]
eject = false
breaker = false

[gateway.pool.plain]
upstreams = ["A"]

[gateway.pool.tunnels]
upstreams = ["A"]
connections = 10000
requests = 10000
"""


class Scene:
    def __init__(self) -> None:
        self.a, self.b, self.c, self.d = (Upstream(name) for name in "abcd")
        self.gateway: Gateway
        self.text = ""

    def all(self) -> list[Upstream]:
        return [self.a, self.b, self.c, self.d]


@pytest.fixture(scope="module")
def scene_() -> Iterator[Scene]:
    own = Scene()
    text = CONFIG
    for upstream in own.all():
        text = text.replace(f'"{upstream.name.upper()}"', f'"{upstream.address}"')
    with own.a, own.b, own.c, own.d, Gateway(text, ("web", "bytes")) as gateway:
        own.gateway = gateway  # type: ignore[assignment]
        own.text = text
        yield own


@pytest.fixture()
def scene(scene_: Scene) -> Scene:
    for upstream in scene_.all():
        upstream.behave = echo
        upstream.requests.clear()
    return scene_


def resident(gateway: Gateway) -> int:
    """Bytes of memory that the node takes."""
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def figure(gateway: Gateway, name: str) -> float:
    lines = [line for line in gateway.metrics().splitlines() if line.startswith(name)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_a_hedge_answers_for_an_upstream_that_hangs_and_a_post_has_none(scene: Scene) -> None:
    given_up = threading.Event()

    def hang(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        # Ends when the gateway gives this attempt up.
        to.settimeout(PATIENCE_SECONDS)
        if request.method == "GET" and to.recv(1) == b"":
            given_up.set()
        return False

    scene.a.behave = hang
    for n in range(4):
        answer = scene.gateway.ask("GET", f"/hedged/{n}")
        assert (answer.status, answer.json()["upstream"]) == (200, "b")
    assert any("/hedged" in request.path for request in scene.a.requests), "one was asked first that hangs"
    assert given_up.wait(PATIENCE_SECONDS), "the attempt that lost is given up"
    statuses = Counter(scene.gateway.ask("POST", f"/hedged/post{n}", body=b"x").status for n in range(4))
    assert set(statuses) <= {200, 502}
    sent = [r.path for u in (scene.a, scene.b) for r in u.requests if r.method == "POST"]
    assert sorted(sent) == [f"/hedged/post{n}" for n in range(4)], "each was sent once"


def test_of_a_request_and_its_hedge_that_both_fail_the_client_gets_what_an_upstream_said(scene: Scene) -> None:
    hedged, said = threading.Event(), threading.Event()

    def fail(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        if request.header("x-skep-attempt") == "1":
            assert hedged.wait(PATIENCE_SECONDS)
            to.sendall(reply(b"of the first", "503 Said"))
            said.set()
            return True
        hedged.set()
        assert said.wait(PATIENCE_SECONDS)
        # The reply is at the gateway by then, as a rule; if not, it comes when nothing else is to be had.
        time.sleep(0.2)
        to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    scene.a.behave = scene.b.behave = fail
    answer = scene.gateway.ask("GET", "/hedged/both")
    assert (answer.status, answer.body) == (503, b"of the first")
    assert len(scene.a.seen("/hedged/both")) == len(scene.b.seen("/hedged/both")) == 1


def test_a_queue_holds_what_it_may_and_the_rest_is_answered_at_once(scene: Scene) -> None:
    free = threading.Event()

    def wait(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        free.wait(PATIENCE_SECONDS)
        return echo(upstream, request, to)

    scene.c.behave = wait
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(scene.gateway.ask, "GET", "/queued/1")
        until(lambda: scene.c.requests, "the first is at the upstream")
        others = [pool.submit(scene.gateway.ask, "GET", f"/queued/{n}") for n in (2, 3, 4)]
        until(lambda: sum(other.done() for other in others) == 2, "two find the queue full")
        assert [other.result().status for other in others if other.done()] == [503, 503]
        assert not first.done() and len(scene.c.requests) == 1
        free.set()
        assert first.result().status == 200
        assert sorted(other.result().status for other in others) == [200, 503, 503]


def test_an_upstream_at_half_errors_sees_at_most_the_budget(scene: Scene) -> None:
    lock, turn = threading.Lock(), [0]

    def half(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        with lock:
            turn[0] += 1
            bad = turn[0] % 2 == 0
        if bad:
            to.sendall(reply(b"x", "503 Said"))
            return True
        return echo(upstream, request, to)

    for upstream in (scene.a, scene.b, scene.c):
        upstream.behave = half
    requests, began = 1_500, time.monotonic()

    def ask(part: int) -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", scene.gateway.web, timeout=PATIENCE_SECONDS)
        found = []
        for n in range(requests // 5):
            connection.request("GET", f"/half/{part}/{n}")
            response = connection.getresponse()
            response.read()
            found.append(response.status)
        return found

    with ThreadPoolExecutor(5) as pool:
        found = Counter(status for part in pool.map(ask, range(5)) for status in part)
    seconds = time.monotonic() - began
    attempts = sum(len(upstream.requests) for upstream in (scene.a, scene.b, scene.c))
    allowed = 0.2 * requests + 10 * (seconds + 1) + 1
    assert requests < attempts <= requests + allowed, f"{attempts} attempts for {requests} requests in {seconds:.1f} s"
    assert set(found) == {200, 503}


def test_a_post_on_a_connection_that_closes_meanwhile_is_never_sent_twice(scene: Scene) -> None:
    wait = [0.0]

    def closing(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        echo(upstream, request, to)
        # The connection goes back to the gateway's pool, and closes about when the next request comes.
        end = time.perf_counter() + wait[0]
        while time.perf_counter() < end:
            pass
        return False

    scene.d.behave = closing
    statuses: Counter[int] = Counter()
    for n in range(200):
        wait[0] = (n % 20) / 20_000
        assert scene.gateway.ask("GET", f"/closing/get{n}").status in (200, 502)
        statuses[scene.gateway.ask("POST", f"/closing/post{n}", body=b"once").status] += 1
    assert set(statuses) <= {200, 502} and statuses[200] > 0, statuses
    posts = Counter(request.path for request in scene.d.requests if request.method == "POST")
    assert max(posts.values()) == 1, "each POST came once at most"
    assert len(posts) >= statuses[200]


TUNNELS = 2_000


def test_two_thousand_tunnels_that_rest_take_little(scene: Scene) -> None:
    """Of WebSockets and of connections of TCP; each has said more than a little before, in both directions.

    Each has a file open here as a client, and one as an upstream.
    """
    gateway, word = scene.gateway, b"w" * 5_000

    def answer(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        to.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        to.sendall(to.recv(len(word), socket.MSG_WAITALL))
        return to.recv(1) != b""

    def tunnel(listener: str) -> socket.socket:
        connection = websocket("127.0.0.1", gateway.ports[listener], "/tunnels")
        connection.sendall(word)
        with connection.makefile("rb") as said:
            assert said.read(len(word)) == word
        return connection

    scene.a.behave = answer
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    few: list[socket.socket] = []
    resting: list[socket.socket] = []
    try:
        few += [tunnel(listener) for listener in ("web", "bytes") for _ in range(50)]
        # Before the first of them: the second ones take the memory of the first again.
        before = resident(gateway)
        for listener in ("web", "bytes"):
            resting += [tunnel(listener) for _ in range(TUNNELS)]
            each = (resident(gateway) - before) / TUNNELS
            print(f"{listener}: {each / 1024:.1f} KiB for each that rests")
            assert each < 24 << 10
            drop(resting)
            resting.clear()
            until(lambda: figure(gateway, "skep_gateway_connections") < 2 * len(few), "they are gone")
    finally:
        drop(few + resting)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_configurations_a_second_fail_no_request_and_close_no_websocket(scene: Scene) -> None:
    scene.a.behave = shout
    gateway, stop = scene.gateway, threading.Event()
    sockets = [websocket("127.0.0.1", gateway.web) for _ in range(5)]
    found: Counter[object] = Counter()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.web, timeout=PATIENCE_SECONDS)
        while not stop.is_set():
            try:
                connection.request("GET", "/any")
                response = connection.getresponse()
                response.read()
                found[response.status] += 1
            except (OSError, http.client.HTTPException) as error:
                found[repr(error)] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    text = gateway.file.read_text()
    with gateway.connect() as store:
        version = 1
        for n in range(50):
            began = time.monotonic()
            changed = text.replace("[gateway.pool.plain]\n", f"[gateway.pool.plain]\nidle = '{10 + n}s'\n")
            changed += f"\n[gateway.route.extra{n}]\npath = '/extra{n}'\nanswer.status = 204\n"
            kind, told = store.call("SKEP", "GATEWAY", "SET", version, "by hand", changed[changed.index("[gateway") :])
            assert kind == ":", told
            version += 1
            for connection in sockets:
                connection.sendall(b"still there")
            time.sleep(max(0.0, 0.1 - (time.monotonic() - began)))
    until(lambda: gateway.ask("GET", "/extra49").status == 204, "the last one is in force")
    stop.set()
    for thread in threads:
        thread.join()
    assert set(found) == {200} and found[200] > 100, found
    for connection in sockets:
        got = b""
        while len(got) < 50 * len("still there"):
            more = connection.recv(10_000)
            assert more, "a WebSocket was closed"
            got += more
        assert got == b"STILL THERE" * 50
        connection.close()


CONNECTIONS = 10_000


def rest(gateway: Gateway, count: int) -> list[socket.socket]:
    """Opens connections that say nothing, but for one in a hundred that has asked for something, as browsers rest."""
    resting = []
    for n in range(count):
        connection = socket.create_connection(("127.0.0.1", gateway.web), timeout=PATIENCE_SECONDS)
        resting.append(connection)
        if n % 100 == 99:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    return resting


def drop(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def test_ten_thousand_connections_that_rest_take_little_and_heads_drop_by_drop_none_for_long(scene: Scene) -> None:
    """A file is open for each here and one at the gateway, which are two processes: 20,000 for each of them are enough."""
    gateway = scene.gateway
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gateway.ask("GET", "/")
    before, resting = resident(gateway), []
    try:
        took = []
        for _ in range(2):
            drop(resting)
            until(lambda: figure(gateway, "skep_gateway_connections") < 100, "those before are gone")
            resting = rest(gateway, CONNECTIONS)
            until(lambda: figure(gateway, "skep_gateway_connections") >= CONNECTIONS, "all are counted")
            took.append(resident(gateway) - before)
        print(f"{took[0] / CONNECTIONS:.0f} bytes for each, the second time {took[1] / CONNECTIONS:.0f}")
        assert took[0] < 12 * 1024 * CONNECTIONS, f"{took[0] / CONNECTIONS:.0f} bytes for each"
        assert took[1] < took[0] + (8 << 20), "as many once more take the same memory again"
        full = resident(gateway)
        slow = [socket.create_connection(("127.0.0.1", gateway.web), timeout=PATIENCE_SECONDS) for _ in range(300)]
        open_, answered = set(slow), 0
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        end = time.monotonic() + PATIENCE_SECONDS
        while open_ and time.monotonic() < end:
            for connection in list(open_):
                try:
                    connection.send(b"x")
                    connection.settimeout(0.0001)
                    got = connection.recv(1000)
                except TimeoutError:
                    continue
                except OSError:
                    got = b""
                answered += got.startswith(b"HTTP/1.1 408")
                open_.discard(connection)
                connection.close()
        assert not open_, f"{len(open_)} dribble on"
        assert answered > 0
        assert resident(gateway) - full < 16 << 20, "what dribbled took no more than it gave back"
        assert gateway.ask("GET", "/").status == 200, "and others are served"
    finally:
        drop(resting)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
