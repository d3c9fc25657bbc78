"""Who may call: keys, passwords and tokens through a running gateway."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from .issuer import Key, by_secret, key_set, unsigned
from .names import NameServer
from .scene import Gateway, Request, Upstream, status, until

KEY, SECOND = "k" * 10 + "acme-and-nobody-else", "another-key-of-acme-0123456789"
SECRET = "a secret that is long enough for SHA-256"
PASSWORD = "$2b$04$6nExNNj4StzGELHy2jMcuexJdFWwYQfhdCVK0419mNZSjP9LhPDDK"
"""Of `geheim`, by glibc's crypt."""

CONFIG = """
[gateway]
access-log = true

[gateway.listener.web]
address = "{web}"

[gateway.auth.partners]
caller-header = "x-partner"
[gateway.auth.partners.keys]
query = "api_key"
callers = [
  { name = "acme", sha256 = "HASH-1", scopes = ["write"] },
  { name = "acme", sha256 = "HASH-2" },
]

[gateway.auth.staff]
realm = "our staff"
basic.file = "DIR/users"

[gateway.auth.app.jwt]
jwks = "DIR/keys.json"
issuer = "https://login.test"
audience = "orders"
headers = { x-mail = "email", x-roles = "realm.roles" }

[gateway.auth.remote.jwt]
jwks = "http://ISSUER/keys"
issuer = "https://login.test"
audience = "orders"
pass-on = false
cookie = "session"
query = "token"
refetch = "1s"

[gateway.auth.secret.jwt]
secret-file = "DIR/secret"
issuer = "*"
audience = "*"
caller = "email"

[gateway.limit.each]
requests = 1
per = "1h"
burst = 2
by = "caller"
scope = "node"

[gateway.route.open]
pool = "api"
[gateway.route.keys]
path = "/keys"
pool = "api"
auth = "partners"
[gateway.route.write]
path = "/write"
pool = "api"
auth = ["partners", "app"]
require.scopes = "write"
[gateway.route.limited]
path = "/limited"
pool = "api"
auth = "partners"
limits = "each"
[gateway.route.staff]
path = "/staff"
pool = "api"
auth = "staff"
[gateway.route.app]
path = "/app"
pool = "api"
auth = "app"
[gateway.route.admin]
path = "/admin"
pool = "api"
auth = "app"
require.claims = { "realm.roles" = "admin" }
[gateway.route.remote]
path = "/remote"
pool = "api"
auth = "remote"
[gateway.route.secret]
path = "/secret"
pool = "api"
auth = "secret"
[gateway.route.away]
path = "/away"
pool = "api"
auth = "staff"
deny = "127.0.0.0/8"

[gateway.pool.api]
upstreams = ["UPSTREAM"]
"""


class Issuer(Upstream):
    """Serves a set of keys that a test may change."""

    keys = "{}"

    def __init__(self) -> None:
        super().__init__(name="issuer", behave=self.answer)

    def answer(self, _: Upstream, request: Request, to: object) -> bool:
        return status(200)(self, request, to) if not self.keys else self.serve_keys(to)

    def serve_keys(self, to: object) -> bool:
        body = self.keys.encode()
        to.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)  # type: ignore[attr-defined]
        return True


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("auth")


@pytest.fixture(scope="module")
def keys(directory: Path) -> dict[str, Key]:
    return {alg: Key(alg, alg.lower(), directory) for alg in ("RS256", "PS256", "ES256", "EdDSA")}


