"""Resident memory, the cost of a checkpoint, and the time to load one."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event

from harness.resp import Connection
from harness.server import Server

from .machine import PinnedRedis, PinnedSkep, fill, forget_peak, median, status_kib, table

KEYS = 1_000_000


def resident(scale: float, _repeats: int) -> None:
    """Both empty, then both with the same keys."""
    rows = []
    for name, make in (("redis-server", lambda: PinnedRedis()), ("skep", lambda: PinnedSkep(extra=["--durability", "memory"]))):
        with make() as server:
            empty = status_kib(server, "VmRSS")
            fill(server, int(KEYS * scale))
            full = status_kib(server, "VmRSS")
            rows.append((name, empty // 1024, full // 1024, (full - empty) * 1024 / (KEYS * scale)))
    rows.append(("skep / redis-server", "", f"{rows[1][1 + 1] / rows[0][1 + 1]:.2f} (goal: at most 1)", rows[1][3] / rows[0][3]))
    table(f"Memory of {int(KEYS * scale):,} keys of 16 bytes with 8-byte values", ("server", "empty MiB", "full MiB", "bytes per key"), rows)


def probe(port: int, ready: Event, stop: Event, answer: Queue) -> None:
    """Asks for one reply after the other. A process of its own: a busy thread beside it would delay its clock."""
    delays_ms = []
    with Connection(port) as connection:
        connection.call("GET", "key:000000000001")
        ready.set()
        while not stop.is_set() or not delays_ms:
            begun = time.perf_counter()
            connection.call("GET", "key:000000000001")
            delays_ms.append((time.perf_counter() - begun) * 1000)
            time.sleep(0.0005)
    delays_ms.sort()
    answer.put((delays_ms[-1], delays_ms[int(len(delays_ms) * 0.999)]))


@dataclass
class Observed:
    """What could be seen of a server while it did something."""

    seconds: float
    slowest_ms: float
    p999_ms: float
    before_kib: int
    peak_kib: int

    def growth_percent(self) -> float:
        return (self.peak_kib - self.before_kib) * 100 / self.before_kib


def observed(server: Server, work: Callable[[], None]) -> Observed:
    """Watches replies and resident memory while `work` runs."""
    ready, stop, answer = multiprocessing.Event(), multiprocessing.Event(), multiprocessing.Queue()
    process = multiprocessing.Process(target=probe, args=(server.port, ready, stop, answer), daemon=True)
    process.start()
    assert ready.wait(60), "the probe asks"
    forget_peak(server)
    before = status_kib(server, "VmRSS")
    begun = time.monotonic()
    work()
    seconds = time.monotonic() - begun
    stop.set()
    slowest, high = answer.get(timeout=60)
    process.join()
    return Observed(seconds, slowest, high, before, status_kib(server, "VmHWM"))


def checkpoint(scale: float, repeats: int) -> None:
    """A checkpoint of a full server, and beside it as long without one: the probe itself and the machine have delays."""
    rows = []
    count = int(KEYS * scale)

    def row(name: object, seen: Observed, calm: Observed) -> None:
        rows.append(
            (name, seen.seconds, seen.before_kib // 1024, seen.growth_percent(), seen.slowest_ms, seen.p999_ms, calm.slowest_ms, calm.p999_ms)
        )

    with PinnedSkep(extra=["--durability", "memory", "--checkpoint-log-bytes", "1gb"]) as skep:
        fill(skep, count)
        save(skep)  # The first one may take memory that later ones use again.
        for turn in range(repeats):
            fill(skep, 1)  # Else there would be nothing to save.
            seen = observed(skep, lambda: save(skep))
            row(turn + 1, seen, observed(skep, lambda: time.sleep(seen.seconds)))
        seen = observed(skep, lambda: overwrite(skep, count // 10, save))
        row("under writes", seen, observed(skep, lambda: overwrite(skep, count // 10)))
    columns = ("turn", "s", "MiB before", "more at peak %", "slowest reply ms", "p99.9 ms", "slowest without ms", "p99.9 without ms")
    table(f"A checkpoint of {count:,} keys (goals: at most 5 % more memory, no reply later than 5 ms)", columns, rows)


def overwrite(server: Server, count: int, beside: Callable[[Server], None] | None = None) -> None:
    """Writes the first keys again, and does something else at the same time."""
    writer = threading.Thread(target=fill, args=(server, count))
    writer.start()
    if beside is not None:
        beside(server)
    writer.join()


def save(server: Server) -> None:
    """One checkpoint, or RDB file, from begin to end."""
    with Connection(server.port, timeout=300) as connection:
        reply = connection.call("SAVE")
        assert reply == ("+", b"OK"), reply


def loading(scale: float, repeats: int) -> None:
    """From the start of the process to its first PONG, with all keys in a checkpoint (RDB for redis-server)."""
    count = int(KEYS * scale)
    rows = []
    for name, server in (("redis-server (RDB)", PinnedRedis(extra=["--save", "3600 1"])), ("skep", PinnedSkep(extra=["--durability", "memory"]))):
        with server:
            fill(server, count)
            save(server)
            times = []
            for _ in range(repeats):
                server.terminate(120)
                begun = time.monotonic()
                server.start()
                times.append(time.monotonic() - begun)
            with server.connect() as connection:
                assert connection.call("DBSIZE") == (":", count)
            rows.append((name, median(times), max(times)))
    table(f"Start with {count:,} keys (goal: under 2 s)", ("server", "median s", "longest s"), rows)
