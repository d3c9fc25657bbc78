"""Requests per second of GET and SET, in memory and durable."""

from __future__ import annotations

from harness.server import Server

from . import machine
from .machine import PinnedRedis, PinnedSkep, benchmark, median, table


def compare(pair: tuple[Server, Server], title: str, cases: list[tuple[str, int, int]], repeats: int, goals: dict[tuple[str, int], str]) -> None:
    """Runs the cases in turn on both servers, so that what disturbs the machine disturbs both."""
    left, right = pair
    for server in pair:
        for test in sorted({test for test, _, _ in cases}):
            benchmark(server, test, max(requests for _, requests, _ in cases) // 4, 16)
    rows = []
    for test, requests, pipeline in cases:
        rates: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            rates[0].append(benchmark(left, test, requests, pipeline))
            rates[1].append(benchmark(right, test, requests, pipeline))
        one, two = median(rates[0]), median(rates[1])
        spread = f"{min(rates[1]):,.0f} to {max(rates[1]):,.0f}"
        rows.append((test.upper(), pipeline, f"{one:,.0f}", f"{two:,.0f}", spread, two / one, goals.get((test, pipeline), "")))
    table(title, ("command", "pipeline", "redis-server /s", "skep /s", "skep least to most", "ratio", "goal"), rows)
    line = machine.benchmark_line(right.port, cases[-1][0], cases[-1][1], cases[-1][2], 50, 8, 100_000)
    print("\nLoad, for example: `" + " ".join(line) + "`", flush=True)


def in_memory(scale: float, repeats: int) -> None:
    with PinnedRedis() as redis, PinnedSkep(extra=["--durability", "memory"]) as skep:
        cases = [(test, int(requests * scale), pipeline) for pipeline, requests in ((1, 300_000), (16, 2_000_000)) for test in ("set", "get")]
        goals = {(test, pipeline): "1.0, aim 1.5" if pipeline == 16 else "1.0" for test, _, pipeline in cases}
        title = "Memory: 50 connections, values of 8 bytes, 100,000 keys, one core for the server and one for the load"
        compare((redis, skep), title, cases, repeats, goals)


def durable(scale: float, repeats: int) -> None:
    always = ["--appendonly", "yes", "--appendfsync", "always"]
    with PinnedRedis(extra=always) as redis, PinnedSkep() as skep:
        cases = [("set", int(requests * scale), pipeline) for pipeline, requests in ((1, 60_000), (16, 400_000))]
        compare((redis, skep), "Durable SET: 50 connections, redis-server with appendfsync always", cases, repeats, {("set", 1): "2.0"})
