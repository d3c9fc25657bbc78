"""Streams: entries appended, ranges and group reads per second, and bytes of an entry."""

from __future__ import annotations

import subprocess

from harness.resp import Connection
from harness.server import Server

from . import machine
from .machine import LOAD_CORE, PinnedRedis, PinnedSkep, median, status_kib, table

ENTRIES = 1_000_000
CHUNK = 1000
STREAM = "stream"


def rate(server: Server, words: list[str], requests: int, pipeline: int) -> float:
    """Requests per second of one command, by redis-benchmark on the other core."""
    line = ["taskset", "-c", LOAD_CORE, "redis-benchmark", "-p", str(server.port), "-n", str(requests), "-c", "50", "-P", str(pipeline), "--csv"]
    done = subprocess.run([*line, *words], capture_output=True, text=True, check=True, timeout=1200)
    rows = [row.rsplit(",", 7) for row in done.stdout.replace('"', "").splitlines() if row.strip()]
    return float(rows[-1][1])


def fill(server: Server, count: int) -> None:
    """Entries of one field with 8 bytes, and ids that count milliseconds."""
    with Connection(server.port, timeout=120) as connection:
        for start in range(1, count + 1, CHUNK):
            numbers = range(start, min(start + CHUNK, count + 1))
            connection.send([[b"XADD", STREAM.encode(), b"%d-0" % n, b"field", b"%08d" % n] for n in numbers])
            for _ in numbers:
                connection.read()


def start_group(server: Server) -> None:
    with Connection(server.port, timeout=120) as connection:
        connection.call("XGROUP", "DESTROY", STREAM, "g")
        assert connection.call("XGROUP", "CREATE", STREAM, "g", "0") == ("+", b"OK")


def compare(scale: float, repeats: int) -> None:
    with PinnedRedis() as redis, PinnedSkep(extra=["--durability", "memory"]) as skep:
        servers = redis, skep
        count = int(ENTRIES * scale)
        sizes = []
        for server in servers:
            empty = status_kib(server, "VmRSS")
            fill(server, count)
            sizes.append((status_kib(server, "VmRSS") - empty) * 1024 / count)
        middle = str(count // 2)
        cases = [
            ("XADD * field value", ["XADD", "added", "*", "field", "x" * 8], 200_000, 1),
            ("XADD * field value", ["XADD", "added", "*", "field", "x" * 8], 1_000_000, 16),
            ("XADD MAXLEN ~ 10000", ["XADD", "trimmed", "MAXLEN", "~", "10000", "*", "field", "x" * 8], 1_000_000, 16),
            ("XRANGE COUNT 10", ["XRANGE", STREAM, middle, "+", "COUNT", "10"], 300_000, 16),
            ("XRANGE COUNT 100", ["XRANGE", STREAM, middle, "+", "COUNT", "100"], 100_000, 16),
            ("XREAD COUNT 10", ["XREAD", "COUNT", "10", "STREAMS", STREAM, middle], 300_000, 16),
            ("XREADGROUP COUNT 10", ["XREADGROUP", "GROUP", "g", "c", "COUNT", "10", "STREAMS", STREAM, ">"], 50_000, 16),
            ("XREADGROUP COUNT 10 NOACK", ["XREADGROUP", "GROUP", "g", "c", "COUNT", "10", "NOACK", "STREAMS", STREAM, ">"], 50_000, 16),
        ]
        rows: list[tuple[object, ...]] = []
        for name, words, requests, pipeline in cases:
            rates: tuple[list[float], list[float]] = ([], [])
            for _ in range(repeats):
                for server, found in zip(servers, rates, strict=True):
                    if "GROUP" in words:
                        start_group(server)
                    found.append(rate(server, words, int(requests * scale), pipeline))
            one, two = median(rates[0]), median(rates[1])
            rows.append((name, pipeline, f"{one:,.0f}", f"{two:,.0f}", f"{min(rates[1]):,.0f} to {max(rates[1]):,.0f}", two / one))
        title = f"Streams in memory: 50 connections, ranges from the middle of {count:,} entries, one core for the server and one for the load"
        table(title, ("command", "pipeline", "redis-server /s", "skep /s", "skep least to most", "ratio"), rows)
        machine.table("Bytes of an entry with one field of 8 bytes", ("redis-server", "skep", "ratio"), [(*sizes, sizes[1] / sizes[0])])
