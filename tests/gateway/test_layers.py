"""TLS, HTTP/2, TCP, UDP, PROXY headers and copies, with curl and openssl as the other side."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .scene import PATIENCE_SECONDS, Gateway, Request, Upstream, echo, until

CONFIG = """
[gateway]
trusted-proxies = ["127.0.0.0/8"]

[gateway.listener.web]
address = "{web}"

[gateway.listener.secure]
address = "{secure}"
tls.certificates = [{ cert = "CERTS/a.pem", key = "CERTS/a.key" }, { cert = "CERTS/b.pem", key = "CERTS/b.key" }]

[gateway.listener.mutual]
address = "{mutual}"
tls = { certificates = [{ cert = "CERTS/a.pem", key = "CERTS/a.key" }], client-ca = "CERTS/ca.pem" }

[gateway.listener.proxied]
address = "{proxied}"
proxy-protocol = "required"

[gateway.listener.byname]
address = "{byname}"
protocol = "tcp"
sni = { "one.test" = "one", "*.two.test" = "two" }

[gateway.listener.bytes]
address = "{bytes}"
protocol = "tcp"
pool = "bytes"
idle = "500ms"

[gateway.listener.names]
address = "{names}"
protocol = "udp"
pool = "names"
idle = "500ms"

[gateway.route.copied]
path-prefix = "/copied"
pool = "web"
mirror = "copies"

[gateway.route.tls]
path-prefix = "/over-tls"
pool = "tls"

[gateway.route.h2]
path-prefix = "/over-h2"
pool = "h2"
rewrite.prefix = "/back"

[gateway.route.h2tls]
path-prefix = "/over-h2-tls"
pool = "h2tls"
rewrite.prefix = "/back"

[gateway.route.told]
path-prefix = "/told"
pool = "told"
rewrite.prefix = "/back"

# Another host's probes find nothing.
[gateway.route.probed-h2]
path = "/probed-h2"
host = "a.test"
answer.status = 204

[gateway.route.probed-told]
path = "/probed-told"
host = "a.test"
answer.status = 204

[gateway.route.probed-wrong]
path-prefix = ["/probed-h2", "/probed-told"]
answer.status = 421

[gateway.route.all]
pool = "web"

[gateway.pool.web]
upstreams = ["WEB"]

[gateway.pool.copies]
upstreams = ["COPIES"]

[gateway.pool.tls]
upstreams = ["localhost:TLSPORT"]
tls-name = "a.test"

# The gateway itself is the HTTP/2 server: what comes back is taken by another route.
[gateway.pool.h2]
upstreams = ["{web}"]
protocol = "http2"

# So it is here, where it serves several hosts.
[gateway.pool.h2tls]
upstreams = ["{secure}"]
protocol = "http2"
tls-name = "a.test"
health = { path = "/probed-h2", interval = "200ms", timeout = "200ms", rise = 1 }
panic = "0%"

[gateway.pool.told]
upstreams = ["{web}"]
health = { path = "/probed-told", host = "a.test", interval = "200ms", timeout = "200ms", rise = 1 }
panic = "0%"

[gateway.pool.one]
upstreams = ["ONE"]

[gateway.pool.two]
upstreams = ["TWO"]

[gateway.pool.bytes]
upstreams = ["127.0.0.1:1", "BYTES"]
balance = "round-robin"
send-proxy = "v1"

[gateway.pool.names]
upstreams = ["NAMES"]
"""


def certificate(directory: Path, name: str, host: str) -> None:
    """A certificate for `host`, which signs itself."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={host}",
         "-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", directory / f"{name}.key", "-out", directory / f"{name}.pem"],
        check=True, capture_output=True,
    )  # fmt: skip


