"""Pub/sub: messages published per second, each delivered to all of some subscribers."""

from __future__ import annotations

import multiprocessing
import os
import selectors
import subprocess
import time
from multiprocessing.connection import Connection as Pipe

from harness.resp import Connection
from harness.server import Server

from .machine import LOAD_CORE, PinnedRedis, PinnedSkep, median, table

CHANNEL = "channel"


def drain(port: int, subscribers: int, bytes_of_each: int, told: Pipe) -> None:
    """Subscribes, says so, reads until each subscriber has so many bytes, and says so."""
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    selector = selectors.DefaultSelector()
    connections = [Connection(port, timeout=120) for _ in range(subscribers)]
    for each in connections:
        each.call("SUBSCRIBE", CHANNEL)
        selector.register(each.socket, selectors.EVENT_READ)
    told.send("listening")
    left, room = subscribers * bytes_of_each, bytearray(1 << 20)
    while left > 0:
        for key, _ in selector.select(timeout=120):
            left -= key.fileobj.recv_into(room)  # type: ignore[union-attr]
    told.send("heard" if left == 0 else f"{-left} bytes too many")
    for each in connections:
        each.close()


def rate(server: Server, subscribers: int, size: int, pipeline: int, count: int) -> float:
    """Messages per second, until the last subscriber has the last one."""
    ours, theirs = multiprocessing.Pipe()
    message = len(f"*3\r\n$7\r\nmessage\r\n${len(CHANNEL)}\r\n{CHANNEL}\r\n${size}\r\n\r\n") + size
    listener = multiprocessing.Process(target=drain, args=(server.port, subscribers, count * message, theirs))
    listener.start()
    assert ours.recv() == "listening"
    line = ["taskset", "-c", LOAD_CORE, "redis-benchmark", "-p", str(server.port), "-n", str(count), "-c", "10", "-P", str(pipeline), "-q"]
    begun = time.monotonic()
    subprocess.run([*line, "PUBLISH", CHANNEL, "x" * size], capture_output=True, check=True, timeout=1200)
    assert (said := ours.recv()) == "heard", said
    elapsed = time.monotonic() - begun
    listener.join()
    return count / elapsed


def compare(scale: float, repeats: int) -> None:
    with PinnedRedis() as redis, PinnedSkep(extra=["--durability", "memory"]) as skep:
        rows: list[tuple[object, ...]] = []
        for subscribers, size, pipeline, count in [(0, 100, 16, 1_000_000), (1, 100, 16, 500_000), (50, 100, 1, 50_000), (50, 100, 16, 100_000), (50, 10_000, 4, 10_000)]:
            rates: tuple[list[float], list[float]] = ([], [])
            for _ in range(repeats):
                for server, found in zip((redis, skep), rates, strict=True):
                    # redis-benchmark ends with a full pipeline.
                    whole = int(count * scale) // pipeline * pipeline
                    found.append(rate(server, subscribers, size, pipeline, whole))
            one, two = median(rates[0]), median(rates[1])
            rows.append((subscribers, size, pipeline, f"{one:,.0f}", f"{two:,.0f}", f"{min(rates[1]):,.0f} to {max(rates[1]):,.0f}", two / one))
        title = "Messages published: 10 publishers, each message to all subscribers, one core for the server and one for the load"
        table(title, ("subscribers", "bytes", "pipeline", "redis-server /s", "skep /s", "skep least to most", "ratio"), rows)