@pytest.fixture(scope="module")
def issuer(keys: dict[str, Key]) -> Iterator[Issuer]:
    with Issuer() as one:
        one.keys = key_set(keys["ES256"])
        yield one  # type: ignore[misc]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as one:
        yield one


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, issuer: Issuer, keys: dict[str, Key], directory: Path) -> Iterator[Gateway]:
    (directory / "users").write_text(f"# staff\nanna:{PASSWORD}\n")
    (directory / "secret").write_text(SECRET + "\n")
    (directory / "keys.json").write_text(key_set(*keys.values()))
    text = CONFIG.replace("UPSTREAM", upstream.address).replace("ISSUER", issuer.address).replace("DIR", str(directory))
    for at, key in (("1", KEY), ("2", SECOND)):
        text = text.replace(f"HASH-{at}", hashlib.sha256(key.encode()).hexdigest())
    with Gateway(text) as one:
        yield one  # type: ignore[misc]


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_a_key_opens_a_route_and_names_its_caller(gateway: Gateway, upstream: Upstream) -> None:
    for headers in ({"x-api-key": KEY}, {"x-api-key": SECOND}, {"x-api-key": f"Bearer {KEY}"}):
        answer = gateway.ask("GET", "/keys", headers=headers)
        assert (answer.status, answer.seen("x-partner"), answer.seen("x-api-key")) == (200, "acme", None)
    answer = gateway.ask("GET", f"/keys?a=1&api_key={KEY}&b=2")
    assert (answer.status, answer.json()["path"]) == (200, "/keys?a=1&b=2")
    before = len(upstream.seen("/keys"))
    nothing = gateway.ask("GET", "/keys")
    assert (nothing.status, nothing.header("www-authenticate")) == (401, 'ApiKey realm="skep", header="x-api-key"')
    for wrong in ("x", KEY[1:], KEY + "x", hashlib.sha256(KEY.encode()).hexdigest()):
        assert gateway.ask("GET", "/keys", headers={"x-api-key": wrong}).status == 401
    assert len(upstream.seen("/keys")) == before, "what was not proved reached nobody"


def test_nobody_says_who_it_is_by_a_header(gateway: Gateway) -> None:
    forged = {"x-partner": "root", "x-skep-caller": "root", "x-mail": "root@x", "X-Roles": "admin"}
    for path, headers in (("/", {}), ("/keys", {"x-api-key": KEY}), ("/keys", {"x-api-key": KEY, "connection": "x-partner"})):
        answer = gateway.ask("GET", path, headers=forged | headers)
        seen = [answer.seen(name) for name in ("x-partner", "x-skep-caller", "x-mail", "x-roles")]
        assert seen == ["acme" if path == "/keys" else None, None, None, None]


def test_a_known_caller_without_the_scope_is_forbidden(gateway: Gateway, keys: dict[str, Key]) -> None:
    assert gateway.ask("POST", "/write", headers={"x-api-key": KEY}).status == 200
    assert gateway.ask("POST", "/write", headers={"x-api-key": SECOND}).status == 403
    assert gateway.ask("POST", "/write", headers=bearer(keys["ES256"].token())).status == 200
    refused = gateway.ask("POST", "/write", headers=bearer(keys["ES256"].token({"scope": "writer"})))
    lines = [value for name, value in refused.headers if name == "www-authenticate"]
    assert refused.status == 403
    assert lines[1] == 'Bearer realm="skep", error="insufficient_scope", scope="write"'


def test_no_proof_that_nobody_verified_reaches_an_upstream(gateway: Gateway, upstream: Upstream, keys: dict[str, Key]) -> None:
    good, forged = keys["ES256"].token(), keys["ES256"].token({"sub": "root"})[:-8] + "AAAAAAAA"
    for headers in ({"x-api-key": KEY} | bearer(forged), {"x-api-key": KEY} | basic("root", "x")):
        answer = gateway.ask("POST", "/write", headers=headers)
        assert (answer.status, answer.seen("x-partner"), answer.seen("authorization")) == (200, "acme", None)
    answer = gateway.ask("POST", "/write?api_key=forged&a=1", headers={"x-api-key": "forged"} | bearer(good))
    assert (answer.status, answer.seen("x-skep-caller"), answer.seen("authorization")) == (200, "u1", f"Bearer {good}")
    assert (answer.seen("x-api-key"), answer.json()["path"]) == (None, "/write?a=1")
    before = len(upstream.requests)
    for lines in ([good, forged], [forged, good], [good, good]):
        text = "GET /app HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
        text += "".join(f"authorization: Bearer {token}\r\n" for token in lines)
        assert gateway.raw(text.encode() + b"\r\n").startswith(b"HTTP/1.1 400 "), "RFC 6750, section 2: one method only"
    assert gateway.ask("GET", f"/remote?token={good}&token={forged}").status == 400
    assert len(upstream.requests) == before


def test_a_limit_by_caller_counts_all_keys_of_one(gateway: Gateway) -> None:
    asked = [gateway.ask("GET", "/limited", headers={"x-api-key": key}).status for key in (KEY, SECOND, KEY)]
    assert asked == [200, 200, 429]
    asked = [gateway.ask("GET", "/limited", headers={"x-api-key": "wrong"}).status for _ in range(3)]
    assert asked == [401, 401, 429], "who is refused is counted too, by its address"


