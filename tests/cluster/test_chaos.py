"""Every fault at random moments, one or more at once, under load, then healing.

By hand for longer: `CHAOS_SECONDS=3600 CHAOS_SEED=7 pytest cluster/test_chaos.py`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from harness.cluster import Cluster, Node

from .load import Load

SECONDS = float(os.environ.get("CHAOS_SECONDS", "15"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
FLAGS = ["--request-timeout", "1500", "--log-segment-bytes", "256kb", "--checkpoint-log-bytes", "512kb"]
ROUND_SECONDS = 5.0
"""After so long everything is healed, must make progress, and is checked."""


def kill(cluster: Cluster, node: Node) -> None:
    if node.running():
        node.kill()


def revive(cluster: Cluster, node: Node) -> None:
    if not node.running():
        node.spawn()


def stop(cluster: Cluster, node: Node) -> None:
    if node.running() and not node.stopped:
        node.stop()


def go_on(cluster: Cluster, node: Node) -> None:
    if node.running() and node.stopped:
        node.go_on()


def isolate(cluster: Cluster, node: Node) -> None:
    cluster.network.isolate(node.number)


def cut_one_way(cluster: Cluster, node: Node) -> None:
    cluster.network.cut(node.number, node.number % 3 + 1)


def heal(cluster: Cluster, node: Node) -> None:
    cluster.network.heal()


def terminate(cluster: Cluster, node: Node) -> None:
    if node.running() and not node.stopped:
        assert node.terminate() == 0, "SIGTERM ends with 0 whatever the others do"


FAULTS: list[tuple[float, Callable[[Cluster, Node], None]]] = [
    (3, kill), (5, revive), (2, stop), (4, go_on), (2, isolate), (2, cut_one_way), (4, heal), (1, terminate),
]  # fmt: skip


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("shards", [[], ["--shards", "8", "--cores", "2"]], ids=["one shard", "shards on two cores"])
def test_history_is_linearizable_through_faults_at_random_moments(shards: list[str]) -> None:
    rng = random.Random(SEED)
    with Cluster(flags=FLAGS + shards) as cluster:
        end, rounds = time.monotonic() + SECONDS, 0
        while time.monotonic() < end or rounds < 2:
            load = Load(cluster, SEED + rounds, f"round{rounds}").start_everywhere()
            until, faults = time.monotonic() + ROUND_SECONDS, []
            while time.monotonic() < until:
                time.sleep(rng.expovariate(1 / 0.2))
                (fault,) = rng.choices([each for _, each in FAULTS], [weight for weight, _ in FAULTS])
                node = rng.choice(cluster.nodes)
                faults.append(f"{fault.__name__} n{node.number}")
                fault(cluster, node)
            print(f"seed {SEED}, round {rounds}: " + ", ".join(faults))
            cluster.network.heal()
            for node in cluster.nodes:
                go_on(cluster, node)
                revive(cluster, node)
            load.progress(30)
            cluster.wait_whole()
            load.finish()
            rounds += 1
