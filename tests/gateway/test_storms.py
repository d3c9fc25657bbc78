"""Upstreams that fail at once, and more load than they can take: what core/gate/tests/storms.rs simulates, with real sockets.

What is held is counts: attempts for requests, and replies for what an upstream of a fixed capacity could give in the time that has passed.
None of them depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import heapq
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .scene import PATIENCE_SECONDS, Gateway, Upstream, status, until

CONFIG = """
[gateway.listener.web]
address = "{web}"

[gateway.listener.one]
address = "{one}"

[gateway.listener.two]
address = "{two}"

[gateway.route.upstream]
priority = 1
listeners = ["one", "two"]
answer.body = "well"

[gateway.route.default]
path-prefix = "/default"
pool = "default"

[gateway.route.blind]
path-prefix = "/blind"
pool = "blind"

[gateway.route.dead]
path-prefix = "/dead"
pool = "dead"

[gateway.route.dead-unbroken]
path-prefix = "/unbroken"
pool = "unbroken"

[gateway.pool.default]
upstreams = ["BAD", "{one}", "{two}"]

[gateway.pool.blind]
upstreams = ["BAD", "{one}", "{two}"]
balance = "least-requests"
eject = false
breaker = false

[gateway.pool.dead]
upstreams = ["BAD", "WORSE"]

[gateway.pool.unbroken]
upstreams = ["BAD", "WORSE"]
eject = false
breaker = false
"""


class Scene:
    gateway: Gateway

    def __init__(self, bad: Upstream, worse: Upstream) -> None:
        self.bad, self.worse = bad, worse

    def arrived(self, path: str) -> int:
        """Attempts at both of those that fail."""
        return len(self.bad.seen(path) + self.worse.seen(path))


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Upstream("bad", status(503)) as bad, Upstream("worse", status(503)) as worse:
        own = Scene(bad, worse)
        text = CONFIG.replace("BAD", bad.address).replace("WORSE", worse.address)
        with Gateway(text, ("web", "one", "two")) as gateway:
            own.gateway = gateway  # type: ignore[assignment]
            yield own


def load(gateway: Gateway, path: str, count: int, *options: str) -> dict[int, int]:
    """So many requests over some connections: how many replies there were by the first figure of their status."""
    line = ["h2load", "--h1", "-c", "8", "-n", str(count), *options, f"http://127.0.0.1:{gateway.web}{path}"]
    said = subprocess.run(line, capture_output=True, text=True, timeout=240, check=False).stdout
    found = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said)
    assert found is not None and f"requests: {count} total, {count} started, {count} done" in said, said
    return {figure: int(found[figure - 1]) for figure in (2, 3, 4, 5)}


def test_an_upstream_that_fails_at_once_draws_a_thousandth_after_its_first_second(scene: Scene) -> None:
    load(scene.gateway, "/blind", 2_000)
    drawn = len(scene.bad.seen("/blind"))
    assert drawn > 20, f"where nothing avoids it it draws ten times as much, or this test shows nothing: {drawn}"

    until(lambda: load(scene.gateway, "/default", 100) and scene.bad.seen("/default"), "it has failed for the first time")
    end = time.monotonic() + 1
    while time.monotonic() < end:
        load(scene.gateway, "/default", 500)
    before = len(scene.bad.seen("/default"))
    # So many that an ejection may end meanwhile, on a slow machine some times, which costs five failures or a few more.
    requests = 40_000
    found = load(scene.gateway, "/default", requests)
    drawn = len(scene.bad.seen("/default")) - before
    print(f"{drawn} of {requests}")
    assert drawn <= requests // 1_000, f"{drawn} of {requests}"
    assert found[2] == requests, f"and nobody notices: {found}"


@pytest.mark.parametrize("path", ["/dead", "/unbroken"])
def test_when_all_upstreams_fail_the_load_on_them_grows_by_a_fifth_at_most(scene: Scene, path: str) -> None:
    requests, began = 3_000, time.monotonic()
    found = load(scene.gateway, path, requests)
    seconds = time.monotonic() - began
    attempts = scene.arrived(path)
    print(f"{attempts} attempts for {requests} requests in {seconds:.1f} s")
    # One second's savings of what is free come on top, and one retry.
    assert attempts <= 1.2 * requests + 10 * (seconds + 1) + 1
    assert found[5] == requests
    if path == "/unbroken":
        assert attempts > 1.1 * requests, "the budget is used"
    else:
        assert attempts < 0.5 * requests, "breakers spare those that are dead"


WORKERS, WORK_SECONDS = 10, 0.05
CAPACITY = WORKERS / WORK_SECONDS
PATIENCE = 1.0
"""How long a client waits, in seconds. Work that is done for a client who has gone is lost."""


class Capped:
    """An upstream that can do 200 requests a second, however fast the machine is.

    Each of its workers has a plan: what comes begins when the first of them is free by that, and ends 50 ms later, also if the reply leaves late.
    """

    def __init__(self) -> None:
        self.free = [0.0] * WORKERS
        self.loop = asyncio.new_event_loop()
        self.begun = threading.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                ends = max(time.monotonic(), heapq.heappop(self.free)) + WORK_SECONDS
                heapq.heappush(self.free, ends)
                await asyncio.sleep(ends - time.monotonic())
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def listen(self) -> None:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self.begun.set()

    def run(self) -> None:
        self.loop.create_task(self.listen())
        self.loop.run_forever()

    def __enter__(self) -> "Capped":
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        assert self.begun.wait(PATIENCE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE_SECONDS)


OVERLOADED = """
[gateway.listener.web]
address = "{web}"