def authority(directory: Path, name: str) -> None:
    """A certificate that may sign others."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
         "-addext", "keyUsage=critical,keyCertSign", "-keyout", directory / f"{name}.key", "-out", directory / f"{name}.pem"],
        check=True, capture_output=True,
    )  # fmt: skip


def signed(directory: Path, name: str, ca: str) -> None:
    """A client's certificate by an authority, which is made if it is not there."""
    if not (directory / f"{ca}.pem").exists():
        authority(directory, ca)
    extensions = directory / "client.ext"
    extensions.write_text("basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth\n")
    request = directory / f"{name}.csr"
    for words in (
        ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
         "-keyout", directory / f"{name}.key", "-out", request],
        ["x509", "-req", "-in", request, "-CA", directory / f"{ca}.pem", "-CAkey", directory / f"{ca}.key", "-CAcreateserial",
         "-days", "2", "-extfile", extensions, "-out", directory / f"{name}.pem"],
    ):  # fmt: skip
        subprocess.run(["openssl", *words], check=True, capture_output=True)


def tls_server(directory: Path, name: str, answer: bytes) -> socket.socket:
    """Answers each connection of TLS with `answer`, after it has said something."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / f"{name}.pem", directory / f"{name}.key")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(10_000)
                    secure.sendall(answer)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    return listener


class Scene:
    gateway: Gateway
    web: Upstream
    copies: Upstream
    certs: Path
    bytes_seen: list[bytes]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    own = Scene()
    own.certs = tmp_path_factory.mktemp("certs")
    for name, host in (("a", "a.test"), ("b", "b.test"), ("one", "one.test"), ("two", "x.two.test")):
        certificate(own.certs, name, host)
    authority(own.certs, "ca")
    for name, ca in (("friend", "ca"), ("foe", "foe-ca")):
        signed(own.certs, name, ca)
    own.bytes_seen = []
    one, two = (tls_server(own.certs, name, name.encode()) for name in ("one", "two"))
    tls = tls_server(own.certs, "a", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\ntls")
    plain = socket.create_server(("127.0.0.1", 0))

    def upper() -> None:
        while True:
            try:
                connection, _ = plain.accept()
            except OSError:
                return
            threading.Thread(target=shout, args=(connection,), daemon=True).start()

    def shout(connection: socket.socket) -> None:
        with connection:
            while more := connection.recv(65536):
                own.bytes_seen.append(more)
                connection.sendall(more.upper())

    threading.Thread(target=upper, daemon=True).start()
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 0))

    def answer_names() -> None:
        while True:
            try:
                asked, who = names.recvfrom(65536)
            except OSError:
                return
            names.sendto(asked[::-1] + b" %d" % who[1], who)

    threading.Thread(target=answer_names, daemon=True).start()

    def address(of: socket.socket) -> str:
        return f"127.0.0.1:{of.getsockname()[1]}"

    with Upstream("web") as own.web, Upstream("copies") as own.copies:
        text = CONFIG.replace("CERTS", str(own.certs)).replace('"WEB"', f'"{own.web.address}"').replace("COPIES", own.copies.address)
        for word, of in (("ONE", one), ("TWO", two), ("BYTES", plain), ("NAMES", names)):
            text = text.replace(f'"{word}"', f'"{address(of)}"')
        text = text.replace("TLSPORT", str(tls.getsockname()[1]))
        listeners = ["web", "secure", "mutual", "proxied", "byname", "bytes", "names"]
        with Gateway(text, listeners, env={"SSL_CERT_FILE": str(own.certs / "a.pem")}) as gateway:
            own.gateway = gateway  # type: ignore[assignment]
            yield own
    for each in (one, two, tls, plain, names):
        each.close()


def curl(*words: object) -> str:
    return subprocess.run(["curl", "-sS", "--max-time", "20", *map(str, words)], check=True, capture_output=True, text=True).stdout


def secure(scene: Scene, host: str, *words: object) -> str:
    port = scene.gateway.ports["secure"]
    return curl("--resolve", f"{host}:{port}:127.0.0.1", *words, f"https://{host}:{port}/x")


def test_certificates_are_chosen_by_name_and_both_protocols_are_offered(scene: Scene) -> None:
    for host, name in (("a.test", "a"), ("b.test", "b")):
        for version in ("--http1.1", "--http2"):
            seen = secure(scene, host, "--cacert", scene.certs / f"{name}.pem", version, "-w", " %{http_version}")
            assert '["x-forwarded-proto", "https"]' in seen
            assert seen.endswith(" 2" if version == "--http2" else " 1.1")


def test_only_clients_with_a_certificate_of_the_authority_are_served(scene: Scene) -> None:
    port, before = scene.gateway.ports["mutual"], len(scene.web.requests)

    def ask(*words: object) -> str:
        trust = ("--resolve", f"a.test:{port}:127.0.0.1", "--cacert", scene.certs / "a.pem")
        return curl(*trust, *words, f"https://a.test:{port}/mutual")

    def by(name: str) -> str:
        return ask("--cert", scene.certs / f"{name}.pem", "--key", scene.certs / f"{name}.key")

    assert '"path": "/mutual"' in by("friend")
    for refused in (ask, lambda: by("foe")):
        with pytest.raises(subprocess.CalledProcessError):
            refused()
    assert len(scene.web.requests) == before + 1, "the others reached nobody"


def test_a_certificate_that_changes_is_read_again(scene: Scene) -> None:
    before = (scene.certs / "b.pem").read_text()
    certificate(scene.certs, "b", "b.test")
    assert (scene.certs / "b.pem").read_text() != before

    def is_new() -> bool:
        try:
            return '"x-forwarded-proto"' in secure(scene, "b.test", "--cacert", scene.certs / "b.pem")
        except subprocess.CalledProcessError:
            return False

    until(is_new, "the new certificate is given")


def test_http2_without_tls_and_to_an_upstream(scene: Scene) -> None:
    port = scene.gateway.web
    seen = curl("--http2-prior-knowledge", "-d", "x" * 100_000, f"http://127.0.0.1:{port}/h2c")
    assert '"path": "/h2c"' in seen and "x" * 100_000 in seen
    through = scene.gateway.ask("POST", "/over-h2/x?y", body=b"z" * 100_000, headers={"Host": "some.test"})
    assert through.status == 200 and through.json()["path"] == "/back/x?y"
    assert through.json()["body"] == "z" * 100_000 and through.seen("host") == "some.test"
    assert scene.gateway.ask("GET", "/over-h2/events").status == 200


def test_many_requests_over_one_connection_of_http2(scene: Scene) -> None:
    done = subprocess.run(
        ["h2load", "-n", "300", "-c", "2", "-m", "30", f"http://127.0.0.1:{scene.gateway.web}/load"], capture_output=True, text=True, timeout=60
    )
    assert "300 succeeded, 0 failed" in done.stdout, done.stdout


def test_upstreams_prove_who_they_are(scene: Scene) -> None:
    assert scene.gateway.ask("GET", "/over-tls").body == b"tls"


@pytest.mark.parametrize(("route", "path"), [("probed-h2", "/over-h2-tls/x"), ("probed-told", "/told/x")])
def test_probes_ask_for_the_host_that_an_upstream_is_known_by(scene: Scene, route: str, path: str) -> None:
    def asked(of: str) -> bool:
        figure = f'skep_gateway_request_seconds_count{{route="{of}"}} '
        return any(line.startswith(figure) and line != f"{figure}0" for line in scene.gateway.metrics().splitlines())

    until(lambda: asked(route) or asked("probed-wrong"), "there was a probe")
    answer = scene.gateway.ask("GET", path)
    assert (answer.status, asked("probed-wrong")) == (200, False)
    assert answer.json()["path"] == "/back/x"


def test_a_websocket_goes_over_http2_that_tls_agreed_on(scene: Scene) -> None:
    until(lambda: scene.gateway.ask("GET", "/over-h2-tls/x").status == 200, "its probes are well")
    key = "dGhlIHNhbXBsZSBub25jZQ=="

    def shout(upstream: Upstream, request: Request, to: socket.socket) -> bool:
        told = base64.b64encode(hashlib.sha1(f"{request.header('sec-websocket-key')}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        to.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: " + told + b"\r\n\r\n")
        while more := to.recv(1000):
            to.sendall(more.upper())
        return False

    scene.web.behave = shout
    try:
        with socket.create_connection(("127.0.0.1", scene.gateway.web), timeout=PATIENCE_SECONDS) as connection:
            asked = f"GET /over-h2-tls/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
            connection.sendall(asked.encode())
            got = b""
            while b"\r\n\r\n" not in got:
                more = connection.recv(1000)
                assert more, got
                got += more
            # The key's own answer (RFC 6455, section 1.3), although HTTP/2 in between has none.
            assert got.startswith(b"HTTP/1.1 101") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in got, got
            for word in (b"once", b"again"):
                connection.sendall(word)
                assert connection.recv(1000) == word.upper()
    finally:
        scene.web.behave = echo


def test_tls_goes_through_to_the_pool_of_its_name(scene: Scene) -> None:
    for host, name, found in (("one.test", "one", b"one"), ("x.two.test", "two", b"two")):
        context = ssl.create_default_context(cafile=str(scene.certs / f"{name}.pem"))
        with socket.create_connection(("127.0.0.1", scene.gateway.ports["byname"]), timeout=PATIENCE_SECONDS) as plain:
            with context.wrap_socket(plain, server_hostname=host) as connection:
                connection.sendall(b"hello")
                assert connection.recv(100) == found
    context = ssl._create_unverified_context()
    with socket.create_connection(("127.0.0.1", scene.gateway.ports["byname"]), timeout=PATIENCE_SECONDS) as plain:
        with pytest.raises(OSError):
            context.wrap_socket(plain, server_hostname="other.test")


def test_bytes_go_through_in_both_directions_and_a_silent_connection_ends(scene: Scene) -> None:
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", scene.gateway.ports["bytes"]), timeout=PATIENCE_SECONDS) as connection:
            own = connection.getsockname()[1]
            header = f"PROXY TCP4 127.0.0.1 127.0.0.1 {own} {scene.gateway.ports['bytes']}\r\n".encode()
            sent = b"abc" * 1_000_000
            threading.Thread(target=connection.sendall, args=(sent,), daemon=True).start()
            got = b""
            while len(got) < len(header + sent):
                more = connection.recv(65536)
                assert more, "one of the upstreams refuses, and the other is tried"
                got += more
            assert got == (header + sent).upper()
            assert connection.recv(1) == b"", "it was silent for half a second"


def test_datagrams_go_there_and_back_by_session(scene: Scene) -> None:
    to = ("127.0.0.1", scene.gateway.ports["names"])
    found = set()
    for _ in range(2):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE_SECONDS)
            answers = []
            for word in (b"abc", b"def"):
                client.sendto(word, to)
                answers.append(client.recv(1000).split())
            assert [answer[0] for answer in answers] == [b"cba", b"fed"]
            assert answers[0][1] == answers[1][1], "one session has one socket"
            found.add(answers[0][1])
    assert len(found) == 2


@pytest.mark.parametrize("version", [1, 2])
def test_a_proxy_is_believed_for_whom_it_speaks(scene: Scene, version: int) -> None:
    if version == 1:
        header = b"PROXY TCP4 198.51.100.7 10.0.0.1 1234 80\r\n"
    else:
        header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([198, 51, 100, 7, 10, 0, 0, 1]) + struct.pack(">HH", 1234, 80)
    with socket.create_connection(("127.0.0.1", scene.gateway.ports["proxied"]), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(header[:5])
        time.sleep(0.02)
        connection.sendall(header[5:] + b"GET /p HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        got = b""
        while more := connection.recv(10_000):
            got += more
    assert b'["x-forwarded-for", "198.51.100.7"]' in got
    got = scene.gateway.raw(b"GET /p HTTP/1.1\r\nHost: a\r\n\r\n", port=scene.gateway.ports["proxied"])
    assert got == b"", "without a header nothing is answered"


def test_a_copy_of_a_request_goes_to_the_mirror(scene: Scene) -> None:
    scene.copies.behave = lambda upstream, request, to: False
    assert scene.gateway.ask("POST", "/copied/1", body=b"same").json()["upstream"] == "web"
    until(lambda: scene.copies.seen("/copied/1"), "the copy is there, whatever became of it")
    scene.copies.behave = echo
    assert scene.gateway.ask("GET", "/copied/2").json()["upstream"] == "web"
    until(lambda: scene.copies.seen("/copied/2"), "the copy is there")
    assert scene.copies.seen("/copied/1")[0].body == b"same"
