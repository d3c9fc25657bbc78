"""The gateway beside Debian's nginx and haproxy: processor time of the proxy for each request, handshake and MiB; latency; memory.

Each row tells whether skep's goal is met. Goals of time are beside HAProxy as it is; that of memory is for each connection.

HAProxy is there twice: passing requests on, and doing to each what a route of skep does ("same work").

The proxy has one core with all its threads, load and upstream (an nginx of its own, which answers from files) share the other.
What is compared is the time that the kernel counts for the proxy's processes, so that the load's own cost is in no figure.
"""

from __future__ import annotations

import re
import resource
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.server import Skep, free_ports

from .machine import LOAD_CORE, SERVER_CORE, median, table
from .rivals import processor_seconds

CONNECTIONS = 64
IDLE = 6_000
IDLE_MIN = 2_000
"""Memory comes in pages of 2 MiB, as large as 3.5 KiB for each of 600 connections."""
LISTENERS = ("http", "tls", "tcp")
CALL = "/bench.Echo/Say"
"""What gRPC calls: its routes have an upstream of HTTP/2."""
P99_GOAL_MS = 1.0
IDLE_GOAL_KIB = 24.0


@dataclass(frozen=True)
class Load:
    """What h2load is to ask for; `count` requests at scale 1."""

    name: str
    listener: str
    path: str
    count: int
    goal: float
    """What skep may take of HAProxy's time."""
    options: tuple[str, ...] = ("--h1",)
    each_connects: bool = False

    @property
    def is_plain_http2(self) -> bool:
        return "-m" in self.options


GRPC = ("-m", "10", "-H", "content-type: application/grpc", "-H", "te: trailers")
LOADS = (
    Load("HTTP/1.1, 1 KiB", "http", "/1k", 200_000, 1.0),
    Load("HTTP/2 to HTTP/1.1, 1 KiB, 10 streams", "http", "/1k", 200_000, 1.4, ("-m", "10")),
    Load("gRPC, unary calls, 10 streams", "http", CALL, 200_000, 1.4, GRPC),
    Load("TLS, HTTP/1.1, 1 KiB", "tls", "/1k", 200_000, 1.1),
    Load("TLS handshake and a request", "tls", "/1k", 10_000, 0.6, each_connects=True),
    Load("HTTP/1.1, 1 MiB", "http", "/1m", 4_000, 0.5),
    Load("TCP, 1 MiB", "tcp", "/1m", 4_000, 0.5),
)


def met(found: float, goal: float) -> str:
    return "yes" if found <= goal else "no"


@dataclass(frozen=True)
class To:
    """The ports of the upstream."""

    http1: int
    http2: int