def test_a_password_is_checked_and_a_changed_file_is_read(gateway: Gateway, directory: Path) -> None:
    answer = gateway.ask("GET", "/staff", headers=basic("anna", "geheim"))
    assert (answer.status, answer.seen("x-skep-caller"), answer.seen("authorization")) == (200, "anna", None)
    for user, password in (("anna", "Geheim"), ("anna", ""), ("bert", "geheim")):
        refused = gateway.ask("GET", "/staff", headers=basic(user, password))
        assert (refused.status, refused.header("www-authenticate")) == (401, 'Basic realm="our staff", charset="UTF-8"')
    assert gateway.ask("GET", "/away", headers=basic("anna", "geheim")).status == 403, "its address is asked first"
    (directory / "users").write_text(f"bert:{PASSWORD}\n")
    until(lambda: gateway.ask("GET", "/staff", headers=basic("anna", "geheim")).status == 401, "the file is read again")
    assert gateway.ask("GET", "/staff", headers=basic("bert", "geheim")).status == 200
    (directory / "users").write_text("bert:plain\n")
    until(lambda: "cannot be put in force" in gateway.log(), "the file is refused")
    assert gateway.ask("GET", "/staff", headers=basic("bert", "geheim")).status == 200, "and changes nothing"
    assert "plain" not in gateway.log()


def test_passwords_cannot_be_guessed_at_speed(gateway: Gateway) -> None:
    asked = [gateway.ask("GET", "/staff", headers=basic("anna", f"guess{n}")) for n in range(40)]
    assert {answer.status for answer in asked} == {401, 429}
    assert next(a for a in asked if a.status == 429).header("retry-after") == "1"


@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "EdDSA"])
def test_a_token_of_each_algorithm_is_verified_and_its_claims_passed_on(gateway: Gateway, keys: dict[str, Key], alg: str) -> None:
    token = keys[alg].token({"email": "ü@x", "realm": {"roles": ["a", "b,c"]}})
    for _ in range(2):
        answer = gateway.ask("GET", "/app", headers=bearer(token))
        assert (answer.status, answer.seen("x-skep-caller")) == (200, "u1")
        assert answer.seen("x-mail").encode("latin1").decode() == "ü@x"  # type: ignore[union-attr]
        assert answer.seen("x-roles") == '["a","b,c"]'
        assert answer.seen("authorization") == f"Bearer {token}"
    broken = token[:-8] + ("A" * 8 if token[-8:] != "A" * 8 else "B" * 8)
    refused = gateway.ask("GET", "/app", headers=bearer(broken))
    assert refused.status == 401
    assert 'error="invalid_token", error_description="its signature is wrong"' in str(refused.header("www-authenticate"))


def test_a_token_that_is_not_for_here_or_for_this_time_is_refused(gateway: Gateway, keys: dict[str, Key]) -> None:
    es, now = keys["ES256"], int(time.time())
    for changes in (
        {"exp": now - 60},
        {"exp": None},
        {"nbf": now + 600},
        {"iss": "https://other"},
        {"aud": "invoices"},
        {"aud": None},
        {"sub": None},
        {"email": "a\r\nx-roles: admin"},
    ):
        assert gateway.ask("GET", "/app", headers=bearer(es.token(changes))).status == 401, changes
    assert gateway.ask("GET", "/app", headers=bearer(es.token({"exp": now - 10}))).status == 200, "clocks differ"
    for token in (
        unsigned({"alg": "none"}, None) + ".",
        by_secret(json.dumps(es.public()).encode()),
        es.token(head={"kid": "rs256"}),
        es.token(head={"crit": ["exp"]}),
        es.token()[1:],
        "",
    ):
        assert gateway.ask("GET", "/app", headers=bearer(token)).status == 401, token


def test_claims_that_a_route_requires(gateway: Gateway, keys: dict[str, Key]) -> None:
    for roles, expected in ((["user", "admin"], 200), (["administrator"], 403), (None, 403), ("admin", 200)):
        token = keys["RS256"].token({"realm": {"roles": roles}})
        assert gateway.ask("GET", "/admin", headers=bearer(token)).status == expected, roles


def test_a_secret_signs_for_its_own_route_only(gateway: Gateway) -> None:
    token = by_secret(SECRET.encode(), {"email": "u@x"})
    answer = gateway.ask("GET", "/secret", headers=bearer(token))
    assert (answer.status, answer.seen("x-skep-caller")) == (200, "u@x")
    assert gateway.ask("GET", "/secret", headers=bearer(by_secret(b"x" * 32))).status == 401
    assert gateway.ask("GET", "/app", headers=bearer(token)).status == 401


