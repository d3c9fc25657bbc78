"""Idempotency keys at three nodes: a request is carried out once and its reply is everywhere, whichever node dies."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
import time

import pytest

from harness.cluster import Node, until

from .scene import PATIENCE_SECONDS, Answer, Request, Upstream, reply
from .several import HERE, WEB_PORT, Nodes, ask

CLIENTS = 100

numbers = itertools.count(1)


class Till:
    """An upstream that numbers its replies, and says through which node a request came."""

    def __init__(self) -> None:
        self.came, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.by = ""

    def __call__(self, upstream: Upstream, request: Request, to: socket.socket) -> bool:
        self.by = to.getpeername()[0]
        self.came.set()
        assert self.go_on.wait(PATIENCE_SECONDS)
        to.sendall(reply(f"order {next(numbers)}".encode(), "201 Created"))
        return True


def config(upstream: Upstream) -> str:
    return f"""
[gateway.route.pay]
path-prefix = "/pay"
pool = "p"
timeout = {{ total = "20s" }}
idempotency = true

[gateway.route.brief]
path-prefix = "/brief"
pool = "p"
timeout = {{ total = "2s" }}
idempotency = true

[gateway.route.plain]
pool = "p"

[gateway.pool.p]
upstreams = [{{ address = "{upstream.address}" }}]
"""


def told(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.header("idempotency-status")


def post(node: Node, path: str, key: str) -> Answer | None:
    """None if the node broke off."""
    try:
        return ask(node, "POST", path, b"ten", idempotency_key=key)
    except (OSError, http.client.HTTPException):
        return None


def insist(node: Node, path: str, key: str) -> Answer | None:
    """Comes again as long as it is told to, as clients do."""
    end = time.monotonic() + PATIENCE_SECONDS
    while (answer := post(node, path, key)) is not None and told(answer) == (503, "unavailable") and time.monotonic() < end:
        time.sleep(0.1)
    return answer


def swarm(nodes: Nodes, path: str, key: str) -> tuple[list[threading.Thread], list[Answer | None]]:
    """Many clients that post the same at once, spread over the nodes."""
    answers: list[Answer | None] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(insist(nodes.nodes[n % 3], path, key)))  # type: ignore[misc]
        for n in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    return threads, answers


@pytest.mark.parametrize("killed", ["leader", "other"])
def test_the_same_key_a_hundred_times_while_a_node_dies_is_carried_out_once(killed: str) -> None:
    with Nodes(3) as nodes, Upstream(host=HERE, behave=(till := Till())) as upstream:
        nodes.apply(config(upstream))
        leader = nodes.wait_leader()
        carrier = next(node for node in nodes.nodes if (node is leader) == (killed == "other"))
        till.go_on.clear()
        first: list[Answer | None] = []
        early = threading.Thread(target=lambda: first.append(post(carrier, "/pay/1", "once")))
        early.start()
        assert till.came.wait(PATIENCE_SECONDS) and till.by == carrier.host
        threads, answers = swarm(nodes, "/pay/1", "once")
        victim = leader if killed == "leader" else next(node for node in nodes.nodes if node is not leader)
        victim.kill()
        till.go_on.set()
        for thread in [early, *threads]:
            thread.join(PATIENCE_SECONDS * 2)
        assert len(answers) == CLIENTS
        assert len(upstream.seen("/pay/1")) == 1, "the upstream saw it once"
        got = [answer for answer in [*first, *answers] if answer is not None and answer.status == 201]
        assert len({answer.body for answer in got}) == 1 and first[0] in got
        refused = [told(answer) for answer in answers if answer is not None and answer.status != 201]
        assert not refused and len(got) >= CLIENTS * 2 // 3, "all at living nodes have the reply"

        # After the fail-over, and after a restart of all, it is still there.
        nodes.wait_writes(next(node for node in nodes.nodes if node is not victim))
        for node in nodes.living():
            again = ask(node, "POST", "/pay/1", b"ten", idempotency_key="once")
            assert (again.body, again.header("idempotent-replayed")) == (got[0].body, "true")
        for node in nodes.nodes:
            node.kill()
        for node in nodes.nodes:
            node.spawn()
        nodes.wait_serving()
        for node in nodes.nodes:
            again = ask(node, "POST", "/pay/1", b"ten", idempotency_key="once")
            assert (again.body, again.header("idempotent-replayed")) == (got[0].body, "true")
        assert len(upstream.seen("/pay/1")) == 1


def test_a_hundred_at_once_from_nothing_are_one() -> None:
    with Nodes(3) as nodes, Upstream(host=HERE, behave=Till()) as upstream:
        nodes.apply(config(upstream))
        for round_number in range(5):
            path, key = f"/pay/{round_number}", f"round {round_number}"
            threads, answers = swarm(nodes, path, key)
            for thread in threads:
                thread.join(PATIENCE_SECONDS * 2)
            assert {answer.status if answer else 0 for answer in answers} == {201}
            assert len({answer.body for answer in answers if answer}) == 1
            assert sum(answer.header("idempotent-replayed") is None for answer in answers if answer) == 1
            assert len(upstream.seen(path)) == 1


def test_a_node_that_dies_between_upstream_and_store_leaves_an_outcome_that_is_not_known() -> None:
    """The lease of an attempt ends 15 s after the route's `total`; until then a repeat is told that it is under way."""
    with Nodes(3) as nodes, Upstream(host=HERE, behave=(till := Till())) as upstream:
        nodes.apply(config(upstream))
        carrier, *others = nodes.nodes
        till.go_on.clear()
        early = threading.Thread(target=post, args=(carrier, "/brief/1", "lost"))
        early.start()
        assert till.came.wait(PATIENCE_SECONDS)
        carrier.kill()
        till.go_on.set()
        early.join(PATIENCE_SECONDS)
        seen: list[tuple[int, str | None]] = []

        def is_unknown() -> bool:
            seen.append(told(ask(others[len(seen) % 2], "POST", "/brief/1", b"ten", idempotency_key="lost")))
            return seen[-1] == (409, "unknown")

        until(is_unknown, lambda: f"it is unknown: {seen}")
        # While another leader was elected, the store may have been away.
        assert set(seen[:-1]) <= {(409, "under-way"), (503, "unavailable")} and (409, "under-way") in seen
        carrier.spawn()
        nodes.wait_serving()
        for node in nodes.nodes:
            assert told(ask(node, "POST", "/brief/1", b"ten", idempotency_key="lost")) == (409, "unknown")
        assert len(upstream.seen("/brief/1")) == 1


