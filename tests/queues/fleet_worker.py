"""A worker or producer of the fleet, as a process of its own: `worker NAME FILE ADDRESS...` or `producer NAME FILE COUNT ADDRESS...`.

It uses redis-py as it comes, asks the next node when one does not answer, and repeats what it is not sure of. The first who takes
a job that says so stands still, before its effect or after, until it is told to go on: by then the job is another's.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import redis

from outside import Outside

LEASE_MS = 1_500
SLEEPS_EVERY = 150


class Nodes:
    """One client, of the node that answered last."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.at = 0
        self.client: redis.Redis | None = None

    def ask(self, *words: object) -> object:
        """The answer, which is certain. Raises ResponseError for refusals."""
        while True:
            try:
                if self.client is None:
                    host, port = self.addresses[self.at % len(self.addresses)].split(":")
                    # What is repeated is decided here, not in redis-py.
                    self.client = redis.Redis(host=host, port=int(port), socket_timeout=10, retry=None)
                return self.client.execute_command(*words)
            except redis.ResponseError as error:
                if not str(error).startswith(("UNCERTAIN", "TRYAGAIN")):
                    raise
            except (redis.ConnectionError, redis.TimeoutError):
                self.at += 1
            self.client = None
            time.sleep(0.02)


def stand_still(outside: Outside, job: bytes, name: str) -> None:
    outside.note("asleep", job.decode(), name, os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)


def work(name: str, path: str, addresses: list[str]) -> None:
    nodes, outside = Nodes(addresses), Outside(path)
    while True:
        taken = nodes.ask("QTAKE", 1, "fleet", "WORKER", name, "COUNT", 2, "LEASE", LEASE_MS)
        for _, job, token, payload, attempt, *_ in taken or []:  # type: ignore[union-attr]
            if payload == b"before" and attempt == 1:
                stand_still(outside, job, name)
            outside.carry_out(job.decode(), token)
            if payload == b"after" and attempt == 1:
                stand_still(outside, job, name)
            try:
                nodes.ask("QACK", "fleet", job, token)
            except redis.ResponseError as error:
                assert str(error).startswith("STALE"), error
                outside.note("stale", job.decode(), token, name)
            else:
                outside.note("acknowledged", job.decode(), token, name)


def produce(name: str, path: str, count: int, addresses: list[str]) -> None:
    nodes, outside = Nodes(addresses), Outside(path)
    for number in range(count):
        job = f"{name}-{number}"
        payload = {0: "before", SLEEPS_EVERY // 2: "after"}.get(number % SLEEPS_EVERY, "plain")
        nodes.ask("QADD", "fleet", payload, "ID", job)
        outside.note("added", job)


if __name__ == "__main__":
    kind, name, path, *rest = sys.argv[1:]
    work(name, path, rest) if kind == "worker" else produce(name, path, int(rest[0]), rest[1:])
