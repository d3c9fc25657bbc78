"""What clients of the gateway cannot use up: the node's memory, and the descriptors that its store lives on."""

from __future__ import annotations

import http.client
import resource
import socket
import time

from .scene import PATIENCE_SECONDS, Gateway, Upstream, status, until

CONFIG = """
[gateway.listener.web]
address = "{web}"

[gateway.route.all]
path-prefix = "/"
pool = "up"

[gateway.pool.up]
upstreams = ["UP"]
"""
FILES = 1024


class Small(Gateway):
    """A node that may have few descriptors, and whose log takes a new file after little."""

    def command(self) -> list[str]:
        line = [word if word != "memory" else "disk" for word in super().command()]
        return ["prlimit", f"--nofile={FILES}", *line, "--log-segment-bytes", "1mb"]


def resident(gateway: Gateway) -> int:
    assert gateway.process is not None
    with open(f"/proc/{gateway.process.pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))


def test_a_body_that_comes_byte_by_byte_takes_memory_for_its_bytes_only() -> None:
    count = 6_000
    with Upstream(behave=status(200)) as up, Gateway(CONFIG.replace("UP", up.address)) as gateway:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        # A large body first, so that the gateway reads much at once; the second head comes with its end.
        first = head % 2_000_000 + b"y" * 2_000_000 + head % count
        clients = [socket.create_connection(("127.0.0.1", gateway.web), timeout=PATIENCE_SECONDS) for _ in range(8)]
        for client in clients:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.sendall(first)
            assert whole_reply(client)
        before = resident(gateway)
        for _ in range(count - 1):
            for client in clients:
                client.send(b"x")
            time.sleep(0.0002)  # Its pace: bytes that come together are read together.
        assert resident(gateway) - before < 32 << 20, "48,000 bytes"
        for client in clients:
            client.send(b"x")
            assert whole_reply(client)
            client.close()
        assert sorted({len(request.body) for request in up.requests}) == [count, 2_000_000]


def whole_reply(client: socket.socket) -> bool:
    got = b""
    while not got.endswith(b"\r\n\r\nx"):
        more = client.recv(65536)
        assert more, f"the connection was closed after {got!r}"
        got += more
    return got.startswith(b"HTTP/1.1 200")


def test_clients_of_the_gateway_leave_descriptors_for_the_store() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # More than the node may have, in one process here.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        use_up_descriptors()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def use_up_descriptors() -> None:
    with Upstream() as up, Small(CONFIG.replace("UP", up.address)) as gateway, gateway.connect() as early:
        clients = [socket.create_connection(("127.0.0.1", gateway.web), timeout=PATIENCE_SECONDS) for _ in range(FILES + 100)]
        # The last of them was looked at when one behind it is answered, or closed.
        probe = http.client.HTTPConnection("127.0.0.1", gateway.web, timeout=PATIENCE_SECONDS)
        try:
            probe.request("GET", "/")
            probe.getresponse()
        except (http.client.HTTPException, OSError):
            pass
        for n in range(12):
            assert early.call("SET", f"key {n}", b"z" * 400_000) == ("+", b"OK"), "the log takes new files"
        with gateway.connect() as late:
            assert late.call("PING") == ("+", b"PONG")
        assert "skep_ready 1" in gateway.metrics()
        for client in clients:
            client.close()
        until(lambda: answers(gateway), "there is room for clients again")


def answers(gateway: Gateway) -> bool:
    try:
        return gateway.ask("GET", "/").status == 200
    except OSError:
        return False
