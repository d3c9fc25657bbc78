"""Queues of leased jobs on one node, through redis-py as it comes: no client knows these commands."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest
import redis

from harness.cluster import until
from harness.server import Skep

Client = redis.Redis


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_life_of_a_job(skep: Skep, protocol: int) -> None:
    r = redis.Redis(port=skep.port, protocol=protocol)
    r.flushall()
    assert r.execute_command("QADD", "mail", "to: ada", "ID", "m1") == [b"m1", 1]
    assert r.execute_command("QADD", "mail", "to: ada", "ID", "m1") == [b"m1", 0]
    assert r.type("mail") == b"queue"
    assert list(r.scan_iter(_type="queue")) == [b"mail"]
    [[queue, job, token, payload, attempt, until_ms, group]] = r.execute_command("QTAKE", 2, "urgent", "mail", "WORKER", "w1")
    assert (queue, job, payload, attempt, group) == (b"mail", b"m1", b"to: ada", 1, None)
    assert until_ms > time.time() * 1000
    assert r.execute_command("QTAKE", 1, "mail") is None
    assert r.execute_command("QBEAT", "mail", job, token, 60_000) > until_ms
    assert [each[0] for each in r.execute_command("QBEAT", "mail", "WORKER", "w1")] == [b"m1"]
    with pytest.raises(redis.ResponseError, match="STALE"):
        r.execute_command("QACK", "mail", job, token - 1)
    assert r.execute_command("QFAIL", "mail", job, token, "ERROR", "smtp down", "DELAY", 0) <= time.time() * 1000
    [[_, _, again, _, attempt, *_]] = r.execute_command("QTAKE", 1, "mail")
    assert again > token and attempt == 2
    assert r.execute_command("QACK", "mail", job, again, "RESULT", "250 ok") == 1
    shown = r.execute_command("QGET", "mail", job)
    shown = shown if protocol == 3 else dict(zip(shown[::2], shown[1::2], strict=True))
    assert (shown[b"state"], shown[b"result"], shown[b"errors"][0][2]) == (b"done", b"250 ok", b"smtp down")
    assert r.execute_command("QTAKE", 1, "mail", "BLOCK", 10) is None
    keys = r.command_getkeys("QTAKE", 2, "a", "b", "COUNT", 5)
    assert [key.decode() if isinstance(key, bytes) else key for key in keys] == ["a", "b"]


def test_the_work_of_a_worker_that_stood_still_is_refused(skep: Skep) -> None:
    r = redis.Redis(port=skep.port, protocol=2)
    r.delete("stopped")
    r.execute_command("QADD", "stopped", "payload", "ID", "j")
    line = [sys.executable, str(Path(__file__).with_name("worker.py")), str(skep.port)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        _, job, token = worker.stdout.readline().split()
        worker.send_signal(signal.SIGSTOP)
        [lease] = until(lambda: r.execute_command("QTAKE", 1, "stopped", "LEASE", 60_000), "the job is given to another")
        assert (lease[1], lease[4]) == (job.encode(), 2) and lease[2] > int(token)
        worker.send_signal(signal.SIGCONT)
        worker.stdin.write("\n")
        worker.stdin.flush()
        assert worker.stdout.readline() == "refused STALE lease lost\n"
    assert r.execute_command("QACK", "stopped", "j", lease[2]) == 1


def test_jobs_of_a_group_run_one_after_another_in_order_under_eight_workers(quick_skep: Skep) -> None:
    groups, jobs = 5, 40
    r = redis.Redis(port=quick_skep.port, protocol=2)
    r.flushall()
    for number in range(jobs):
        for group in range(groups):
            r.execute_command("QADD", "g", number, "GROUP", group)
    lock = threading.Lock()
    running: dict[bytes, int] = defaultdict(int)
    order: dict[bytes, list[int]] = defaultdict(list)
    most = 0

    def work() -> None:
        nonlocal most
        client = redis.Redis(port=quick_skep.port, protocol=2)
        while r.exists("g"):
            for queue, job, token, payload, _, _, group in client.execute_command("QTAKE", 1, "g") or []:
                with lock:
                    running[group] += 1
                    most = max(most, sum(running.values()))
                    assert running[group] == 1, f"two jobs of group {group!r} at a time"
                    order[group].append(int(payload))
                with lock:
                    running[group] -= 1
                assert client.execute_command("QACK", queue, job, token) == 1

    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=guarded) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures
    assert all(order[b"%d" % group] == list(range(jobs)) for group in range(groups)), order


def test_a_rate_is_never_passed(quick_skep: Skep) -> None:
    rate, jobs, lease = 100, 250, 10_000
    r = redis.Redis(port=quick_skep.port, protocol=2)
    r.flushall()
    r.execute_command("QSET", "r", "RATE", rate, "PER", 1000)
    for number in range(jobs):
        r.execute_command("QADD", "r", number)
    taken: list[int] = []
    while len(taken) < jobs:
        # The instant of the take by the server's own time.
        taken += [each[5] - lease for each in r.execute_command("QTAKE", 1, "r", "COUNT", 10, "LEASE", lease) or []]
    most = max(sum(1 for at in taken if start <= at < start + 1000) for start in taken)
    assert most == rate, f"{most} within a second"
    spent = (taken[-1] - taken[0]) / 1000
    print(f"{jobs} jobs in {spent:.2f} s at {rate} a second, at most {most} within any")


def test_delays_end_soon_after_their_time(quick_skep: Skep) -> None:
    """How soon is printed: a busy machine says nothing about the server."""
    r = redis.Redis(port=quick_skep.port, protocol=2)
    r.flushall()
    lease, due = 60_000, {}
    for number in range(200):
        job, _ = r.execute_command("QADD", "d", "p", "DELAY", 100 + 7 * number)
        due[job] = None
    for job in due:
        shown = r.execute_command("QGET", "d", job)
        due[job] = dict(zip(shown[::2], shown[1::2], strict=True))[b"deadline-ms"]
    late = []
    while len(late) < len(due):
        for _, job, _, _, _, end, _ in r.execute_command("QTAKE", 1, "d", "COUNT", 10, "LEASE", lease) or []:
            if due[job] is not None:
                assert end - lease >= due[job], f"{job!r} came early"
                late.append(end - lease - due[job])
    late.sort()
    print(f"delays: median {late[len(late) // 2]} ms, p99 {late[len(late) * 99 // 100]} ms, worst {late[-1]} ms late, polling without a pause")


def test_what_is_due_happens_without_anybody_asking(quick_skep: Skep) -> None:
    r = redis.Redis(port=quick_skep.port, protocol=2)
    r.flushall()
    r.execute_command("QADD", "alone", "p", "ID", "j", "TRIES", 1)
    r.execute_command("QTAKE", 1, "alone", "LEASE", 50)
    # Reads change nothing, and no entry is made for them.
    until(lambda: r.execute_command("QLIST", "alone", "DEAD")[1], "the lease ends")
    assert r.execute_command("QREDO", "alone", "ALL") == 1
    assert r.execute_command("QDROP", "alone", "ALL", "READY") == 1
    assert not r.exists("alone")


def test_jobs_leases_and_schedules_survive_a_kill() -> None:
    with Skep() as server:
        r = redis.Redis(port=server.port, protocol=2)
        r.execute_command("QSET", "q", "TRIES", 9)
        r.execute_command("QADD", "q", "first")
        [[_, job, token, *_]] = r.execute_command("QTAKE", 1, "q", "LEASE", 600_000)
        for number in range(100):
            r.execute_command("QADD", "q", number, "ID", f"j{number}", "DELAY", 600_000 if number % 2 else 0)
        r.execute_command("QCRON", "q", "SET", "nightly", "30 2 * * *", "report", "TZ", "Europe/Berlin")
        before = until(lambda: (listed := r.execute_command("QCRON", "q", "LIST")) and listed[0][9] and listed, "the next tick is known")
        server.kill()
        server.start()
        r = redis.Redis(port=server.port, protocol=2)
        assert r.execute_command("QCRON", "q", "LIST") == before
        shown = r.execute_command("QINFO", "q")
        shown = dict(zip(shown[::2], shown[1::2], strict=True))
        assert (shown[b"ready"], shown[b"delayed"], shown[b"leased"], shown[b"tries"]) == (50, 50, 1, 9)
        assert r.execute_command("QADD", "q", "again", "ID", "j7") == [b"j7", 0]
        assert r.execute_command("QACK", "q", job, token) == 1
        [[_, _, later, *_]] = r.execute_command("QTAKE", 1, "q")
        assert later > token
        with pytest.raises(redis.ResponseError, match="unknown time zone 'Mars/Olympus'"):
            r.execute_command("QCRON", "q", "SET", "odd", "30 2 * * *", "report", "TZ", "Mars/Olympus")
