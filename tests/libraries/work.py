"""What the Python programs of this directory share: where the servers are, how long to go on, and what was really done.

A worker notes each job that it carries out in a file, so that the proof that it was done does not pass the server under test.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

HOST = os.environ.get("LIBRARY_HOST", "127.0.0.1")
"""A name with an address for each node, or one address."""
PORT = int(os.environ.get("LIBRARY_PORT", "6379"))
DB = int(os.environ.get("LIBRARY_DB", "0"))
NODES = os.environ.get("LIBRARY_NODES", f"{HOST}:{PORT}").split(",")
"""Each node's address, in the order in which they are to be tried."""
DONE = os.environ.get("LIBRARY_DONE", "")
"""The file of what was done, a line each."""
LEAST = int(os.environ.get("LIBRARY_LEAST", "100"))
"""So many rounds at least."""
PAUSE = float(os.environ.get("LIBRARY_PAUSE", "0.1"))
"""Between two rounds, in seconds: the load is steady, not as much as the machine can do."""
PATIENCE = float(os.environ.get("LIBRARY_PATIENCE", "90"))

T = TypeVar("T")


def done(job: str) -> None:
    """Notes that the job was carried out. One write, so that lines of many processes stay whole."""
    descriptor = os.open(DONE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, job.encode() + b"\n")
    finally:
        os.close(descriptor)


def rounds() -> Iterator[int]:
    """Numbers until stdin ends, LEAST at least."""
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    number = 0
    while number < LEAST or not over.is_set():
        yield number
        number += 1
        time.sleep(PAUSE)


class Asked:
    """The jobs that a producer was told are in the queue."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.repeats = 0
        self.errors: dict[str, int] = {}

    def put(self, names: list[str], call: Callable[[], T]) -> T:
        """Asks for jobs until the answer is yes: whoever gets an error does not know whether the job was taken, and asks again."""
        result = self.again(call)
        self.jobs += names
        return result

    def again(self, call: Callable[[], T]) -> T:
        """Calls until it succeeds."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return call()
            except Exception as error:
                self.note(error)
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def note(self, error: BaseException) -> None:
        self.repeats += 1
        text = f"{type(error).__name__}: {error}"[:160]
        self.errors[text] = self.errors.get(text, 0) + 1

    def report(self, **more: object) -> None:
        """The last line of a producer: what was asked for, and that all results were right."""
        print(json.dumps({"jobs": self.jobs, "repeats": self.repeats, "errors": self.errors, **more}), flush=True)


def until(holds: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Waits until `holds()` is true, through errors of a server that is being replaced."""
    end = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            last = holds()
            if last:
                return
        except Exception as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds:.0f} s still not: {what} ({last!r})")
        time.sleep(0.1)