def test_without_a_majority_nothing_is_sent_and_the_key_stays_free() -> None:
    with Nodes(3) as nodes, Upstream(host=HERE, behave=Till()) as upstream:
        nodes.apply(config(upstream))
        alone, *others = nodes.nodes
        kept = ask(alone, "POST", "/pay/kept", b"ten", idempotency_key="kept")
        for node in others:
            node.kill()
        for n in range(3):
            answer = ask(alone, "POST", "/pay/new", b"ten", idempotency_key=f"new {n}")
            assert told(answer) == (503, "unavailable") and answer.header("retry-after") == "1"
        assert told(ask(alone, "POST", "/pay/kept", b"ten", idempotency_key="kept")) == (503, "unavailable")
        assert ask(alone, "POST", "/plain", b"ten").status == 201, "what has no key goes on"
        assert not upstream.seen("/pay/new") and len(upstream.seen("/pay/kept")) == 1
        for node in others:
            node.spawn()
        nodes.wait_serving()
        for n in range(3):

            def made(n: int = n) -> Answer | None:
                answer = ask(alone, "POST", "/pay/new", b"ten", idempotency_key=f"new {n}")
                return answer if answer.status == 201 else None

            until(made, "the key can be used")
        assert len(upstream.seen("/pay/new")) == 3
        assert ask(alone, "POST", "/pay/kept", b"ten", idempotency_key="kept").body == kept.body


def test_a_configuration_that_comes_before_a_request_is_sent_moves_it_along() -> None:
    """Routes, pools and limits have other numbers then, or are gone."""
    with Nodes(1) as nodes, Upstream(host=HERE, behave=(till := Till())) as upstream:
        (node,) = nodes.nodes
        before = '[gateway.limit.first]\n[gateway.pool.another]\nupstreams = ["127.0.0.1:1"]\n[gateway.route.another]\npath-prefix = "/another"\npool = "another"\n'
        limited = '[gateway.limit.of]\nrequests = 1000\n' + config(upstream).replace('path-prefix = "/pay"', 'path-prefix = "/pay"\nlimits = "of"')
        head = b"POST /pay/%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\nIdempotency-Key: moved %d\r\nContent-Length: 3\r\n\r\n"
        for number, then, status in ((1, limited, b"201"), (2, before + limited, b"201"), (3, before, b"503")):
            nodes.apply(before + limited if number == 1 else limited)
            with socket.create_connection((node.host, WEB_PORT), timeout=PATIENCE_SECONDS) as connection:
                connection.sendall(head % (number, number) + b"te")
                # The gateway reads from it when another request of the same kind has gone through.
                assert ask(node, "POST", f"/pay/between{number}", b"ten", idempotency_key=f"between {number}").status == 201
                nodes.apply(then)
                connection.sendall(b"n")
                got = b""
                while more := connection.recv(65536):
                    got += more
            assert got.startswith(b"HTTP/1.1 " + status), got
            assert len(upstream.seen(f"/pay/{number}")) == (1 if status == b"201" else 0)
        assert till.by == node.host
