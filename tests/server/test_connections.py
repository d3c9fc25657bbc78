"""Connections: CLIENT, limits on what a client may leave unread, many clients, clients that come and go."""

from __future__ import annotations

import re
import socket
import time

import pytest

from harness.resp import Connection, ConnectionLost, encode
from harness.server import Redis, Server, Skep

OK = ("+", b"OK")


def client_list(connection: Connection) -> list[dict[str, str]]:
    lines = connection.call("CLIENT", "LIST")[1].decode().splitlines()
    return [dict(pair.split("=", 1) for pair in line.split(" ")) for line in lines]


def test_client_list_names_what_redis_names(redis_server: Redis, quick_skep: Skep) -> None:
    fields = []
    for server in (redis_server, quick_skep):
        with server.connect() as connection:
            connection.call("CLIENT", "SETNAME", "me")
            connection.call("SELECT", 3)
            mine = next(each for each in client_list(connection) if each["name"] == "me")
            assert (mine["db"], mine["resp"], mine["cmd"]) == ("3", "2", "client|list")
            assert mine["id"] == str(connection.call("CLIENT", "ID")[1])
            assert re.fullmatch(r"127\.0\.0\.1:\d+", mine["addr"])
            fields.append(set(mine))
    missing = fields[0] - fields[1]
    assert not missing, f"fields of redis-server that skep lacks: {missing}"


def test_client_kill(quick_skep: Skep) -> None:
    with quick_skep.connect() as one, quick_skep.connect() as two:
        assert one.call("CLIENT", "KILL", "ID", two.call("CLIENT", "ID")[1]) == (":", 1)
        with pytest.raises(ConnectionLost):
            two.call("PING")
            two.call("PING")
        assert one.call("PING") == ("+", b"PONG")
        assert one.call("CLIENT", "KILL", "ID", 999999) == (":", 0)
        assert one.call("CLIENT", "KILL", "127.0.0.1:1") == ("-", b"ERR No such client")


@pytest.mark.parametrize(
    "script",
    [
        [b"CLIENT REPLY OFF", b"SET a 1", b"GET a", b"NOSUCH", b"CLIENT REPLY ON", b"GET a"],
        [b"CLIENT REPLY SKIP", b"SET a 2", b"GET a", b"CLIENT REPLY SKIP", b"NOSUCH", b"PING"],
        [b"CLIENT REPLY OFF", b"CLIENT REPLY SKIP", b"PING", b"CLIENT REPLY ON", b"PING"],
    ],
)
def test_client_reply(redis_server: Redis, quick_skep: Skep, script: list[bytes]) -> None:
    """What is left out of the stream of replies is the same, to the byte."""
    received = []
    for server in (redis_server, quick_skep):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as stream:
            stream.sendall(b"".join(encode(line.split(b" ")) for line in [b"FLUSHALL", *script, b"QUIT"]))
            data = b""
            while more := stream.recv(65536):
                data += more
            received.append(data)
    assert received[0] == received[1]


def test_pause_holds_writes_and_lets_reads_through(quick_skep: Skep) -> None:
    with quick_skep.connect() as one, quick_skep.connect() as two:
        one.call("SET", "a", "1")
        assert one.call("CLIENT", "PAUSE", 10_000, "WRITE") == OK
        two.send([[b"SET", b"a", b"2"]])
        assert one.call("GET", "a") == ("$", b"1")
        assert one.call("CLIENT", "UNPAUSE") == OK
        assert two.read() == OK
        assert one.call("GET", "a") == ("$", b"2")


def test_reader_that_never_reads_is_cut_off_and_the_server_stays() -> None:
    """client-output-buffer-limit: what waits for a client is bounded."""
    with Skep(extra=["--client-output-buffer-limit", "normal 8mb 0 0", "--durability", "memory"]) as skep:
        with skep.connect() as other:
            other.call("SET", "big", b"x" * 1_000_000)
            lazy = skep.connect(timeout=5)
            try:
                end = time.monotonic() + 60
                while time.monotonic() < end:
                    lazy.send([[b"GET", b"big"]] * 20)
            except (ConnectionLost, TimeoutError):
                pass
            else:
                pytest.fail("the client could ask without end")
            finally:
                lazy.close()
            assert other.call("PING") == ("+", b"PONG")
            assert resident_mib(skep) < 300


def resident_mib(server: Server) -> float:
    assert server.process is not None
    with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / 1_048_576


def test_announced_size_is_not_allocated(quick_skep: Skep) -> None:
    """Many clients announce 500 MiB each and send nothing."""
    before = resident_mib(quick_skep)
    streams = [socket.create_connection(("127.0.0.1", quick_skep.port)) for _ in range(50)]
    try:
        for stream in streams:
            stream.sendall(b"*1000000\r\n$3\r\nSET\r\n$500000000\r\nabc")
        with quick_skep.connect() as connection:
            for _ in range(20):
                assert connection.call("PING") == ("+", b"PONG")
        assert resident_mib(quick_skep) - before < 100
    finally:
        for stream in streams:
            stream.close()


def test_too_many_clients_are_told_so(redis_server: Redis) -> None:
    with Skep(extra=["--maxclients", "10"]) as skep:
        held = [skep.connect() for _ in range(9)]
        try:
            for each in held:
                assert each.call("PING") == ("+", b"PONG")
            refused = 0
            for _ in range(5):
                with skep.connect() as connection:
                    held.append(connection)
                    try:
                        refused += connection.read() == ("-", b"ERR max number of clients reached")
                    except (ConnectionLost, TimeoutError):
                        pass
                    held.pop()
                    if refused:
                        break
                held.append(skep.connect())
            assert refused, "nobody was refused"
        finally:
            for each in held:
                each.close()


def test_hundreds_of_connections_come_and_go(quick_skep: Skep) -> None:
    with quick_skep.connect() as watcher:
        for _ in range(10):
            crowd = [quick_skep.connect() for _ in range(100)]
            for number, each in enumerate(crowd):
                assert each.call("SET", f"crowd:{number}", number) == OK
            for each in crowd:
                each.close()
        end = time.monotonic() + 20
        while len(client_list(watcher)) > 5:
            assert time.monotonic() < end, "closed connections stay in the list"


def test_large_values_go_through(redis_server: Redis, quick_skep: Skep) -> None:
    value = bytes(range(256)) * 100_000
    for server in (redis_server, quick_skep):
        with server.connect() as connection:
            assert connection.call("SET", "large", value) == OK
            assert connection.call("GET", "large") == ("$", value)
            assert connection.call("STRLEN", "large") == (":", len(value))
            assert connection.call("DEL", "large") == (":", 1)


def test_large_pipeline_in_one_piece(quick_skep: Skep) -> None:
    with quick_skep.connect() as connection:
        count = 50_000
        connection.send_raw(b"".join(b"*3\r\n$3\r\nSET\r\n$5\r\nk%04d\r\n$1\r\nx\r\n" % (n % 10_000) for n in range(count)))
        for _ in range(count):
            assert connection.read() == OK


def test_quit_and_half_close(quick_skep: Skep) -> None:
    """Replies to what was sent before the end are still given."""
    with socket.create_connection(("127.0.0.1", quick_skep.port), timeout=20) as stream:
        stream.sendall(encode([b"SET", b"half", b"1"]) + encode([b"GET", b"half"]))
        stream.shutdown(socket.SHUT_WR)
        data = b""
        while more := stream.recv(65536):
            data += more
    assert data == b"+OK\r\n$1\r\n1\r\n"
