"""Elements handed over per second: clients wait with BRPOP while others push."""

from __future__ import annotations

import subprocess
import time

from harness.resp import Connection
from harness.server import Server

from .machine import LOAD_CORE, PinnedRedis, PinnedSkep, median, table

HANDED = 200_000


def load(server: Server, words: list[str], requests: int, clients: int) -> subprocess.Popen[bytes]:
    """Clients of redis-benchmark on the other core, each with one request at a time."""
    line = ["taskset", "-c", LOAD_CORE, "redis-benchmark", "-p", str(server.port), "-n", str(requests), "-c", str(clients), "-q"]
    return subprocess.Popen([*line, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rate(server: Server, clients: int, handed: int) -> float:
    with Connection(server.port) as connection:
        connection.call("DEL", "queue")
        begun = time.monotonic()
        takers = load(server, ["BRPOP", "queue", "0"], handed, clients)
        givers = load(server, ["LPUSH", "queue", "12345678"], handed, clients)
        for each in (givers, takers):
            assert each.wait(timeout=600) == 0
        seconds = time.monotonic() - begun
        assert connection.call("LLEN", "queue") == (":", 0), "each element has its taker"
    return handed / seconds


def compare(scale: float, repeats: int) -> None:
    with PinnedRedis() as redis, PinnedSkep(extra=["--durability", "memory"]) as skep:
        rows: list[tuple[object, ...]] = []
        # Memory of both and the first segments of the log are made once, not by each element.
        for server in (redis, skep):
            rate(server, 50, int(HANDED * scale))
        for clients in (1, 10, 50):
            handed = int(HANDED * scale) // (10 if clients == 1 else 1)
            rates: tuple[list[float], list[float]] = ([], [])
            for _ in range(repeats):
                for server, found in zip((redis, skep), rates, strict=True):
                    found.append(rate(server, clients, handed))
            one, two = median(rates[0]), median(rates[1])
            rows.append((clients, f"{one:,.0f}", f"{two:,.0f}", f"{min(rates[1]):,.0f} to {max(rates[1]):,.0f}", two / one))
        title = "Hand-over in memory: LPUSH and BRPOP, as many clients of each, one core for the server and one for the load"
        table(title, ("clients of each", "redis-server /s", "skep /s", "skep least to most", "ratio"), rows)
