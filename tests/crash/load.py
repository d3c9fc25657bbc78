"""Pipelined load from several connections, and the check after a restart."""

from __future__ import annotations

import random
import threading

from harness.resp import Connection, ConnectionLost
from harness.server import Server

from .model import Writer

WRITERS = 5
DEPTH_MAX = 48


class Load:
    """Writers that outlive the server: each goes on where the server stood after the last restart."""

    def __init__(self, seed: int, writers: int = WRITERS) -> None:
        self.rng = random.Random(seed)
        self.writers = [Writer(f"w{number}") for number in range(writers)]
        self.sent = [0] * writers
        self.acknowledged = 0
        self.uncertain = 0
        self.failures: list[str] = []
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []

    def start(self, server: Server) -> None:
        self.stop.clear()
        seeds = [self.rng.random() for _ in self.writers]
        self.threads = [
            threading.Thread(target=self._write, args=(number, server, seed), daemon=True) for number, seed in enumerate(seeds)
        ]
        for thread in self.threads:
            thread.start()

    def finish(self) -> None:
        """Waits until all writers have stopped, by `stop` or because the server is gone."""
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a writer hangs"
        assert not self.failures, "\n".join(self.failures)

    def _write(self, number: int, server: Server, seed: float) -> None:
        writer, rng = self.writers[number], random.Random(seed)
        try:
            with server.connect() as connection:
                while not self.stop.is_set():
                    self._batch(number, writer, connection, rng.randint(1, DEPTH_MAX))
        except (ConnectionLost, OSError):
            return
        except Exception as error:  # noqa: BLE001 - a thread's error must reach the test
            self.failures.append(f"{writer.name}: {type(error).__name__}: {error}")

    def _batch(self, number: int, writer: Writer, connection: Connection, depth: int) -> None:
        first = writer.next
        self.sent[number] = first + depth
        connection.send([writer.command(each) for each in range(first, first + depth)])
        for _ in range(depth):
            reply = connection.read()
            if reply[0] == "-" and reply[1].startswith(b"TRYAGAIN"):
                # Not carried out, and so nothing behind it may be either: the state shows it.
                self.sent[number] = writer.next
                raise ConnectionLost("the server declines")
            expected = writer.apply()
            self.acknowledged += 1
            if reply != expected:
                raise AssertionError(f"operation {writer.next - 1} {writer.command(writer.next - 1)}: {reply}, expected {expected}")

    def check(self, server: Server) -> None:
        """Every acknowledged operation is there, and what else is there was sent."""
        with server.connect() as connection:
            for number, writer in enumerate(self.writers):
                self.uncertain += writer.settle(connection, self.sent[number])
                self.sent[number] = writer.next
