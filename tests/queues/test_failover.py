"""Queues while leaders are killed: nothing lost, nothing twice."""

from __future__ import annotations

import random
import threading
import time

from harness.cluster import Cluster, Node, until
from harness.resp import Connection, ConnectionLost, Reply, is_error

SEED = 1
PRODUCERS, WORKERS = 4, 4
JOBS_EACH = 300
KILLS = 4
LEASE_MS = 2_000


class Client(threading.Thread):
    """Asks any node, and again until there is an answer that is certain."""

    def __init__(self, number: int, nodes: list[Node]) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.rng = random.Random(f"{SEED}/{number}")
        self.nodes = nodes
        self.connection: Connection | None = None
        self.repeats = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.failure = error

    def work(self) -> None:
        raise NotImplementedError

    def ask(self, *words: bytes | str | int) -> Reply | None:
        """The reply, or None if it is not known whether the command was carried out, or it was not."""
        try:
            if self.connection is None:
                node = self.rng.choice(self.nodes)
                self.connection = Connection(node.port, host=node.host, timeout=5)
            reply = self.connection.call(*words)
        except (ConnectionLost, OSError):
            self.connection = None
            time.sleep(0.01)
            return None
        if is_error(reply) and reply[1].split()[0] in (b"TRYAGAIN", b"UNCERTAIN"):
            self.connection = None
            return None
        return reply


class Producer(Client):
    """Adds its jobs, each again under its id until it is answered."""

    def work(self) -> None:
        for number in range(JOBS_EACH):
            job = f"{self.number}-{number}"
            while (reply := self.ask("QADD", "jobs", "payload of " + job, "ID", job)) is None:
                self.repeats += 1
            assert reply[0] == "*" and reply[1][0] == ("$", job.encode()), reply


class Worker(Client):
    """Takes jobs and acknowledges each until that is answered or refused."""

    def __init__(self, number: int, nodes: list[Node]) -> None:
        super().__init__(number, nodes)
        self.leases: list[tuple[bytes, int]] = []
        self.done: set[bytes] = set()
        self.lost = 0
        self.over = threading.Event()

    def work(self) -> None:
        while not self.over.is_set():
            reply = self.ask("QTAKE", 1, "jobs", "WORKER", f"w{self.number}", "COUNT", 3, "LEASE", LEASE_MS)
            if reply is None or reply[1] is None:
                continue
            assert reply[0] == "*", reply
            for lease in reply[1]:
                _, (_, job), (_, token), (_, payload), *_ = lease[1]
                assert payload == b"payload of " + job
                self.leases.append((job, token))
                while (answer := self.ask("QACK", "jobs", job, token)) is None:
                    self.repeats += 1
                if answer == (":", 1):
                    self.done.add(job)
                else:
                    assert answer[1] == b"STALE lease lost", answer
                    self.lost += 1


def info(cluster: Cluster, queue: str) -> dict[bytes, int]:
    """QINFO, or nothing if it cannot be had now."""
    try:
        kind, rows = cluster.living()[0].call("QINFO", queue)
    except (ConnectionLost, OSError):
        return {}
    if kind != "*":
        return {}
    return {rows[at][1]: rows[at + 1][1] for at in range(0, len(rows), 2)}


def test_every_job_is_added_and_done_once_while_leaders_are_killed() -> None:
    total = PRODUCERS * JOBS_EACH
    with Cluster() as cluster:
        # The memory of what is done must outlive the longest repeat on a busy machine.
        assert cluster.node(1).call("QSET", "jobs", "KEEP", 3_600_000, "TRIES", 0) == ("+", b"OK")
        producers = [Producer(number, cluster.nodes) for number in range(PRODUCERS)]
        workers = [Worker(PRODUCERS + number, cluster.nodes) for number in range(WORKERS)]
        clients: list[Client] = [*producers, *workers]
        for client in clients:
            client.start()
        for kill in range(KILLS):
            share = total * (kill + 1) // (KILLS + 2)
            until(lambda share=share: info(cluster, "jobs").get(b"added", 0) >= share, f"{share} jobs are added")
            victim = cluster.wait_leader()
            victim.kill()
            victim.begin()
            cluster.wait_whole()
        for producer in producers:
            producer.join()
        until(lambda: info(cluster, "jobs").get(b"done") == total, lambda: f"all are done: {info(cluster, 'jobs')}")
        for worker in workers:
            worker.over.set()
            worker.join()
        assert not (failures := [client.failure for client in clients if client.failure]), failures
        found = info(cluster, "jobs")
        assert (found[b"added"], found[b"acknowledged"]) == (total, total), "each once"
        assert [found[state] for state in (b"ready", b"delayed", b"leased", b"dead")] == [0, 0, 0, 0]
        leases = [lease for worker in workers for lease in worker.leases]
        assert len({token for _, token in leases}) == len(leases), "no token twice"
        done = [job for worker in workers for job in worker.done]
        assert len(done) == len(set(done)), "no job is done by two"
        for worker in workers:
            tokens = [token for _, token in worker.leases]
            assert tokens == sorted(tokens), "tokens only grow"
        repeats, lost = sum(c.repeats for c in clients), sum(w.lost for w in workers)
        print(f"{total} jobs, {KILLS} leaders killed, {repeats} repeats, {len(leases)} leases, {lost} acknowledgements too late")


