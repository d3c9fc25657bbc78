"""A cluster of real skep processes, each on a host of its own.

Logs of a failed test are kept below target/cluster-logs. A node that panicked fails every test that uses this.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from .network import Network, address
from .resp import Connection, ConnectionLost, Reply
from .server import ROOT, Server, skep_binary

CLIENT_PORT, PEER_PORT, HTTP_PORT = 6379, 7379, 8379
PATIENCE_SECONDS = float(os.environ.get("PATIENCE_SECONDS", "60"))
"""How long anything may take on a busy machine before it counts as hanging. No test says that something was fast."""
LOG_LINES_SHOWN = 60
KEPT_LOGS = ROOT / "target" / "cluster-logs"

OK: Reply = ("+", b"OK")
Status = dict[str, Any]


def until(holds: Callable[[], object], what: str | Callable[[], str], seconds: float = PATIENCE_SECONDS, every: float = 0.02) -> Any:
    """Waits until `holds()` is true, and returns it."""
    end = time.monotonic() + seconds
    while not (result := holds()):
        assert time.monotonic() < end, f"after {seconds:.0f} s still not: {what if isinstance(what, str) else what()}"
        time.sleep(every)
    return result


class Node(Server):
    """One skep on its host. It is used through its cluster."""

    name = "skep"

    def __init__(self, cluster: "Cluster", number: int) -> None:
        directory = cluster.directory / f"n{number}"
        directory.mkdir(exist_ok=True)
        super().__init__(directory=directory, env=cluster.env, host=address(number))
        self.cluster = cluster
        self.number = number
        self.port = CLIENT_PORT
        self.join: list[str] = []
        self.label = f"n{number}"
        """The name that it goes by."""
        self.stopped = False

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def peer_address(self) -> str:
        return f"{self.host}:{PEER_PORT}"

    def command(self) -> list[str]:
        line = [
            str(skep_binary()), "serve", "--data-dir", str(self.data), "--name", self.label,
            "--listen", f"{self.host}:{CLIENT_PORT}", "--peer-listen", self.peer_address,
            "--http-listen", f"{self.host}:{HTTP_PORT}", "--insecure", *self.cluster.flags, *self.extra,
        ]  # fmt: skip
        if self.join:
            line += ["--join", ",".join(self.join)]
        return self.cluster.network.on_host(self.number, line)

    def begin(self) -> None:
        """Starts the process and returns when it answers HTTP, which it does before it belongs to a cluster."""
        self.spawn()
        until(lambda: not self.running() or self.http("/healthz")[0] == 200, f"n{self.number} answers /healthz")
        assert self.running(), f"n{self.number} ended: {self.log()}"

    def connect(self, timeout: float = PATIENCE_SECONDS) -> Connection:
        return Connection(self.port, host=self.host, timeout=timeout)

    def http(self, path: str) -> tuple[int, str]:
        """Status code and body; code 0 if the node does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self.host}:{HTTP_PORT}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def status(self) -> Status | None:
        """`GET /api/v1/cluster`, or None if the node does not answer or belongs to no cluster yet."""
        if self.stopped or not self.running():
            return None
        code, body = self.http("/api/v1/cluster")
        found = json.loads(body) if code == 200 else None
        return found if found and found["cluster_id"] else None

    def ready(self) -> bool:
        return self.running() and not self.stopped and self.http("/readyz")[0] == 200

    def stop(self) -> None:
        """SIGSTOP: the process stands still, the kernel goes on taking its connections and bytes."""
        assert self.process is not None, "it runs"
        self.process.send_signal(signal.SIGSTOP)
        self.stopped = True

    def go_on(self) -> None:
        """SIGCONT."""
        assert self.process is not None, "it runs"
        self.process.send_signal(signal.SIGCONT)
        self.stopped = False

    def kill(self) -> None:
        super().kill()
        self.stopped = False

    def call(self, *words: bytes | str | int) -> Reply:
        """One command over a connection of its own."""
        with self.connect() as connection:
            return connection.call(*words)


