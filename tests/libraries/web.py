"""What is told to a web server with a session must be known in its next request, to whichever server that goes."""

from __future__ import annotations

import http.cookiejar
import random
import urllib.error
import urllib.request
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

from work import DONE, Asked, done, rounds, until

USERS = 5


def serve(app: object) -> None:
    """One of the servers: says its port in a file."""

    class Quiet(WSGIRequestHandler):
        def log_request(self, *_: object) -> None:
            """Errors only."""

    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:  # type: ignore[arg-type]
        with open(f"{DONE}.ports", "a") as ports:
            ports.write(f"{server.server_port}\n")
        server.serve_forever()


class User:
    """A browser with a cookie and what it has told."""

    def __init__(self, name: str) -> None:
        self.jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))
        self.name = name
        self.told: dict[str, str] = {}

    def get(self, path: str) -> str:
        """From the server that happens to be chosen."""
        port = random.choice(Path(f"{DONE}.ports").read_text().split())
        return self.opener.open(f"http://127.0.0.1:{port}{path}", timeout=10).read().decode()


def main() -> None:
    until(lambda: Path(f"{DONE}.ports").exists(), "a server listens")
    asked = Asked()
    users = [User(f"u{number}") for number in range(USERS)]
    for n in rounds():
        user = users[n % USERS]
        job = f"{user.name}-{n}"
        asked.put([job], lambda user=user, n=n: user.get(f"/set?key=k{n}&value={n * n}"))
        user.told[f"k{n}"] = str(n * n)
        done(job)
        at = random.choice(list(user.told))
        found = asked.put([], lambda user=user, at=at: user.get(f"/get?key={at}"))
        assert found == user.told[at], f"{user.name} said {at} = {user.told[at]}, and was told {found!r}"
    for user in users:
        for key, value in user.told.items():
            found = asked.put([], lambda user=user, key=key: user.get(f"/get?key={key}"))
            assert found == value, f"{user.name} said {key} = {value}, and was told {found!r}"
    asked.report(results=sum(len(user.told) for user in users))