def test_a_schedule_ticks_once_a_second_through_failovers() -> None:
    wanted = 15
    with Cluster() as cluster:
        assert cluster.node(1).call("QCRON", "ticks", "SET", "beat", "* * * * * *", "tick") == ("+", b"OK")
        for ticks in (4, 8, 12):
            until(lambda ticks=ticks: info(cluster, "ticks").get(b"ready", 0) >= ticks, f"{ticks} ticks")
            victim = cluster.wait_leader()
            victim.kill()
            victim.begin()
            cluster.wait_whole()
        until(lambda: info(cluster, "ticks").get(b"ready", 0) >= wanted, f"{wanted} ticks")
        _, (_, (_, jobs)) = cluster.node(1).call("QLIST", "ticks", "READY", "COUNT", 1000)
        seconds = [int(job[1][1][1].removeprefix(b"beat@")) // 1000 for job in jobs]
        assert seconds == list(range(seconds[0], seconds[0] + len(seconds))), "each second once, none left out"
        print(f"{len(seconds)} ticks in a row through 3 killed leaders")


class TickTaker(Client):
    """Takes jobs and acknowledges each, over and over if the answer is lost; they are forgotten then."""

    def __init__(self, number: int, nodes: list[Node]) -> None:
        super().__init__(number, nodes)
        self.done: list[bytes] = []
        self.over = threading.Event()

    def work(self) -> None:
        while not self.over.is_set():
            reply = self.ask("QTAKE", 1, "ticks", "COUNT", 10, "BLOCK", 100, "LEASE", LEASE_MS)
            if reply is None or reply[1] is None:
                continue
            for lease in reply[1]:
                _, (_, job), (_, token), *_ = lease[1]
                repeats = 0
                while (answer := self.ask("QACK", "ticks", job, token)) is None:
                    repeats += 1
                # Who repeats may find that it is done, and forgotten.
                if answer == (":", 1) or repeats and answer[1].startswith(b"NOJOB"):
                    self.done.append(job)
                else:
                    assert answer[1] == b"STALE lease lost", answer


def test_ticks_that_are_taken_and_forgotten_come_once_through_a_leader_that_stood_still_and_the_end_of_all_nodes() -> None:
    schedule = ("QCRON", "ticks", "SET", "beat", "* * * * * *", "tick", "TRIES", 0, "KEEP", 0)
    with Cluster() as cluster:
        assert cluster.node(1).call(*schedule) == ("+", b"OK")
        takers = [TickTaker(number, cluster.nodes) for number in range(2)]
        for taker in takers:
            taker.start()

        def taken(ticks: int) -> None:
            until(lambda: sum(len(taker.done) for taker in takers) >= ticks, f"{ticks} ticks are taken")

        taken(2)
        leader = cluster.wait_leader()
        leader.stop()
        cluster.wait_leader(cluster.others(leader))
        taken(4)
        leader.go_on()
        cluster.wait_whole()
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.spawn()
        cluster.wait_whole()
        # As each start of a program does: it goes on where it was.
        assert cluster.node(1).call(*schedule) == ("+", b"OK")
        taken(8)
        for taker in takers:
            taker.over.set()
            taker.join()
        assert not (failures := [taker.failure for taker in takers if taker.failure]), failures
        left = {job[1][1][1] for state in ("READY", "LEASED") for job in cluster.node(1).call("QLIST", "ticks", state, "COUNT", 1000)[1][1][1]}
        done = [job for taker in takers for job in taker.done]
        assert len(done) == len(set(done)), "no tick came again when its job was forgotten"
        seconds = sorted(int(job.removeprefix(b"beat@")) // 1000 for job in left | set(done))
        assert seconds == list(range(seconds[0], seconds[0] + len(seconds))), "each second once, none left out"
        print(f"{len(seconds)} ticks in a row through a leader that stood still and the end of all nodes")