class Proxy:
    """A proxy of three listeners before one upstream."""

    def __init__(self, name: str, pids: Sequence[int], ports: dict[str, int]) -> None:
        self.name, self.pids, self.ports = name, pids, ports

    def rss_kib(self) -> int:
        found = [re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) for pid in self.pids]
        return sum(int(each[1]) for each in found if each)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def started(line: Sequence[str], core: str, port: int, workers: bool) -> Iterator[list[int]]:
    """A program on a core, when its port answers: the ids of the processes that serve."""
    process = subprocess.Popen(["taskset", "-c", core, *line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while True:
            assert process.poll() is None and time.monotonic() < end, f"{line[0]} does not start"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield children(process.pid) if workers else [process.pid]
    finally:
        process.terminate()
        process.wait()


def certificate(directory: Path) -> None:
    """A key pair that nginx and skep read as two files and haproxy as one."""
    line = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", directory / "key.pem", "-out", directory / "cert.pem"]  # fmt: skip
    subprocess.run(line, check=True, capture_output=True)
    (directory / "both.pem").write_text((directory / "cert.pem").read_text() + (directory / "key.pem").read_text())


@contextmanager
def upstream(directory: Path) -> Iterator[To]:
    """Files over HTTP/1.1, and over HTTP/2 an answer of 10 bytes with gRPC's trailer: no proxy looks into messages."""
    to = To(*free_ports(2))
    root = directory / "files"
    root.mkdir()
    (root / "1k").write_bytes(b"x" * 1024)
    (root / "1m").write_bytes(b"x" * (1 << 20))
    (directory / "message").write_bytes(b"\0\0\0\0\5hello")
    file = directory / "upstream.conf"
    file.write_text(f"""daemon off; pid {directory}/upstream.pid; error_log /dev/null; worker_processes 1;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; sendfile on; root {root};
  server {{ listen 127.0.0.1:{to.http1} backlog=4096; }}
  server {{ listen 127.0.0.1:{to.http2} http2 backlog=4096;
    location = {CALL} {{ default_type application/grpc; add_trailer grpc-status 0; return 200 "0123456789"; }} }} }}
""")
    with started(["nginx", "-c", str(file)], LOAD_CORE, to.http1, workers=True):
        yield to


@contextmanager
def nginx(directory: Path, to: To) -> Iterator[Proxy]:
    """Without HTTP/2 in the clear, which one port of this version cannot speak beside HTTP/1.1, and without TCP, a module of its own."""
    http, tls = free_ports(2)
    file = directory / "proxy.conf"
    file.write_text(f"""daemon off; pid {directory}/proxy.pid; error_log /dev/null; worker_processes 1;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 300; ssl_session_tickets off; ssl_protocols TLSv1.2 TLSv1.3;
  upstream up {{ server 127.0.0.1:{to.http1}; keepalive 64; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{http} backlog=4096; listen 127.0.0.1:{tls} ssl http2 backlog=4096;
    ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
""")
    with started(["nginx", "-c", str(file)], SERVER_CORE, http, workers=True) as pids:
        yield Proxy("nginx", pids, {"http": http, "tls": tls})


SAME_WORK = """
  option forwardfor
  unique-id-format %[uuid()]
  unique-id-header X-Request-ID
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  use_backend http if { path_beg / }"""
"""What a route of skep does to each request, so that it can be seen what that costs HAProxy."""


@contextmanager
def haproxy(directory: Path, to: To, name: str = "haproxy", more: str = "") -> Iterator[Proxy]:
    http, tls, tcp = free_ports(3)
    file = directory / f"{name}.cfg"
    file.write_text(f"""global
  nbthread 1
  maxconn 9000
  tune.ssl.cachesize 0
defaults
  timeout connect 1s
  timeout client 300s
  timeout server 300s
frontend http
  mode http
  bind 127.0.0.1:{http} backlog 4096
  use_backend grpc if {{ path {CALL} }}{more}
  default_backend http
frontend tls
  mode http
  bind 127.0.0.1:{tls} backlog 4096 ssl crt {directory}/both.pem alpn h2,http/1.1 no-tls-tickets{more}
  default_backend http
frontend tcp
  mode tcp
  bind 127.0.0.1:{tcp} backlog 4096
  default_backend tcp
backend http
  mode http
  http-reuse always
  server one 127.0.0.1:{to.http1}{" check observe layer7" if more else ""}
backend grpc
  mode http
  http-reuse always
  server one 127.0.0.1:{to.http2} proto h2{" check observe layer7" if more else ""}
backend tcp
  mode tcp
  server one 127.0.0.1:{to.http1}
""")
    with started(["haproxy", "-db", "-f", str(file)], SERVER_CORE, http, workers=False) as pids:
        yield Proxy(name, pids, {"http": http, "tls": tls, "tcp": tcp})


@contextmanager
def haproxy_same_work(directory: Path, to: To) -> Iterator[Proxy]:
    with haproxy(directory, to, "haproxy, same work", SAME_WORK) as proxy:
        yield proxy


class GatewaySkep(Skep):
    """skep with all that a route has on: health checks, breaker, budget, metrics."""

    def __init__(self, certificates: Path, to: To) -> None:
        super().__init__()
        self.certificates, self.to = certificates, to
        self.ports: dict[str, int] = {}

    def command(self) -> list[str]:
        line = super().command()
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        file = self.directory / "skep.toml"
        certificates = f'[{{ cert = "{self.certificates}/cert.pem", key = "{self.certificates}/key.pem" }}]'
        file.write_text(f"""[gateway.listener]
http = "127.0.0.1:{self.ports["http"]}"
tls = {{ address = "127.0.0.1:{self.ports["tls"]}", tls.certificates = {certificates} }}
tcp = {{ address = "127.0.0.1:{self.ports["tcp"]}", protocol = "tcp", pool = "up" }}
[gateway.route.all]
path-prefix = "/"
pool = "up"
[gateway.route.grpc]
path = "{CALL}"
pool = "grpc"
[gateway.pool.up]
upstreams = ["127.0.0.1:{self.to.http1}"]
health.path = "/1k"
[gateway.pool.grpc]
protocol = "http2"
upstreams = ["127.0.0.1:{self.to.http2}"]
health = {{ kind = "tcp" }}
""")
        return ["taskset", "-c", SERVER_CORE, *line, "--config", str(file), "--durability", "memory", "--cores", "1"]


@contextmanager
def skep(directory: Path, to: To) -> Iterator[Proxy]:
    with GatewaySkep(directory, to) as server:
        assert server.process is not None
        for port in server.ports.values():
            end = time.monotonic() + 20
            while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
                assert time.monotonic() < end, f"the gateway does not listen at {port}"
                time.sleep(0.05)
        yield Proxy("skep", [server.process.pid], server.ports)


def microseconds(proxy: Proxy, load: Load, count: int, directory: Path) -> float:
    """Processor time of the proxy for each request, in microseconds. All requests must succeed."""
    # h2load opens all its connections at once: connections that serve one request each come in rounds.
    rounds, connections = (max(1, count // 1_000), 1_000) if load.each_connects else (1, CONNECTIONS)
    scheme = "https" if load.listener == "tls" else "http"
    requests = connections if load.each_connects else count
    message = ("-d", str(directory / "message")) if load.path == CALL else ()
    line = ["taskset", "-c", LOAD_CORE, "h2load", "-t", "1", "-c", str(connections), "-n", str(requests), *load.options, *message,
            f"{scheme}://127.0.0.1:{proxy.ports[load.listener]}{load.path}"]  # fmt: skip
    before = processor_seconds(proxy.pids)
    for _ in range(rounds):
        done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=1200).stdout
        assert f" {requests} succeeded, 0 failed, 0 errored" in done and "2xx, 0 3xx, 0 4xx, 0 5xx" in done, f"{proxy.name}, {load.name}: {done}"
    return (processor_seconds(proxy.pids) - before) * 1e6 / (rounds * requests)


@dataclass(frozen=True)
class Client:
    """One of many that ask for something once, and rest."""

    name: str
    listener: str
    is_http2: bool = False

    def connect(self, port: int) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        if self.listener == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["h2" if self.is_http2 else "http/1.1"])
            connection = context.wrap_socket(connection)
        if self.is_http2:
            ask_over_http2(connection, self.listener == "tls")
        else:
            connection.sendall(b"GET /1k HTTP/1.1\r\nhost: localhost\r\n\r\n")
            got = 0
            while got < 1024:
                got += len(connection.recv(65536))
        return connection


CLIENTS = (Client("HTTP/1.1", "http"), Client("HTTP/2", "http", True), Client("TLS, HTTP/1.1", "tls"), Client("TLS, HTTP/2", "tls", True))
DATA, HEADERS, SETTINGS = 0, 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113, section 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def ask_over_http2(connection: socket.socket, is_secure: bool) -> None:
    """One request, from the preface to the end of its reply."""
    # Names of the static table (RFC 7541, appendix A): GET, the scheme, and path and authority with values of their own.
    head = bytes([0x82, 0x87 if is_secure else 0x86, 0x04, 3]) + b"/1k" + bytes([0x01, 9]) + b"localhost"
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0) + frame(HEADERS, 5, 1, head))
    with connection.makefile("rb") as said:
        while True:
            begin = said.read(9)
            kind, flags, stream = begin[3], begin[4], int.from_bytes(begin[5:], "big")
            said.read(int.from_bytes(begin[:3], "big"))
            if kind == SETTINGS and not flags & 1:
                connection.sendall(frame(SETTINGS, 1, 0))
            if kind in (DATA, HEADERS) and stream == 1 and flags & 1:
                return


