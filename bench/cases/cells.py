"""What a second core brings to a node whose keys are in eight shards.

On a machine of two cores the load runs on the same cores as the server, so the rates say less than the processor time that
the server takes for a request: what it pays for handing operations from core to core.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from harness.server import Server, Skep

from .machine import benchmark_line, median, table


def cpu_seconds(server: Server) -> float:
    """Of all threads of the server."""
    assert server.process is not None, "the server runs"
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(server: Server, test: str, requests: int, pipeline: int) -> tuple[float, float]:
    """Requests per second, and microseconds of processor time for each, with two threads of load on any core."""
    line = benchmark_line(server.port, test, requests, pipeline, 50, 8, 100_000)[3:] + ["--threads", "2"]
    before = cpu_seconds(server)
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=1200)
    used = cpu_seconds(server) - before
    rows = [row.split(",") for row in done.stdout.replace('"', "").splitlines() if row.strip()]
    return float(rows[1][1]), used * 1e6 / requests


def throughput(scale: float, repeats: int) -> None:
    flags = ["--durability", "memory", "--shards", "8"]
    with Skep(extra=[*flags, "--cores", "1"]) as one, Skep(extra=[*flags, "--cores", "2"]) as two:
        rows = []
        for pipeline, requests in ((1, 200_000), (16, 1_000_000)):
            for test in ("set", "get"):
                found: list[list[tuple[float, float]]] = [[], []]
                for _ in range(repeats):
                    for at, server in enumerate((one, two)):
                        found[at].append(measure(server, test, int(requests * scale), pipeline))
                rates = [median([rate for rate, _ in each]) for each in found]
                costs = [median([cost for _, cost in each]) for each in found]
                rows.append((test.upper(), pipeline, f"{rates[0]:,.0f}", f"{rates[1]:,.0f}", rates[1] / rates[0], *costs))
    columns = ("command", "pipeline", "one core /s", "two cores /s", "ratio", "one core us", "two cores us")
    table("Eight shards on one core and on two: 50 connections, the load on the same cores; us: processor time of a request", columns, rows)
