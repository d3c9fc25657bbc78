"""What a client cannot do by an unusual request: pass a route's rules, or say who it is."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from .scene import Gateway, Request, Upstream, echo

CONFIG = """
[gateway.listener.web]
address = "{web}"

[gateway.route.open]
pool = "api"
[gateway.route.streams]
path-prefix = "/streams"
pool = "api"
upgrades = ["Tcp", "websocket"]
[gateway.route.never]
path-prefix = "/never"
pool = "api"
upgrades = []

[gateway.pool.api]
upstreams = ["UPSTREAM"]
"""


def behave(upstream: Upstream, request: Request, to: socket.socket) -> bool:
    """Agrees to whatever protocol is asked for, as a server that knows many, and to h2c if none is and the path says so."""
    asked = "h2c" if request.path == "/unasked" else request.header("upgrade")
    if request.path == "/other":
        asked = "h2c"
    if asked is None:
        return echo(upstream, request, to)
    to.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: %b\r\n\r\n" % asked.encode())
    while more := to.recv(1000):
        to.sendall(more.upper())
    return False


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(behave=behave) as one:
        yield one


@pytest.fixture(scope="module")
def gateway(upstream: Upstream) -> Iterator[Gateway]:
    with Gateway(CONFIG.replace("UPSTREAM", upstream.address)) as one:
        yield one  # type: ignore[misc]


def upgrade(gateway: Gateway, path: str, *lines: str) -> tuple[int, bytes]:
    """The status of a request with these lines, and its whole reply."""
    with socket.create_connection(("127.0.0.1", gateway.web), timeout=30) as connection:
        text = "".join(f"{line}\r\n" for line in lines)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n{text}\r\n".encode())
        got = b""
        while b"\r\n\r\n" not in got:
            got += connection.recv(65536)
        length = re.search(rb"content-length: (\d+)", got)
        while length and len(got.split(b"\r\n\r\n", 1)[1]) < int(length[1]):
            got += connection.recv(65536)
        return int(got[9:12]), got


H2C = ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__", "Upgrade: h2c")


@pytest.mark.parametrize("lines", [H2C, (*H2C[:2], "Upgrade: H2C"), ("Connection: upgrade", "Upgrade: TLS/1.0"), ("Connection: upgrade", "Upgrade: h2c, foo/1")])
def test_a_client_cannot_agree_with_an_upstream_on_another_way_in(gateway: Gateway, lines: tuple[str, ...]) -> None:
    status, got = upgrade(gateway, "/x", *lines)
    assert status == 200, got
    for name in (b'"upgrade"', b'"http2-settings"', b'"connection"'):
        assert name not in got.lower(), got


def test_http2_settings_stay_here_whatever_connection_names(gateway: Gateway) -> None:
    status, got = upgrade(gateway, "/x", "HTTP2-Settings: AAMAAABkAAQAAP__")
    assert status == 200 and b"http2-settings" not in got.lower()


def test_only_the_protocols_of_the_route_are_offered_to_its_upstream(gateway: Gateway) -> None:
    asked = ("Connection: upgrade", "Upgrade: h2c, WebSocket", "Upgrade: tcp")
    status, got = upgrade(gateway, "/x", *asked)
    assert status == 101 and b"upgrade: websocket\r\n" in got.lower()
    status, got = upgrade(gateway, "/streams", *asked)
    assert status == 101 and b"upgrade: websocket\r\n" in got.lower(), "what the client likes most"
    assert upgrade(gateway, "/streams", "Connection: upgrade", "Upgrade: tcp")[0] == 101
    assert upgrade(gateway, "/x", "Connection: upgrade", "Upgrade: tcp")[0] == 200
    assert upgrade(gateway, "/never", "Connection: upgrade", "Upgrade: websocket")[0] == 200


def test_a_101_that_nobody_asked_for_is_no_reply(gateway: Gateway) -> None:
    assert upgrade(gateway, "/unasked")[0] == 502
    assert upgrade(gateway, "/unasked", *H2C)[0] == 502
    assert upgrade(gateway, "/other", "Connection: upgrade", "Upgrade: websocket")[0] == 502
