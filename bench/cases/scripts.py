"""Scripts and transactions per second, beside redis-server: small ones, where what surrounds the commands is what costs."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time

from harness.resp import encode
from harness.server import Server

from .machine import LOAD_CORE, PinnedRedis, PinnedSkep, median, table
from .streams import rate

SET_GET = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])"
TEN = "for i = 1, 10 do redis.call('INCR', KEYS[1]) end return 1"

CONNECTIONS = 4
BATCH = 100
"""Transactions in one piece of a pipeline."""


def block(connection: int) -> tuple[bytes, int]:
    """A piece of a pipeline, and how many bytes answer it: all replies have the same length."""
    key = b"key:%d" % connection
    one = b"".join(encode(words) for words in ((b"MULTI",), (b"SET", key, b"x" * 8), (b"GET", key), (b"EXEC",)))
    reply = b"+OK\r\n" + 2 * b"+QUEUED\r\n" + b"*2\r\n+OK\r\n$8\r\n" + b"x" * 8 + b"\r\n"
    return one * BATCH, len(reply) * BATCH


def pump(port: int, connection: int, until: float, done: multiprocessing.Queue[int]) -> None:
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    request, expected = block(connection)
    count = 0
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.monotonic() < until:
            link.sendall(request)
            left = expected
            while left > 0:
                left -= len(link.recv(min(left, 1 << 16)))
            count += BATCH
    done.put(count)


def transactions(server: Server, seconds: float) -> float:
    """Transactions of two commands per second, over a few pipelines."""
    done: multiprocessing.Queue[int] = multiprocessing.Queue()
    started = time.monotonic()
    pumps = [
        multiprocessing.Process(target=pump, args=(server.port, number, started + seconds, done)) for number in range(CONNECTIONS)
    ]
    for process in pumps:
        process.start()
    total = sum(done.get(timeout=seconds + 60) for _ in pumps)
    for process in pumps:
        process.join()
    return total / (time.monotonic() - started)


def compare(scale: float, repeats: int) -> None:
    with PinnedRedis() as redis, PinnedSkep(extra=["--durability", "memory"]) as skep:
        cases = [
            ("EVAL return 1", ["EVAL", "return 1", "0"], 1_000_000, 16),
            ("EVAL of one GET", ["EVAL", "return redis.call('GET', KEYS[1])", "1", "k"], 1_000_000, 16),
            ("EVAL of SET and GET", ["EVAL", SET_GET, "1", "k", "value"], 1_000_000, 16),
            ("EVAL of SET and GET", ["EVAL", SET_GET, "1", "k", "value"], 200_000, 1),
            ("EVAL of ten INCR", ["EVAL", TEN, "1", "n"], 300_000, 16),
        ]
        rows: list[tuple[object, ...]] = []
        for name, words, requests, pipeline in cases:
            rates: tuple[list[float], list[float]] = ([], [])
            for _ in range(repeats):
                for server, found in zip((redis, skep), rates, strict=True):
                    found.append(rate(server, words, int(requests * scale), pipeline))
            rows.append((name, pipeline, *summary(rates)))
        rates = ([], [])
        for _ in range(repeats):
            for server, found in zip((redis, skep), rates, strict=True):
                found.append(transactions(server, 5 * scale))
        rows.append(("MULTI, SET, GET, EXEC", BATCH, *summary(rates)))
        title = "Scripts and transactions in memory: 50 connections (transactions: 4), one core for the server and one for the load"
        table(title, ("what", "pipeline", "redis-server /s", "skep /s", "skep least to most", "ratio"), rows)


def summary(rates: tuple[list[float], list[float]]) -> tuple[str, str, str, float]:
    one, two = median(rates[0]), median(rates[1])
    return f"{one:,.0f}", f"{two:,.0f}", f"{min(rates[1]):,.0f} to {max(rates[1]):,.0f}", two / one