class Cluster:
    """`count` nodes that form one cluster when the context is entered, unless `form` is false. n1 is number 1."""

    def __init__(self, count: int = 3, flags: Sequence[str] = (), spare: int = 0, form: bool = True, env: dict[str, str] | None = None) -> None:
        self.flags = list(flags)
        self.env = env
        self.form_at_entry = form
        self.directory = Path(tempfile.mkdtemp(prefix="skep-cluster-"))
        self.network = Network(count + spare)
        self.nodes = [Node(self, number) for number in range(1, count + 1)]
        self.spares = [Node(self, number) for number in range(count + 1, count + spare + 1)]

    def __enter__(self) -> "Cluster":
        self.network.enter()
        if self.form_at_entry:
            try:
                self.form()
            except BaseException as error:
                self.__exit__(type(error), error, None)
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        everyone = [*self.nodes, *self.spares]
        for node in everyone:
            node.kill()
        self.network.close()
        logs = {f"n{node.number}": node.log() for node in everyone if node.log_path.exists()}
        panicked = [name for name, log in logs.items() if "panicked" in log]
        if kind is not None or panicked:
            self._keep(logs)
        shutil.rmtree(self.directory, ignore_errors=True)
        assert kind is not None or not panicked, f"{panicked} panicked"

    def _keep(self, logs: dict[str, str]) -> None:
        test = os.environ.get("PYTEST_CURRENT_TEST", "by hand").split(" ")[0].replace("/", "-").replace("::", "-")
        target = KEPT_LOGS / test
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name, log in logs.items():
            (target / f"{name}.log").write_text(log)
            print(f"\n--- the last lines of {name}, all of it in {target}\n" + "\n".join(log.splitlines()[-LOG_LINES_SHOWN:]))

    # Forming

    def form(self, order: Sequence[int] = (), own_address: bool = True) -> None:
        """Starts all nodes, each with a list of all, and waits for one cluster of them with all copies.

        With an `order` each answers HTTP before the next one is started. A node alone gets no list.
        """
        for number in order or range(1, len(self.nodes) + 1):
            node = self.node(number)
            node.join = [each.peer_address for each in self.nodes if own_address or each is not node] if len(self.nodes) > 1 else []
            node.begin() if order else node.spawn()
        self.wait_whole()

    def node(self, number: int) -> Node:
        return next(node for node in [*self.nodes, *self.spares] if node.number == number)

    def others(self, *but: Node) -> list[Node]:
        """The members but the given ones."""
        return [node for node in self.nodes if node not in but]

    def add(self, node: Node) -> None:
        """Starts a spare node with the members' addresses; it becomes one of them."""
        node.join = [each.peer_address for each in self.nodes]
        self.spares.remove(node)
        self.nodes.append(node)
        node.begin()

    def forget(self, node: Node) -> None:
        """The node is no member to be waited for; it is still ended with the rest."""
        self.nodes.remove(node)
        self.spares.append(node)

    # Observing

    def living(self) -> list[Node]:
        return [node for node in self.nodes if node.running() and not node.stopped]

    def wait_ready(self, nodes: Iterable[Node] | None = None) -> None:
        """Waits until the nodes, all that run if none are named, can serve every shard."""
        chosen = list(nodes) if nodes is not None else self.living()
        until(lambda: all(node.ready() for node in chosen), lambda: "ready: " + self.describe(chosen))

    def wait_whole(self, copies: int = 3) -> None:
        """Waits until all members are up in one cluster and every shard has its copies, all voters and up to date."""
        until(lambda: self.whole(copies), lambda: f"whole with {copies} copies: " + self.describe(self.nodes))

    def whole(self, copies: int) -> bool:
        for node in self.nodes:
            assert node.running(), f"n{node.number} ended by itself"
        found = [node.status() for node in self.nodes]
        statuses = [status for status in found if status is not None]
        if len(statuses) < len(self.nodes) or not all(node.ready() for node in self.nodes):
            return False
        assert len({status["cluster_id"] for status in statuses}) == 1, f"two clusters: {statuses}"
        names = {f"n{node.number}" for node in self.nodes}
        wanted = min(copies, len(self.nodes))
        return all(
            {each["name"] for each in status["nodes"]} == names
            and all(each["state"] == "up" for each in status["nodes"])
            and all(has_copies(shard, wanted) for shard in status["shards"])
            for status in statuses
        )

    def wait_equal(self) -> None:
        """Waits until all replicas of each shard have applied the same entries, which takes a pause in the load."""
        until(self.equal, lambda: "all replicas at one position: " + self.describe(self.nodes))

    def equal(self) -> bool:
        """Of the others a leader knows what they have, of itself each node what it has applied."""
        leader = self.leader()
        status = leader.status() if leader else None
        if status is None:
            return False
        positions = {shard["id"]: {each["applied"] for each in shard["replicas"]} for shard in status["shards"]}
        for node in self.living():
            own = node.status()
            if own is None:
                return False
            for shard in own["shards"]:
                mine = {each["applied"] for each in shard["replicas"] if each["node"] == own["node_id"]}
                positions.setdefault(shard["id"], set()).update(mine)
        return all(len(applied) == 1 for applied in positions.values())

    def leader(self, shard: int = 1) -> Node | None:
        """The leader of the shard in the highest term that any living node knows of; None if nobody knows one."""
        known: list[tuple[int, int]] = []
        names: dict[int, str] = {}
        for node in self.living():
            status = node.status()
            if status is None:
                continue
            names.update({each["id"]: each["name"] for each in status["nodes"]})
            known += [(each["term"], each["leader"]) for each in status["shards"] if each["id"] == shard and each["leader"]]
        if not known:
            return None
        name = names[max(known)[1]]
        return next((node for node in [*self.nodes, *self.spares] if f"n{node.number}" == name), None)

    def wait_leader(self, among: Iterable[Node] | None = None) -> Node:
        """The leader of shard 1, once it is one of the given nodes (of all members, if none are given)."""
        chosen = list(among) if among is not None else self.nodes

        def found() -> Node | None:
            leader = self.leader()
            return leader if leader in chosen and leader in self.living() else None

        return until(found, lambda: f"a leader among {[f'n{node.number}' for node in chosen]}: {self.describe(self.nodes)}")

    def wait_writes(self, node: Node, seconds: float = PATIENCE_SECONDS) -> None:
        """Waits until a write through the node succeeds."""

        def writes() -> bool:
            try:
                with node.connect(timeout=10) as connection:
                    return connection.call("SET", "is it there", "yes") == OK
            except (ConnectionLost, OSError):
                return False

        until(writes, lambda: f"writes through n{node.number}: {self.describe(self.nodes)}", seconds)

    def describe(self, nodes: Iterable[Node]) -> str:
        """What each node says of the cluster, for a failure's message."""
        lines = []
        for node in nodes:
            state = "ended" if not node.running() else "stopped" if node.stopped else f"/readyz {node.http('/readyz')}"
            status = node.status()
            members = [f"{each['id']}={each['name']} {each['state']}" for each in status["nodes"]] if status else []
            shards = [{key: value for key, value in each.items() if key != "slots"} for each in status["shards"]] if status else []
            lines.append(f"n{node.number}: {state}; members {members}; shards {json.dumps(shards)}")
        return "\n".join(["", *lines])

    def command(self, node: Node, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """A `skep` command line that talks to the node, as `node list`."""
        line = [str(skep_binary()), *words, "--http", f"{node.host}:{HTTP_PORT}"]
        return subprocess.run(line, capture_output=True, text=True, input=stdin, timeout=PATIENCE_SECONDS * 2, check=False, env=node.env)


def has_copies(shard: Status, wanted: int) -> bool:
    """Whether the shard has a leader and exactly so many voters and no learner."""
    roles = [each["role"] for each in shard["replicas"]]
    return bool(shard["leader"]) and roles == ["voter"] * wanted
