"""What a client cannot do by an unusual request: pass a route's rules, or say who it is."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import pytest

from .scene import Gateway, Request, Upstream, echo

CONFIG = """
[gateway.listener.web]
address = "{web}"

[gateway.auth.partners.keys]
callers = [{ name = "acme", sha256 = "4e71e4bcb3d7f76c99ef16e08a48f9b0309b668c8b0946777a1bc07b7b8c2b4e" }]
[gateway.auth.app.jwt]
secret-file = "SECRET"
issuer = "*"
audience = "*"
headers = { x-mail = "email" }

[gateway.route.open]
pool = "api"
request-headers = { remove = ["x-inside"], set = { x-tenant = "public" } }
[gateway.route.inside]
header = { x-staff = "*" }
pool = "api"
auth = "partners"
[gateway.route.streams]
path-prefix = "/streams"
pool = "api"
upgrades = ["Tcp", "websocket"]
[gateway.route.secret]
path-prefix = "/secret"
pool = "api"
auth = "partners"
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
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    secret = tmp_path_factory.mktemp("edge") / "secret"
    secret.write_text("a secret that is long enough for SHA-256")
    with Gateway(CONFIG.replace("UPSTREAM", upstream.address).replace("SECRET", str(secret))) as one:
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


def seen(gateway: Gateway, *lines: str, path: str = "/x") -> list[tuple[str, str]]:
    """The headers of a request as its upstream saw them, in the spelling of WSGI, CGI, Rack and PHP."""
    status, got = upgrade(gateway, path, *lines)
    assert status == 200, got
    headers = json.loads(got.split(b"\r\n\r\n", 1)[1])["headers"]
    return [(name.lower().replace("-", "_"), value) for name, value in headers]


def test_no_spelling_of_a_name_says_who_calls(gateway: Gateway) -> None:
    names = ("X-Skep-Caller", "X_Skep_Caller", "x_skep-caller", "X-Skep_Caller", "X-Mail", "X_Mail")
    forged = [value for _, value in seen(gateway, *(f"{name}: forged" for name in names)) if value == "forged"]
    assert not forged, "an open route"


def test_no_spelling_of_a_name_stands_for_what_the_gateway_or_the_route_says(gateway: Gateway) -> None:
    names = ("X_Forwarded_For", "X_Forwarded-Proto", "X_FORWARDED_HOST", "X_Request_Id", "X_Skep_Attempt", "X_Skep_Timeout_Ms")
    names += ("X_Staff", "X_Inside", "X-Inside", "X_Tenant", "X-Tenant", "Content_Length", "Transfer_Encoding", "HTTP2_Settings")
    got = seen(gateway, *(f"{name}: forged" for name in names), "X_Free: 1", "X-Twice: 2", "X_Twice: 3")
    assert "forged" not in [value for _, value in got], got
    assert ("x_tenant", "public") in got
    assert ("x_free", "1") in got, "a name with _ goes through where it can stand for no other"
    assert [value for name, value in got if name == "x_twice"] == ["2"], got


@pytest.mark.parametrize("name", ["X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-User", "X_Forwarded_Ssl", "X-Real-IP", "X_Real_Ip", "X-Original-URL", "X-Rewrite-URL"])
def test_a_client_that_is_not_trusted_says_nothing_that_only_a_proxy_may(gateway: Gateway, name: str) -> None:
    assert "forged" not in [value for _, value in seen(gateway, f"{name}: forged")]


def test_the_trace_of_a_request_goes_through_untouched(gateway: Gateway) -> None:
    trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("tracestate", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")
    got = seen(gateway, *(f"{name}: {value}" for name, value in trace))
    assert all(line in got for line in trace), got


@pytest.mark.parametrize("path", ["//secret/x", "/secret%2Fx", "/%2Fsecret", "/%5csecret", "/a%2F..%2Fsecret/x", "/a/..;/secret", "/secret;a/x"])
def test_no_spelling_of_a_path_goes_around_the_route_that_it_means(gateway: Gateway, upstream: Upstream, path: str) -> None:
    before = len(upstream.requests)
    status, got = upgrade(gateway, path)
    assert status in (400, 401), got
    assert len(upstream.requests) == before


def test_a_path_goes_on_as_it_was_matched(gateway: Gateway) -> None:
    for path, sent in [("//a///b//", "/a/b/"), ("/a%2fb;v=1/c", "/a%2Fb;v=1/c"), ("/projects/a%2Fb", "/projects/a%2Fb")]:
        status, got = upgrade(gateway, path)
        assert status == 200 and json.loads(got.split(b"\r\n\r\n", 1)[1])["path"] == sent, got


def body(raw: bytes) -> dict:
    return json.loads(raw.split(b"\r\n\r\n", 1)[1])


@pytest.mark.parametrize(
    ("line", "host"),
    [(b"GET / HTTP/1.1\r\nHost: %b" % given, sent) for given, sent in (
        (b"A.example.", "A.example"), (b"a.example:", "a.example"), (b"a.example.:", "a.example"), (b"a.example.:80", "a.example:80"),
    )] + [(b"GET / HTTP/1.0", "")],
)
def test_a_host_is_sent_on_as_it_was_matched(gateway: Gateway, line: bytes, host: str) -> None:
    raw = gateway.raw(line + b"\r\nConnection: close\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 200 "), raw
    assert [value for name, value in body(raw)["headers"] if name == "host"] == [host]
    for bad in (b"..", b"a..", b".:80", b"a:+80", b""):
        assert gateway.raw(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % bad).startswith(b"HTTP/1.1 400 "), bad
    assert gateway.raw(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")


REWRITES = """
[gateway]
trusted-proxies = ["127.0.0.1"]
trusted-header = "forwarded"

[gateway.listener.web]
address = "{web}"

[gateway.route.images]
path-regex = "/img(.*)"
rewrite.path = "/files/$1"
pool = "api"
[gateway.route.admin]
path-prefix = "/admin"
allow = ["10.0.0.0/8"]
pool = "api"

[gateway.pool.api]
upstreams = "UPSTREAM"
"""


def test_no_rewritten_path_leads_out_and_no_client_writes_its_address_behind_a_proxy_of_another_kind() -> None:
    with Upstream() as upstream, Gateway(REWRITES.replace("UPSTREAM", upstream.address)) as gateway:
        assert gateway.ask("GET", "/imgcat.png").json()["path"] == "/files/cat.png"
        assert gateway.ask("GET", "/img/cat.png").json()["path"] == "/files/cat.png", "slashes are merged in what is made, too"
        for path in ("/img../secret", "/img.", "/img..%2fsecret", "/img..%5csecret", "/img..;a/secret"):
            assert gateway.ask("GET", path).status == 400, path
        real = {"forwarded": "for=198.51.100.7;proto=http;host=good"}
        forged = {"x-forwarded-for": "10.6.6.6", "x-forwarded-proto": "https", "x-forwarded-host": "evil", "x-forwarded-port": "1", "x-real-ip": "10.6.6.6"}
        assert gateway.ask("GET", "/admin", headers=real | forged).status == 403
        assert gateway.ask("GET", "/admin", headers=forged).status == 403
        answer = gateway.ask("GET", "/admin", headers=forged | {"forwarded": "for=10.1.1.1;proto=http;host=good"})
        told = [answer.seen(f"x-forwarded-{what}") for what in ("for", "proto", "host", "port")]
        assert (answer.status, told) == (200, ["10.1.1.1, 127.0.0.1", "http", "good", None])
        assert answer.seen("x-real-ip") is None, "its proxy writes Forwarded, and may pass on what its client wrote"
