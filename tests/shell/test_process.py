"""The process: how it stops, what it says when it cannot start, and what it tells over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from harness.resp import Connection, ConnectionLost, encode
from harness.server import Skep, skep_binary

OK = ("+", b"OK")


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    line = [str(skep_binary()), "serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", *flags]
    return subprocess.run(line, capture_output=True, text=True, timeout=20, check=False)


def http(server: Skep, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Writer(threading.Thread):
    """Writes as fast as it can, in pipelines, until the server has gone; counts what was acknowledged."""

    def __init__(self, server: Skep, name: str) -> None:
        super().__init__()
        self.connection: Connection = server.connect(timeout=20)
        self.key = name.encode()
        self.acknowledged = 0
        self.others: set[bytes] = set()

    def run(self) -> None:
        try:
            while True:
                self.connection.send([[b"INCR", self.key]] * 50)
                for _ in range(50):
                    kind, value = self.connection.read()
                    if kind == ":":
                        self.acknowledged = value
                    else:
                        self.others.add(value)
        except ConnectionLost:
            pass
        finally:
            self.connection.close()


@pytest.mark.parametrize("durability", ["disk", "memory"])
def test_sigterm_under_load_loses_nothing_acknowledged_and_is_quick(durability: str) -> None:
    with Skep(extra=["--durability", durability]) as skep:
        writers = [Writer(skep, f"w{n}") for n in range(4)]
        for each in writers:
            each.start()
        while not all(each.acknowledged > 500 for each in writers):
            time.sleep(0.01)
        began = time.monotonic()
        assert skep.terminate() == 0
        assert time.monotonic() - began < 3
        for each in writers:
            each.join()
            assert not each.others or all(text.startswith(b"TRYAGAIN") for text in each.others), each.others
        skep.start()
        with skep.connect() as connection:
            for each in writers:
                assert int(connection.call("GET", each.key)[1]) == each.acknowledged, "what was answered is what there is"
        assert "panic" not in skep.log()


def test_clients_of_a_node_that_stops_get_an_end_and_no_reset() -> None:
    """Though it has not read all that they sent: a reset may take replies away that were given before."""
    with Skep(extra=["--durability", "memory"]) as skep, skep.connect() as connection:
        assert skep.process is not None
        skep.process.send_signal(signal.SIGSTOP)
        connection.send_raw(encode([b"PING"]) * 20_000)
        skep.process.send_signal(signal.SIGTERM)
        skep.process.send_signal(signal.SIGCONT)
        replies = b""
        while more := connection.socket.recv(1 << 16):
            replies += more
        assert replies == b"+PONG\r\n" * (len(replies) // 7)
        assert skep.wait_end() == 0


def test_a_process_that_stood_still_goes_on(skep: Skep) -> None:
    with skep.connect() as connection:
        assert connection.call("SET", "short", "1", "PX", 300) == OK
        assert skep.process is not None
        skep.process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        skep.process.send_signal(signal.SIGCONT)
        assert connection.call("GET", "short") == ("$", None)
        assert connection.call("SET", "a", "1") == OK


def test_what_the_node_tells_over_http_while_it_stops() -> None:
    """It stays up to one second for a client that does not read: ready for nothing, and it says so."""
    with Skep(extra=["--durability", "memory"]) as skep, skep.connect() as lazy:
        assert http(skep, "/readyz")[0] == 200 and http(skep, "/healthz")[0] == 200
        assert "skep_ready 1" in http(skep, "/metrics")[1]
        assert json.loads(http(skep, "/api/v1/cluster")[1])["nodes"]
        lazy.call("SET", "big", bytes(20_000_000))
        # Else a kernel with large buffers takes the whole reply, and nothing is left to wait for.
        lazy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        lazy.send([[b"GET", b"big"]])
        # The command is read once the disk has caught up with the one before it.
        assert lazy.socket.recv(1, socket.MSG_PEEK) == b"$"
        assert skep.process is not None
        skep.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        code, text = http(skep, "/readyz")
        assert code == 503 and "stopping" in text, (code, text)
        assert http(skep, "/healthz")[0] == 200
        assert skep.wait_end(5) == 0


def test_a_start_that_cannot_be_says_why(skep: Skep, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "holiday.jpg").write_text("x")
    assert skep.process is not None
    fresh = str(tmp_path / "fresh")
    cases = [
        (["--data-dir", str(tmp_path / "file")], "must be a directory"),
        (["--data-dir", str(tmp_path / "foreign")], "holds holiday.jpg"),
        (["--data-dir", str(skep.data)], f"in use by another skep process, pid {skep.process.pid}"),
        (["--data-dir", fresh, "--name", "a" * 10_000], "name"),
    ]
    for flags, words in cases:
        done = run(*flags)
        assert done.returncode in (1, 2) and words in done.stderr and "panic" not in done.stderr, (flags, done.stderr)
    listen = [str(skep_binary()), "serve", "--data-dir", fresh, "--listen", f"127.0.0.1:{skep.port}"]
    done = subprocess.run(listen, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1 and f"cannot listen on 127.0.0.1:{skep.port}" in done.stderr, done.stderr
    assert os.path.isdir(skep.data)