[gateway.route.all]
pool = "capped"

[gateway.pool.capped]
upstreams = ["CAPPED"]
ADAPTIVE
"""


@contextmanager
def overloaded(capped: Capped, adaptive: str) -> Iterator[Gateway]:
    text = OVERLOADED.replace("CAPPED", f"127.0.0.1:{capped.port}").replace("ADAPTIVE", adaptive)
    with Gateway(text) as gateway:
        # Ordinary traffic, by which it learns how long a request takes.
        load(gateway, "/", 80, "--rps", "10")
        yield gateway


def goodput(gateway: Gateway, directory: Path, seconds: int) -> tuple[float, float]:
    """At five times what the upstream can do: the parts of its capacity that were asked for, and that came to clients in time."""
    log = directory / "replies"
    log.unlink(missing_ok=True)
    clients, each = 10, int(5 * CAPACITY / 10)
    line = ["h2load", "-c", str(clients), "-m", "100", "--rps", str(each), "-n", str(clients * each * seconds), f"--log-file={log}",
            f"http://127.0.0.1:{gateway.web}/"]  # fmt: skip
    subprocess.run(line, capture_output=True, timeout=240, check=True)
    # When it began, its status, and how long it took, in microseconds.
    replies = [(int(begun) / 1e6, int(code), int(took) / 1e6) for begun, code, took in (row.split("\t") for row in log.read_text().splitlines())]
    first, last = min(begun for begun, *_ in replies), max(begun for begun, *_ in replies)
    # From the second second on, when what came at first has its reply or none; and as long as all come.
    since, time_ = first + 2, last - first - 2
    asked = sum(1 for begun, *_ in replies if begun >= since)
    good = sum(1 for begun, code, took in replies if code == 200 and took <= PATIENCE and since <= begun + took <= last)
    return asked / time_ / CAPACITY, good / time_ / CAPACITY


def test_five_times_overload_keeps_nine_tenths_of_the_goodput(tmp_path: Path) -> None:
    with Capped() as capped, overloaded(capped, "adaptive = true") as gateway:
        asked, good = goodput(gateway, tmp_path, 10)
    print(f"{good:.3f} of the capacity came in time, {asked:.1f} were asked for")
    assert asked > 3, f"it was no overload: {asked}"
    assert good >= 0.9, f"{good:.3f} of the capacity came in time"
    with Capped() as capped, overloaded(capped, "") as gateway:
        _, good = goodput(gateway, tmp_path, 6)
    assert good < 0.5, f"without the limit it collapses, or this test shows nothing: {good:.3f}"
