"""Features that meet in one request: who calls, keys, rates, retries, a backup pool, sessions and drained upstreams."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import scene
from .issuer import by_secret
from .scene import PATIENCE_SECONDS, Answer, Gateway, Request, Upstream, reply, until
from .several import HERE, Nodes, ask
from .test_auth import PASSWORD, basic, bearer

ACME, ACME_TOO, BOB = "the-first-key-of-acme-0001", "the-second-key-of-acme-002", "the-only-key-of-bob-000003"
SECRET = "a secret that is long enough for SHA-256"

AUTH = f"""
[gateway.auth.partners]
caller-header = "x-partner"
[gateway.auth.partners.keys]
query = "api_key"
callers = [
  {{ name = "acme", sha256 = "{hashlib.sha256(ACME.encode()).hexdigest()}", scopes = ["pay"] }},
  {{ name = "acme", sha256 = "{hashlib.sha256(ACME_TOO.encode()).hexdigest()}", scopes = ["pay"] }},
  {{ name = "bob", sha256 = "{hashlib.sha256(BOB.encode()).hexdigest()}", scopes = ["pay"] }},
]
"""

CONFIG = (
    """
[gateway.listener.web]
address = "{web}"

[gateway.auth.staff.basic.users]
acme = "PASSWORD"

[gateway.auth.app.jwt]
secret-file = "DIR/secret"
issuer = "*"
audience = "*"
query = "token"
cookie = "session"

[gateway.limit.each]
requests = 1
per = "1h"
burst = 3
by = "caller"
scope = "node"

[gateway.route.pay]
path-prefix = "/pay"
pool = "one"
auth = ["partners", "staff", "app"]
idempotency = { by = ["x-customer"] }

[gateway.route.scoped]
path-prefix = "/scoped"
pool = "one"
auth = ["partners", "app"]
require.scopes = "pay"
idempotency = true

[gateway.route.counted]
path-prefix = "/counted"
pool = "one"
auth = "partners"
limits = "each"
idempotency = true

[gateway.route.careful]
path-prefix = "/careful"
pool = "first"
failover = { pool = "second", back-after = "0s" }
idempotency = true

[gateway.route.again]
path-prefix = "/again"
pool = "first"
failover = { pool = "second", back-after = "0s" }
retry = { repeat = "key" }
idempotency = true

[gateway.pool.one]
upstreams = [{ address = "A" }]
eject = false
breaker = false

[gateway.pool.first]
upstreams = [{ address = "A" }]
eject = false
breaker = false

