"""Resident memory, the cost of a checkpoint, and the time to load one."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
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


def probe(port: int, stop: Event, answer: Queue) -> None:
    """Asks for one reply after the other. A process of its own: a busy thread beside it would delay its clock."""
    delays_ms = []
    with Connection(port) as connection:
        while not stop.is_set():
            begun = time.perf_counter()
            connection.call("GET", "key:000000000001")
            delays_ms.append((time.perf_counter() - begun) * 1000)
            time.sleep(0.0005)
    delays_ms.sort()
    answer.put((delays_ms[-1], delays_ms[int(len(delays_ms) * 0.999)]))


def observed(server: Server, work: Callable[[], None]) -> tuple[float, float, int, int]:
    """Slowest reply and 99.9th percentile in ms while `work` runs, resident KiB before it and at its peak."""
    forget_peak(server)
    before = status_kib(server, "VmRSS")
    stop, answer = multiprocessing.Event(), multiprocessing.Queue()
    process = multiprocessing.Process(target=probe, args=(server.port, stop, answer))
    process.start()
    work()
    stop.set()
    slowest, high = answer.get(timeout=60)
    process.join()
    return slowest, high, before, status_kib(server, "VmHWM")


def checkpoint(scale: float, repeats: int) -> None:
    """A checkpoint of a full server, and beside it as long without one: the probe itself and the machine have delays."""
    rows = []
    count = int(KEYS * scale)
    with PinnedSkep(extra=["--durability", "memory", "--checkpoint-log-bytes", "1gb"]) as skep:
        fill(skep, count)
        save(skep)  # The first one may take memory that later ones use again.
        for turn in range(repeats):
            begun = time.monotonic()
            slowest, high, before, peak = observed(skep, lambda: save(skep))
            lasted = time.monotonic() - begun
            calm = observed(skep, lambda: time.sleep(lasted))
            rows.append((turn + 1, lasted, before // 1024, (peak - before) * 100 / before, slowest, high, calm[0], calm[1]))
        slowest, high, before, peak = observed(skep, lambda: overwrite(skep, count))
        rows.append(("under writes", 0.0, before // 1024, (peak - before) * 100 / before, slowest, high, 0.0, 0.0))
    columns = ("turn", "s", "MiB before", "more at peak %", "slowest reply ms", "p99.9 ms", "slowest without ms", "p99.9 without ms")
    table(f"A checkpoint of {count:,} keys (goals: at most 5 % more memory, no reply later than 5 ms)", columns, rows)


def overwrite(server: Server, count: int) -> None:
    """A checkpoint while every tenth key is written again."""
    writer = threading.Thread(target=fill, args=(server, count // 10))
    writer.start()
    save(server)
    writer.join()


def save(server: Server) -> None:
    """One checkpoint begun; skep answers at once, and may be at one already."""
    with Connection(server.port, timeout=300) as connection:
        reply = connection.call("SAVE")
        assert reply == ("+", b"OK") or b"in progress" in reply[1], reply


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