def idle_bytes(proxy: Proxy, client: Client, count: int) -> float:
    """Memory for each connection that has served a request and rests, in bytes, of a proxy that has served no others."""
    port, held = proxy.ports[client.listener], []
    try:
        held += [client.connect(port) for _ in range(50)]
        before = proxy.rss_kib()
        held += [client.connect(port) for _ in range(count)]
        time.sleep(1)  # The allocators give back what they do.
        return (proxy.rss_kib() - before) * 1024 / count
    finally:
        for connection in held:
            connection.close()


def compare_idle(directory: Path, to: To, scale: float) -> None:
    count = max(IDLE_MIN, int(IDLE * min(scale, 1.0)))
    rows: list[tuple[object, ...]] = []
    for client in CLIENTS:
        found: dict[str, float] = {}
        for begin in (haproxy, nginx, skep):
            if begin is nginx and client.is_http2 and client.listener == "http":
                continue
            with begin(directory, to) as proxy:
                found[proxy.name] = idle_bytes(proxy, client, count) / 1024
        kib = found["skep"]
        rows.append((client.name, found["haproxy"], found.get("nginx", "-"), kib, IDLE_GOAL_KIB, met(kib, IDLE_GOAL_KIB)))
    table(f"KiB for each of {count:,} connections at rest", ("clients", "haproxy", "nginx", "skep", "goal", "met"), rows)