[gateway.pool.second]
upstreams = [{ address = "B" }]
eject = false
breaker = false
"""
    + AUTH
)

numbers = itertools.count()


def numbered(upstream: Upstream, request: Request, to: object) -> bool:
    """No two replies are the same."""
    to.sendall(reply(f"{upstream.name} {next(numbers)}".encode(), "201 Created"))  # type: ignore[attr-defined]
    return True


class Pair:
    def __init__(self) -> None:
        self.a, self.b = Upstream("a", behave=numbered), Upstream("b", behave=numbered)
        self.gateway: Gateway

    def post(self, path: str, key: str, headers: dict[str, str] | None = None) -> Answer:
        return self.gateway.ask("POST", path, b"{}", {"idempotency-key": key, **(headers or {})})

    def seen(self, path: str) -> int:
        return len(self.a.seen(path)) + len(self.b.seen(path))


@pytest.fixture(scope="module")
def scene_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory: Path = tmp_path_factory.mktemp("together")
    (directory / "secret").write_text(SECRET)
    pair = Pair()
    text = CONFIG.replace('"A"', f'"{pair.a.address}"').replace('"B"', f'"{pair.b.address}"')
    with pair.a, pair.b, Gateway(text.replace("DIR", str(directory)).replace("PASSWORD", PASSWORD)) as gateway:
        pair.gateway = gateway
        yield pair


@pytest.fixture()
def pair(scene_: Pair) -> Pair:
    scene_.a.behave = scene_.b.behave = numbered
    return scene_


def partner(key: str) -> dict[str, str]:
    return {"x-api-key": key}


def token(name: str, **claims: object) -> str:
    return by_secret(SECRET.encode(), {"sub": name, **claims})


def told(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.header("idempotency-status")


def is_replay(answer: Answer, of: Answer) -> bool:
    return (answer.status, answer.body, answer.header("idempotent-replayed")) == (of.status, of.body, "true")


def test_a_key_is_its_callers_however_the_caller_proves_itself(pair: Pair) -> None:
    mine = pair.post("/pay/1", "k", partner(ACME))
    assert mine.status == 201
    for same in (partner(ACME), partner(ACME_TOO), {**partner(ACME), "x-customer": "7", "authorization": "Bearer x"}):
        assert is_replay(pair.post("/pay/1", "k", same), mine), same
    # Of everybody else the key is another one, whatever they send beside their own proof.
    others = [
        partner(BOB),
        {**partner(BOB), "x-partner": "acme", "x-skep-caller": "acme"},
        basic("acme", "geheim"),
        bearer(token("acme")),
    ]
    got = [pair.post("/pay/1", "k", headers) for headers in others]
    assert [answer.status for answer in got] == [201] * 4
    assert is_replay(got[1], got[0]), "headers that say who one is make nobody else of bob"
    assert len({mine.body, got[0].body, got[2].body, got[3].body}) == 4
    assert pair.seen("/pay/1") == 4


def test_who_is_not_let_in_gets_no_reply_that_was_kept_and_leaves_none(pair: Pair) -> None:
    mine = pair.post("/scoped/1", "k", partner(ACME))
    assert mine.status == 201
    for headers, status in (({}, 401), (partner(ACME[:-1]), 401), ({"x-partner": "acme"}, 401), (bearer(token("acme")), 403)):
        refused = pair.post("/scoped/1", "k", headers)
        assert (refused.status, refused.header("idempotent-replayed")) == (status, None)
        assert mine.body not in refused.body
        # Nor does it find out by another body that the key was used.
        assert pair.gateway.ask("POST", "/scoped/1", b"other", {"idempotency-key": "k", **headers}).status == status
        assert pair.post("/scoped/2", "k2", headers).status == status
    assert pair.seen("/scoped/1") == 1 and pair.seen("/scoped/2") == 0
    assert pair.post("/scoped/2", "k2", partner(ACME)).header("idempotent-replayed") is None
    assert is_replay(pair.post("/scoped/1", "k", partner(ACME)), mine)


def test_a_renewed_token_is_the_same_caller_wherever_it_is_shown(pair: Pair) -> None:
    now = int(time.time())
    old, new = token("ann", exp=now + 500), token("ann", exp=now + 900)
    mine = pair.post("/pay/token?x=1", "t", bearer(old))
    assert mine.status == 201
    assert is_replay(pair.post("/pay/token?x=1", "t", bearer(new)), mine)
    assert is_replay(pair.post("/pay/token?x=1", "t", {"cookie": f"session={new}"}), mine)
    # A proof in the query is no part of the request.
    for shown in (old, new):
        assert is_replay(pair.post(f"/pay/token?x=1&token={shown}", "t"), mine)
    assert told(pair.post(f"/pay/token?x=2&token={new}", "t")) == (422, "other-request")
    assert pair.post(f"/pay/token?x=1&token={token('bob')}", "t").header("idempotent-replayed") is None
    mine = pair.post(f"/pay/query?api_key={ACME}", "t")
    assert is_replay(pair.post(f"/pay/query?api_key={ACME_TOO}", "t"), mine)


def test_while_one_callers_request_is_under_way_anothers_with_the_same_key_goes_on(pair: Pair) -> None:
    came, go_on = threading.Event(), threading.Event()

    def acme_waits(upstream: Upstream, request: Request, to: object) -> bool:
        if request.header("x-partner") == "acme":
            came.set()
            go_on.wait(PATIENCE_SECONDS)
        return numbered(upstream, request, to)

    pair.a.behave = acme_waits
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(pair.post("/pay/slow", "s", partner(ACME)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert came.wait(PATIENCE_SECONDS)
    other = pair.post("/pay/slow", "s", partner(BOB))
    assert (other.status, other.header("idempotent-replayed")) == (201, None) and not answers
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert len({answer.body for answer in answers}) == 1 and other.body != answers[0].body
    assert pair.seen("/pay/slow") == 2


def test_a_request_above_its_callers_rate_leaves_its_key_free_and_a_repeat_counts_as_well(pair: Pair) -> None:
    first = pair.post("/counted/1", "c1", partner(ACME))
    assert is_replay(pair.post("/counted/1", "c1", partner(ACME_TOO)), first)
    for _ in range(3):
        # Who proves nothing takes nothing of a caller's rate.
        assert pair.post("/counted/1", "c1", partner("x" * 30)).status in (401, 429)
    assert pair.post("/counted/2", "c2", partner(ACME)).status == 201
    refused = pair.post("/counted/3", "c3", partner(ACME))
    assert (refused.status, refused.header("idempotency-status")) == (429, None) and refused.header("retry-after")
    assert pair.seen("/counted/3") == 0
    with pair.gateway.connect() as store:
        kept = len(store.call("KEYS", "skep.gateway.once:*")[1])
        assert pair.post("/counted/3", "c3", partner(ACME)).status == 429
        assert len(store.call("KEYS", "skep.gateway.once:*")[1]) == kept, "nothing is recorded of what did not pass"
    assert pair.post("/counted/3", "c3", partner(BOB)).status == 201


def test_a_backup_gets_a_keyed_request_only_if_the_primary_provably_had_none(pair: Pair) -> None:
    pair.a.stop()
    try:
        first = pair.post("/careful/down", "b1")
        assert (first.status, first.body[:1]) == (201, b"b")
    finally:
        pair.a.listen()
    assert is_replay(pair.post("/careful/down", "b1"), first) and pair.seen("/careful/down") == 1
    # The primary had it, and broke off: nobody else gets it, neither at once nor with a repeat after a fail-over.
    pair.a.behave = scene.reset
    assert pair.post("/careful/cut", "b2").status == 502
    assert told(pair.post("/careful/cut", "b2")) == (409, "unknown")
    pair.a.stop()
    try:
        assert told(pair.post("/careful/cut", "b2")) == (409, "unknown")
    finally:
        pair.a.listen()
    assert (len(pair.a.seen("/careful/cut")), len(pair.b.seen("/careful/cut"))) == (1, 0)


def test_where_upstreams_honour_keys_the_backup_gets_the_same_key_and_its_reply_is_kept(pair: Pair) -> None:
    pair.a.behave = scene.reset
    first = pair.post("/again/cut", "b3")
    assert (first.status, first.body[:1]) == (201, b"b")
    pair.a.behave = numbered
    assert is_replay(pair.post("/again/cut", "b3"), first)
    (one,), (two,) = pair.a.seen("/again/cut"), pair.b.seen("/again/cut")
    assert one.header("idempotency-key") == two.header("idempotency-key") == "b3"
    assert (one.header("x-skep-attempt"), two.header("x-skep-attempt")) == ("1", "2")


SHARED = (
    AUTH
    + """
