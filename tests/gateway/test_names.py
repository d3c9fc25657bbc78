"""Upstreams by name: every address is an upstream, for as long as the name server says."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .names import SERVER_FAILURE, NameServer
from .scene import Answer, Gateway, Request, Upstream, echo, until

CONFIG = """
[gateway]
dns.servers = "SERVER"
dns.ttl-min = "200ms"
DNS
[gateway.listener.web]
address = "{web}"

[gateway.route.all]
pool = "named"
POOLS
[gateway.pool.named]
upstreams = ["app.test:PORT"]
balance = "round-robin"
slow-start = "0s"
"""
NAME = "app.test"
PROBED = """
[gateway.pool.probed]
upstreams = ["app.test:PORT"]
health = { path = "/probe", interval = "200ms", timeout = "200ms" }
"""


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as server:
        yield server


@contextmanager
def hosts(*names: str) -> Iterator[list[Upstream]]:
    """Upstreams at addresses of the loopback network, all on one port, as containers are."""
    first = Upstream(names[0], host=names[0])
    others = []
    try:
        for host in names[1:]:
            other = Upstream(host, host=host)
            other.stop()
            other.port = first.port
            other.listen()
            others.append(other)
        yield [first, *others]
    finally:
        for upstream in [first, *others]:
            upstream.close()


def gateway(server: NameServer, port: int, dns: str = "", pools: str = "") -> Gateway:
    text = CONFIG.replace("SERVER", server.address).replace("PORT", str(port))
    return Gateway(text.replace("DNS", dns).replace("POOLS", pools.replace("PORT", str(port))))


def who(answer: Answer) -> str:
    assert answer.status == 200, answer
    return answer.json()["upstream"]


def asked(gateway: Gateway, times: int) -> Counter[str]:
    return Counter(who(gateway.ask("GET", "/")) for _ in range(times))


def metric(gateway: Gateway, name: str) -> float:
    """A figure, which is up to a second old; nothing was counted before the gateway's first."""
    found = (float(line.split()[-1]) for line in gateway.metrics().splitlines() if line.startswith(name + " "))
    return next(found, 0.0)


def test_every_address_of_a_name_is_an_upstream_of_the_pool(server: NameServer) -> None:
    with hosts("127.0.0.1", "127.0.0.2", "127.0.0.3") as upstreams:
        server.say(NAME, *(upstream.host for upstream in upstreams))
        with gateway(server, upstreams[0].port) as running:
            until(lambda: len(asked(running, 3)) == 3, "all three serve")
            assert asked(running, 30) == {upstream.name: 10 for upstream in upstreams}
            for upstream in upstreams:
                until(lambda: f'upstream="{upstream.address}"' in running.metrics(), "it is counted by its address")


def test_another_address_takes_effect_when_the_time_to_live_is_over_and_not_before(server: NameServer) -> None:
    with hosts("127.0.0.1", "127.0.0.2") as (old, new):
        server.say(NAME, old.host, ttl=3)
        with gateway(server, old.port) as running:
            assert who(running.ask("GET", "/")) == old.name
            last = server.times(NAME)[-1]
            server.say(NAME, new.host, ttl=3)
            while (got := who(running.ask("GET", "/"))) == old.name:
                assert time.monotonic() < last + 60, "the new address is never used"
                time.sleep(0.01)
            assert got == new.name
            first, second, *_ = server.times(NAME)
            assert second - first >= 3, "it was asked for again too early"
            assert set(asked(running, 20)) == {new.name}


def test_a_time_to_live_is_cut_to_its_bounds(server: NameServer) -> None:
    with hosts("127.0.0.1") as (upstream,):
        server.say(NAME, upstream.host, ttl=86_400)
        with gateway(server, upstream.port, 'dns.ttl-max = "500ms"') as running:
            assert who(running.ask("GET", "/")) == upstream.name
            until(lambda: len(server.times(NAME)) >= 3, "it is asked for by the shorter time")
            server.say(NAME, upstream.host, ttl=0)
            before = len(server.times(NAME))
            until(lambda: len(server.times(NAME)) >= before + 4, "it is asked for by the longer time")
            gaps = [b - a for a, b in zip(server.times(NAME), server.times(NAME)[1:])]
            assert min(gaps) >= 0.2, gaps


@pytest.mark.parametrize("how", ["gone", "empty", "failing", "silent"])
def test_a_name_that_is_found_no_longer_keeps_serving(server: NameServer, how: str) -> None:
    with hosts("127.0.0.1", "127.0.0.2", "127.0.0.3") as (one, two, three):
        server.say(NAME, one.host, two.host)
        with gateway(server, one.port) as running:
            until(lambda: len(asked(running, 2)) == 2, "both serve")
            if how == "gone":
                del server.zones[NAME]
            else:
                server.say(NAME, code=SERVER_FAILURE if how == "failing" else 0, silent=how == "silent")
            until(lambda: metric(running, "skep_gateway_names_lost") == 1, "the loss is told")
            assert set(asked(running, 20)) == {one.name, two.name}
            server.say(NAME, three.host)
            until(lambda: set(asked(running, 4)) == {three.name}, "it is found again")
            until(lambda: metric(running, "skep_gateway_names_lost") == 0, "that is told as well")
            assert metric(running, "skep_gateway_name_questions_failed_total") >= 1