def test_a_set_of_keys_is_fetched_again_for_a_new_key_and_kept_while_its_url_fails(
    gateway: Gateway, issuer: Issuer, keys: dict[str, Key], directory: Path
) -> None:
    es = keys["ES256"]
    answer = gateway.ask("GET", f"/remote?token={es.token()}&x=1")
    assert (answer.status, answer.json()["path"]) == (200, "/remote?x=1")
    answer = gateway.ask("GET", "/remote", headers={"cookie": f"a=1; session={es.token()}"})
    assert (answer.status, answer.seen("cookie")) == (200, "a=1")
    new = Key("EdDSA", "made-since", directory)
    issuer.keys = key_set(es, new)
    until(lambda: gateway.ask("GET", "/remote", headers=bearer(new.token())).status == 200, "the new key is known")
    asked, tokens = len(issuer.requests), [new.token(head={"kid": f"k{n}"}) for n in range(30)]
    began = time.monotonic()
    threads = [threading.Thread(target=gateway.ask, args=("GET", "/remote", None, bearer(token))) for token in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    most = 1 + int(time.monotonic() - began) + 1
    assert len(issuer.requests) - asked <= most, "unknown keys fetch once a second at most"
    issuer.keys = "no set"
    time.sleep(1.1)
    assert gateway.ask("GET", "/remote", headers=bearer(es.token(head={"kid": "other"}))).status == 401
    assert gateway.ask("GET", "/remote", headers=bearer(new.token({"sub": "u2"}))).status == 200, "the last good set holds"


def test_without_any_set_the_answer_is_503_and_no_route_is_open(keys: dict[str, Key]) -> None:
    text = (
        '[gateway.listener.web]\naddress = "{web}"\n[gateway.route.r]\nanswer.status = 204\nauth = "a"\n'
        '[gateway.auth.a.jwt]\njwks = "http://ISSUER/keys"\nissuer = "*"\naudience = "*"\n'
    )
    with Issuer() as issuer:
        issuer.keys = "nothing"
        with Gateway(text.replace("ISSUER", issuer.address)) as gateway:
            assert gateway.ask("GET", "/").status == 401
            refused = gateway.ask("GET", "/", headers=bearer(keys["ES256"].token()))
            assert (refused.status, refused.header("retry-after")) == (503, "1")
            issuer.keys = key_set(keys["ES256"])
            token = keys["ES256"].token()
            until(lambda: gateway.ask("GET", "/", headers=bearer(token)).status == 204, "the set was fetched")


def test_the_host_of_a_set_of_keys_is_asked_of_the_gateways_own_name_servers(keys: dict[str, Key]) -> None:
    text = (
        '[gateway]\ndns.servers = "SERVER"\n[gateway.listener.web]\naddress = "{web}"\n[gateway.route.r]\nanswer.status = 204\nauth = "a"\n'
        '[gateway.auth.a.jwt]\njwks = "http://issuer.test:PORT/keys"\nissuer = "*"\naudience = "*"\n'
    )
    with NameServer() as names, Issuer() as issuer:
        names.say("issuer.test", "127.0.0.1")
        issuer.keys = key_set(keys["ES256"])
        with Gateway(text.replace("SERVER", names.address).replace("PORT", str(issuer.port))) as gateway:
            token = keys["ES256"].token()
            until(lambda: gateway.ask("GET", "/", headers=bearer(token)).status == 204, "the set was fetched")
            assert issuer.requests[0].header("host") == f"issuer.test:{issuer.port}"


def test_no_proof_is_in_any_log_and_refusals_are_counted(gateway: Gateway, keys: dict[str, Key]) -> None:
    token = keys["ES256"].token({"sub": "logged-caller"})
    gateway.ask("GET", "/app", headers=bearer(token))
    gateway.ask("GET", f"/keys?api_key={KEY}")
    until(lambda: '"caller":"logged-caller"' in gateway.log(), "the caller is in the log")
    until(lambda: '"caller":"acme"' in gateway.log(), "the caller is in the log")
    text = gateway.log()
    for proof in (KEY, SECOND, SECRET, "geheim", PASSWORD, token, token.split(".")[1]):
        assert proof not in text
    until(lambda: "skep_gateway_not_let_in_total" in gateway.metrics(), "they are counted")
