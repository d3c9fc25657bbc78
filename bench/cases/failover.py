"""How long writes pause when the leader is killed or asked to stop, as clients of the other nodes see it."""

from __future__ import annotations

import statistics
import threading
import time

from harness.cluster import OK, Cluster, Node
from harness.resp import Connection, ConnectionLost

from .machine import table

KILLS = 30
SETTLE_SECONDS = 0.3
"""Between two faults, so that the probes run at their usual pace again."""


class Probe(threading.Thread):
    """Writes one value after the other through a node and notes when each was acknowledged."""

    def __init__(self, node: Node) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.stop = threading.Event()
        self.times: list[float] = []
        self.errors: list[str] = []

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            try:
                with Connection(self.node.port, host=self.node.host, timeout=30) as connection:
                    while not self.stop.is_set():
                        number += 1
                        reply = connection.call("SET", f"probe:{self.node.number}", number)
                        if reply == OK:
                            self.times.append(time.monotonic())
                        else:
                            self.errors.append(repr(reply))
                            time.sleep(0.001)
            except (ConnectionLost, OSError) as lost:
                self.errors.append(str(lost))
                time.sleep(0.005)

    def pause_around(self, moment: float) -> float:
        """The longest time between two acknowledgements of which the second came after the moment."""
        times = self.times[:]
        return max((later - earlier for earlier, later in zip(times, times[1:], strict=False) if later > moment), default=float("inf"))


def pauses(cluster: Cluster, sign: str) -> tuple[list[float], list[str]]:
    """One pause in ms and all errors for each fault: the longest pause of the two surviving nodes' clients."""
    found, errors = [], []
    for _ in range(KILLS):
        leader = cluster.wait_leader()
        probes = [Probe(node) for node in cluster.others(leader)]
        for each in probes:
            each.start()
        time.sleep(SETTLE_SECONDS)
        moment = time.monotonic()
        if sign == "SIGKILL":
            leader.kill()
        else:
            leader.terminate()
        _wait_acknowledged(probes)
        time.sleep(SETTLE_SECONDS)
        for each in probes:
            each.stop.set()
            each.join()
        found.append(max(each.pause_around(moment) for each in probes) * 1000)
        errors += [error for each in probes for error in each.errors]
        leader.begin()
        cluster.wait_whole()
    return found, errors


def _wait_acknowledged(probes: list[Probe]) -> None:
    after = {each: len(each.times) + 20 for each in probes}
    end = time.monotonic() + 60
    while any(len(each.times) < count for each, count in after.items()):
        assert time.monotonic() < end, f"writes never resumed: {[each.errors[-3:] for each in probes]}"
        time.sleep(0.005)


def failover(_scale: float, _repeats: int) -> None:
    rows = []
    for sign, goal in (("SIGKILL", "p99 500"), ("SIGTERM", "50, no error")):
        with Cluster() as cluster:
            found, errors = pauses(cluster, sign)
        found.sort()
        rows.append((sign, len(found), statistics.median(found), found[int(len(found) * 0.9)], found[-1], len(errors), goal))
        if errors:
            print(f"{sign}: errors, for example {errors[:3]}")
    columns = ("signal", "times", "median ms", "p90 ms", "longest ms", "errors", "goal")
    table("The longest pause of a client of the surviving nodes when the leader ends", columns, rows)