[gateway.limit.each]
requests = 1
per = "1h"
burst = 4
by = "caller"

[gateway.route.shared]
path-prefix = "/shared"
answer.body = "passed"
auth = "partners"
limits = "each"

[gateway.route.pay]
path-prefix = "/pay"
pool = "p"
auth = "partners"
idempotency = true

[gateway.pool.p]
upstreams = ["UPSTREAM"]
"""
)


def test_a_callers_rate_and_keys_are_its_own_at_all_nodes() -> None:
    with Nodes(3) as nodes, Upstream(host=HERE, behave=numbered) as upstream:
        nodes.apply(SHARED.replace("UPSTREAM", upstream.address))
        one, two, three = nodes.nodes
        # Strangers are counted by where they come from, which takes nothing of anybody's rate.
        strangers = [ask(node, "GET", "/shared", x_api_key="x" * 30).status for node in (one, two, three, one, two)]
        assert strangers == [401] * 4 + [429]
        assert [ask(node, "GET", "/shared").status for node in (three, one)] == [429] * 2
        asked = [ask(node, "GET", "/shared", x_api_key=key).status for node, key in ((one, ACME), (two, ACME_TOO), (three, ACME), (one, ACME))]
        assert asked == [200] * 4
        refused = ask(two, "GET", "/shared", x_api_key=ACME_TOO)
        assert refused.status == 429 and int(refused.header("retry-after") or 0) > 3_000
        assert ask(three, "GET", "/shared", x_api_key=BOB).status == 200

        mine = ask(one, "POST", "/pay", b"{}", x_api_key=ACME, idempotency_key="k")
        assert mine.status == 201
        assert is_replay(ask(two, "POST", "/pay", b"{}", x_api_key=ACME_TOO, idempotency_key="k"), mine)
        other = ask(three, "POST", "/pay", b"{}", x_api_key=BOB, idempotency_key="k")
        assert (other.status, other.header("idempotent-replayed")) == (201, None) and other.body != mine.body


STICKY = """
[gateway.listener.web]
address = "{web}"

