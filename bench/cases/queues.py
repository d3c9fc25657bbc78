"""Jobs through skep's native queue, RabbitMQ's quorum queue and NATS JetStream: three members of each on this machine, durable."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness.cluster import CLIENT_PORT, PATIENCE_SECONDS, Cluster, until
from harness.network import Network, address
from harness.server import ROOT

from .machine import table
from .rivals import MEMBERS, Measured, measured

LOAD = ROOT / "bench" / "load" / "target" / "release" / "queue-load"
RABBIT_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
RABBIT_CONTROL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
NATS_SERVER = ROOT / ".venv" / "bin" / "nats-server"
RABBIT, NATS, NATS_ROUTES = 5672, 4222, 6222
JOBS = {"skep": 300_000, "rabbitmq": 60_000, "nats": 20_000}
WINDOWS = (1, 32)
PRODUCERS = CONSUMERS = 6


class RabbitMq:
    """Three members of Debian's RabbitMQ with its own settings, on the hosts of a network."""

    def __init__(self, network: Network, directory: Path) -> None:
        self.network = network
        self.directory = directory / "rabbitmq"
        self.processes: list[subprocess.Popen[bytes]] = []

    def _environment(self, host: int) -> dict[str, str]:
        own = self.directory / f"r{host}"
        return {
            **os.environ, "HOME": str(self.directory), "RABBITMQ_USE_LONGNAME": "true", "RABBITMQ_NODENAME": f"rabbit@{address(host)}",
            "RABBITMQ_MNESIA_BASE": str(own / "data"), "RABBITMQ_LOG_BASE": str(own / "log"), "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "plugins"), "RABBITMQ_PID_FILE": str(own / "pid"),
        }  # fmt: skip

    def __enter__(self) -> "RabbitMq":
        self.directory.mkdir()
        cookie = self.directory / ".erlang.cookie"
        cookie.write_text("measured-beside-skep")
        cookie.chmod(0o400)
        nodes = "\n".join(f"cluster_formation.classic_config.nodes.{host} = rabbit@{address(host)}" for host in MEMBERS)
        for host in MEMBERS:
            own = self.directory / f"r{host}"
            own.mkdir()
            (own / "plugins").write_text("[].\n")
            (own / "rabbitmq.conf").write_text(
                f"listeners.tcp.1 = {address(host)}:{RABBIT}\nloopback_users = none\n"
                f"cluster_formation.peer_discovery_backend = classic_config\n{nodes}\n"
            )
            with open(own / "output", "wb") as output:
                line = self.network.on_host(host, [str(RABBIT_SERVER)])
                # A group of its own: the Erlang machine is a child of a script.
                self.processes.append(subprocess.Popen(line, stdout=output, stderr=output, env=self._environment(host), start_new_session=True))
        for host in MEMBERS:
            until(lambda host=host: self._knows_all(host), f"rabbit@{address(host)} knows all members", 3 * PATIENCE_SECONDS, 1.0)
        return self

    def _knows_all(self, host: int) -> bool:
        line = self.network.on_host(host, [str(RABBIT_CONTROL), "--longnames", "-n", f"rabbit@{address(host)}", "cluster_status", "--formatter", "json"])
        done = subprocess.run(line, capture_output=True, text=True, env=self._environment(host), check=False)
        running = re.search(r'"running_nodes":\[([^]]*)]', done.stdout)
        return running is not None and running[1].count("rabbit@") == len(MEMBERS)

    def pids(self) -> list[int]:
        """The Erlang machines, and what they start."""
        groups = {each.pid for each in self.processes}
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _group(int(entry.name)) in groups]

    def __exit__(self, *_: object) -> None:
        for each in self.processes:
            os.killpg(each.pid, 9)
            each.wait()
        # epmd makes itself a group of its own; these are the ones on the hosts of this network.
        for host in MEMBERS:
            done = subprocess.run(["ip", "netns", "pids", self.network.namespace(host)], capture_output=True, text=True, check=True)
            for pid in done.stdout.split():
                if Path(f"/proc/{pid}/comm").read_text() == "epmd\n":
                    os.kill(int(pid), 9)


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


