"""Three nodes on this machine beside three members of etcd and of redis-server, and what a hop to the leader costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from harness.cluster import CLIENT_PORT, Cluster, Node

from .machine import table
from .rivals import Etcd, Measured, RedisReplicated, processor_seconds, redis_load

CONNECTIONS = 50
SIZE = 8
PIPELINES = (1, 16)
SKEP_REQUESTS = {("set", 1): 60_000, ("set", 16): 600_000, ("get", 1): 100_000, ("get", 16): 1_000_000}
ETCD_REQUESTS = {("set", 1): 15_000, ("set", 16): 30_000, ("get", 1): 15_000, ("get", 16): 30_000}
IDLE_SHARDS = 64
IDLE_SECONDS = 20.0

Load = Callable[[str, int, int], Measured]
"""A load by test, requests and pipeline."""


def through(node: Node) -> Load:
    """A load on skep through the node; the processor time is that of all nodes."""

    def run(test: str, requests: int, pipeline: int) -> Measured:
        pids = [each.process.pid for each in node.cluster.nodes if each.process is not None]
        return redis_load(node.host, CLIENT_PORT, test, requests, pipeline, pids, CONNECTIONS, SIZE)

    return run


def throughput(scale: float, repeats: int) -> None:
    """All systems stand on the same hosts at once and are measured in turn, so that what disturbs the machine disturbs all."""
    with Cluster() as cluster, Cluster(1) as single:
        # The second cluster made its hosts the caller's; each load runs on the client host of the system that it measures.
        single.network.leave()
        with Etcd(cluster.network, cluster.directory) as etcd, RedisReplicated(cluster.network, cluster.directory) as redis:
            leader = cluster.wait_leader()
            follower = cluster.others(leader)[0]
            etcd_host = etcd.leader()
            systems: dict[str, Load] = {
                "skep, leader": through(leader),
                "skep, follower": through(follower),
                "skep, one node": _inside(single, through(single.node(1))),
                "etcd, leader": lambda test, requests, pipeline: etcd.load(etcd_host, test, requests, pipeline, CONNECTIONS, SIZE),
                "redis-server, 2 replicas": lambda test, requests, pipeline: redis.load(test, requests, pipeline, CONNECTIONS, SIZE),
            }
            found = _all(systems, scale, repeats)
            assert cluster.wait_leader() is leader, "the leader changed during the measurement"
    _print(systems, found)


def _inside(cluster: Cluster, load: Load) -> Load:
    def run(test: str, requests: int, pipeline: int) -> Measured:
        cluster.network.enter()
        try:
            return load(test, requests, pipeline)
        finally:
            cluster.network.leave()

    return run


Found = dict[tuple[str, str, int], list[Measured]]


def _all(systems: dict[str, Load], scale: float, repeats: int) -> Found:
    found: Found = {}
    for turn in range(repeats + 1):
        for test in ("set", "get"):
            for pipeline in PIPELINES:
                for name, load in systems.items():
                    requests = (ETCD_REQUESTS if name.startswith("etcd") else SKEP_REQUESTS)[test, pipeline]
                    result = load(test, max(1000, int(requests * scale)), pipeline)
                    if turn > 0:  # The first turn warms up.
                        found.setdefault((name, test, pipeline), []).append(result)
    return found


def _print(systems: dict[str, Load], found: Found) -> None:
    rows = []
    for test in ("set", "get"):
        for pipeline in PIPELINES:
            for name in systems:
                runs = found[name, test, pipeline]
                rates = [each.rate for each in runs]
                spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
                clients, servers = (statistics.median(part) for part in ([each.client_us for each in runs], [each.server_us for each in runs]))
                rows.append((test.upper(), pipeline, name, f"{statistics.median(rates):,.0f}", spread, clients, servers))
    columns = ("command", "pipeline", "system", "median /s", "least to most", "load's µs per request", "servers' µs per request")
    table(f"Three nodes on one machine: {CONNECTIONS} connections, values of {SIZE} bytes, skep and etcd durable, redis-server syncs every second", columns, rows)

    def rate(name: str, test: str, pipeline: int) -> float:
        return statistics.median(each.rate for each in found[name, test, pipeline])

    goals = []
    for pipeline in PIPELINES:
        etcd, redis = (rate("skep, leader", "set", pipeline) / rate(name, "set", pipeline) for name in ("etcd, leader", "redis-server, 2 replicas"))
        goals.append(("SET", pipeline, "to etcd", etcd, "10" if pipeline == 16 else ""))
        goals.append(("SET", pipeline, "to redis-server with 2 replicas", redis, "0.70" if pipeline == 16 else ""))
        goals.append(("GET", pipeline, "leader to one node", rate("skep, leader", "get", pipeline) / rate("skep, one node", "get", pipeline), "0.90"))
        for test in ("set", "get"):
            goals.append((test.upper(), pipeline, "follower to leader", rate("skep, follower", test, pipeline) / rate("skep, leader", test, pipeline), "0.60"))
    table("Ratios", ("command", "pipeline", "what", "ratio", "goal, at least"), goals)
    print("\nThe load of etcd is h2load on its gRPC port, one key; that of the others is redis-benchmark with 100,000 keys.", flush=True)


def idle(_scale: float, _repeats: int) -> None:
    """What a cluster costs that nobody uses."""
    rows = []
    for shards in (1, IDLE_SHARDS):
        with Cluster(flags=["--shards", str(shards)]) as cluster:
            pids = [node.process.pid for node in cluster.nodes if node.process is not None]
            cluster.nodes[0].call("SET", "a", "1")
            # Until leaders are spread, copies are compared for the first time, and all groups rest.
            time.sleep(5.0 if shards == 1 else 165.0)
            before = [processor_seconds([pid]) for pid in pids]
            time.sleep(IDLE_SECONDS)
            rows += [
                (shards, f"n{number}", (processor_seconds([pid]) - first) * 100 / IDLE_SECONDS)
                for number, (pid, first) in enumerate(zip(pids, before, strict=True), 1)
            ]
    table("An idle cluster (goal: under 2 % of a core per node with 64 shards)", ("shards", "node", "% of a core"), rows)