[gateway.route.all]
pool = "p"
idempotency = true

[gateway.pool.p]
upstreams = [{ address = "A" DRAIN }, { address = "B" }]
balance = "round-robin"
sticky = { cookie = "s" }
eject = false
breaker = false
"""


def test_a_drained_upstream_keeps_its_sessions_until_it_is_gone_and_gets_no_other() -> None:
    with Upstream("a") as a, Upstream("b") as b:
        text = STICKY.replace('"A"', f'"{a.address}"').replace('"B"', f'"{b.address}"')
        with Gateway(text.replace("DRAIN", "")) as gateway:

            def change(version: int, text: str) -> None:
                text = text.replace("{web}", f"127.0.0.1:{gateway.web}")
                with gateway.connect() as store:
                    assert store.call("SKEP", "GATEWAY", "SET", version, "by hand", text)[0] == ":"
                until(lambda: f"skep_gateway_config_version {version + 1}" in gateway.metrics(), "it is in force")

            def session(cookie: str | None = None) -> tuple[str, str | None]:
                answer = gateway.ask("GET", "/", headers={"cookie": cookie} if cookie else {})
                return answer.json()["upstream"], (answer.header("set-cookie") or "").split(";")[0] or None

            first = dict(session() for _ in range(4))
            at_a, at_b = first["a"], first["b"]
            # A kept reply names no session: each client has its own.
            one = gateway.ask("POST", "/", b"{}", {"idempotency-key": "k"})
            again = gateway.ask("POST", "/", b"{}", {"idempotency-key": "k"})
            assert one.header("set-cookie") and again.header("idempotent-replayed") and not again.header("set-cookie")

            change(1, text.replace("DRAIN", ", drain = true"))
            assert [session(at_a) for _ in range(3)] == [("a", None)] * 3, "its sessions stay"
            assert [session(at_b)] == [("b", None)]
            assert {session()[0] for _ in range(6)} == {"b"}, "no new ones"
            a.behave = scene.status(503)
            moved = gateway.ask("GET", "/", headers={"cookie": at_a})
            assert (moved.status, moved.json()["upstream"]) == (200, "b"), "a retry leaves it"
            a.behave = scene.echo
            change(2, text.replace(f'{{ address = "{a.address}" DRAIN }}, ', ""))
            place, cookie = session(at_a)
            assert place == "b" and cookie is not None, "a session whose upstream is gone begins anew"
            assert session(cookie) == ("b", None)


def test_a_node_that_drains_serves_sessions_under_way_at_a_drained_upstream_to_their_end() -> None:
    came, go_on = threading.Event(), threading.Event()

    def slow(upstream: Upstream, request: Request, to: object) -> bool:
        if request.path == "/slow":
            came.set()
            go_on.wait(PATIENCE_SECONDS)
        return scene.echo(upstream, request, to)  # type: ignore[arg-type]

    with Upstream("a", behave=slow) as a, Upstream("b", behave=slow) as b:
        text = STICKY.replace('"A"', f'"{a.address}"').replace('"B"', f'"{b.address}"').replace("DRAIN", "")
        with Gateway(text) as gateway:
            first = gateway.ask("GET", "/")
            cookie = (first.header("set-cookie") or "").split(";")[0]
            answers: list[Answer] = []
            headers = {"cookie": cookie, "idempotency-key": "d"}
            thread = threading.Thread(target=lambda: answers.append(gateway.ask("POST", "/slow", b"{}", headers)))
            thread.start()
            assert came.wait(PATIENCE_SECONDS)
            assert gateway.process is not None
            gateway.process.terminate()
            go_on.set()
            thread.join(PATIENCE_SECONDS)
            (answer,) = answers
            assert (answer.status, answer.json()["upstream"]) == (200, first.json()["upstream"])
            assert gateway.wait_end() == 0
