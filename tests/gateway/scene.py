"""A skep with a gateway, and upstreams that behave as a test tells them to."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.server import Skep, StartFailed, free_ports

PATIENCE_SECONDS = 30.0
"""How long anything may take on a busy machine. No test says that something was fast."""


def until(holds: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> object:
    end = time.monotonic() + seconds
    while not (result := holds()):
        assert time.monotonic() < end, f"after {seconds:.0f} s still not: {what}"
        time.sleep(0.01)
    return result


@dataclass
class Request:
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


def read_request(stream: "socket.SocketIO | object", before_chunks: Callable[[], object]) -> Request | None:
    """One request of HTTP/1.1 from a buffered stream; None at the end."""
    line = stream.readline()  # type: ignore[attr-defined]
    if not line:
        return None
    method, path, _ = line.decode("latin1").split(" ", 2)
    headers = []
    while (line := stream.readline()) not in (b"\r\n", b""):  # type: ignore[attr-defined]
        name, value = line.decode("latin1").split(":", 1)
        headers.append((name.lower(), value.strip()))
    request = Request(method, path, headers, b"")
    if (length := request.header("content-length")) is not None:
        request.body = stream.read(int(length))  # type: ignore[attr-defined]
    elif request.header("transfer-encoding") == "chunked":
        before_chunks()
        while (size := int(stream.readline().split(b";")[0] or b"0", 16)) > 0:  # type: ignore[attr-defined]
            request.body += stream.read(size)  # type: ignore[attr-defined]
            stream.readline()  # type: ignore[attr-defined]
        while (line := stream.readline()) not in (b"\r\n", b""):  # type: ignore[attr-defined]
            name, value = line.decode("latin1").split(":", 1)
            request.trailers.append((name.lower(), value.strip()))
    return request


Behaviour = Callable[["Upstream", Request, socket.socket], bool]
"""Answers a request; False to close the connection."""


def reply(body: bytes, status: str = "200 OK", headers: Sequence[tuple[str, str]] = ()) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status}\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


def echo(upstream: "Upstream", request: Request, to: socket.socket) -> bool:
    """Answers with what came, as JSON."""
    seen = {"upstream": upstream.name, "method": request.method, "path": request.path, "headers": request.headers}
    body = b"" if request.method == "HEAD" else json.dumps({**seen, "body": request.body.decode("latin1")}).encode()
    to.sendall(reply(body, headers=[("content-type", "application/json")]))
    return True


def status(code: int, headers: Sequence[tuple[str, str]] = ()) -> Behaviour:
    def behave(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        to.sendall(reply(b"x", f"{code} Said", headers))
        return True

    return behave


def hang(upstream: "Upstream", request: Request, to: socket.socket) -> bool:
    upstream.ended.wait(PATIENCE_SECONDS)
    return False


def reset(upstream: "Upstream", request: Request, to: socket.socket) -> bool:
    to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def reset_in_body(upstream: "Upstream", request: Request, to: socket.socket) -> bool:
    to.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    time.sleep(0.05)
    return reset(upstream, request, to)


def garbage(upstream: "Upstream", request: Request, to: socket.socket) -> bool:
    to.sendall(b"\x00\x01 no http at all\r\n\r\n")
    return False


def shout(upstream: "Upstream", request: Request, to: socket.socket) -> bool:
    """Speaks another protocol if it is asked to: what comes is said again in capitals."""
    if request.header("upgrade") is None:
        return echo(upstream, request, to)
    to.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    while more := to.recv(1000):
        to.sendall(more.upper())
    return False


def websocket(host: str, port: int, path: str = "/ws") -> socket.socket:
    """A connection on which the other protocol is spoken."""
    connection = socket.create_connection((host, port), timeout=PATIENCE_SECONDS)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode())
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        more = connection.recv(1000)
        assert more, got
        got += more
    assert got.startswith(b"HTTP/1.1 101"), got
    return connection


@dataclass
class Upstream:
    """A server on a port of its own; every connection has a thread."""

    name: str = "u"
    behave: Behaviour = echo
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    early: bytes = b""
    """Said to a request with a chunked body before that is read."""
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self.ended = threading.Event()
        self.open: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.port = 0
        self.listen()

    def listen(self) -> None:
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((self.host, self.port))
        self.listener.listen(1024)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            with self.lock:
                self.open.add(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        try:
            stream = connection.makefile("rb")
            while (request := read_request(stream, lambda: self.early and connection.sendall(self.early))) is not None:
                with self.lock:
                    self.requests.append(request)
                if not self.behave(self, request, connection):
                    return
        except (OSError, ValueError):
            pass
        finally:
            try:
                # The last of the two closes the connection.
                stream.close()
                connection.close()
            except OSError:
                pass
            with self.lock:
                self.open.discard(connection)

    def seen(self, path: str) -> list[Request]:
        with self.lock:
            return [request for request in self.requests if request.path == path]

    def stop(self) -> None:
        """Takes no more connections and resets those there are, as a process that is killed."""
        # shutdown wakes the thread that accepts.
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self.lock:
            for connection in self.open:
                if connection.fileno() < 0:
                    continue
                try:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self) -> None:
        self.ended.set()
        self.stop()

    def __enter__(self) -> "Upstream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Gateway(Skep):
    """A skep whose file has this `[gateway]`; `{web}` in the text is the address of its listener."""

    def __init__(self, text: str, listeners: Sequence[str] = ("web",), **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.text = text
        self.listeners = listeners
        self.ports: dict[str, int] = {}

    @property
    def file(self) -> Path:
        return self.directory / "skep.toml"

    def command(self) -> list[str]:
        line = super().command()
        self.ports = dict(zip(self.listeners, free_ports(len(self.listeners))))
        addresses = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        text = self.text
        for name, address in addresses.items():
            text = text.replace("{" + name + "}", address)
        self.file.write_text(text)
        return [*line, "--config", str(self.file), "--cores", "1", "--durability", "memory"]

    def wait_ready(self) -> None:
        """The file begins the cluster's configuration, so the gateway is there a moment after the node."""
        super().wait_ready()
        found = until(self.in_force, "the gateway's configuration is in force, or cannot be")
        if found != "in force":
            self.kill()
            shutil.rmtree(self.data, ignore_errors=True)
            raise StartFailed(self.name, None, str(found))

    def in_force(self) -> str:
        """`in force`, why it cannot be, or nothing while that is not known."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/api/v1/cluster", timeout=PATIENCE_SECONDS) as answer:
                told = json.load(answer)["gateway"]
        except OSError:
            return ""
        return "in force" if told["in_force"] > 0 else str(told["problem"])

    @property
    def web(self) -> int:
        return self.ports["web"]

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, port: int = 0) -> "Answer":
        return ask("127.0.0.1", port or self.web, method, path, body, headers)

    def raw(self, sent: bytes, port: int = 0) -> bytes:
        """Sends these bytes and reads until the gateway closes, or has answered and closes nothing."""
        with socket.create_connection(("127.0.0.1", port or self.web), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(sent)
            got = b""
            while True:
                try:
                    more = connection.recv(65536)
                except (TimeoutError, ConnectionResetError):
                    return got
                if not more:
                    return got
                got += more

    def metrics(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE_SECONDS)
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


def ask(host: str, port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> "Answer":
    """One request over a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, [(k.lower(), v) for k, v in response.getheaders()], response.read())
    finally:
        connection.close()


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def json(self) -> dict:
        return json.loads(self.body)

    def seen(self, name: str) -> str | None:
        """A header as the upstream saw it."""
        return next((value for key, value in self.json()["headers"] if key == name), None)