def test_a_request_under_way_at_an_address_that_is_gone_ends_as_it_began(server: NameServer) -> None:
    with hosts("127.0.0.1", "127.0.0.2") as (old, new):
        began, may_end = threading.Event(), threading.Event()

        def slow(upstream: Upstream, request: Request, to: object) -> bool:
            if request.path == "/slow":
                began.set()
                may_end.wait(30)
            return echo(upstream, request, to)  # type: ignore[arg-type]

        old.behave = slow
        server.say(NAME, old.host)
        with gateway(server, old.port) as running:
            answers: list[Answer] = []
            client = threading.Thread(target=lambda: answers.append(running.ask("GET", "/slow")))
            client.start()
            assert began.wait(30)
            server.say(NAME, new.host)
            until(lambda: who(running.ask("GET", "/")) == new.name, "new requests go elsewhere")
            assert not answers
            may_end.set()
            client.join()
            assert who(answers[0]) == old.name


def test_what_is_known_of_an_address_that_stays_is_kept(server: NameServer) -> None:
    """One of two upstreams is ejected, for longer than the test; a third address comes, and it is still out."""
    eject = '\neject = { consecutive = 3, time = "5min", share-max = "100%" }\npanic = "0%"\nbreaker = false'
    with hosts("127.0.0.1", "127.0.0.2", "127.0.0.3") as (well, ill, third):
        ill.behave = lambda upstream, request, to: to.sendall(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n") is None
        server.say(NAME, well.host, ill.host)
        text = gateway(server, well.port)
        text.text += eject
        with text as running:

            def is_out() -> bool:
                running.ask("GET", "/")
                return metric(running, "skep_gateway_ejections_total") >= 1

            until(is_out, "the ill one is ejected")
            seen = len(ill.requests)
            server.say(NAME, well.host, ill.host, third.host)
            until(lambda: third.name in asked(running, 4), "the third serves")
            assert set(asked(running, 30)) == {well.name, third.name}
            assert len(ill.requests) == seen


def test_an_address_that_takes_no_connection_is_asked_for_again_at_once(server: NameServer) -> None:
    """A container that is started again has another address; nobody waits for the time to live of the old one."""
    with hosts("127.0.0.1", "127.0.0.2") as (old, new):
        server.say(NAME, old.host, ttl=3_600)
        with gateway(server, old.port, 'dns.ttl-max = "1h"') as running:
            assert who(running.ask("GET", "/")) == old.name
            old.stop()
            server.say(NAME, new.host, ttl=3_600)
            until(lambda: running.ask("GET", "/").status == 200, "the new address serves")
            assert set(asked(running, 5)) == {new.name}


def test_silent_name_servers_keep_nothing_from_starting_and_nobody_else_waiting(server: NameServer) -> None:
    with hosts("127.0.0.1") as (upstream,):
        server.say(NAME, silent=True)
        other = f"""
[gateway.route.other]
path-prefix = "/other"
pool = "other"

[gateway.pool.other]
upstreams = ["{upstream.address}"]
"""
        with gateway(server, upstream.port, pools=other) as running:
            assert who(running.ask("GET", "/other")) == upstream.name
            assert running.ask("GET", "/").status in (502, 503, 504)
            server.say(NAME, upstream.host)
            until(lambda: running.ask("GET", "/").status == 200, "the name is found in the end")


def test_names_of_the_hosts_file_come_first(server: NameServer) -> None:
    with hosts("127.0.0.1") as (upstream,):
        server.say("localhost", "127.0.0.99")
        text = CONFIG.replace(NAME, "localhost")
        text = text.replace("SERVER", server.address).replace("PORT", str(upstream.port))
        with Gateway(text.replace("DNS", "").replace("POOLS", "")) as running:
            assert who(running.ask("GET", "/")) == upstream.name
            assert server.times("localhost") == []


def test_only_addresses_of_the_chosen_family_are_used(server: NameServer) -> None:
    with hosts("127.0.0.1") as (upstream,):
        server.say(NAME, upstream.host, "fd00::1")
        with gateway(server, upstream.port, 'dns.family = "ipv4"') as running:
            assert set(asked(running, 5)) == {upstream.name}
            assert "fd00::1" not in running.metrics()
            assert all(kind == 1 for _, name, kind in server.asked if name == NAME)


def test_probes_name_an_address_by_what_it_is_known_by_since_the_configuration_has_changed(server: NameServer) -> None:
    with hosts("127.0.0.1") as (upstream,):
        server.say(NAME, upstream.host)
        with gateway(server, upstream.port, pools=PROBED) as running, running.connect() as store:
            text = running.file.read_text()

            def is_probed_as(host: str) -> None:
                upstream.requests.clear()
                until(lambda: any(r.header("host") == host for r in upstream.requests if r.path == "/probe"), f"it is called {host}")

            is_probed_as(f"{NAME}:{upstream.port}")
            by_address = text.replace(f"{NAME}:", f"{upstream.host}:")
            for version, (changed, host) in enumerate([(by_address, upstream.host), (text, NAME)], start=1):
                kind, told = store.call("SKEP", "GATEWAY", "SET", version, "by hand", changed[changed.index("[gateway") :])
                assert kind == ":", told
                is_probed_as(f"{host}:{upstream.port}")
