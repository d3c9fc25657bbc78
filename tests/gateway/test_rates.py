"""Rates that all nodes share."""

from __future__ import annotations

import http.client
import threading
import time

from harness.cluster import until

from .scene import Gateway
from .several import HERE, WEB_PORT, Nodes, ask

ROUTES = """
[gateway.limit.shared]
requests = {rate}
burst = {burst}
by = "header:x-caller"

[gateway.route.limited]
path-prefix = "/limited"
answer.body = "passed"
limits = "shared"

[gateway.route.free]
answer.body = "passed"
"""


def test_three_nodes_together_keep_a_rate_to_five_percent() -> None:
    """Each node alone would let three times as much through, or a third if the rate were divided and one were idle."""
    rate, burst, seconds = 200, 20, 10.0
    with Nodes(3) as nodes:
        nodes.apply(ROUTES.format(rate=rate, burst=burst))
        # The load of the nodes: even, and all at one.
        for caller, clients in (("even", (2, 2, 2)), ("one", (4, 0, 0))):
            passed: list[float] = []
            statuses: set[int] = set()
            start = time.monotonic()

            def client(host: str, caller: str = caller, passed: list[float] = passed, start: float = start) -> None:
                connection = http.client.HTTPConnection(host, WEB_PORT, timeout=30)
                while time.monotonic() - start < seconds:
                    connection.request("GET", "/limited", headers={"x-caller": caller})
                    response = connection.getresponse()
                    response.read()
                    statuses.add(response.status)
                    if response.status == 200:
                        passed.append(time.monotonic() - start)

            threads = [
                threading.Thread(target=client, args=(node.host,))
                for node, count in zip(nodes.nodes, clients)
                for _ in range(count)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            # From the second second on: before it there is the burst, and gateways that ask for the first time.
            steady = sum(1 for at in passed if at >= 2.0)
            wanted = rate * (max(passed) - 2.0)
            assert statuses == {200, 429}, "more came than may pass"
            assert 0.95 * wanted - 1 <= steady <= 1.05 * wanted + 1, f"{caller}: {steady} passed of {wanted:.0f}"
            assert len(passed) <= (rate * max(passed) + burst) * 1.05
            print(f"{caller}: {steady} of {wanted:.0f}, {steady / wanted:.3f}")


def test_a_rate_that_is_used_up_at_one_node_is_used_up_at_all() -> None:
    with Nodes(3) as nodes:
        nodes.apply(ROUTES.format(rate=1, burst=5).replace("burst = 5", 'burst = 5\nper = "1h"'))
        one, two, three = nodes.nodes
        for left in (4, 3, 2, 1, 0):
            answer = ask((one, two)[left % 2], "GET", "/limited", x_caller="ann")
            assert answer.status == 200
            assert answer.header("ratelimit-policy") == '"shared";q=1;w=3600'
            assert (answer.header("ratelimit") or "").startswith(f'"shared";r={left};'), answer.headers
        refused = ask(three, "GET", "/limited", x_caller="ann")
        assert refused.status == 429 and int(refused.header("retry-after") or 0) > 3_000
        assert ask(three, "GET", "/limited", x_caller="bob").status == 200, "another caller has a rate of its own"
        # A node that dies, or all, give nobody a new burst.
        for node in nodes.nodes:
            node.kill()
        for node in nodes.nodes:
            node.spawn()
        nodes.wait_serving()
        assert [ask(node, "GET", "/limited", x_caller="ann").status for node in nodes.nodes] == [429] * 3


def test_without_a_majority_a_limit_does_not_open() -> None:
    with Nodes(3) as nodes:
        nodes.apply(ROUTES.format(rate=1000, burst=1000))
        alone, *others = nodes.nodes
        assert ask(alone, "GET", "/limited", x_caller="ann").status == 200
        for node in others:
            node.kill()
        answer = ask(alone, "GET", "/limited", x_caller="bob")
        assert answer.status == 503 and answer.header("retry-after") == "1"
        assert ask(alone, "GET", "/free").status == 200
        for node in others:
            node.spawn()
        nodes.wait_serving()
        until(lambda: ask(alone, "GET", "/limited", x_caller="bob").status == 200, "it is known again")


def test_below_a_rate_nobody_is_refused_and_little_is_asked_of_the_store() -> None:
    text = '[gateway.listener.web]\naddress = "{web}"\n' + ROUTES.format(rate=1000, burst=1000)
    with Gateway(text) as gateway:
        for caller in range(10):
            # All but the first come while the store is being asked for the first.
            statuses: list[int] = []

            def client(caller: int = caller, statuses: list[int] = statuses) -> None:
                statuses.append(gateway.ask("GET", "/limited", headers={"x-caller": f"many {caller}"}).status)

            threads = [threading.Thread(target=client) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert statuses == [200] * 20
        for _ in range(500):
            assert gateway.ask("GET", "/limited", headers={"x-caller": "ann"}).status == 200

        def questions() -> float:
            lines = [line for line in gateway.metrics().splitlines() if line.startswith("skep_gateway_rate_questions_total")]
            return float(lines[0].split()[-1]) if lines else 0

        until(lambda: questions() > 0, "they are counted")
        assert questions() < 350, "many of the 700 share a question"
