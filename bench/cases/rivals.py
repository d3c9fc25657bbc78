"""Three members of other systems on the hosts of a skep cluster, and the loads that measure all of them.

Each load is a C program that keeps as many requests under way as the other: redis-benchmark with N connections and a
pipeline of P, h2load with N connections and P streams in each. What the load itself costs is measured beside the servers.
"""

from __future__ import annotations

import json
import os
import re
import resource
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cluster import PATIENCE_SECONDS, until
from harness.network import Network, address
from harness.resp import Connection

ETCD_CLIENT, ETCD_PEER, REDIS = 2379, 2380, 6400
MEMBERS = (1, 2, 3)
KEY = b"key:000000000001"
GRPC_HEADERS = ["-H", "content-type: application/grpc", "-H", "te: trailers"]


@dataclass(frozen=True)
class Measured:
    """One run of a load."""

    rate: float
    client_us: float
    """Processor time of the load for each request, in microseconds."""
    server_us: float
    """Processor time of all members together for each request, in microseconds."""


def processor_seconds(pids: Sequence[int]) -> float:
    """User and system time of the processes so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measured(line: Sequence[str], requests: int, pids: Sequence[int], rate: Callable[[str], float]) -> Measured:
    before, servers = resource.getrusage(resource.RUSAGE_CHILDREN), processor_seconds(pids)
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=1200)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    client = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(rate(done.stdout), client * 1e6 / requests, (processor_seconds(pids) - servers) * 1e6 / requests)


def redis_load(host: str, port: int, test: str, requests: int, pipeline: int, pids: Sequence[int], connections: int, size: int) -> Measured:
    line = ["redis-benchmark", "-h", host, "-p", str(port), "-t", test, "-n", str(requests), "-c", str(connections),
            "-P", str(pipeline), "-d", str(size), "-r", "100000", "--csv"]  # fmt: skip

    def rate(output: str) -> float:
        rows = [row.split(",") for row in output.replace('"', "").splitlines() if row.strip()]
        assert len(rows) == 2, output
        return float(rows[1][1])

    return measured(line, requests, pids, rate)


class Etcd:
    """Three members of Debian's etcd with its own settings, on the hosts of a network."""

    def __init__(self, network: Network, directory: Path) -> None:
        self.network = network
        self.directory = directory / "etcd"
        self.directory.mkdir()
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Etcd":
        members = ",".join(f"m{host}=http://{address(host)}:{ETCD_PEER}" for host in MEMBERS)
        for host in MEMBERS:
            client, peer = f"http://{address(host)}:{ETCD_CLIENT}", f"http://{address(host)}:{ETCD_PEER}"
            line = ["etcd", "--name", f"m{host}", "--data-dir", str(self.directory / f"m{host}"), "--listen-client-urls", client,
                    "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                    "--initial-cluster", members, "--log-level", "error"]  # fmt: skip
            with open(self.directory / f"m{host}.log", "wb") as log:
                self.processes.append(subprocess.Popen(self.network.on_host(host, line), stdout=log, stderr=log))
        until(lambda: self._control("endpoint", "health").returncode == 0, "etcd is healthy", PATIENCE_SECONDS, 0.1)
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.processes:
            each.kill()
            each.wait()

    def _control(self, *words: str) -> subprocess.CompletedProcess[str]:
        endpoints = ",".join(f"http://{address(host)}:{ETCD_CLIENT}" for host in MEMBERS)
        return subprocess.run(["etcdctl", "--endpoints", endpoints, *words], capture_output=True, text=True, env={**os.environ, "ETCDCTL_API": "3"})

    def leader(self) -> str:
        """The host of the leader."""
        for status in json.loads(self._control("endpoint", "status", "-w", "json").stdout):
            if status["Status"]["leader"] == status["Status"]["header"]["member_id"]:
                return status["Endpoint"].removeprefix("http://").split(":")[0]
        raise AssertionError("etcd has no leader")

    def revision(self) -> int:
        return json.loads(self._control("get", "x", "-w", "json").stdout)["header"]["revision"]

    def load(self, host: str, test: str, requests: int, pipeline: int, connections: int, size: int) -> Measured:
        """Puts or linearizable ranges of one key. That all puts were carried out is read from the store's revision."""
        message = _protobuf(1, KEY) + (_protobuf(2, b"x" * size) if test == "set" else b"")
        with tempfile.NamedTemporaryFile() as body:
            body.write(b"\0" + struct.pack(">I", len(message)) + message)
            body.flush()
            path = "Put" if test == "set" else "Range"
            line = ["h2load", "-n", str(requests), "-c", str(connections), "-m", str(pipeline), "-t", "1", "-d", body.name, *GRPC_HEADERS,
                    f"http://{host}:{ETCD_CLIENT}/etcdserverpb.KV/{path}"]  # fmt: skip
            before = self.revision()
            result = measured(line, requests, [each.pid for each in self.processes], _h2load_rate)
            assert test != "set" or self.revision() - before == requests, "some puts were refused"
        return result


def _protobuf(number: int, value: bytes) -> bytes:
    """A field of a protobuf message: bytes, shorter than 128."""
    assert len(value) < 128, "one byte of length"
    return bytes([number << 3 | 2, len(value)]) + value


def _h2load_rate(output: str) -> float:
    found = re.search(r"finished in .*?, ([\d.]+) req/s", output)
    assert found and re.search(r" 0 failed, 0 errored, 0 timeout", output), output
    return float(found[1])


class RedisReplicated:
    """redis-server with two asynchronous replicas, each with an append-only file synced every second."""

    def __init__(self, network: Network, directory: Path) -> None:
        self.network = network
        self.directory = directory / "redis"
        self.host = address(1)
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "RedisReplicated":
        for host in MEMBERS:
            own = self.directory / f"r{host}"
            own.mkdir(parents=True)
            line = ["redis-server", "--port", str(REDIS), "--bind", address(host), "--protected-mode", "no", "--dir", str(own), "--save", "",
                    "--appendonly", "yes", "--appendfsync", "everysec", "--daemonize", "no"]  # fmt: skip
            if host != 1:
                line += ["--replicaof", self.host, str(REDIS)]
            with open(own / "log", "wb") as log:
                self.processes.append(subprocess.Popen(self.network.on_host(host, line), stdout=log, stderr=log))
        until(self._replicating, "two replicas are online", PATIENCE_SECONDS, 0.1)
        return self

    def _replicating(self) -> bool:
        try:
            with Connection(REDIS, host=self.host) as connection:
                return connection.call("INFO", "replication")[1].count(b"state=online") == 2
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        for each in self.processes:
            each.kill()
            each.wait()

    def load(self, test: str, requests: int, pipeline: int, connections: int, size: int) -> Measured:
        return redis_load(self.host, REDIS, test, requests, pipeline, [each.pid for each in self.processes], connections, size)


