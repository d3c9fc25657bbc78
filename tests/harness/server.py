"""Servers under test: started on ports that the kernel says are free, in directories of their own, always ended.

Who asks the kernel for a free port and gives it away may lose it to another process before the server binds it, so a
server that ends with "in use" is started again on other ports.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .resp import Connection, ConnectionLost

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
START_TRIES = 5


class StartFailed(Exception):
    """The server ended before it answered; `stderr` says why."""

    def __init__(self, name: str, code: int | None, stderr: str) -> None:
        super().__init__(f"{name} ended with {code} before it answered:\n{stderr}")
        self.code = code
        self.stderr = stderr


def skep_binary() -> Path:
    """The skep to test: $TESTED_SKEP, or the release build of this checkout."""
    named = os.environ.get("TESTED_SKEP")
    path = Path(named).resolve() if named else ROOT / "target" / "release" / "skep"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `cargo build --release -p skep` or set TESTED_SKEP")
    return path


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Server:
    """A child process that answers PING on `port`. Use as a context manager, or call `close`."""

    name = "server"

    def __init__(
        self,
        directory: Path | None = None,
        extra: Sequence[str] = (),
        env: dict[str, str] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.host = host
        self.own_directory = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="skep-test-"))
        self.extra = list(extra)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SKEP_")}
        self.env = {**inherited, "LC_ALL": "C", "RUST_BACKTRACE": "1", **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.line: list[str] = []
        self.port = 0
        self.log_path = self.directory.parent / f"{self.directory.name}.log"

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> "Server":
        """Starts the process and returns once it answers PING. Raises StartFailed if it ends first."""
        for attempt in range(START_TRIES):
            try:
                self.spawn()
                self.wait_ready()
                return self
            except StartFailed as failed:
                lost_the_port = "in use" in failed.stderr.lower()
                if not lost_the_port or attempt == START_TRIES - 1:
                    raise
        raise AssertionError("unreachable: the loop returns or raises")

    def spawn(self) -> None:
        """Starts the process without waiting for it."""
        self.line = self.command()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.line, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory.parent, env=self.env
            )

    def wait_ready(self) -> None:
        assert self.process is not None, "spawn comes first"
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            code = self.process.poll()
            if code is not None:
                raise StartFailed(self.name, code, self.log())
            try:
                with Connection(self.port, timeout=5.0) as connection:
                    kind, answer = connection.call("PING")
                    answers = kind == "+" or answer.startswith(b"NOAUTH")  # Others, as LOADING, mean: later.
                    if answers and self.process.poll() is None:
                        return
            except (ConnectionLost, OSError):
                pass
            time.sleep(0.005)
        self.kill()
        raise StartFailed(self.name, None, f"no answer after {START_SECONDS} s\n{self.log()}")

    def wait_end(self, seconds: float = 30.0) -> int:
        """Waits until the process ends and returns its exit code."""
        assert self.process is not None, "spawn comes first"
        return self.process.wait(seconds)

    def connect(self, timeout: float = 30.0) -> Connection:
        return Connection(self.port, timeout=timeout)

    def log(self) -> str:
        """What the server wrote to stdout and stderr since it was first started."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, as a crash of the machine's memory would look to the disk."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait()

    def terminate(self, seconds: float = 30.0) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None, "spawn comes first"
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def close(self) -> None:
        self.kill()
        if self.own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.log_path.unlink(missing_ok=True)

    def __enter__(self) -> "Server":
        return self if self.running() else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


class Redis(Server):
    """Debian's redis-server without persistence."""

    name = "redis"

    def command(self) -> list[str]:
        (self.port,) = free_ports(1)
        return [
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", str(self.directory), "--daemonize", "no", *self.extra,
        ]  # fmt: skip


class Skep(Server):
    """The skep of this checkout. `data` is its data directory."""

    name = "skep"
    http_port = 0

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def command(self) -> list[str]:
        self.port, peer, self.http_port = free_ports(3)
        return [
            str(skep_binary()), "serve", "--data-dir", str(self.data), "--name", "test",
            "--listen", f"{self.host}:{self.port}", "--peer-listen", f"127.0.0.1:{peer}",
            "--http-listen", f"127.0.0.1:{self.http_port}", *self.extra,
        ]  # fmt: skip


def server(kind: str, **options: object) -> Server:
    """A server by name: `redis` or `skep`."""
    return {"redis": Redis, "skep": Skep}[kind](**options)  # type: ignore[arg-type]
