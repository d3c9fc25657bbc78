"""A fleet of worker processes on three nodes: nodes are killed, workers are killed or stand still past their leases."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cluster import Cluster, until

from .outside import Outside
from .test_failover import info

SEED = 4
PRODUCERS, JOBS_EACH = 2, 600
WORKERS = 4
KILLS = 3
PROGRAM = Path(__file__).with_name("fleet_worker.py")


class Fleet:
    """The processes. Each worker begins at another node."""

    def __init__(self, cluster: Cluster, path: Path) -> None:
        self.path = path
        self.addresses = [f"{node.host}:{node.port}" for node in cluster.nodes]
        self.workers = [self.worker(number) for number in range(WORKERS)]
        self.producers = [self.start("producer", f"p{number}", str(JOBS_EACH), at=number) for number in range(PRODUCERS)]

    def start(self, kind: str, name: str, *words: str, at: int) -> subprocess.Popen[bytes]:
        at %= len(self.addresses)
        return subprocess.Popen([sys.executable, str(PROGRAM), kind, name, str(self.path), *words, *self.addresses[at:], *self.addresses[:at]])

    def worker(self, number: int) -> subprocess.Popen[bytes]:
        return self.start("worker", f"w{number}", at=number)

    def close(self) -> None:
        for process in [*self.workers, *self.producers]:
            process.kill()
            process.wait()


def is_done(cluster: Cluster, job: str) -> bool:
    kind, rows = cluster.living()[0].call("QGET", "fleet", job)
    return kind == "*" and dict(zip(rows[::2], rows[1::2], strict=True))[("$", b"state")] == ("$", b"done")


def stands_still(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except FileNotFoundError:
        return False


def wake(cluster: Cluster, outside: Outside, fleet: Fleet) -> None:
    """Who stands still goes on once another has done its job, or if all who live stand still."""
    living = [worker for worker in fleet.workers if worker.poll() is None]
    asleep = [worker for worker in living if stands_still(worker.pid)]
    for worker in asleep:
        [(job,)] = outside.rows(f"SELECT job FROM asleep WHERE process = {worker.pid} ORDER BY rowid DESC LIMIT 1")
        if is_done(cluster, job) or len(asleep) == len(living):
            worker.send_signal(signal.SIGCONT)


# Who stood still and has heard nothing of what it did then.
UNANSWERED = """
SELECT job FROM asleep WHERE process NOT IN (SELECT process FROM killed)
EXCEPT SELECT asleep.job FROM asleep JOIN (SELECT job, worker FROM stale UNION SELECT job, worker FROM acknowledged) USING (job, worker)
"""


@pytest.mark.timeout(600)
def test_each_job_of_a_fleet_is_accepted_once_while_nodes_and_workers_are_killed(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    total = PRODUCERS * JOBS_EACH
    path = tmp_path / "outside.sqlite"
    with Cluster() as cluster:
        # The memory of what is done must outlive the longest repeat on a busy machine.
        assert cluster.node(1).call("QSET", "fleet", "KEEP", 3_600_000, "TRIES", 0) == ("+", b"OK")
        outside, fleet = Outside(path), Fleet(cluster, path)

        def reached(state: bytes, count: int) -> bool:
            wake(cluster, outside, fleet)
            return info(cluster, "fleet").get(state, 0) >= count

        try:
            for kill in range(KILLS):
                share = total * (kill + 1) // (KILLS + 2)
                until(lambda share=share: reached(b"acknowledged", share), lambda share=share: f"{share} are done: {info(cluster, 'fleet')}")
                dies = rng.randrange(WORKERS)
                fleet.workers[dies].kill()
                fleet.workers[dies].wait()
                outside.note("killed", fleet.workers[dies].pid)
                leader = cluster.wait_leader()
                victim = leader if kill % 2 == 0 else rng.choice(cluster.others(leader))
                victim.kill()
                until(lambda share=share: reached(b"acknowledged", share + 20), "work goes on without the node")
                victim.begin()
                cluster.wait_whole()
                fleet.workers[dies] = fleet.worker(dies)
            for producer in fleet.producers:
                until(lambda producer=producer: producer.poll() is not None or reached(b"added", total), "the producers have added all")

            def all_are_done(count: int) -> None:
                until(lambda: reached(b"done", count), lambda: f"{count} are done: {info(cluster, 'fleet')}")
                until(lambda: not any(stands_still(worker.pid) for worker in fleet.workers) or wake(cluster, outside, fleet), "all are awake")

            all_are_done(total)
            # Any of those who stood still so far may have been killed, or woken because all did. Nobody is killed from here on,
            # and one at a time leaves others awake: one is fenced out for certain, and one comes too late with its answer.
            for last in ("before", "after"):
                assert cluster.node(1).call("QADD", "fleet", last, "ID", f"last-{last}")[0] == "*"
                outside.note("added", f"last-{last}")
                total += 1
                all_are_done(total)
            assert [producer.wait(60) for producer in fleet.producers] == [0] * PRODUCERS
            assert all(worker.poll() is None for worker in fleet.workers), "no worker met an answer that it did not expect"
            found = info(cluster, "fleet")
            until(lambda: not outside.rows(UNANSWERED), "who was woken is answered")
        finally:
            fleet.close()
        assert (found[b"added"], found[b"acknowledged"]) == (total, total), "each once"
        assert [found[state] for state in (b"ready", b"delayed", b"leased", b"dead")] == [0, 0, 0, 0]
        assert outside.rows("SELECT count(DISTINCT job) FROM added") == [(total,)]
        twice = outside.rows("SELECT job, count(DISTINCT token) FROM acknowledged GROUP BY job HAVING count(DISTINCT token) > 1")
        assert not twice, f"accepted under two tokens: {twice}"
        others = outside.rows("SELECT a.job, a.token, e.token FROM acknowledged a JOIN effects e USING (job) WHERE a.token != e.token")
        assert not others, f"the effect that stands is not the one that was accepted: {others}"
        assert outside.rows("SELECT count(*) FROM effects") == [(total,)], "every job had its effect"
        [(refused, again, stale)] = outside.rows("SELECT sum(refused), sum(times) - count(*), (SELECT count(*) FROM stale) FROM effects")
        assert refused and again and stale, "workers stood still before and after their effect"
        [(known,)] = outside.rows("SELECT count(DISTINCT job) FROM acknowledged")
        print(
            f"{total} jobs, {KILLS} nodes and {KILLS} workers killed: {again} effects again, {refused} fenced out, "
            f"{stale} acknowledgements refused, {known} acknowledgements noted"
        )
