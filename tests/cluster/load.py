"""Clients that do one thing at a time, note what they saw, and let the checker judge it.

Each client uses registers, counters and queues that all clients share. The keys change every few dozen operations, so
that no key's history grows too long to search.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from harness.cluster import Cluster, Node, until
from harness.resp import Connection, ConnectionLost, Reply
from linearizability.checker import check
from linearizability.history import NEVER, Operation

KEYS_PER_KIND = 2
OPERATIONS_PER_KEYS = 60
"""After so many operations a client goes on to the next keys."""
ANSWER_SECONDS = 30.0
"""Longer than any request timeout used here, so that a client gives up on a node only when the node is cut off or gone."""
RECONNECT_SECONDS = 0.02

COMMANDS = {
    ("register", "set"): lambda key, value: ["SET", key, value],
    ("register", "get"): lambda key, _: ["GET", key],
    ("register", "getset"): lambda key, value: ["SET", key, value, "GET"],
    ("register", "delete"): lambda key, _: ["DEL", key],
    ("counter", "increment"): lambda key, by: ["INCRBY", key, by],
    ("counter", "get"): lambda key, _: ["GET", key],
    ("queue", "push"): lambda key, value: ["RPUSH", key, value],
    ("queue", "pop"): lambda key, _: ["LPOP", key],
    ("queue", "all"): lambda key, _: ["LRANGE", key, 0, -1],
}
READS = {"get", "all"}
LAST_READ = {"register": "get", "counter": "get", "queue": "all"}
CHOICES = [
    ("register", "set"), ("register", "set"), ("register", "get"), ("register", "get"), ("register", "getset"),
    ("counter", "increment"), ("counter", "increment"), ("counter", "get"),
    ("queue", "push"), ("queue", "push"), ("queue", "pop"), ("queue", "pop"),
]  # fmt: skip


def command(key: str, name: str, argument: object) -> list[str | int]:
    return COMMANDS[key.split(":")[0], name](key, argument)


def result(key: str, name: str, reply: Reply) -> object:
    """The reply as the models have it."""
    kind, value = reply
    if kind == "*":
        return tuple(each[1].decode() for each in value)
    if kind in "$+":
        text = None if value is None else value.decode()
        return int(text or 0) if key.startswith("counter") else text
    return value


class Client(threading.Thread):
    """One client. It uses the first of its nodes until it loses it, then the next, and so on in a circle."""

    def __init__(self, load: "Load", number: int, nodes: Sequence[Node]) -> None:
        super().__init__(daemon=True)
        self.load = load
        self.number = number
        self.nodes = list(nodes)
        self.rng = random.Random(f"{load.seed}/{number}")
        self.operations: list[Operation] = []
        self.sent = 0
        self.acknowledged = 0
        self.errors: list[str] = []
        """What did not go well, though it may have been right: TRYAGAIN, UNCERTAIN, a lost connection."""
        self.failure: str | None = None

    def run(self) -> None:
        turn = 0
        try:
            while not self.load.stop.is_set():
                node = self.nodes[turn % len(self.nodes)]
                try:
                    with Connection(node.port, host=node.host, timeout=ANSWER_SECONDS) as connection:
                        while not self.load.stop.is_set():
                            self._one(connection)
                except (ConnectionLost, OSError) as lost:
                    self.errors.append(f"n{node.number}: {lost or type(lost).__name__}")
                    self.load.stop.wait(RECONNECT_SECONDS)
                turn += 1
        except Exception as error:  # noqa: BLE001 - a thread's error must reach the test
            self.failure = f"client {self.number}: {type(error).__name__}: {error}"

    def _one(self, connection: Connection) -> None:
        kind, name = self.rng.choice(CHOICES)
        key = f"{kind}:{self.load.name}:{self.sent // OPERATIONS_PER_KEYS}:{self.rng.randrange(KEYS_PER_KIND)}"
        self.sent += 1
        argument = {"set": f"{self.number}-{self.sent}", "getset": f"{self.number}-{self.sent}", "push": f"{self.number}-{self.sent}", "increment": 1}.get(name)
        self.note(connection, key, name, argument)

    def note(self, connection: Connection, key: str, name: str, argument: object) -> None:
        """Does one operation and records it with its times."""
        begin = time.monotonic()
        try:
            reply = connection.call(*command(key, name, argument))
        except ConnectionLost:
            self._uncertain(key, name, argument, begin)
            raise
        if reply[0] != "-":
            self.operations.append(Operation(self.number, key, name, argument, result(key, name, reply), begin, time.monotonic()))
            self.acknowledged += 1
            return
        text = reply[1].decode()
        self.errors.append(text)
        if text.startswith("UNCERTAIN"):
            self._uncertain(key, name, argument, begin)
        elif not text.startswith("TRYAGAIN"):
            raise AssertionError(f"{command(key, name, argument)}: {text}")
        self.load.stop.wait(RECONNECT_SECONDS)

    def _uncertain(self, key: str, name: str, argument: object, begin: float) -> None:
        if name not in READS:
            self.operations.append(Operation(self.number, key, name, argument, None, begin, NEVER))

    def longest_pause(self) -> float:
        """The longest time in seconds between two of its acknowledged operations."""
        ends = [each.end for each in self.operations if each.certain]
        return max((later - earlier for earlier, later in zip(ends, ends[1:], strict=False)), default=0.0)


class Load:
    """Clients under one name; names keep the keys of several loads apart."""

    def __init__(self, cluster: Cluster, seed: int = 1, name: str = "a") -> None:
        self.cluster = cluster
        self.seed = seed
        self.name = name
        self.stop = threading.Event()
        self.clients: list[Client] = []

    def start(self, *routes: Sequence[Node]) -> "Load":
        """One client for each route. Returns when each has had answers."""
        begun = [Client(self, len(self.clients) + number, nodes) for number, nodes in enumerate(routes)]
        self.clients += begun
        for each in begun:
            each.start()
        self.progress(10, begun)
        return self

    def start_everywhere(self, per_node: int = 2) -> "Load":
        """Clients that stay with their node, the same number on each."""
        return self.start(*([node] for node in self.cluster.nodes for _ in range(per_node)))

    def of(self, *nodes: Node) -> list[Client]:
        """The clients that stay with one of these nodes."""
        return [each for each in self.clients if all(node in nodes for node in each.nodes)]

    def progress(self, count: int = 50, clients: Iterable[Client] | None = None) -> None:
        """Waits until each of the clients has had so many more answers."""
        chosen = list(clients) if clients is not None else self.clients
        goals = {each: each.acknowledged + count for each in chosen}

        def lagging() -> list[Client]:
            self._raise_failures()
            return [each for each in chosen if each.acknowledged < goals[each]]

        def missing() -> str:
            shown = "; ".join(f"client {each.number} of n{[n.number for n in each.nodes]}, last errors {each.errors[-3:]}" for each in lagging())
            return f"{count} more answers to {shown}{self.cluster.describe(self.cluster.nodes)}"

        until(lambda: not lagging(), missing)

    @contextmanager
    def undisturbed(self, *nodes: Node) -> Iterator[list[Client]]:
        """The clients that stay with these nodes; they must see no error in the block."""
        clients = self.of(*nodes)
        before = {each: len(each.errors) for each in clients}
        yield clients
        seen = {f"client {each.number} of n{each.nodes[0].number}": each.errors[before[each] :] for each in clients}
        assert not any(seen.values()), {name: errors for name, errors in seen.items() if errors}

    def errors(self, clients: Iterable[Client] | None = None) -> list[str]:
        return [error for each in (clients if clients is not None else self.clients) for error in each.errors]

    def _raise_failures(self) -> None:
        failures = [each.failure for each in self.clients if each.failure]
        assert not failures, "\n".join(failures)

    def finish(self, *through: Node) -> None:
        """Ends the clients, reads every key through the nodes (all that live, if none are named), and checks the history."""
        self.stop.set()
        for each in self.clients:
            each.join(ANSWER_SECONDS * 2)
            assert not each.is_alive(), f"client {each.number} hangs"
        self._raise_failures()
        operations = [operation for each in self.clients for operation in each.operations]
        keys = sorted({operation.key for operation in operations})
        for node in through or self.cluster.living():
            reader = Client(self, 1000 + node.number, [node])
            with node.connect() as connection:
                for key in keys:
                    reader.note(connection, key, LAST_READ[key.split(":")[0]], None)
            assert not reader.errors, f"reading through n{node.number} at rest: {reader.errors[:3]}"
            operations += reader.operations
        checked = check(operations)
        acknowledged = sum(each.acknowledged for each in self.clients)
        assert acknowledged > 20 * len(self.clients), f"only {acknowledged} answers: no test"
        pause = max(each.longest_pause() for each in self.clients)
        print(f"{checked}, {acknowledged} acknowledged, {len(self.errors())} errors, longest pause of a client {pause * 1000:.0f} ms")
