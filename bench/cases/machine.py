"""Pinned servers and the numbers that the kernel keeps about them."""

from __future__ import annotations

import re
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness.resp import Connection
from harness.server import Redis, Server, Skep

SERVER_CORE = "0"
LOAD_CORE = "1"


class PinnedRedis(Redis):
    """redis-server on the server's core, as Debian ships it."""

    def command(self) -> list[str]:
        return ["taskset", "-c", SERVER_CORE, *super().command()]


class PinnedSkep(Skep):
    """skep with all its threads on the server's core."""

    def command(self) -> list[str]:
        return ["taskset", "-c", SERVER_CORE, *super().command()]


def status_kib(server: Server, name: str) -> int:
    """A line of /proc/PID/status, as VmRSS or VmHWM, in KiB. taskset replaces itself, so the pid is the server's."""
    assert server.process is not None, "the server runs"
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    assert found, f"no {name} in /proc"
    return int(found[1])


def forget_peak(server: Server) -> None:
    """Sets VmHWM back to the memory in use, so that a later peak can be told."""
    assert server.process is not None, "the server runs"
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


def benchmark(server: Server, test: str, requests: int, pipeline: int, connections: int = 50, size: int = 8, keys: int = 100_000) -> float:
    """Requests per second by redis-benchmark on the other core."""
    line = benchmark_line(server.port, test, requests, pipeline, connections, size, keys)
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=1200)
    rows = [row.split(",") for row in done.stdout.replace('"', "").splitlines() if row.strip()]
    values = [float(row[1]) for row in rows[1:]]
    assert len(values) == 1, done.stdout
    return values[0]


def benchmark_line(port: int, test: str, requests: int, pipeline: int, connections: int, size: int, keys: int) -> list[str]:
    return [
        "taskset", "-c", LOAD_CORE, "redis-benchmark", "-p", str(port), "-t", test, "-n", str(requests), "-c", str(connections),
        "-P", str(pipeline), "-d", str(size), "-r", str(keys), "--csv",
    ]  # fmt: skip


def fill(server: Server, count: int, first: int = 0, chunk: int = 1000) -> None:
    """Keys of 16 bytes with values of 8, none twice."""
    with Connection(server.port, timeout=120) as connection:
        for start in range(first, first + count, chunk):
            numbers = range(start, min(start + chunk, first + count))
            data = b"".join(b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$8\r\n%08d\r\n" % (n, n % 100_000_000) for n in numbers)
            connection.send_raw(data)
            for _ in numbers:
                reply = connection.read()
                assert reply == ("+", b"OK"), reply


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A Markdown table, so that it can be put into a note as it is."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(f"{cell:,.2f}" if isinstance(cell, float) else str(cell) for cell in row) + " |", flush=True)