class Nats:
    """Three members of nats-server whose JetStream syncs each message, on the hosts of a network."""

    def __init__(self, network: Network, directory: Path) -> None:
        self.network = network
        self.directory = directory / "nats"
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Nats":
        self.directory.mkdir()
        routes = ", ".join(f"nats-route://{address(host)}:{NATS_ROUTES}" for host in MEMBERS)
        for host in MEMBERS:
            config = self.directory / f"s{host}.conf"
            config.write_text(
                f"server_name: s{host}\nlisten: {address(host)}:{NATS}\n"
                f"jetstream {{ store_dir: {str(self.directory / f's{host}')!r}, sync_interval: always }}\n"
                f"cluster {{ name: load, listen: {address(host)}:{NATS_ROUTES}, routes: [{routes}] }}\n"
            )
            with open(self.directory / f"s{host}.log", "wb") as log:
                line = self.network.on_host(host, [str(NATS_SERVER), "-c", str(config)])
                self.processes.append(subprocess.Popen(line, stdout=log, stderr=log))
        until(self._has_leader, "JetStream has a leader", PATIENCE_SECONDS, 0.2)
        return self

    def _has_leader(self) -> bool:
        return any("JetStream cluster new metadata leader" in (self.directory / f"s{host}.log").read_text() for host in MEMBERS)

    def pids(self) -> list[int]:
        return [each.pid for each in self.processes]

    def __exit__(self, *_: object) -> None:
        for each in self.processes:
            each.kill()
            each.wait()


def load(system: str, port: int, jobs: int, window: int, pids: Sequence[int]) -> Measured:
    addresses = ",".join(f"{address(host)}:{port}" for host in MEMBERS)
    line = [str(LOAD), system, "--addresses", addresses, "--jobs", str(jobs), "--window", str(window),
            "--producers", str(PRODUCERS), "--consumers", str(CONSUMERS)]  # fmt: skip
    return measured(line, jobs, pids, lambda output: float(output.split(" jobs/s")[0]))


def compare(scale: float, repeats: int) -> None:
    """Each system runs alone: three idle Erlang machines beside the others would cost them."""
    found: dict[tuple[str, int], list[Measured]] = {}

    def run(system: str, port: int, pids: Sequence[int]) -> None:
        for window in WINDOWS:
            jobs = max(1_000, int(JOBS[system] * scale / (1 if window > 1 else 6)))
            for turn in range(repeats + 1):
                result = load(system, port, jobs, window, pids)
                if turn > 0:  # The first turn warms up.
                    found.setdefault((system, window), []).append(result)

    with Cluster() as cluster:
        cluster.wait_leader()
        run("skep", CLIENT_PORT, [node.process.pid for node in cluster.nodes if node.process is not None])
    for rival, name, port in ((RabbitMq, "rabbitmq", RABBIT), (Nats, "nats", NATS)):
        with Cluster() as hosts:  # For its network and directory.
            for node in hosts.nodes:
                node.kill()
            with rival(hosts.network, hosts.directory) as servers:
                run(name, port, servers.pids())
    rows = []
    for (system, window), runs in found.items():
        rates = [each.rate for each in runs]
        clients, members = (statistics.median(part) for part in ([each.client_us for each in runs], [each.server_us for each in runs]))
        rows.append((system, window, f"{statistics.median(rates):,.0f}", f"{min(rates):,.0f} to {max(rates):,.0f}", clients, members))
    columns = ("system", "window", "median jobs/s", "least to most", "load's µs per job", "servers' µs per job")
    table(f"Jobs added, taken and acknowledged: {PRODUCERS} producers and {CONSUMERS} consumers over three members, 100 bytes, durable", columns, rows)

    def rate(system: str, window: int) -> float:
        return statistics.median(each.rate for each in found[system, window])

    goals = [(window, rival, rate("skep", window) / rate(rival, window), "3" if window > 1 else "") for window in WINDOWS for rival in ("rabbitmq", "nats")]
    table("Ratios of skep", ("window", "to", "ratio", "goal, at least"), goals)
    print("\nAn addition counts when a majority has it: skep and nats-server (sync_interval: always) on disk, a quorum queue as RabbitMQ's defaults have it.", flush=True)

