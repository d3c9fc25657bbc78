"""What the kernel does to sockets: ends that come with the last bytes, resets, no descriptors, crowds, rubbish."""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Callable

import pytest

from harness.resp import Connection, encode
from harness.server import Skep

OK = ("+", b"OK")


def eventually(what: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def read_all(stream: socket.socket) -> bytes:
    data = b""
    while more := stream.recv(1 << 16):
        data += more
    return data


def reset(stream: socket.socket) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def clients(connection: Connection) -> int:
    return connection.call("CLIENT", "LIST")[1].count(b"\n")


def cpu_seconds(server: Skep) -> float:
    assert server.process is not None
    with open(f"/proc/{server.process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(server: Skep) -> int:
    assert server.process is not None
    with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class ShortOfDescriptors(Skep):
    """As under `ulimit -n 100`."""

    def command(self) -> list[str]:
        return ["prlimit", "--nofile=100:100", *super().command()]


class Stopped:
    """The server stands still, so that what is done to its sockets meanwhile is one event to it."""

    def __init__(self, server: Skep) -> None:
        assert server.process is not None
        self.pid = server.process.pid

    def __enter__(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGCONT)


def test_an_end_that_comes_with_the_last_bytes_is_seen(skep: Skep) -> None:
    with socket.create_connection(("127.0.0.1", skep.port), timeout=10) as stream:
        with Stopped(skep):
            stream.sendall(encode([b"SET", b"a", b"1"]) + encode([b"GET", b"a"]))
            stream.shutdown(socket.SHUT_WR)
        assert read_all(stream) == b"+OK\r\n$1\r\n1\r\n"


def test_a_reset_that_comes_with_the_last_bytes_is_seen(skep: Skep) -> None:
    with skep.connect() as watcher:
        with Stopped(skep):
            for tail in (b"*1\r\n$4\r\nPI", encode([b"CLIENT", b"REPLY", b"OFF"]), encode([b"SET", b"a", b"1"]) * 100):
                stream = socket.create_connection(("127.0.0.1", skep.port), timeout=10)
                stream.sendall(tail)
                reset(stream)
        eventually(lambda: clients(watcher) == 1)


def test_a_pipeline_of_half_a_million_is_answered_to_one_that_reads_late(quick_skep: Skep) -> None:
    count = 500_000
    with socket.create_connection(("127.0.0.1", quick_skep.port), timeout=60) as stream:
        stream.sendall(encode([b"SET", b"k", b"v"]) * count)
        stream.shutdown(socket.SHUT_WR)
        assert read_all(stream) == b"+OK\r\n" * count


def test_commands_that_wait_for_one_another_do_not_stall_the_node(quick_skep: Skep) -> None:
    """PING behind SET waits for it; what is behind both must not be copied each time."""
    count = 50_000
    with socket.create_connection(("127.0.0.1", quick_skep.port), timeout=60) as stream:
        before = cpu_seconds(quick_skep)
        stream.sendall((encode([b"SET", b"k", b"v" * 100]) + encode([b"PING"])) * count)
        stream.shutdown(socket.SHUT_WR)
        assert read_all(stream) == b"+OK\r\n+PONG\r\n" * count
        assert cpu_seconds(quick_skep) - before < 5


def test_a_value_of_100_mb(quick_skep: Skep) -> None:
    value = bytes(100_000_000)
    with socket.create_connection(("127.0.0.1", quick_skep.port), timeout=60) as stream:
        stream.sendall(encode([b"SET", b"large", value]) + encode([b"GET", b"large"]) + encode([b"DEL", b"large"]))
        stream.shutdown(socket.SHUT_WR)
        received = bytearray()
        while more := stream.recv(1 << 20):
            received += more
    assert received == b"+OK\r\n$100000000\r\n" + value + b"\r\n:1\r\n"


def test_an_idle_node_with_an_idle_crowd_costs_next_to_nothing(quick_skep: Skep) -> None:
    count = 2_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before = resident_bytes(quick_skep)
    crowd = [socket.create_connection(("127.0.0.1", quick_skep.port), timeout=10) for _ in range(count)]
    try:
        with quick_skep.connect() as connection:
            eventually(lambda: clients(connection) > count)
        assert (resident_bytes(quick_skep) - before) / count < 8_000
        busy = cpu_seconds(quick_skep)
        time.sleep(1)
        assert cpu_seconds(quick_skep) - busy < 0.1
    finally:
        for each in crowd:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_few_descriptors_bound_the_clients_and_never_the_log() -> None:
    """50 clients fit. The log goes on from segment to segment, and places that come free are given."""
    with ShortOfDescriptors(extra=["--log-segment-bytes", "8mb", "--durability", "memory"]) as skep:
        assert "fewer clients" in skep.log()
        with skep.connect() as connection:
            assert connection.call("CONFIG", "SET", "maxclients", 5_000) == OK
            crowd = [socket.create_connection(("127.0.0.1", skep.port), timeout=10) for _ in range(200)]
            refused = sum(each.recv(100) == b"-ERR max number of clients reached\r\n" for each in crowd[60:])
            assert refused == 140
            for number in range(40):
                assert connection.call("SET", "k", bytes(1_000_000)) == OK, number
            for each in crowd:
                each.close()
            eventually(lambda: clients(connection) == 1)
        with skep.connect() as connection:
            assert connection.call("PING") == ("+", b"PONG")
        assert skep.terminate() == 0


@pytest.mark.parametrize(
    "rubbish",
    [
        bytes.fromhex("160301020001000001fc0303") + bytes(500),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        b"*-5\r\n*1000000000\r\n",
        b"*1\r\n$99999999999\r\n",
        b"*2\r\n$3\r\nGET\r\n$-1\r\n",
        b'SET a "never closed\r\n',
        b"x" * 200_000,
        bytes(range(256)) * 1_000,
    ],
)
def test_rubbish_hurts_nobody_else(quick_skep: Skep, rubbish: bytes) -> None:
    with quick_skep.connect() as other:
        with socket.create_connection(("127.0.0.1", quick_skep.port), timeout=10) as stream:
            try:
                stream.sendall(rubbish)
                stream.shutdown(socket.SHUT_WR)
                read_all(stream)
            except OSError:
                pass
        assert other.call("PING") == ("+", b"PONG")
    assert "panic" not in quick_skep.log()


def test_a_silent_client_is_closed_after_the_timeout() -> None:
    with Skep(extra=["--timeout", "1"]) as skep, skep.connect() as connection:
        assert connection.socket.recv(1) == b""
        assert "idle for more than 1 s" in skep.log()