def latencies(port: int, rate: int, seconds: float, log: Path) -> list[int]:
    """The times of requests that come at `rate` a second whether or not the last is answered, in microseconds, in order."""
    each = max(1, rate // CONNECTIONS)
    count = int(each * CONNECTIONS * seconds)
    log.unlink(missing_ok=True)
    line = ["taskset", "-c", LOAD_CORE, "h2load", "--h1", "-t", "1", "-c", str(CONNECTIONS), "-n", str(count), "--rps", str(each),
            f"--log-file={log}", f"http://127.0.0.1:{port}/1k"]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=300).stdout
    assert f" {count} succeeded, 0 failed" in done, done
    return sorted(int(row.split("\t")[2]) for row in log.read_text().splitlines())


def compare_latency(directory: Path, to: To, proxies: Sequence[Proxy], costs: dict[str, float], scale: float) -> None:
    """Each proxy at half of what its core could carry, beside the upstream itself at that rate."""
    rows: list[tuple[object, ...]] = []
    for proxy in proxies:
        rate = int(0.5e6 / costs[proxy.name])
        alone, through = (latencies(port, rate, max(2.0, 20 * scale), directory / "times") for port in (to.http1, proxy.ports["http"]))
        p50, p99 = ((through[int(len(through) * q)] - alone[int(len(alone) * q)]) / 1000 for q in (0.5, 0.99))
        goal = (P99_GOAL_MS, met(p99, P99_GOAL_MS)) if proxy.name == "skep" else ("-", "-")
        rows.append((proxy.name, rate, p50, p99, *goal))
    table("Latency that a proxy adds at half load, 1 KiB over HTTP/1.1, in ms", ("proxy", "requests/s", "p50", "p99", "goal of p99", "met"), rows)


def compare_costs(directory: Path, proxies: Sequence[Proxy], scale: float, repeats: int) -> dict[str, float]:
    """Returns what a request of the first load costs each proxy."""
    costs: dict[str, float] = {}
    rows: list[tuple[object, ...]] = []
    for load in LOADS:
        can = [proxy for proxy in proxies if load.listener in proxy.ports and not (proxy.name == "nginx" and load.is_plain_http2)]
        found: dict[str, list[float]] = {proxy.name: [] for proxy in can}
        for _ in range(repeats):
            for proxy in can:
                found[proxy.name].append(microseconds(proxy, load, max(1_000, int(load.count * scale)), directory))
        middle = {name: median(values) for name, values in found.items()}
        costs = costs or middle
        plain, same, own = (middle[name] for name in ("haproxy", "haproxy, same work", "skep"))
        rows.append((load.name, plain, same, middle.get("nginx", "-"), own, own / plain, own / same, load.goal, met(own / plain, load.goal)))
    title = f"Processor time of the proxy in us for each request: {CONNECTIONS} connections, one core"
    table(title, ("load", "haproxy", "same work", "nginx", "skep", "skep to haproxy", "to same work", "goal to haproxy", "met"), rows)
    return costs


def compare(scale: float, repeats: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 16_384)), hard))
    directory = Path(tempfile.mkdtemp(prefix="skep-bench-gateway-"))
    # nginx reads as a user of its own.
    directory.chmod(0o755)
    try:
        certificate(directory)
        with upstream(directory) as to:
            with ExitStack() as stack:
                proxies = [stack.enter_context(each(directory, to)) for each in (haproxy, haproxy_same_work, nginx, skep)]
                costs = compare_costs(directory, proxies, scale, repeats)
                compare_latency(directory, to, proxies, costs, scale)
            compare_idle(directory, to, scale)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
